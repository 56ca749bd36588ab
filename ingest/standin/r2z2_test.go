package standin_test

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

const (
	hash1 = "0123456789abcdef0123456789abcdef01234567"
	esi1  = `{"attackers":[{"damage_done":458,"final_blow":true,"security_status":-10.0,"ship_type_id":37456}],` +
		`"killmail_id":134435757,"killmail_time":"1999-12-31T23:00:00Z","solar_system_id":30000186,` +
		`"victim":{"character_id":2114529076,"damage_taken":458,"position":{"x":-4.0e12,"y":1,"z":\u0031},"ship_type_id":670}}`
	zkb1 = `{"locationID":50013452,"hash":"` + hash1 + `","fittedValue":10000,"totalValue":627868229.10,` +
		`"labels":["tz:usw","#:1"],"attackerCount":1}`
)

// mail1 is a killmail whose texts would not survive being encoded anew.
func mail1() standin.Mail {
	esi := bytes.Replace([]byte(esi1), []byte(`\u0031`), []byte(`1.50`), 1)
	spaced := bytes.ReplaceAll(esi, []byte(`,"`), []byte(",\n\t\""))
	return standin.Mail{Hash: hash1, ESI: spaced, ZKB: []byte(zkb1)}
}

func compact1() string {
	return string(bytes.Replace([]byte(esi1), []byte(`\u0031`), []byte(`1.50`), 1))
}

func TestFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: []standin.Mail{mail1()}, FirstSequence: 7})
		want := fmt.Sprintf(`{"killmail_id":134435757,"hash":"%s","esi":%s,"zkb":%s,"uploaded_at":946684800,"sequence_id":7}`,
			hash1, compact1(), zkb1)
		r := s.wantBody(want, file(7))
		tag := fmt.Sprintf(`"%x"`, md5.Sum([]byte(want)))
		for name, value := range map[string]string{
			"Content-Type": "application/json", "Etag": tag, "Cache-Control": "public, max-age=86400",
			"Last-Modified": "Sat, 01 Jan 2000 00:00:00 GMT", "Date": "Sat, 01 Jan 2000 00:00:00 GMT",
			"Content-Length": strconv.Itoa(len(want)), "Content-Encoding": "", "Access-Control-Allow-Origin": "",
		} {
			if got := r.header.Get(name); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}

		for _, known := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			if r := s.want(http.StatusNotModified, file(7), "If-None-Match", known); r.body != "" {
				t.Errorf("304 with the body %q", r.body)
			}
		}
		s.wantBody(want, file(7), "If-None-Match", `"x"`)

		packed := s.want(http.StatusOK, file(7), "Accept-Encoding", "br, gzip;q=0.5")
		if packed.header.Get("Content-Encoding") != "gzip" || packed.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("header of a packed answer: %v", packed.header)
		}
		z, err := gzip.NewReader(bytes.NewReader([]byte(packed.body)))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(z); string(body) != want || err != nil {
			t.Errorf("unpacked: %s, %v", body, err)
		}
		s.wantBody(want, file(7), "Accept-Encoding", "gzip;q=0")
		s.wantBody(want, file(7), "Accept-Encoding", "identity")

		if r := s.try(t.Context(), http.MethodHead, file(7)); r.status != 200 || r.body != "" || r.header.Get("Etag") != tag {
			t.Errorf("HEAD: %+v", r)
		}
		if r := s.try(t.Context(), http.MethodPost, file(7)); r.status != 405 || r.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST: %+v", r)
		}
		for _, path := range []string{file(6), file(8), file(1 << 40), "/ephemeral/7", "/ephemeral/-7.json", "/ephemeral/x.json",
			"/ephemeral/007x.json", "/", "/ephemeral/", "/history/2000010.json", "/history/19991301.json"} {
			s.want(http.StatusNotFound, path)
		}
		s.want(http.StatusForbidden, file(7), "User-Agent", "")
		s.want(http.StatusForbidden, "/ephemeral/sequence.json", "User-Agent", " ")
	})
}

