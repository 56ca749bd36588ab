//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// serving is a real server in a process of its own, with its log in memory only. Its directory is dir.
type serving struct {
	t       *testing.T
	dir     string
	addr    string
	process *exec.Cmd
	log     *lineLog
}

// lineLog is a log as it is written.
type lineLog struct {
	mu    sync.Mutex // guards the rest
	lines []string
	more  chan struct{} // closed and made anew with each line
	ended bool
}

func (l *lineLog) read(from io.Reader) {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, 1<<20)
	for {
		more := scanner.Scan()
		l.mu.Lock()
		if more {
			l.lines = append(l.lines, scanner.Text())
		}
		l.ended = !more
		close(l.more)
		l.more = make(chan struct{})
		l.mu.Unlock()
		if !more {
			return
		}
	}
}

// serveIn starts a server with these flags and waits until it serves. It is stopped at the end of the test.
func serveIn(t *testing.T, dir string, flags ...string) *serving {
	t.Helper()
	bin, err := exec.LookPath("killfeed") // the real main, as in the scripts
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{t: t, dir: dir, log: &lineLog{more: make(chan struct{})}}
	file := filepath.Join(dir, "addr")
	s.process = exec.Command(bin, append([]string{"serve", "--memory", "--data", dir, "--listen", "127.0.0.1:0", "--addr-file", file,
		"--log-format", "json"}, flags...)...)
	s.process.Dir = dir
	out, err := s.process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.log.read(out)
	}()
	t.Cleanup(func() {
		s.process.Process.Signal(syscall.SIGTERM)
		limit := time.AfterFunc(time.Minute, func() { s.process.Process.Kill() })
		defer limit.Stop()
		<-read
		if err := s.process.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	s.said(`"msg":"serving"`, 1)
	for s.addr == "" { // it is written right behind that line
		text, err := os.ReadFile(file)
		if err == nil {
			s.addr = strings.TrimSpace(string(text))
		}
	}
	return s
}

// said waits until the log has n lines with the text, and returns the last of those.
func (s *serving) said(text string, n int) string {
	s.t.Helper()
	limit := time.After(time.Minute)
	for {
		s.log.mu.Lock()
		more, ended, found, last := s.log.more, s.log.ended, 0, ""
		for _, line := range s.log.lines {
			if strings.Contains(line, text) {
				if found++; found <= n {
					last = line
				}
			}
		}
		all := strings.Join(s.log.lines, "\n")
		s.log.mu.Unlock()
		if found >= n {
			return last
		}
		if ended {
			s.t.Fatalf("the server ended without %q:\n%s", text, all)
		}
		select {
		case <-more:
		case <-limit:
			s.t.Fatalf("the server does not say %q:\n%s", text, all)
		}
	}
}

// text is all of the log so far.
func (s *serving) text() string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return strings.Join(s.log.lines, "\n")
}

// run runs a command of the program in the server's directory and returns what it prints.
func (s *serving) run(args ...string) (string, error) {
	c := exec.Command(s.process.Path, args...)
	c.Dir = s.dir
	out, err := c.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// ask sends a request and returns status and body.
func (s *serving) ask(client *http.Client, method, url, body string, headers ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// secret is the content of a file of one line.
func (s *serving) secret(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// field is a member of a line of the log.
func field(t *testing.T, line, name string) string {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal([]byte(line), &members); err != nil {
		t.Fatal(err)
	}
	text, _ := members[name].(string)
	return text
}
