package killfeed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxClientName is the greatest length of a client's name in bytes.
const MaxClientName = 128

// CheckClientName returns an *InvalidError unless name is 1 to 128 bytes of printable UTF-8 with no space at either end.
func CheckClientName(name string) error {
	ok := name != "" && len(name) <= MaxClientName && utf8.ValidString(name) &&
		strings.TrimSpace(name) == name && !strings.ContainsFunc(name, unprintable)
	if !ok {
		return invalid("client_id", name, "1 to 128 bytes of printable UTF-8 with no space at either end")
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// client is a reader whose offsets the feed keeps.
type client struct {
	name string

	// turn is held through one whole call of the client, so that its calls come one after another. It is a channel so
	// that a caller who leaves need not wait for it.
	turn chan struct{}

	seen atomic.Int64 // Unix milliseconds on the feed's clock; written by anybody

	// plan is what the last read was on, owned by who has the turn. Its offsets are those in the map below.
	plan []planned

	// Owned by the writer's goroutine.
	created, saved int64 // Unix milliseconds; saved is the seen that the store has, 0 when it has none

	mu      sync.Mutex // guards the rest; held for map operations only
	offsets map[Topic]*offset
	dirty   []Topic
	due     due  // when dirty is written
	gone    bool // deleted: whoever gets its turn looks the name up again
	// live are the client's subscriptions, all of one holder.
	live   []*Subscription
	holder any
	// joining: a subscription, or a topic of one, is about to begin where the client stands. Set by who has its turn.
	joining bool
	// Where other nodes have a say: hold is what they were told of the client, or have told; version counts what they changed; sought:
	// one of them has moved it, and its subscriptions here do not know yet.
	hold    Hold
	version uint64
	sought  bool
	// claimed is the last Holder that this node has told of, which may come back as news. moving: it was moved here in memory, and the
	// others are told with what is written behind.
	claimed string
	moving  bool
}

// due says when a client's dirty offsets are written.
type due uint8

const (
	dueNever due = iota // there are none
	dueLate             // within a second: subscriptions commit with every event
	dueSoon             // within writeBehind
)

// planned is a topic of a read, looked up.
type planned struct {
	topic Topic
	o     *offset
}

// set sets an offset. The caller holds mu. An offset that is there is changed in place: plans point at it.
func (c *client) set(t Topic, v offset) {
	if o := c.offsets[t]; o != nil {
		*o = v
	} else {
		c.offsets[t] = &v
	}
}

// offset is the position of a client on one topic.
type offset struct {
	// at is the last event id committed.
	at EventID
	// clear tells that nothing is on the topic in (at, clear], so that an idle poll need not look there again. It is
	// not stored.
	clear EventID
	// dirty: at is ahead of the store, and the topic stands in client.dirty.
	dirty bool
}

// stands is the event up to which nothing on the topic is unread.
func (o *offset) stands() EventID { return max(o.at, o.clear) }

func newClient(name string, now time.Time) *client {
	c := &client{name: name, turn: make(chan struct{}, 1), offsets: map[Topic]*offset{}, created: now.UnixMilli()}
	c.seen.Store(now.UnixMilli())
	return c
}

func loadClient(r ClientRecord) *client {
	c := newClient(r.Client, r.Created)
	c.seen.Store(r.At.UnixMilli())
	c.saved = r.At.UnixMilli()
	for t, at := range r.Offsets {
		c.offsets[t] = &offset{at: at}
	}
	return c
}

// registry is the set of clients.
type registry struct {
	max     int
	dirtied chan struct{} // cap 1: something is to be written soon
	later   chan struct{} // cap 1: something is to be written, but late

	mu     sync.RWMutex // guards byName; held for one map operation, or a copy of the values
	byName map[string]*client

	dirtyMu sync.Mutex // guards the next two; held for an append or a swap
	dirty   []*client  // clients with dirty offsets that are due soon
	late    []*client  // those that were due late when they became dirty
}

func (r *registry) len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.byName)
}

func (r *registry) get(name string) *client {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byName[name]
}

// all returns the clients by name.
func (r *registry) all() []*client {
	r.mu.RLock()
	cs := make([]*client, 0, len(r.byName))
	for _, c := range r.byName {
		cs = append(cs, c)
	}
	r.mu.RUnlock()
	slices.SortFunc(cs, func(a, b *client) int { return strings.Compare(a.name, b.name) })
	return cs
}

