//go:build unix

package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a program that was started. It ends with the test.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // closed behind err
	err   error

	mu     sync.Mutex // guards the rest
	stderr bytes.Buffer
	// lines are those of the standard output that nobody has taken, by the channel that they name.
	lines map[string][]json.RawMessage
	other []string // lines that are no JSON
	// wake is closed and replaced when a line comes.
	wake chan struct{}
}

func start(t *testing.T, name string, args ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{}), wake: make(chan struct{}), lines: map[string][]json.RawMessage{}}
	p.cmd = exec.Command(name, args...)
	p.cmd.Env = environment()
	p.cmd.WaitDelay = time.Second
	p.cmd.Stderr = writer(func(b []byte) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stderr.Write(b)
	})
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		p.read(stdout)
		p.err = p.cmd.Wait()
		close(p.ended)
	})
	t.Cleanup(func() {
		p.stdin.Close()
		p.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
		select {
		case <-p.ended:
		case <-time.After(patience):
			t.Errorf("%s does not end and is killed", name)
			p.cmd.Process.Kill()
		}
		running.Wait()
		if t.Failed() {
			t.Logf("%s: %v\n%s", name, p.err, p.said())
		}
	})
	return p
}

type writer func(b []byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// read takes in lines until there are no more.
func (p *process) read(stdout io.Reader) {
	r := bufio.NewReader(stdout)
	for {
		text, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		var names struct{ Channel string }
		valid := json.Unmarshal(text, &names) == nil
		p.mu.Lock()
		if valid {
			p.lines[names.Channel] = append(p.lines[names.Channel], text)
		} else {
			p.other = append(p.other, string(text))
		}
		close(p.wake)
		p.wake = make(chan struct{})
		p.mu.Unlock()
	}
}

// said is all that it printed and nobody has taken.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, lines := range p.lines {
		for _, text := range lines {
			b.Write(text)
		}
	}
	for _, text := range p.other {
		b.WriteString(text)
	}
	b.Write(p.stderr.Bytes())
	return b.String()
}

// do gives a script a command.
func (p *process) do(t *testing.T, command map[string]any) {
	t.Helper()
	text, err := json.Marshal(command)
	if err == nil {
		_, err = p.stdin.Write(append(text, '\n'))
	}
	if err != nil {
		t.Fatalf("telling the script %s: %v", text, err)
	}
}

// take takes the next line of a channel into v.
func (p *process) take(t *testing.T, channel string, v any) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		p.mu.Lock()
		lines, wake := p.lines[channel], p.wake // the bell before the look
		if len(lines) > 0 {
			p.lines[channel] = lines[1:]
		}
		p.mu.Unlock()
		if len(lines) > 0 {
			if err := json.Unmarshal(lines[0], v); err != nil {
				t.Fatalf("%v in %s", err, lines[0])
			}
			return
		}
		select {
		case <-wake:
		case <-p.ended:
			t.Fatalf("%s has ended: %v", filepath.Base(p.cmd.Path), p.err)
		case <-limit.C:
			t.Fatalf("%s says nothing more of %q", filepath.Base(p.cmd.Path), channel)
		}
	}
}

// silence waits, through which nothing may be said of a channel.
func (p *process) silence(t *testing.T, channel string, pause time.Duration) {
	t.Helper()
	select {
	case <-p.ended:
		t.Fatalf("%s has ended: %v", filepath.Base(p.cmd.Path), p.err)
	case <-time.After(pause):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.lines[channel] {
		t.Errorf("%s, unasked", text)
	}
}

// expect takes the next line of a channel, which has to be this.
func (p *process) expect(t *testing.T, channel, on string) line {
	t.Helper()
	var l line
	p.take(t, channel, &l)
	if l.On != on {
		t.Fatalf("next of %q is %+v, want %q", channel, l, on)
	}
	return l
}
