package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
)

// Moved counts what was moved.
type Moved struct {
	Events    int `json:"events"`
	Clients   int `json:"clients"`
	Positions int `json:"positions"` // of sources
}

const (
	// moveEvents and moveBytes bound what is read and appended at a time.
	moveEvents = 500
	moveBytes  = 4 << 20
	// moveClients bounds the clients that are written at a time.
	moveClients = 500
)

// MoveIn brings the log of a feed of one node to the servers: its kept events with their ids, its clients with their offsets, and the
// places of its sources. The stream is that of Create with the store's epoch and its first event. At the end the store notes its place
// in the chain, and with that is the store of a node.
//
// The store of a node may be brought again to servers that have lost the log: its clients and places, which are only those that this node
// has written, then count where the bucket has none.
//
// Nobody else may write to the stream, the bucket or the store meanwhile: that is for the caller to see to, who has a Move other than
// Here noted. After an error it can be repeated: it goes on where it was. progress is told how many events the stream has, of how many.
func MoveIn(ctx context.Context, nc *nats.Conn, store killfeed.Store, places []killfeed.Checkpoint, o Options,
	progress func(done, total uint64)) (Moved, error) {
	o = o.filled()
	var moved Moved
	node, err := IsNode(store)
	if err != nil {
		return moved, err
	}
	c, err := NewCopier(ctx, nc, o)
	if err != nil {
		return moved, err
	}
	st := store.State()
	if err := fits(ctx, c, store); err != nil {
		return moved, err
	}
	for c.Next() <= st.Head {
		if err := ctx.Err(); err != nil {
			return moved, context.Cause(ctx)
		}
		events, err := read(store, c.Next(), st.Head)
		if err != nil {
			return moved, err
		}
		if err := c.Append(ctx, events); err != nil {
			return moved, err
		}
		moved.Events += len(events)
		progress(uint64(c.Next()-st.First), uint64(st.Head+1-st.First))
	}
	if moved.Clients, err = storeClients(ctx, nc, store, !node, o); err != nil {
		return moved, err
	}
	if moved.Positions, err = storePlaces(ctx, nc, places, !node, o); err != nil {
		return moved, fmt.Errorf("bringing the places of sources: %w", err)
	}
	if err := store.Commit(&killfeed.Batch{Checkpoints: []killfeed.Checkpoint{c.Checkpoint()}}); err != nil {
		return moved, fmt.Errorf("noting the place in the chain: %w", err)
	}
	return moved, nil
}

// Forget makes the store of a node that of a feed of one node, with what it has, when the servers are lost for good. Events that it has
// not got and clients that only other nodes have written are not in it.
func Forget(store killfeed.Store) error {
	if err := store.Commit(&killfeed.Batch{Checkpoints: []killfeed.Checkpoint{{Source: chainSource}}}); err != nil {
		return fmt.Errorf("having the store forget its place in the chain: %w", err)
	}
	return nil
}

// IsNode tells whether the store is that of a node, which may only be written to as the nodes have agreed. MoveOut ends that.
func IsNode(store killfeed.Store) (bool, error) {
	place, err := store.Checkpoint(chainSource)
	if err != nil {
		return false, fmt.Errorf("looking whether the store is a node's: %w", err)
	}
	return place != "", nil
}

// fits tells a stream that the store's log does not go on from.
func fits(ctx context.Context, c *Copier, store killfeed.Store) error {
	st, last := store.State(), c.Next()-1
	switch {
	case last > st.Head:
		return fmt.Errorf("the stream %s has event %d and the directory ends with %d: it has gone on without it, so %w", c.stream.name, last, st.Head,
			ErrRefused)
	case c.Next() < st.First:
		return fmt.Errorf("the stream %s ends with event %d and the directory begins with %d: those between were removed, so %w; delete the "+
			"stream and its bucket, and begin anew", c.stream.name, last, st.First, ErrRefused)
	case last < st.First:
		return nil // nothing that both have
	}
	there, err := c.stream.get(ctx, last)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil // the stream is empty
	}
	if err != nil {
		return err
	}
	if err := same(store, there.Event); errors.Is(err, killfeed.ErrFailed) {
		return fmt.Errorf("event %d of the stream %s is another one than that of the directory: they are different logs, so %w", last, c.stream.name,
			ErrRefused)
	} else {
		return err
	}
}

