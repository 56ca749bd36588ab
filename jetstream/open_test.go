package jetstream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
	"killfeed/storetest"
)

// refused opens the node and demands an error that has all of the words.
func (n *node) refused(words ...string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	o := n.f.options()
	o.Node = n.name
	l, err := Open(ctx, n.f.Conn(n.t), n.store, o)
	if err == nil {
		l.Close()
		n.t.Fatal("the node opens")
	}
	if !errors.Is(err, killfeed.ErrFailed) {
		n.t.Errorf("%v is no ErrFailed", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			n.t.Errorf("%v does not tell of %q", err, w)
		}
	}
}

func TestOtherEpoch(t *testing.T) {
	f := newFeed(t, 1)
	f.join().mustInsert(1)
	for _, count := range []int{0, 1} {
		n := &node{t: t, f: f, name: "other", store: &memory{Model: storetest.NewModel(), epoch: killfeed.NewEpoch()}}
		if count > 0 {
			if err := n.store.Commit(n.batch(count, 10)); err != nil {
				t.Fatal(err)
			}
		}
		n.refused(string(n.store.epoch), string(f.epoch))
	}
	if e, err := Epoch(t.Context(), f.Conn(t), f.options()); e != f.epoch || err != nil {
		t.Errorf("the epoch is %q, %v", e, err)
	}
}

func TestShorterStream(t *testing.T) {
	f := newFeed(t, 1)
	a := f.join()
	a.mustInsert(3)
	a.Close()
	if err := a.store.Commit(a.batch(1, 10)); err != nil { // acknowledged once, as far as the node knows
		t.Fatal(err)
	}
	a.refused("event 3", "has 4")
}

func TestOtherEventAtHead(t *testing.T) {
	f := newFeed(t, 1)
	a := f.join()
	b := &node{t: t, f: f, name: "b", store: &memory{Model: storetest.NewModel(), epoch: f.epoch}}
	if err := b.store.Commit(b.batch(3, 10)); err != nil {
		t.Fatal(err)
	}
	a.mustInsert(5)
	b.refused("event 3", "killmail 6", "killmail 3")
}

// A stream that is replaced while nodes run is not followed.
func TestReplacedStream(t *testing.T) {
	for _, test := range []struct {
		name  string
		epoch func(*feed) killfeed.Epoch
	}{
		{"by that of another log", func(*feed) killfeed.Epoch { return killfeed.NewEpoch() }},
		{"by an empty one of the same name", func(f *feed) killfeed.Epoch { return f.epoch }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFeed(t, 1)
			a := f.join()
			a.mustInsert(3)
			js, err := jetstream.New(a.nc)
			if err != nil {
				t.Fatal(err)
			}
			if err := js.DeleteStream(t.Context(), "killfeed"); err != nil {
				t.Fatal(err)
			}
			createFeed(t, a.nc, f.options(), test.epoch(f))
			until(t, "the node has failed", func() bool { return errors.Is(a.Health(), killfeed.ErrFailed) })
			t.Log(a.Health())
			if _, err := a.Agree(t.Context(), a.batch(1, 10)); !errors.Is(err, killfeed.ErrFailed) {
				t.Fatalf("Agree: %v", err)
			}
			if _, err := a.Take(); !errors.Is(err, killfeed.ErrFailed) {
				t.Fatalf("Take: %v", err)
			}
		})
	}
}

func TestNoStream(t *testing.T) {
	c := newCluster(t, 1)
	o := Options{Node: "a", Replicas: 1, Timing: quick}
	if _, err := Open(t.Context(), c.Conn(t), storetest.NewModel(), o); !errors.Is(err, ErrNoFeed) {
		t.Errorf("without a stream: %v", err)
	}
	c.Stop(0)
}

// Open waits for servers, for as long as it may.
func TestNoServers(t *testing.T) {
	f := newFeed(t, 1)
	nc := f.Conn(t)
	f.Stop(0)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	store := &memory{Model: storetest.NewModel(), epoch: f.epoch}
	o := f.options()
	if _, err := Open(ctx, nc, store, o); !errors.Is(err, killfeed.ErrUnavailable) {
		t.Errorf("without servers: %v", err)
	}
	opened := make(chan error, 1)
	go func() {
		l, err := Open(t.Context(), nc, store, o)
		if err == nil {
			err = l.Close()
		}
		opened <- err
	}()
	f.Restart(0)
	if err := <-opened; err != nil {
		t.Errorf("with servers that came later: %v", err)
	}
}

// The chain goes on where the store stands, also when the store's own word of it is of an earlier event, or lost.
func TestChainOverRestarts(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	for _, how := range []string{"kept", "of an earlier event", "lost", "lost, and the event is removed", "lost, with all events"} {
		batch := a.batch(3, 10)
		if _, err := a.Agree(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		if how != "kept" {
			batch.Checkpoints = nil
		}
		if strings.HasPrefix(how, "lost") {
			batch.Checkpoints = []killfeed.Checkpoint{{Source: chainSource}}
		}
		if err := a.store.Commit(batch); err != nil {
			t.Fatal(err)
		}
		head := a.store.State().Head
		b.follow(head)
		if how == "lost, and the event is removed" {
			b.mustInsert(1)
			if err := a.stream.Purge(t.Context(), jetstream.WithPurgeSequence(uint64(head+1))); err != nil {
				t.Fatal(err)
			}
		}
		if how == "lost, with all events" {
			a.Close()
			a.store = &memory{Model: storetest.NewModel(), epoch: f.epoch}
			a.open(f.Conn(t))
			a.follow(head)
		} else {
			a.reopen()
		}
		a.mustInsert(1)
		b.follow(a.store.State().Head)
		if a.chain() != b.chain() {
			t.Fatalf("%s: the chain is %s, and that of the other node %s", how, a.chain(), b.chain())
		}
	}
}
