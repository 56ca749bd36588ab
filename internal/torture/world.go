package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"killfeed/storetest"
)

// world is everybody who uses the server.
type world struct {
	oracle *oracle
	srv    *server

	seed uint64

	writers []*writer
	readers []*reader
	seeker  *seeker
	stream  *stream
	queue   *queue
}

func newWorld(o *oracle, srv *server, writers int, seed uint64) *world {
	w := &world{oracle: o, srv: srv, seed: seed}
	for i := range writers {
		w.writers = append(w.writers, &writer{
			world: w, rnd: rand.New(rand.NewPCG(seed, uint64(100+i))),
			maker: storetest.NewMaker(makerOptions(seed, i, 0)),
		})
	}
	for i, kind := range []string{"next", "poll", "manual", "manual", "next"} {
		w.readers = append(w.readers, &reader{
			world: w, name: fmt.Sprintf("%s-%d", kind, i), kind: kind, rnd: rand.New(rand.NewPCG(seed, uint64(200+i))),
			got: map[uint64]int{}, cuts: map[uint64]bool{},
		})
	}
	w.seeker = &seeker{world: w, rnd: rand.New(rand.NewPCG(seed, 300))}
	w.stream = &stream{world: w, name: "stream"}
	w.queue = &queue{world: w, name: "queue", got: map[int64]bool{}, fresh: map[int64]bool{}}
	return w
}

// makerOptions are of writer i when it has made that many killmails.
func makerOptions(seed uint64, i int, made int64) storetest.MakerOptions {
	return storetest.MakerOptions{
		Seed: seed + uint64(i), FirstID: int64(i+1)*1_000_000_000 + made, Systems: 20, Bytes: 900, Attackers: 2,
	}
}

// register makes the readers known before anything is inserted: what is removed before a client is known is not its loss.
func (w *world) register(ctx context.Context) error {
	for _, r := range w.readers {
		if _, ok := r.read(); !ok {
			return fmt.Errorf("%w does not answer client %s", errServer, r.name)
		}
	}
	if !w.queue.step() {
		return fmt.Errorf("%w does not answer queue %s", errServer, w.queue.name)
	}
	return w.stream.register(ctx)
}

// load puts the server under load for d, then calls kill, and returns when everybody has noticed.
func (w *world) load(d time.Duration, kill func()) {
	var over atomic.Bool
	var wg sync.WaitGroup
	each := func(step func() bool) {
		wg.Go(func() {
			for !over.Load() && step() {
			}
		})
	}
	for _, x := range w.writers {
		each(x.step)
	}
	for _, x := range w.readers {
		each(x.step)
	}
	each(w.seeker.step)
	each(w.stream.step)
	each(w.queue.step)
	each(func() bool {
		time.Sleep(30 * time.Millisecond)
		_, err := w.srv.call("POST", "/api/collect", nil, nil)
		return err == nil
	})
	time.Sleep(d)
	killed := time.Now()
	kill()
	over.Store(true)
	wg.Wait()
	for _, r := range w.readers {
		r.killed(killed)
	}
	w.queue.killed(killed)
}

// writer inserts killmails, and again those whose insert was not answered.
type writer struct {
	world   *world
	rnd     *rand.Rand
	maker   *storetest.Maker
	made    int64     // killmails
	pending []pending // not answered yet
	done    []pending // a sample of what was acknowledged
}

type pending struct {
	id   int64
	json []byte
}

