package killfeed_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

func TestCommit(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A)
		f.is(f.commit("new", offset(A, 2)), "A:2") // an unknown client is made, and any id up to the head is good
		f.is(f.fetch("new", in(A)), "3")
		f.is(f.commit("new", offset(A, 1)), "A:3") // never back
		f.is(f.commit("new", map[killfeed.Topic]killfeed.EventID{killfeed.System(A): 0, killfeed.System(B): 0}), "A:3 B:0")
		f.is(f.fetch("new", in(A, B)), "2")
		_, err := f.Commit(t.Context(), "new", offset(A, 4))
		f.invalid(err, "event_id") // above the head
		_, err = f.Commit(t.Context(), "never", offset(A, 4))
		f.invalid(err, "event_id")
		f.is(f.offsets("never"), "no client")
		_, err = f.Commit(t.Context(), "new", nil)
		f.invalid(err, "offsets")
		_, err = f.Commit(t.Context(), "", offset(A, 1))
		f.invalid(err, "client_id")
		f.insert(A)
		f.is(f.commit("new", offset(A, 4)), "A:4")
		f.is(f.fetch("new", in(A)), "nothing")
	})
}

func TestSeek(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A, B)
		f.is(f.fetch("c", in(A, B)), "1 2 3 4")
		f.is(f.seek("c", killfeed.StartAt(3), A), "A:2 B:4")
		f.is(f.fetch("c", in(A, B)), "3")
		f.is(f.seek("c", killfeed.Earliest), "A:0 B:0") // all that it has
		f.is(f.fetch("c", in(A, B)), "1 2 3 4")
		f.is(f.seek("c", killfeed.StartAt(2), C, A, C), "A:1 B:4 C:1")
		f.is(f.seek("c", killfeed.Latest), "A:4 B:4 C:4")
		f.is(f.seek("c", killfeed.StartAt(99), A), "A:4 B:4 C:4")
		f.is(f.seek("c", killfeed.StartTime(time.Unix(0, 0)), B), "A:4 B:0 C:4")
		f.is(f.seek("made", killfeed.StartAt(2), A), "A:1")
		f.is(f.fetch("made", in(A)), "3")
		f.is(f.seek("bare", killfeed.Latest), "")
		_, err := f.Seek(t.Context(), " c", killfeed.Latest, nil)
		f.invalid(err, "client_id")
	})
}

// Seek without topics moves all that the client has, however many.
func TestSeekManyTopics(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	f.insert(A)
	topics := make([]killfeed.Topic, 30_000)
	for i := range topics {
		topics[i] = killfeed.System(uint32(i + 1))
	}
	for part := range slices.Chunk(topics, killfeed.MaxTopics) {
		f.is(f.fetch("c", about(part...)), "nothing")
	}
	info, err := f.Seek(t.Context(), "c", killfeed.Latest, nil)
	if err != nil {
		t.Fatalf("moving a client on all its %d topics: %v", len(topics), err)
	}
	if len(info.Offsets) != len(topics) || info.Offsets[topics[29_999]] != 1 {
		t.Errorf("of %d topics %d moved, the last to %d", len(topics), len(info.Offsets), info.Offsets[topics[29_999]])
	}
	// A cursor of the client's own moves topics that it has: it adds none.
	f.is(f.fetch("c", cursor(killfeed.Cursor{After: 1}, about(topics[:killfeed.MaxTopics]...))), "nothing")
	for range 2 {
		for part := range slices.Chunk(topics, killfeed.MaxTopics) {
			for i := range part {
				part[i].ID += 40_000
			}
			_, err = f.Fetch(t.Context(), "c", about(part...))
		}
	}
	f.invalid(err, "topics") // more than MaxClientTopics
	if info, _ := f.Client("c"); len(info.Offsets) > killfeed.MaxClientTopics {
		t.Errorf("the client has %d topics", len(info.Offsets))
	}
}

func TestTopicsOfARead(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	f.insert(A)
	many := make([]killfeed.Topic, killfeed.MaxTopics+1)
	for i := range many {
		many[i] = killfeed.System(uint32(A + i))
	}
	_, err := f.Fetch(t.Context(), "c", about())
	f.invalid(err, "topics")
	_, err = f.Fetch(t.Context(), "c", about(many...))
	f.invalid(err, "topics")
	_, err = f.ReadAfter(t.Context(), killfeed.Cursor{}, about())
	f.invalid(err, "topics")
	_, err = f.Next(t.Context(), "c\n", in(A))
	f.invalid(err, "client_id")
	f.is(f.offsets("c"), "no client")
	f.is(f.fetch("c", about(many[1:]...)), "nothing")
	f.is(f.fetch("d", about(append(many[:50:50], many[:50]...)...)), "1") // doubles count once
}

func TestClientNames(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	f.insert(A)
	for _, name := range []string{
		"", " ", " a", "a ", "a\x00b", "a\tb", "\xff", "a\u200bb", strings.Repeat("x", 129), strings.Repeat("€", 43),
	} {
		_, err := f.Fetch(t.Context(), name, in(A))
		f.invalid(err, "client_id")
	}
	for _, name := range []string{"a", "a b", "Ä/€?&=%", strings.Repeat("x", 128), "😀", "..", "'\"\\"} {
		f.is(name+f.fetch(name, in(A)), name+"1")
	}
}

func TestClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		f := start(t, store.open(t), killfeed.Options{MaxClients: 3})
		f.insert(A, B, A)
		f.is(f.fetch("b", limit(1, in(A))), "1 more")
		time.Sleep(time.Minute)
		f.is(f.fetch("a", in(A, B)), "1 2 3")
		f.is(f.fetch("c", from(killfeed.Latest, in(C))), "nothing")
		seen := time.Now()
		time.Sleep(time.Minute)

		_, err := f.Fetch(t.Context(), "d", in(A))
		f.errorIs(err, killfeed.ErrTooManyClients)
		info, err := f.Client("b")
		if err != nil || info.Name != "b" || info.Lag != 1 || !info.LastSeen.Equal(seen.Add(-time.Minute)) {
			t.Errorf("client b is %+v, %v", info, err)
		}
		page := func(after string, limit int) string {
			infos, err := f.Clients(after, limit)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, info := range infos {
				names = append(names, fmt.Sprintf("%s(%s)", info.Name, sayOffsets(info.Offsets)))
			}
			return strings.Join(names, " ")
		}
		f.is(page("", 10), "a(A:3 B:2) b(A:1) c(C:3)")
		f.is(page("a", 1), "b(A:1)")
		f.is(page("bb", 9), "c(C:3)")
		f.is(page("c", 9), "")

		f.errorIs(f.DeleteClient(t.Context(), "d"), killfeed.ErrNotFound)
		if err := f.DeleteClient(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		f.is(f.offsets("a"), "no client")
		f.is(f.fetch("d", in(A)), "1 3")
		if err := f.DeleteClient(t.Context(), "d"); err != nil {
			t.Fatal(err)
		}
		f.is(f.fetch("d", in(A)), "1 3") // it begins anew
		f.close()

		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("a"), "no client")
		f.is(f.offsets("b"), "A:1")
		if info, err := f.Client("c"); err != nil || !info.LastSeen.Equal(seen) {
			t.Errorf("client c is %+v, %v; want it last seen at %v", info, err, seen)
		}
	})
}

// A deleted client stays deleted, whatever of it was still to be written behind.
func TestDeletedClientStaysDeleted(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A)
		f.is(f.fetch("c", in(A)), "1") // committed in memory, to be written within 100 ms
		if err := f.DeleteClient(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		f.close()
		f = start(t, s.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "no client")
		f.is(f.fetch("c", in(A)), "1")
	})
}

// The same when the times at which clients were seen are written in the same group.
func TestDeletedClientIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		h := &hooked{Store: store.open(t)}
		f := start(t, h, killfeed.Options{})
		f.is(f.fetch("c", in(A)), "nothing")
		run, stop := context.WithCancel(t.Context())
		defer stop()
		go f.Run(run)
		time.Sleep(killfeed.CollectEvery - time.Second)
		f.is(f.fetch("c", in(A)), "nothing")
		// While one group is being written, the next one gathers: both the saving of the times seen and the deletion.
		writing := make(chan struct{})
		h.before("Commit", func() { <-writing })
		go f.Insert(t.Context(), A, []byte("{}"))
		time.Sleep(1500 * time.Millisecond)
		deleted := make(chan error)
		go func() { deleted <- f.DeleteClient(t.Context(), "c") }()
		synctest.Wait()
		close(writing)
		if err := <-deleted; err != nil {
			t.Fatal(err)
		}
		f.is(f.offsets("c"), "no client")
		stop()
		f.close()
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "no client")
	})
}

// A call that waited for its turn while the client was deleted is the first call of a new client.
func TestCallDuringDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		h := &hooked{Store: store.open(t)}
		f := start(t, h, killfeed.Options{})
		f.insert(A, A)
		f.is(f.fetch("c", in(A)), "1 2")
		time.Sleep(time.Second) // nothing is left to be written behind
		answer := make(chan string)
		h.before("Commit", func() {
			go func() { answer <- f.fetch("c", in(A)) }()
			synctest.Wait()
		})
		if err := f.DeleteClient(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		f.is(<-answer, "1 2")
		f.is(f.offsets("c"), "A:2")
		f.is(f.fetch("c", in(A)), "nothing")
		f.close()
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "A:2")
	})
}

func TestPeekChangesNothing(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A)
		f.is(f.fetch("new", peek(in(A))), "1 3")
		f.is(f.next("new", peek(in(A))), "1")
		f.is(f.fetch("new", peek(from(killfeed.Latest, in(A)))), "nothing")
		f.is(f.fetch("new", peek(from(killfeed.StartAt(2), in(A)))), "3")
		f.is(f.fetch("new", peek(cursor(killfeed.Cursor{After: 1}, in(A)))), "3")
		f.is(f.offsets("new"), "no client")
		f.is(f.next("c", in(A)), "1")
		f.is(f.fetch("c", peek(in(A, B))), "2 3")
		f.is(f.fetch("c", peek(cursor(killfeed.Cursor{After: 0}, in(A)))), "1 3")
		f.is(f.fetch("c", peek(cursor(killfeed.Cursor{After: 9}, in(A)))), "gap future")
		f.is(f.offsets("c"), "A:1")
	})
}

