package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"killfeed"
)

// registry is one record that all have, in its true order.
type registry struct {
	mu      sync.Mutex
	newest  uint64
	history []revision
}

func (r *registry) now() revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.history) == 0 {
		return revision{key: keyLeader, gone: true}
	}
	return r.history[len(r.history)-1]
}

func (r *registry) land(w write) outcome {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.rev != w.rev && (!w.absent || !now.gone) {
		return outcome{stored: slices.Contains(now.ids, w.id), now: now}
	}
	r.newest++
	r.history = append(r.history, revision{key: w.key, rev: r.newest, gone: w.drop, ids: w.ids(), value: w.value})
	return outcome{stored: true, rev: r.newest, ids: w.ids()}
}

// wire is a node's way to the registry. It delays, loses what is said in either direction, and may lead to a server that is behind.
type wire struct {
	*registry
	name string
	sent int

	mu    sync.Mutex
	delay func() time.Duration
	// requests and replies are lost; reads are of the state of some writes ago.
	requests, replies bool
	behind            int
}

func (w *wire) set(requests, replies bool, behind int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests, w.replies, w.behind = requests, replies, behind
}

func (w *wire) is() (there, back time.Duration, requests, replies bool, behind int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.delay(), w.delay(), w.requests, w.replies, w.behind
}

func (w *wire) nextID() string {
	w.sent++
	return fmt.Sprintf("%s-%d", w.name, w.sent)
}

func (w *wire) lastRev(context.Context) (uint64, error) {
	w.registry.mu.Lock()
	defer w.registry.mu.Unlock()
	return w.newest, nil
}

func (w *wire) last(ctx context.Context, _ string) (e revision, err error) {
	there, back, requests, replies, behind := w.is()
	e, err = revision{}, killfeed.ErrUnavailable
	if requests || replies {
		<-ctx.Done()
		return e, err
	}
	if !rest(ctx, there) {
		return e, err
	}
	w.registry.mu.Lock()
	e = revision{key: keyLeader, gone: true}
	if n := len(w.history) - behind; n > 0 {
		e = w.history[n-1]
	}
	w.registry.mu.Unlock()
	if !rest(ctx, back) {
		return revision{}, err
	}
	return e, nil
}

// swap sends once; a write may land long after its sender has given up.
func (w *wire) swap(ctx context.Context, wr write) (outcome, error) {
	there, back, requests, replies, _ := w.is()
	answer := make(chan outcome, 1)
	if !requests {
		time.AfterFunc(there, func() {
			o := w.land(wr)
			if !replies {
				time.AfterFunc(back, func() { answer <- o })
			}
		})
	}
	select {
	case o := <-answer:
		return o, nil
	case <-ctx.Done():
		return outcome{}, killfeed.ErrOutcomeUnknown
	}
}

func rest(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// arbiter sees who leads, and that nobody else does.
type arbiter struct {
	t     *testing.T
	mu    sync.Mutex
	who   string
	under context.Context
	term  uint64
	turns int
}

// work is what a leader does: it is there until its lease ends.
func (a *arbiter) work(name string, l *lease) func(context.Context) error {
	return func(ctx context.Context) error {
		a.mu.Lock()
		if a.under != nil && a.under.Err() == nil {
			a.t.Errorf("at %v %s leads, and %s still does", time.Now(), name, a.who)
		}
		if term := l.term(); term != 0 && term <= a.term {
			a.t.Errorf("%s leads with term %d after term %d", name, term, a.term)
		} else if term != 0 {
			a.term = term
		}
		a.who, a.under = name, ctx
		a.turns++
		a.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
}

func (a *arbiter) leader() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.under == nil || a.under.Err() != nil {
		return ""
	}
	return a.who
}

// candidate is a node that wants the lease.
type candidate struct {
	*lease
	wire *wire
	kill context.CancelFunc // as kill -9, but for the wire
	done errgroup.Group
}

func newCandidate(a *arbiter, name, process string, r *registry, delay func() time.Duration) *candidate {
	c := &candidate{wire: &wire{registry: r, name: process, delay: delay}}
	c.lease = newLease(c.wire, Options{Node: name, Logger: slog.New(slog.DiscardHandler)}.filled(), process)
	ctx, cancel := context.WithCancel(context.Background())
	c.kill = cancel
	c.done.Go(func() error { return c.run(ctx) })
	c.done.Go(func() error { return c.lead(ctx, a.work(name, c.lease)) })
	return c
}

func candidates(a *arbiter, n int, r *registry, delay func() time.Duration) []*candidate {
	list := make([]*candidate, n)
	for i := range list {
		name := fmt.Sprintf("node%d", i)
		list[i] = newCandidate(a, name, name+"-run", r, delay)
	}
	return list
}

// TestOneLeader: whatever is lost or late on the way, two never lead at once, and terms rise; and when nothing is lost, one does lead.
func TestOneLeader(t *testing.T) {
	turns := 0
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			var mu sync.Mutex
			n := func(max int) int {
				mu.Lock()
				defer mu.Unlock()
				return rnd.IntN(max)
			}
			var slow atomic.Bool
			slow.Store(n(2) == 0)
			delay := func() time.Duration {
				if slow.Load() && n(10) == 0 {
					return time.Duration(n(20_000)) * time.Millisecond
				}
				return time.Duration(n(300)) * time.Millisecond
			}
			a, r := &arbiter{t: t}, &registry{}
			list := candidates(a, 4, r, delay)
			for range 200 {
				c := list[n(len(list))]
				switch n(6) {
				case 0:
					c.wire.set(true, true, 0)
				case 1:
					c.wire.set(false, true, 0)
				case 2:
					c.wire.set(true, false, n(3))
				case 3:
					c.wire.set(false, false, n(4))
				default:
					c.wire.set(false, false, 0)
				}
				if n(40) == 0 { // somebody deletes the record
					r.land(write{key: keyLeader, rev: r.now().rev, drop: true, id: "by hand"})
				}
				time.Sleep(time.Duration(n(9000)) * time.Millisecond)
			}
			slow.Store(false)
			for _, c := range list {
				c.wire.set(false, false, 0)
			}
			time.Sleep(time.Minute)
			leader := a.leader()
			if leader == "" {
				t.Errorf("nobody leads although all are well")
			}
			for _, c := range list {
				if err := c.leads(); (err == nil) != (c.node == leader) || err != nil && !errors.Is(err, killfeed.ErrNotLeader) {
					t.Errorf("%s leads, and %s says %v", leader, c.node, err)
				}
				c.kill()
			}
			for _, c := range list {
				if err := c.done.Wait(); err != nil {
					t.Error(err)
				}
			}
			turns += a.turns
			time.Sleep(time.Minute) // for what is still on its way
		})
	}
	t.Logf("%d changes of the leader", turns)
	if turns < 200 {
		t.Errorf("with %d changes of the leader little was tested", turns)
	}
}

