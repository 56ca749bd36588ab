// Package server runs the servers that are measured, each in a process of its own, and asks the system what they use.
//
// Servers listen on the loopback interface only. Whoever starts one stops it: no other process is ended.
package server

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Server is a process under load.
type Server struct {
	Addr   string
	cmd    *exec.Cmd
	stderr bytes.Buffer  // to be read once the process has ended
	ended  chan struct{} // closed when it has
	result error         // of the process, once it has ended
}

// Start runs a server that writes its address to the file that it is given as its last argument. A directory for that file
// is made in work.
func Start(ctx context.Context, work, name string, args ...string) (*Server, error) {
	dir, err := os.MkdirTemp(work, "addr")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "addr")
	s := &Server{cmd: exec.Command(name, append(args, file)...), ended: make(chan struct{})}
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		s.result = s.cmd.Wait()
		close(s.ended)
	}()
	err = s.await(ctx, func() bool {
		a, err := os.ReadFile(file)
		s.Addr = strings.TrimSpace(string(a))
		return err == nil && strings.Contains(s.Addr, ":")
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// await waits until the server has come so far. If it does not, it is stopped.
func (s *Server) await(ctx context.Context, so func() bool) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		select {
		case <-s.ended:
			return fmt.Errorf("%s ended: %v: %s", s.cmd.Path, s.result, s.stderr.String())
		case <-ctx.Done():
			s.Stop()
			return context.Cause(ctx)
		default:
		}
		if so() {
			return nil
		}
	}
	s.Stop()
	return fmt.Errorf("%s was not ready within a minute: %s", s.cmd.Path, s.stderr.String())
}

// Serve runs killfeed on a data directory and waits until it is ready. more are further flags of its serve command.
func Serve(ctx context.Context, work, killfeed, data string, more ...string) (*Server, error) {
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--data", data, "--log-level", "warn"}, more...)
	s, err := Start(ctx, work, killfeed, append(args, "--addr-file")...)
	if err != nil {
		return nil, err
	}
	err = s.await(ctx, func() bool {
		status, _, err := s.Get("/readyz")
		return err == nil && status == 200
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Stop ends the process as an operator would.
func (s *Server) Stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	return s.wait()
}

// Kill ends the process as a power cut would.
func (s *Server) Kill() error {
	s.cmd.Process.Kill()
	return s.wait()
}

func (s *Server) wait() error {
	select {
	case <-s.ended:
		return s.result
	case <-time.After(time.Minute): // killfeed takes half of that to end its connections, where there are any
		s.cmd.Process.Kill()
		<-s.ended
		return fmt.Errorf("%s did not end within a minute and was killed: %s", s.cmd.Path, s.stderr.String())
	}
}

// CPU is the processor time that the process has used.
func (s *Server) CPU() time.Duration {
	// The scheduler's own count is exact to the nanosecond. There is one for each thread, and Go's threads do not end.
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	var sum int64
	for _, t := range threads {
		b, _ := os.ReadFile(t)
		first, _, _ := strings.Cut(string(b), " ")
		ns, _ := strconv.ParseInt(first, 10, 64)
		sum += ns
	}
	if sum > 0 {
		return time.Duration(sum)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // a clock tick is 10 ms on every Linux that Go runs on
}

// RSS is the process's resident memory in bytes.
func (s *Server) RSS() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// Get sends one request on a connection of its own.
func (s *Server) Get(path string) (status int, body []byte, err error) {
	return s.Send("GET", path, "")
}

// Send sends one request with a body, on a connection of its own.
func (s *Server) Send(method, path, body string) (status int, answer []byte, err error) {
	c, err := Dial(s.Addr)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	return c.Do(fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body))
}

// FreePort is a port of the loopback interface that nobody listens on at the moment.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// StartAt runs a server that listens on an address which it was told, and waits until it does.
func StartAt(ctx context.Context, addr, name string, args ...string) (*Server, error) {
	s := &Server{Addr: addr, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { // ends with the process
		s.result = s.cmd.Wait()
		close(s.ended)
	}()
	err := s.await(ctx, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}
