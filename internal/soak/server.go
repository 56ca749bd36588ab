//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is the process under test. It is killed and started again on the same data and the same address.
type server struct {
	binary string
	dir    string
	flags  []string

	mu     sync.Mutex    // guards the rest
	addr   string        // once the first start has chosen it
	cmd    *exec.Cmd     // nil: none is running
	exited chan error    // of cmd, cap 1
	err    *os.File      // its standard error, of all lives
	used   time.Duration // processor time of those that have ended
}

// drainTime is how long the server spreads the end of its connections when it is asked to stop. Its default of 30 s would take
// too much of a run.
const drainTime = 5 * time.Second

// stopTime is how long it may take to stop: the drain, ten seconds for connections that take nothing any more, and ten for
// requests in flight.
const stopTime = drainTime + 25*time.Second

// start starts the process. started is called when its address is known, which is before it serves except for the first time;
// start returns when it serves.
func (s *server) start(ctx context.Context, started func(addr string)) error {
	const tries = 20
	for try := 1; ; try++ {
		err := s.startOnce(ctx, started)
		if err == nil || try == tries || ctx.Err() != nil || !strings.Contains(err.Error(), "in use") {
			return err
		}
		pause(ctx, 100*time.Millisecond) // somebody else took the port for a moment
	}
}

func (s *server) startOnce(ctx context.Context, started func(addr string)) error {
	addrFile := filepath.Join(s.dir, "addr")
	if err := os.Remove(addrFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		f, err := os.Create(s.logFile())
		if err != nil {
			return err
		}
		s.err = f
	}
	listen := s.addr
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	args := append([]string{"serve", "--listen", listen, "--data", s.data(), "--addr-file", addrFile,
		"--log-level", "warn", "--log-format", "json", "--drain-time", drainTime.String()}, s.flags...)
	cmd := exec.Command(s.binary, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, s.err
	// An interrupt at the terminal is for this process only, which ends the other one. Should this one be killed, the other is
	// not to stay.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // ends with the process, which kill and stop see to
	s.cmd, s.exited = cmd, exited
	if s.addr != "" {
		started(s.addr)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; {
		if b, err := os.ReadFile(addrFile); err == nil && len(b) > 0 {
			if s.addr == "" {
				s.addr = strings.TrimSpace(string(b))
				started(s.addr)
			}
			return nil
		}
		select {
		case err := <-exited:
			s.ended()
			return fmt.Errorf("the server did not start: %v; the end of its log: %s", err, s.logTail())
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-tick.C:
			if now.After(deadline) {
				return fmt.Errorf("the server did not serve within a minute; the end of its log: %s", s.logTail())
			}
		}
	}
}

func (s *server) data() string    { return filepath.Join(s.dir, "data") }
func (s *server) logFile() string { return filepath.Join(s.dir, "server.log") }

func (s *server) logTail() string {
	b, _ := os.ReadFile(s.logFile())
	return string(b[max(0, len(b)-2000):])
}

// kill is kill -9. It does nothing when no process is running.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.cmd.Process.Kill()
		<-s.exited
		s.ended()
	}
}

// ended takes note of a process that has ended. The caller holds mu.
func (s *server) ended() {
	s.used += s.cmd.ProcessState.UserTime() + s.cmd.ProcessState.SystemTime()
	s.cmd = nil
}

// cpu is the processor time of all processes that have ended.
func (s *server) cpu() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// stop asks the process to end and waits until it has. It is killed when that takes too long, which is an error.
func (s *server) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return errors.New("it was not running")
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(stopTime)
	defer limit.Stop()
	var err error
	select {
	case err = <-s.exited:
	case <-limit.C:
		s.cmd.Process.Kill()
		<-s.exited
		err = fmt.Errorf("it had not ended after %v", stopTime)
	}
	s.ended()
	return err
}

// died is the error with which the process ended by itself; nil when it did not.
func (s *server) died() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	select {
	case err := <-s.exited:
		s.ended()
		return fmt.Errorf("the server ended by itself: %v; the end of its log: %s", err, s.logTail())
	default:
		return nil
	}
}

// pid is the process's id, 0 when none is running.
func (s *server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// token is what inserting needs.
func (s *server) token() (string, error) {
	b, err := os.ReadFile(filepath.Join(s.data(), "admin.token"))
	return strings.TrimSpace(string(b)), err
}

// check runs killfeed check on the data, which no server may have open.
func (s *server) check(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, s.binary, "check", "--data", s.data()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// errorsLogged returns the lines of the server's log that tell of errors, or of a panic, which is none of its log.
func (s *server) errorsLogged() (wrong []string, err error) {
	b, err := os.ReadFile(s.logFile())
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, `"level":"ERROR"`) {
			wrong = append(wrong, line)
		}
	}
	return wrong, nil
}

// memory is the resident memory of a process in bytes, now and at its peak; zeros when there is none.
func memory(pid int) (now, peak int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		to := &now
		rest, ok := strings.CutPrefix(line, "VmRSS:")
		if !ok {
			to = &peak
			if rest, ok = strings.CutPrefix(line, "VmHWM:"); !ok {
				continue
			}
		}
		kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		*to = kb << 10
	}
	return now, peak
}
