package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is the process that is tortured.
type server struct {
	binary, data, addrFile string

	mu   sync.Mutex // guards the rest
	cmd  *exec.Cmd
	out  bytes.Buffer
	addr string
	http *http.Client
}

// start starts the process and waits until it is ready.
func (s *server) start(ctx context.Context, tight bool) error {
	os.Remove(s.addrFile)
	args := []string{"serve", "--listen", "127.0.0.1:0", "--data", s.data, "--addr-file", s.addrFile, "--log-level", "warn"}
	if tight {
		args = append(args, "--retain", "0", "--retain-max", "0", "--client-ttl", "0")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd = exec.Command(s.binary, args...)
	s.out.Reset()
	s.cmd.Stderr = &s.out
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		if b, err := os.ReadFile(s.addrFile); err == nil && len(b) > 0 {
			s.addr = strings.TrimSpace(string(b))
			// Connections to a killed server are of no use to the next one.
			s.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			return nil
		}
		if err := s.cmd.Process.Signal(syscall.Signal(0)); err != nil {
			break
		}
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	return fmt.Errorf("%w did not start: %s", errServer, s.out.String())
}

// kill is kill -9.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil || s.cmd.ProcessState != nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// stop asks the process to end.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cmd.Process.Signal(syscall.SIGTERM)
	return s.cmd.Wait()
}

// check runs killfeed check on the data, which no server may have open.
func (s *server) check(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, s.binary, "check", "--data", s.data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// at is where the process listens, and what to ask it by.
func (s *server) at() (addr string, client *http.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr, s.http
}

// call sends a request and decodes the answer into v. The status is 0 when there was no whole answer.
func (s *server) call(method, path string, body []byte, v any) (status int, err error) {
	addr, client := s.at()
	req, err := http.NewRequest(method, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if token, err := os.ReadFile(filepath.Join(s.data, "admin.token")); err == nil {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if v != nil && len(b) > 0 && resp.StatusCode < 300 {
		if err := json.Unmarshal(b, v); err != nil {
			return 0, fmt.Errorf("%w answered %q: %w", errServer, b[:min(len(b), 200)], err)
		}
	}
	if resp.StatusCode >= 400 {
		return resp.StatusCode, fmt.Errorf("%s %s: %d: %s", method, path, resp.StatusCode, b)
	}
	return resp.StatusCode, nil
}
