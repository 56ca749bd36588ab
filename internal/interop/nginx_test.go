//go:build unix

package interop

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// nginxConfig is what somebody writes who puts nginx in front of killfeed without having read how: proxy_pass and nothing
// else. Responses are buffered, and asked for in HTTP/1.0; upgrades to WebSocket are not passed on. The rest is so that it
// keeps to its directory.
const nginxConfig = `
daemon off;
pid nginx.pid;
error_log stderr;
%s
events {}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  types { text/html html; }
  server {
    listen %s;
    location / { root html; }
    location /api/ { proxy_pass http://%[3]s; }
    location /socket/ { proxy_pass http://%[3]s; }
  }
}
`

// nginxSilence is how long nginx lets a response be silent before it ends it.
const nginxSilence = time.Minute

// nginx is one in front of a server. It can be stopped, and started at the same address.
type nginx struct {
	bin, dir, addr string
	process        *process
}

func newNginx(t *testing.T, s *server) *nginx {
	t.Helper()
	n := &nginx{bin: need(t, "nginx", "/usr/sbin/nginx"), dir: t.TempDir(), addr: freeAddr(t)}
	page, err := os.ReadFile("html/stream.html")
	if err != nil {
		t.Fatal(err)
	}
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // its own would not be let into the directory
	}
	for name, text := range map[string]string{
		"nginx.conf": fmt.Sprintf(nginxConfig, user, n.addr, s.addr), "html/stream.html": string(page),
	} {
		path := filepath.Join(n.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	n.start(t)
	return n
}

// freeAddr is an address where nobody listens: nginx cannot say which one it took.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (n *nginx) start(t *testing.T) {
	t.Helper()
	n.process = start(t, n.bin, "-e", "stderr", "-p", n.dir, "-c", "nginx.conf")
	tick := time.NewTicker(5 * time.Millisecond) // another process has no better way to tell
	defer tick.Stop()
	limit := time.After(patience)
	for {
		if conn, err := net.Dial("tcp", n.addr); err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
		case <-n.process.ended:
			t.Fatalf("nginx has ended: %v\n%s", n.process.err, n.process.said())
		case <-limit:
			t.Fatalf("nginx does not listen\n%s", n.process.said())
		}
	}
}

// stop cuts all connections.
func (n *nginx) stop(t *testing.T) {
	t.Helper()
	n.process.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.process.ended:
	case <-time.After(patience):
		t.Fatalf("nginx does not stop\n%s", n.process.said())
	}
}

// A page in a browser follows the feed through nginx: events arrive when they happen, and what stops on the way, nginx or the
// server behind it, costs no event.
func TestEventSource(t *testing.T) {
	node, chromium := needNode(t), need(t, "chromium", "chromium-browser", "google-chrome")
	s := newServer(t)
	n := newNginx(t, s)
	stream := fmt.Sprintf("/api/killfeed/stream?systems=%d,%d", jita, perimet)
	page := start(t, node, "js/browser.js", chromium, "http://"+n.addr+"/stream.html?stream="+strings.ReplaceAll(stream, "&", "%26"))

	page.expect(t, "", "connected")
	begun := page.expect(t, "", "open")
	epoch := begun.Response.Epoch
	if begun.ID != "0-"+epoch || begun.Response.Head != 0 || begun.Response.Start != 1 || len(epoch) != 8 {
		t.Errorf("stream of an empty log: %+v", begun)
	}

	var events []event
	receive := func(ids ...uint64) (l line) {
		t.Helper()
		for _, id := range ids {
			if l = page.expect(t, "", "new_killmail"); l.Payload.EventID != id || l.ID != fmt.Sprintf("%d-%s", id, epoch) {
				t.Fatalf("next event is %+v, want %d", l, id)
			}
			events = append(events, l.Payload)
		}
		return l
	}
	// How long an event takes is told, not judged: the machine may be busy.
	var delays []time.Duration
	for id := uint64(1); id <= 20; id++ {
		began := time.Now()
		s.insert(t, jita)
		came := time.UnixMicro(int64(receive(id).At * 1000))
		delays = append(delays, came.Sub(began))
	}
	slices.Sort(delays)
	t.Logf("from before the insert to the page, through nginx: median %s, slowest %s", delays[len(delays)/2], delays[len(delays)-1])

	if *long {
		page.silence(t, "", 3*nginxSilence)
	}

	// back takes what the page says until it is connected again.
	back := func(start uint64) {
		t.Helper()
		for {
			var l line
			switch page.take(t, "", &l); l.On {
			case "disconnected", "ended", "connected":
			case "open":
				if l.Response.Start != start || l.Response.Gap != nil {
					t.Fatalf("%+v, want it to go on with %d", l, start)
				}
				return
			default:
				t.Fatalf("next of the page is %+v", l)
			}
		}
	}
	n.stop(t)
	page.expect(t, "", "disconnected")
	s.insert(t, jita, hek, perimet)
	n.start(t)
	back(21)
	receive(21, 23)

	// With the server away nginx answers 502, where the browser gives up. The page does not.
	s.kill()
	page.expect(t, "", "disconnected")
	page.expect(t, "", "ended")
	s.start(t)
	s.insert(t, perimet)
	back(24)
	receive(24)
	s.insert(t, jita)
	receive(25)
	checkEvents(t, s, epoch, events)
}

// NDJSON through nginx: curl shows each line when it is written.
func TestNDJSON(t *testing.T) {
	curl := need(t, "curl")
	s := newServer(t)
	n := newNginx(t, s)
	p := start(t, curl, "-sSN", "-H", "Accept: application/x-ndjson", fmt.Sprintf("http://%s/api/killfeed/stream?systems=%d", n.addr, jita))
	var begun struct {
		Type string
		answer
	}
	if p.take(t, "", &begun); begun.Type != "open" || begun.Start != 1 || begun.Cursor != "0-"+begun.Epoch {
		t.Fatalf("first line is %+v", begun)
	}
	var next struct {
		Type string
		event
	}
	if *long {
		for began := time.Now(); time.Since(began) < 3*nginxSilence; {
			if p.take(t, "", &next); next.Type != "heartbeat" || next.Cursor != begun.Cursor {
				t.Fatalf("next line is %+v, want a heartbeat", next)
			}
		}
	}
	for id := uint64(1); id <= 3; id++ {
		s.insert(t, jita)
		if p.take(t, "", &next); next.Type != "new_killmail" || next.EventID != id {
			t.Fatalf("next line is %+v, want event %d", next, id)
		}
		checkEvents(t, s, begun.Epoch, []event{next.event})
	}
}

// Where nginx does not pass WebSockets on, a client with a fallback comes to long polling by itself.
func TestPhoenixFallback(t *testing.T) {
	node := needNode(t)
	s := newServer(t)
	n := newNginx(t, s)
	p := newSocket(t, node, "phoenix", n.addr, `{"longPollFallbackMs":5000}`, "longpoll")
	begun := join(t, p, "one", fmt.Sprintf("system:%d", jita), map[string]any{})
	s.insert(t, jita)
	checkEvents(t, s, begun.Epoch, expectEvents(t, p, "one", 1))
	leave(t, p, "one")
}
