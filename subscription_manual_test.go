package killfeed_test

import (
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
)

// rare asks for what has a label, with manual commit.
func rare(t *testing.T, r killfeed.Read) killfeed.Read {
	t.Helper()
	var err error
	if r.Filter, err = killfeed.ParseFilter("label=x", nil); err != nil {
		t.Fatal(err)
	}
	return manual(r)
}

// insertRare inserts so many killmails at A, the rare ones being those at the given places, from 1 on.
func (f *feed) insertRare(n int, at ...int) {
	f.Helper()
	for i := 1; i <= n; i++ {
		m := f.mail(A)
		for _, rare := range at {
			if rare == i {
				m.ZKB, m.Labels = true, []string{"x"}
			}
		}
		f.insertMail(m, 0)
	}
	synctest.Wait()
}

// What a subscription with manual commit passes over counts as read, as it does for a poll: all of it while nothing is uncommitted,
// what is before the first event that is returned, and the rest with its commit, the subscription's or the client's.
func TestManualSubscriptionPassesOver(t *testing.T) {
	for name, topics := range map[string][]killfeed.Topic{
		"all": {killfeed.All()}, "a system": {killfeed.System(A)}, "both": {killfeed.All(), killfeed.System(A)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newModel()
				f := start(t, store.open(t), killfeed.Options{})
				at := func(want killfeed.EventID) {
					t.Helper()
					info, err := f.Client("c")
					if err != nil {
						t.Fatal(err)
					}
					for _, topic := range topics {
						if info.Offsets[topic] != want || info.Lag != int(f.State().Head-want) {
							t.Errorf("c is at %d on %v and lags %d, want %d of %d", info.Offsets[topic], topic, info.Lag, want, f.State().Head)
						}
					}
				}
				f.insertRare(100)
				s := f.subscribe(by("c", 1, rare(t, about(topics...))))
				f.is(s.read(0), "nothing")
				at(100)
				f.insertRare(1) // which is read alone
				f.is(s.read(0), "nothing")
				at(101)
				f.insertRare(20, 9, 15)
				f.is(s.read(0), "110 116")
				s.Delivered()
				at(109)
				f.insertRare(10)
				f.is(s.read(0), "nothing")
				at(109) // behind what is not committed
				if err := f.commitTo(s, 112); err != nil {
					t.Error(err)
				}
				at(112)
				if err := f.commitTo(s, 116); err != nil {
					t.Error(err)
				}
				at(131)
				f.insertRare(5, 2)
				f.is(s.read(0), "133")
				at(132)
				offsets := map[killfeed.Topic]killfeed.EventID{}
				for _, topic := range topics {
					offsets[topic] = 133
				}
				if _, err := f.Commit(t.Context(), "c", offsets); err != nil {
					t.Error(err)
				}
				at(136)

				// It is written within a second, and soon after Close.
				f.insertRare(4)
				f.is(s.read(0), "nothing")
				time.Sleep(time.Second)
				synctest.Wait()
				f = f.crash(store, killfeed.Options{})
				at(140)
				s = f.subscribe(by("c", 1, rare(t, about(topics...))))
				f.insertRare(4)
				f.is(s.read(0), "nothing")
				s.Close()
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				f = f.crash(store, killfeed.Options{})
				at(144)
			})
		})
	}
}

// A gap is told again until it is committed, whatever was passed over behind it.
func TestManualSubscriptionRepeatsGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, newModel().open(t), killfeed.Options{Retention: killfeed.Retention{Max: hour}})
		s := f.subscribe(by("c", 1, rare(t, in(A))))
		f.insertRare(3, 3)
		time.Sleep(2 * hour)
		f.collect()
		f.insertRare(2)
		f.is(s.read(0), "gap retention 1-3")
		f.insertRare(1)
		f.is(s.read(0), "nothing")
		f.is(f.offsets("c"), "A:0")
		s.Close()
		s = f.subscribe(by("c", 1, rare(t, in(A))))
		f.is(begins(s.place), "4 gap retention 1-3")
		f.is(s.read(0), "nothing")
		f.is(f.offsets("c"), "A:0")
		if err := f.commitTo(s, 3); err != nil {
			t.Error(err)
		}
		f.is(f.offsets("c"), "A:6")
	})
}

// Subscriptions of one client share its offsets: what one passes over does not count before the others have read it, nor while one
// of them has returned something that is not committed. Nor does it count where somebody has moved the client back.
func TestManualSubscriptionSparesOthers(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		passes := f.subscribe(by("c", 1, rare(t, in(A))))
		other := f.subscribe(by("c", 1, manual(in(A, B))))
		f.insert(A, A, A)
		synctest.Wait()
		f.is(passes.read(0), "nothing")
		f.is(f.offsets("c"), "A:0 B:0") // the other one has not read them
		f.is(other.read(2), "1 2 more")
		f.insert(A)
		synctest.Wait()
		f.is(passes.read(0), "nothing")
		f.is(f.offsets("c"), "A:0 B:0") // nor committed
		if err := f.commitTo(other, 2); err != nil {
			t.Error(err)
		}
		f.is(f.offsets("c"), "A:2 B:0") // 3 and 4 are not read by it
		f.is(other.read(0), "3 4")
		if err := f.commitTo(passes, 2); err != nil {
			t.Error(err)
		}
		f.is(f.offsets("c"), "A:2 B:0")
		f.setTopics(other, killfeed.System(B))
		f.insert(A)
		synctest.Wait()
		f.is(passes.read(0), "nothing")
		f.is(f.offsets("c"), "A:5 B:0") // it reads A no longer

		f.insert(A, A)
		synctest.Wait()
		f.fetch("c", cursor(killfeed.Cursor{After: 3}, peek(in(A)))) // moves nothing
		f.is(f.fetch("c", limit(1, manual(cursor(killfeed.Cursor{After: 3}, in(A))))), "4 more")
		f.is(passes.read(0), "nothing")
		f.is(f.offsets("c"), "A:3 B:0") // the client wants them again
		f.seek("c", killfeed.StartAt(2), A)
		f.is(passes.read(0), "nothing")
		f.is(f.offsets("c"), "A:7 B:0")
	})
}
