package esi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest/esi"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/storetest"
)

// now is a time at which the pinned compatibility date is not in the future. The clock of a bubble begins at 2000.
var now = time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC)

// mails makes killmails up.
func mails(n int) []standin.Mail {
	maker := storetest.NewMaker(storetest.MakerOptions{Start: now.Add(-time.Hour), Every: time.Second, Attackers: 2, Bytes: 900, Bare: true})
	all := make([]standin.Mail, n)
	for i := range all {
		m := maker.NextMail()
		m.NoHash = true
		all[i] = standin.Mail{ID: m.ID, Hash: m.Hash(), ESI: m.AppendJSON(nil)}
	}
	return all
}

// open makes a stand-in and a Client of it, connected without sockets. It is for tests in a bubble.
func open(t *testing.T, s standin.Config, c esi.Config) (*standin.Server, *esi.Client) {
	t.Helper()
	server, bodies, _ := openBoth(t, s, c)
	return server, bodies
}

// openBoth is open that gives a second Client, which knows nothing of the first.
func openBoth(t *testing.T, s standin.Config, c esi.Config) (*standin.Server, *esi.Client, *esi.Client) {
	t.Helper()
	time.Sleep(time.Until(now))
	server, err := standin.New(s)
	if err != nil {
		t.Fatal(err)
	}
	pipe := standin.NewPipe()
	serving := &http.Server{Handler: server.Handler()}
	var ended sync.WaitGroup
	ended.Go(func() { serving.Serve(pipe) })
	client, err := upstream.New(upstream.Config{
		Version: "test", Contact: "test@example.com", Every: time.Millisecond, Header: esi.Header(),
		Transport: &http.Transport{DialContext: pipe.DialContext, DisableCompression: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
		serving.Close()
		ended.Wait()
		synctest.Wait()
	})
	c.URL = "http://esi.example"
	bodies, err := esi.New(client, c)
	if err != nil {
		t.Fatal(err)
	}
	another, err := esi.New(client, c)
	if err != nil {
		t.Fatal(err)
	}
	return server, bodies, another
}

// manners checks the stand-in's account of how it was asked.
func manners(t *testing.T, s *standin.Server) standin.Stats {
	t.Helper()
	st := s.Stats()
	if st.NoUserAgent+st.NoContact+st.BeforeRetryAfter != 0 {
		t.Errorf("%d requests without a name, %d without a contact, %d before Retry-After was over",
			st.NoUserAgent, st.NoContact, st.BeforeRetryAfter)
	}
	if st.ESI.NoCompatibilityDate != 0 {
		t.Errorf("%d requests without a compatibility date", st.ESI.NoCompatibilityDate)
	}
	if st.After403.Count > 0 && st.After403.Least < 30*time.Second {
		t.Errorf("asked again %v after a 403: want 30 s or more", st.After403.Least)
	}
	return st
}

// fillAll fetches all at once.
func fillAll(t *testing.T, c *esi.Client, all []standin.Mail) {
	t.Helper()
	var wg sync.WaitGroup
	for _, m := range all {
		wg.Go(func() {
			k, err := c.Fill(t.Context(), esi.Item{ID: m.ID, Hash: m.Hash, ZKB: []byte(`{"points":7,"labels":["pvp"]}`)})
			if err != nil {
				t.Errorf("killmail %d: %v", m.ID, err)
				return
			}
			want := string(m.ESI[:len(m.ESI)-1]) + fmt.Sprintf(`,"zkb":{"hash":"%s","points":7,"labels":["pvp"]}}`, m.Hash)
			other := string(m.ESI[:len(m.ESI)-1]) + fmt.Sprintf(`,"zkb":{"points":7,"labels":["pvp"],"hash":"%s"}}`, m.Hash)
			if got := string(k.JSON); k.ID != m.ID || k.Hash != m.Hash || got != want && got != other {
				t.Errorf("killmail %d became %s, want %s", m.ID, got, want)
			}
		})
	}
	wg.Wait()
}

func TestBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(2)
		s, c := open(t, standin.Config{Mails: all}, esi.Config{})
		if body, err := c.Body(t.Context(), all[0].ID, strings.ToUpper(all[0].Hash)); err != nil || string(body) != string(all[0].ESI) {
			t.Errorf("got %s, %v", body, err)
		}
		for _, test := range []struct {
			name, hash string
			id         int64
			status     int
		}{
			{"unknown id", all[0].Hash, 1, 404},
			{"hash of another", all[1].Hash, all[0].ID, 422},
		} {
			_, err := c.Body(t.Context(), test.id, test.hash)
			if e, ok := errors.AsType[*esi.RefusedError](err); !ok || e.Status != test.status || e.ID != test.id || e.Text == "" {
				t.Errorf("%s: got %v, want a RefusedError of %d", test.name, err, test.status)
			}
		}
		for _, bad := range []esi.Item{{ID: 0, Hash: all[0].Hash}, {ID: 1, Hash: "x"}, {ID: all[0].ID, Hash: all[0].Hash, ZKB: []byte(`[1]`)}} {
			if _, err := c.Fill(t.Context(), bad); !isInvalid(err) {
				t.Errorf("%+v: got %v, want an InvalidError", bad, err)
			}
		}
		st := manners(t, s)
		if got := st.Requests[standin.KindESI]; got[200] != 1 || got[404] != 1 || got[422] != 1 || len(got) != 3 {
			t.Errorf("requests %v: what is final is not asked again, and what cannot be is not asked at all", got)
		}
		gone, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		if _, err := c.Body(gone, all[0].ID, all[0].Hash); err == nil || err.Error() != "enough" {
			t.Errorf("got %v, want the cause of the context", err)
		}
	})
}

