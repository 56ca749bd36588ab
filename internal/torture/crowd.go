package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"killfeed/storetest"
)

// crowd is everybody who uses the nodes.
type crowd struct {
	*fleet
	judge *judge

	inserters []*inserter
	readers   []*pointer
	seekers   []*mover
	live      []*subscriber
	// noMajority is when so many servers have gone that nothing can be stored, in Unix nanoseconds; 0 when most are there. phase counts
	// its changes.
	noMajority atomic.Int64
	phase      atomic.Int64
}

func newCrowd(f *fleet, j *judge, seed uint64) *crowd {
	c := &crowd{fleet: f, judge: j}
	random := func(n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }
	for i := range nodes + 2 {
		x := &inserter{crowd: c, rnd: random(100 + i), home: servers + i, maker: storetest.NewMaker(storetest.MakerOptions{
			Seed: seed + uint64(i), FirstID: int64(i+1) * 1_000_000_000, Systems: 20, Bytes: 900, Attackers: 2,
		})}
		if i >= nodes {
			x.home = 0 // all at once
		}
		c.inserters = append(c.inserters, x)
	}
	for i, kind := range []string{"next", "next", "next", "poll", "manual", "manual"} {
		c.readers = append(c.readers, &pointer{crowd: c, name: fmt.Sprintf("%s-%d", kind, i), kind: kind, rnd: random(200 + i)})
	}
	for i := range 2 {
		c.seekers = append(c.seekers, &mover{crowd: c, name: fmt.Sprintf("seeker-%d", i), rnd: random(300 + i)})
	}
	for i := range nodes + 1 {
		c.live = append(c.live, &subscriber{crowd: c, host: servers + i%nodes, rnd: random(400 + i)})
	}
	return c
}

// register makes the readers known before anything is inserted: what is removed before a client is known is not its loss.
func (c *crowd) register(ctx context.Context) error {
	for _, r := range c.readers {
		if err := r.step(ctx); err != nil {
			return fmt.Errorf("client %s is not served: %w", r.name, err)
		}
	}
	return nil
}

