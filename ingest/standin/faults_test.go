package standin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

func TestHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{
			Mails: madeUp(400, epoch.Add(-72*time.Hour), time.Second), Pace: standin.Pace{Rate: 10}, Seed: 3,
			Faults: standin.Faults{standin.Hole: {Chance: 0.1, Numbers: []int64{first + 5}}},
		})
		time.Sleep(time.Hour)
		holes := 0
		for i, f := range s.Files() {
			want := http.StatusOK
			if f.Hole {
				want = http.StatusNotFound
				holes++
			}
			s.want(want, file(first+int64(i)))
			s.want(http.StatusOK, fmt.Sprintf("/killmails/%d/%s/", f.KillmailID, f.Hash))
		}
		if !s.Files()[5].Hole || holes < 20 || holes > 65 {
			t.Errorf("%d holes of 400 at one in ten; number 5: %v", holes, s.Files()[5].Hole)
		}
		if n := s.Stats().Faults[standin.Hole]; n != int64(holes) {
			t.Errorf("%d holes are counted, want %d", n, holes)
		}
		s.wantBody(`{"19991229":400}`, "/history/totals.json") // history has no holes
	})
}

func TestLateFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{
			Mails: recent(5), Pace: standin.Pace{Rate: 1},
			Faults: standin.Faults{standin.Late: {Numbers: []int64{first + 1}, For: 2500 * time.Millisecond}},
		})
		time.Sleep(3499 * time.Millisecond) // number 1 is due at 1 s
		s.want(http.StatusNotFound, file(first+1))
		s.want(http.StatusOK, file(first+2))
		s.want(http.StatusOK, file(first+3))
		time.Sleep(time.Millisecond)
		if p := s.pack(first + 1); p.UploadedAt != epoch.Add(3500*time.Millisecond).Unix() || p.SequenceUpdated != 0 {
			t.Errorf("the late file: %+v", p)
		}
		time.Sleep(500 * time.Millisecond)
		if p := s.pack(first + 4); p.SequenceUpdated != first+1 {
			t.Errorf("the next file announces %d, want the late one", p.SequenceUpdated)
		}
	})
}