func isInvalid(err error) bool {
	_, ok := errors.AsType[*killfeed.InvalidError](err)
	return ok
}

// A bucket of 300 tokens a minute is good for 150 bodies a minute. 600 are fetched without ever asking for a token that is
// not there, in not much more than the time that it must take.
func TestTokens(t *testing.T) {
	for _, concurrency := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(concurrency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := mails(600)
				s, c := open(t, standin.Config{Mails: all, ESI: standin.ESIConfig{Tokens: 300, Window: time.Minute}},
					esi.Config{Concurrency: concurrency, Patience: time.Hour})
				begun := time.Now()
				fillAll(t, c, all)
				st := manners(t, s)
				if st.ESI.Overspent != 0 || st.ESI.Refused != 0 {
					t.Errorf("%d tokens overspent, %d requests refused", st.ESI.Overspent, st.ESI.Refused)
				}
				if took := time.Since(begun); took > 10*time.Minute {
					t.Errorf("it took %v and %d tokens at most", took, st.ESI.MostUsed)
				}
				if most := st.ConcurrentByService[standin.ServiceESI]; most > concurrency {
					t.Errorf("%d requests at a time, want at most %d", most, concurrency)
				}
			})
		})
	}
}

// Another program behind the same address takes most of the bucket. Its tokens are seen and not spent again.
func TestTokensOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(900)
		s, other, c := openBoth(t, standin.Config{Mails: all, ESI: standin.ESIConfig{Tokens: 1200, Window: 5 * time.Minute}},
			esi.Config{Patience: 2 * time.Hour})
		fillAll(t, other, all[:500])
		fillAll(t, c, all[500:])
		if st := manners(t, s); st.ESI.Overspent != 0 || st.ESI.Refused != 0 {
			t.Errorf("%d tokens overspent, %d requests refused", st.ESI.Overspent, st.ESI.Refused)
		}
	})
}

// After 100 errors in a minute the old limit refuses everybody. Final errors count too.
func TestErrorLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(5)
		s, c := open(t, standin.Config{Mails: all, ESI: standin.ESIConfig{Limit: standin.LimitErrors}}, esi.Config{Patience: time.Hour})
		var wg sync.WaitGroup
		for i := range 400 {
			wg.Go(func() {
				if _, err := c.Body(t.Context(), int64(i+1), all[0].Hash); err == nil {
					t.Error("a body of nothing")
				}
			})
		}
		wg.Wait()
		if st := manners(t, s); st.ESI.Refused != 0 || st.Requests[standin.KindESI][404] != 400 {
			t.Errorf("refused %d, requests %v", st.ESI.Refused, st.Requests[standin.KindESI])
		}
	})
}

