//go:build unix

package browser

import (
	"bufio"
	"bytes"
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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"killfeed/internal/sdesim"
	"killfeed/storetest"
)

// patience bounds every wait. None needs a tenth of it.
const patience = time.Minute

var (
	long  = flag.Bool("long", false, "send 100,000 killmails through a page")
	given = flag.String("killfeed", "", "the `binary` to test, instead of one built from the source")
	shots = flag.String("shots", "", "keep screenshots in this `directory`")
)

// Solar systems of the tests, which the static data of sdesim.MadeUp knows.
const (
	jita   = 30000142
	niarja = 30003504
	thera  = 31000005
)

// work is a directory for what is built. It lives as long as the test binary runs.
var work string

func TestMain(m *testing.M) {
	var err error
	if work, err = os.MkdirTemp("", "killfeed-browser"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if started.Load() {
		if b, err := theBrowser(); err == nil {
			b.end()
		}
	}
	os.RemoveAll(work)
	os.Exit(code)
}

// missing skips the test because something is not installed, or fails it where everything has to be.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// program builds the server once, with a data directory that has static data.
var program = sync.OnceValues(func() (bin string, err error) {
	bin = filepath.Join(work, "killfeed")
	if *given != "" {
		if bin, err = filepath.Abs(*given); err != nil {
			return "", err
		}
	} else if out, err := exec.Command("go", "build", "-o", bin, "killfeed/cmd/killfeed").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building killfeed: %w\n%s", err, out)
	}
	var archive bytes.Buffer
	if err := sdesim.Zip(&archive, sdesim.MadeUp(3569502).Members()); err != nil {
		return "", err
	}
	name := filepath.Join(work, "static.zip")
	if err := os.WriteFile(name, archive.Bytes(), 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command(bin, "sde", "update", "--data", filepath.Join(work, "data"), "--from", name)
	cmd.Env = environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("installing static data: %w\n%s", err, out)
	}
	return bin, nil
})

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

// server is a killfeed with a log of its own, which outlives its processes, as its address does.
type server struct {
	bin, data, addr, token string
	args                   []string
	mails                  *storetest.Maker
	process                *process
}

// newServer starts one, with further arguments of serve.
func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{bin: bin, data: t.TempDir(), addr: "127.0.0.1:0", args: args}
	s.mails = storetest.NewMaker(storetest.MakerOptions{Attackers: 3, Start: time.Now().Add(-10 * time.Minute), Every: time.Millisecond})
	if err := os.CopyFS(s.data, os.DirFS(filepath.Join(work, "data"))); err != nil {
		t.Fatal(err)
	}
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
	args := append([]string{"serve", "--listen", s.addr, "--data", s.data, "--addr-file", addrFile, "--drain-time", "0s"}, s.args...)
	s.process = start(t, s.bin, args...)
	s.addr = awaitAddr(t, s.process, addrFile)
}

// awaitAddr waits until a server serves, and returns its address.
func awaitAddr(t *testing.T, p *process, addrFile string) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond) // another process has no better way to tell
	defer tick.Stop()
	limit := time.After(patience)
	for {
		text, err := os.ReadFile(addrFile)
		if err == nil {
			return strings.TrimSpace(string(text))
		}
		if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-p.ended:
			t.Fatalf("the server has ended: %v\n%s", p.err, p.said())
		case <-limit:
			t.Fatalf("the server does not serve\n%s", p.said())
		}
	}
}

// kill ends it as a power cut would.
func (s *server) kill() {
	s.process.cmd.Process.Kill()
	<-s.process.ended
}

// url is a path of its as a URL.
func (s *server) url(path string) string { return "http://" + s.addr + path }

// insert inserts killmails that are made up, each changed by change first.
func (s *server) insert(t *testing.T, n int, change func(i int, m *storetest.Mail)) (ids []int64) {
	t.Helper()
	for n > 0 {
		var body []byte
		batch := min(n, 1000)
		for i := range batch {
			m := s.mails.NextMail()
			m.System = jita
			if change != nil {
				change(i, &m)
			}
			ids = append(ids, m.ID)
			body = append(m.AppendJSON(body), '\n')
		}
		s.post(t, body)
		n -= batch
	}
	return ids
}