func TestReupload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mails := make([]standin.Mail, 8)
		for i := range mails {
			mails[i] = mail1()
		}
		s := open(t, standin.Config{
			Mails: mails, Pace: standin.Pace{Rate: 1},
			Faults: standin.Faults{
				standin.Reupload: {Numbers: []int64{first, first + 1, first + 3}, For: 1500 * time.Millisecond},
				standin.Hole:     {Numbers: []int64{first + 2, first + 3}},
			},
		})
		before := s.pack(first)
		old := s.want(http.StatusOK, file(first)).header.Get("Etag")
		time.Sleep(1499 * time.Millisecond)
		if p := s.pack(first); p.UploadedAt != before.UploadedAt {
			t.Errorf("written again too early: %+v", p)
		}
		time.Sleep(time.Millisecond)
		r := s.want(http.StatusOK, file(first), "If-None-Match", old)
		var after pack
		decode(t, r.body, &after)
		if after.UploadedAt != before.UploadedAt+1 || after.SequenceID != first || after.SequenceUpdated != 0 ||
			after.KillmailID != before.KillmailID || after.Hash != before.Hash || string(after.ESI) != string(before.ESI) {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if want := strings.Replace(zkb1, `"#:1"]`, `"#:1","ganked"]`, 1); string(after.ZKB) != want {
			t.Errorf("zkb\n got %s\nwant %s", after.ZKB, want)
		}
		time.Sleep(time.Hour)
		for i, want := range map[int64]int64{4: first, 5: first + 1, 6: 0, 7: 0} { // 2 and 3 are holes, which announce nothing
			if p := s.pack(first + i); p.SequenceUpdated != want {
				t.Errorf("number %d announces %d, want %d", i, p.SequenceUpdated, want)
			}
		}

		// On demand; labels add up; with two waiting they are announced one a file.
		for _, label := range []string{"ganked", "awox"} {
			if err := s.Reupload(first, label); err != nil {
				t.Fatal(err)
			}
		}
		p := s.pack(first)
		if got := p.labels(t); !slices.Equal(got, []string{"tz:usw", "#:1", "ganked", "awox"}) {
			t.Errorf("labels %q", got)
		}
		if err := s.Add(mails[:3]...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for i, want := range []int64{first, first, 0} {
			if p := s.pack(first + 8 + int64(i)); p.SequenceUpdated != want {
				t.Errorf("number %d announces %d, want %d", 8+i, p.SequenceUpdated, want)
			}
		}
		for _, number := range []int64{first - 1, first + 2, first + 11} {
			if s.Reupload(number, "x") == nil {
				t.Errorf("number %d, which has no file, is written again", number)
			}
		}
		if s.Reupload(first) == nil {
			t.Error("a file is written again for no reason")
		}
		// RedisQ and the websocket have the newest labels too.
		object := s.want(http.StatusOK, fmt.Sprintf("/object.php?objectID=%024x", first))
		if !strings.Contains(object.body, `"#:1","ganked","awox"]`) {
			t.Errorf("RedisQ has %s", object.body)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(3)})
		tests := []struct {
			fault  standin.Fault
			strike standin.Strike
			status int
			header string
		}{
			{standin.Forbidden, standin.Strike{}, 403, ""},
			{standin.TooMany, standin.Strike{}, 429, ""},
			{standin.TooMany, standin.Strike{RetryAfter: 7 * time.Second}, 429, "7"},
			{standin.ServerError, standin.Strike{Status: 521}, 521, ""},
			{standin.NotFound, standin.Strike{}, 404, ""},
			{standin.HTML, standin.Strike{}, 200, ""},
		}
		for _, test := range tests {
			// Just the next one.
			test.strike.Next = 1
			s.set(test.fault, test.strike)
			r := s.want(test.status, file(first))
			if r.header.Get("Retry-After") != test.header {
				t.Errorf("%s: Retry-After %q, want %q", test.fault, r.header.Get("Retry-After"), test.header)
			}
			if test.fault == standin.HTML && (!strings.HasPrefix(r.body, "<") || r.header.Get("Content-Type") != "text/html; charset=utf-8") {
				t.Errorf("HTML: %+v", r)
			}
			s.pack(first)

			// One number only.
			test.strike.Next, test.strike.Numbers = 0, []int64{first + 1}
			s.set(test.fault, test.strike)
			s.pack(first)
			s.want(test.status, file(first+1))
			s.want(test.status, file(first+1))

			// A storm of ten seconds over the whole service, as far as the fault goes.
			test.strike.For = 10 * time.Second
			s.set(test.fault, test.strike)
			s.pack(first)
			s.want(test.status, file(first+1))
			time.Sleep(9999 * time.Millisecond)
			s.want(test.status, file(first))
			s.want(test.status, "/ephemeral/sequence.json")
			s.want(http.StatusOK, fmt.Sprintf("/killmails/%d/%s", s.Files()[0].KillmailID, s.Files()[0].Hash))
			time.Sleep(time.Millisecond)
			s.pack(first)
			s.set(test.fault, standin.Strike{})
			s.want(http.StatusOK, file(first+1))
		}
		if n := s.Stats().Faults; n[standin.TooMany] != 2*(1+2+3) || n[standin.HTML] != 6 {
			t.Errorf("faults struck: %v", n)
		}

		// A storm keeps to its kinds.
		s.set(standin.Forbidden, standin.Strike{Next: 1, For: time.Minute, Kinds: []standin.Kind{standin.KindFile}})
		s.want(http.StatusOK, "/ephemeral/sequence.json")
		s.want(http.StatusForbidden, file(first))
		s.want(http.StatusOK, "/ephemeral/sequence.json")
		s.want(http.StatusForbidden, file(first+1))
		s.ClearFaults()

		seen := map[int]bool{}
		s.set(standin.ServerError, standin.Strike{Chance: 1})
		for range 100 {
			seen[s.get(file(first)).status] = true
		}
		if len(seen) != 4 || !seen[500] || !seen[502] || !seen[503] || !seen[504] {
			t.Errorf("server errors %v, want 500, 502, 503 and 504", seen)
		}
		s.ClearFaults()
		s.pack(first)
	})
}

func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(3), Faults: standin.Faults{standin.Hang: {Next: 2}}})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if r := s.try(ctx, http.MethodGet, file(first)); !errors.Is(r.err, context.DeadlineExceeded) {
			t.Errorf("%+v, want to hang until the client gives up", r)
		}
		synctest.Wait()
		begun := time.Now()
		if r := s.try(t.Context(), http.MethodGet, file(first)); r.err == nil || time.Since(begun) != time.Minute {
			t.Errorf("%+v after %v, want to hang for 1m", r, time.Since(begun))
		}
		s.set(standin.Hang, standin.Strike{Numbers: []int64{first}, For: time.Hour})
		again, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if r := s.try(again, http.MethodGet, file(first)); !errors.Is(r.err, context.DeadlineExceeded) {
			t.Errorf("%+v", r)
		}
		s.want(http.StatusOK, file(first+1)) // it hangs alone
		// A transport asks again by itself when a connection that it has used before breaks without an answer.
		s.client.CloseIdleConnections()
		go func() {
			time.Sleep(time.Second)
			s.Close()
		}()
		begun = time.Now()
		if r := s.try(t.Context(), http.MethodGet, file(first)); r.err == nil || time.Since(begun) != time.Second {
			t.Errorf("%+v after %v, want to hang until Close", r, time.Since(begun))
		}
		if n := s.Stats().Requests[standin.KindFile]; n[0] != 4 || n[200] != 1 || len(n) != 2 {
			t.Errorf("requests %v, want 4 without an answer", n)
		}
	})
}

