//go:build unix

package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"killfeed/storetest"
)

// patience bounds every wait. None needs a tenth of it.
const patience = time.Minute

var (
	long  = flag.Bool("long", false, "leave quiet clients quiet for three minutes")
	given = flag.String("killfeed", "", "the `binary` to test, instead of one built from the source")
)

// Solar systems of the tests.
const (
	jita    = 30000142
	perimet = 30000144
	hek     = 30002053
	thera   = 31000005
)

// work is a directory for what is built. It lives as long as the test binary runs.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "killfeed-interop"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(work)
	os.Exit(code)
}

// buildServer builds the program once, for the first test that wants it.
var buildServer = sync.OnceValues(func() (string, error) {
	if *given != "" {
		return filepath.Abs(*given)
	}
	return build("killfeed/cmd/killfeed")
})

// build builds a program of this module.
func build(path string) (string, error) {
	bin := filepath.Join(work, filepath.Base(path))
	if out, err := exec.Command("go", "build", "-o", bin, path).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", path, err, out)
	}
	return bin, nil
}

// missing skips the test because something is not installed, or fails it where everything has to be.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// need returns the path of the first of the programs that is installed.
func need(t *testing.T, programs ...string) string {
	t.Helper()
	for _, name := range programs {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, "%s is not installed", strings.Join(programs, " or "))
	return ""
}

// needNode returns the path of Node.js, with which and with whose packages the scripts can run.
func needNode(t *testing.T) string {
	t.Helper()
	const least = 20
	node := need(t, "node")
	out, err := exec.Command(node, "--version").Output()
	if err != nil {
		t.Fatalf("node --version: %v", err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < least {
		missing(t, "Node.js is %s: want %d or newer", bytes.TrimSpace(out), least)
	}
	if _, err := os.Stat("node_modules/.package-lock.json"); err != nil {
		missing(t, "the npm packages are not installed: run npm ci in internal/interop")
	}
	return node
}

// environment is that of somebody who has configured nothing.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "KILLFEED_") && !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			env = append(env, kv)
		}
	}
	return env
}

// line is what a script says.
type line struct {
	On       string
	Code     int     // of a close
	ID       string  // of an event of an event stream
	At       float64 // when it came, in milliseconds of the Unix epoch
	Response answer
	Payload  event
}

// answer is what the server says to a join or a push, and at the beginning of a stream.
type answer struct {
	Head, Start uint64
	Epoch       string
	Cursor      string
	Gap         json.RawMessage
	Reason      string
	Topics      int
	ClientID    string `json:"client_id"`
	EventID     uint64 `json:"event_id"`
}

// event is one of the log, from whichever edge.
type event struct {
	EventID    uint64    `json:"event_id"`
	SystemID   uint32    `json:"system_id"`
	ReceivedAt time.Time `json:"received_at"`
	Killmail   json.RawMessage
	Cursor     string // live edges only
}

// server is a killfeed with a log of its own, which outlives its processes, as its address does.
type server struct {
	bin, data, addr, token string
	flags                  []string // more of them
	mails                  *storetest.Maker
	process                *process
}

func newServer(t *testing.T) *server {
	t.Helper()
	bin, err := buildServer()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{bin: bin, data: t.TempDir(), addr: "127.0.0.1:0", mails: storetest.NewMaker(storetest.MakerOptions{Attackers: 2})}
	s.start(t)
	token, err := os.ReadFile(filepath.Join(s.data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	return s
}

// start starts it, at the same address as before, and waits until it serves.
func (s *server) start(t *testing.T) {
	t.Helper()
	addrFile := filepath.Join(t.TempDir(), "addr")
	s.process = start(t, s.bin, append([]string{"serve", "--listen", s.addr, "--data", s.data, "--addr-file", addrFile}, s.flags...)...)
	tick := time.NewTicker(5 * time.Millisecond) // another process has no better way to tell
	defer tick.Stop()
	limit := time.After(patience)
	for {
		text, err := os.ReadFile(addrFile)
		if err == nil {
			if strings.HasSuffix(s.addr, ":0") { // a writer may be at work on it later
				s.addr = strings.TrimSpace(string(text))
			}
			return
		}
		if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-s.process.ended:
			t.Fatalf("the server has ended: %v\n%s", s.process.err, s.process.said())
		case <-limit:
			t.Fatalf("the server does not serve\n%s", s.process.said())
		}
	}
}

// kill ends it as a power cut would.
func (s *server) kill() {
	s.process.cmd.Process.Kill()
	<-s.process.ended
}

// stop ends it as an operator does.
func (s *server) stop(t *testing.T) {
	t.Helper()
	s.process.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.process.ended:
	case <-time.After(patience):
		t.Fatalf("the server does not stop\n%s", s.process.said())
	}
	if s.process.err != nil {
		t.Errorf("the server did not stop well: %v\n%s", s.process.err, s.process.said())
	}
}

// insert puts a made-up killmail into each of the systems, one after the other.
func (s *server) insert(t *testing.T, systems ...uint32) {
	t.Helper()
	for _, system := range systems {
		if err := s.post(t.Context(), system); err != nil {
			t.Fatal(err)
		}
	}
}

// errAway says that the server was not there to answer.
var errAway = errors.New("no answer")

func (s *server) post(ctx context.Context, system uint32) error {
	mail := s.mails.NextMail()
	mail.System = system
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.addr+"/api/killmails", bytes.NewReader(mail.AppendJSON(nil)))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil || res.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s %v", errAway, res.Status, err)
	case res.StatusCode != http.StatusCreated:
		return fmt.Errorf("inserting: %s\n%s", res.Status, text)
	}
	return nil
}

// write inserts killmails into the systems in turn, whether the server is there or not, until it is told to stop.
func (s *server) write(t *testing.T, systems ...uint32) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			if err := s.post(ctx, systems[i%len(systems)]); err != nil && !errors.Is(err, errAway) {
				t.Error(err)
				return
			}
		}
	})
	stop = func() {
		cancel()
		writing.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// log is what polling says that there is.
func (s *server) log(t *testing.T) (events []event) {
	t.Helper()
	after := "0"
	for {
		var page struct {
			Events []event
			Next   string
			More   bool
		}
		s.get(t, "/api/killfeed?topics=all&limit=1000&after="+after, &page)
		events = append(events, page.Events...)
		if !page.More {
			return events
		}
		after = page.Next
	}
}

// get gets an answer as JSON.
func (s *server) get(t *testing.T, path string, v any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s %v\n%s", path, res.Status, err, text)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("GET %s: %v\n%s", path, err, text)
	}
}
