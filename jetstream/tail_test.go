package jetstream

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
	"killfeed/internal/natstest"
	"killfeed/storetest"
)

// Servers go away one after the other, and the stream's leader changes, while one node appends and another follows.
func TestFollowOverRestarts(t *testing.T) {
	f := newFeed(t, 3)
	a, b := f.join(), f.join()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			// It may have to wait for an election, with nothing sent. That passes.
			if err := a.insert(ctx, 3); err != nil && (!errors.Is(err, killfeed.ErrUnavailable) || ctx.Err() != nil) {
				done <- err
				return
			}
		}
	}()
	more := func(why string) {
		t.Helper()
		head := b.store.State().Head
		b.follow(head + 100)
		t.Logf("%s: event %d", why, b.store.State().Head)
	}
	more("at first")
	for i := range f.Len() {
		f.Stop(i)
		more("without a server")
		f.Restart(i)
		more("with it again")
	}
	f.Stepdown("killfeed")
	more("with another leader")
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	b.follow(a.store.State().Head)
	equal(t, a, b)
}

// Reads what the consumer leaves out.
func TestHole(t *testing.T) {
	f := newFeed(t, 1)
	a := f.join()
	a.mustInsert(9)
	tl := newTail(a.stream, f.epoch, time.Time{}, 2)
	tl.log, tl.ready, tl.condition = a.log, func() {}, func(error) {}
	e, err := a.stream.get(t.Context(), 7)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it has come already
		if err := tl.deliver(t.Context(), 0, e, true); err != nil {
			t.Fatal(err)
		}
	}
	list, more := tl.take()
	if len(list) != 5 || more {
		t.Fatalf("%d events have come, %v", len(list), more)
	}
	want := a.all()[2:7]
	for i := range list {
		if list[i].ID != want[i].ID || string(list[i].Killmail) != string(want[i].Killmail) {
			t.Errorf("event %d is %s, want %d, %s", list[i].ID, list[i].Killmail, want[i].ID, want[i].Killmail)
		}
	}
	if err := a.stream.Purge(t.Context(), jetstream.WithPurgeSequence(9)); err != nil {
		t.Fatal(err)
	}
	e.ID = 9
	if err := tl.deliver(t.Context(), 0, e, true); !errors.Is(err, errPurged) {
		t.Fatalf("a hole of purged events: %v", err)
	}
}