// make returns the client of that name, a new one when there is none.
func (r *registry) make(name string, now time.Time) (*client, error) {
	if c := r.get(name); c != nil {
		return c, nil
	}
	if err := CheckClientName(name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.byName[name]; c != nil {
		return c, nil
	}
	if len(r.byName) >= r.max {
		return nil, fmt.Errorf("client %q: %w: this server remembers at most %d; delete some", name, ErrTooManyClients, r.max)
	}
	c := newClient(strings.Clone(name), now) // the name may be a piece of something large
	r.byName[c.name] = c
	return c, nil
}

func (r *registry) remove(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byName[c.name] == c {
		delete(r.byName, c.name)
	}
}

// markDirty notes that c has dirty offsets. Callers do not hold c.mu.
func (r *registry) markDirty(c *client, when due) {
	list, signal := &r.dirty, r.dirtied
	if when == dueLate {
		list, signal = &r.late, r.later
	}
	r.dirtyMu.Lock()
	*list = append(*list, c)
	first := len(*list) == 1
	r.dirtyMu.Unlock()
	if first {
		select {
		case signal <- struct{}{}:
		default:
		}
	}
}

// dirtyOffsets are one client's offsets that are about to be written.
type dirtyOffsets struct {
	client  *client
	offsets []Offset
	// seen is the client's record when the store has none yet, else nil. Without one a client would count as unseen for
	// decades after a restart.
	seen *ClientSeen
	// moved: client.moving.
	moved bool
}

// takeDirty returns what is to be written behind, with late also what is due late, and marks it clean. It runs on the writer's
// goroutine.
func (r *registry) takeDirty(late bool) []dirtyOffsets {
	r.dirtyMu.Lock()
	cs := r.dirty
	r.dirty = nil
	if late {
		cs, r.late = append(cs, r.late...), nil
	}
	r.dirtyMu.Unlock()
	if len(cs) == 0 {
		return nil
	}
	out := make([]dirtyOffsets, 0, len(cs))
	for _, c := range cs {
		d := dirtyOffsets{client: c}
		c.mu.Lock()
		if !c.gone {
			for _, t := range c.dirty {
				if o := c.offsets[t]; o != nil && o.dirty {
					o.dirty = false
					d.offsets = append(d.offsets, Offset{Client: c.name, Topic: t, At: o.at})
				}
			}
		}
		d.moved = c.moving && len(d.offsets) > 0
		c.dirty, c.due, c.moving = c.dirty[:0], dueNever, c.moving && !d.moved
		c.mu.Unlock()
		if c.saved == 0 && len(d.offsets) > 0 {
			seen := c.record(c.seen.Load())
			d.seen = &seen
		}
		out = append(out, d)
	}
	return out
}

// putBack undoes takeDirty for one client after a failed write. What was committed since is ahead of it and stays.
func (r *registry) putBack(d dirtyOffsets) {
	topics := make([]Topic, len(d.offsets))
	for i, o := range d.offsets {
		topics[i] = o.Topic
	}
	if d.moved {
		d.client.mu.Lock()
		d.client.moving = true
		d.client.mu.Unlock()
	}
	r.dirtyTopics(d.client, topics, dueSoon)
}

// dirtyTopics marks offsets of c as ahead of the store.
func (r *registry) dirtyTopics(c *client, topics []Topic, when due) {
	c.mu.Lock()
	for _, t := range topics {
		if o := c.offsets[t]; o != nil && !o.dirty {
			o.dirty = true
			c.dirty = append(c.dirty, t)
		}
	}
	earlier := len(c.dirty) > 0 && when > c.due
	if earlier {
		c.due = when
	}
	c.mu.Unlock()
	if earlier {
		r.markDirty(c, when)
	}
}

// take gets the turn of the named client, making the client when there is none and create is set. The caller must call
// release. Without create an unknown client is ErrNotFound.
func (f *Feed) take(ctx context.Context, name string, create bool) (*client, error) {
	for {
		var c *client
		if create {
			var err error
			if c, err = f.clients.make(name, f.now()); err != nil {
				return nil, err
			}
		} else if c = f.clients.get(name); c == nil {
			return nil, fmt.Errorf("client %q: %w", name, ErrNotFound)
		}
		select {
		case c.turn <- struct{}{}:
		default:
			select {
			case c.turn <- struct{}{}:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		c.mu.Lock()
		gone := c.gone
		c.mu.Unlock()
		if !gone {
			c.seen.Store(f.now().UnixMilli())
			return c, nil
		}
		c.release()
	}
}

func (c *client) release() { <-c.turn }

// there is ErrNotFound when the client was deleted, which another node may do while somebody here has its turn.
func (c *client) there() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return fmt.Errorf("client %q was deleted: %w", c.name, ErrNotFound)
	}
	return nil
}

// seen is when the client last called; now, while it has a subscription.
func (f *Feed) seen(c *client) time.Time {
	c.mu.Lock()
	if len(c.live) > 0 {
		c.seen.Store(f.now().UnixMilli())
	}
	c.mu.Unlock()
	return time.UnixMilli(c.seen.Load()).UTC()
}

// ClientInfo describes a client.
type ClientInfo struct {
	Name string
	// Offsets are the last event ids committed, by topic.
	Offsets map[Topic]EventID
	// Lag is how many events the client has not had on its topics, counted to MaxLag.
	Lag int
	// LastSeen is when the client last called, UTC.
	LastSeen time.Time
}

// MaxLag is where counting a client's lag stops.
const MaxLag = 10_000

// Client describes one client. An unknown one is ErrNotFound. It does not count as a call of the client.
func (f *Feed) Client(name string) (ClientInfo, error) {
	c := f.clients.get(name)
	if c == nil {
		return ClientInfo{}, fmt.Errorf("client %q: %w", name, ErrNotFound)
	}
	return f.describe(c)
}

// Clients describes up to limit clients whose names come after the given one, by name.
func (f *Feed) Clients(after string, limit int) ([]ClientInfo, error) {
	all := f.clients.all()
	i, found := slices.BinarySearchFunc(all, after, func(c *client, name string) int { return strings.Compare(c.name, name) })
	if found {
		i++
	}
	infos := []ClientInfo{}
	for _, c := range all[i:min(len(all), i+limit)] {
		info, err := f.describe(c)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (f *Feed) describe(c *client) (ClientInfo, error) {
	info := ClientInfo{Name: c.name, Offsets: map[Topic]EventID{}, LastSeen: f.seen(c)}
	st := f.store.State()
	q := Query{Through: st.Head, Max: MaxLag}
	u, stored := f.Universe(), []Topic(nil)
	c.mu.Lock()
	for t, o := range c.offsets {
		info.Offsets[t] = o.at
		after := o.stands()
		if after >= st.Head || f.bells.quiet(t, after, st.Head) {
			continue
		}
		stored = u.expand(stored[:0], t)
		for _, t := range stored {
			q.Positions = append(q.Positions, Position{Topic: t, After: after})
		}
	}
	c.mu.Unlock()
	if len(q.Positions) == 0 {
		return info, nil
	}
	entries, err := f.store.Find(nil, q)
	if err != nil {
		return ClientInfo{}, fmt.Errorf("counting the lag of client %q: %w", c.name, err)
	}
	var last EventID
	for _, e := range entries {
		if e.ID != last && !e.Marks.Has(MarkUpdate) {
			info.Lag++
		}
		last = e.ID
	}
	return info, nil
}

// DeleteClient forgets a client and its offsets, durably. An unknown one is ErrNotFound.
func (f *Feed) DeleteClient(ctx context.Context, name string) error {
	c, err := f.take(ctx, name, false)
	if err != nil {
		return err
	}
	defer c.release()
	return f.forget(ctx, c)
}

// forget deletes c; the caller has its turn.
func (f *Feed) forget(ctx context.Context, c *client) error {
	return f.writer.do(ctx, &request{
		client: c,
		change: func(b *Batch) error {
			if err := c.there(); err != nil {
				return err
			}
			b.Gone = append(b.Gone, c.name)
			return nil
		},
		apply: func() {
			c.mu.Lock()
			c.gone = true
			c.mu.Unlock()
			f.clients.remove(c)
			c.endLive(nil, fmt.Errorf("client %q was deleted: %w", c.name, ErrNotFound))
		},
	})
}

// saveSeen writes down when clients were last seen, where that moved since the last time.
func (f *Feed) saveSeen(ctx context.Context) error {
	const chunk = 4096
	for cs := range slices.Chunk(f.clients.all(), chunk) {
		for _, c := range cs {
			f.seen(c)
		}
		if err := f.writer.do(ctx, seenRequest(cs)); err != nil {
			return err
		}
	}
	return nil
}

// saveSeenAtClose is saveSeen's last run. An error costs at most a minute of last-seen times and was logged by the store.
func (f *Feed) saveSeenAtClose() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if f.writer.clientHealth() == nil {
		_ = f.saveSeen(ctx)
	}
}

func seenRequest(cs []*client) *request {
	times := make([]int64, len(cs))
	return &request{
		change: func(b *Batch) error {
			for i, c := range cs {
				c.mu.Lock()
				gone := c.gone || len(c.offsets) == 0
				c.mu.Unlock()
				if times[i] = c.seen.Load(); times[i] != c.saved && !gone {
					b.Seen = append(b.Seen, c.record(times[i]))
				}
			}
			return nil
		},
		apply: func() {
			for i, c := range cs {
				c.saved = times[i]
			}
		},
	}
}

func (c *client) record(seen int64) ClientSeen {
	return ClientSeen{Client: c.name, Created: time.UnixMilli(c.created).UTC(), At: time.UnixMilli(seen).UTC()}
}
