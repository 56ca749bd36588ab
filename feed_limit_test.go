package killfeed_test

import (
	"fmt"
	"testing"
	"time"

	"killfeed"
	"killfeed/internal/ledgertest"
	"killfeed/storetest"
)

// More is told if and only if the limit, or the byte budget, left something out.
func TestLimit(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A, B, A)
		f.is(f.fetch("a", limit(5, in(A, B))), "1 2 3 4 5")
		f.is(f.fetch("b", limit(4, in(A, B))), "1 2 3 4 more")
		f.is(f.offsets("b"), "A:3 B:4")
		f.is(f.fetch("b", limit(4, in(A, B))), "5")
		f.is(f.fetch("c", limit(3, in(A))), "1 3 5")
		f.is(f.fetch("d", limit(2, in(A))), "1 3 more")
		f.is(f.fetch("d", limit(2, in(A))), "5")
		f.is(f.fetch("e", manual(limit(2, in(A, B)))), "1 2 more")
		f.is(f.fetch("e", manual(limit(2, in(A, B)))), "1 2 more")
	})
}

// A limit is a limit also where a read takes several looks into the index, and nothing is left out or comes twice.
func TestManyEvents(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		const n = 3000
		var ks []*killfeed.Killmail
		for i := range n {
			m := f.mail([]uint32{A, B}[i%2])
			ks = append(ks, m.Killmail())
		}
		if _, err := f.InsertAll(t.Context(), ks, 0); err != nil {
			t.Fatal(err)
		}
		reads := []struct {
			read        killfeed.Read
			first, step killfeed.EventID
		}{
			{in(A), 1, 2}, {in(B), 2, 2}, {about(killfeed.All()), 1, 1}, {about(killfeed.All(), killfeed.System(C)), 0, 0},
			{about(killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}), 1, 2},
		}
		for _, l := range []int{0, 1023, 1024, 1025, 1499, 1500, 2047, 2048, 3000} {
			for i, r := range reads {
				next := r.first
				for more := true; more; {
					a, err := f.Fetch(t.Context(), fmt.Sprint("limit ", l), limit(l, r.read))
					if err != nil {
						t.Fatal(err)
					}
					for _, e := range a.Events {
						if e.ID != next {
							t.Fatalf("limit %d, read %d: event %d came, want %d", l, i, e.ID, next)
						}
						next += r.step
					}
					if left := next != 0 && next <= n; a.More != left || left && len(a.Events) != l {
						t.Fatalf("limit %d, read %d: after %d events, the last before %d, more is %v", l, i, len(a.Events), next, a.More)
					}
					more = a.More
				}
			}
		}
	})
}

func TestByteBudget(t *testing.T) {
	ledgertest.Alone(t, "its killmails are no JSON, and are read by nobody")
	f := start(t, storetest.NewModel(), killfeed.Options{})
	big := func(bytes int) {
		k := &killfeed.Killmail{SystemID: A, JSON: make([]byte, bytes), Topics: in(A).Topics}
		if _, err := f.InsertAll(t.Context(), []*killfeed.Killmail{k}, 0); err != nil {
			t.Fatal(err)
		}
	}
	const third = killfeed.MaxAnswerBytes / 3
	big(third)
	big(third)
	big(third) // these three fit
	big(third)
	big(killfeed.MaxAnswerBytes + 100) // alone it may exceed the budget
	big(100)
	f.is(f.fetch("limited", limit(3, in(A))), "1 2 3 more")
	f.is(f.fetch("limited", limit(2, in(A))), "4 more")
	f.is(f.fetch("c", in(A)), "1 2 3 more")
	f.is(f.offsets("c"), "A:3")
	f.is(f.fetch("c", manual(in(A))), "4 more")
	f.is(f.fetch("c", in(A)), "4 more")
	f.is(f.fetch("c", in(A)), "5 more")
	f.is(f.fetch("c", in(A)), "6")
}

// vast is a store in which very many events are backfilled history on A, and the last one is live.
type vast struct{ killfeed.Store }

const vastHead = 105_001

func (v vast) State() killfeed.State {
	st := v.Store.State()
	st.Head = vastHead
	return st
}

func (v vast) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	for id := q.Positions[0].After + 1; id <= q.Through && q.Max > 0; id++ {
		e := killfeed.Entry{ID: id, Marks: killfeed.MarkBackfill}
		if id == vastHead {
			e.Marks = 0
		}
		dst = append(dst, e)
		q.Max--
	}
	return dst, nil
}

func (v vast) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	for _, id := range ids {
		if !yield(killfeed.Event{ID: id, SystemID: A, Killmail: []byte("{}")}, nil) {
			break
		}
	}
	return nil
}

// A read that passes over very many events ends early, says so, and goes on from there.
func TestScanBudget(t *testing.T) {
	ledgertest.Alone(t, "its events are made up when they are read")
	f := start(t, vast{storetest.NewModel()}, killfeed.Options{})
	for _, r := range []killfeed.Read{limit(10, in(A)), manual(limit(10, in(A))), wait(time.Hour, in(A))} {
		client := fmt.Sprint(r.Limit, r.Manual, r.Wait)
		f.is(f.fetch(client, noBackfill(r)), "more")
		f.is(f.fetch(client, noBackfill(r)), fmt.Sprint(vastHead))
	}
	f.is(f.next("next", noBackfill(in(A))), "more")
	f.is(f.next("next", noBackfill(in(A))), fmt.Sprint(vastHead))
	a, err := f.ReadAfter(t.Context(), killfeed.Cursor{}, noBackfill(in(A)))
	if f.is(say(a), "more"); err != nil {
		t.Fatal(err)
	}
	a, err = f.ReadAfter(t.Context(), a.Next, noBackfill(in(A)))
	if f.is(say(a), fmt.Sprint(vastHead)); err != nil {
		t.Fatal(err)
	}
	// Without a limit there is one all the same.
	a, err = f.Fetch(t.Context(), "all", in(A))
	if err != nil || !a.More || len(a.Events) < 100_000 || len(a.Events) >= vastHead {
		t.Fatalf("%d events, more is %v; %v", len(a.Events), a.More, err)
	}
	f.is(f.fetch("all", from(killfeed.Earliest, limit(1, in(A)))), fmt.Sprint(len(a.Events)+1, " more"))
}
