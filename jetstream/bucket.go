package jetstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	rnd "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
)

// bucket is the key-value bucket that all nodes share. Its methods may be called by any number of goroutines.
//
// Every write says which revision of its key it replaces, and its outcome is decided: it was stored, or another write came first, or
// it was never sent. Each write carries an id of its own for that, and those of the writes before it. Without its own, a node whose
// acknowledgement got lost could not tell its write from that of another node with the same content, and one of two advances of a
// client would vanish. Without the others, it would take a write of its own that was stored, and that another node has built on
// since, for one that never was.
//
// Reads are answered by the leader of the bucket's stream, never by a replica that may be behind.
type bucket struct {
	js     jetstream.JetStream
	nc     *nats.Conn
	stream string // the bucket's stream
	pre    string // subject before a key
	get    string // where the leader is asked for a message
	try    time.Duration
	look   time.Duration
	log    *slog.Logger

	nonce  string // of this process; its writes are nonce-1, nonce-2 and so on
	writes atomic.Uint64
	single atomic.Bool // the servers take no atomic batches into the bucket
}

const (
	// headerWrite has the ids of the writes that a record or a deletion is from: its own, then the last one of each other node, the
	// newest first, at most maxWriters. Ids are separated by spaces.
	headerWrite = "Killfeed-Write"
	headerOp    = "KV-Operation"
	opDelete    = "DEL"

	// maxWriters is more than the nodes that write one key in the time in which a write of one of them is undecided.
	maxWriters = 16
	// maxBatch and maxBatchBytes bound an atomic batch; the servers take 1,000 messages.
	maxBatch      = 1000
	maxBatchBytes = 4 << 20

	codeNotFound         = 10037
	codeTooLarge         = 10054
	codeConflict         = 10071
	codeConflictInFlight = 10164
)

// revision is what a key has, or had.
type revision struct {
	key string
	// rev is 0 when nothing was ever stored, or what told of the deletion is gone as well.
	rev   uint64
	gone  bool
	ids   []string // of the writes: see headerWrite
	value []byte
}

// write is a change of one key.
type write struct {
	key   string
	value []byte
	// drop: the key is deleted.
	drop bool
	// rev is the revision that is replaced.
	rev uint64
	// absent: what is replaced is nothing, or any deletion, whatever its revision.
	absent bool
	// after are the ids that what is replaced has; id is this write's own.
	after []string
	id    string
	// unsure: the write was sent before, and it is not known what became of it.
	unsure bool
}

var (
	// errConflict: another write came first.
	errConflict = errors.New("another write came first")
	// errRefused: the servers do not take the writes as one batch; none of them was stored.
	errRefused = errors.New("the servers refuse an atomic batch")
)

func newBucket(js jetstream.JetStream, o Options) *bucket {
	prefix := jetstream.DefaultAPIPrefix
	if p := js.Options().APIPrefix; p != "" {
		prefix = strings.TrimSuffix(p, ".") + "."
	}
	stream := "KV_" + o.Name
	return &bucket{
		js: js, nc: js.Conn(), stream: stream, pre: "$KV." + o.Name + ".", get: prefix + "STREAM.MSG.GET." + stream,
		try: o.Timing.Try, look: o.Timing.Look, log: o.Logger, nonce: rand.Text()[:16],
	}
}

// nextID is the id of a write that begins.
func (b *bucket) nextID() string { return b.nonce + "-" + strconv.FormatUint(b.writes.Add(1), 10) }

// last is what the key has now. Of a key with wildcards it is the newest of all.
func (b *bucket) last(ctx context.Context, key string) (revision, error) {
	ctx, cancel := context.WithTimeout(ctx, b.try)
	defer cancel()
	ask, err := json.Marshal(map[string]string{"last_by_subj": b.pre + key})
	if err != nil {
		return revision{}, fmt.Errorf("asking for %s: %w", key, err)
	}
	reply, err := b.nc.RequestWithContext(ctx, b.get, ask)
	if err != nil {
		return revision{}, fmt.Errorf("reading %s of the bucket: %w: %w", key, err, killfeed.ErrUnavailable)
	}
	var got stored
	if err := json.Unmarshal(reply.Data, &got); err != nil {
		return revision{}, fmt.Errorf("reading %s of the bucket: %w: %w", key, err, killfeed.ErrUnavailable)
	}
	switch {
	case got.Error != nil && got.Error.ErrorCode == codeNotFound:
		return revision{key: key, gone: true}, nil
	case got.Error != nil:
		return revision{}, fmt.Errorf("reading %s of the bucket: %w: %w", key, got.Error, killfeed.ErrUnavailable)
	}
	e := revision{key: strings.TrimPrefix(got.Message.Subject, b.pre), rev: got.Message.Seq, value: got.Message.Data}
	if len(got.Message.Header) > 0 {
		h, err := nats.DecodeHeadersMsg(got.Message.Header)
		if err != nil {
			return revision{}, fmt.Errorf("reading the headers of %s of the bucket: %w", key, err)
		}
		e.headers(h)
	}
	return e, nil
}