// read reads events from one on, as many as are moved at a time.
func read(store killfeed.Store, from, through killfeed.EventID) (events []killfeed.Event, err error) {
	ids := make([]killfeed.EventID, 0, moveEvents)
	for id := from; id <= through && len(ids) < moveEvents; id++ {
		ids = append(ids, id)
	}
	size := 0
	failed := store.Read(ids, func(e killfeed.Event, bad error) bool {
		if err = bad; bad != nil {
			return false
		}
		events = append(events, e)
		size += len(e.Killmail)
		return size < moveBytes
	})
	if len(events) > 0 {
		return events, nil // what is damaged behind them comes first the next time
	}
	return nil, fmt.Errorf("reading event %d: %w", from, errors.Join(err, failed))
}

func openBucket(nc *nats.Conn, o Options) (*bucket, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.Timing.Try))
	if err != nil {
		return nil, err
	}
	return newBucket(js, o), nil
}

// openClients loads all clients from the bucket.
func openClients(ctx context.Context, nc *nats.Conn, o Options, yield func(killfeed.SharedClient) bool) (*clients, error) {
	b, err := openBucket(nc, o)
	if err != nil {
		return nil, err
	}
	if err := b.probe(ctx); err != nil {
		return nil, err
	}
	c := newClients(b, func() killfeed.EventID { return 0 }, func() {}) // no node has to wait for the log
	if err := c.load(ctx, yield); err != nil {
		return nil, fmt.Errorf("loading clients: %w", err)
	}
	return c, nil
}

// storeClients writes the store's clients into the bucket. When they replace what is there, those that are only there are deleted.
func storeClients(ctx context.Context, nc *nats.Conn, store killfeed.Store, replace bool, o Options) (n int, err error) {
	there, gone := map[string]bool{}, map[string]bool{}
	c, err := openClients(ctx, nc, o, func(one killfeed.SharedClient) bool {
		if !one.Gone {
			there[one.Client], gone[one.Client] = true, true
		}
		return true
	})
	if err != nil {
		return 0, err
	}
	var records []killfeed.ClientRecord
	if err := store.Clients(func(r killfeed.ClientRecord) bool {
		if replace || !there[r.Client] {
			records = append(records, r)
		}
		delete(gone, r.Client)
		return true
	}); err != nil {
		return 0, fmt.Errorf("reading the directory's clients: %w", err)
	}
	write := func(b *killfeed.Batch) error {
		moved, err := c.agree(ctx, b)
		if err == nil && len(moved) > 0 {
			err = fmt.Errorf("somebody else changes client %q: %w", moved[0].Client, killfeed.ErrBehind)
		}
		if err != nil {
			return fmt.Errorf("bringing clients: %w", err)
		}
		return nil
	}
	for len(records) > 0 {
		some := records[:min(moveClients, len(records))]
		b := batchOf(some)
		for _, r := range some { // with offsets that are no more
			if there[r.Client] {
				b.Gone = append(b.Gone, r.Client)
			}
		}
		if err := write(b); err != nil {
			return n, err
		}
		n, records = n+len(some), records[len(some):]
	}
	if !replace {
		return n, nil
	}
	var b killfeed.Batch
	for name := range gone {
		if b.Gone = append(b.Gone, name); len(b.Gone) == moveClients {
			if err := write(&b); err != nil {
				return n, err
			}
			b.Gone = nil
		}
	}
	if len(b.Gone) == 0 {
		return n, nil
	}
	return n, write(&b)
}

func batchOf(records []killfeed.ClientRecord) *killfeed.Batch {
	var b killfeed.Batch
	for _, r := range records {
		b.Seen = append(b.Seen, r.ClientSeen)
		for t, at := range r.Offsets {
			b.Offsets = append(b.Offsets, killfeed.Offset{Client: r.Client, Topic: t, At: at})
		}
	}
	return &b
}