// post inserts what is given.
func (s *server) post(t *testing.T, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url("/api/killmails"), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("inserting: %s %v\n%s", res.Status, err, text)
	}
}

// process is a program that was started. It ends with the test.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed behind err
	err   error

	mu     sync.Mutex // guards output
	output bytes.Buffer
}

// start starts a program whose output is kept.
func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Env = environment()
	p.cmd.WaitDelay = time.Second
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.run(t)
	return p
}

// Write keeps output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

// said is what it printed.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// run starts it and has it ended with the test: by the end of its input, or by a signal.
func (p *process) run(t *testing.T) {
	t.Helper()
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.cmd.Path, err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	})
	t.Cleanup(func() {
		p.stdin.Close()
		p.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
		select {
		case <-p.ended:
		case <-time.After(patience):
			t.Errorf("%s does not end and is killed", p.cmd.Path)
			p.cmd.Process.Kill()
		}
		running.Wait()
		if t.Failed() {
			t.Logf("%s: %v\n%s", p.cmd.Path, p.err, p.said())
		}
	})
}

// browser is a Chromium that obeys. It is used by all tests, each with pages of its own, and by several at a time.
type browser struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer  // to be read once it has ended
	ended  chan struct{} // closed behind err
	err    error
	pages  atomic.Int64 // opened so far

	mu      sync.Mutex // guards the rest
	id      int
	waiting map[int]chan answer
}

// answer is what a command has come to.
type answer struct {
	ID     int
	Result json.RawMessage
	Error  string
}

// theBrowser starts the browser for the first test that wants it. TestMain ends it.
var theBrowser = sync.OnceValues(func() (*browser, error) {
	started.Store(true)
	b := &browser{ended: make(chan struct{}), waiting: map[int]chan answer{}}
	b.cmd = exec.Command("node", "js/driver.js", chromium())
	b.cmd.Env = environment()
	b.cmd.WaitDelay = time.Second
	b.cmd.Stderr = &b.stderr
	stdin, err := b.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	b.stdin = stdin
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the browser: %w", err)
	}
	go b.run(stdout)
	return b, nil
})

// started tells whether theBrowser was asked for.
var started atomic.Bool

// newBrowser returns the browser, or skips the test.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	needNode(t)
	if chromium() == "" {
		missing(t, "Chromium is not installed")
	}
	b, err := theBrowser()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// chromium is the path of the first of its names that is installed; empty: none is.
func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// run hands answers to those who wait for them, until the browser has ended.
func (b *browser) run(stdout io.Reader) {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			break // then it ends, and says why on its standard error
		}
		b.mu.Lock()
		to := b.waiting[a.ID]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		if to != nil {
			to <- a
		}
	}
	b.err = b.cmd.Wait()
	close(b.ended)
}

// end ends it.
func (b *browser) end() {
	b.stdin.Close()
	select {
	case <-b.ended:
	case <-time.After(patience):
		b.cmd.Process.Kill()
		<-b.ended
	}
}

