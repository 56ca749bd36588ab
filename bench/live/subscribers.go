//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// subscribers are many connections to one target. They cost next to nothing while they are idle: two readers wait for all of
// them in the kernel, and share one buffer each. A goroutine with a buffer for each connection would be woken as often, and
// need memory and scheduling that the server on the same cores then lacks.
//
// The methods are for one goroutine.
type subscribers struct {
	target  *target
	all     []*subscriber
	readers []*reader
	running sync.WaitGroup
	stop    context.CancelFunc
	round   *round // the last one begun; nil before

	failed chan error // cap 1: the first error of a reader
}

// reader reads from some of the subscribers.
type reader struct {
	poll   int // epoll file descriptor
	failed chan<- error

	mu    sync.Mutex // guards the rest, and the subscribers; held while a batch of what came is handled
	subs  []*subscriber
	round *round
	due   int // heartbeats sent and not yet answered
}

// round is a time in which every subscriber is to get a number of deliveries, no less and no more.
type round struct {
	want func(i int) int
	// lazy readers look once a millisecond, and then find more in each connection. That leaves the servers a quarter more of
	// the machine where only the end is timed; where every delivery is, it would show in each.
	lazy  bool
	total int64
	got   atomic.Int64
	end   atomic.Int64 // when the last one came, on the clock of now
	done  chan struct{}
}

const readers = 2

