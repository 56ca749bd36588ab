package web_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"killfeed"
)

func zipped(t testing.TB, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func unzipped(t testing.TB, a *answer) []byte {
	t.Helper()
	if got := a.header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("%s: Content-Encoding %q, want gzip", a.what, got)
	}
	z, err := gzip.NewReader(bytes.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestCompressedAnswers: who accepts gzip gets it where it is worth it, and the same text.
func TestCompressedAnswers(t *testing.T) {
	s := newServer(t)
	for range 10 {
		s.insert(jita)
	}
	const target = "/api/killfeed?after=0&topics=all"
	plain := s.get(target).want(200)
	a := s.do("GET", target, "", "Accept-Encoding", "gzip, deflate, br, zstd").want(200)
	if text := unzipped(t, a); !bytes.Equal(text, plain.body) {
		t.Errorf("compressed: %s\nplain: %s", text, plain.body)
	}
	if len(a.body) > len(plain.body)/2 {
		t.Errorf("%d bytes became %d", len(plain.body), len(a.body))
	}
	for _, accept := range []string{"gzip", "identity", "gzip;q=0", "br"} {
		a := s.do("GET", target, "", "Accept-Encoding", accept).want(200)
		if got, want := a.header.Get("Content-Encoding") == "gzip", accept == "gzip"; got != want {
			t.Errorf("Accept-Encoding %s: compressed %v, want %v", accept, got, want)
		}
		if got := a.header.Values("Vary"); len(got) != 1 || got[0] != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %s: Vary %q, want Accept-Encoding once", accept, got)
		}
	}
	// Small answers and none are left alone.
	for _, small := range []string{"/livez", "/api/killfeed?after=10&topics=all", "/api/killfeed"} {
		if a := s.do("GET", small, "", "Accept-Encoding", "gzip"); a.header.Get("Content-Encoding") != "" || a.header.Get("Content-Length") == "" {
			t.Errorf("%s: headers %v, want a plain answer with a length", small, a.header)
		}
	}
	s.do("GET", "/api/killfeed/next?client_id=a&systems=30002053", "", "Accept-Encoding", "gzip").want(204)
	head := s.do("HEAD", target, "", "Accept-Encoding", "gzip").want(200)
	if len(head.body) != 0 {
		t.Errorf("HEAD has a body of %d bytes", len(head.body))
	}
}

// TestCompressedBodies: what is sent may be compressed, and is bounded when it is unpacked too.
func TestCompressedBodies(t *testing.T) {
	s := newServer(t)
	a := s.admin("POST", "/api/killmails", zipped(t, []byte(oneKillmail)), "Content-Encoding", "gzip")
	if a.want(201); string(a.body) != `{"results":[{"event_id":1}]}` {
		t.Errorf("got %s", a.body)
	}
	a = s.do("POST", "/api/killfeed", zipped(t, []byte(`{"client_id":"a","topics":["all"]}`)), "Content-Encoding", "GZIP")
	if p := a.poll(); len(p.Events) != 1 {
		t.Errorf("a poll with a compressed body has %d events", len(p.Events))
	}
	bomb := zipped(t, make([]byte, 2<<20))
	if p := s.do("POST", "/api/killfeed", bomb, "Content-Encoding", "gzip").problem(413); !strings.Contains(p.Detail, "at most 1 MiB") {
		t.Errorf("a bomb: detail %q, want the limit", p.Detail)
	}
	for _, bad := range []string{"", "{}", zipped(t, []byte("{}"))[:15]} {
		s.do("POST", "/api/killfeed", bad, "Content-Encoding", "gzip").problem(400)
	}
	p := s.do("POST", "/api/killfeed", "{}", "Content-Encoding", "br").problem(415)
	if p.Parameter != "Content-Encoding" || p.Value != "br" {
		t.Errorf("another encoding: %+v", p)
	}
}

func TestBodyLimits(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		method, target string
		length         int64
		detail         string
	}{
		{"POST", "/api/killfeed", 1<<20 + 1, "at most 1 MiB"},
		{"POST", "/api/killfeed/next", 1<<20 + 1, "at most 1 MiB"},
		{"POST", "/api/killfeed/commit", 1<<20 + 1, "at most 1 MiB"},
		{"POST", "/api/clients/a/seek", 1<<20 + 1, "at most 1 MiB"},
		{"POST", "/api/killmails", 64<<20 + 1, "at most 64 MiB"},
	} {
		r := s.request(c.method, c.target, "", "Authorization", "Bearer "+adminToken)
		r.ContentLength = c.length // said, and never read
		if p := s.send(r).problem(413); !strings.Contains(p.Detail, c.detail) {
			t.Errorf("%s: detail %q, want %q", c.target, p.Detail, c.detail)
		}
	}
	// The same when it is not said before.
	r := s.request("POST", "/api/killfeed", "{"+strings.Repeat(" ", 1<<20)+"}")
	r.ContentLength = -1
	s.send(r).problem(413)
	// Right at the limit it is read.
	s.do("POST", "/api/killfeed", `{"client_id":"a","topics":["all"]`+strings.Repeat(" ", 1<<20-34)+"}").want(200)
}

