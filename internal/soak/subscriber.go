//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"
)

// subscriber is one client: a connection that comes back whenever it ends, and the feeds on it.
type subscriber struct {
	world     *world
	index     int
	name      string // for messages
	transport transport
	manner    manner
	feeds     []*feed

	delivered atomic.Int64         // events
	heard     atomic.Int64         // when something came last, on the clock of now
	conn      atomic.Pointer[conn] // nil between sessions, and for those that poll
	talk      atomic.Pointer[talk] // nil unless it is a WebSocket
	hurry     atomic.Bool          // a bad one reads on as a healthy one does
	life      atomic.Int64         // of the server, in which it was joined last
	trying    int64                // life of the server when the session began; owned by its goroutine

	// Owned by its goroutine, of those that are not healthy.
	rest   time.Duration // slow: the pause behind each event
	naps   nap           // stalled: what for
	until  time.Time     // stalled: when it stops reading again
	napped bool          // stalled: it has stopped for longer than the server takes, in this session
	cut    bool          // stalled: which ended the last session
}

// manner is how a subscriber reads.
type manner int

const (
	healthy manner = iota // as fast as it can
	slow                  // at half the speed at which events come, for ever behind
	stalled               // not at all, for long stretches
)

var mannerNames = [...]string{"healthy", "slow", "stalled"}

// nap is what a stalled subscriber does.
type nap int

const (
	napShort  nap = iota // stops for 10 to 30 s, then reads on
	napCut               // stops until about the time that the server has had enough of it and says so
	napBeyond            // stops for longer: its connection is gone by then
	naps
)

const (
	// cutFrom is when the server gives up who takes nothing. It counts from the last byte that its side of the connection took,
	// which the kernel may do for some 20 seconds after the other side has stopped reading, and it looks now and then only: by
	// cutUntil it is over. Until five seconds after the cut it waits for its close frame to be taken.
	cutFrom, cutUntil = 60 * time.Second, 84 * time.Second
	// readsFor is how long a stalled subscriber reads between two naps.
	readsFor = 4 * time.Second
)

// length draws the length of a nap.
func (n nap) length() time.Duration {
	switch n {
	case napCut:
		return cutFrom + 11*time.Second + rand.N(cutUntil-cutFrom-11*time.Second)
	case napBeyond:
		return cutUntil + rand.N(5*time.Second)
	}
	return 10*time.Second + rand.N(20*time.Second)
}

// pace has bad subscribers be bad. It is called after what was read, when all feeds are joined.
func (s *subscriber) pace(ctx context.Context, event bool) {
	if s.manner == healthy || s.hurry.Load() {
		return
	}
	if s.manner == slow {
		if event {
			pause(ctx, s.rest)
		}
		return
	}
	now := time.Now()
	switch {
	case s.until.IsZero() && s.cut: // it comes back and catches up first
		s.cut = false
		s.until = now.Add(readsFor)
	case s.until.IsZero() || now.After(s.until):
		d := s.naps.length()
		s.napped = d > cutFrom
		s.world.napping.Add(1)
		pause(ctx, d)
		s.world.napping.Add(-1)
		s.until = time.Now().Add(readsFor)
	}
}

// run connects again and again until ctx ends.
func (s *subscriber) run(ctx context.Context) {
	w := s.world
	s.cut = false
	if s.manner == stalled && !s.hurry.Load() && !pause(ctx, rand.N(2*readsFor)) { // not all fall asleep in the same moment
		return
	}
	for {
		life, ok := w.gate.wait(ctx)
		if !ok {
			return
		}
		s.trying, s.until, s.napped = life, time.Time{}, false
		err := s.session(ctx)
		s.heard.Store(0)
		s.over(ctx, err)
		if !pause(ctx, s.comeBack(err)) {
			return
		}
	}
}

// arrived notes that all feeds are joined.
func (s *subscriber) arrived() {
	if s.life.Swap(s.trying) != s.trying && s.manner == healthy {
		s.world.gate.arrived(s.trying)
	}
}

// over ends a session.
func (s *subscriber) over(ctx context.Context, err error) {
	w := s.world
	e := ending{at: now(), most: uint64(w.oracle.made.Load()), clean: w.drained.Load() == s.trying}
	end := endOf(err)
	var frame *closed
	switch isFrame := errors.As(err, &frame); {
	case ctx.Err() != nil:
		end, e.clean = "own", false
	case isFrame:
		// Whoever is cut off for being slow must have been, and nobody is cut off for anything else.
		allowed := frame.code == 1012 && e.clean || frame.code == 1013 && s.manner != healthy
		if !allowed {
			w.oracle.violate(promiseFrames, "%s: was closed with %d %q", s.name, frame.code, frame.reason)
		}
	case s.transport == socketV2, s.transport == socketV1, err != io.EOF:
		e.clean = false // it was cut
	}
	var no *refused
	if errors.As(err, &no) {
		if no.status != http.StatusServiceUnavailable && no.status != http.StatusTooManyRequests {
			w.oracle.violate(promiseRefused, "%s: %v", s.name, no)
		}
	}
	s.cut = s.napped && ctx.Err() == nil && w.gate.serves(s.trying) && w.drained.Load() != s.trying
	if s.cut {
		end = "cut " + end
	}
	w.ends.add(mannerNames[s.manner], end)
	for _, f := range s.feeds {
		f.ended(e)
	}
}

// comeBack is how long to wait before the next session.
func (s *subscriber) comeBack(err error) time.Duration {
	var no *refused
	switch {
	case errors.As(err, &no):
		return max(no.after, 500*time.Millisecond) + rand.N(200*time.Millisecond)
	case s.trying == s.life.Load(): // it was joined: the connection has just ended
		return rand.N(20 * time.Millisecond)
	}
	return 20*time.Millisecond + rand.N(100*time.Millisecond)
}