// step inserts a batch. It returns false when the server does not answer.
func (x *writer) step() bool {
	// A pace that readers can follow, so that the end, where they read all that is left one by one, does not take longer
	// than all the rest.
	time.Sleep(time.Duration(x.rnd.IntN(30)) * time.Millisecond)
	if len(x.pending) == 0 {
		for range 1 + x.rnd.IntN(8) {
			k := x.maker.Next()
			x.made++
			x.pending = append(x.pending, pending{k.ID, k.JSON})
		}
		if len(x.done) > 0 && x.rnd.IntN(4) == 0 { // and one that the log has
			x.pending = append(x.pending, x.done[x.rnd.IntN(len(x.done))])
		}
	}
	var body []byte
	for _, p := range x.pending {
		x.world.oracle.trying(p.id)
		body = append(append(body, p.json...), '\n')
	}
	var answer struct {
		Results []struct {
			EventID uint64 `json:"event_id"`
			Error   string `json:"error"`
		} `json:"results"`
	}
	if _, err := x.world.srv.call("POST", "/api/killmails", body, &answer); err != nil {
		return false
	}
	if len(answer.Results) != len(x.pending) {
		x.world.oracle.violate("order", "%d results for %d killmails", len(answer.Results), len(x.pending))
		return false
	}
	for i, r := range answer.Results {
		if r.Error != "" {
			x.world.oracle.violate("acknowledged inserts lost", "killmail %d is refused: %s", x.pending[i].id, r.Error)
			continue
		}
		x.world.oracle.acknowledged(x.pending[i].id, r.EventID)
	}
	if x.done = append(x.done, x.pending[0]); len(x.done) > 200 {
		x.done = x.done[100:]
	}
	x.pending = x.pending[:0]
	return true
}

// reader is a client on all events. It knows what it got, and what it has committed.
type reader struct {
	world *world
	name  string
	kind  string // next, poll: automatic commit; manual
	rnd   *rand.Rand

	got       map[uint64]int // event id -> in which life of the server it came last
	last      uint64         // the greatest id that came
	committed uint64         // the greatest commit that was acknowledged (manual)
	asked     uint64         // the greatest commit that was sent
	life      int
	recent    []delivery      // in this life
	from      uint64          // what came before it may not come again after the last kill
	cutOff    bool            // the last request was not answered
	resuming  bool            // the server died while an answer was on its way, and nothing has come since
	cuts      map[uint64]bool // events that were in such answers
}

// maxPage is the most events that a reader asks for.
const maxPage = 50

type delivery struct {
	id uint64
	at time.Time
}

type event struct {
	EventID  uint64 `json:"event_id"`
	Killmail struct {
		ID int64 `json:"killmail_id"`
	} `json:"killmail"`
}

// step reads once. It returns false when the server does not answer.
func (r *reader) step() bool {
	events, ok := r.read()
	r.cutOff = !ok
	if !ok {
		return false
	}
	for _, e := range events {
		r.take(e)
	}
	if r.kind == "manual" && len(events) > 0 && r.rnd.IntN(3) > 0 {
		return r.commit(events[r.rnd.IntN(len(events))].EventID)
	}
	if len(events) == 0 {
		time.Sleep(time.Millisecond)
	}
	return true
}

func (r *reader) read() ([]event, bool) {
	if r.kind == "next" {
		var e event
		status, err := r.world.srv.call("GET", "/api/killfeed/next?topics=all&client_id="+r.name, nil, &e)
		switch {
		case err != nil:
			return nil, false
		case status == 204:
			return nil, true
		}
		return []event{e}, true
	}
	var page struct {
		Events []event         `json:"events"`
		Gap    json.RawMessage `json:"gap"`
	}
	path := fmt.Sprintf("/api/killfeed?topics=all&client_id=%s&limit=%d", r.name, 1+r.rnd.IntN(maxPage))
	if r.kind == "manual" {
		path += "&commit=manual"
	}
	if _, err := r.world.srv.call("GET", path, nil, &page); err != nil {
		return nil, false
	}
	if page.Gap != nil {
		r.world.oracle.violate("events skipped", "client %s is told a gap: %s", r.name, page.Gap)
	}
	return page.Events, true
}