// TestTakeOver: when the leader vanishes another one leads within 10 seconds, and at once when it was closed.
func TestTakeOver(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed %v", closed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &arbiter{t: t}
				list := candidates(a, 3, &registry{}, func() time.Duration { return 10 * time.Millisecond })
				for round := range 20 {
					time.Sleep(30*time.Second + time.Duration(rand.N(3000))*time.Millisecond)
					old := a.leader()
					i := slices.IndexFunc(list, func(c *candidate) bool { return c.node == old })
					if i < 0 {
						t.Fatal("nobody leads")
					}
					began := time.Now()
					list[i].kill()
					if err := list[i].done.Wait(); err != nil {
						t.Error(err)
					}
					limit := 10 * time.Second
					if closed {
						list[i].giveUp(t.Context())
						limit = 1100 * time.Millisecond
					}
					for a.leader() == "" {
						time.Sleep(10 * time.Millisecond)
					}
					if took := time.Since(began); took > limit {
						t.Errorf("%s took over after %v, want at most %v", a.leader(), took, limit)
					}
					list[i] = newCandidate(a, old, fmt.Sprint(old, round), list[i].wire.registry, list[i].wire.delay)
				}
				for _, c := range list {
					c.kill()
					if err := c.done.Wait(); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestLeaseOnServers is the lease where it really stands: one leads, over changes of the servers' leaders, and another one when that one
// is closed.
func TestLeaseOnServers(t *testing.T) {
	f := newFeed(t, 3)
	a := &arbiter{t: t}
	type member struct {
		*lease
		end  func()
		done *errgroup.Group
	}
	list := make([]member, 3)
	for i := range list {
		o := f.options().filled()
		o.Node = fmt.Sprintf("node%d", i)
		l := newLease(f.newTestBucket(f.Conn(t)), o, o.Node)
		ctx, cancel := context.WithCancel(t.Context())
		done := &errgroup.Group{}
		done.Go(func() error { return l.run(ctx) })
		done.Go(func() error { return l.lead(ctx, a.work(o.Node, l)) })
		list[i] = member{l, cancel, done}
	}
	for i := range 2 {
		until(t, "one leads", func() bool { return a.leader() != "" })
		f.Stepdown("KV_killfeed")
		f.Stop(i)
		f.Restart(i)
	}
	old := ""
	until(t, "one leads", func() bool { old = a.leader(); return old != "" })
	for i := range list {
		if list[i].node == old {
			list[i].end()
			if err := list[i].done.Wait(); err != nil {
				t.Error(err)
			}
			list[i].giveUp(t.Context())
		}
	}
	until(t, "another one leads", func() bool { is := a.leader(); return is != "" && is != old })
	for i := range list {
		list[i].end()
		if err := list[i].done.Wait(); err != nil {
			t.Error(err)
		}
	}
}
