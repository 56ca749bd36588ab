package jetstream

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
	"killfeed/storetest"
)

var longMove = flag.Bool("long", false, "move 100,000 events in TestMove")

// home is the store of a feed of one node: n events with all kinds of marks, the first 100 of them removed, and clients.
func home(t *testing.T, n, clients int) *memory {
	t.Helper()
	m := &memory{Model: storetest.NewModel(), epoch: killfeed.NewEpoch()}
	kills := storetest.NewMaker(storetest.MakerOptions{Seed: 7})
	var prev killfeed.Event
	prev.ReceivedAt = time.UnixMilli(1_750_000_000_000).UTC()
	for prev.ID < killfeed.EventID(n) {
		var b killfeed.Batch
		for range min(1000, n-int(prev.ID)) {
			k := kills.Next()
			e := killfeed.Event{
				ID: prev.ID + 1, SystemID: k.SystemID, ReceivedAt: prev.ReceivedAt.Add(time.Duration(prev.ID%3) * time.Millisecond), Killmail: k.JSON,
				KillmailID: k.ID, KilledAt: k.Time, MirrorSeq: prev.MirrorSeq, Marks: killfeed.Marks(prev.ID % 4),
			}
			if e.Marks == 0 {
				e.MirrorSeq++
			}
			b.Events = append(b.Events, killfeed.NewEvent{Event: e, Topics: k.Topics,
				Known: killfeed.Known{First: e.ID, Latest: e.ID, Digest: k.Digest}})
			prev = e
		}
		if err := m.Commit(&b); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Remove(100); err != nil {
		t.Fatal(err)
	}
	var b killfeed.Batch
	for i := range clients {
		name, at := fmt.Sprintf("tool %d/ö", i), time.UnixMilli(1_750_000_000_000+int64(i)).UTC()
		b.Seen = append(b.Seen, killfeed.ClientSeen{Client: name, Created: at, At: at.Add(time.Hour)})
		for j := range i % 5 {
			topic, err := killfeed.ParseTopic(fmt.Sprintf("system:%d", 30000142+j))
			if err != nil {
				t.Fatal(err)
			}
			b.Offsets = append(b.Offsets, killfeed.Offset{Client: name, Topic: topic, At: killfeed.EventID(i * j % n)})
		}
	}
	b.Checkpoints = places()
	if err := m.Commit(&b); err != nil {
		t.Fatal(err)
	}
	return m
}

func places() []killfeed.Checkpoint {
	return []killfeed.Checkpoint{{Source: "r2z2", Place: "17"}, {Source: "backfill 2026/ü", Place: `{"day":"2026-01-02"}`}}
}

// remembered is all that a store has of its clients.
func remembered(t *testing.T, s killfeed.Store) map[string]killfeed.ClientRecord {
	t.Helper()
	all := map[string]killfeed.ClientRecord{}
	if err := s.Clients(func(r killfeed.ClientRecord) bool {
		r.Offsets = maps.Clone(r.Offsets)
		all[r.Client] = r
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// A log is moved to the servers, with an interruption here and there; another node gets all of it; that one takes it home. Nothing of
// it has changed, and moved back again it goes on where it was.
func TestMove(t *testing.T) {
	n := 2_000
	if *longMove {
		n = 100_000
	}
	store := home(t, n, 1_300)
	clients := remembered(t, store)
	f := &feed{Cluster: newCluster(t, 1), t: t, epoch: store.epoch}
	nc, o := f.Conn(t), f.options()
	st := store.State()
	plan := Plan{Epoch: st.Epoch, FirstSeq: uint64(st.First), Move: Coming}
	var moved Moved
	var err error
	for tries := 1; ; tries++ {
		if err := Create(t.Context(), nc, o, plan); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		steps := 0
		moved, err = MoveIn(ctx, nc, store, places(), o, func(done, total uint64) {
			if total != uint64(n-100) || done > total {
				t.Errorf("%d of %d events, want %d", done, total, n-100)
			}
			if steps++; steps == 1 && tries <= 2 {
				stop()
			}
		})
		stop()
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		found, err := Verify(t.Context(), nc, o)
		if err != nil || !slices.ContainsFunc(found, func(f Finding) bool { return f.Setting == SettingMove }) {
			t.Errorf("a node may begin with a part of the log: %v, %v", found, err)
		}
	}
	if moved.Events >= n-100 || moved.Events == 0 || moved.Clients != len(clients) || moved.Positions != len(places()) {
		t.Errorf("the last try moved %+v", moved)
	}
	if err := SetMove(t.Context(), nc, o, Here); err != nil {
		t.Fatal(err)
	}
	if found, err := Verify(t.Context(), nc, o); err != nil || slices.ContainsFunc(found, func(f Finding) bool { return f.Setting == SettingMove }) {
		t.Errorf("no node may begin: %v, %v", found, err)
	}

	first, second := f.joinBy(nc, store), f.join()
	second.follow(killfeed.EventID(n))
	if first.chain() == "" || first.chain() != second.chain() {
		t.Errorf("the chains differ: %q and %q", first.chain(), second.chain())
	}
	atHome, elsewhere := first.all(), second.all()
	if len(atHome) != n-100 || len(elsewhere) != len(atHome) {
		t.Fatalf("%d events at home, %d elsewhere, want %d", len(atHome), len(elsewhere), n-100)
	}
	for i := range atHome { // cmp would take minutes over so many bytes
		a, b := atHome[i], elsewhere[i]
		same := bytes.Equal(a.Killmail, b.Killmail)
		a.Killmail, b.Killmail = nil, nil
		if diff := cmp.Diff(a, b); diff != "" || !same {
			t.Fatalf("event %d; the same killmail: %v (-home +elsewhere):\n%s", a.ID, same, diff)
		}
	}
	second.mustInsert(10)
	look, err := Look(t.Context(), nc, o)
	if err != nil || look.Clients != len(clients) || look.Head != killfeed.EventID(n+10) || look.First != 101 || look.Epoch != store.epoch {
		t.Errorf("the servers have %+v, %v", look, err)
	}
	for _, node := range []*node{first, second} {
		if err := node.Close(); err != nil {
			t.Fatal(err)
		}
	}

	moved, err = MoveOut(t.Context(), nc, second.store, o)
	if err != nil || moved.Clients != len(clients) || moved.Positions != len(places()) {
		t.Fatalf("took home %+v, %v", moved, err)
	}
	if diff := cmp.Diff(clients, remembered(t, second.store)); diff != "" {
		t.Errorf("clients (-before +after):\n%s", diff)
	}
	for _, want := range places() {
		if got, err := second.store.Checkpoint(want.Source); err != nil || got != want.Place {
			t.Errorf("the place of %s is %q, %v; want %q", want.Source, got, err, want.Place)
		}
	}
	if second.chain() != "" {
		t.Error("it is still the store of a node")
	}

	// It goes on alone, a client is deleted, another one moved back; then it comes again.
	b := second.batch(5, 10)
	b.Gone = []string{"tool 1/ö"}
	topic, err := killfeed.ParseTopic("system:30000142")
	if err != nil {
		t.Fatal(err)
	}
	b.Offsets = []killfeed.Offset{{Client: "tool 4/ö", Topic: topic, At: 3}}
	if err := second.store.Commit(b); err != nil {
		t.Fatal(err)
	}
	clients = remembered(t, second.store)
	if moved, err = MoveIn(t.Context(), nc, second.store, places(), o, func(uint64, uint64) {}); err != nil || moved.Events != 5 {
		t.Fatalf("the second time %+v were moved, %v; want 5 events", moved, err)
	}
	if err := second.store.Commit(&killfeed.Batch{Gone: slices.Collect(maps.Keys(clients))}); err != nil {
		t.Fatal(err)
	}
	if _, err := MoveOut(t.Context(), nc, second.store, o); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(clients, remembered(t, second.store)); diff != "" {
		t.Errorf("clients, moved a second time (-before +after):\n%s", diff)
	}
	// The first one does not have what the second one has had alone.
	if _, err := MoveIn(t.Context(), nc, store, nil, o, func(uint64, uint64) {}); !errors.Is(err, ErrRefused) {
		t.Errorf("a directory that is behind: %v, want %v", err, ErrRefused)
	}
}

// The servers have lost the stream, and then the bucket as well: a node brings them its log again. What the bucket has of clients counts
// more than what one node has written itself.
func TestMoveAgain(t *testing.T) {
	store := home(t, 300, 3)
	f := &feed{Cluster: newCluster(t, 1), t: t, epoch: store.epoch}
	nc, o := f.Conn(t), f.options()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	bring := func() Moved {
		t.Helper()
		if err := Create(t.Context(), nc, o, Plan{Epoch: store.epoch, FirstSeq: 101, Move: Coming}); err != nil {
			t.Fatal(err)
		}
		moved, err := MoveIn(t.Context(), nc, store, places(), o, func(uint64, uint64) {})
		if err != nil {
			t.Fatal(err)
		}
		return moved
	}
	if moved := bring(); moved != (Moved{Events: 200, Clients: 3, Positions: 2}) {
		t.Errorf("moved %+v", moved)
	}
	node := f.joinBy(nc, store)
	b := &killfeed.Batch{Seen: []killfeed.ClientSeen{{Client: "elsewhere", Created: time.UnixMilli(5).UTC(), At: time.UnixMilli(6).UTC()}}}
	if out, err := node.Agree(t.Context(), b); err != nil || out.Err != nil {
		t.Fatal(err, out.Err)
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	if is, err := IsNode(store); err != nil || !is {
		t.Fatalf("it is no node's store: %v", err)
	}
	if err := js.DeleteStream(t.Context(), "killfeed"); err != nil {
		t.Fatal(err)
	}
	if moved := bring(); moved != (Moved{Events: 200}) {
		t.Errorf("without the stream: moved %+v", moved)
	}
	if st, err := Look(t.Context(), nc, o); err != nil || st.Clients != 4 || st.Head != 300 {
		t.Errorf("the servers have %+v, %v; want 4 clients", st, err)
	}
	for _, name := range []string{"killfeed", "KV_killfeed"} {
		if err := js.DeleteStream(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if moved := bring(); moved != (Moved{Events: 200, Clients: 3, Positions: 2}) {
		t.Errorf("without both: moved %+v", moved)
	}
	node.open(nc)
	if err := Forget(store); err != nil {
		t.Fatal(err)
	}
	if is, err := IsNode(store); err != nil || is {
		t.Errorf("it is a node's store still: %v", err)
	}
}

// What docs/cluster.md says that nodes need to be allowed suffices, also for copying from one another.
func TestPermissions(t *testing.T) {
	s := startServer(t, fmt.Sprintf(`
		server_name: n1
		max_payload: 8MB
		jetstream { store_dir: %q, sync_interval: always }
		authorization { users: [ { user: feed, password: feed, permissions: {
			publish: ["feed.>", "$KV.feed.>", "$JS.API.>", "_INBOX.>", "$SYS.REQ.SERVER.PING.VARZ"]
			subscribe: ["feed.>", "_INBOX.>"]
		} } ] }`, t.TempDir()))
	nc := connected(t, Config{URLs: []string{s.ClientURL()}, Credentials: written(t, "creds", []byte("feed:feed"))})
	store := home(t, 300, 3)
	o := Options{Name: "feed", Node: "first", Replicas: 1, Timing: quick}
	if err := Create(t.Context(), nc, o, Plan{Epoch: store.epoch, FirstSeq: 101, Move: Coming}); err != nil {
		t.Fatal(err)
	}
	if _, err := MoveIn(t.Context(), nc, store, places(), o, func(uint64, uint64) {}); err != nil {
		t.Fatal(err)
	}
	first, err := Open(t.Context(), nc, store, o)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	o.Node = "second"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	empty := &memory{Model: storetest.NewModel(), epoch: store.epoch}
	ledger, err := Open(ctx, nc, empty, o)
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	second := &node{Ledger: ledger, t: t, name: o.Node, store: empty, f: &feed{t: t}}
	second.follow(300)
	second.mustInsert(2)
	until(t, "each node is seen by the servers", func() bool {
		st, err := Look(t.Context(), nc, o)
		return err == nil && len(st.Nodes) == 2 && st.Leader != ""
	})
}

// Logs that do not go on from what the servers have are refused, and nothing is appended.
func TestMoveRefuses(t *testing.T) {
	c := newCluster(t, 1)
	nc := c.Conn(t)
	for what, change := range map[string]func(m *memory) *memory{
		"another log": func(m *memory) *memory {
			other := &memory{Model: storetest.NewModel(), epoch: m.epoch}
			b := (&node{t: t, f: &feed{t: t}, name: "other", store: other}).batch(700, 10)
			if err := other.Commit(b); err != nil {
				t.Fatal(err)
			}
			return other
		},
		"removed since": func(m *memory) *memory {
			if err := m.Remove(650); err != nil {
				t.Fatal(err)
			}
			return m
		},
	} {
		t.Run(what, func(t *testing.T) {
			store := home(t, 700, 0)
			o := Options{Name: fmt.Sprintf("feed-%d", len(what)), Node: "n", Replicas: 1, Timing: quick}
			if err := Create(t.Context(), nc, o, Plan{Epoch: store.epoch, FirstSeq: 101}); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if _, err := MoveIn(ctx, nc, store, nil, o, func(uint64, uint64) { stop() }); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			before, err := Look(t.Context(), nc, o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := MoveIn(t.Context(), nc, change(store), nil, o, func(uint64, uint64) {}); !errors.Is(err, ErrRefused) {
				t.Errorf("%v, want %v", err, ErrRefused)
			}
			if after, err := Look(t.Context(), nc, o); err != nil || after.Head != before.Head {
				t.Errorf("the stream went on to %d, %v; before it ended with %d", after.Head, err, before.Head)
			}
		})
	}
}
