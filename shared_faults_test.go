package killfeed_test

import (
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// onTwo runs a test on a node a, and a node b whose store is wrapped, in fake time.
func onTwo[S killfeed.Store](t *testing.T, wrap func(killfeed.Store) S, test func(h *hub, a, b *feed, store S)) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		a := nodes(t, h, 1, killfeed.Options{})[0]
		store := wrap(storetest.NewModel())
		b := start(t, store, killfeed.Options{Ledger: h.join(store)})
		b.made = 1_000_000
		synctest.Wait()
		test(h, a, b, store)
		a.close()
		b.close()
	})
}

func hook(s killfeed.Store) *hooked { return &hooked{Store: s} }

// A seek on one node is not undone by a read on another that began before it and found nothing.
func TestSeekWhileAnotherNodeReads(t *testing.T) {
	onTwo(t, hook, func(_ *hub, a, b *feed, store *hooked) {
		a.insert(A)
		synctest.Wait()
		b.is(b.fetch("c", in(A)), "1")
		a.insert(B) // else the next read is answered without a look
		synctest.Wait()
		store.before("Find", func() {
			a.is(a.seek("c", killfeed.Earliest, A), "A:0")
			synctest.Wait()
		})
		b.is(b.fetch("c", in(A)), "1")
		synctest.Wait()
		b.is(b.fetch("c", in(A)), "nothing")
	})
}

// A client that was deleted and made anew before this node heard of it is another one here too.
func TestClientMadeAnewElsewhere(t *testing.T) {
	onTwo(t, hook, func(_ *hub, a, b *feed, store *hooked) {
		a.insert(A, B)
		synctest.Wait()
		b.is(b.fetch("c", in(A, B)), "1 2")
		synctest.Wait()
		b.is(b.fetch("c", in(A, B)), "nothing")
		s := b.subscribe(by("c", 1, in(A))).follow(0, true)
		b.is(s.heard(), "nothing")
		blocked, goOn := make(chan struct{}), make(chan struct{})
		store.before("Commit", func() { close(blocked); <-goOn })
		a.insert(B)
		<-blocked
		time.Sleep(time.Second)
		if err := a.DeleteClient(a.Context(), "c"); err != nil {
			a.Error(err)
		}
		a.is(a.fetch("c", limit(1, in(A))), "1")
		a.is(a.seek("c", killfeed.Earliest), "A:0")
		close(goOn)
		synctest.Wait()
		b.is(s.heard(), "not found")
		b.is(b.offsets("c"), "A:0")
		b.is(b.fetch("c", in(A, B)), "1 2 3")
	})
}

// What the ledger has agreed on, and the node's store refuses, may count, and comes to the store as soon as that takes it.
func TestStoreRefusesWhatIsAgreed(t *testing.T) {
	onTwo(t, storetest.NewFaulty, func(_ *hub, a, b *feed, store *storetest.Faulty) {
		full := storetest.Fault{Err: killfeed.ErrDiskFull}
		store.FailCommits(full)
		_, err := b.Insert(b.Context(), A, []byte(`{"solar_system_id":30000142}`))
		b.errorIs(err, killfeed.ErrDiskFull)
		b.errorIs(err, killfeed.ErrOutcomeUnknown)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		b.is(b.fetch("c", in(A)), "1")

		store.FailCommits(full)
		a.insert(A)
		time.Sleep(2 * time.Second) // nothing else happens that would have it taken again
		synctest.Wait()
		b.is(b.fetch("c", in(A)), "2")
	})
}

// A reader's own cursor that was taken while the nodes could not agree counts on all of them afterwards, also backwards.
func TestOwnCursorWithoutQuorum(t *testing.T) {
	onTwo(t, hook, func(h *hub, a, b *feed, _ *hooked) {
		a.insert(A, A, A)
		synctest.Wait()
		a.is(a.fetch("c", in(A)), "1 2 3")
		a.is(a.fetch("c", in(A)), "nothing")
		synctest.Wait()
		h.set(true)
		r := in(A)
		r.From = &killfeed.Cursor{After: 1}
		_, err := b.Fetch(b.Context(), "c", r)
		b.errorIs(err, killfeed.ErrUnavailable)
		h.set(false)
		time.Sleep(time.Second)
		synctest.Wait()
		a.is(a.offsets("c"), "A:1")
		a.is(a.fetch("c", in(A)), "2 3")
		synctest.Wait()
		b.is(b.fetch("c", in(A)), "nothing")
	})
}

// Clients neither wait for a node that has to catch up before it can append, nor fail because it cannot.
func TestClientsWhileCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		a := nodes(t, h, 1, killfeed.Options{})[0]
		faulty := storetest.NewFaulty(storetest.NewModel())
		store := &hooked{Store: faulty}
		b := start(t, store, killfeed.Options{Ledger: h.join(store)})
		a.insert(A)
		synctest.Wait()
		blocked, goOn := make(chan struct{}), make(chan struct{})
		store.before("Commit", func() { close(blocked); <-goOn })
		faulty.FailCommits(make([]storetest.Fault, 10)...)
		a.insert(A)
		<-blocked
		inserted := b.later(func() string { // refused: what the others have cannot be stored
			_, err := b.Insert(b.Context(), A, []byte(`{"solar_system_id":30000142}`))
			b.errorIs(err, killfeed.ErrUnavailable)
			return "refused"
		})
		synctest.Wait()
		committed := b.later(func() string { return b.commit("c", offset(A, 1)) })
		synctest.Wait()
		close(goOn)
		b.is(<-committed, "A:1 after 0s")
		<-inserted
		time.Sleep(20 * time.Second)
		synctest.Wait()
		b.is(b.fetch("c", in(A)), "2")
		if len(h.events) != 2 {
			t.Errorf("there are %d events", len(h.events))
		}
		a.close()
		b.close()
	})
}
