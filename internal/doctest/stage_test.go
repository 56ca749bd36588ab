//go:build unix

package doctest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds each wait of an example. None needs a tenth of it.
const patience = time.Minute

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
	linkPackages(t, filepath.Join(s.dir, "node_modules")) // where Node.js looks for them
	python, err := filepath.Abs(filepath.Join(root, "clients/python/src"))
	if err != nil {
		t.Fatal(err)
	}
	if s.addr, err = s.serve(t, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.env = environment(s.dir, bin, "KILLFEED_SERVER=http://"+s.addr, "PYTHONPATH="+python)
	s.shell, s.stdin = start(t, s.dir, s.env, false, "bash", "--noprofile", "--norc", "-eo", "pipefail")
	return s
}

// linkPackages makes a directory of the npm packages that are installed, and this project's own.
func linkPackages(t *testing.T, dir string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(npmPackages, "*"))
	if err == nil {
		err = os.Mkdir(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	links := map[string]string{ownPackage: filepath.Join(root, "clients/typescript")}
	for _, path := range found {
		links[filepath.Base(path)] = path
	}
	for name, path := range links {
		if path, err = filepath.Abs(path); err == nil {
			err = os.Symlink(path, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// serve starts the server and returns its address.
func (s *stage) serve(t *testing.T, listen string) (string, error) {
	t.Helper()
	addrFile := filepath.Join(t.TempDir(), "addr")
	server, _ := start(t, s.dir, environment(s.dir, s.bin), false, s.bin, "serve", "--listen", listen, "--addr-file", addrFile)
	s.server = server
	t.Cleanup(func() {
		if err := stop(server); err != nil {
			t.Error(err)
		}
	})
	addr, err := await(addrFile, server)
	if err != nil {
		return "", fmt.Errorf("starting the server: %w\n%s", err, server.text())
	}
	return addr, nil
}

// stop stops a server, if it has not ended.
func stop(server *process) error {
	server.signal(syscall.SIGTERM)
	if err := server.wait(patience); err != nil {
		return fmt.Errorf("the server did not end well: %w\n%s", err, server.text())
	}
	return nil
}

// await waits for the file that the server writes when it serves.
func await(path string, server *process) (string, error) {
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

// do has happen what a direction says.
func (s *stage) do(t *testing.T, d *direction) error {
	t.Helper()
	if !d.restart {
		return s.insert(t, s.addr, d.mails)
	}
	// Nobody knows the address at which it takes the killmails, so that they are missed by all who had been there.
	if err := stop(s.server); err != nil {
		return err
	}
	elsewhere, err := s.serve(t, "127.0.0.1:0")
	if err == nil {
		err = errors.Join(s.insert(t, elsewhere, d.mails), stop(s.server))
	}
	if err == nil {
		_, err = s.serve(t, s.addr)
	}
	return err
}

// insert inserts made-up killmails.
func (s *stage) insert(t *testing.T, addr string, mails []mail) error {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, "killfeed-data", "admin.token"))
	if err != nil {
		return err
	}
	for _, m := range mails {
		text := fmt.Sprintf(`{"killmail_id":%d,"killmail_time":"2026-11-23T19:00:00Z","solar_system_id":%d,`+
			`"victim":{"corporation_id":98000003,"ship_type_id":670,"damage_taken":470},"attackers":[]}`, m.id, m.system)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/api/killmails", strings.NewReader(text))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		answer, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusCreated {
			return fmt.Errorf("inserting killmail %d: %s %w\n%s", m.id, res.Status, err, answer)
		}
	}
	return nil
}

// serveExample is the example that starts the server.
const serveExample = "go run ./cmd/killfeed serve"

// run runs one block and compares what it prints.
func (s *stage) run(t *testing.T, b *block) error {
	t.Helper()
	s.blocks++
	if strings.TrimSpace(b.text) == serveExample {
		return s.compare(b, s.server.text()) // it runs already
	}
	text := strings.NewReplacer("127.0.0.1:4004", s.addr, "go run ./cmd/killfeed", "killfeed").Replace(b.text)
	if b.lang == "toml" {
		return s.configure(t, b, text)
	}
	file := filepath.Join(s.dir, fmt.Sprintf("block%d.%s", s.blocks, extensions[b.lang]))
	if err := os.WriteFile(file, []byte(text), 0o666); err != nil {
		return err
	}
	defer os.Remove(file)
	command, missing := b.command(file)
	if missing != "" {
		t.Run(fmt.Sprintf("line %d", b.line), func(t *testing.T) { absent(t, missing) })
		return nil
	}
	if command != nil {
		return s.program(t, b, command)
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

// program runs a program of its own, until it ends or has printed what is expected. If that has directions, nothing may be
// printed beyond it, so that what comes twice is seen.
func (s *stage) program(t *testing.T, b *block, command []string) error {
	t.Helper()
	p, _ := start(t, s.dir, s.env, true, command[0], command[1:]...)
	if b.output == nil {
		if err := p.wait(patience); err != nil {
			return fmt.Errorf("%s: %w, having printed\n%s%s", command[0], err, p.text(), p.errors())
		}
		return nil
	}
	var err error
	acts := []act{{text: b.output.text}}
	if b.output.lang == "text" {
		if acts, err = parseActs(b.output.text); err != nil {
			return err
		}
	}
	var want *expectation
	begun := true
	for _, a := range acts {
		if want, err = expect(&block{lang: b.output.lang, text: a.text}); err != nil {
			return err
		}
		begun = p.until(patience, func(out string) bool { return strings.HasSuffix(out, "\n") && want.begun(s.shown(out)) })
		if !begun {
			break
		}
		if a.then == nil {
			continue
		}
		if err := s.do(t, a.then); err != nil {
			return err
		}
	}
	p.signal(syscall.SIGTERM)
	p.wait(patience) // it was ended: there is nothing to learn from how
	if begun && len(acts) == 1 {
		return nil
	}
	if err := want.check(s.shown(p.text())); err != nil {
		return fmt.Errorf("%w%s", err, p.errors())
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