func TestMisbehaviour(t *testing.T) {
	const often = 0.1
	faults := map[string]standin.Faults{
		"429 with Retry-After": {standin.TooMany: {Chance: often, RetryAfter: 7 * time.Second}},
		"429 without":          {standin.TooMany: {Chance: often}},
		"403":                  {standin.Forbidden: {Chance: 0.01}},
		"5xx":                  {standin.ServerError: {Chance: often}},
		"storm of 503":         {standin.ServerError: {Next: 1, Status: 503, For: 2 * time.Minute}},
		"HTML":                 {standin.HTML: {Chance: often}},
		"cut":                  {standin.Cut: {Chance: often}},
		"truncated":            {standin.Truncated: {Chance: often}},
		"invalid JSON":         {standin.InvalidJSON: {Chance: often}},
		"hang":                 {standin.Hang: {Chance: often}},
		"all": {
			standin.TooMany: {Chance: 0.02, RetryAfter: 3 * time.Second}, standin.ServerError: {Chance: 0.05},
			standin.HTML: {Chance: 0.05}, standin.Cut: {Chance: 0.05}, standin.Truncated: {Chance: 0.05},
			standin.InvalidJSON: {Chance: 0.05}, standin.Hang: {Chance: 0.02},
		},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := mails(150)
				concurrency := 4
				if f[standin.Forbidden].Chance > 0 {
					concurrency = 1 // or others are under way when a 403 comes
				}
				s, c := open(t, standin.Config{Mails: all, Faults: f}, esi.Config{Patience: 4 * time.Hour, Concurrency: concurrency})
				fillAll(t, c, all)
				if st := manners(t, s); len(st.Faults) == 0 {
					t.Error("no fault struck")
				}
			})
		})
	}
}

func TestUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(1)
		s, c := open(t, standin.Config{Mails: all, Faults: standin.Faults{standin.ServerError: {Chance: 1}}}, esi.Config{})
		begun := time.Now()
		_, err := c.Body(t.Context(), all[0].ID, all[0].Hash)
		if took := time.Since(begun); !errors.Is(err, esi.ErrUnavailable) || !errors.Is(err, upstream.ErrServer) || took != 5*time.Minute {
			t.Errorf("after %v: %v, want ErrUnavailable for a server error after 5 min", took, err)
		}
		if n := s.Stats().Requests[standin.KindESI]; n[500]+n[502]+n[503]+n[504] > 12 {
			t.Errorf("requests %v in 5 min: want fewer and fewer", n)
		}
	})
}

// Who is banned does not hammer.
func TestForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(1)
		s, c := open(t, standin.Config{Mails: all, Faults: standin.Faults{standin.Forbidden: {Chance: 1}}}, esi.Config{Patience: 2 * time.Hour})
		if _, err := c.Body(t.Context(), all[0].ID, all[0].Hash); !errors.Is(err, upstream.ErrForbidden) {
			t.Errorf("got %v", err)
		}
		if n := manners(t, s).Requests[standin.KindESI][403]; n < 10 || n > 20 {
			t.Errorf("%d requests in two hours", n)
		}
	})
}

// roundTripper answers in the process.
type roundTripper func(*http.Request) *http.Response

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// A body that is another killmail's is no body, and what hides behind the end of one is not read.
func TestWrongBody(t *testing.T) {
	all := mails(2)
	for name, body := range map[string]string{
		"another killmail": string(all[1].ESI),
		"no killmail":      `{"error":"sorry"}`,
		"an array":         `[]`,
		"two documents":    string(all[1].ESI) + `,"esi":` + string(all[0].ESI),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				client := clientOf(t, func(r *http.Request) *http.Response {
					asked++
					w := &recorder{header: http.Header{}}
					w.Write([]byte(body))
					return w.response(r)
				})
				c, err := esi.New(client, esi.Config{})
				if err != nil {
					t.Fatal(err)
				}
				want := esi.ErrWrongBody
				if !json.Valid([]byte(body)) {
					want = esi.ErrUnavailable
				}
				if _, err := c.Body(t.Context(), all[0].ID, all[0].Hash); !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
				if want == esi.ErrWrongBody && asked != 3 {
					t.Errorf("asked %d times, want 3", asked)
				}
			})
		})
	}
}

