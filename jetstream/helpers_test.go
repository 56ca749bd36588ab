package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"killfeed"
	"killfeed/internal/natstest"
	"killfeed/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what takes as long as it takes on a busy machine.
const patience = 90 * time.Second

// quick is for tests in which servers go away.
var quick = Timing{Beat: 200 * time.Millisecond, Hold: time.Second, Take: 1500 * time.Millisecond, Look: 300 * time.Millisecond, Try: time.Second}

// newCluster starts servers for a test.
func newCluster(t testing.TB, servers int) *natstest.Cluster {
	t.Helper()
	return natstest.Start(t, servers)
}

// createFeed makes the stream and the bucket, with a copy on each server.
func createFeed(t testing.TB, nc *nats.Conn, o Options, epoch killfeed.Epoch) {
	t.Helper()
	if err := persist(t.Context(), func() error { return Create(t.Context(), nc, o, Plan{Epoch: epoch}) }); err != nil {
		t.Fatal(err)
	}
}

// feed is a cluster with a feed in it.
type feed struct {
	*natstest.Cluster
	t     testing.TB
	epoch killfeed.Epoch
	// timing of nodes that join from now on.
	timing Timing
	nodes  int
	made   atomic.Int64 // killmails
}

func newFeed(t testing.TB, servers int) *feed {
	t.Helper()
	f := &feed{Cluster: newCluster(t, servers), t: t, epoch: killfeed.NewEpoch(), timing: quick}
	createFeed(t, f.Conn(t), f.options(), f.epoch)
	return f
}

func (f *feed) options() Options {
	return Options{Node: "unnamed", Replicas: f.Len(), Timing: f.timing, Logger: slog.New(slog.NewTextHandler(f.t.Output(), nil))}
}

// memory is a Model of the feed's epoch.
type memory struct {
	*storetest.Model
	epoch killfeed.Epoch
	fail  error // of the next Commit, which then stores nothing
}

func (m *memory) State() killfeed.State {
	st := m.Model.State()
	st.Epoch = m.epoch
	return st
}

func (m *memory) Commit(b *killfeed.Batch) error {
	if err := m.fail; err != nil {
		m.fail = nil
		return err
	}
	return m.Model.Commit(b)
}

// node does what a feed's writer does, in the goroutine of the test that calls it.
type node struct {
	*Ledger
	t     testing.TB
	f     *feed
	name  string
	store *memory
}

// join opens a node with an empty store, and a connection of its own to all servers.
func (f *feed) join() *node {
	f.t.Helper()
	return f.joinBy(f.Conn(f.t), &memory{Model: storetest.NewModel(), epoch: f.epoch})
}

func (f *feed) joinBy(nc *nats.Conn, store *memory) *node {
	f.t.Helper()
	f.nodes++
	n := &node{t: f.t, f: f, name: fmt.Sprintf("node%d", f.nodes), store: store}
	n.open(nc)
	return n
}

func (n *node) open(nc *nats.Conn) {
	n.t.Helper()
	o := n.f.options()
	o.Node = n.name
	l, err := Open(n.t.Context(), nc, n.store, o)
	if err != nil {
		n.t.Fatalf("opening %s: %v", n.name, err)
	}
	n.Ledger = l
	n.t.Cleanup(func() { l.Close() })
	if err := l.Load(func(killfeed.SharedClient) bool { return true }); err != nil {
		n.t.Fatal(err)
	}
}

// reopen closes the node and opens it with what its store has.
func (n *node) reopen() {
	n.t.Helper()
	nc := n.nc
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
	n.store = &memory{Model: n.store.Reopen(), epoch: n.store.epoch}
	n.open(nc)
}

