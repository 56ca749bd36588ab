//go:build unix

package interop

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ownClients are this project's own: each is a program that tells what its client says, in the same lines.
var ownClients = []struct {
	name string
	// command returns how the program is started.
	command func(t *testing.T) []string
}{
	{"JavaScript", func(t *testing.T) []string { return []string{needNode(t), "js/killfeed.mjs"} }},
	{"Python", func(t *testing.T) []string { return []string{needNewPython(t), "-B", "py/killfeed_threads.py"} }},
	{"Python with asyncio", func(t *testing.T) []string { return []string{needNewPython(t), "-B", "py/killfeed_asyncio.py"} }},
	{"Go", func(t *testing.T) []string {
		bin, err := buildReader()
		if err != nil {
			t.Fatal(err)
		}
		return []string{bin}
	}},
}

var buildReader = sync.OnceValues(func() (string, error) { return build("killfeed/internal/interop/reader") })

// needNewPython returns the path of a Python that is new enough for the client.
func needNewPython(t *testing.T) string {
	t.Helper()
	python := need(t, "python3")
	if out, err := exec.Command(python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))").CombinedOutput(); err != nil {
		missing(t, "python3 is too old, or does not run: want 3.11 or newer: %v\n%s", err, out)
	}
	return python
}

// own is a program with one of this project's clients.
type own struct{ *process }

// ownLine is what it says.
type ownLine struct {
	On      string
	EventID uint64 `json:"event_id"`
	Cursor  string

	Reason   string
	From, To uint64

	Status                             int
	Detail, Parameter, Value, Accepted string

	IDs      []uint64
	First    json.RawMessage
	Head     uint64
	Epoch    string
	More     bool
	Next     string
	Gap      *ownGap
	Offsets  map[string]uint64
	ClientID string `json:"client_id"`
	Lag      int
}

type ownGap struct {
	Reason   string
	From, To uint64
}

// startOwn starts a program with a client of the server at base. Without options it makes calls.
func startOwn(t *testing.T, command []string, base string, options map[string]any) own {
	t.Helper()
	args := append(command[1:len(command):len(command)], base, "calls")
	if options != nil {
		text, err := json.Marshal(options)
		if err != nil {
			t.Fatal(err)
		}
		args = append(args[:len(args)-1], "stream", string(text))
	}
	return own{start(t, command[0], args...)}
}

// withOwnClients runs a test with each client, against a server of its own.
func withOwnClients(t *testing.T, test func(t *testing.T, s *server, start func(options map[string]any) own)) {
	t.Parallel()
	for _, c := range ownClients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			command := c.command(t)
			s := newServer(t)
			test(t, s, func(options map[string]any) own {
				t.Helper()
				return startOwn(t, command, "http://"+s.addr, options)
			})
		})
	}
}

// next takes the next line, past those that say that the server is away.
func (o own) next(t *testing.T) ownLine {
	t.Helper()
	const most = 20 // the server is never away for as many attempts
	var why []string
	for range most {
		var l ownLine
		if o.take(t, "", &l); l.On != "retry" {
			return l
		}
		why = append(why, l.Reason)
	}
	t.Fatalf("it only tries again: %q", why)
	return ownLine{}
}

// await takes the next line, which has to be this.
func (o own) await(t *testing.T, on string) ownLine {
	t.Helper()
	l := o.next(t)
	if l.On != on {
		t.Fatalf("next is %+v, want %s", l, on)
	}
	return l
}

// events takes the next lines, which have to be these events.
func (o own) events(t *testing.T, ids ...uint64) {
	t.Helper()
	for _, id := range ids {
		if l := o.await(t, "event"); l.EventID != id || !strings.HasPrefix(l.Cursor, fmt.Sprint(id, "-")) {
			t.Fatalf("next is %+v, want event %d", l, id)
		}
	}
}

// command tells it what to do.
func (o own) command(t *testing.T, name string) {
	t.Helper()
	o.do(t, map[string]any{"do": name})
}

