package killfeed_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

func TestDuplicates(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		ctx := t.Context()
		one, two := f.mail(A), f.mail(B)
		say := func(res []killfeed.InsertResult, err error) string {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, r := range res {
				word := fmt.Sprint(r.EventID)
				if r.Duplicate {
					word += " duplicate"
				}
				if r.Update {
					word += " update"
				}
				words = append(words, word)
			}
			return strings.Join(words, ", ")
		}
		all := func(marks killfeed.Marks, mails ...storetest.Mail) string {
			t.Helper()
			var ks []*killfeed.Killmail
			for _, m := range mails {
				ks = append(ks, m.Killmail())
			}
			return say(f.InsertAll(ctx, ks, marks))
		}
		f.is(all(0, one, two, one), "1, 2, 1 duplicate")
		f.is(all(killfeed.MarkBackfill, two, one), "2 duplicate, 1 duplicate")
		nameless := storetest.Mail{System: A}
		f.is(all(0, nameless, nameless), "3, 4")
		f.is(say(f.InsertAll(ctx, nil, 0)), "")

		// What is poorer or as rich adds nothing; what is richer becomes an update of the newest version.
		bare, hash, zkb := f.mail(A), storetest.Mail{}, storetest.Mail{}
		bare.NoHash = true
		hash = bare
		hash.NoHash = false
		zkb = hash
		zkb.ZKB = true
		labels := func(l ...string) storetest.Mail { m := zkb; m.Labels = l; return m }
		f.is(all(0, bare, hash, bare), "5, 6 update, 5 duplicate")
		f.is(all(0, zkb, hash, bare), "7 update, 5 duplicate, 5 duplicate")
		f.is(all(0, labels("a", "b")), "8 update")
		f.is(all(0, labels("b", "a"), labels("a", "b", "a")), "5 duplicate, 5 duplicate")
		f.is(all(0, labels("b"), zkb), "5 duplicate, 5 duplicate")
		f.is(all(0, labels("c", "a", "b")), "9 update")
		f.is(all(0, labels("a", "b"), labels("d", "c", "b", "a"), labels("d")), "5 duplicate, 10 update, 5 duplicate")
		f.is(f.fetch("c", in(A)), "1 3 4 5")
		f.is(f.fetch("d", updates(in(A))), "1 3 4 5 6 7 8 9 10")

		// For ever: also when the events are gone and the program was started anew.
		f.is(f.fetch("c", in(B)), "2")
		f.is(f.commit("c", offset(A, 10)), "A:10")
		f.is(f.commit("c", offset(B, 10)), "B:10")
		f.is(f.commit("d", offset(A, 10)), "A:10")
		f.is(fmt.Sprint(f.collect()), "{10 11 10}")
		f.close()
		f = start(t, s.open(t), killfeed.Options{})
		f.is(all(0, one, two, bare, labels("d")), "1 duplicate, 2 duplicate, 5 duplicate, 5 duplicate")
		f.is(all(0, one), "1 duplicate")
		f.is(all(0, storetest.Mail{ID: 99, System: A}), "11")
		if st := f.Stats(); st.Inserted != 1 || st.Duplicates != 5 || st.Updates != 0 {
			t.Errorf("stats are %+v", st)
		}
	})
}

// Versions that each bring something that another one lacks do not become updates of each other for ever.
func TestUpdatesEnd(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	m := f.mail(A)
	hash, zkb := m, m
	zkb.NoHash, zkb.ZKB = true, true
	labels := func(l ...string) storetest.Mail { m := m; m.Labels = l; return m }
	for _, versions := range [][]storetest.Mail{{hash, zkb}, {labels("a", "b"), labels("a", "c")}} {
		for range 5 {
			for _, m := range versions {
				f.insertMail(m, 0)
			}
		}
	}
	if head := f.State().Head; head > 5 {
		t.Errorf("4 versions of one killmail, each inserted 5 times, became %d events", head)
	}
}

