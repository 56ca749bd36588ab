package killfeed_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// A gap is told if and only if an unread event of a topic was removed: from the lowest offset + 1 among the topics that lost
// something to the greatest removed event on them.
func TestGap(t *testing.T) {
	retention := killfeed.Retention{Max: time.Hour}
	tests := []struct {
		name string
		test func(t *testing.T, f *feed, expire func())
	}{
		{"told once", func(t *testing.T, f *feed, expire func()) {
			f.is(f.fetch("c", in(A)), "nothing")
			f.insert(A, A, B)
			expire()
			f.is(f.fetch("c", in(A)), "gap retention 1-2")
			f.is(f.offsets("c"), "A:2")
			f.is(f.fetch("c", in(A)), "nothing")
			f.insert(A)
			f.is(f.fetch("c", in(A)), "4")
		}},
		{"repeated until the client commits", func(t *testing.T, f *feed, expire func()) {
			f.is(f.fetch("c", manual(in(A))), "nothing")
			f.insert(A, A)
			expire()
			f.insert(A)
			for range 2 {
				f.is(f.fetch("c", manual(in(A))), "3 gap retention 1-2")
				f.is(f.next("c", manual(in(A))), "3 gap retention 1-2")
			}
			f.is(f.offsets("c"), "A:0")
			f.is(f.commit("c", offset(A, 1)), "A:1")
			f.is(f.fetch("c", manual(in(A))), "3 gap retention 2-2")
			f.is(f.commit("c", offset(A, 2)), "A:2")
			f.is(f.fetch("c", manual(in(A))), "3")
		}},
		{"not without a loss", func(t *testing.T, f *feed, expire func()) {
			f.insert(A, B, A, B, B)
			f.is(f.fetch("read", in(A)), "1 3")
			f.is(f.fetch("quiet", in(C)), "nothing")
			f.is(f.fetch("latest", from(killfeed.Latest, in(A, B))), "nothing")
			expire()
			for _, c := range []string{"read", "quiet", "latest"} {
				f.is(c+" "+f.fetch(c, map[string]killfeed.Read{"read": in(A), "quiet": in(C), "latest": in(A, B)}[c]), c+" nothing")
			}
			f.is(f.fetch("new", in(A, B, C)), "nothing") // earliest has none
		}},
		{"bounds over topics", func(t *testing.T, f *feed, expire func()) {
			f.insert(A, B, C, A, B, C) // 1 to 6
			f.is(f.fetch("c", limit(1, in(A))), "1 more")
			f.is(f.fetch("c", limit(1, in(B))), "2 more")
			f.is(f.fetch("c", in(C)), "3 6")
			expire()
			f.insert(A)
			f.is(f.fetch("c", peek(in(A))), "7 gap retention 2-4")
			f.is(f.fetch("c", peek(in(B))), "gap retention 3-5")
			f.is(f.fetch("c", peek(in(C))), "nothing")
			f.is(f.fetch("c", in(C, B, A)), "7 gap retention 2-5")
			f.is(f.offsets("c"), "A:7 B:5 C:6")
		}},
		{"with next", func(t *testing.T, f *feed, expire func()) {
			f.is(f.fetch("c", in(A, B)), "nothing")
			f.insert(A, B)
			expire()
			f.insert(B, A)
			f.is(f.next("c", in(A, B)), "3 gap retention 1-2")
			f.is(f.offsets("c"), "A:1 B:3")
			f.is(f.next("c", in(A, B)), "4")
		}},
		{"only what was above the offset", func(t *testing.T, f *feed, expire func()) {
			f.insert(A, A, A)
			f.is(f.fetch("c", limit(2, in(A))), "1 2 more")
			expire()
			f.is(f.fetch("c", in(A)), "gap retention 3-3")
		}},
		{"by an explicit position", func(t *testing.T, f *feed, expire func()) {
			f.insert(A, B)
			expire()
			f.insert(A)
			f.is(f.seek("c", killfeed.StartAt(1), A), "A:0")
			f.is(f.fetch("c", in(A)), "3 gap retention 1-1")
			f.is(f.fetch("c", cursor(killfeed.Cursor{}, in(A, B))), "3 gap retention 1-2")
			f.is(f.seek("c", killfeed.Earliest), "A:2 B:2")
			f.is(f.fetch("c", in(A, B)), "3")
		}},
		{"on other topics it may be too wide, never too narrow", func(t *testing.T, f *feed, expire func()) {
			who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
			f.is(f.fetch("c", about(who)), "nothing")
			f.insert(A, B)
			expire()
			a, err := f.Fetch(t.Context(), "c", about(who))
			if err != nil || a.Gap == nil || a.Gap.From != 1 || a.Gap.To < 1 || a.Gap.To > 2 {
				t.Errorf("the answer is %s, %v", say(a), err)
			}
			f.is(f.fetch("c", about(who)), "nothing")
		}},
		{"all", func(t *testing.T, f *feed, expire func()) {
			f.insert(A)
			f.is(f.fetch("c", about(killfeed.All())), "1")
			f.insert(A, B)
			expire()
			f.insert(C)
			f.is(f.fetch("c", about(killfeed.All())), "4 gap retention 2-3")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, storetest.NewModel(), killfeed.Options{Retention: retention})
				tt.test(t, f, func() {
					time.Sleep(retention.Max + time.Minute)
					f.collect()
				})
			})
		})
	}
}

