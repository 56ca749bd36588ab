package killfeed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// nodes are feeds that share one log, each on a store of its own.
func nodes(t *testing.T, h *hub, n int, o killfeed.Options) (all []*feed) {
	for i := range n {
		store := storetest.NewModel()
		o.Ledger = h.join(store)
		f := start(t, store, o)
		f.made = int64(i) * 1_000_000 // each node makes up killmails of its own
		all = append(all, f)
	}
	return all
}

// onNodes runs a test on three nodes in fake time. rest waits until all of them know all there is.
func onNodes(t *testing.T, o killfeed.Options, test func(h *hub, a, b, c *feed, rest func())) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		all := nodes(t, h, 3, o)
		test(h, all[0], all[1], all[2], synctest.Wait)
		for _, f := range all {
			f.close()
		}
	})
}

// Whatever nodes insert at the same time, all of them end with one log, in which each killmail is once.
func TestNodesAgree(t *testing.T) {
	h := newHub()
	all := nodes(t, h, 3, killfeed.Options{})
	const each, ids = 200, 150
	var running sync.WaitGroup
	for n, f := range all {
		rnd := rand.New(rand.NewPCG(uint64(n), 1))
		running.Go(func() {
			for range each {
				var ks []*killfeed.Killmail
				for range 1 + rnd.IntN(3) {
					m := f.mail([]uint32{A, B, C}[rnd.IntN(3)])
					m.ID = 1 + rnd.Int64N(ids)
					m.System = []uint32{A, B, C}[m.ID%3]
					ks = append(ks, m.Killmail())
				}
				results, err := f.InsertAll(t.Context(), ks, 0)
				if err != nil {
					t.Error(err)
					return
				}
				for i, r := range results {
					e, err := f.Event(r.EventID)
					if err != nil || e.KillmailID != ks[i].ID {
						t.Errorf("killmail %d is said to be event %d, which is killmail %d (%v)", ks[i].ID, r.EventID, e.KillmailID, err)
					}
				}
			}
		})
	}
	running.Wait()
	head := killfeed.EventID(len(h.events))
	var logs []string
	seen := map[int64]bool{}
	for n, f := range all {
		if err := f.Await(t.Context(), head); err != nil {
			t.Fatal(err)
		}
		log := ""
		for id := killfeed.EventID(1); id <= head; id++ {
			e, err := f.Event(id)
			if err != nil {
				t.Fatal(err)
			}
			log += fmt.Sprintln(e.ID, e.KillmailID, e.SystemID, e.ReceivedAt, e.Marks, e.MirrorSeq, string(e.Killmail))
			if n == 0 && !e.Marks.Has(killfeed.MarkUpdate) {
				if seen[e.KillmailID] {
					t.Errorf("killmail %d is stored twice", e.KillmailID)
				}
				seen[e.KillmailID] = true
			}
		}
		logs = append(logs, log)
		f.close()
	}
	if logs[0] != logs[1] || logs[0] != logs[2] {
		t.Errorf("the logs differ:\n%s\n%s\n%s", logs[0], logs[1], logs[2])
	}
	if len(seen) == 0 {
		t.Error("nothing was stored")
	}
}

// Reads of one client that run on several nodes at the same time never return the same event, and between them return all.
func TestOneClientOnAllNodes(t *testing.T) {
	h := newHub()
	all := nodes(t, h, 3, killfeed.Options{})
	all[0].is(all[0].fetch("c", in(A, B)), "nothing") // it begins
	const events = 300
	var (
		mu      sync.Mutex
		got     []killfeed.EventID
		running sync.WaitGroup
	)
	running.Go(func() {
		for range events / 2 {
			all[0].insert(A, B)
		}
	})
	done := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) >= events || t.Failed()
	}
	for n, f := range all {
		read := f.Fetch
		if n == 1 {
			read = f.Next
		}
		running.Go(func() {
			for !done() {
				ans, err := read(t.Context(), "c", limit(1+n, in(A, B)))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, e := range ans.Events {
					got = append(got, e.ID)
				}
				mu.Unlock()
			}
		})
	}
	running.Wait()
	slices.Sort(got)
	for i, id := range got {
		if id != killfeed.EventID(i+1) {
			t.Fatalf("the events returned are %v", got)
		}
	}
}