func TestItemLimits(t *testing.T) {
	s := newServer(t)
	large := `{"system_id":30000142,"killmail":{"a":"` + strings.Repeat("x", 8<<20) + `"}}`
	a := s.admin("POST", "/api/killmails", "["+oneKillmail+","+large+","+oneKillmail+"]").want(201)
	var got struct{ Results []result }
	a.into(&got)
	if len(got.Results) != 3 || got.Results[0].EventID != 1 || got.Results[2].EventID != 2 ||
		!strings.Contains(got.Results[1].Error, "at most 8 MiB") {
		t.Errorf("got %+v, want the one that is too large refused and the others taken", got.Results)
	}
	many := strings.Repeat("{}\n", 10_001)
	for _, body := range []string{many, "[" + strings.Repeat("{},", 10_000) + "{}]", strings.Repeat("x\n", 10_001)} {
		if p := s.admin("POST", "/api/killmails", body).problem(413); !strings.Contains(p.Detail, "at most 10000") {
			t.Errorf("too many: detail %q", p.Detail)
		}
	}
	if p := s.admin("POST", "/api/killmails", many[:len(many)-3]).problem(400); len(p.Results) != 10_000 {
		t.Errorf("as many as may be: %d results", len(p.Results))
	}
}

// What is no list is refused under the name that it was given by, and what a read does not know is ignored as a list too.
func TestListsInBody(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct{ member, param, value string }{
		{`"fields":["killmail_id","zkb.hash"]`, "fields", "killmail_id"},
		{`"filter":["isk>1b"]`, "filter", "isk>1b"},
		{`"limit":[5]`, "limit", "5"},
		{`"names":[]`, "names", ""},
		{`"systems":[{}]`, "systems", "{}"},
	} {
		for _, path := range []string{"/api/killfeed", "/api/killfeed/next"} {
			if c.param == "limit" && path != "/api/killfeed" {
				continue // it has none
			}
			p := s.do("POST", path, `{"client_id":"a","topics":["all"],`+c.member+`}`).problem(400)
			if p.Parameter != c.param || p.Value != c.value || strings.Contains(p.Detail, "[]") {
				t.Errorf("%s with %s: %+v", path, c.member, p)
			}
		}
	}
	s.do("POST", "/api/killfeed", `{"client_id":"a","topics":["all"],"colours":["red","green"]}`).want(200)
}

// slowBody fails as a connection does whose other end stopped sending.
type slowBody struct{}

func (slowBody) Read([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }
func (slowBody) Close() error             { return nil }

func TestBodyThatDoesNotArrive(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		body   io.ReadCloser
		status int
	}{{slowBody{}, 408}, {io.NopCloser(io.MultiReader(strings.NewReader(`{"client`), brokenReader{})), 400}} {
		r := s.request("POST", "/api/killfeed", "")
		r.Body = c.body
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		a := &answer{t: t, what: "POST", status: w.Code, header: w.Header(), body: w.Body.Bytes()}
		if p := a.problem(c.status); !strings.Contains(p.Detail, "body") {
			t.Errorf("detail %q", p.Detail)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestByteOrderMark: some shells put one before what they send.
func TestByteOrderMark(t *testing.T) {
	s := newServer(t)
	s.admin("POST", "/api/killmails", "\uFEFF"+oneKillmail).want(201)
	s.do("POST", "/api/killfeed", "\uFEFF"+`{"client_id":"a","topics":["all"]}`).want(200)
}

// TestRealKillmails: an hour of them in one compressed request, and all come back as they were.
func TestRealKillmails(t *testing.T) {
	packed, err := os.ReadFile("../../shared/data/killmails-small.jsonl.gz")
	if err != nil {
		t.Skipf("no real killmails here: %v", err)
	}
	s := newServer(t)
	a := s.admin("POST", "/api/killmails?backfill=1", string(packed), "Content-Encoding", "gzip").want(201)
	var got struct{ Results []result }
	a.into(&got)
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Count(bytes.TrimSpace(text), []byte("\n")) + 1
	if len(got.Results) != lines {
		t.Fatalf("%d results for %d lines", len(got.Results), lines)
	}
	for i, r := range got.Results {
		if r.Error != "" || r.EventID != killfeed.EventID(i+1) {
			t.Fatalf("line %d: %+v, want event %d", i+1, r, i+1)
		}
	}
	if a := s.admin("POST", "/api/killmails?backfill=1", string(text)).want(200); bytes.Contains(a.body, []byte("error")) {
		t.Errorf("a second time, plain: %s", a.body)
	}
	var drained int
	for {
		a := s.get("/api/killfeed/next?client_id=a&topics=all")
		if a.status == http.StatusNoContent {
			break
		}
		drained++
		if want := fmt.Sprintf(`{"event_id":%d,`, drained); !bytes.HasPrefix(a.want(200).body, []byte(want)) {
			t.Fatalf("got %.80s, want %s", a.body, want)
		}
	}
	if drained != lines {
		t.Errorf("%d events came back, want %d", drained, lines)
	}
}
