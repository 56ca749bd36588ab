//go:build linux

package main

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// load hands in killmails: one at a time at a steady rate, and bursts of many in one request.
type load struct {
	world *world
	// sample is which latencies count for what is sent, see phase; unmeasured.
	sample  atomic.Int32
	bursted atomic.Int64 // when the last burst was sent, on the clock of now

	mu    sync.Mutex // guards the rest
	maker *storetest.Maker
	rnd   *rand.Rand
}

// wake is how long after a burst others are counted with it.
const wake = 2 * time.Second

// make makes killmails, and returns fewer when there is no room for more.
func (l *load) make(n int) (mails []*mail) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range n {
		m := l.maker.NextMail()
		topics := m.Topics()
		for _, t := range topics { // who took part is asked for without a role as well
			if t.Kind.Role() != 0 {
				topics = append(topics, killfeed.Topic{Kind: t.Kind.Base(), ID: t.ID})
			}
		}
		topics = slices.DeleteFunc(topics, func(t killfeed.Topic) bool { return !l.world.asked[t] })
		one := l.world.oracle.add(m.System, slices.Clip(slices.Clone(topics)), m.AppendJSON(nil))
		if one == nil {
			break
		}
		mails = append(mails, one)
	}
	return mails
}

// gap is the time to the next killmail: the rate's, 30 % more or less.
func (l *load) gap() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration((0.7 + 0.6*l.rnd.Float64()) / l.world.config.rate * float64(time.Second))
}

// steady inserts at the rate until ctx ends. What it has begun to insert it inserts: hard is what ends that.
func (l *load) steady(ctx, hard context.Context) {
	next := time.Now()
	for {
		next = next.Add(l.gap())
		if late := time.Since(next); late > time.Second { // the server was away
			next = next.Add(late)
		}
		if !pause(ctx, time.Until(next)) {
			return
		}
		burst := int32(0)
		if now()-l.bursted.Load() < int64(wake) {
			burst = 1
		}
		l.insert(hard, l.make(1), burst)
	}
}

// burst inserts many at once.
func (l *load) burst(hard context.Context) {
	l.bursted.Store(now())
	l.insert(hard, l.make(l.world.config.burst), 1)
}

// insert inserts until that is acknowledged, over all the lives of the server that it takes.
func (l *load) insert(ctx context.Context, mails []*mail, burst int32) {
	var body []byte
	for _, m := range mails {
		body = append(append(body, m.json...), '\n')
	}
	for tries := 0; len(mails) > 0; tries++ {
		if _, ok := l.world.gate.wait(ctx); !ok {
			return
		}
		sample := l.sample.Load()
		if sample != unmeasured {
			sample += burst
		}
		if tries > 0 {
			sample = unmeasured // it may have been delivered already
		}
		at := now()
		for _, m := range mails {
			m.sample.Store(sample)
			m.sent.Store(at)
		}
		if l.post(ctx, mails, body) {
			return
		}
		pause(ctx, 30*time.Millisecond)
	}
}

// post sends killmails once, and returns whether they were acknowledged.
func (l *load) post(ctx context.Context, mails []*mail, body []byte) bool {
	o := l.world.oracle
	token, err := l.world.server.token()
	if err != nil {
		return false
	}
	resp, err := l.world.send(ctx, http.MethodPost, "/api/killmails", http.Header{"Authorization": {"Bearer " + token}}, body)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil, resp.StatusCode == http.StatusServiceUnavailable:
		return false
	case resp.StatusCode >= 300:
		o.violate(promiseRefused, "an insert of %d killmails: %d %.300s", len(mails), resp.StatusCode, b)
		return false
	}
	var answer struct {
		Results []struct {
			EventID uint64 `json:"event_id"`
			Error   string `json:"error"`
		} `json:"results"`
	}
	if err := json.Unmarshal(b, &answer); err != nil || len(answer.Results) != len(mails) {
		o.violate(promiseFrames, "an insert of %d killmails is answered with %.300q", len(mails), b)
		return false
	}
	for i, r := range answer.Results {
		if r.Error != "" {
			o.violate(promiseRefused, "killmail %d: %s", mails[i].id, r.Error)
			continue
		}
		o.acknowledged(mails[i].id, r.EventID)
		mails[i].json = nil
	}
	return true
}
