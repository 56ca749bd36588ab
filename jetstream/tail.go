package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"killfeed"
)

const (
	// tailEvents and tailBytes bound what has come and was not taken yet, and so what one Take returns. One event more than
	// tailBytes is let in, so that no event is too large.
	tailEvents = 1000
	tailBytes  = 8 << 20
	// shortLooks is how often in a row the stream must be found shorter than the node's log.
	shortLooks = 6
	// leastBeat is how often a consumer that has nothing to bring says so: the server that has it may be cut off from the others, and what
	// they take must not wait for long. mostBeat is for slow lines, where one large event may take many of them.
	leastBeat = time.Second
	mostBeat  = 10 * time.Second
)

// tail follows the stream and keeps what comes until the writer takes it, in order and without a hole.
//
// It trusts no consumer: each sequence is checked, and a consumer that leaves something out, or brings nothing although the stream
// has more, is replaced by a new one. (The client library's ordered consumer means to do the same; it has no notion of what was
// there to bring, and begins anew behind what it takes for delivered.)
type tail struct {
	stream *stream
	// epoch and created tell the stream from another one of its name, also from one that was made with the same epoch.
	epoch   killfeed.Epoch
	created time.Time
	look    time.Duration
	log     *slog.Logger
	// ready has the writer call Take. It never blocks.
	ready func()
	// stored is the head of the node's store.
	stored func() killfeed.EventID
	// adopt makes up for what was purged before this node had it, and returns when the writer has called restart.
	adopt func(context.Context) error
	// condition gets nil or why the stream cannot be asked at the moment, fatal what ends all.
	condition func(error)
	fatal     func(error)

	mu sync.Mutex // guards what follows; never held through a call
	// have is the last event that the writer was given or has appended. entries follow it.
	have    killfeed.EventID
	entries []entry
	bytes   int
	// round counts restarts; cancel ends the current one.
	round  int
	cancel context.CancelFunc
	// busy: following waits for something that is not the consumer, so its silence means nothing.
	busy bool
	room chan struct{} // readable after room was made
}

func newTail(s *stream, epoch killfeed.Epoch, created time.Time, have killfeed.EventID) *tail {
	return &tail{stream: s, epoch: epoch, created: created, have: have, room: make(chan struct{}, 1)}
}

// last is the last event that has come. mu is held.
func (t *tail) last() killfeed.EventID { return t.have + killfeed.EventID(len(t.entries)) }

// take gives the writer what follows after, at most about tailBytes, and whether there is more.
func (t *tail) take() (list []entry, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, bytes := 0, 0
	for n < len(t.entries) && n < tailEvents && (n == 0 || bytes+len(t.entries[n].Killmail) <= tailBytes) {
		bytes += len(t.entries[n].Killmail)
		n++
	}
	list, t.entries = t.entries[:n:n], t.entries[n:]
	t.have += killfeed.EventID(n)
	t.bytes -= bytes
	t.makeRoom()
	return list, len(t.entries) > 0
}

// find returns an event that has come and was not taken.
func (t *tail) find(id killfeed.EventID) (entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id <= t.have || id > t.last() {
		return entry{}, false
	}
	return t.entries[id-t.have-1], true
}

// offer is for an event that was read elsewhere. It is kept if it is the next one.
func (t *tail) offer(e entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.ID == t.last()+1 {
		t.keep(e)
	}
}

// skip tells that the writer has all events up to id, as it appended them.
func (t *tail) skip(id killfeed.EventID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.entries) > 0 && t.entries[0].ID <= id {
		t.bytes -= len(t.entries[0].Killmail)
		t.entries = t.entries[1:]
	}
	t.have = max(t.have, id)
	t.makeRoom()
}

// restart begins again behind have, wherever the tail is.
func (t *tail) restart(have killfeed.EventID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.have, t.entries, t.bytes = have, nil, 0
	t.round++
	if t.cancel != nil {
		t.cancel()
	}
	t.makeRoom()
}

