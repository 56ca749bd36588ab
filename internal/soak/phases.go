//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// phase is a part of the run. In every other one the bad subscribers are there; what the healthy ones see in both is compared.
type phase struct {
	bad bool
	// calm phases have no kill but at their end: a subscriber is cut off for being slow only when the server lives so long.
	calm     bool
	latency  [2]histogram // beside bursts and around them
	measured time.Duration
}

const (
	// before is how long before a kill nothing is measured any more: what was sent until then should have arrived.
	before = time.Second
	// backWithin is how long all healthy subscribers may take to be back after a restart.
	backWithin = 60 * time.Second
	// headWithin is how long everybody may take to come to the head at the end. The slow ones are far behind.
	headWithin = 3 * time.Minute
	// termEvery is how many restarts there are for each with SIGTERM.
	termEvery = 4
)

// storm is one restart and what came of it.
type storm struct {
	at      time.Duration // since the beginning
	signal  string
	stopped time.Duration // until the process had ended
	serving time.Duration // from then until the next one served
	back    time.Duration // from then until all healthy subscribers were joined
	refused int           // answers 503 and 429
}

// run is the whole of it. An error says why it could not go on; broken promises are in the oracle.
func (w *world) run(ctx context.Context) error {
	w.newClient()
	if err := w.server.start(ctx, w.gate.begin); err != nil {
		return err
	}
	clients, endClients := context.WithCancel(ctx)
	hard, endHard := context.WithCancel(ctx)
	var everybody, loading sync.WaitGroup
	defer func() {
		endHard()
		endClients()
		loading.Wait()
		everybody.Wait()
	}()
	for _, s := range w.subscribers {
		if s.manner == healthy {
			everybody.Go(func() { s.run(clients) })
		}
	}
	everybody.Go(func() { w.look(clients) })
	everybody.Go(func() { w.report(clients) })
	if !w.awaitBack(ctx) {
		return context.Cause(ctx)
	}
	w.underway = true
	soft, endSoft := context.WithCancel(hard)
	defer endSoft()
	loading.Go(func() { w.load.steady(soft, hard) })
	pause(ctx, w.config.settling)

	kills := newKills(w.config, time.Now())
	for i, p := range w.phases {
		endBad := func() {}
		if p.bad {
			endBad = w.startBad(clients)
		}
		err := w.phase(ctx, i, p, kills, func() { loading.Go(func() { w.load.burst(hard) }) })
		endBad()
		if err != nil {
			return err
		}
		w.verify(false)
	}

	endSoft()
	if !within(ctx, backWithin, loading.Wait) {
		return errors.Join(context.Cause(ctx), errors.New("inserts were not answered to the end"))
	}
	for _, s := range w.subscribers {
		if s.manner != healthy {
			s.hurry.Store(true)
			everybody.Go(func() { s.run(clients) })
		}
	}
	return w.finish(ctx)
}

// within waits for f, and returns false when it takes too long. f goes on then.
func within(ctx context.Context, limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() { // ends with f, which the caller sees to
		defer close(done)
		f()
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
	case <-ctx.Done():
	}
	return false
}

// startBad connects the bad subscribers. The function that it returns ends their connections and waits until they have.
func (w *world) startBad(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	w.badNow.Store(true)
	var bad sync.WaitGroup
	for _, s := range w.subscribers {
		if s.manner != healthy {
			bad.Go(func() { s.run(ctx) })
		}
	}
	return func() {
		cancel()
		bad.Wait()
		w.badNow.Store(false)
	}
}

// kills is when the server is killed.
type kills struct {
	every time.Duration // on the average; 0: never
	next  time.Time
	count int
	rnd   *rand.Rand
}

func newKills(c config, from time.Time) *kills {
	k := &kills{every: c.killEvery, rnd: rand.New(rand.NewPCG(c.seed, 5))}
	k.plan(from)
	return k
}

// plan draws the time of the next kill: from two thirds to four thirds of the average on.
func (k *kills) plan(from time.Time) {
	if k.every > 0 {
		k.next = from.Add(k.every*2/3 + time.Duration(k.rnd.Int64N(int64(k.every)*2/3)))
	}
}

// due tells whether it is time for a kill.
func (k *kills) due() bool { return k.every > 0 && !time.Now().Before(k.next) }