// What one node does with a client is so on the others, also for subscriptions that are open there.
func TestClientsOnNodes(t *testing.T) {
	onNodes(t, killfeed.Options{}, func(h *hub, a, b, c *feed, rest func()) {
		a.insert(A, B, A)
		rest()
		a.is(a.fetch("c", limit(1, in(A))), "1 more")
		rest()
		b.is(b.fetch("c", in(A)), "3")
		rest()
		c.is(c.fetch("c", in(A)), "nothing")
		c.is(c.offsets("c"), "A:3")
		c.is(c.commit("m", offset(B, 1)), "B:1")
		rest()
		a.is(a.offsets("m"), "B:1")

		s := b.subscribe(by("c", 1, in(A))).follow(0, true)
		b.is(s.heard(), "nothing")
		a.is(a.seek("c", killfeed.Earliest, A), "A:0")
		b.is(s.heard(), "1 3") // the seek moved it
		time.Sleep(2 * time.Second)
		rest()
		a.is(a.offsets("c"), "A:3") // what it delivered is known here
		b.insert(A)
		b.is(s.heard(), "4")
		time.Sleep(2 * time.Second) // else 4 comes again: what was delivered is agreed on within a second

		other := c.subscribe(by("c", 1, in(A))).follow(0, true) // a holder of that name on another node is another one
		b.is(s.heard(), "replaced")
		c.is(other.heard(), "nothing")

		if err := a.DeleteClient(a.Context(), "c"); err != nil {
			a.Error(err)
		}
		c.is(other.heard(), "not found")
		rest()
		b.is(b.offsets("c"), "no client")
		b.is(b.fetch("c", in(A)), "1 3 4") // it begins anew
		rest()
		a.is(a.offsets("c"), "A:4")
	})
}

// A seek on one node is not undone by what another one still writes behind.
func TestSeekWins(t *testing.T) {
	onNodes(t, killfeed.Options{}, func(h *hub, a, b, c *feed, rest func()) {
		a.insert(A, A, A)
		rest()
		s := b.subscribe(by("c", 1, in(A)))
		b.is(s.read(2), "1 2 more")
		s.Delivered() // written within a second
		a.is(a.seek("c", killfeed.Earliest, A), "A:0")
		time.Sleep(2 * time.Second)
		rest()
		for _, f := range []*feed{a, b, c} {
			f.is(f.offsets("c"), "A:0")
		}
		b.is(s.read(0), "1 2 3")
		s.Delivered()
		time.Sleep(2 * time.Second)
		rest()
		c.is(c.offsets("c"), "A:3")
	})
}

// The node that leads removes events; the others follow, and tell the same gap.
func TestNodesCollect(t *testing.T) {
	onNodes(t, killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}}, func(h *hub, a, b, c *feed, rest func()) {
		b.insert(A, B, A, A)
		rest()
		for _, f := range []*feed{a, b} {
			f.is(f.fetch("c", limit(1, in(A))), map[*feed]string{a: "1 more", b: "3 more"}[f])
			rest()
		}
		time.Sleep(2 * time.Hour)
		_, err := b.Collect(b.Context())
		b.errorIs(err, killfeed.ErrNotLeader)
		if got := a.collect(); got.Removed != 4 {
			a.Errorf("collected %+v", got)
		}
		rest()
		for _, f := range []*feed{a, b, c} {
			if st := f.State(); st.First != 5 || st.Head != 4 {
				f.Errorf("the log is %+v", st)
			}
			f.is(f.fetch("c", peek(in(A))), "gap retention 4-4")
		}
		c.insert(A)
		rest()
		b.is(b.fetch("c", in(A)), "5 gap retention 4-4")
	})
}

// While nodes cannot agree nothing is stored or committed; what is there is read, and what is live goes on.
func TestNoQuorum(t *testing.T) {
	onNodes(t, killfeed.Options{}, func(h *hub, a, b, c *feed, rest func()) {
		a.insert(A, A)
		rest()
		a.is(a.fetch("c", limit(1, in(A))), "1 more")
		rest()
		h.set(true)
		_, err := b.Insert(b.Context(), A, []byte(`{"solar_system_id":30000142}`))
		b.errorIs(err, killfeed.ErrUnavailable)
		_, err = b.Fetch(b.Context(), "c", in(A))
		b.errorIs(err, killfeed.ErrUnavailable)
		_, err = b.Commit(b.Context(), "c", offset(A, 2))
		b.errorIs(err, killfeed.ErrUnavailable)
		b.is(b.fetch("c", peek(in(A))), "2")
		_, err = b.Fetch(b.Context(), "c", manual(in(A)))
		b.errorIs(err, killfeed.ErrUnavailable)
		s := b.subscribe(by("c", 1, in(A))).follow(0, true)
		b.is(s.heard(), "2")
		time.Sleep(5 * time.Second)
		b.is(b.offsets("c"), "A:2") // not agreed on yet
		c.is(c.offsets("c"), "A:1")
		h.set(false)
		c.insert(A)
		b.is(s.heard(), "3")
		time.Sleep(5 * time.Second)
		c.is(c.offsets("c"), "A:3")
	})
}

