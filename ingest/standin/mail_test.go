package standin_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest/standin"
)

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.String()
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	esi := compact1()
	line := func(zkb string) string {
		return fmt.Sprintf(`{"killmail_id":134435757,"hash":"%s","hash_from":"x","esi":%s,"zkb":%s,"tier":"A"}`, hash1, esi, zkb) + "\n"
	}
	numbered := func(n int) string {
		return fmt.Sprintf(`{"killmail_id":134435757,"hash":"%s","esi":%s,"zkb":{"n":%d},"uploaded_at":1,"sequence_id":%d}`,
			hash1, esi, n, n)
	}
	everef := esi[:len(esi)-1] + `,"killmail_hash":"` + hash1 + `","http_last_modified":"2021-12-03T11:37:01Z"}`
	files := map[string]string{
		"hour.jsonl.gz": zipped(line("null") + line(zkb1)), "absent.jsonl": strings.Replace(line("null"), `,"zkb":null`, "", 1),
		"r2z2/10.json": numbered(10), "r2z2/9.json": numbered(9), "r2z2/sequence.json": `{"sequence":9}`,
		"everef.json": everef, "bare.json": string(mail1().ESI), "archive.tar.bz2": unpack(t, twoMails),
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	load := func(names ...string) []standin.Mail {
		t.Helper()
		for i := range names {
			names[i] = filepath.Join(dir, names[i])
		}
		mails, err := standin.Load(t.Context(), names...)
		if err != nil {
			t.Fatal(err)
		}
		return mails
	}
	mails := load("hour.jsonl.gz", "absent.jsonl", "everef.json")
	if len(mails) != 4 {
		t.Fatalf("%d killmails, want 4", len(mails))
	}
	for i, m := range mails {
		if string(m.ESI) != esi || m.Hash != hash1 || m.ID != 134435757 || !m.Time.Equal(epoch.Add(-time.Hour)) {
			t.Errorf("killmail %d: %+v", i, m)
		}
		if (string(m.ZKB) == zkb1) != (i == 1) || !json.Valid(m.ZKB) {
			t.Errorf("zkb %d: %s", i, m.ZKB)
		}
	}
	if m := load("bare.json")[0]; string(m.ESI) != esi || m.Hash == hash1 { // computed, and so another one
		t.Errorf("%+v", m)
	}
	if all := load("r2z2"); len(all) != 2 || string(all[0].ZKB) != `{"n":9}` || string(all[1].ZKB) != `{"n":10}` {
		t.Errorf("directory of R2Z2: %+v", all)
	}
	if all := load("archive.tar.bz2"); len(all) != 2 || all[1].ID != 12 || all[1].Hash != fmt.Sprintf("%040x", 12) ||
		strings.Contains(string(all[1].ESI), "hash") {
		t.Errorf("archive: %+v", all)
	}
	for name, text := range map[string]string{
		"no killmail": `{"a":1}`, "no JSON": `{"a":1`, "a list": `[1]`, "another id": strings.Replace(numbered(1), ":134435757", ":1", 1),
		"a bad hash": strings.Replace(numbered(1), hash1, hash1[1:], 1), "a bad zkb": strings.Replace(numbered(1), `{"n":1}`, `5`, 1),
		"no body": strings.Replace(numbered(1), esi, "null", 1), "no hash to compute": `{"killmail_id":1,` +
			`"killmail_time":"2000-01-01T00:00:00Z","solar_system_id":1,"victim":{},"attackers":[]}`,
	} {
		write(t, filepath.Join(dir, "bad.json"), text)
		if _, err := standin.Load(t.Context(), filepath.Join(dir, "bad.json")); err == nil || !strings.Contains(err.Error(), "bad.json") {
			t.Errorf("%s: error %v, want one that names the file", name, err)
		}
	}
	if _, err := standin.Load(t.Context(), filepath.Join(dir, "lost")); err == nil {
		t.Error("a file that is not there is no error")
	}
}

// What is made up of killmails is accepted by the parser of killmails, hash and all.
func TestMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(200)})
		again := open(t, standin.Config{Mails: recent(200), Seed: 5, FirstSequence: 1})
		for i := range int64(200) {
			text := s.want(200, file(first+i)).body
			k, err := killfeed.ParseItem([]byte(text))
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if h, err := killfeed.KillmailHash(k.JSON); err != nil || h != k.Hash {
				t.Errorf("hash %s, want %s, %v", k.Hash, h, err)
			}
			p := s.pack(first + i)
			var z struct {
				Hash          string
				TotalValue    float64
				AttackerCount int
				Labels        []string
				HREF          string
			}
			decode(t, string(p.ZKB), &z)
			if z.Hash != p.Hash || z.TotalValue <= 0 || z.AttackerCount != 2 || len(z.Labels) < 5 ||
				!slices.Contains(z.Labels, "#:2+") && !slices.Contains(z.Labels, "solo") ||
				z.HREF != fmt.Sprintf("https://esi.evetech.net/killmails/%d/%s/", p.KillmailID, p.Hash) {
				t.Errorf("zkb %s", p.ZKB)
			}
			if q := again.pack(1 + i); string(q.ZKB) != string(p.ZKB) {
				t.Errorf("zkb differs from run to run:\n%s\n%s", p.ZKB, q.ZKB)
			}
		}
	})
}

// FuzzAdd: whatever is added is refused, or served as valid JSON in all its forms.
func FuzzAdd(f *testing.F) {
	f.Add([]byte(compact1()), []byte(zkb1), hash1)
	f.Add([]byte(mail1().ESI), []byte(nil), "")
	f.Add([]byte(compact1()), []byte(`{"labels":null,"labels":[1],"\u0022":{}}`), "")
	f.Add([]byte(`{"killmail_id":1,"killmail_time":"2000-01-01T00:00:00Z","solar_system_id":1}`), []byte(`{}`), hash1)
	f.Fuzz(func(t *testing.T, esi, zkb []byte, hash string) {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, standin.Config{Pace: standin.Pace{Hold: true}})
			if s.Add(standin.Mail{ESI: esi, ZKB: zkb, Hash: hash}) != nil {
				return
			}
			c := s.dial("killstream", "all:*")
			s.mustPublish()
			if err := s.Reupload(first, `a"b`); err != nil {
				t.Fatal(err)
			}
			bodies := []string{s.want(200, file(first)).body, s.want(200, fmt.Sprintf("/object.php?objectID=%024x", first)).body}
			messages, err := s.receive(c)
			if err != nil || len(messages) == 0 {
				t.Fatalf("%q, %v", messages, err)
			}
			for _, body := range append(bodies, messages...) {
				if !json.Valid([]byte(body)) {
					t.Errorf("no JSON: %s", body)
				}
			}
			if labels := s.pack(first); !slices.Contains(labels.labels(t), `a"b`) {
				t.Errorf("labels of %s", labels.ZKB)
			}
		})
	})
}