// needNode returns the path of Node.js, with whose packages the scripts can run.
func needNode(t *testing.T) string {
	t.Helper()
	const least = 20
	node, err := exec.LookPath("node")
	if err != nil {
		missing(t, "Node.js is not installed")
	}
	out, err := exec.Command(node, "--version").Output()
	if err != nil {
		t.Fatalf("node --version: %v", err)
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < least {
		missing(t, "Node.js is %s: want %d or newer", bytes.TrimSpace(out), least)
	}
	if _, err := os.Stat("node_modules/.package-lock.json"); err != nil {
		missing(t, "the npm packages are not installed: run npm ci in internal/browser")
	}
	return node
}

// do has a command done and reads its result into v, unless that is nil.
func (b *browser) do(v any, name string, args map[string]any) error {
	done := make(chan answer, 1)
	b.mu.Lock()
	b.id++
	command := map[string]any{"id": b.id, "do": name}
	for k, a := range args {
		command[k] = a
	}
	text, err := json.Marshal(command)
	if err == nil {
		b.waiting[b.id] = done
		_, err = b.stdin.Write(append(text, '\n'))
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("telling the browser %s: %w", text, err)
	}
	select {
	case a := <-done:
		switch {
		case a.Error != "":
			return fmt.Errorf("%.300s: %s", text, a.Error)
		case v == nil:
			return nil
		}
		return json.Unmarshal(a.Result, v)
	case <-b.ended:
		return fmt.Errorf("the browser has ended before it answered %s: %w\n%s", text, b.err, &b.stderr)
	}
}

// look is how a page is looked at.
type look struct {
	Width, Height  int
	Scheme, Motion string
	// Bypass switches the page's Content-Security-Policy off, for what a test puts into it.
	Bypass bool
	// Storage is what the reader has chosen before.
	Storage map[string]string
}

// page is one of a browser's, with storage of its own.
type page struct {
	t    *testing.T
	b    *browser
	name string
	// failing: the test takes something away, of which the browser itself complains on the console.
	failing bool
}

// open opens an address in a page of its own. At the end of the test it must not have had errors.
func (b *browser) open(t *testing.T, url string, l look) *page {
	t.Helper()
	p := &page{t: t, b: b, name: fmt.Sprint("page ", b.pages.Add(1))}
	args := map[string]any{"bypass": l.Bypass}
	for name, v := range map[string]string{"scheme": l.Scheme, "motion": l.Motion} {
		if v != "" {
			args[name] = v
		}
	}
	if l.Width > 0 {
		args["width"], args["height"] = l.Width, l.Height
	}
	if l.Storage != nil {
		args["storage"] = l.Storage
	}
	p.do(nil, "open", args)
	t.Cleanup(func() {
		if *shots != "" {
			p.do(nil, "shot", map[string]any{"path": filepath.Join(*shots, strings.ReplaceAll(t.Name(), "/", "-")+".png")})
		}
		if said := p.seen().Console; len(said) > 0 && !p.failing {
			t.Errorf("the page's console: %q", said)
		}
		p.do(nil, "close", nil)
	})
	p.do(nil, "goto", map[string]any{"url": url})
	return p
}

func (p *page) do(v any, name string, args map[string]any) {
	p.t.Helper()
	all := map[string]any{"page": p.name}
	for k, a := range args {
		all[k] = a
	}
	if err := p.b.do(v, name, all); err != nil {
		p.t.Fatal(err)
	}
}

// seen is what a page has done.
type seen struct {
	Console, Foreign, Paths []string
	// Asked are the last requests: method, URL, what is accepted, and the body; of WebSockets what was sent too.
	Asked    []string
	Pictures int
}

func (p *page) seen() (s seen) {
	p.t.Helper()
	p.do(&s, "seen", nil)
	return s
}

// wait waits until an expression is true.
func (p *page) wait(code string, args ...any) {
	p.t.Helper()
	p.do(nil, "wait", map[string]any{"code": fmt.Sprintf(code, args...), "patience": patience.Milliseconds()})
}

// eval evaluates an expression.
func eval[T any](p *page, code string, args ...any) (v T) {
	p.t.Helper()
	p.do(&v, "eval", map[string]any{"code": fmt.Sprintf(code, args...)})
	return v
}

func (p *page) press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		p.do(nil, "press", map[string]any{"key": key})
	}
}

func (p *page) click(on string) {
	p.t.Helper()
	p.do(nil, "click", map[string]any{"on": on})
}

// live waits until the list is there and follows the log.
func (p *page) live() {
	p.t.Helper()
	p.wait(`document.querySelector("#state").dataset.state === "live" && document.querySelector("#list").getAttribute("aria-busy") === "false"`)
}

// rows waits until the list has so many rows, or windowSize.
func (p *page) rows(n int) {
	p.t.Helper()
	p.wait(`document.querySelectorAll("li.row").length === %d`, n)
}

// events are the events in the list, from the top.
func (p *page) events() []int {
	p.t.Helper()
	return eval[[]int](p, `[...document.querySelectorAll("li.row")].map(r => Number(r.dataset.event))`)
}