// collect takes events until there are so many more.
func (o own) collect(t *testing.T, ids []uint64, more int) []uint64 {
	t.Helper()
	for range more {
		ids = append(ids, o.await(t, "event").EventID)
	}
	return ids
}

// rest takes events up to the last of the log in the systems, and compares them all with those.
func (o own) rest(t *testing.T, s *server, ids []uint64, systems ...uint32) {
	t.Helper()
	var want []uint64
	for _, e := range s.log(t) {
		if slices.Contains(systems, e.SystemID) {
			want = append(want, e.EventID)
		}
	}
	for len(ids) == 0 || ids[len(ids)-1] < want[len(want)-1] {
		ids = o.collect(t, ids, 1)
	}
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Errorf("events (-log +client):\n%s", diff)
	}
}

// Streams go on through a killed and a stopped server while killmails come, and give each event once, in order: without a client, and
// with one whose place the server keeps.
func TestClientStreams(t *testing.T) {
	withOwnClients(t, func(t *testing.T, s *server, start func(map[string]any) own) {
		systems := []uint32{jita, hek}
		s.insert(t, jita, perimet, hek)
		options := map[string]any{"systems": systems, "start": "earliest"}
		durable := map[string]any{"systems": systems[:1], "topics": []string{fmt.Sprint("system:", hek)}, "start": "earliest", "client_id": "a/b ü"}
		readers := []own{start(options), start(durable)}
		ids := make([][]uint64, len(readers))
		more := func() {
			t.Helper()
			for i, r := range readers {
				ids[i] = r.collect(t, ids[i], 50)
			}
		}
		stop := s.write(t, jita, perimet, hek)
		more()
		s.kill()
		s.start(t)
		more()
		s.stop(t)
		s.start(t)
		more()
		stop()
		s.insert(t, jita)
		for i, r := range readers {
			r.rest(t, s, ids[i], systems...)
		}

		// What the client has handled does not come again to its next stream, when this one is ended in good order.
		readers[1].command(t, "close")
		readers[1].await(t, "end")
		s.insert(t, hek, perimet)
		log := s.log(t)
		again := start(durable)
		again.events(t, log[len(log)-2].EventID)

		// What is handled is committed while nothing else comes, so that nothing is left out or comes again when it is killed then.
		s.insert(t, jita, jita)
		again.events(t, uint64(len(log)+1), uint64(len(log)+2))
		s.awaitCommit(t, "a%2Fb%20%C3%BC")
		again.cmd.Process.Kill()
		<-again.ended
		s.insert(t, jita)
		start(durable).events(t, uint64(len(log)+3))
	})
}

// awaitCommit waits until a client has committed all that there is for it.
func (s *server) awaitCommit(t *testing.T, client string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond) // another process has no better way to tell
	defer tick.Stop()
	limit := time.After(15 * time.Second) // a heartbeat would have it committed too, after 20
	for {
		var place struct{ Lag int }
		if s.get(t, "/api/clients/"+client, &place); place.Lag == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("the client is still %d behind", place.Lag)
		}
	}
}

// With manual commit what is not committed comes again, whoever comes back: the stream, or another one.
func TestClientStreamsManual(t *testing.T) {
	withOwnClients(t, func(t *testing.T, s *server, start func(map[string]any) own) {
		s.insert(t, jita, jita, jita)
		options := map[string]any{"topics": []string{"all"}, "start": "earliest", "client_id": "bot", "commit": "manual", "step": true}
		r := start(options)
		r.events(t, 1)
		r.command(t, "commit")
		r.await(t, "committed")
		r.events(t, 2)
		r.command(t, "go")
		r.events(t, 3)
		s.kill()
		s.start(t)
		r.command(t, "go")
		r.events(t, 2)
		r.command(t, "commit")
		r.await(t, "committed")
		r.events(t, 3)
		r.command(t, "leave")
		r.await(t, "end")
		var place struct{ Offsets map[string]uint64 }
		s.get(t, "/api/clients/bot", &place)
		if place.Offsets["all"] != 2 {
			t.Errorf("the client is at %v, want 2", place.Offsets)
		}
		r = start(options)
		r.events(t, 3)
		r.command(t, "commit")
		r.await(t, "committed")

		// The name is its newest connection's.
		second := start(options)
		r.await(t, "replaced")
		s.insert(t, jita)
		second.events(t, 4)
	})
}

