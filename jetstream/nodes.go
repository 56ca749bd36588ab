package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"killfeed"
)

// nodes are what the nodes tell each other of themselves: each writes a record of its own every Timing.Beat and watches those of the
// others. A node is live while its record changes; what time it is on its machine does not matter.
//
// The methods may be called by any number of goroutines.
type nodes struct {
	b       *bucket
	name    string
	process string // unlike that of any other process
	version string
	t       Timing
	state   func() nodeState
	log     *slog.Logger
	started time.Time
	marked  chan struct{} // cap 1: there is a new mark

	mu sync.Mutex // guards the rest; held for map operations
	// marks are this node's newest, ascending.
	marks []chainMark
	// others are all nodes as the watch has brought them, this one included, by key.
	others map[string]sighting
	// twin is the record of another process under this node's name, which is newer than this one.
	twin *sighting
}

// nodeRecord is a node as it stands in the bucket.
type nodeRecord struct {
	Name    string `json:"name"`
	Run     string `json:"run"`
	Version string `json:"version,omitempty"`
	Started int64  `json:"started"` // Unix milliseconds, for people who look, as is Beat
	Beat    int64  `json:"beat"`
	// Head and First are those of the node's log.
	Head     killfeed.EventID `json:"head"`
	First    killfeed.EventID `json:"first"`
	Complete bool             `json:"complete"`
	Marks    []chainMark      `json:"marks,omitempty"`
}

// chainMark is the chain's sum at an event.
type chainMark struct {
	Event killfeed.EventID `json:"event"`
	Sum   string           `json:"sum"`
}

// sighting is a node's record, with when it was last seen to change.
type sighting struct {
	nodeRecord
	rev  uint64
	seen time.Time
}

const (
	// maxMarks are told of; those before them were compared.
	maxMarks = 16
	// silence is after how many times Timing.Take a node that does not change its record is live no more: 32 s. It is more than a
	// restart takes, as the servers shall keep the events that a node lacks when it comes back.
	silence = 4
	// forgotten is after how long the record of a node that does not change it is removed.
	forgotten = 24 * time.Hour
)

func newNodes(b *bucket, o Options, run string, state func() nodeState) *nodes {
	return &nodes{
		b: b, name: o.Node, process: run, version: o.Version, t: o.Timing, state: state, log: o.Logger, started: time.Now(),
		marked: make(chan struct{}, 1), others: map[string]sighting{},
	}
}

// run writes this node's record and watches all, until ctx ends.
func (n *nodes) run(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { _ = n.b.watch(ctx, []string{keyNode + "*"}, n) })
	defer watching.Wait()
	var own revision
	pause := backoff{}
	for known := false; ; {
		var err error
		if !known {
			own, err = n.adopt(ctx)
		}
		if err == nil {
			known = true
			own, err = n.beat(ctx, own)
		}
		wait := n.t.Beat
		if err != nil {
			if ctx.Err() == nil {
				n.log.Debug("this node's record could not be written", "error", err)
			}
			if !pause.wait(ctx) {
				return nil
			}
			known = false
			continue
		}
		pause = backoff{}
		next := time.NewTimer(wait)
		select {
		case <-next.C:
		case <-n.marked:
			next.Stop()
		case <-ctx.Done():
			next.Stop()
			return nil
		}
	}
}

