//go:build unix

package doctest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is something that was started. It and whatever it started in turn is ended with the test.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed behind err
	err   error

	mu       sync.Mutex   // guards the rest
	out      bytes.Buffer // standard output, and standard error unless that is apart
	errorOut bytes.Buffer // standard error when it is apart
	// wake is closed and replaced when out grows.
	wake chan struct{}
}

// start starts a process in a group of its own. apart: its standard error is no part of its text.
func start(t *testing.T, dir string, env []string, apart bool, name string, args ...string) (*process, io.Writer) {
	t.Helper()
	p := &process{ended: make(chan struct{}), wake: make(chan struct{})}
	p.cmd = exec.Command(name, args...)
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if apart {
		p.cmd.Stderr = writer(func(b []byte) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.errorOut.Write(b)
		})
	}
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

type writer func(b []byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
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

// errors is what it wrote to a standard error that is apart, as the end of a message.
func (p *process) errors() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.errorOut.Len() == 0 {
		return ""
	}
	return "\n\nand to standard error\n" + p.errorOut.String()
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