// storePlaces writes the places of sources into the bucket, as the last leader would have: the next one goes on from there.
func storePlaces(ctx context.Context, nc *nats.Conn, places []killfeed.Checkpoint, replace bool, o Options) (int, error) {
	b, err := openBucket(nc, o)
	if err != nil {
		return 0, err
	}
	last, err := b.last(ctx, keyLeader)
	if err != nil {
		return 0, err
	}
	lease, err := parseLease(last)
	if err != nil {
		return 0, err
	}
	sources := newSources(b, o)
	var some []killfeed.Checkpoint
	for _, p := range places {
		if p.Source == chainSource || p.Place == "" {
			continue
		}
		if !replace {
			has, err := sources.get(ctx, p.Source)
			if err != nil {
				return 0, err
			}
			if has != "" {
				continue
			}
		}
		some = append(some, p)
	}
	return len(some), sources.put(ctx, some, max(lease.Term, 1))
}

// MoveOut gives the clients with their offsets and the places of sources to a node's store, in place of those that it has, and has the
// store forget its place in the chain: with that it is the store of a feed of one node. It must have all events already, and nobody
// else may write to it, or to the bucket, meanwhile. After an error it can be repeated.
func MoveOut(ctx context.Context, nc *nats.Conn, store killfeed.Store, o Options) (Moved, error) {
	o = o.filled()
	var (
		moved   Moved
		records []killfeed.ClientRecord
		gone    = map[string]bool{}
	)
	if _, err := openClients(ctx, nc, o, func(c killfeed.SharedClient) bool {
		if !c.Gone {
			records = append(records, c.ClientRecord)
		}
		return true
	}); err != nil {
		return moved, err
	}
	if err := store.Clients(func(r killfeed.ClientRecord) bool { gone[r.Client] = true; return true }); err != nil {
		return moved, fmt.Errorf("reading the directory's clients: %w", err)
	}
	commit := func(b *killfeed.Batch) error {
		if err := store.Commit(b); err != nil {
			return fmt.Errorf("writing what was taken home: %w", err)
		}
		return nil
	}
	for len(records) > 0 {
		some := records[:min(moveClients, len(records))]
		b := batchOf(some)
		for _, r := range some { // with all offsets: those that are no more go first
			b.Gone = append(b.Gone, r.Client)
			delete(gone, r.Client)
		}
		if err := commit(b); err != nil {
			return moved, err
		}
		moved.Clients, records = moved.Clients+len(some), records[len(some):]
	}
	places, err := sourcePlaces(ctx, nc, o)
	if err != nil {
		return moved, err
	}
	moved.Positions = len(places)
	last := &killfeed.Batch{Checkpoints: append(places, killfeed.Checkpoint{Source: chainSource})}
	for name := range gone {
		last.Gone = append(last.Gone, name)
	}
	return moved, commit(last)
}

// sourcePlaces reads the places of all sources from the bucket.
func sourcePlaces(ctx context.Context, nc *nats.Conn, o Options) (places []killfeed.Checkpoint, err error) {
	b, err := openBucket(nc, o)
	if err != nil {
		return nil, err
	}
	keys, err := bucketKeys(ctx, b, keySource+">")
	if err != nil {
		return nil, err
	}
	sources := newSources(b, o)
	for _, key := range keys {
		name, ok := nameOf(keySource, key)
		if !ok {
			continue
		}
		place, err := sources.get(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("reading the place of %s: %w", name, err)
		}
		if place != "" {
			places = append(places, killfeed.Checkpoint{Source: name, Place: place})
		}
	}
	return places, nil
}

// bucketKeys lists the keys of the bucket that match, also deleted ones.
func bucketKeys(ctx context.Context, b *bucket, match string) (keys []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	stream, err := b.js.Stream(ctx, b.stream)
	if err != nil {
		return nil, asked("looking at the stream "+b.stream, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(b.pre+match))
	if err != nil {
		return nil, asked("listing the keys "+match+" of the stream "+b.stream, err)
	}
	for subject := range info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, b.pre))
	}
	slices.Sort(keys)
	return keys, nil
}