// A loop that takes its time loses nothing: not what waits for it, and not what comes while the server is restarted.
func TestClientStreamsSlowly(t *testing.T) {
	withOwnClients(t, func(t *testing.T, s *server, start func(map[string]any) own) {
		const before, behind = 400, 50 // some 400 kB, more than what is on its way at a time
		many := make([]uint32, before)
		for i := range many {
			many[i] = jita
		}
		s.insert(t, many...)
		r := start(map[string]any{"topics": []string{"all"}, "start": "earliest", "client_id": "slow", "step": true})
		r.events(t, 1)
		s.kill()
		s.start(t)
		s.insert(t, many[:behind]...)
		for id := uint64(2); id <= before+behind; id++ {
			r.command(t, "go")
			r.events(t, id)
		}
		r.command(t, "leave")
		r.await(t, "end")
		var place struct{ Offsets map[string]uint64 }
		s.get(t, "/api/clients/slow", &place)
		if place.Offsets["all"] != before+behind-1 { // the loop was left at the last one
			t.Errorf("the client is at %v, want %d", place.Offsets, before+behind-1)
		}
	})
}

// Through a proxy an answer comes in chunks, over TLS here, and breaks off within one.
func TestClientStreamsThroughProxy(t *testing.T) {
	t.Parallel()
	for _, c := range ownClients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			command := c.command(t)
			s := newServer(t)
			proxy := httptest.NewUnstartedServer(http.StripPrefix("/feed", &httputil.ReverseProxy{
				Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: s.addr}) },
				ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
				ErrorLog:     log.New(io.Discard, "", 0), // of answers that break off
			}))
			proxy.Config.ErrorLog = log.New(io.Discard, "", 0)
			proxy.StartTLS()
			t.Cleanup(func() {
				proxy.CloseClientConnections()
				proxy.Close()
			})
			authority := filepath.Join(t.TempDir(), "authority.pem")
			text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw})
			if err := os.WriteFile(authority, text, 0o666); err != nil {
				t.Fatal(err)
			}
			command = append([]string{"env", "SSL_CERT_FILE=" + authority, "NODE_EXTRA_CA_CERTS=" + authority}, command...)
			r := startOwn(t, command, proxy.URL+"/feed/", map[string]any{"topics": []string{"all"}, "start": "earliest", "client_id": "bot"})
			stop := s.write(t, jita)
			ids := r.collect(t, nil, 50)
			s.kill()
			s.start(t)
			ids = r.collect(t, ids, 50)
			proxy.CloseClientConnections()
			ids = r.collect(t, ids, 50)
			stop()
			s.insert(t, jita)
			r.rest(t, s, ids, jita)
			r.command(t, "close")
			r.await(t, "end")
			var place struct{ Lag int }
			if s.get(t, "/api/clients/bot", &place); place.Lag != 0 {
				t.Errorf("the client is %d behind", place.Lag)
			}
		})
	}
}

// The client for JavaScript works in a page of another site.
func TestClientInBrowser(t *testing.T) {
	t.Parallel()
	node, chromium := needNode(t), need(t, "chromium", "chromium-browser", "google-chrome")
	s := newServer(t)
	s.insert(t, jita, thera)
	site := http.NewServeMux()
	site.Handle("/", http.FileServer(http.Dir("html")))
	site.Handle("/killfeed/", http.StripPrefix("/killfeed", http.FileServer(http.Dir("../../clients/typescript"))))
	page := httptest.NewServer(site)
	t.Cleanup(page.Close)
	o := own{start(t, node, "js/browser.js", chromium, page.URL+"/client.html?server=http://"+s.addr)}
	if p := o.await(t, "problem"); p.Status != http.StatusBadRequest || p.Parameter != "topics" || p.Value != "nothing" {
		t.Errorf("%+v, want a 400", p)
	}
	if poll := o.await(t, "poll"); !slices.Equal(poll.IDs, []uint64{1}) || poll.Head != 2 {
		t.Errorf("%+v, want event 1", poll)
	}
	o.events(t, 1, 2)
	s.kill()
	s.start(t)
	s.insert(t, jita)
	o.events(t, 3)
	s.stop(t)
	s.start(t)
	s.insert(t, jita)
	o.events(t, 4)
}

