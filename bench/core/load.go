package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// server is a process under load.
type server struct {
	cmd  *exec.Cmd
	addr string
	err  bytes.Buffer
}

// start runs a server that writes its address to the file that it is given as its last argument.
func (b *bench) start(ctx context.Context, name string, args ...string) (*server, error) {
	dir, err := os.MkdirTemp(b.work, "addr")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "addr")
	s := &server{cmd: exec.Command(name, append(args, file)...)}
	s.cmd.Stderr = &s.err
	s.cmd.Stdout = io.Discard
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if a, err := os.ReadFile(file); err == nil && strings.Contains(string(a), ":") {
			s.addr = strings.TrimSpace(string(a))
			return s, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	s.stop()
	return nil, fmt.Errorf("%s did not start: %s", name, s.err.String())
}

// serve runs killfeed on a data directory and waits until it is ready.
func (b *bench) serve(ctx context.Context, data string) (*server, error) {
	s, err := b.start(ctx, b.killfeed, "serve", "--listen", "127.0.0.1:0", "--data", data, "--log-level", "warn", "--addr-file")
	if err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

// ready waits until the server answers /readyz with 200.
func (s *server) ready(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if status, _, err := s.get("/readyz"); err == nil && status == 200 {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	s.stop()
	return fmt.Errorf("the server was not ready within a minute: %s", s.err.String())
}

// stop ends the process as an operator would.
func (s *server) stop() error {
	s.cmd.Process.Signal(syscall.SIGTERM)
	return s.wait()
}

func (s *server) kill() error {
	s.cmd.Process.Kill()
	return s.wait()
}

func (s *server) wait() error {
	done := make(chan error, 1)
	go func() { done <- s.cmd.Wait() }() // ends with the process, at the latest after the kill below
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		s.cmd.Process.Kill()
		return <-done
	}
}

// cpu is the processor time that the process has used.
func (s *server) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+2:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // a clock tick is 10 ms on every Linux that Go runs on
}

// rss is the process's resident memory in bytes.
func (s *server) rss() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// get sends one request on a connection of its own.
func (s *server) get(path string) (status int, body []byte, err error) {
	return s.send("GET", path, "")
}

func (s *server) send(method, path, body string) (int, []byte, error) {
	c, err := dial(s.addr)
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	return c.do(fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body))
}

// conn is a client connection that does no more than it must: on two cores every microsecond that the load side takes is
// one that the server does not get.
type conn struct {
	net.Conn
	r    *bufio.Reader
	body []byte
}

func dial(addr string) (*conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

// do sends a request and reads its answer. The body is valid until the next call.
func (c *conn) do(request []byte) (status int, body []byte, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, nil, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		switch {
		case first:
			if len(line) < 12 {
				return 0, nil, fmt.Errorf("status line %q", line)
			}
			status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
		case len(line) <= 2:
			if cap(c.body) < length {
				c.body = make([]byte, length)
			}
			_, err := io.ReadFull(c.r, c.body[:length])
			return status, c.body[:length], err
		case len(line) > 16 && (line[0] == 'C' || line[0] == 'c') && bytes.EqualFold(line[:15], []byte("content-length:")):
			length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:])))
			if err != nil {
				return 0, nil, err
			}
		}
	}
}

// load is what one round of load found.
type load struct {
	rate     float64       // requests a second
	cpu      time.Duration // of the server, for each request
	requests int64
}

// errEnough ends a worker's part of a round early.
var errEnough = errors.New("enough")

// drive sends requests on n connections for the given time. request returns what worker i sends; check looks at the answer
// and may return errEnough.
func (s *server) drive(n int, d time.Duration, request func(i int) []byte, check func(i, status int, body []byte) error) (load, error) {
	conns := make([]*conn, n)
	for i := range conns {
		c, err := dial(s.addr)
		if err != nil {
			return load{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	var (
		total   atomic.Int64
		stopped atomic.Bool
		wg      sync.WaitGroup
		errs    = make([]error, n)
	)
	cpu, start := s.cpu(), time.Now()
	timer := time.AfterFunc(d, func() { stopped.Store(true) })
	defer timer.Stop()
	for i, c := range conns {
		wg.Go(func() {
			req := request(i)
			for !stopped.Load() {
				status, body, err := c.do(req)
				if err == nil {
					total.Add(1)
					err = check(i, status, body)
				}
				if errors.Is(err, errEnough) {
					stopped.Store(true) // the others' share would be measured on fewer connections
					return
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return load{}, err
	}
	l := load{rate: float64(total.Load()) / took.Seconds(), requests: total.Load()}
	if l.requests > 0 {
		l.cpu = (s.cpu() - cpu) / time.Duration(l.requests)
	}
	return l, nil
}