// take notes an event that came.
func (r *reader) take(e event) {
	o := r.world.oracle
	o.means(e.EventID, e.Killmail.ID)
	before, again := r.got[e.EventID]
	if r.resuming { // what the cut answer held stands between what came last and this
		for id := r.last + 1; id < e.EventID && id <= r.last+maxPage; id++ {
			r.cuts[id] = true
		}
		r.resuming = false
	}
	switch {
	case r.kind == "manual" && e.EventID <= r.committed:
		o.violate("committed events repeated", "client %s has committed %d and gets %d again", r.name, r.committed, e.EventID)
	case r.kind != "manual" && again && before == r.life:
		o.violate("committed events repeated", "client %s gets event %d twice from one server", r.name, e.EventID)
	case r.kind != "manual" && again && e.EventID < r.from:
		o.violate("committed events repeated", "client %s gets event %d again, which came over a second before the kill", r.name, e.EventID)
	case r.kind != "manual" && again:
		o.again()
	}
	r.got[e.EventID] = r.life
	r.last = max(r.last, e.EventID)
	r.recent = append(r.recent, delivery{e.EventID, time.Now()})
}

// commit commits by the client's own word.
func (r *reader) commit(id uint64) bool {
	r.asked = max(r.asked, id)
	body := fmt.Appendf(nil, `{"client_id":%q,"offsets":{"all":%d}}`, r.name, id)
	if _, err := r.world.srv.call("POST", "/api/killfeed/commit", body, nil); err != nil {
		return false
	}
	r.committed = max(r.committed, id)
	return true
}

// killed is called after the server died at the given time. What may come again is what came in the second before; and, when the server
// died before it had come that far again, what could come again before.
func (r *reader) killed(at time.Time) {
	from := r.from
	if n := len(r.recent); n > 0 {
		from = r.recent[n-1].id + 1
	}
	for _, d := range r.recent {
		if d.at.After(at.Add(-time.Second)) {
			from = min(from, d.id)
		}
	}
	r.from = from
	r.recent = r.recent[:0]
	r.life++
	r.resuming = r.kind != "manual" && (r.cutOff || r.resuming)
}

// seeker moves a client about.
type seeker struct {
	world *world
	rnd   *rand.Rand
	at    uint64 // acknowledged
	asked uint64 // sent and not answered; 0: none
}

func (s *seeker) step() bool {
	time.Sleep(5 * time.Millisecond)
	s.world.oracle.mu.Lock()
	head := s.world.oracle.head
	s.world.oracle.mu.Unlock()
	if head < 2 {
		return true
	}
	to := head - uint64(s.rnd.Int64N(int64(min(head-1, 50))))
	s.asked = to
	body := fmt.Appendf(nil, `{"to":"%d","topics":["all"]}`, to)
	if _, err := s.world.srv.call("POST", "/api/clients/seeker/seek", body, nil); err != nil {
		return false
	}
	s.at, s.asked = to, 0
	return true
}

// verify checks the server against the oracle after a restart. The whole log is read when full is set, else its newest part.
func (w *world) verify(ctx context.Context, full bool) error {
	var st struct {
		Log struct {
			First uint64 `json:"first"`
			Head  uint64 `json:"head"`
			Epoch string `json:"epoch"`
		} `json:"log"`
	}
	if _, err := w.srv.call("GET", "/api/status", nil, &st); err != nil {
		return err
	}
	o := w.oracle
	o.mu.Lock()
	for id, event := range o.acked {
		if event > st.Log.Head {
			o.violateLocked("acknowledged inserts lost", "killmail %d was acknowledged as event %d, the head is %d", id, event, st.Log.Head)
		}
	}
	o.mu.Unlock()
	from := st.Log.First - 1
	if !full && st.Log.Head > 2000 {
		from = max(from, st.Log.Head-2000)
	}
	if err := w.readLog(from, st.Log.Head, st.Log.Epoch); err != nil {
		return err
	}
	w.verifyAcked(st.Log.First, from)
	for _, r := range w.readers {
		if r.kind == "manual" && r.asked > 0 {
			at, err := w.offset(r.name)
			if err != nil {
				return err
			}
			if at < r.committed {
				o.violate("explicit commits gone back", "client %s committed %d and stands at %d", r.name, r.committed, at)
			}
			r.committed = max(r.committed, at)
		}
	}
	if s := w.seeker; s.at > 0 {
		at, err := w.offset("seeker")
		if err != nil {
			return err
		}
		if at != s.at-1 && (s.asked == 0 || at != s.asked-1) {
			o.violate("explicit commits gone back", "the seeker was moved to %d (or %d) and stands at %d", s.at-1, int64(s.asked)-1, at)
		}
		s.at, s.asked = at+1, 0
	}
	return ctx.Err()
}