// What is lost is told: to retention, and with the log itself.
func TestClientStreamsTellGaps(t *testing.T) {
	withOwnClients(t, func(t *testing.T, s *server, start func(map[string]any) own) {
		s.insert(t, jita, jita, jita)
		all := []string{"all"}
		calls := start(nil)
		calls.do(t, map[string]any{"do": "commit", "client_id": "bot", "event_id": 1, "topics": all})
		calls.await(t, "commit")
		s.stop(t)
		s.flags = []string{"--max-bytes=1"}
		s.start(t)
		s.insert(t, jita)
		s.postEmpty(t, "/api/collect")
		readers := []own{
			start(map[string]any{"topics": all, "after": 1}),
			start(map[string]any{"topics": all, "client_id": "bot"}),
		}
		s.insert(t, jita)
		for _, r := range readers {
			gap := r.await(t, "gap")
			if gap.Reason != "retention" || gap.From != 2 || gap.To < 3 || gap.To > 4 {
				t.Errorf("%+v, want a gap of retention from 2 on", gap)
			}
			for id := gap.To + 1; id <= 5; id++ {
				r.events(t, id)
			}
		}

		// The stream of the client goes on with its place committed, or not; the log is another one either way.
		s.stop(t)
		s.data, s.flags = t.TempDir(), nil
		s.start(t)
		token, err := os.ReadFile(filepath.Join(s.data, "admin.token"))
		if err != nil {
			t.Fatal(err)
		}
		s.token = strings.TrimSpace(string(token))
		s.insert(t, jita, jita)
		for _, r := range readers {
			if gap := r.await(t, "gap"); gap.Reason != "epoch" {
				t.Errorf("%+v, want a gap of epoch", gap)
			}
			r.events(t, 1, 2)
		}
	})
}

// postEmpty makes a call that needs the token and no body.
func (s *server) postEmpty(t *testing.T, path string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s", path, res.Status)
	}
}