// phase is one phase. burst begins a burst of inserts.
func (w *world) phase(ctx context.Context, i int, p *phase, k *kills, burst func()) error {
	start := time.Now()
	end := start.Add(w.config.phase)
	every := w.config.burstEvery
	nextBurst := start.Add(every / 2)
	measureFrom := start.Add(w.config.settling)
	var measuring time.Time
	measure := func(on bool) {
		switch {
		case on && measuring.IsZero():
			measuring = time.Now()
			w.load.sample.Store(int32(2 * i))
		case !on && !measuring.IsZero():
			w.load.sample.Store(unmeasured)
			p.measured += time.Since(measuring)
			measuring = time.Time{}
		}
	}
	defer measure(false)
	for pause(ctx, 20*time.Millisecond) {
		now := time.Now()
		died := w.server.died()
		if died != nil {
			w.oracle.violate(promiseStop, "%v", died)
		}
		switch {
		case !now.Before(end):
			measure(false)
			if k.due() || died != nil {
				return w.restart(ctx, k)
			}
			return nil
		case k.due() && !p.calm, died != nil:
			measure(false)
			if err := w.restart(ctx, k); err != nil {
				return err
			}
			measureFrom = time.Now().Add(w.config.settling)
		case !now.Before(nextBurst):
			if now.Sub(nextBurst) < time.Second { // not those that a restart has held up
				burst()
			}
			nextBurst = nextBurst.Add(every)
		case !now.Before(measureFrom):
			measure(true)
		}
	}
	return context.Cause(ctx)
}

// restart kills the server, or asks it to stop, and starts it again.
func (w *world) restart(ctx context.Context, k *kills) error {
	pause(ctx, before)
	k.count++
	st := storm{at: time.Since(began), signal: "KILL"}
	refused := w.refusals()
	from := time.Now()
	if k.count%termEvery == 1 && w.server.pid() != 0 {
		st.signal = "TERM"
		w.drain()
		w.gate.close()
	} else {
		w.gate.close()
		w.server.kill()
	}
	st.stopped = time.Since(from)
	from = time.Now()
	w.newClient()
	if err := w.server.start(ctx, w.gate.begin); err != nil {
		return err
	}
	st.serving = time.Since(from)
	if !w.awaitBack(ctx) {
		return context.Cause(ctx)
	}
	st.back, st.refused = time.Since(from), w.refusals()-refused
	w.storms = append(w.storms, st)
	k.plan(time.Now())
	return nil
}

// drain asks the server to stop, and waits until it has.
func (w *world) drain() {
	w.drained.Store(w.gate.lifeNow())
	if err := w.server.stop(); err != nil {
		w.oracle.violate(promiseStop, "%v; the end of its log: %s", err, w.server.logTail())
	}
}

func (w *world) refusals() int { return w.ends.of("refused 503") + w.ends.of("refused 429") }

// awaitBack waits until all healthy subscribers are joined, and returns false when ctx ended first.
func (w *world) awaitBack(ctx context.Context) bool {
	_, all := w.gate.there()
	t := time.NewTimer(backWithin)
	defer t.Stop()
	select {
	case <-all:
	case <-t.C:
		count, _ := w.gate.there()
		w.oracle.violate(promiseBack, "%d of %d healthy subscribers were joined within %v", count, w.healthy, backWithin)
	case <-ctx.Done():
		return false
	}
	return true
}

// finish brings everybody to the head of the log, compares, and stops the server.
func (w *world) finish(ctx context.Context) error {
	head, err := w.head(ctx)
	if err != nil {
		return err
	}
	w.oracle.complete(head)
	head = min(head, w.oracle.through()) // nobody knows what is in the rest; it was told
	for deadline := time.Now().Add(headWithin); ; {
		events, subscribers, one := w.missing(head)
		if events == 0 {
			break
		}
		if time.Now().After(deadline) {
			w.oracle.violate(promiseBack, "%d events were yet to come to %d subscribers after %v, one of them %s",
				events, subscribers, headWithin, one)
			break
		}
		if !pause(ctx, 500*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	if !pause(ctx, w.config.settling) { // for what is too much to come
		return context.Cause(ctx)
	}
	w.verify(true)
	w.gate.close() // nobody comes back
	w.drain()
	if err := w.server.check(ctx); err != nil {
		w.oracle.violate(promiseCheck, "%v", err)
	}
	wrong, err := w.server.errorsLogged()
	for _, line := range wrong {
		w.oracle.violate(promiseLog, "%s", line)
	}
	return err
}

// head is the last event of the log, as the server says.
func (w *world) head(ctx context.Context) (uint64, error) {
	resp, err := w.send(ctx, http.MethodGet, "/api/status", nil, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var st struct{ Log struct{ Head uint64 } }
	if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
		return 0, fmt.Errorf("the server's status: %w", err)
	}
	return st.Log.Head, nil
}
