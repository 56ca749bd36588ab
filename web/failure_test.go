package web_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"killfeed"
	"killfeed/internal/ledgertest"
	"killfeed/storetest"
)

const oneKillmail = `{"system_id":30000142,"killmail":{"a":1}}`

// TestFullDisk: inserts are refused, with when to try again; reads go on; it passes by itself.
func TestFullDisk(t *testing.T) {
	ledgertest.Alone(t, "what one node's disk does decides nothing there")
	s := newServer(t)
	s.insert(jita)
	s.disk.Sicken(fmt.Errorf("/srv/secret/000042.log: %w", killfeed.ErrDiskFull))
	for _, a := range []*answer{
		s.admin("POST", "/api/killmails", oneKillmail),
		s.do("POST", "/api/killfeed/commit", `{"client_id":"a","offsets":{"all":1}}`),
		s.do("POST", "/api/clients/a/seek", `{"to":"latest","topics":["all"]}`),
	} {
		p := a.problem(507)
		if a.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "disk is full") || strings.Contains(p.Detail, "secret") {
			t.Errorf("%s: Retry-After %q, detail %q; want a time, the reason, and nothing private", a.what, a.header.Get("Retry-After"), p.Detail)
		}
	}
	if p := s.get("/api/killfeed?client_id=a&topics=all").poll(); len(p.Events) != 1 {
		t.Errorf("a poll has %d events, want 1", len(p.Events))
	}
	s.get("/api/killfeed/next?client_id=a&topics=all").want(204)
	ready := s.get("/readyz").want(200)
	if !strings.HasPrefix(string(ready.body), `{"status":"degraded","reason":"the disk is full: `) {
		t.Errorf("readyz says %s", ready.body)
	}
	if body := s.get("/api/status").want(200).body; !strings.Contains(string(body), `"health":{"status":"degraded"`) {
		t.Errorf("status says %s", body)
	}
	if body := s.get("/metrics").want(200).body; !strings.Contains(string(body), "\nkillfeed_log_writable 0\n") {
		t.Errorf("metrics do not say that the log cannot be written")
	}
	s.disk.Heal()
	s.admin("POST", "/api/killmails", oneKillmail).want(201)
	if body := s.get("/readyz").want(200).body; string(body) != `{"status":"ready"}` {
		t.Errorf("readyz says %s after the disk has space again", body)
	}
}

// TestFailedDisk: nothing is acknowledged any more, readiness fails and says why, reads go on.
func TestFailedDisk(t *testing.T) {
	ledgertest.Alone(t, "what one node's disk does decides nothing there")
	s := newServer(t)
	s.insert(jita)
	s.get("/api/killfeed?client_id=a&topics=all&limit=1").want(200)
	s.disk.Sicken(fmt.Errorf("fsync /srv/secret: input/output error: %w", killfeed.ErrFailed))
	for _, a := range []*answer{
		s.admin("POST", "/api/killmails", oneKillmail),
		s.do("POST", "/api/killfeed/commit", `{"client_id":"a","offsets":{"all":1}}`),
		s.get("/readyz"),
	} {
		p := a.problem(503)
		if !strings.Contains(p.Detail, "a write to the disk failed") || strings.Contains(string(a.body), "secret") {
			t.Errorf("%s: detail %q, want why and nothing private", a.what, p.Detail)
		}
		if a.header.Get("Retry-After") != "" {
			t.Errorf("%s: Retry-After %q of what does not pass", a.what, a.header.Get("Retry-After"))
		}
	}
	s.do("POST", "/api/clients/a/seek", `{"to":"earliest"}`).problem(503)
	if p := s.get("/api/killfeed?after=0&topics=all").poll(); len(p.Events) != 1 {
		t.Errorf("a poll has %d events, want 1", len(p.Events))
	}
	s.get("/livez").want(200)
	if !strings.Contains(s.log.String(), "input/output error") {
		t.Errorf("the cause was not logged: %s", s.log)
	}
}