// A cursor of the client's own wins over the offsets kept for it, also backwards.
func TestFromCursor(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A, B)
		epoch := f.State().Epoch
		at := func(id killfeed.EventID) killfeed.Cursor { return killfeed.Cursor{After: id, Epoch: epoch} }
		other := killfeed.Cursor{After: 2, Epoch: "00000000"}
		if epoch == other.Epoch {
			other.Epoch = "00000001"
		}
		f.is(f.fetch("c", in(A, B)), "1 2 3 4")
		f.is(f.fetch("c", cursor(at(2), in(A))), "3")
		f.is(f.offsets("c"), "A:3 B:4")
		f.is(f.fetch("c", cursor(at(0), manual(in(A, B)))), "1 2 3 4")
		f.is(f.offsets("c"), "A:0 B:0")
		f.is(f.fetch("c", cursor(killfeed.Cursor{After: 3}, in(A, B))), "4") // a bare number
		f.is(f.fetch("c", cursor(at(4), in(A, B))), "nothing")
		f.is(f.offsets("c"), "A:4 B:4")
		f.is(f.fetch("c", cursor(at(5), in(A, B))), "gap future")
		f.is(f.offsets("c"), "A:4 B:4")
		f.is(f.fetch("c", in(A, B)), "nothing") // told once
		f.is(f.fetch("c", cursor(other, limit(3, in(A, B)))), "1 2 3 gap epoch more")
		f.is(f.fetch("c", in(A, B)), "4")
		f.is(f.fetch("new", cursor(at(3), in(B))), "4")
		f.is(f.offsets("new"), "B:4")
	})
}

func TestReadAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
		read := func(c killfeed.Cursor, r killfeed.Read) (string, killfeed.Cursor) {
			t.Helper()
			a, err := f.ReadAfter(t.Context(), c, r)
			if err != nil {
				t.Fatal(err)
			}
			if a.Next.Epoch != f.State().Epoch {
				t.Errorf("the next cursor is %v in epoch %s", a.Next, f.State().Epoch)
			}
			return say(a) + " then " + fmt.Sprint(a.Next.After), a.Next
		}
		check := func(c killfeed.Cursor, r killfeed.Read, want string) killfeed.Cursor {
			t.Helper()
			got, next := read(c, r)
			f.is(got, want)
			return next
		}
		check(killfeed.Cursor{}, in(A), "nothing then 0")
		f.insert(A, B, A, B, A)
		c := check(killfeed.Cursor{}, limit(2, in(A)), "1 3 more then 4")
		c = check(c, limit(2, in(A)), "5 then 5")
		check(c, in(A), "nothing then 5")
		f.insert(B)
		c = check(c, in(A), "nothing then 6") // what was looked at needs not be looked at again
		check(killfeed.Cursor{After: 2, Epoch: c.Epoch}, in(A, B), "3 4 5 6 then 6")
		check(killfeed.Cursor{After: 7, Epoch: c.Epoch}, in(A), "gap future then 6")
		check(killfeed.Cursor{After: 7, Epoch: "ffffffff"}, limit(1, in(B)), "2 gap epoch more then 3")
		time.Sleep(2 * time.Hour)
		f.collect()
		f.insert(B, A) // 7, 8
		check(killfeed.Cursor{After: 2, Epoch: c.Epoch}, in(A), "8 gap retention 3-5 then 8")
		check(killfeed.Cursor{After: 5, Epoch: c.Epoch}, in(A), "8 then 8")
		check(killfeed.Cursor{After: 5, Epoch: c.Epoch}, limit(1, in(A, B)), "7 gap retention 6-6 more then 7")
		check(killfeed.Cursor{After: 5, Epoch: "ffffffff"}, in(A, B), "7 8 gap epoch then 8")
		check(killfeed.Cursor{After: 0}, in(C), "nothing then 8") // nothing was lost there
		if f.Stats().Clients != 0 {
			t.Errorf("%d clients were made", f.Stats().Clients)
		}
	})
}

// Lag counts what a client has not had, each event once.
func TestLag(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		lag := func(want int) {
			t.Helper()
			info, err := f.Client("c")
			if err != nil || info.Lag != want {
				t.Errorf("the lag is %d, %v; want %d (%s)", info.Lag, err, want, sayOffsets(info.Offsets))
			}
		}
		who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
		f.is(f.fetch("c", about(killfeed.System(A), who, killfeed.System(B))), "nothing")
		lag(0)
		f.insert(A, B, C, A)
		lag(3)
		f.is(f.next("c", about(killfeed.System(A), who)), "1")
		lag(2)
		richer := storetest.Mail{ID: 1, System: A, Victim: storetest.Party{Character: pilot}, Labels: []string{"a"}}
		f.insertMail(richer, 0)
		lag(2) // an update is not counted: it is not delivered unless asked for
		f.is(f.fetch("c", about(killfeed.System(A), who, killfeed.System(B))), "2 4")
		lag(0)
	})
}