// InsertAll stores all or none: an error for one of the killmails keeps out the others.
func TestInsertAllOrNone(t *testing.T) {
	unreadable := errors.New("unreadable")
	h := &hooked{Store: storetest.NewModel(), errors: map[int64]error{2: unreadable}}
	f := start(t, h, killfeed.Options{})
	one, two := f.mail(A), f.mail(A)
	_, err := f.InsertAll(t.Context(), []*killfeed.Killmail{one.Killmail(), two.Killmail()}, 0)
	f.errorIs(err, unreadable)
	if head := f.State().Head; head != 0 {
		t.Errorf("%d events were stored by an insert that was refused", head)
	}
	f.is(fmt.Sprint(f.insertMail(one, 0)), "{1 false false}")
	f.is(f.fetch("c", in(A)), "1")
}

// A source's place is stored with its killmails, both or neither, also when there is nothing new among them.
func TestInsertFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		h := &hooked{errors: map[int64]error{9: errors.New("unreadable")}}
		faulty := storetest.NewFaulty(store.open(t))
		h.Store = faulty
		f := start(t, h, killfeed.Options{})
		insert := func(place string, ids ...int64) error {
			var ks []*killfeed.Killmail
			for _, id := range ids {
				m := storetest.Mail{ID: id, System: A, Time: time.Now()}
				ks = append(ks, m.Killmail())
			}
			_, err := f.InsertFrom(t.Context(), ks, 0, killfeed.Checkpoint{Source: "r2z2", Place: place})
			return err
		}
		check := func(place string, head killfeed.EventID) {
			t.Helper()
			got, err := f.Checkpoint("r2z2")
			if got != place || err != nil || f.State().Head != head {
				t.Errorf("the place is %q, %v, and the head %d; want %q and %d", got, err, f.State().Head, place, head)
			}
		}
		check("", 0)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(insert("one", 1, 2))
		check("one", 2)
		must(insert("two", 2, 1))
		check("two", 2)
		must(insert("three"))
		check("three", 2)
		if insert("four", 3, 9) == nil {
			t.Error("no error")
		}
		check("three", 2)
		faulty.FailCommits(storetest.Fault{}, storetest.Fault{Stored: true})
		f.errorIs(insert("five", 3), killfeed.ErrOutcomeUnknown)
		check("three", 2)
		f.errorIs(insert("six", 3), killfeed.ErrOutcomeUnknown)
		check("six", 3)
		must(insert("seven", 3, 4))
		check("seven", 4)
		_, err := f.InsertFrom(t.Context(), nil, 0, killfeed.Checkpoint{Place: "x"})
		f.invalid(err, "checkpoint")
		_, err = f.InsertFrom(t.Context(), nil, 0, killfeed.Checkpoint{Source: "x", Place: strings.Repeat("x", 64<<10+1)})
		f.invalid(err, "checkpoint")
		f = start(t, store.open(t), killfeed.Options{})
		check("seven", 4)
	})
}