func (e *revision) headers(h nats.Header) {
	e.ids = strings.Fields(h.Get(headerWrite))
	// Any operation is a deletion, and so is the marker that a server leaves by itself.
	if h.Get(headerOp) != "" || h.Get(jetstream.MarkerReasonHeader) != "" {
		e.gone, e.value = true, nil
	}
}

// lastRev is the newest revision of all keys, as the leader has it.
func (b *bucket) lastRev(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, b.try)
	defer cancel()
	s, err := b.js.Stream(ctx, b.stream)
	if err != nil {
		return 0, fmt.Errorf("asking for the state of %s: %w: %w", b.stream, err, killfeed.ErrUnavailable)
	}
	return s.CachedInfo().State.LastSeq, nil
}

// settled reads the key once more, to be sure that it has nothing although it had revision rev: a server that still takes itself for
// the leader may be behind.
func (b *bucket) settled(ctx context.Context, key string, rev uint64) (revision, bool, error) {
	newest, err := b.lastRev(ctx)
	if err != nil {
		return revision{}, false, err
	}
	e, err := b.last(ctx, key)
	return e, err == nil && (e.rev > 0 || newest >= rev), err
}

// outcome is what became of a write.
type outcome struct {
	stored bool
	// rev is the write's revision, 0 when it was not stored or has been replaced since; ids are as in revision.
	rev uint64
	ids []string
	// now is what the key has instead, when rev is 0.
	now revision
}

// swap makes the write if its key still has what it replaces. It tries again until the outcome is decided.
//
// The error is killfeed.ErrOutcomeUnknown when ctx ends before, and killfeed.ErrUnavailable when nothing was stored; that one comes
// early, as whoever asked can be told to come again.
func (b *bucket) swap(ctx context.Context, w write) (outcome, error) {
	if !w.unsure && ctx.Err() != nil {
		return outcome{}, fmt.Errorf("writing %s: %w: %w", w.key, context.Cause(ctx), killfeed.ErrUnavailable)
	}
	if !w.unsure && !b.nc.IsConnected() {
		return outcome{}, fmt.Errorf("writing %s: %w: %w", w.key, errNoConnection, killfeed.ErrUnavailable)
	}
	began := time.Now()
	var pause backoff
	for {
		rev, err := uint64(0), errNoConnection
		if b.nc.IsConnected() { // else every try would wait in the connection's buffer, to be sent with all others
			rev, err = b.publish(ctx, w)
		}
		if err == nil {
			return outcome{stored: true, rev: rev, ids: w.ids()}, nil
		}
		var refusal *jetstream.APIError
		switch {
		case errors.Is(err, nats.ErrMaxPayload), errors.As(err, &refusal) && refusal.ErrorCode == codeTooLarge:
			return outcome{}, fmt.Errorf("writing %s: its %d bytes are more than the servers take: %w", w.key, len(w.value), err)
		case errors.Is(err, errConflict):
			if e, decided, err := b.instead(ctx, &w); err == nil && decided {
				o := outcome{stored: slices.Contains(e.ids, w.id), now: e}
				if o.stored && e.ids[0] == w.id {
					o.rev, o.ids = e.rev, e.ids
				}
				return o, nil
			}
		case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, errNoConnection), refusal != nil: // not stored
		default:
			w.unsure = true
		}
		if !w.unsure && time.Since(began) >= b.try {
			return outcome{}, fmt.Errorf("writing %s: %w: %w", w.key, err, killfeed.ErrUnavailable)
		}
		if !pause.wait(ctx) {
			why := killfeed.ErrUnavailable
			if w.unsure {
				why = killfeed.ErrOutcomeUnknown
			}
			return outcome{}, fmt.Errorf("writing %s: %w: %w: %w", w.key, err, context.Cause(ctx), why)
		}
	}
}

// instead is what w's key has, after the servers have said that it is not what w replaces. It is decided when that is a later write;
// else w is to be tried again.
func (b *bucket) instead(ctx context.Context, w *write) (revision, bool, error) {
	e, err := b.last(ctx, w.key)
	if err != nil {
		return e, false, err
	}
	if w.absent && e.gone && !slices.Contains(e.ids, w.id) {
		// It is absent, only by another revision; or somebody's write, maybe our own earlier one, is on its way.
		w.rev, w.after = e.rev, e.ids
		return e, false, nil
	}
	if e.rev == 0 {
		var sure bool
		e, sure, err = b.settled(ctx, w.key, w.rev)
		return e, sure && e.rev != w.rev, err
	}
	// The same revision: a write is on its way, maybe our own earlier one. A lower one: the leader is behind.
	return e, e.rev > w.rev, nil
}

