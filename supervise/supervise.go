// Package supervise runs the program's services and runs each again when it fails.
//
// It guarantees that a service that returns an error or panics is started again, after a pause that doubles from failure to
// failure up to five minutes and begins anew once the service has run well for that long; that the other services do not
// notice; and that Run returns only when every service has ended. A service that returns nil is done and stays ended.
//
// What callers owe: a service ends soon after its context does, and does not leave goroutines behind.
//
// Restarting is done by suture; the pauses, and what there is to know about a service, are this package's.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/thejerf/suture/v4"
)

const (
	// firstPause follows the first failure, longestPause is where doubling ends.
	firstPause   = time.Second
	longestPause = 5 * time.Minute
)

// State is what a service does.
type State string

const (
	// Running: it was started and has not ended.
	Running State = "running"
	// Pausing: it failed and waits to be started again.
	Pausing State = "pausing"
	// Done: it ended by itself, or with the program.
	Done State = "done"
)

// Status tells how a service is doing.
type Status struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	// Since is when it came into the state.
	Since time.Time `json:"since"`
	// Restarts counts how often it was started again.
	Restarts int `json:"restarts"`
	// LastError is how it failed last, and FailedAt when; empty when it never did.
	LastError string     `json:"last_error,omitempty"`
	FailedAt  *time.Time `json:"failed_at,omitempty"`
	// NextStart is when a pausing service is started again.
	NextStart *time.Time `json:"next_start,omitempty"`
}

// Tree is a set of services. Add them, then call Run; services may also be added while it runs.
type Tree struct {
	log  *slog.Logger
	root *suture.Supervisor

	mu       sync.Mutex // guards services; held for an append or a copy
	services []*service
}

// New makes an empty Tree.
func New(log *slog.Logger) *Tree {
	t := &Tree{log: log}
	t.root = suture.New("killfeed", suture.Spec{
		// The pauses are made by the services themselves, each for itself: suture's own holds up all that share a
		// supervisor.
		FailureThreshold: 1e9,
		// A panic in here would end the process, so it only hands on to slog, which does not.
		EventHook: t.observe,
		Timeout:   30 * time.Second,
	})
	return t
}

// Add adds a service. Names are unique.
func (t *Tree) Add(name string, run func(ctx context.Context) error) {
	s := &service{tree: t, name: name, run: run, status: Status{Name: name, State: Running, Since: time.Now().UTC()}}
	t.mu.Lock()
	t.services = append(t.services, s)
	t.mu.Unlock()
	t.root.Add(s)
}

// Run runs the services until ctx ends and all have ended.
func (t *Tree) Run(ctx context.Context) error {
	err := t.root.Serve(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Status returns how each service is doing, by name.
func (t *Tree) Status() []Status {
	t.mu.Lock()
	services := slices.Clone(t.services)
	t.mu.Unlock()
	out := make([]Status, len(services))
	for i, s := range services {
		out[i] = s.get()
	}
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// observe logs what only suture knows. Failures of services are logged where they are paused.
func (t *Tree) observe(e suture.Event) {
	if e.Type() == suture.EventTypeStopTimeout {
		t.log.Error("a service did not end in time", "event", e.String())
	}
}

// service is one service as suture sees it.
type service struct {
	tree *Tree
	name string
	run  func(ctx context.Context) error

	failures int // in a row; owned by Serve, which suture runs once at a time

	mu     sync.Mutex // guards status; held for a copy
	status Status
}

// String is the service's name. Suture would otherwise print all of it to have one, without asking for mu.
func (s *service) String() string { return s.name }

// Serve runs the service once. It pauses first when the service failed before.
func (s *service) Serve(ctx context.Context) (err error) {
	if s.failures > 0 {
		if !s.pause(ctx) {
			s.set(func(st *Status) { st.State = Done })
			return suture.ErrDoNotRestart
		}
	}
	started := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		switch {
		case ctx.Err() != nil, err == nil, errors.Is(err, suture.ErrDoNotRestart):
			s.set(func(st *Status) { st.State = Done })
			err = suture.ErrDoNotRestart
			return
		}
		if time.Since(started) >= longestPause {
			s.failures = 0
		}
		s.failures++
		s.failed(err)
	}()
	return s.run(ctx)
}

// failed notes and logs a failure. The stack of a panic goes to the log only.
func (s *service) failed(err error) {
	text := err.Error()
	first, _, _ := strings.Cut(text, "\n")
	s.set(func(st *Status) {
		now := time.Now().UTC()
		st.LastError, st.FailedAt = first, &now
	})
	s.tree.log.Error("a service failed and will be started again", "service", s.status.Name, "failures_in_a_row", s.failures, "err", text)
}

// pause waits until the service may be started again; false when ctx ended before.
func (s *service) pause(ctx context.Context) bool {
	d := firstPause << min(s.failures-1, 16)
	d = min(d, longestPause)
	d += rand.N(d / 4) // so that several that fail together do not come back together
	next := time.Now().Add(d).UTC()
	s.set(func(st *Status) { st.State, st.NextStart = Pausing, &next })
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	s.set(func(st *Status) {
		st.State, st.NextStart = Running, nil
		st.Restarts++
	})
	return true
}

func (s *service) set(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.status.State
	change(&s.status)
	if s.status.State != before {
		s.status.Since = time.Now().UTC()
	}
}

func (s *service) get() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}