func TestInsertRefuses(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	for text, system := range map[string]uint32{
		`5`: A, `[]`: A, `{`: A, ``: A, `null`: A, `{} {}`: A, `{"killmail_id":"1"}`: A, `{"solar_system_id":1}`: A,
		`{"a":1}`: 0, `{"b":1}`: 1 << 31,
	} {
		_, err := f.Insert(t.Context(), system, []byte(text))
		if _, ok := errors.AsType[*killfeed.InvalidError](err); !ok {
			t.Errorf("inserting %q in system %d gave %v, want an InvalidError", text, system, err)
		}
	}
	if head := f.State().Head; head != 0 {
		t.Errorf("%d events were stored", head)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("left")
	cancel(left)
	if _, err := f.Insert(ctx, A, []byte(`{}`)); err != nil {
		f.errorIs(err, left)
	}
}

// Events become visible in the order of their ids, whoever inserts: no reader ever sees n+1 before n, and all arrive.
func TestOrderUnderConcurrency(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		const writers, each = 8, 60
		f := start(t, s.open(t), killfeed.Options{})
		var writing, reading sync.WaitGroup
		for w := range writers {
			writing.Go(func() {
				var last killfeed.EventID
				for i := range each {
					m := storetest.Mail{ID: int64(w*each + i + 1), System: []uint32{A, B, C}[i%3], Time: time.Unix(1e9, 0).UTC()}
					res, err := f.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
					if err != nil {
						t.Error(err)
						return
					}
					if id := res[0].EventID; id <= last || f.State().Head < id {
						t.Errorf("a writer got event %d after %d, with the head at %d", id, last, f.State().Head)
					}
					last = res[0].EventID
				}
			})
		}
		for r := range 3 {
			reading.Go(func() {
				next := killfeed.EventID(1)
				for next <= writers*each {
					a, err := f.Fetch(t.Context(), fmt.Sprint("reader", r), wait(10*time.Second, limit(7*r, about(killfeed.All()))))
					if err != nil || len(a.Events) == 0 {
						t.Errorf("%s, %v", say(a), err)
						return
					}
					for _, e := range a.Events {
						if e.ID != next || e.MirrorSeq != uint64(next) {
							t.Errorf("event %d with mirror sequence %d came where %d was next", e.ID, e.MirrorSeq, next)
							return
						}
						next++
					}
				}
			})
		}
		writing.Wait()
		reading.Wait()
		if st := f.Stats(); st.Inserted != writers*each || st.Grouped < st.Inserted {
			t.Errorf("stats are %+v", st)
		}
	})
}

// Two concurrent reads of one client never get the same event, and between them they get all.
func TestOneClientConcurrently(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, yielding{s.open(t)}, killfeed.Options{})
		const n = 200
		for range n / 4 {
			f.insert(A, B, A, C)
		}
		var (
			mu      sync.Mutex
			got     []killfeed.EventID
			readers sync.WaitGroup
		)
		for r := range 6 {
			readers.Go(func() {
				for {
					read := f.Fetch
					if r%2 == 0 {
						read = f.Next
					}
					a, err := read(t.Context(), "c", limit(1+r, in(A, B, C)))
					if err != nil {
						t.Error(err)
					}
					if len(a.Events) == 0 {
						return
					}
					mu.Lock()
					for _, e := range a.Events {
						got = append(got, e.ID)
					}
					mu.Unlock()
				}
			})
		}
		readers.Wait()
		slices.Sort(got)
		if len(got) != n || got[0] != 1 || got[n-1] != n {
			t.Errorf("%d events came instead of 1 to %d: %v", len(got), n, got)
		}
	})
}

// A wall clock that jumps makes no receipt time fall, and no event old.
func TestWallClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jump := time.Duration(0)
		f := start(t, storetest.NewModel(), killfeed.Options{
			Retention: killfeed.Retention{Retain: 12 * time.Hour, Max: 20 * time.Hour, ClientTTL: 7 * 24 * time.Hour},
			Wall:      func() time.Time { return time.Now().Add(jump) },
		})
		f.insert(A)
		for i, to := range []time.Duration{24 * time.Hour, -24 * time.Hour, 0, 400 * 24 * time.Hour, -400 * 24 * time.Hour, 0} {
			jump = to
			f.is(f.fetch("c", in(A)), fmt.Sprint(i+1))
			if c := f.collect(); c.Removed != 0 {
				t.Fatalf("after a jump of %v a collection removed %d events", to, c.Removed)
			}
			f.insert(A)
			time.Sleep(time.Minute)
		}
		var last time.Time
		for id := killfeed.EventID(1); id <= f.State().Head; id++ {
			e, err := f.Event(id)
			if err != nil {
				t.Fatal(err)
			}
			if e.ReceivedAt.Before(last) || e.ReceivedAt.Location() != time.UTC || e.ReceivedAt.Nanosecond()%1e6 != 0 {
				t.Errorf("event %d was received at %v, the one before at %v", id, e.ReceivedAt, last)
			}
			last = e.ReceivedAt
		}
		f.is(f.offsets("c"), "A:6")
	})
}