// Another node's killmail stays known when its event is gone.
func TestKnownOnNodes(t *testing.T) {
	onNodes(t, killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}}, func(h *hub, a, b, c *feed, rest func()) {
		m := a.mail(A)
		a.insertMail(m, 0)
		time.Sleep(2 * time.Hour)
		a.collect()
		rest()
		if got := c.insertMail(m, 0); got != (killfeed.InsertResult{EventID: 1, Duplicate: true}) {
			c.Errorf("it became %+v", got)
		}
	})
}

// A checkpoint is one of all nodes.
func TestCheckpointOnNodes(t *testing.T) {
	onNodes(t, killfeed.Options{}, func(h *hub, a, b, c *feed, rest func()) {
		m := a.mail(A)
		_, err := a.InsertFrom(a.Context(), []*killfeed.Killmail{m.Killmail()}, 0, killfeed.Checkpoint{Source: "r2z2", Place: "17"})
		if err != nil {
			a.Error(err)
		}
		if place, err := b.Checkpoint("r2z2"); err != nil || place != "17" {
			b.Errorf("the place is %q, %v", place, err)
		}
	})
}

// Await waits for what another node has, and no longer than its caller.
func TestAwait(t *testing.T) {
	onNodes(t, killfeed.Options{}, func(h *hub, a, b, c *feed, rest func()) {
		a.insert(A)
		if err := b.Await(b.Context(), 1); err != nil {
			b.Error(err)
		}
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		if err := b.Await(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
			b.Errorf("the error is %v", err)
		}
	})
}

// A node that can agree with the others but does not get their events, as when what brings them has fallen silent, puts nobody elsewhere for
// it: not who has a cursor, not who seeks or begins at an event, not who commits one.
func TestNodeThatIsBehind(t *testing.T) {
	onNodes(t, killfeed.Options{}, func(h *hub, a, b, c *feed, rest func()) {
		a.insert(A, A)
		rest()
		h.plug(1, true)
		a.insert(A, A, A)
		rest()
		topic := killfeed.System(A)
		ahead := killfeed.Cursor{After: 4, Epoch: b.State().Epoch}
		for what, do := range map[string]func() error{
			"a cursor": func() error { _, err := b.ReadAfter(b.Context(), ahead, in(A)); return err },
			"a stream": func() error {
				_, _, err := b.Subscribe(b.Context(), killfeed.Subscriber{Read: killfeed.Read{Topics: []killfeed.Topic{topic}, From: &ahead}})
				return err
			},
			"a seek": func() error {
				_, err := b.Seek(b.Context(), "c", killfeed.StartAt(5), []killfeed.Topic{topic})
				return err
			},
			"a beginning": func() error {
				r := in(A)
				r.Start = killfeed.StartAt(5)
				_, err := b.Fetch(b.Context(), "d", r)
				return err
			},
			"a commit": func() error {
				_, err := b.Commit(b.Context(), "c", map[killfeed.Topic]killfeed.EventID{topic: 4})
				return err
			},
		} {
			if err := do(); !errors.Is(err, killfeed.ErrBehind) {
				t.Errorf("%s past what the node has: the error is %v", what, err)
			}
		}
		h.plug(1, false)
		rest()
		b.is(b.seek("c", killfeed.StartAt(5), A), "A:4")
		a.is(a.fetch("c", in(A)), "5")
		b.is(b.seek("c", killfeed.StartAt(50), A), "A:5") // no node has it
	})
}

// A cursor of another node is good here too, before this node has what it has passed.
func TestCursorOfAnotherNode(t *testing.T) {
	onNodes(t, killfeed.Options{}, func(h *hub, a, b, c *feed, rest func()) {
		a.insert(A, A)
		rest()
		epoch := b.State().Epoch
		ahead := killfeed.Cursor{After: 3, Epoch: epoch}
		got := b.later(func() string {
			ans, err := b.ReadAfter(b.Context(), ahead, wait(time.Minute, in(A)))
			if err != nil {
				return err.Error()
			}
			return say(ans)
		})
		time.Sleep(time.Second)
		a.insert(A, A)
		b.is(<-got, "4 after 1s")

		// When no event comes it was of none, as on a feed of one node.
		ahead.After = 9
		ans, err := b.ReadAfter(b.Context(), ahead, in(A))
		if b.is(say(ans), "gap future"); err != nil {
			b.Error(err)
		}
		// But who cannot know that does not say so.
		h.set(true)
		_, err = b.ReadAfter(b.Context(), ahead, in(A))
		b.errorIs(err, killfeed.ErrBehind)
	})
}
