package standin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed/ingest/standin"
)

// The tests in this file compare with captures of the real services.

// captured is the path of a file of the captures; without it the test is skipped.
func captured(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the real data is not here: %v", err)
	}
	return path
}

func capture(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(captured(t, filepath.Join("wire", name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// shape is what a JSON value looks like: its members in order and their types. A list has the shapes of its elements, each
// once.
func shape(t *testing.T, text string) string {
	t.Helper()
	text = strings.TrimSpace(text)
	switch text[0] {
	case '{':
		var out []string
		for _, m := range objectOf(t, text) {
			name := m.name
			if _, err := strconv.Atoi(name); err == nil {
				name = "id"
			}
			s := name + ":" + shape(t, string(m.value))
			if name != "id" || len(out) == 0 || out[len(out)-1] != s {
				out = append(out, s)
			}
		}
		return "{" + strings.Join(out, " ") + "}"
	case '[':
		var all []json.RawMessage
		decode(t, text, &all)
		var out []string
		seen := map[string]bool{}
		for _, value := range all {
			if s := shape(t, string(value)); !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
		return "[" + strings.Join(out, " ") + "]"
	case '"':
		return "text"
	case 't', 'f':
		return "bool"
	case 'n':
		return "null"
	}
	return "number"
}

func sameShape(t *testing.T, what, got, want string) {
	t.Helper()
	if diff := cmp.Diff(shape(t, want), shape(t, got)); diff != "" {
		t.Errorf("%s (-captured +served):\n%s", what, diff)
	}
}

// Genuine files of R2Z2 are served to the byte, but for number and time.
func TestWireFiles(t *testing.T) {
	mails, err := standin.Load(t.Context(), captured(t, "wire/r2z2_ephemeral_50.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(capture(t, "r2z2_ephemeral_50.jsonl")), "\n")
	if len(mails) != len(lines) {
		t.Fatalf("%d killmails of %d lines", len(mails), len(lines))
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: mails, PointerLag: -1})
		for i, line := range lines {
			head, _, _ := strings.Cut(line, `"uploaded_at"`)
			s.wantBody(fmt.Sprintf(`%s"uploaded_at":%d,"sequence_id":%d}`, head, epoch.Unix(), first+i), file(first+int64(i)))
		}
		sameShape(t, "sequence.json", s.get("/ephemeral/sequence.json").body, capture(t, "r2z2_sequence.json"))
	})
}

func TestWireSingleFiles(t *testing.T) {
	for _, name := range []string{"r2z2_ephemeral_awox_genuine.json", "r2z2_ephemeral_pod_genuine.json", "r2z2_ephemeral_npc.json",
		"r2z2_ephemeral_largest.json", "r2z2_ephemeral_2026-06_shape_CONSTRUCTED.json"} {
		mails, err := standin.Load(t.Context(), captured(t, "wire/"+name))
		if err != nil {
			t.Fatal(err)
		}
		want := capture(t, name)
		updated := strings.Contains(want, "sequence_updated")
		synctest.Test(t, func(t *testing.T) {
			s := open(t, standin.Config{Mails: append(mails, mails...), Pace: standin.Pace{Hold: true}})
			s.mustPublish()
			number := int64(first)
			if updated {
				if err := s.Reupload(first, "x"); err != nil {
					t.Fatal(err)
				}
				s.mustPublish()
				number++
			}
			sameShape(t, name, s.get(file(number)).body, want)

			if updated { // the shape that is made up
				bare := mails[0]
				bare.ZKB = nil
				if err := s.Add(bare); err != nil {
					t.Fatal(err)
				}
				s.mustPublish()
				var p, q pack
				decode(t, s.get(file(number+1)).body, &p)
				decode(t, want, &q)
				sameShape(t, "made-up zkb", string(p.ZKB), string(q.ZKB))
			}
		})
	}
}

// mailOf makes a killmail of an ESI body and a zkb.
func mailOf(t *testing.T, esi, zkb json.RawMessage) standin.Mail {
	t.Helper()
	var z struct{ Hash string }
	decode(t, string(zkb), &z)
	return standin.Mail{Hash: z.Hash, ESI: esi, ZKB: zkb}
}

func TestWireRedisQ(t *testing.T) {
	for _, name := range []string{"redisq_2018_with_killmail.json", "redisq_2024_with_killmail.json", "redisq_after_2025-12_CONSTRUCTED.json"} {
		want := capture(t, name)
		whole := want
		if strings.Contains(name, "after") {
			whole = capture(t, "redisq_2024_with_killmail.json")
		}
		var p struct {
			Package struct{ Killmail, ZKB json.RawMessage }
		}
		decode(t, whole, &p)
		synctest.Test(t, func(t *testing.T) {
			s := open(t, standin.Config{
				Mails: []standin.Mail{mailOf(t, p.Package.Killmail, p.Package.ZKB)}, Pace: standin.Pace{Hold: true},
				RedisQ: standin.RedisQConfig{NoKillmail: whole != want},
			})
			s.wantBody(strings.TrimSpace(capture(t, "redisq_null.json")), "/listen.php?queueID=x&ttw=1")
			s.mustPublish()
			var plain bytes.Buffer
			if err := json.Compact(&plain, []byte(want)); err != nil {
				t.Fatal(err)
			}
			s.wantBody(plain.String(), "/listen.php?queueID=x&ttw=1")
		})
	}
}

func TestWireSocket(t *testing.T) {
	for _, name := range []string{"ws_killstream_2022.json", "ws_killstream_2023.json"} {
		want := capture(t, name)
		var zkb json.RawMessage
		var rest []string
		for _, m := range objectOf(t, want) {
			if m.name == "zkb" {
				zkb = m.value
			} else {
				rest = append(rest, fmt.Sprintf("%q:%s", m.name, m.value))
			}
		}
		m := mailOf(t, json.RawMessage("{"+strings.Join(rest, ",")+"}"), zkb)
		synctest.Test(t, func(t *testing.T) {
			s := open(t, standin.Config{Mails: []standin.Mail{m}, Pace: standin.Pace{Hold: true}})
			c := s.dial()
			if err := c.Write(t.Context(), 1, []byte(capture(t, "ws_subscribe.json"))); err != nil {
				t.Fatal(err)
			}
			s.tell(c, "sub", "all:*")
			s.mustPublish()
			got, err := s.receive(c)
			if err != nil || len(got) != 2 {
				t.Fatalf("%q, %v", got, err)
			}
			var a, b any
			decode(t, got[0], &a)
			decode(t, want, &b)
			if diff := cmp.Diff(b, a); diff != "" {
				t.Errorf("%s (-captured +served):\n%s", name, diff)
			}
			sameShape(t, name, got[0], want)
			members := map[string]json.RawMessage{}
			decode(t, got[1], &members)
			for _, m := range objectOf(t, capture(t, "ws_littlekill.json")) {
				if _, ok := members[m.name]; !ok && m.name != "hash" { // taken out in 2025
					t.Errorf("littlekill has no %s: %s", m.name, got[1])
				}
			}
		})
	}
}

func TestWireESI(t *testing.T) {
	for _, name := range []string{"esi_raw_132377263.json", "esi_swagger_example_56733821.json", "esi_killmail_simple_2025-09.json",
		"esi_killmail_with_items_2025-09.json", "odd_km_108794056_no_final_blow_982_attackers.json",
		"odd_km_107220741_structure_581_attackers.json"} {
		var plain bytes.Buffer
		if err := json.Compact(&plain, []byte(capture(t, name))); err != nil {
			t.Fatal(err)
		}
		var b struct {
			ID int64 `json:"killmail_id"`
		}
		decode(t, plain.String(), &b)
		synctest.Test(t, func(t *testing.T) {
			s := open(t, standin.Config{Mails: []standin.Mail{{ESI: plain.Bytes(), Hash: hash1}}})
			s.wantBody(plain.String(), fmt.Sprintf("/latest/killmails/%d/%s/", b.ID, hash1))
		})
	}
}

// The busiest hour: everything that one would get of it by each way is there, once.
func TestRealHour(t *testing.T) {
	mails, err := standin.Load(t.Context(), captured(t, "killmails-hour.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if len(mails) != 1226 {
		t.Fatalf("%d killmails, want 1226", len(mails))
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2021, 11, 29, 0, 0, 0, 0, time.UTC)))
		s := open(t, standin.Config{Mails: mails, Pace: standin.Pace{Speed: 60}})
		time.Sleep(time.Minute)
		if n := s.Stats().Published; n != 1226 {
			t.Fatalf("%d are published within a minute, at 60 times the pace of an hour", n)
		}
		history := s.get("/history/20211127.json").body
		sameShape(t, "history", history, capture(t, "history_20211203_CONSTRUCTED.json"))
		var hashes map[string]string
		decode(t, history, &hashes)
		for i, m := range mails {
			p := s.pack(first + int64(i))
			if p.KillmailID != m.ID || string(p.ESI) != string(m.ESI) || hashes[strconv.FormatInt(m.ID, 10)] != m.Hash {
				t.Errorf("number %d: %d, want %d", i, p.KillmailID, m.ID)
			}
		}
		s.wantBody(`{"20211127":1226}`, "/history/totals.json")
	})
}

func TestRealArchive(t *testing.T) {
	if testing.Short() {
		t.Skip("it unpacks a whole day")
	}
	dir := filepath.Dir(captured(t, "killmails-2021-11-30.tar.bz2"))
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{ArchiveDir: dir})
		s.wantBody(`{"2021-11-30":11721}`, "/killmails/totals.json")
		if r := s.want(http.StatusOK, "/killmails/2021/killmails-2021-11-30.tar.bz2"); len(r.body) != 2005428 {
			t.Errorf("%d bytes", len(r.body))
		}
	})
}