// TestUnknownOutcome: a write that failed may be stored all the same, and the caller is told what that means.
func TestUnknownOutcome(t *testing.T) {
	ledgertest.Alone(t, "what one node's disk does decides nothing there")
	s := newServer(t)
	for _, fault := range []storetest.Fault{{}, {Stored: true}} {
		s.disk.FailCommits(fault)
		p := s.admin("POST", "/api/killmails", oneKillmail).problem(503)
		if !strings.Contains(p.Detail, "it is not known whether this request was stored") || strings.Contains(p.Detail, "injected") {
			t.Errorf("detail %q, want that the outcome is not known, and nothing private", p.Detail)
		}
	}
	if p := s.get("/api/killfeed?after=0&topics=all").poll(); len(p.Events) != 1 {
		t.Errorf("%d events, want the one whose write failed but was stored", len(p.Events))
	}
}

// brokenReads is a store whose reads fail in a way that nobody foresaw.
type brokenReads struct{ killfeed.Store }

func (brokenReads) Find([]killfeed.Entry, killfeed.Query) ([]killfeed.Entry, error) {
	return nil, errors.New("/srv/secret/000042.sst: checksum mismatch")
}

func TestInternalError(t *testing.T) {
	s := newServer(t)
	s.insert(jita)
	s.disk.Store = brokenReads{s.disk.Store}
	a := s.get("/api/killfeed?client_id=a&topics=all")
	if p := a.problem(500); !strings.HasPrefix(p.Detail, "internal error") || strings.Contains(string(a.body), "secret") {
		t.Errorf("got %s, want an internal error with nothing private", a.body)
	}
	if !strings.Contains(s.log.String(), "checksum mismatch") {
		t.Errorf("the cause was not logged: %s", s.log)
	}
}

func TestTooManyClients(t *testing.T) {
	s := newServer(t, func(o *serverOptions) { o.feed.MaxClients = 2 })
	s.get("/api/killfeed?client_id=a&topics=all").want(200)
	s.get("/api/killfeed?client_id=b&topics=all").want(200)
	for _, a := range []*answer{
		s.get("/api/killfeed?client_id=c&topics=all"),
		s.get("/api/killfeed/next?client_id=c&topics=all"),
		s.do("POST", "/api/killfeed/commit", `{"client_id":"c","offsets":{"all":0}}`),
		s.do("POST", "/api/clients/c/seek", `{"to":"latest"}`),
	} {
		if p := a.problem(429); !strings.Contains(p.Detail, "remembers as many clients as it may") {
			t.Errorf("%s: detail %q", a.what, p.Detail)
		}
	}
	s.get("/api/killfeed?client_id=a&topics=all").want(200)
	s.do("HEAD", "/api/killfeed?client_id=c&topics=all", "").want(200)
	s.get("/api/killfeed?after=0&topics=all").want(200)
}

// TestDamagedEvent is passed over, and told.
func TestDamagedEvent(t *testing.T) {
	s := newServer(t)
	s.insert(jita, jita, jita)
	s.model.Damage(1)
	s.model.Damage(2)
	a := s.get("/api/killfeed?client_id=a&systems=30000142")
	p := a.poll()
	if len(p.Events) != 1 || p.Gap == nil || *p.Gap != (killfeed.Gap{Reason: killfeed.GapDamaged, From: 1, To: 2}) {
		t.Errorf("events %v, gap %+v; want event 3 and a gap of 1 to 2", p.ids(), p.Gap)
	}
	if got := a.header.Get("Killfeed-Gap"); got != "1-2" {
		t.Errorf("Killfeed-Gap %q, want 1-2", got)
	}
	if p := s.get("/api/killfeed?start=2000-01-01T00:00:00Z&systems=30000142").poll(); p.Gap == nil || len(p.Events) != 1 {
		t.Errorf("from a time on: events %v, gap %+v; want event 3 and a gap", p.ids(), p.Gap)
	}
}

func TestClosedFeed(t *testing.T) {
	s := newServer(t)
	s.close()
	for _, a := range []*answer{
		s.admin("POST", "/api/killmails", oneKillmail),
		s.get("/api/killfeed?client_id=a&topics=all"),
	} {
		p := a.problem(503)
		if a.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "shutting down") {
			t.Errorf("%s: Retry-After %q, detail %q", a.what, a.header.Get("Retry-After"), p.Detail)
		}
	}
}