func TestDamages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(3)})
		good := s.want(http.StatusOK, file(first)).body
		for _, packed := range []string{"", "gzip"} {
			next := standin.Strike{Next: 1}

			s.set(standin.InvalidJSON, next)
			s.want(http.StatusNotFound, file(first-1)) // there is nothing to spoil: it does not count
			if r := s.want(http.StatusOK, file(first)); json.Valid([]byte(r.body)) || len(r.body) != len(good)+1 {
				t.Errorf("invalid JSON: %s", r.body)
			}
			s.wantBody(good, file(first))

			s.set(standin.Truncated, next)
			if r := s.want(http.StatusOK, file(first)); json.Valid([]byte(r.body)) || !strings.HasPrefix(good, r.body) ||
				len(r.body) != len(good)*2/3 {
				t.Errorf("truncated: %s", r.body)
			}
			s.wantBody(good, file(first))

			s.set(standin.Cut, next)
			r := s.try(t.Context(), http.MethodGet, file(first), "Accept-Encoding", packed)
			if !errors.Is(r.err, io.ErrUnexpectedEOF) || r.status != 200 || len(r.body) == 0 {
				t.Errorf("cut: %+v", r)
			}
			s.wantBody(good, file(first))
		}

		// Every number has another's file, and the only one there is says it is another's.
		s.set(standin.WrongSequence, standin.Strike{Numbers: []int64{first, first + 1, first + 2}})
		for _, i := range []int64{0, 1, 2} {
			p := s.pack(first + i)
			if p.SequenceID == first+i || p.KillmailID == s.Files()[i].KillmailID {
				t.Errorf("number %d is answered with %d", i, p.SequenceID)
			}
		}
		lonely := open(t, standin.Config{Mails: recent(1), Faults: standin.Faults{standin.WrongSequence: {Chance: 1}}})
		if p := lonely.pack(first); p.SequenceID == first || p.KillmailID != lonely.Files()[0].KillmailID {
			t.Errorf("the only number: %+v", p)
		}
		if n := s.Stats().Faults; n[standin.InvalidJSON] != 2 || n[standin.Truncated] != 2 || n[standin.Cut] != 2 || n[standin.WrongSequence] != 3 {
			t.Errorf("faults struck: %v", n)
		}
	})
}

func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{
			Mails: madeUp(300, epoch.Add(-72*time.Hour), time.Second), Pace: standin.Pace{Rate: 1}, PointerLag: -1,
		})
		time.Sleep(200*time.Second + 500*time.Millisecond)
		if err := s.Reupload(first, "x"); err != nil {
			t.Fatal(err)
		}
		number, labelled := fmt.Sprintf(`{"sequence":%d}`, first+200), s.pack(first)
		s.wantBody(number, "/ephemeral/sequence.json")
		s.set(standin.Stale, standin.Strike{Chance: 1, For: 100 * time.Second})
		r := s.wantBody(fmt.Sprintf(`{"sequence":%d}`, first+100), "/ephemeral/sequence.json")
		if r.header.Get("Age") != "100" {
			t.Errorf("Age %q", r.header.Get("Age"))
		}
		s.want(http.StatusOK, file(first+100))
		s.want(http.StatusNotFound, file(first+101))
		if p := s.pack(first); slices.Contains(p.labels(t), "x") {
			t.Error("the stale file has the new labels")
		}
		s.wantBody(`{"19991229":101}`, "/history/totals.json")
		s.ClearFaults()
		s.wantBody(`{"19991229":201}`, "/history/totals.json")
		s.wantBody(number, "/ephemeral/sequence.json")
		if p := s.pack(first); !slices.Equal(p.labels(t), labelled.labels(t)) {
			t.Errorf("labels %q, want %q", p.labels(t), labelled.labels(t))
		}
	})
}

func TestSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(1), Faults: standin.Faults{standin.Skew: {Chance: 1, For: -time.Hour}}})
		if r := s.get(file(first)); r.header.Get("Date") != "Fri, 31 Dec 1999 23:00:00 GMT" {
			t.Errorf("Date %s", r.header.Get("Date"))
		}
		if p := s.pack(first); p.UploadedAt != epoch.Add(-time.Hour).Unix() {
			t.Errorf("uploaded at %d", p.UploadedAt)
		}
		s.set(standin.Skew, standin.Strike{Chance: 1})
		if r := s.get("/ephemeral/sequence.json"); r.header.Get("Date") != "Sat, 01 Jan 2000 00:05:00 GMT" {
			t.Errorf("Date %s", r.header.Get("Date"))
		}
	})
}