// adopt reads the record that this node has in the bucket. One of an earlier process has the marks from before the restart, by which a
// node that differs from the others still knows that it does; with another log behind it, as after the loss of a disk, they mean nothing.
func (n *nodes) adopt(ctx context.Context) (revision, error) {
	e, err := n.b.last(ctx, keyOf(keyNode, n.name))
	if err != nil || e.gone {
		return e, err
	}
	var r nodeRecord
	if err := json.Unmarshal(e.value, &r); err != nil {
		return e, nil //nolint:nilerr // It is written anew.
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if r.Run != n.process && len(n.marks) == 0 && n.state().Head >= r.Head {
		n.marks = slices.DeleteFunc(r.Marks, func(m chainMark) bool { return m.Event > r.Head })
	}
	return e, nil
}

// beat writes this node's record in place of own. When a newer process has this node's name it is left alone.
func (n *nodes) beat(ctx context.Context, own revision) (revision, error) {
	n.mu.Lock()
	if n.twin != nil && time.Since(n.twin.seen) < n.silent() {
		n.mu.Unlock()
		return own, nil
	}
	alone := n.twin != nil // again
	n.twin = nil
	n.mu.Unlock()
	if alone {
		var err error
		if own, err = n.adopt(ctx); err != nil {
			return own, err
		}
	}
	n.mu.Lock()
	marks := slices.Clone(n.marks)
	n.mu.Unlock()
	st := n.state()
	value, err := json.Marshal(nodeRecord{
		Name: n.name, Run: n.process, Version: n.version, Started: n.started.UnixMilli(), Beat: time.Now().UnixMilli(),
		Head: st.Head, First: st.First, Complete: st.Complete, Marks: marks,
	})
	if err != nil {
		return own, err
	}
	try, cancel := context.WithTimeout(ctx, n.t.Try)
	defer cancel()
	o, err := n.b.swap(try, write{
		key: keyOf(keyNode, n.name), value: value, rev: own.rev, absent: own.rev == 0 || own.gone, after: own.ids, id: n.b.nextID(),
	})
	switch {
	case err != nil:
		return own, err
	case o.rev != 0:
		return revision{rev: o.rev, ids: o.ids}, nil
	}
	var r nodeRecord
	if err := json.Unmarshal(o.now.value, &r); err == nil && r.Run != n.process && r.Started >= n.started.UnixMilli() {
		n.log.Error("another process runs under this node's name", "node", n.name)
		n.mu.Lock()
		n.twin = &sighting{nodeRecord: r, rev: o.now.rev, seen: time.Now()}
		n.mu.Unlock()
	}
	return o.now, nil
}

func (n *nodes) silent() time.Duration { return silence * n.t.Take }

// mark adds the chain's sum at an event.
func (n *nodes) mark(event killfeed.EventID, sum string) {
	n.mu.Lock()
	n.marks = append(n.marks, chainMark{event, sum})
	if over := len(n.marks) - maxMarks; over > 0 {
		n.marks = slices.Delete(n.marks, 0, over)
	}
	n.mu.Unlock()
	select {
	case n.marked <- struct{}{}:
	default:
	}
}

func (n *nodes) begin() {}

func (n *nodes) see(e revision) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old, known := n.others[e.key]
	if known && e.rev <= old.rev { // brought anew
		return
	}
	if e.gone {
		delete(n.others, e.key)
		return
	}
	is := sighting{rev: e.rev, seen: time.Now()}
	if err := json.Unmarshal(e.value, &is.nodeRecord); err != nil {
		n.log.Warn("the record of a node cannot be read", "key", e.key, "error", err)
		return
	}
	n.others[e.key] = is
	if is.Name == n.name && n.twin != nil && is.Run == n.twin.Run {
		n.twin.seen = is.seen
	}
}

// whole: records that were not brought are of nodes that were forgotten; they are not live here either.
func (n *nodes) whole(context.Context) error { return nil }

// live yields the nodes that are live, without this one. It returns false when that is not known, as nothing is heard of this one
// either. The caller holds mu.
func (n *nodes) live() (list []sighting, ok bool) {
	for _, other := range n.others {
		switch {
		case other.Run == n.process:
			ok = time.Since(other.seen) < n.t.Take
		case time.Since(other.seen) < n.silent():
			list = append(list, other)
		}
	}
	return list, ok
}

// applied is the lowest head of all live nodes: up to there nobody needs the servers' events any more. It returns false while that is
// not known.
func (n *nodes) applied() (killfeed.EventID, bool) {
	head := n.state().Head
	n.mu.Lock()
	defer n.mu.Unlock()
	list, ok := n.live()
	for _, other := range list {
		head = min(head, other.Head)
	}
	return head, ok
}

// verdict is nil, or killfeed.ErrFailed when this node's log differs from those of most others, or another process has its name. Of a
// node that differs from this one, but is outvoted, nothing is said here: that one says it.
func (n *nodes) verdict() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.twin != nil && time.Since(n.twin.seen) < n.silent() {
		return fmt.Errorf("another process runs under the name of this node, %q: give each node a name of its own: %w", n.name,
			killfeed.ErrFailed)
	}
	list, _ := n.live()
	same, first, differ := 0, chainMark{}, []string(nil)
	for _, other := range list {
		switch m, common, equal := compare(n.marks, other.Marks); {
		case !common:
		case equal:
			same++
		default:
			first, differ = m, append(differ, other.Name)
		}
	}
	if len(differ) <= same {
		return nil
	}
	slices.Sort(differ)
	return fmt.Errorf("at event %d the log of this node differs from that of %d of the others %q, and equals that of %d: stop it, move "+
		"its data directory away, and start it again, so that it copies the log: %w", first.Event, len(differ), differ, same,
		killfeed.ErrFailed)
}

// compare compares two nodes' sums at the newest event that both have one of. A sum is over everything before it.
func compare(a, b []chainMark) (m chainMark, common, equal bool) {
	for _, m := range slices.Backward(a) {
		if i := slices.IndexFunc(b, func(o chainMark) bool { return o.Event == m.Event }); i >= 0 {
			return m, true, b[i].Sum == m.Sum
		}
	}
	return chainMark{}, false, false
}

// forget removes the records of nodes that have not changed them for a day. The leader calls it.
func (n *nodes) forget(ctx context.Context) error {
	n.mu.Lock()
	var old []revision
	for key, other := range n.others {
		if time.Since(other.seen) >= forgotten {
			old = append(old, revision{key: key, rev: other.rev})
		}
	}
	n.mu.Unlock()
	var errs []error
	for _, o := range old {
		if _, err := n.b.swap(ctx, write{key: o.key, drop: true, rev: o.rev, id: n.b.nextID()}); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