func TestPublication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(250), Pace: standin.Pace{Rate: 10}})
		var last int64 = first - 1
		for i := range 250 {
			head := first + int64(i)
			if got := s.pack(head); got.SequenceID != head || got.UploadedAt != time.Now().Unix() {
				t.Fatalf("file %d says %d, uploaded at %d", head, got.SequenceID, got.UploadedAt)
			}
			s.want(http.StatusNotFound, file(head+1))
			var p map[string]int64
			decode(t, s.want(http.StatusOK, "/ephemeral/sequence.json").body, &p)
			at := p["sequence"]
			if len(p) != 1 || at > head || head-at > 51 || at < last || at != last && at != last+52 {
				t.Fatalf("pointer %v at head %d, before %d", p, head, last)
			}
			last = at
			time.Sleep(99 * time.Millisecond)
			if i < 249 {
				s.want(http.StatusNotFound, file(head+1)) // a moment too early
			}
			time.Sleep(time.Millisecond)
		}
		if last == first-1 {
			t.Error("the pointer never moved")
		}
		if st := s.Stats(); st.Published != 250 || st.Head != first+249 || st.Waiting != 0 {
			t.Errorf("published %d, head %d, waiting %d", st.Published, st.Head, st.Waiting)
		}
	})
}

func TestPaces(t *testing.T) {
	ago := epoch.Add(-50 * time.Hour)
	tests := []struct {
		name   string
		config standin.Config
		want   []time.Duration // when each of three is published, after the beginning; below 0 before it
	}{
		{"at once", standin.Config{Mails: madeUp(3, ago, time.Hour)}, []time.Duration{0, 0, 0}},
		{"rate", standin.Config{Mails: madeUp(3, ago, time.Hour), Pace: standin.Pace{Rate: 0.5}},
			[]time.Duration{0, 2 * time.Second, 4 * time.Second}},
		{"own times", standin.Config{Mails: madeUp(3, ago, time.Minute), Pace: standin.Pace{Speed: 1}},
			[]time.Duration{0, time.Minute, 2 * time.Minute}},
		{"own times scaled", standin.Config{Mails: madeUp(3, ago, time.Minute), Pace: standin.Pace{Speed: 30}},
			[]time.Duration{0, 2 * time.Second, 4 * time.Second}},
		{"own times, unsorted", standin.Config{
			Mails: append(madeUp(2, ago, time.Minute), madeUp(1, ago.Add(-time.Hour), 0)...), Pace: standin.Pace{Speed: 1}},
			[]time.Duration{0, time.Minute, time.Minute}},
		{"some before", standin.Config{Mails: madeUp(3, ago, time.Hour), Before: 2, Pace: standin.Pace{Rate: 1}},
			[]time.Duration{-50 * time.Hour, -49 * time.Hour, 0}},
		{"all before, none in the future", standin.Config{
			Mails: madeUp(3, epoch.Add(-time.Hour), time.Hour), Before: 9}, []time.Duration{-time.Hour, 0, 0}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, test.config)
				time.Sleep(test.want[2])
				files := s.Files()
				if len(files) != 3 {
					t.Fatalf("%d are published, want 3", len(files))
				}
				for i, want := range test.want {
					if got := files[i].Published.Sub(epoch); got != want {
						t.Errorf("number %d is published at %v, want %v", i, got, want)
					}
				}
			})
		})
	}
}

func TestPaceAtRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(20), Pace: standin.Pace{Hold: true}})
		published := func(want int) {
			t.Helper()
			if got := s.Stats().Published; got != want {
				t.Fatalf("%d are published, want %d", got, want)
			}
		}
		time.Sleep(time.Hour)
		published(0)
		if n := s.Publish(3); n != 3 {
			t.Errorf("Publish(3) gave %d", n)
		}
		published(3)
		if err := s.SetPace(standin.Pace{Rate: 1}); err != nil {
			t.Fatal(err)
		}
		published(4)
		time.Sleep(2 * time.Second)
		published(6)
		s.Publish(1) // beyond the pace, which goes on from it
		published(7)
		time.Sleep(999 * time.Millisecond)
		published(7)
		time.Sleep(time.Millisecond)
		published(8)
		if err := s.SetPace(standin.Pace{}); err != nil {
			t.Fatal(err)
		}
		published(20)
		if n := s.Publish(3); n != 0 {
			t.Errorf("Publish(3) gave %d with none left", n)
		}
		time.Sleep(time.Hour)
		if err := s.Add(recent(22)[20:]...); err != nil {
			t.Fatal(err)
		}
		published(22)
		if at := s.Files()[21].Published; !at.Equal(time.Now()) {
			t.Errorf("what was added now is published at %v", at)
		}
		if err := s.SetPace(standin.Pace{Rate: -1}); err == nil {
			t.Error("a rate of -1 is accepted")
		}
		if err := s.Add(standin.Mail{ESI: []byte(`{}`)}); err == nil {
			t.Error("a killmail without anything is accepted")
		}
	})
}

func TestMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		supply := recent(5)
		supply[4].Hash = "wrong"
		s := open(t, standin.Config{Pace: standin.Pace{Rate: 1}, More: func() (standin.Mail, bool) {
			m := supply[0]
			supply = supply[1:]
			return m, true
		}})
		if got := s.Stats().Published; got != 1 {
			t.Errorf("%d are published at the beginning, want 1", got)
		}
		if err := s.SetPace(standin.Pace{}); err == nil {
			t.Error("killmails without end are published all at once")
		}
		time.Sleep(time.Hour)
		if st := s.Stats(); st.Published != 4 || st.Error == "" {
			t.Errorf("%d are published, want 4; error %q", st.Published, st.Error)
		}
		if _, err := standin.New(standin.Config{More: func() (standin.Mail, bool) { return standin.Mail{}, false }}); err == nil {
			t.Error("a source of killmails without a pace is accepted")
		}
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: madeUp(48, epoch.Add(-47*time.Hour), time.Hour), Before: 48})
		for i := range int64(48) {
			// Number i is 47-i hours old.
			if want := map[bool]int{true: 200, false: 404}[i > 23]; s.get(file(first+i)).status != want {
				t.Errorf("the file of %d hours ago: want %d", 47-i, want)
			}
		}
		time.Sleep(23*time.Hour + 59*time.Minute + 59*time.Second)
		s.want(http.StatusOK, file(first+47))
		time.Sleep(time.Second)
		s.want(http.StatusNotFound, file(first+47))
	})
}

type member struct {
	name  string
	value json.RawMessage
}

// objectOf takes a JSON object apart and keeps the order.
func objectOf(t *testing.T, text string) (all []member) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.Token()
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		m := member{name: name.(string)}
		if err := d.Decode(&m.value); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func TestSameKillmailTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mails := madeUp(3, epoch.Add(-72*time.Hour), time.Second)
		s := open(t, standin.Config{Mails: append(mails, mails[1])})
		if a, b := s.pack(first+1), s.pack(first+3); a.KillmailID != b.KillmailID || a.SequenceID == b.SequenceID {
			t.Errorf("%+v and %+v", a, b)
		}
		s.wantBody(`{"19991229":3}`, "/history/totals.json")
	})
}

func TestConfig(t *testing.T) {
	for _, c := range []standin.Config{
		{FirstSequence: -1}, {Before: -1}, {Pace: standin.Pace{Rate: 1, Speed: 1}}, {Pace: standin.Pace{Speed: -1}},
		{Pace: standin.Pace{Hold: true, Rate: 1}}, {History: 9}, {R2Z2PerSecond: -1}, {ESI: standin.ESIConfig{Limit: 9}},
		{ESI: standin.ESIConfig{Tokens: -1}}, {ESI: standin.ESIConfig{Window: time.Second}},
		{Faults: standin.Faults{"x": {}}}, {Faults: standin.Faults{standin.Hole: {Chance: 1.1}}},
		{Mails: []standin.Mail{{ESI: []byte(`{`)}}}, {Mails: []standin.Mail{{ID: 1, ESI: mail1().ESI}}},
	} {
		if _, err := standin.New(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	s, err := standin.New(standin.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
}
