//go:build unix

package doctest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds one example. None needs a tenth of it.
const patience = time.Minute

// TestExamples runs every example of every document.
func TestExamples(t *testing.T) {
	bin := build(t)
	shell := need(t, "bash", "curl")
	for _, doc := range documents(t) {
		p, err := parse(read(t, doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		var runs bool
		for _, b := range p.blocks {
			if err := b.valid(); err != nil {
				t.Errorf("%s:%d: %v", doc, b.line, err)
			}
			runs = runs || b.runs()
		}
		if !runs {
			continue
		}
		t.Run(doc, func(t *testing.T) {
			if shell != "" {
				t.Skip(shell)
			}
			s := newStage(t, bin)
			for _, b := range p.blocks {
				if !b.runs() {
					continue
				}
				if err := s.run(t, b); err != nil {
					t.Fatalf("%s:%d: %v", doc, b.line, err)
				}
			}
		})
	}
}

// valid tells whether b is a block as doc.go wants it.
func (b *block) valid() error {
	reason, noRun := strings.CutPrefix(b.how, "no-run:")
	switch {
	case b.how == "":
	case noRun && strings.TrimSpace(reason) != "":
	case b.lang == "sh" && b.how == "program":
	default:
		return fmt.Errorf("%q behind the fence means nothing", b.how)
	}
	switch b.lang {
	case "sh", "python", "js", "toml", "text":
	case "json":
		return validJSON(b.text)
	default:
		return fmt.Errorf("language %q: want sh, python, js, toml, json or text", b.lang)
	}
	return nil
}

// need says which of the commands is missing, in words for Skip.
func need(t *testing.T, commands ...string) (missing string) {
	t.Helper()
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			return c + " is not installed, so these examples are not run"
		}
	}
	return ""
}

// build makes the binary.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "killfeed")
	c := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/killfeed")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return bin
}

// environment is that of a user who has configured nothing.
func environment(dir, bin string, more ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "KILLFEED_"), strings.HasSuffix(strings.ToLower(name), "_proxy"), name == "PATH", name == "PWD":
		default:
			env = append(env, kv)
		}
	}
	return append(env, append(more, "PATH="+filepath.Dir(bin)+string(os.PathListSeparator)+os.Getenv("PATH"), "PWD="+dir,
		"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1")...)
}

// stage is where a document's examples run: a directory, a server, a shell.
type stage struct {
	bin, dir, addr string
	env            []string
	server, shell  *process
	stdin          io.Writer
	blocks         int
}

func newStage(t *testing.T, bin string) *stage {
	t.Helper()
	s := &stage{bin: bin, dir: t.TempDir()}
	dayArchive(t, filepath.Join(s.dir, "killmails-2026-11-22.tar.bz2"))

	addrFile := filepath.Join(t.TempDir(), "addr")
	server, _ := start(t, s.dir, environment(s.dir, bin), bin, "serve", "--listen", "127.0.0.1:0", "--addr-file", addrFile)
	t.Cleanup(func() {
		server.signal(syscall.SIGTERM)
		if err := server.wait(patience); err != nil {
			t.Errorf("the server did not end well: %v\n%s", err, server.text())
		}
	})
	addr, err := await(t, addrFile, server)
	if err != nil {
		t.Fatalf("starting the server: %v\n%s", err, server.text())
	}
	s.server, s.addr = server, addr

	s.env = environment(s.dir, bin, "KILLFEED_SERVER=http://"+addr)
	s.shell, s.stdin = start(t, s.dir, s.env, "bash", "--noprofile", "--norc", "-eo", "pipefail")
	return s
}

// await waits for the file that the server writes when it serves.
func await(t *testing.T, path string, server *process) (string, error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond) // another process has no better way to tell
	defer tick.Stop()
	limit := time.After(patience)
	for {
		text, err := os.ReadFile(path)
		switch {
		case err == nil:
			return strings.TrimSpace(string(text)), nil
		case !errors.Is(err, os.ErrNotExist):
			return "", err
		}
		select {
		case <-tick.C:
		case <-server.ended:
			return "", errors.New("it ended")
		case <-limit:
			return "", errors.New("it did not serve in time")
		}
	}
}

// serve is the example that starts the server.
const serve = "go run ./cmd/killfeed serve"

// run runs one block and compares what it prints.
func (s *stage) run(t *testing.T, b *block) error {
	t.Helper()
	s.blocks++
	if strings.TrimSpace(b.text) == serve {
		return s.compare(b, s.server.text()) // it runs already
	}
	text := strings.NewReplacer("127.0.0.1:4004", s.addr, "go run ./cmd/killfeed", "killfeed").Replace(b.text)
	if b.lang == "toml" {
		return s.configure(t, b, text)
	}
	file := filepath.Join(s.dir, fmt.Sprintf("block%d.%s", s.blocks, map[string]string{"sh": "sh", "python": "py", "js": "mjs"}[b.lang]))
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		return err
	}
	defer os.Remove(file)
	switch {
	case b.lang == "python":
		return s.program(t, b, "python3", file)
	case b.lang == "js":
		return s.program(t, b, "node", file)
	case b.how == "program":
		return s.program(t, b, "bash", file)
	}
	got, err := s.source(file)
	if err != nil {
		return err
	}
	return s.compare(b, got)
}

