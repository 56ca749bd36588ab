package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"killfeed"
)

// Ledger is a node's part in a cluster. See killfeed.Ledger for which goroutine may call what.
type Ledger struct {
	o      Options
	log    *slog.Logger
	nc     *nats.Conn
	store  killfeed.Store
	stream *stream
	run    string // unlike that of any other Open

	tail    *tail
	clients *clients
	sources *sources
	lease   *lease
	nodes   *nodes
	peers   *peers
	floor   *floor

	news chan struct{}
	// pieces are what another node remembers of events that were purged before this node had them, on their way to Take, which alone
	// may write to the store.
	pieces chan piece
	// complete: the node has all events that the stream has begun with, or what is remembered of them.
	complete atomic.Bool

	life    context.Context // ends with Close; the methods of killfeed.Ledger that take no context run in it
	end     context.CancelFunc
	working sync.WaitGroup
	watch   sync.Once // starts following the clients

	mu sync.Mutex // guards what follows
	// unavailable is why the servers could not be asked last time, failed why nothing will go on.
	unavailable, failed error
	// trouble is when an append last had no answer.
	trouble time.Time

	// Owned by the writer's goroutine.
	link    link             // the chain behind what the writer was given and has appended: where the store must be
	warned  bool             // another node's chain differs
	appends int              // tries begun, for their names
	told    killfeed.EventID // the last News.Through
	held    *piece           // could not be adopted yet
}

var _ killfeed.Ledger = (*Ledger)(nil)

// Open joins the cluster: it waits for the servers, makes sure that the store's log and the stream belong together, and has what
// was purged before this node could get it copied from another node into the store. It returns when that is done, so a node
// never shows a log with a part missing; until then, or until ctx ends, the store is Open's to write to. Events that the stream
// still has come with Take.
//
// The error is killfeed.ErrFailed when log and stream do not belong together, ErrNoFeed when there is no stream, and
// killfeed.ErrUnavailable when ctx ended before the servers or another node could be asked. nc stays the caller's, and is closed
// after Close.
func Open(ctx context.Context, nc *nats.Conn, store killfeed.Store, o Options) (*Ledger, error) {
	o = o.filled()
	if err := killfeed.CheckClientName(o.Node); err != nil {
		return nil, fmt.Errorf("a node needs a name: %w", err)
	}
	s, epoch, err := openStream(ctx, nc, o)
	if err != nil {
		return nil, err
	}
	created := s.CachedInfo().Created
	if err := verify(ctx, s, store, epoch, 3*o.Timing.Look); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.Timing.Try))
	if err != nil {
		return nil, err
	}
	err = persist(ctx, func() error {
		_, err := streamInfo(ctx, js, bucketConfig(o).Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("bucket %q: %w; 'killfeed cluster init' makes it", o.Name, ErrNoFeed)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		o: o, log: o.Logger.With("ledger", o.Name, "node", o.Node), nc: nc, store: store, stream: s, run: nuid.Next(),
		news: make(chan struct{}, 1), pieces: make(chan piece, 1),
	}
	o.Logger = l.log
	l.life, l.end = context.WithCancel(context.Background())
	shared := newBucket(js, o)
	l.clients = newClients(shared, func() killfeed.EventID { return store.State().Head }, l.ready)
	l.sources = newSources(shared, o)
	l.lease = newLease(shared, o, l.run)
	l.nodes = newNodes(shared, o, l.run, l.state)
	l.peers = newPeers(nc, store, o, l.complete.Load)
	l.floor = newFloor(js, shared, o, l.lease, l.nodes, l.ready)
	// Nobody but Open knows the store yet.
	err = l.copyPast(ctx, func(_ context.Context, p killfeed.Legacy, _ link) error { return store.Adopt(p) })
	if err == nil {
		l.link, err = linkAt(ctx, s, store)
	}
	if err != nil {
		l.end()
		return nil, err
	}
	l.complete.Store(true)
	l.tail = newTail(s, epoch, created, l.link.at)
	l.tail.look, l.tail.log, l.tail.ready = o.Timing.Look, l.log, l.ready
	l.tail.stored = func() killfeed.EventID { return store.State().Head }
	l.tail.condition, l.tail.fatal = l.condition, l.fail
	l.tail.adopt = func(ctx context.Context) error {
		l.complete.Store(false)
		if err := l.copyPast(ctx, l.hand); err != nil {
			if ctx.Err() == nil {
				l.log.Warn("copying from another node failed and is tried again", "error", err)
			}
			return err
		}
		l.complete.Store(true)
		return nil
	}
	for _, service := range []func(context.Context) error{
		l.tail.run, l.tail.watch, l.lease.run, l.nodes.run, l.peers.serve, l.floor.run,
	} {
		l.serve(service)
	}
	l.ready()
	return l, nil
}

// serve runs what ends only with Close, or because it cannot go on.
func (l *Ledger) serve(run func(context.Context) error) {
	l.working.Go(func() {
		if err := run(l.life); err != nil && l.life.Err() == nil {
			l.fail(err)
		}
	})
}

// Close implements killfeed.Ledger. The lease, if this node has it, is given up, so that another node takes it over at once.
func (l *Ledger) Close() error {
	l.end()
	l.working.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), l.o.Timing.Try)
	defer cancel()
	l.lease.giveUp(ctx)
	return nil
}