func TestReadItem(t *testing.T) {
	const h = "d2913bf8250db18456601a8ae061441e89ccadf3"
	tests := []struct {
		name, text string
		want       esi.Item
		err        string
	}{
		{"id and hash", `{"killmail_id":7,"hash":"` + h + `"}`, esi.Item{ID: 7, Hash: h}, ""},
		{"capitals", `{"killmail_id":7,"killmail_hash":"` + strings.ToUpper(h) + `"}`, esi.Item{ID: 7, Hash: h}, ""},
		{"RedisQ", `{"package":{"killID":7,"zkb":{"hash":"` + h + `","a": 1.0}}}`,
			esi.Item{ID: 7, Hash: h, ZKB: []byte(`{"hash":"` + h + `","a": 1.0}`)}, ""},
		{"what is in a package", `{"killID":7,"killmail":null,"zkb":{"hash":"` + h + `"}}`,
			esi.Item{ID: 7, Hash: h, ZKB: []byte(`{"hash":"` + h + `"}`)}, ""},
		{"littlekill", `{"action":"littlekill","killID":7,"hash":"` + h + `","url":"https:\/\/x","channel":"all:*"}`, esi.Item{ID: 7, Hash: h}, ""},
		{"zkb null", `{"killID":7,"hash":"` + h + `","zkb":null}`, esi.Item{ID: 7, Hash: h}, ""},
		{"both ids", `{"killID":7,"killmail_id":7,"hash":"` + h + `"}`, esi.Item{ID: 7, Hash: h}, ""},
		{"two ids", `{"killID":7,"killmail_id":8,"hash":"` + h + `"}`, esi.Item{}, "want the same"},
		{"two hashes", `{"killID":7,"hash":"` + h + `","zkb":{"hash":"` + strings.Replace(h, "d", "e", 1) + `"}}`, esi.Item{}, "two hashes"},
		{"no hash", `{"action":"littlekill","killID":7}`, esi.Item{}, esi.ErrNoHash.Error()},
		{"no id", `{"hash":"` + h + `"}`, esi.Item{}, "want an integer from 1"},
		{"id below 1", `{"killID":-7,"hash":"` + h + `"}`, esi.Item{}, "want an integer from 1"},
		{"bad hash", `{"killID":7,"hash":"` + h[1:] + `"}`, esi.Item{}, "40 hex digits"},
		{"null", `null`, esi.Item{}, "want an integer"},
		{"package null", `{"package":null}`, esi.Item{}, "want an integer"},
		{"no JSON", `<html>`, esi.Item{}, "reading"},
	}
	for _, test := range tests {
		got, err := esi.ReadItem([]byte(test.text))
		if got.ID != test.want.ID || got.Hash != test.want.Hash || string(got.ZKB) != string(test.want.ZKB) ||
			(err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %+v, %v; want %+v, %q", test.name, got, err, test.want, test.err)
		}
	}
}

// The captures: a package as it was until November 2025 and as it was afterwards become the same killmail.
func TestCaptures(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "wire")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Skipf("the captures are not here: %v", err)
		}
		return data
	}
	whole, err := killfeed.ParseItem(read("redisq_2024_with_killmail.json"))
	if err != nil {
		t.Fatal(err)
	}
	bare := read("redisq_after_2025-12_CONSTRUCTED.json")
	if _, err := killfeed.ParseItem(bare); !errors.Is(err, killfeed.ErrNeedsESI) {
		t.Fatalf("got %v, want ErrNeedsESI", err)
	}
	it, err := esi.ReadItem(bare)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Package struct{ Killmail json.RawMessage }
	}
	if err := json.Unmarshal(read("redisq_2024_with_killmail.json"), &doc); err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, func(r *http.Request) *http.Response {
		w := &recorder{header: http.Header{}}
		if r.URL.Path != "/killmails/119455394/d2913bf8250db18456601a8ae061441e89ccadf3/" {
			w.status = http.StatusNotFound
		}
		w.Write(doc.Package.Killmail)
		return w.response(r)
	})
	c, err := esi.New(client, esi.Config{})
	if err != nil {
		t.Fatal(err)
	}
	filled, err := c.Fill(t.Context(), it)
	if err != nil || string(filled.JSON) != string(whole.JSON) {
		t.Errorf("got %s, %v; want %s", filled.JSON, err, whole.JSON)
	}
	if _, err := esi.ReadItem(read("ws_littlekill.json")); err != nil {
		t.Errorf("littlekill: %v", err)
	}
}

func FuzzReadItem(f *testing.F) {
	f.Add([]byte(`{"package":{"killID":7,"zkb":{"hash":"d2913bf8250db18456601a8ae061441e89ccadf3"}}}`))
	f.Add([]byte(`{"killmail_id":7,"hash":"d2913bf8250db18456601a8ae061441e89ccadf3","zkb":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		it, err := esi.ReadItem(data)
		if err == nil && (it.ID < 1 || len(it.Hash) != 40 || it.ZKB != nil && !json.Valid(it.ZKB)) {
			t.Errorf("%q became %+v", data, it)
		}
	})
}

func TestNew(t *testing.T) {
	client := clientOf(t, nil)
	for _, bad := range []esi.Config{{URL: "esi.example"}, {URL: "ftp://x"}, {URL: "http://x?a=b"}, {Concurrency: -1}, {Concurrency: 65}} {
		if _, err := esi.New(client, bad); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
}