// mark stands in the shell's output behind each block.
const mark = "\x1e"

// source runs a file in the document's shell and returns what it printed.
func (s *stage) source(file string) (string, error) {
	from := len(s.shell.text())
	if _, err := fmt.Fprintf(s.stdin, ". '%s' </dev/null\nprintf '\\036'\n", file); err != nil {
		return "", fmt.Errorf("the shell has ended: %w", err)
	}
	whole := s.shell.until(patience, func(out string) bool { return strings.Contains(out[from:], mark) })
	got := s.shell.text()[from:]
	if !whole {
		return "", fmt.Errorf("it failed, or did not end in time, having printed\n%s", got)
	}
	return got[:strings.Index(got, mark)], nil
}

// program runs a file as a program of its own, until it ends or has printed what is expected.
func (s *stage) program(t *testing.T, b *block, name, file string) error {
	t.Helper()
	if missing := need(t, name); missing != "" {
		t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) { t.Skip(missing) })
		return nil
	}
	p, _ := start(t, s.dir, s.env, name, file)
	if b.output == nil {
		if err := p.wait(patience); err != nil {
			return fmt.Errorf("%s: %w, having printed\n%s", name, err, p.text())
		}
		return nil
	}
	want, err := expect(b.output)
	if err != nil {
		return err
	}
	begun := p.until(patience, func(out string) bool { return strings.HasSuffix(out, "\n") && want.begun(s.shown(out)) })
	p.signal(syscall.SIGKILL)
	p.wait(patience) // it was ended: there is nothing to learn from how
	if !begun {
		return want.check(s.shown(p.text()))
	}
	return nil
}

func (s *stage) compare(b *block, got string) error {
	if b.output == nil {
		return nil
	}
	want, err := expect(b.output)
	if err != nil {
		return err
	}
	return want.check(s.shown(got))
}

// shown is what a user would have seen, whose server has the usual address.
func (s *stage) shown(got string) string { return strings.ReplaceAll(got, s.addr, "127.0.0.1:4004") }

// configure reads a configuration file as every command does.
func (s *stage) configure(t *testing.T, b *block, text string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "killfeed.toml")
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		return err
	}
	c := exec.CommandContext(t.Context(), s.bin, "config", "show", "--config", file)
	c.Env, c.Dir = s.env, s.dir
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return s.compare(b, string(out))
}

// process is something that was started. It and whatever it started in turn is ended with the test.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed behind err
	err   error

	mu  sync.Mutex // guards out and wake
	out bytes.Buffer
	// wake is closed and replaced when out grows.
	wake chan struct{}
}

// start starts a process in a group of its own.
func start(t *testing.T, dir string, env []string, name string, args ...string) (*process, io.Writer) {
	t.Helper()
	p := &process{ended: make(chan struct{}), wake: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.cmd.WaitDelay = time.Second // for what an example left running in the background
	stdin, err := p.cmd.StdinPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	})
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		waiting.Wait()
	})
	return p, stdin
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.wake)
	p.wake = make(chan struct{})
	return p.out.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// until waits for the output to be as wanted. It returns false when the process ended, or time is up, before that.
func (p *process) until(limit time.Duration, wanted func(out string) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		p.mu.Lock()
		out, wake := p.out.String(), p.wake // the bell before the look
		p.mu.Unlock()
		if wanted(out) {
			return true
		}
		select {
		case <-wake:
		case <-p.ended:
			return wanted(p.text())
		case <-ctx.Done():
			return false
		}
	}
}

func (p *process) wait(limit time.Duration) error {
	select {
	case <-p.ended:
		return p.err
	case <-time.After(limit):
		return errors.New("it did not end in time")
	}
}

// signal signals the whole group, so that a shell's children are reached too. Once the process has ended its number may be
// another's.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.ended:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, sig) // an error says that nobody is left
	}
}

// dayArchive makes a small day archive in the shape of EVE Ref's. It is packed with gzip, because there is no bzip2 to pack
// with here; the importer looks at the content, not at the name.
func dayArchive(t *testing.T, path string) {
	t.Helper()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	for i := range 3 {
		id := 900000101 + i
		text := []byte(`{"killmail_id":` + strconv.Itoa(id) + `,"killmail_time":"2026-11-22T18:00:0` + strconv.Itoa(i) +
			`Z","solar_system_id":30002187,"victim":{"character_id":2100000101,"corporation_id":98000101,"damage_taken":470,` +
			`"items":[],"ship_type_id":670},"attackers":[{"character_id":2100000102,"corporation_id":98000102,"damage_done":470,` +
			`"final_blow":true,"security_status":-1.5,"ship_type_id":17726,"weapon_type_id":2456}],` +
			`"http_last_modified":"2026-11-22T18:05:00Z"}`)
		err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("killmails/%d.json", id), Mode: 0o644, Size: int64(len(text))})
		if err == nil {
			_, err = w.Write(text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close(), os.WriteFile(path, packed.Bytes(), 0o666)); err != nil {
		t.Fatal(err)
	}
}