// state is what the other nodes are told.
func (l *Ledger) state() nodeState {
	st := l.store.State()
	return nodeState{Head: st.Head, First: st.First, Complete: l.complete.Load()}
}

func (l *Ledger) ready() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// fail ends it all: what went wrong does not pass by itself.
func (l *Ledger) fail(err error) {
	if !errors.Is(err, killfeed.ErrFailed) {
		err = fmt.Errorf("%w: %w", err, killfeed.ErrFailed)
	}
	l.mu.Lock()
	first := l.failed == nil
	if first {
		l.failed = err
	}
	l.mu.Unlock()
	if first {
		l.log.Error("the ledger does not go on", "error", err)
		l.ready()
	}
}

// condition takes nil or why the servers could not be asked.
func (l *Ledger) condition(err error) {
	l.mu.Lock()
	was := l.unavailable
	l.unavailable = err
	l.mu.Unlock()
	switch {
	case err != nil && was == nil:
		l.log.Warn("the ledger cannot be reached; reads go on", "error", err)
	case err == nil && was != nil:
		l.log.Info("the ledger can be reached again")
	}
}

// broken is why the ledger does not go on, if it does not.
func (l *Ledger) broken() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Health implements killfeed.Ledger.
func (l *Ledger) Health() error {
	if err := l.broken(); err != nil {
		return err
	}
	if err := l.nodes.verdict(); err != nil {
		return err
	}
	if !l.complete.Load() {
		return fmt.Errorf("%w: copying from another node what was removed before this node had it", killfeed.ErrUnavailable)
	}
	if !l.nc.IsConnected() {
		return fmt.Errorf("%w: %w", killfeed.ErrUnavailable, errNoConnection)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unavailable != nil {
		return fmt.Errorf("%w: %w", killfeed.ErrUnavailable, l.unavailable)
	}
	// That a server answers questions does not tell that most of them are there; appends do.
	if since := time.Since(l.trouble); since < 2*l.o.Timing.Look {
		return fmt.Errorf("%w: an append got no answer %v ago", killfeed.ErrUnavailable, since.Round(time.Second))
	}
	return nil
}

// Load implements killfeed.Ledger.
func (l *Ledger) Load(yield func(killfeed.SharedClient) bool) error {
	err := persist(l.life, func() error {
		err := l.clients.load(l.life, yield)
		if errors.Is(err, context.DeadlineExceeded) { // of one request
			err = fmt.Errorf("%w: %w", killfeed.ErrUnavailable, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	l.watch.Do(func() { l.serve(l.clients.run) })
	return nil
}

// Checkpoint implements killfeed.Ledger.
func (l *Ledger) Checkpoint(source string) (string, error) {
	if source == chainSource {
		return l.store.Checkpoint(source)
	}
	return l.sources.get(l.life, source)
}

// Leads implements killfeed.Ledger.
func (l *Ledger) Leads() error { return l.lease.leads() }

// Lead runs work whenever this node leads, with a context that ends when it leads no more, and waits for work's end before it
// stands again. It returns when ctx ends.
func (l *Ledger) Lead(ctx context.Context, work func(context.Context) error) error {
	return l.lease.lead(ctx, work)
}

// Head implements killfeed.Ledger. A server that has just begun to lead may be behind what other nodes have had from the one before.
func (l *Ledger) Head(ctx context.Context) (killfeed.EventID, error) {
	info, err := l.stream.state(ctx)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", err, killfeed.ErrUnavailable)
	}
	head := max(killfeed.EventID(info.State.LastSeq), l.tail.position())
	for _, p := range l.nodes.peers() {
		head = max(head, p.Head)
	}
	return head, nil
}

// Remove implements killfeed.Ledger.
func (l *Ledger) Remove(ctx context.Context, through killfeed.EventID) error {
	if err := l.lease.leads(); err != nil {
		return err
	}
	return l.floor.set(ctx, through, l.lease.term())
}

// News implements killfeed.Ledger.
func (l *Ledger) News() <-chan struct{} { return l.news }

// Agree implements killfeed.Ledger.
func (l *Ledger) Agree(ctx context.Context, b *killfeed.Batch) (killfeed.Outcome, error) {
	if err := l.fit(ctx); err != nil {
		return killfeed.Outcome{}, err
	}
	var places []killfeed.Checkpoint
	for _, c := range b.Checkpoints {
		if c.Source != chainSource {
			places = append(places, c)
		}
	}
	if len(b.Events) > 0 {
		if err := l.append(ctx, b.Events); err != nil {
			return killfeed.Outcome{}, err
		}
		b.Checkpoints = append(b.Checkpoints, l.link.checkpoint())
	}
	var out killfeed.Outcome
	if len(places) > 0 {
		out.Places = l.sources.put(ctx, places, l.lease.term())
	}
	out.Moved, out.Err = l.clients.agree(ctx, b)
	return out, nil
}

// fit makes sure that the store is where the writer was brought to, or begins again at its head.
func (l *Ledger) fit(ctx context.Context) error {
	if err := l.broken(); err != nil {
		return err
	}
	head := l.store.State().Head
	if head == l.link.at {
		return nil
	}
	if head > l.link.at {
		// Only the writer's commits move it, and what they commit comes from here.
		return fmt.Errorf("this node's store has event %d, and the ledger gave out events up to %d: %w", head, l.link.at, killfeed.ErrFailed)
	}
	l.log.Warn("the store lacks events that were agreed on; they are read again", "head", head, "agreed", l.link.at)
	ctx, cancel := context.WithTimeout(ctx, 2*l.o.Timing.Try)
	defer cancel()
	link, err := linkAt(ctx, l.stream, l.store)
	if err != nil {
		return err
	}
	l.link = link
	l.tail.restart(head)
	return nil
}

// append appends events behind the store's head.
func (l *Ledger) append(ctx context.Context, list []killfeed.NewEvent) error {
	if err := l.nodes.verdict(); err != nil {
		return err
	}
	if !l.complete.Load() {
		return fmt.Errorf("appending: %w: copying from another node what was removed before this node had it", killfeed.ErrUnavailable)
	}
	if list[0].ID != l.link.at+1 {
		return fmt.Errorf("appending event %d behind event %d: %w", list[0].ID, l.link.at, killfeed.ErrFailed)
	}
	if _, ok := l.tail.find(l.link.at + 1); ok {
		return fmt.Errorf("appending event %d: %w", list[0].ID, killfeed.ErrBehind)
	}
	patience := l.o.Timing.Try
	if l.troubled() {
		// One caller waited and has no answer. The next ones are spared that while the servers cannot even be asked.
		patience = 0
		err := errNoConnection
		if l.nc.IsConnected() {
			_, err = l.stream.state(ctx)
		}
		if err != nil {
			l.condition(err)
			return fmt.Errorf("appending event %d: %w: %w", list[0].ID, err, killfeed.ErrUnavailable)
		}
	}
	events := make([]killfeed.Event, len(list))
	for i := range list {
		events[i] = list[i].Event
	}
	for at := l.link; len(events) > 0; {
		l.appends++
		b, rest, after := l.stream.cut(events, at, l.run+"."+strconv.Itoa(l.appends))
		if err := l.stream.append(ctx, b, patience, l.tail.find); err != nil {
			var conflict *conflictError
			if errors.As(err, &conflict) {
				l.tail.offer(conflict.entry) // Take needs not wait for the consumer then
			}
			l.mark(err)
			return partly(list, len(list)-len(events), err)
		}
		events, at = rest, after
		if len(rest) == 0 {
			l.settle(list, after)
		}
	}
	return nil
}

// partly is the error of a batch of which the first done events are in the log and the others are not. A writer that builds it anew
// recognizes killmails by their ids; with one that has none it must not.
func partly(list []killfeed.NewEvent, done int, err error) error {
	anonymous := slices.ContainsFunc(list[:done], func(e killfeed.NewEvent) bool { return e.KillmailID == 0 })
	if done == 0 || errors.Is(err, killfeed.ErrOutcomeUnknown) || errors.Is(err, killfeed.ErrBehind) && !anonymous {
		return err
	}
	return fmt.Errorf("%d of %d events are appended, and then: %v: %w", done, len(list), err, killfeed.ErrOutcomeUnknown)
}

// settle moves the node behind events that it has appended, all of the batch.
func (l *Ledger) settle(list []killfeed.NewEvent, after link) {
	for i := range list {
		l.advance(&list[i].Event)
	}
	if l.link != after {
		panic("jetstream: the chain of what was appended is not that of what was sent") // a bug: cut and advance go through the same events
	}
	l.tail.skip(l.link.at)
	l.mu.Lock()
	l.trouble = time.Time{}
	l.mu.Unlock()
	l.condition(nil)
}

// mark remembers an append without a good end.
func (l *Ledger) mark(err error) {
	if errors.Is(err, killfeed.ErrOutcomeUnknown) {
		l.mu.Lock()
		l.trouble = time.Now()
		l.mu.Unlock()
	}
	if errors.Is(err, killfeed.ErrUnavailable) {
		l.condition(err)
	}
}

// troubled: the last append had no answer, or the servers could not be asked.
func (l *Ledger) troubled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unavailable != nil || !l.trouble.IsZero()
}

// advance moves the chain on, and tells the other nodes of it now and then.
func (l *Ledger) advance(e *killfeed.Event) {
	l.link = l.link.next(e)
	if e.ID%markEvery == 0 {
		l.nodes.mark(e.ID, l.link.sum.String())
	}
}

// Take implements killfeed.Ledger.
func (l *Ledger) Take() (killfeed.News, error) {
	ctx := l.life
	if err := l.fit(ctx); err != nil {
		if errors.Is(err, killfeed.ErrUnavailable) {
			return killfeed.News{}, nil // watch calls again
		}
		return killfeed.News{}, err
	}
	l.adopt()
	entries, more := l.tail.take()
	news := killfeed.News{Events: make([]killfeed.Event, len(entries))}
	for i := range entries {
		e := &entries[i]
		if e.before != l.link.sum && !l.warned {
			// Which of the two is wrong the nodes find out by their marks.
			l.warned = true
			l.log.Warn("another node's chain differs from this one's", "event", e.ID, "its", e.before, "mine", l.link.sum)
		}
		l.advance(&e.Event)
		news.Events[i] = e.Event
	}
	if len(entries) > 0 {
		news.Checkpoints = []killfeed.Checkpoint{l.link.checkpoint()}
	}
	var moreClients bool
	news.Clients, moreClients = l.clients.news(tailEvents)
	if through := min(l.floor.through(), l.link.at); through > l.told {
		news.Through, l.told = through, through
	}
	if more || moreClients {
		l.ready()
	}
	return news, nil
}