// keep adds the next entry. mu is held.
func (t *tail) keep(e entry) {
	t.entries = append(t.entries, e)
	t.bytes += len(e.Killmail)
	t.ready()
}

// makeRoom lets the consumer's goroutine look again. mu is held.
func (t *tail) makeRoom() {
	select {
	case t.room <- struct{}{}:
	default:
	}
}

// errPurged: the stream begins behind the next event.
var errPurged = errors.New("events were purged before this node had them")

// run follows the stream until ctx ends.
func (t *tail) run(ctx context.Context) error {
	const shortest = 50 * time.Millisecond
	pause, beat := shortest, leastBeat
	for ctx.Err() == nil {
		before := t.position()
		err := t.follow(ctx, beat)
		if ctx.Err() != nil {
			return nil
		}
		if t.position() != before {
			pause, beat = shortest, leastBeat
		} else if errors.Is(err, jetstream.ErrNoHeartbeat) {
			beat = min(2*beat, mostBeat)
		}
		if err != nil {
			t.log.Debug("following the stream begins anew", "after", t.position(), "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
	return nil
}

func (t *tail) position() killfeed.EventID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last()
}

// follow has one consumer bring the stream until that fails or the tail is restarted. The consumer is given up when it says nothing for two
// beats.
func (t *tail) follow(ctx context.Context, beat time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	t.cancel, t.busy = cancel, false
	round, next := t.round, t.last()+1
	t.mu.Unlock()

	info, err := t.stream.state(ctx)
	if err != nil {
		return err
	}
	if killfeed.EventID(info.State.FirstSeq) > next {
		defer t.setBusy(t.setBusy(true))
		return t.adopt(ctx)
	}
	// It needs no replicas: it has no state but its place, which this side knows better.
	try, stop := context.WithTimeout(ctx, t.stream.try)
	defer stop()
	c, err := t.stream.CreateConsumer(try, jetstream.ConsumerConfig{
		Name: "tail-" + nuid.Next(), DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: uint64(next),
		AckPolicy: jetstream.AckNonePolicy, Replicas: 1, MemoryStorage: true, InactiveThreshold: time.Minute,
	})
	if err != nil {
		return fmt.Errorf("making a consumer: %w", err)
	}
	defer t.drop(ctx, c.CachedInfo().Name)
	messages, err := c.Messages(jetstream.PullMaxMessagesWithBytesLimit(tailEvents, 2*maxMessage),
		jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(beat))
	if err != nil {
		return fmt.Errorf("asking for messages: %w", err)
	}
	defer messages.Stop()
	for fresh := true; ; fresh = false {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("waiting for messages: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		e, err := parse(t.stream.name, meta.Sequence.Stream, m.Subject(), m.Headers(), m.Data())
		if err != nil {
			t.fatal(err)
			return err
		}
		if err := t.deliver(ctx, round, e, fresh); err != nil {
			return err
		}
	}
}

// drop deletes a consumer, as those of servers that went away are dropped by the others only after a while.
func (t *tail) drop(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if t.stream.nc.IsConnected() {
		_ = t.stream.DeleteConsumer(ctx, name) // it goes away by itself too
	}
}

// deliver takes in an event that a consumer brought in this round. One that has come already is left out. Before one that is ahead
// others are missing: as a rule they were on their way when a connection broke, and a new consumer brings them. Where a fresh one
// begins with too late an event, they are read one by one.
func (t *tail) deliver(ctx context.Context, round int, e entry, fresh bool) error {
	for {
		t.mu.Lock()
		next := t.last() + 1
		full := len(t.entries) >= tailEvents || t.bytes >= tailBytes
		switch {
		case t.round != round:
			t.mu.Unlock()
			return errors.New("the writer is elsewhere")
		case e.ID < next:
			t.mu.Unlock()
			return nil
		case e.ID == next && !full:
			t.keep(e)
			t.mu.Unlock()
			return nil
		}
		t.busy = full
		t.mu.Unlock()
		if full {
			select {
			case <-t.room:
				t.setBusy(false)
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		if !fresh {
			return fmt.Errorf("the consumer brings event %d where %d is next", e.ID, next)
		}
		missing, err := t.repair(ctx, next)
		if err != nil {
			return err
		}
		if err := t.deliver(ctx, round, missing, false); err != nil {
			return err
		}
	}
}

// setBusy returns what it was.
func (t *tail) setBusy(busy bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	busy, t.busy = t.busy, busy
	return busy
}

// repair reads an event that a consumer left out.
func (t *tail) repair(ctx context.Context, id killfeed.EventID) (entry, error) {
	t.log.Warn("the consumer left out an event, which is read by itself", "event", id)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		e, err := t.stream.get(ctx, id)
		if err == nil {
			return e, nil
		}
		if info, err := t.stream.state(ctx); err == nil && killfeed.EventID(info.State.FirstSeq) > id {
			return entry{}, errPurged
		}
		// The others that have it may be away at the moment. There is no going on without it.
		t.condition(fmt.Errorf("event %d cannot be read: %w", id, err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return entry{}, ctx.Err()
		}
	}
}

// watch compares the tail with the stream now and then, until ctx ends: a consumer may fall silent without an error, and the stream may
// be another one.
func (t *tail) watch(ctx context.Context) error {
	timer := time.NewTimer(t.look)
	defer timer.Stop()
	w := watched{last: t.position()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		next := t.look
		if !t.compare(ctx, &w) {
			next /= 5 // everybody is refused until the stream can be asked again
		}
		timer.Reset(next)
	}
}

// watched is what the last comparison saw.
type watched struct {
	last, stored killfeed.EventID
	round        int
	// silent counts comparisons since the consumer brought something, while there was something to bring. At patience it is replaced by
	// another one, which gets twice the time: a large event on a slow line needs it.
	silent, patience int
	// short counts comparisons since the stream last had all that this node has.
	short int
}

// compare returns whether the stream could be asked.
func (t *tail) compare(ctx context.Context, was *watched) bool {
	t.mu.Lock()
	had := t.have // before the stream is asked: an append in between must not look like a loss
	t.mu.Unlock()
	info, err := t.stream.state(ctx)
	if ctx.Err() != nil {
		return true
	}
	t.condition(err)
	if err == nil {
		if err := ours(info, t.epoch); err != nil {
			t.fatal(err)
			return true
		}
		if !info.Created.Equal(t.created) {
			t.fatal(fmt.Errorf("stream %q was made anew at %v, and this node follows the one that was made at %v; if it was restored from a backup, "+
				"start this node again, which then compares the two: %w", t.stream.name, info.Created, t.created, killfeed.ErrFailed))
			return true
		}
	}
	now := watched{stored: t.stored()}
	t.mu.Lock()
	now.last, now.round = t.last(), t.round
	have, waiting := t.have, len(t.entries) > 0
	if err == nil {
		if killfeed.EventID(info.State.LastSeq) < had {
			now.short = was.short + 1
		}
		now.patience = 1
		if killfeed.EventID(info.State.LastSeq) > now.last && now.last == was.last && now.round == was.round && !t.busy {
			now.silent, now.patience = was.silent+1, max(was.patience, 1)
			if now.silent >= now.patience && t.cancel != nil {
				t.cancel()
				now.silent, now.patience = 0, min(2*now.patience, 32)
			}
		}
	}
	t.mu.Unlock()
	if now.short > 0 {
		// Some server may answer that has only just started and is behind the others; nothing can be appended meanwhile that contradicts
		// what this node has, so there is time to be sure. That one of them has the message settles it.
		if _, err := t.stream.get(ctx, had); !errors.Is(err, jetstream.ErrMsgNotFound) {
			now.short = 0
		}
	}
	if now.short > 0 {
		err := shorter(t.stream.name, killfeed.EventID(info.State.LastSeq), had)
		if now.short >= shortLooks {
			t.fatal(err)
		} else {
			t.condition(err)
		}
	}
	if waiting || now.stored < have && now.stored == was.stored {
		t.ready() // the store has not got what the writer was given; Take gives it out again
	}
	*was = now
	return err == nil
}