// A collection that comes in the middle of a read takes nothing from it in silence.
func TestCollectionDuringRead(t *testing.T) {
	for _, moment := range []string{"Find", "after Find"} {
		for _, r := range []killfeed.Read{in(A), manual(in(A)), limit(2, in(A))} {
			t.Run(fmt.Sprintf("%s manual=%v limit=%d", moment, r.Manual, r.Limit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := &hooked{Store: storetest.NewModel()}
					f := start(t, h, killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
					f.is(f.fetch("c", r), "nothing")
					f.insert(A, A, A)
					time.Sleep(2 * time.Hour)
					f.insert(A, A)
					h.before(moment, func() { f.collect() })
					// Either the removed events are in the answer, or a gap for them is.
					got := f.fetch("c", r)
					want := []string{"1 2 3 4 5", "4 5 gap retention 1-3"}
					if r.Limit > 0 {
						want = []string{"1 2 more", "1 2 more gap retention 3-3", "4 5 gap retention 1-3", "4 5 gap retention 1-2"}
					}
					if !slices.Contains(want, got) {
						t.Errorf("got %q, want one of %q", got, want)
					}
					switch {
					case r.Manual: // nothing was committed, so it is told again
						f.is(f.fetch("c", r), "4 5 gap retention 1-3")
					case got == "1 2 more":
						f.is(f.fetch("c", r), "4 5 gap retention 3-3")
					default:
						f.is(f.fetch("c", r), "nothing")
					}
				})
			})
		}
	}
}

// A damaged record is reported by its id, and neither served nor in the way.
func TestDamagedEvent(t *testing.T) {
	store := storetest.NewModel()
	f := start(t, store, killfeed.Options{})
	f.insert(A, A, A, A)
	store.Damage(2)
	store.Damage(3)
	f.is(f.fetch("auto", in(A)), "1 4 gap damaged 2-3")
	f.is(f.fetch("auto", in(A)), "nothing")
	f.is(f.next("next", in(A)), "1")
	f.is(f.next("next", in(A)), "gap damaged 2-2")
	f.is(f.next("next", in(A)), "gap damaged 3-3")
	f.is(f.next("next", in(A)), "4")
	_, err := f.Event(2)
	if e, ok := errors.AsType[*killfeed.DamageError](err); !ok || e.ID != 2 {
		t.Errorf("event 2 gives %v", err)
	}
	_, err = f.Event(5)
	f.errorIs(err, killfeed.ErrNotFound)
	_, err = f.Event(0)
	f.errorIs(err, killfeed.ErrNotFound)
}

// A damaged event is told also when there is another gap to tell: at the latest by the next answer.
func TestDamagedBesideAnotherGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewModel()
		f := start(t, store, killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
		f.is(f.fetch("c", in(A)), "nothing")
		f.insert(A, A)
		time.Sleep(2 * time.Hour)
		f.collect()
		f.insert(A, A, A)
		store.Damage(4)
		told := ""
		for range 3 {
			told += f.fetch("c", in(A)) + "; "
		}
		if !strings.Contains(told, "retention 1-2") || !strings.Contains(told, "damaged 4-4") {
			t.Errorf("the client was told %s", told)
		}
	})
}