// start has everybody at work until ctx ends, inserters until inserting ends. The functions returned wait for them.
func (c *crowd) start(ctx, inserting context.Context) (inserted, all func()) {
	var inserts, others sync.WaitGroup
	for _, x := range c.inserters {
		inserts.Go(func() { x.run(ctx, inserting) })
	}
	loop := func(rnd *rand.Rand, least time.Duration, step func(context.Context) error) {
		others.Go(func() {
			for ctx.Err() == nil {
				pause := least
				if err := step(ctx); err != nil {
					pause += 20 * time.Millisecond
				}
				sleep(ctx, pause+upTo(rnd, pause+1))
			}
		})
	}
	for _, r := range c.readers {
		loop(r.rnd, r.pause(), r.step)
	}
	for _, s := range c.seekers {
		loop(s.rnd, 30*time.Millisecond, s.step)
	}
	h := &headReader{crowd: c, rnd: rand.New(rand.NewPCG(7, uint64(c.judge.began.UnixNano())))}
	loop(h.rnd, 20*time.Millisecond, h.step)
	for _, s := range c.live {
		others.Go(func() { s.run(ctx) })
	}
	return inserts.Wait, others.Wait
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func someNode(rnd *rand.Rand) int { return servers + rnd.IntN(nodes) }

// failed sorts out an error: without an answer, or with one that says to come again, all is well. It returns err.
func (c *crowd) failed(ctx context.Context, who string, status int, err error) error {
	if ctx.Err() != nil {
		return err
	}
	switch {
	case errors.Is(err, errServer):
		c.judge.violate("refused", "%s: %v", who, err)
	case status == 0:
		c.judge.count("requests without an answer", 1)
	case status == http.StatusServiceUnavailable:
		c.judge.count("requests answered 503", 1)
	default:
		c.judge.violate("refused", "%s: %v", who, err)
	}
	return err
}

// slowest is the place of the reader that is furthest behind. Inserters wait for it, so that nobody is overtaken by retention.
func (c *crowd) slowest() uint64 {
	least := ^uint64(0)
	for _, r := range c.readers {
		least = min(least, r.place.Load())
	}
	for _, s := range c.live {
		least = min(least, s.place.Load())
	}
	return least
}

// inserter inserts killmails, and again those whose insert was not answered.
type inserter struct {
	*crowd
	rnd   *rand.Rand
	maker *storetest.Maker
	home  int // the node it inserts at; 0: at all at once

	pending []killmail // not answered yet
	later   []killmail // richer versions of what was inserted
	done    []killmail // a sample of what was acknowledged
}

type killmail struct {
	id   int64
	text []byte
}

func (x *inserter) run(ctx, inserting context.Context) {
	for ctx.Err() == nil && (inserting.Err() == nil || len(x.pending) > 0) {
		if len(x.pending) == 0 {
			sleep(inserting, 50*time.Millisecond+upTo(x.rnd, 250*time.Millisecond))
			if inserting.Err() != nil {
				return
			}
			if x.judge.top() > x.slowest()+500 {
				continue
			}
			x.draw()
		}
		if !x.step(ctx) {
			sleep(ctx, 50*time.Millisecond+upTo(x.rnd, 200*time.Millisecond))
		}
	}
}

// draw makes up what is inserted next.
func (x *inserter) draw() {
	for range 1 + x.rnd.IntN(10) {
		mail := x.maker.NextMail()
		full := mail.Killmail()
		if x.rnd.IntN(10) == 0 {
			mail.ZKB, mail.Labels = false, nil
			x.pending = append(x.pending, killmail{full.ID, mail.Killmail().JSON})
			x.later = append(x.later, killmail{full.ID, full.JSON})
			continue
		}
		x.pending = append(x.pending, killmail{full.ID, full.JSON})
	}
	if len(x.later) > 10 {
		x.pending, x.later = append(x.pending, x.later[0]), x.later[1:]
	}
	if len(x.done) > 0 && x.rnd.IntN(4) == 0 { // and one that the log has
		x.pending = append(x.pending, x.done[x.rnd.IntN(len(x.done))])
	}
}

func (x *inserter) step(ctx context.Context) bool {
	var body []byte
	for _, k := range x.pending {
		x.judge.trying(k.id, k.text)
		body = append(append(body, k.text...), '\n')
	}
	at := []int{x.home}
	if x.home == 0 {
		at = []int{servers, servers + 1, servers + 2}
	}
	var answered atomic.Bool
	var wg sync.WaitGroup
	for _, host := range at {
		wg.Go(func() {
			if x.post(ctx, host, body) {
				answered.Store(true)
			}
		})
	}
	wg.Wait()
	if !answered.Load() {
		if x.home != 0 && x.rnd.IntN(3) > 0 {
			x.home = someNode(x.rnd)
		}
		return false
	}
	if x.done = append(x.done, x.pending[0]); len(x.done) > 200 {
		x.done = x.done[100:]
	}
	x.pending = x.pending[:0]
	return true
}

func (x *inserter) post(ctx context.Context, host int, body []byte) bool {
	var answer struct {
		Results []struct {
			EventID   uint64 `json:"event_id"`
			Duplicate bool   `json:"duplicate"`
			Update    bool   `json:"update"`
			Error     string `json:"error"`
		} `json:"results"`
	}
	phase, lost := x.phase.Load(), x.noMajority.Load()
	status, _, err := x.call(ctx, host, "POST", "/api/killmails", body, nil, &answer)
	if err != nil {
		_ = x.failed(ctx, "an insert", status, err)
		if lost != 0 && phase == x.phase.Load() {
			x.judge.count("inserts refused or unanswered without a majority", 1)
		}
		return false
	}
	if len(answer.Results) != len(x.pending) {
		x.judge.violate("refused", "%d results for %d killmails", len(answer.Results), len(x.pending))
		return false
	}
	for i, r := range answer.Results {
		if r.Error != "" {
			x.judge.violate("refused", "killmail %d: %s", x.pending[i].id, r.Error)
			continue
		}
		if lost != 0 && phase == x.phase.Load() && !r.Duplicate {
			x.judge.violate("stored without a majority", "killmail %d as event %d, at node %s", x.pending[i].id, r.EventID, x.all[host].name)
		}
		x.judge.acknowledged(x.pending[i].id, r.EventID, r.Update)
	}
	return true
}

// pointer is a client on all events. It reads from another node each time.
type pointer struct {
	*crowd
	name string
	kind string // next, poll: automatic commit; manual
	rnd  *rand.Rand

	place atomic.Uint64 // the greatest id that came, or was committed (manual)
	// cuts is how many events may be in answers that did not arrive, with automatic commit.
	cuts int
	// got are the events that came, asked is the greatest commit that was sent (manual).
	got   map[uint64]struct{}
	asked uint64
}

// page is the answer to a poll.
type page struct {
	Events []said `json:"events"`
	Gap    any    `json:"gap"`
	Head   uint64 `json:"head"`
}

const pollLimit = 20

// pause is what a reader waits at least between two requests.
func (r *pointer) pause() time.Duration {
	if r.kind == "next" {
		return time.Millisecond
	}
	return 50 * time.Millisecond
}

func (r *pointer) step(ctx context.Context) error {
	path, most := "/api/killfeed/next?topics=all&updates=1&client_id="+r.name, 1
	var p page
	var status int
	var header http.Header
	var err error
	host := someNode(r.rnd)
	if r.kind == "next" {
		var e said
		status, header, err = r.call(ctx, host, "GET", path, nil, nil, &e)
		if err == nil && status == http.StatusOK {
			p.Events = append(p.Events, e)
		}
		if gap := header.Get("Killfeed-Gap"); gap != "" {
			p.Gap = gap
		}
	} else {
		path, most = fmt.Sprintf("/api/killfeed?topics=all&updates=1&client_id=%s&limit=%d", r.name, pollLimit), pollLimit
		if r.kind == "manual" {
			path += "&commit=manual"
		}
		status, _, err = r.call(ctx, host, "GET", path, nil, nil, &p)
	}
	if err != nil {
		r.cuts += most
		return r.failed(ctx, r.name, status, err)
	}
	if p.Gap != nil {
		r.judge.violate("events skipped", "client %s is told a gap: %v", r.name, p.Gap)
	}
	for _, e := range p.Events {
		r.judge.means(e)
	}
	if r.kind == "manual" {
		return r.handle(ctx, host, p.Events)
	}
	for _, e := range p.Events {
		r.take(host, e.EventID)
	}
	if len(p.Events) == 0 {
		sleep(ctx, 20*time.Millisecond)
	}
	return nil
}

// take notes an event that came with automatic commit.
func (r *pointer) take(host int, id uint64) {
	last := r.place.Load()
	at := r.all[host].name
	switch skipped := int(id) - int(last) - 1; {
	case id <= last:
		r.judge.violate("events repeated", "client %s gets event %d at node %s after event %d", r.name, id, at, last)
		return
	case skipped > r.cuts:
		r.judge.violate("events skipped", "client %s gets event %d at node %s after event %d, and only %d can have been in answers that were lost",
			r.name, id, at, last, r.cuts)
	case skipped > 0:
		r.cuts -= skipped
		r.judge.count("events lost with answers (automatic commit)", skipped)
	}
	r.place.Store(id)
}

// handle notes what came with manual commit, and commits at another node.
func (r *pointer) handle(ctx context.Context, host int, events []said) error {
	committed := r.place.Load()
	if r.got == nil {
		r.got = map[uint64]struct{}{}
	}
	for i, e := range events {
		at := r.all[host].name
		switch {
		case e.EventID <= committed:
			r.judge.violate("explicit commits gone back", "client %s has committed %d and gets event %d at node %s", r.name, committed, e.EventID, at)
		case i == 0 && e.EventID > max(committed, r.asked)+1:
			r.judge.violate("events skipped", "client %s has committed %d, or %d, and gets event %d at node %s", r.name, committed, r.asked,
				e.EventID, at)
		case i > 0 && e.EventID != events[i-1].EventID+1:
			r.judge.violate("holes", "client %s gets event %d behind event %d at node %s", r.name, e.EventID, events[i-1].EventID, at)
		}
		r.got[e.EventID] = struct{}{}
	}
	if len(events) == 0 || r.rnd.IntN(4) == 0 {
		return nil
	}
	return r.commit(ctx, someNode(r.rnd), events[r.rnd.IntN(len(events))].EventID)
}

func (r *pointer) commit(ctx context.Context, host int, id uint64) error {
	r.asked = max(r.asked, id)
	body := fmt.Appendf(nil, `{"client_id":%q,"offsets":{"all":%d}}`, r.name, id)
	if status, _, err := r.call(ctx, host, "POST", "/api/killfeed/commit", body, nil, nil); err != nil {
		return r.failed(ctx, "a commit of "+r.name, status, err)
	}
	r.place.Store(max(r.place.Load(), id))
	return nil
}

// mover is a client that is moved about, and looks at another node whether it is there.
type mover struct {
	*crowd
	name  string
	rnd   *rand.Rand
	loose []loose // seeks without an answer, which may count, also later
}

type loose struct {
	to    uint64
	until time.Time
}

func (s *mover) step(ctx context.Context) error {
	head := s.judge.top()
	if head < 60 {
		return nil
	}
	to := head - uint64(s.rnd.IntN(50))
	body := fmt.Appendf(nil, `{"to":"%d","topics":["all"]}`, to)
	s.loose = deleteOld(s.loose)
	at := someNode(s.rnd)
	if status, _, err := s.call(ctx, at, "POST", "/api/clients/"+s.name+"/seek", body, nil, nil); err != nil {
		s.loose = append(s.loose, loose{to, time.Now().Add(time.Minute)})
		return s.failed(ctx, "a seek of "+s.name, status, err)
	}
	var p page
	host := someNode(s.rnd)
	path := "/api/killfeed?topics=all&updates=1&commit=manual&limit=1&client_id=" + s.name
	if status, _, err := s.call(ctx, host, "GET", path, nil, nil, &p); err != nil {
		return s.failed(ctx, s.name, status, err)
	}
	if len(p.Events) == 0 { // that node is behind
		s.judge.count("reads after a seek at a node that was behind", 1)
		return nil
	}
	got := p.Events[0].EventID
	for _, l := range s.loose {
		if got == l.to {
			return nil
		}
	}
	if got != to {
		s.judge.violate("a seek is not followed", "client %s was moved to %d at node %s and gets event %d at node %s", s.name, to,
			s.all[at].name, got, s.all[host].name)
	}
	return nil
}

func deleteOld(list []loose) []loose {
	kept := list[:0]
	for _, l := range list {
		if time.Now().Before(l.until) {
			kept = append(kept, l)
		}
	}
	return kept
}

// headReader reads what was written at another node, by the header Killfeed-Head.
type headReader struct {
	*crowd
	rnd *rand.Rand
}

func (h *headReader) step(ctx context.Context) error {
	event, id, ok := h.judge.someRecent(h.rnd.IntN(10))
	if !ok {
		return nil
	}
	var p page
	host := someNode(h.rnd)
	status, header, err := h.call(ctx, host, "GET", fmt.Sprintf("/api/killfeed?topics=all&updates=1&limit=1&after=%d", event-1), nil,
		http.Header{"Killfeed-Head": {strconv.FormatUint(event, 10)}}, &p)
	if err != nil {
		return h.failed(ctx, "a reader with Killfeed-Head", status, err)
	}
	head, _ := strconv.ParseUint(header.Get("Killfeed-Head"), 10, 64)
	if head < event || len(p.Events) != 1 || p.Events[0].EventID != event || p.Events[0].Killmail.ID != id {
		h.judge.violate("written and not read", "event %d, killmail %d, at node %s: head %d, events %v, gap %v", event, id, h.all[host].name,
			head, p.Events, p.Gap)
	}
	return nil
}

// upTo is a random time below d.
func upTo(rnd *rand.Rand, d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(d))) }