// batch makes a batch of new killmails behind the store's head, each about size bytes long.
func (n *node) batch(count, size int) *killfeed.Batch {
	n.t.Helper()
	b := &killfeed.Batch{}
	st := n.store.State()
	for range count {
		id := n.f.made.Add(1)
		k, err := killfeed.NewKillmail(uint32(30000001+id%50), fmt.Appendf(nil,
			`{"killmail_id":%d,"killmail_time":"2024-05-06T07:08:09Z","solar_system_id":%d,"by":"%s","pad":"%s"}`,
			id, 30000001+id%50, n.name, strings.Repeat("x", size)))
		if err != nil {
			n.t.Fatal(err)
		}
		st.Head++
		st.MirrorSeq++
		st.LastReceived = maxTime(st.LastReceived, time.Now().UTC().Truncate(time.Millisecond))
		b.Events = append(b.Events, killfeed.NewEvent{
			Event: killfeed.Event{ID: st.Head, SystemID: k.SystemID, ReceivedAt: st.LastReceived, Killmail: k.JSON, KillmailID: k.ID,
				KilledAt: k.Time, MirrorSeq: st.MirrorSeq},
			Topics: k.Topics, Known: killfeed.Known{First: st.Head, Latest: st.Head, Digest: k.Digest},
		})
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// insert appends new killmails, as often as it takes.
func (n *node) insert(ctx context.Context, count int) error {
	n.t.Helper()
	for {
		b := n.batch(count, 10)
		_, err := n.Agree(ctx, b)
		switch {
		case err == nil:
			return n.store.Commit(b)
		case !errors.Is(err, killfeed.ErrBehind):
			return err
		}
		if err := n.takeOne(ctx); err != nil {
			return err
		}
	}
}

func (n *node) mustInsert(count int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	if err := n.insert(ctx, count); err != nil {
		n.t.Fatalf("%s: %v", n.name, err)
	}
}

// takeOne waits for news and commits them.
func (n *node) takeOne(ctx context.Context) error {
	select {
	case <-n.News():
	case <-ctx.Done():
		return fmt.Errorf("%s at event %d waited for news: %w", n.name, n.store.State().Head, ctx.Err())
	}
	news, err := n.Take()
	if err != nil {
		return err
	}
	return n.commit(news)
}

func (n *node) commit(news killfeed.News) error {
	b := &killfeed.Batch{Checkpoints: news.Checkpoints}
	for _, e := range news.Events {
		k, err := killfeed.NewKillmail(e.SystemID, e.Killmail)
		if err != nil {
			return err
		}
		b.Events = append(b.Events, killfeed.NewEvent{Event: e, Topics: k.Topics,
			Known: killfeed.Known{First: e.ID, Latest: e.ID, Digest: k.Digest}})
	}
	if b.Empty() {
		return nil
	}
	return n.store.Commit(b)
}

// follow takes news until the store has event id.
func (n *node) follow(id killfeed.EventID) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for n.store.State().Head < id {
		if err := n.takeOne(ctx); err != nil {
			n.t.Fatalf("%s, which should have event %d: %v", n.name, id, err)
		}
	}
}

// until asks until it is so.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !is() {
		select {
		case <-poll.C:
		case <-deadline.C:
			t.Fatalf("waited %v until %s", patience, what)
		}
	}
}

// all reads the store's events.
func (n *node) all() (list []killfeed.Event) {
	n.t.Helper()
	st := n.store.State()
	ids := []killfeed.EventID{}
	for id := st.First; id <= st.Head; id++ {
		ids = append(ids, id)
	}
	err := n.store.Read(ids, func(e killfeed.Event, err error) bool {
		if err != nil {
			n.t.Fatal(err)
		}
		list = append(list, e)
		return true
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return list
}

// chain is what the store keeps of it.
func (n *node) chain() string {
	n.t.Helper()
	place, err := n.store.Checkpoint(chainSource)
	if err != nil {
		n.t.Fatal(err)
	}
	return place
}

// last asks a server for the stream's last sequence.
func last(t testing.TB, nc *nats.Conn) killfeed.EventID {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), "killfeed")
	if err != nil {
		t.Fatal(err)
	}
	return killfeed.EventID(s.CachedInfo().State.LastSeq)
}