// Every way to read that is no stream.
func TestClientCalls(t *testing.T) {
	withOwnClients(t, func(t *testing.T, s *server, start func(map[string]any) own) {
		s.insert(t, jita, hek, jita)
		o := start(nil)
		call := func(name string, options map[string]any) ownLine {
			t.Helper()
			options["do"] = name
			o.do(t, options)
			l := o.next(t)
			if l.On != name && l.On != "problem" {
				t.Fatalf("%s %v says %+v", name, options, l)
			}
			return l
		}
		type m = map[string]any
		all := []string{"all"}

		page := call("poll", m{"topics": all, "after": 0, "limit": 2, "fields": []string{"killmail_id", "victim.ship_type_id"}})
		if !slices.Equal(page.IDs, []uint64{1, 2}) || page.Head != 3 || !page.More || page.Next != "2-"+page.Epoch || page.Gap != nil {
			t.Errorf("%+v, want events 1 and 2, and more", page)
		}
		var killmail map[string]json.RawMessage
		if err := json.Unmarshal(page.First, &killmail); err != nil || len(killmail) != 2 {
			t.Errorf("killmail %s, want two members", page.First)
		}
		if page = call("poll", m{"topics": all, "after": page.Next}); !slices.Equal(page.IDs, []uint64{3}) || page.More {
			t.Errorf("%+v, want event 3", page)
		}
		if page = call("poll", m{"topics": all, "after": "2-00000000", "limit": 1}); page.Gap == nil || *page.Gap != (ownGap{Reason: "epoch"}) {
			t.Errorf("%+v, want a gap of epoch", page)
		}
		systems := make([]uint32, 2000)
		for i := range systems {
			systems[i] = 30000001 + uint32(i)
		}
		if page = call("poll", m{"systems": systems, "client_id": "many"}); !slices.Equal(page.IDs, []uint64{1, 3}) {
			t.Errorf("%+v, want events 1 and 3", page)
		}
		if page = call("poll", m{"topics": all, "after": 0, "filter": "system_id=" + fmt.Sprint(hek)}); !slices.Equal(page.IDs, []uint64{2}) {
			t.Errorf("%+v, want event 2", page)
		}

		bot := m{"systems": []uint32{jita}, "client_id": "b/o t"}
		if next := call("next", bot); !slices.Equal(next.IDs, []uint64{1}) {
			t.Errorf("%+v, want event 1", next)
		}
		for range 2 {
			bot["commit"] = "manual"
			if next := call("next", bot); !slices.Equal(next.IDs, []uint64{3}) {
				t.Errorf("%+v, want event 3", next)
			}
		}
		topic := fmt.Sprint("system:", jita)
		done := call("commit", m{"client_id": "b/o t", "event_id": "3-" + page.Epoch, "systems": []uint32{jita}})
		if diff := cmp.Diff(map[string]uint64{topic: 3}, done.Offsets); diff != "" {
			t.Errorf("committed (-want +got):\n%s", diff)
		}
		if next := call("next", bot); len(next.IDs) != 0 || next.More {
			t.Errorf("%+v, want nothing", next)
		}
		bot["wait"] = 50
		bot["do"] = "next"
		o.do(t, bot)
		s.insert(t, hek, jita)
		if next := o.await(t, "next"); !slices.Equal(next.IDs, []uint64{5}) {
			t.Errorf("%+v, want event 5", next)
		}
		if place := call("seek", m{"client_id": "b/o t", "to": 3}); place.Offsets[topic] != 2 || place.Lag != 2 {
			t.Errorf("%+v, want 2", place)
		}
		if place := call("place", m{"client_id": "b/o t"}); place.Offsets[topic] != 2 || place.ClientID != "b/o t" {
			t.Errorf("%+v, want 2", place)
		}

		if p := call("place", m{"client_id": "nobody"}); p.Status != http.StatusNotFound || p.Detail == "" {
			t.Errorf("%+v, want a 404", p)
		}
		p := call("poll", m{"topics": all, "client_id": "me", "limit": 5000})
		want := ownLine{On: "problem", Status: 400, Detail: p.Detail, Parameter: "limit", Value: "5000", Accepted: p.Accepted}
		if diff := cmp.Diff(want, p); diff != "" || p.Accepted == "" || !strings.Contains(p.Detail, p.Accepted) {
			t.Errorf("problem (-want +got):\n%s", diff)
		}
	})
}

// A stream that cannot be had ends with what the server says of it.
func TestClientStreamsRefused(t *testing.T) {
	withOwnClients(t, func(t *testing.T, s *server, start func(map[string]any) own) {
		p := start(map[string]any{"topics": []string{"nothing"}}).await(t, "problem")
		if p.Status != http.StatusBadRequest || p.Parameter != "topics" || p.Value != "nothing" {
			t.Errorf("%+v, want a 400", p)
		}
	})
}

// The tests that the clients bring with them.
func TestClientsOwnTests(t *testing.T) {
	t.Parallel()
	run := func(t *testing.T, dir, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = filepath.Join("../../clients", dir), append(environment(), "PYTHONPATH=src")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	t.Run("JavaScript", func(t *testing.T) {
		t.Parallel()
		run(t, "typescript", needNode(t), "--test", "test/")
	})
	t.Run("TypeScript", func(t *testing.T) {
		t.Parallel()
		node, tsc := needNode(t), "../../clients/typescript/node_modules/typescript/bin/tsc"
		if _, err := os.Stat(tsc); err != nil {
			missing(t, "TypeScript is not installed: run npm ci in clients/typescript")
		}
		run(t, "typescript", node, "node_modules/typescript/bin/tsc", "-p", "test")
	})
	t.Run("Python", func(t *testing.T) {
		t.Parallel()
		run(t, "python", needNewPython(t), "-B", "-W", "error", "-m", "unittest", "discover", "-s", "tests")
	})
}