// publish sends the write once.
func (b *bucket) publish(ctx context.Context, w write) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, b.try)
	defer cancel()
	ack, err := b.js.PublishMsg(ctx, b.message(w), jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, refused(err)
	}
	return ack.Sequence, nil
}

func (b *bucket) message(w write) *nats.Msg {
	m := nats.NewMsg(b.pre + w.key)
	m.Data = w.value
	m.Header.Set(jetstream.ExpectedStreamHeader, b.stream)
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(w.rev, 10))
	m.Header.Set(headerWrite, strings.Join(w.ids(), " "))
	if w.drop {
		m.Data = nil
		m.Header.Set(headerOp, opDelete)
	}
	return m
}

// ids are those that what is written has: the write's own, and the last one of each other node.
func (w *write) ids() []string {
	ids := append(make([]string, 0, maxWriters), w.id)
	node := func(id string) string { return id[:max(strings.LastIndexByte(id, '-'), 0)] }
	for _, a := range w.after {
		if len(ids) < maxWriters && node(a) != node(w.id) {
			ids = append(ids, a)
		}
	}
	return ids
}

func refused(err error) error {
	var refusal *jetstream.APIError
	if errors.As(err, &refusal) && (refusal.ErrorCode == codeConflict || refusal.ErrorCode == codeConflictInFlight) {
		return fmt.Errorf("%w: %w", errConflict, err)
	}
	return err
}

// batch makes all of the writes or none, and returns the revision of the first; those of the others follow it. There are at most
// maxBatch of them, of different keys. The error is errRefused or errConflict when none is stored; after another it is not known.
func (b *bucket) batch(ctx context.Context, ws []write) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, b.try)
	defer cancel()
	id := b.nextID()
	for i, w := range ws {
		m := b.message(w)
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		if i < len(ws)-1 {
			if err := b.nc.PublishMsg(m); err != nil { // without the last one nothing is stored
				return 0, fmt.Errorf("%w: %w", errRefused, err)
			}
			continue
		}
		m.Header.Set("Nats-Batch-Commit", "1")
		reply, err := b.nc.RequestMsgWithContext(ctx, m)
		if errors.Is(err, nats.ErrNoResponders) {
			return 0, fmt.Errorf("%w: %w", errRefused, err)
		}
		if err != nil {
			return 0, fmt.Errorf("writing %d records: %w", len(ws), err)
		}
		var ack struct {
			Error *jetstream.APIError `json:"error"`
			Seq   uint64              `json:"seq"`
			Batch string              `json:"batch"`
			Count int                 `json:"count"`
		}
		if err := json.Unmarshal(reply.Data, &ack); err != nil {
			return 0, fmt.Errorf("writing %d records: %w", len(ws), err)
		}
		if ack.Error != nil {
			if err := refused(ack.Error); errors.Is(err, errConflict) {
				return 0, err
			}
			return 0, fmt.Errorf("%w: %w", errRefused, ack.Error)
		}
		if ack.Batch != id || ack.Count != len(ws) {
			return 0, fmt.Errorf("writing %d records: the answer is about %d of %q", len(ws), ack.Count, ack.Batch)
		}
		return ack.Seq - uint64(len(ws)) + 1, nil
	}
	return 0, nil
}

// probe finds out whether the servers take atomic batches into the bucket.
func (b *bucket) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.try)
	defer cancel()
	s, err := b.js.Stream(ctx, b.stream)
	if err != nil {
		return fmt.Errorf("asking for the settings of %s: %w", b.stream, err)
	}
	b.single.Store(!s.CachedInfo().Config.AllowAtomicPublish)
	return nil
}

// purge removes what the key had up to and including revision rev, such as the mark of a deletion. What was written since stays.
func (b *bucket) purge(ctx context.Context, key string, rev uint64) error {
	ctx, cancel := context.WithTimeout(ctx, b.try)
	defer cancel()
	s, err := b.js.Stream(ctx, b.stream)
	if err == nil {
		err = s.Purge(ctx, jetstream.WithPurgeSubject(b.pre+key), jetstream.WithPurgeSequence(rev+1))
	}
	if err != nil {
		return fmt.Errorf("purging %s of the bucket: %w", key, err)
	}
	return nil
}

// backoff waits between tries: 10 ms, then up to twice as long each time, to 500 ms, with jitter, so that nodes that contend do not
// keep step.
type backoff struct{ last time.Duration }

// wait returns false when ctx ended.
func (p *backoff) wait(ctx context.Context) bool {
	p.last = min(2*cmp.Or(p.last, 5*time.Millisecond), 500*time.Millisecond)
	t := time.NewTimer(p.last/2 + rnd.N(p.last/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