// A consumer that lives and brings nothing is replaced.
func TestSilentConsumer(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	a.mustInsert(1)
	b.follow(1)
	for name := range a.stream.ConsumerNames(t.Context()).Name() {
		if _, err := a.stream.PauseConsumer(t.Context(), name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	a.mustInsert(5)
	b.follow(6)
	equal(t, a, b)
}

// One that is deleted as well.
func TestDeletedConsumer(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	a.mustInsert(1)
	b.follow(1)
	for name := range a.stream.ConsumerNames(t.Context()).Name() {
		if err := a.stream.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	a.mustInsert(5)
	b.follow(6)
	equal(t, a, b)
}

// What is appended while the stream is asked where it ends is not taken for lost.
func TestLookWhileAppending(t *testing.T) {
	f := newFeed(t, 3)
	f.timing.Look = time.Millisecond
	a, b := f.join(), f.join()
	for range 300 {
		a.mustInsert(1)
	}
	b.follow(300)
	equal(t, a, b)
	if err := errors.Join(a.Health(), b.Health()); err != nil {
		t.Fatal(err)
	}
}

// What the store did not take is given out again.
func TestStoreLacks(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	a.mustInsert(3)

	b.store.fail = killfeed.ErrDiskFull // of what it takes
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for b.store.fail != nil {
		if err := b.takeOne(ctx); err != nil && !errors.Is(err, killfeed.ErrDiskFull) {
			t.Fatal(err)
		}
	}
	b.follow(3)

	batch := b.batch(2, 10) // and of what it appended
	if _, err := b.Agree(ctx, batch); err != nil {
		t.Fatal(err)
	}
	b.follow(5)
	b.mustInsert(1)
	a.follow(6)
	equal(t, a, b)
}

// What nobody takes stays on the servers.
func TestTailIsBounded(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	a.mustInsert(2500)
	until(t, "the tail is full", func() bool {
		_, ok := b.tail.find(tailEvents)
		return ok
	})
	batch := a.batch(4, 3<<20)
	if _, err := a.Agree(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if err := a.store.Commit(batch); err != nil {
		t.Fatal(err)
	}
	for b.store.State().Head < a.store.State().Head {
		<-b.News()
		news, err := b.Take()
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for _, e := range news.Events {
			bytes += len(e.Killmail)
		}
		if len(news.Events) > tailEvents || bytes > tailBytes {
			t.Fatalf("Take returns %d events of %d bytes", len(news.Events), bytes)
		}
		if err := b.commit(news); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, a, b)
}

// What is no event stops the nodes, and says so.
func TestForeignMessage(t *testing.T) {
	f := newFeed(t, 1)
	a := f.join()
	a.mustInsert(1)
	if _, err := a.nc.Request("killfeed.events.30000142", []byte(`{"killmail_id":1}`), patience); err != nil {
		t.Fatal(err)
	}
	until(t, "the node has failed", func() bool { return errors.Is(a.Health(), killfeed.ErrFailed) })
	t.Log(a.Health())
	if _, err := a.Take(); !errors.Is(err, killfeed.ErrFailed) {
		t.Fatalf("Take: %v", err)
	}
	if _, err := a.Agree(t.Context(), a.batch(1, 10)); !errors.Is(err, killfeed.ErrFailed) {
		t.Fatalf("Agree: %v", err)
	}
}

// Without most of the servers nothing is appended, and reads go on; with them it goes on by itself.
func TestNoQuorum(t *testing.T) {
	for _, left := range []string{"the leader", "another server"} {
		t.Run(left+" is left", func(t *testing.T) {
			f := newFeed(t, 3)
			a, b := f.join(), f.join()
			a.mustInsert(10)
			b.follow(10)
			leader := f.Leader("killfeed")
			stopped := []int{(leader + 1) % 3, (leader + 2) % 3}
			if left != "the leader" {
				stopped[0] = leader
			}
			for _, i := range stopped {
				f.Stop(i)
			}
			// A leader takes what it is sent until it notices, so this one has no answer; or it is told that nobody takes it.
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			_, err := a.Agree(ctx, a.batch(1, 10))
			if !errors.Is(err, killfeed.ErrOutcomeUnknown) && !errors.Is(err, killfeed.ErrUnavailable) {
				t.Fatalf("an append without a majority: %v", err)
			}
			t.Log(err)
			if err := a.Health(); !errors.Is(err, killfeed.ErrUnavailable) || errors.Is(err, killfeed.ErrFailed) {
				t.Fatalf("health without a majority: %v", err)
			}
			if got := len(a.all()); got != 10 {
				t.Fatalf("the store reads %d events", got)
			}
			for _, i := range stopped {
				f.Restart(i)
			}
			until(t, "both are healthy again", func() bool { return a.Health() == nil && b.Health() == nil })
			// The append may count or not, as was told. Whoever inserts anew first takes what there is.
			until(t, "an append works again", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				err := a.insert(ctx, 1)
				if err != nil && !errors.Is(err, killfeed.ErrUnavailable) {
					t.Fatal(err)
				}
				return err == nil
			})
			b.follow(a.store.State().Head)
			equal(t, a, b)
		})
	}
}

// A node that was away while events were removed gets what is remembered of them from another one, and goes on.
func TestPurgedMeanwhile(t *testing.T) {
	f := newFeed(t, 1)
	a := f.join()
	p := natstest.NewProxy(t, f.URL(0))
	b := f.joinBy(natstest.Dial(t, p.URL()), &memory{Model: storetest.NewModel(), epoch: f.epoch})
	a.mustInsert(5)
	b.follow(5)
	p.LoseReplies()
	a.mustInsert(20)
	if err := a.store.Remove(15); err != nil {
		t.Fatal(err)
	}
	if err := a.stream.Purge(t.Context(), jetstream.WithPurgeSequence(16)); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	b.follow(25)
	late := f.join() // with nothing at all
	late.follow(25)
	for _, n := range []*node{b, late} {
		if st := n.store.State(); st.First != 16 {
			t.Errorf("%s begins with event %d", n.name, st.First)
		}
		for id := int64(1); id <= 25; id++ {
			if k, ok, err := n.store.Known(id); !ok || err != nil || k.First != killfeed.EventID(id) {
				t.Errorf("%s knows of killmail %d: %+v, %v, %v", n.name, id, k, ok, err)
			}
		}
	}
	equal(t, a, b, late)
	late.mustInsert(1)
	b.mustInsert(1)
	for _, n := range []*node{a, b, late} {
		n.follow(27)
	}
	equal(t, a, b, late)
}