// connect connects n subscribers, the i-th with the given function.
func (t *target) connect(ctx context.Context, n int, subscribe func(i int, s *subscriber) error) (_ *subscribers, err error) {
	p := &subscribers{target: t, all: make([]*subscriber, n), failed: make(chan error, 1), stop: func() {}}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	g, ctx := errgroup.WithContext(ctx)
	const atOnce = 8
	for first := range atOnce {
		g.Go(func() error {
			for i := first; i < n; i += atOnce {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				err := politely(ctx, func() error {
					s, err := t.open(i)
					if err != nil {
						return err
					}
					if err := subscribe(i, s); err != nil {
						s.close()
						return err
					}
					p.all[i] = s
					return nil
				})
				if err != nil {
					return fmt.Errorf("subscriber %d: %w", i, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return p, p.run()
}

// run starts the readers, and the heartbeats that keep the connections from being closed as silent.
func (p *subscribers) run() error {
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	for k := range readers {
		poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			return os.NewSyscallError("epoll_create1", err)
		}
		r := &reader{poll: poll, failed: p.failed}
		p.readers = append(p.readers, r)
		for i := k; i < len(p.all); i += readers {
			s := p.all[i]
			event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(len(r.subs))}
			r.subs = append(r.subs, s)
			if err := syscall.SetNonblock(s.fd, true); err != nil {
				return os.NewSyscallError("fcntl", err)
			}
			if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, s.fd, &event); err != nil {
				return os.NewSyscallError("epoll_ctl", err)
			}
		}
	}
	for _, r := range p.readers {
		p.running.Go(func() { r.run(ctx) })
	}
	if p.target.beat != "" && !p.all[0].events {
		p.running.Go(func() { p.keepAlive(ctx) })
	}
	return nil
}

// close ends the connections.
func (p *subscribers) close() {
	p.stop()
	p.running.Wait()
	for _, r := range p.readers {
		syscall.Close(r.poll)
	}
	for _, s := range p.all {
		if s != nil {
			s.close()
		}
	}
}

// run reads until the context ends or something is wrong.
func (r *reader) run(ctx context.Context) {
	const look = 200 // milliseconds between looks at the context
	events := make([]syscall.EpollEvent, 512)
	buf := make([]byte, 128<<10)
	for ctx.Err() == nil {
		n, err := syscall.EpollWait(r.poll, events, look)
		if n <= 0 && (err == nil || err == syscall.EINTR) {
			continue
		}
		lazy := false
		if err == nil {
			lazy, err = r.read(events[:n], buf)
		}
		if err != nil {
			select {
			case r.failed <- err:
			default:
			}
			return
		}
		if lazy {
			nap := syscall.NsecToTimespec(1e6)
			syscall.Nanosleep(&nap, nil)
		}
	}
}

// read reads once from each connection that has something. What is left is found by the next wait, for which there is no
// hurry when lazy is true.
func (r *reader) read(events []syscall.EpollEvent, buf []byte) (lazy bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := 0
	for i := range events {
		s := r.subs[events[i].Fd]
		n, err := s.read(buf)
		if err != nil {
			return false, err
		}
		before := s.count
		if err := s.take(buf[:n]); err != nil {
			return false, err
		}
		got += s.count - before
		r.due -= s.beats
		s.beats = 0
	}
	if r.round != nil && got > 0 {
		r.round.add(int64(got))
	}
	return r.round != nil && r.round.lazy, nil
}

func (r *round) add(n int64) {
	if got := r.got.Add(n); got >= r.total && got-n < r.total {
		r.end.Store(now())
		close(r.done)
	}
}

// begin begins a round in which the i-th subscriber is to get want(i) deliveries. stamp notes when each of them came, check
// looks at their numbers. The round before must have brought exactly what it should have, which is told now: so what comes
// too often has had time to come.
func (p *subscribers) begin(want func(i int) int, stamp, check bool) error {
	if err := p.exact(); err != nil {
		return err
	}
	if err := p.beat(15 * time.Second); err != nil {
		return err
	}
	p.round = &round{want: want, lazy: !stamp, done: make(chan struct{})}
	for i := range p.all {
		p.round.total += int64(want(i))
	}
	for k, r := range p.readers {
		r.mu.Lock()
		for j, s := range r.subs {
			s.count, s.stamp, s.check, s.at, s.first = 0, stamp, check, s.at[:0], 0
			if n := want(k + j*readers); stamp && cap(s.at) < n {
				s.at = make([]int64, 0, n)
			}
		}
		r.round = p.round
		r.mu.Unlock()
	}
	return nil
}

// wait waits until the round has brought everything.
func (p *subscribers) wait(ctx context.Context, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.round.done:
		return nil
	case err := <-p.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errors.Join(fmt.Errorf("%s delivered %d of %d within %v", p.target.name, p.round.got.Load(), p.round.total, limit), p.exact())
	}
}

// exact checks that every subscriber got as much as the last round was to bring.
func (p *subscribers) exact() error {
	select {
	case err := <-p.failed:
		return err
	default:
	}
	for k, r := range p.readers {
		if err := r.exact(k); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) exact(k int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for j, s := range r.subs {
		if i := k + j*readers; r.round != nil && s.count != r.round.want(i) {
			return fmt.Errorf("subscriber %d of %s got %d deliveries, not %d", i, s.target.name, s.count, r.round.want(i))
		}
	}
	return nil
}

// beat sends heartbeats on the connections that have said nothing for that long, and waits until they are answered. Rounds are
// shorter than what keepAlive waits for, so none falls into them.
func (p *subscribers) beat(silent time.Duration) error {
	if p.target.beat == "" {
		return nil
	}
	for _, r := range p.readers {
		if err := r.beat(silent); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		due := 0
		for _, r := range p.readers {
			r.mu.Lock()
			due += r.due
			r.mu.Unlock()
		}
		if due == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s left %d heartbeats unanswered for %v", p.target.name, due, patience)
		}
	}
}

func (r *reader) beat(silent time.Duration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var message []byte
	for _, s := range r.subs {
		if now()-s.wrote >= int64(silent) {
			if message == nil {
				message = appendFrame(nil, opText, s.target.beat)
			}
			if err := s.write(message); err != nil {
				return err
			}
			r.due++
		}
	}
	return nil
}

// longest is how long a connection may say nothing: less than the minute after which servers give it up.
const longest = 45 * time.Second

func (p *subscribers) keepAlive(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, r := range p.readers {
			if err := r.beat(longest); err != nil {
				select {
				case p.failed <- err:
				default:
				}
				return
			}
		}
	}
}

// times are the times, rising, of all deliveries of a round that noted them.
func (p *subscribers) times() (at []int64) {
	for _, r := range p.readers {
		r.mu.Lock()
		for _, s := range r.subs {
			at = append(at, s.at...)
		}
		r.mu.Unlock()
	}
	slices.Sort(at)
	return at
}