// offset is where a client stands.
func (w *world) offset(name string) (uint64, error) {
	var c struct {
		Offsets map[string]uint64 `json:"offsets"`
	}
	if _, err := w.srv.call("GET", "/api/clients/"+name, nil, &c); err != nil {
		return 0, err
	}
	return c.Offsets["all"], nil
}

// readLog reads the log without a client, and checks that it has no hole.
func (w *world) readLog(from, head uint64, epoch string) error {
	next := from + 1
	for next <= head {
		var page struct {
			Events []event `json:"events"`
			Gap    any     `json:"gap"`
		}
		path := fmt.Sprintf("/api/killfeed?topics=all&limit=1000&updates=1&after=%d-%s", next-1, epoch)
		if _, err := w.srv.call("GET", path, nil, &page); err != nil {
			return err
		}
		if len(page.Events) == 0 {
			break
		}
		for _, e := range page.Events {
			if e.EventID != next {
				w.oracle.violate("holes", "event %d follows %d", e.EventID, next-1)
			}
			next = e.EventID + 1
			w.oracle.means(e.EventID, e.Killmail.ID)
		}
	}
	if next <= head {
		w.oracle.violate("holes", "the log ends before event %d, the head is %d", next, head)
	}
	return nil
}

// verifyAcked checks that what was acknowledged was read, as far as it is kept and was looked at.
func (w *world) verifyAcked(first, from uint64) {
	o := w.oracle
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, event := range o.acked {
		if event >= first && event > from && o.events[event] != id {
			o.violateLocked("acknowledged inserts lost", "killmail %d was acknowledged as event %d, which is killmail %d", id, event, o.events[event])
		}
	}
}

// finish lets everybody come to the end of the log, and checks that nobody has missed anything.
func (w *world) finish(ctx context.Context) error {
	for _, x := range w.writers { // what was not answered is tried once more: it must be stored once
		for len(x.pending) > 0 {
			if !x.step() {
				return fmt.Errorf("%w does not take what it did not answer before", errServer)
			}
		}
	}
	if err := w.verify(ctx, true); err != nil {
		return err
	}
	for _, r := range w.readers {
		for ctx.Err() == nil {
			before := len(r.got)
			events, ok := r.read()
			if !ok {
				return fmt.Errorf("%w does not answer client %s", errServer, r.name)
			}
			for _, e := range events {
				r.take(e)
			}
			if r.kind == "manual" && len(events) > 0 && !r.commit(events[len(events)-1].EventID) {
				return fmt.Errorf("%w refuses a commit of client %s", errServer, r.name)
			}
			if len(events) == 0 && len(r.got) == before {
				break
			}
		}
		w.missed(r)
	}
	w.oracle.mu.Lock()
	head := w.oracle.head
	w.oracle.mu.Unlock()
	if err := w.stream.finish(ctx, head); err != nil {
		return err
	}
	if err := w.queue.finish(ctx); err != nil {
		return err
	}
	return w.again()
}

// missed checks that a reader got everything from its first event on.
func (w *world) missed(r *reader) {
	w.oracle.mu.Lock()
	defer w.oracle.mu.Unlock()
	for id := uint64(1); id <= w.oracle.head; id++ {
		if _, ok := r.got[id]; ok {
			continue
		}
		if r.cuts[id] {
			w.oracle.lost++
			continue
		}
		w.oracle.violateLocked("events skipped", "client %s never got event %d", r.name, id)
	}
}

// again inserts a sample of what was acknowledged: each must be known, with its event.
func (w *world) again() error {
	for _, x := range w.writers {
		x.pending = append(x.pending[:0], x.done...)
		if len(x.pending) > 0 && !x.step() {
			return fmt.Errorf("%w does not take killmails that it has", errServer)
		}
	}
	return nil
}
