package standin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
	"killfeed/storetest"
)

const (
	agent = "standin-test/1 (test@example.com)"
	first = standin.DefaultFirstSequence
)

// epoch is when the clock of a bubble begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// madeUp makes killmails up, the first at start and each next one every later.
func madeUp(n int, start time.Time, every time.Duration) []standin.Mail {
	maker := storetest.NewMaker(storetest.MakerOptions{Start: start, Every: every, Attackers: 2, Bytes: 900, Bare: true})
	mails := make([]standin.Mail, n)
	for i := range mails {
		m := maker.NextMail()
		m.NoHash = true // hash and zkb are for the stand-in to add
		mails[i] = standin.Mail{ESI: m.AppendJSON(nil)}
	}
	return mails
}

// recent are killmails of the hour before the bubble's clock begins.
func recent(n int) []standin.Mail { return madeUp(n, epoch.Add(-time.Hour), time.Second) }

// site is a stand-in in a bubble, and a client of it that is connected without sockets.
type site struct {
	*standin.Server
	t      *testing.T
	pipe   *standin.Pipe
	client *http.Client
}

// open makes a site. It is for tests in a bubble, and is gone at their end.
func open(t *testing.T, c standin.Config) *site {
	t.Helper()
	s, err := standin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	pipe := standin.NewPipe()
	server := &http.Server{Handler: s.Handler()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(pipe)
	}()
	client := &http.Client{
		Transport:     &http.Transport{DialContext: pipe.DialContext, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		s.Close()
		server.Close()
		<-ended
		synctest.Wait()
	})
	return &site{s, t, pipe, client}
}

// response is what came; err is that of reading it.
type response struct {
	status int
	header http.Header
	body   string
	err    error
}

// try makes a request. Headers come in pairs; an empty value takes one away.
func (s *site) try(ctx context.Context, method, path string, header ...string) (r response) {
	q, err := http.NewRequestWithContext(ctx, method, "http://standin"+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	q.Header.Set("User-Agent", agent)
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	got, err := s.client.Do(q)
	if err != nil {
		return response{err: err}
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	return response{got.StatusCode, got.Header, string(body), err}
}

// get makes a request that must be answered.
func (s *site) get(path string, header ...string) response {
	s.t.Helper()
	r := s.try(s.t.Context(), http.MethodGet, path, header...)
	if r.err != nil {
		s.t.Fatalf("GET %s: %v", path, r.err)
	}
	return r
}

// want makes a request that must be answered with a status.
func (s *site) want(status int, path string, header ...string) response {
	s.t.Helper()
	r := s.get(path, header...)
	if r.status != status {
		s.t.Fatalf("GET %s: status %d, want %d; body %.200s", path, r.status, status, r.body)
	}
	return r
}

// wantBody makes a request that must be answered with 200 and this body.
func (s *site) wantBody(body, path string, header ...string) response {
	s.t.Helper()
	r := s.want(http.StatusOK, path, header...)
	if r.body != body {
		s.t.Fatalf("GET %s:\n got %s\nwant %s", path, r.body, body)
	}
	return r
}

// set switches a fault on.
func (s *site) set(fault standin.Fault, strike standin.Strike) {
	s.t.Helper()
	if err := s.SetFault(fault, strike); err != nil {
		s.t.Fatal(err)
	}
}

func file(number int64) string { return fmt.Sprintf("/ephemeral/%d.json", number) }

// pack is a file of R2Z2.
type pack struct {
	KillmailID      int64           `json:"killmail_id"`
	Hash            string          `json:"hash"`
	ESI             json.RawMessage `json:"esi"`
	ZKB             json.RawMessage `json:"zkb"`
	UploadedAt      int64           `json:"uploaded_at"`
	SequenceID      int64           `json:"sequence_id"`
	SequenceUpdated int64           `json:"sequence_updated"`
}

func (p *pack) labels(t *testing.T) (labels []string) {
	for _, m := range objectOf(t, string(p.ZKB)) {
		if m.name == "labels" { // as it is written: package json would take "LABELS" too
			decode(t, string(m.value), &labels)
		}
	}
	return labels
}

// pack gets the file of a number, which must be there.
func (s *site) pack(number int64) (p pack) {
	s.t.Helper()
	decode(s.t, s.want(http.StatusOK, file(number)).body, &p)
	return p
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
}
