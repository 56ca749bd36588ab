package r2z2

import (
	"bytes"
	"killfeed"
	"killfeed/ingest"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

// hour is what an hour of killmails has.
const hour = 1226

func noHole(f standin.File) bool { return f.Hole }

// TestFollowsInOrder: a backlog of an hour, then what comes live.
func TestFollowsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standin.Config{Mails: mails(hour, 1, time.Now()), Pace: standin.Pace{Rate: 5}})
		defer w.close()
		w.start()
		time.Sleep(6 * time.Minute)
		w.stop()
		w.complete(true, nil)
		w.manners()
		st := w.intake.Status()
		if st.Inserted != hour || st.Behind != 0 || st.Lag > 10 || st.Bad != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestRealHour: the same with real killmails, published faster than they may be read.
func TestRealHour(t *testing.T) {
	const path = "../../../shared/data/killmails-hour.jsonl.gz"
	if _, err := os.Stat(path); err != nil {
		t.Skip("the captured hour of killmails is not here")
	}
	real, err := standin.Load(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standin.Config{Mails: real, Pace: standin.Pace{Rate: 10}, PointerLag: 51})
		defer w.close()
		w.start()
		time.Sleep(time.Minute)
		most := w.intake.Status().Lag
		time.Sleep(4 * time.Minute)
		w.stop()
		w.complete(true, nil)
		w.manners()
		if st := w.intake.Status(); st.Inserted != uint64(len(real)) || st.Behind != 0 || st.Lag != 0 || most < 5 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestBeginsAtPointer: a first start takes nothing that was published before the pointer's number.
func TestBeginsAtPointer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standin.Config{Mails: mails(200, 1, time.Now().Add(-time.Hour)), Before: 150, PointerLag: 51,
			Pace: standin.Pace{Rate: 0.2}})
		defer w.close()
		w.start()
		time.Sleep(10 * time.Minute)
		w.stop()
		events := w.events(false)
		files := w.server.Files()
		pointer := 2*52 - 1 // index of the file that the pointer named at the start
		if len(events) != 200-pointer || events[0].KillmailID != files[pointer].KillmailID {
			t.Errorf("%d events, want %d", len(events), 200-pointer)
		}
		w.manners()
	})
}

// TestMisbehaviours: the hour with each misbehaviour alone, then with all of them; and the same with the process killed at
// random moments.
func TestMisbehaviours(t *testing.T) {
	some := standin.Strike{Chance: 0.05}
	with := func(change func(*standin.Strike)) standin.Strike {
		s := some
		change(&s)
		return s
	}
	all := standin.Faults{
		standin.Late:        with(func(s *standin.Strike) { s.For = 45 * time.Second }),
		standin.Reupload:    with(func(s *standin.Strike) { s.For = 90 * time.Second }),
		standin.Hang:        with(func(s *standin.Strike) { s.Chance = 0.005 }),
		standin.Forbidden:   with(func(s *standin.Strike) { s.Chance = 0.002 }),
		standin.TooMany:     with(func(s *standin.Strike) { s.Chance = 0.01; s.RetryAfter = 7 * time.Second }),
		standin.ServerError: some,
		standin.NotFound:    some,
		standin.HTML:        some,
		standin.Stale:       with(func(s *standin.Strike) { s.For = time.Minute }),
		standin.Skew:        some, standin.WrongSequence: some, standin.InvalidJSON: some,
		standin.Truncated: some, standin.Cut: some,
	}
	cases := map[string]standin.Faults{"all": all}
	for fault, strike := range all {
		cases[string(fault)] = standin.Faults{fault: strike}
	}
	cases["hole"] = standin.Faults{standin.Hole: some}
	cases["too many without retry-after"] = standin.Faults{standin.TooMany: {Chance: 0.01}}
	cases["404 storm"] = standin.Faults{standin.NotFound: {Chance: 0.002, For: 2 * time.Minute}}
	for name, faults := range cases {
		for _, kills := range []int{0, 10} {
			label := name
			if kills > 0 {
				label += ", killed"
			}
			size := 300
			if name == "all" {
				size = hour
			}
			t.Run(label, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, standin.Config{
						Mails: mails(size, 2, time.Now()), Before: 1, Pace: standin.Pace{Hold: true}, Seed: 7,
					})
					defer w.close()
					w.start()
					time.Sleep(time.Second) // the source knows where it begins before anything is wrong
					for fault, strike := range faults {
						if err := w.server.SetFault(fault, strike); err != nil {
							t.Fatal(err)
						}
					}
					if err := w.server.SetPace(standin.Pace{Rate: 1}); err != nil {
						t.Fatal(err)
					}
					r := rand.New(rand.NewPCG(1, 2))
					for range kills {
						time.Sleep(time.Duration(r.Int64N(int64(size) * int64(time.Second) / 5)))
						w.kill()
						w.start()
					}
					for until := time.Now().Add(3 * time.Hour); time.Now().Before(until); time.Sleep(time.Minute) {
						missing := 0
						for _, f := range w.server.Files() {
							if _, known, _ := w.model.Known(f.KillmailID); !known && !f.Hole {
								missing++
							}
						}
						if missing == 0 && w.server.Stats().Waiting == 0 {
							break
						}
					}
					time.Sleep(12 * time.Minute)
					w.stop()
					late := name == "all" || name == "late" || name == "404 storm"
					w.complete(!late, noHole)
					w.manners()
				})
			})
		}
	}
}

// TestOldPlace: the source was away for two days. It goes on at the pointer, and has the rest from history.
func TestOldPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const before, missed, after = 100, 600, 100
		time.Sleep(20 * time.Hour) // bubbles begin at midnight; history is written in the morning
		all := mails(before, 1, time.Now())
		all = append(all, mailsEvery(missed, 3, 91_000_001, time.Now().Add(20*time.Minute), 47*time.Hour/missed)...)
		all = append(all, mailsEvery(after, 4, 92_000_001, time.Now().Add(48*time.Hour), time.Second)...)
		w := newWorld(t, standin.Config{Mails: all, Pace: standin.Pace{Speed: 1}, Retention: 24 * time.Hour, PointerLag: 51})
		defer w.close()
		w.start()
		time.Sleep(10 * time.Minute)
		w.stop()
		if n := len(w.events(false)); n != before {
			t.Fatalf("%d events before, want %d", n, before)
		}
		time.Sleep(48 * time.Hour)
		w.start()
		time.Sleep(12 * time.Second)
		w.kill() // in the midst of the repair
		begun := w.feed.Stats()
		w.start()
		time.Sleep(11 * time.Hour) // until yesterday's files are there
		st := w.intake.Status()
		w.stop()
		w.complete(false, nil)
		w.manners()
		if had := int(begun.Inserted); st.Repaired < missed/2 || had > 0 {
			t.Errorf("status %+v", st)
		}
		marked := 0
		for _, e := range w.events(false) {
			if e.Marks.Has(killfeed.MarkBackfill) {
				marked++
			}
		}
		if marked == 0 || marked > missed {
			t.Errorf("%d events with the backfill mark, want those of kills that were older than a day", marked)
		}
	})
}

// TestHoleRepaired: what never had a file comes from history.
func TestHoleRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * time.Hour) // bubbles begin at midnight; history is written in the morning
		w := newWorld(t, standin.Config{Mails: mails(300, 1, time.Now()), Pace: standin.Pace{Rate: 1},
			Faults: standin.Faults{standin.Hole: {Numbers: []int64{
				standin.DefaultFirstSequence + 50, standin.DefaultFirstSequence + 51, standin.DefaultFirstSequence + 120,
			}}}})
		defer w.close()
		w.start()
		time.Sleep(20 * time.Minute)
		w.complete(true, noHole)
		time.Sleep(11 * time.Hour)
		st := w.intake.Status()
		w.stop()
		w.complete(false, nil)
		w.manners()
		if st.Repaired != 3 || st.Duplicates != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

// TestNoNetwork: without a network there are few attempts, and it is told what is wrong.
func TestNoNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standin.Config{Mails: mails(50, 1, time.Now()), Pace: standin.Pace{Rate: 1}})
		defer w.close()
		w.wire.down.Store(true)
		w.start()
		time.Sleep(24 * time.Hour)
		st := w.intake.Status()
		if n := w.wire.tries.Load(); n > 310 {
			t.Errorf("%d attempts in a day", n)
		}
		if st.State != ingest.Waiting || st.Degraded == nil || st.LastError == "" {
			t.Errorf("status %+v", st)
		}
		w.wire.down.Store(false)
		time.Sleep(10 * time.Minute)
		if st := w.intake.Status(); st.State != ingest.Following || st.Degraded != nil && st.LastKillmail != nil {
			t.Errorf("status after the network came back %+v", st)
		}
		w.stop()
	})
}

// TestUpdates: a file that is written again becomes an update event, once, also when caches are slow to notice.
func TestUpdates(t *testing.T) {
	for name, faults := range map[string]standin.Faults{
		"plain": {standin.Reupload: {Chance: 0.1}},
		"stale": {standin.Reupload: {Chance: 0.1}, standin.Stale: {Chance: 0.3, For: time.Minute}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, standin.Config{Mails: mails(400, 5, time.Now()), Pace: standin.Pace{Rate: 0.5}, Faults: faults})
				defer w.close()
				w.start()
				time.Sleep(30 * time.Minute)
				w.stop()
				w.complete(false, nil)
				w.manners()
				want := map[int64]bool{}
				files := w.server.Files()
				for _, f := range files {
					if f.Announces != 0 {
						want[files[f.Announces-standin.DefaultFirstSequence].KillmailID] = true
					}
				}
				updates, labelled := 0, map[int64]bool{}
				for _, e := range w.events(true) {
					if e.Marks.Has(killfeed.MarkUpdate) {
						updates++
					}
					if bytes.Contains(e.Killmail, []byte(`"ganked"`)) { // once: as an update, or it was read late
						if labelled[e.KillmailID] {
							t.Errorf("killmail %d brings the label twice", e.KillmailID)
						}
						labelled[e.KillmailID] = true
						delete(want, e.KillmailID)
					}
				}
				if len(want) > 0 || updates == 0 {
					t.Errorf("%d updates; %d others were missed", updates, len(want))
				}
			})
		})
	}
}

// TestRefused: what a ban looks like, and how it is borne.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standin.Config{Mails: mails(50, 1, time.Now()), Pace: standin.Pace{Rate: 1}})
		defer w.close()
		w.start()
		time.Sleep(10 * time.Second)
		if err := w.server.SetFault(standin.Forbidden, standin.Strike{Chance: 1}); err != nil {
			t.Fatal(err)
		}
		w.wire.tries.Store(0)
		time.Sleep(time.Hour)
		st := w.intake.Status()
		if n := w.wire.tries.Load(); n > 12 || st.Degraded == nil {
			t.Errorf("%d attempts in an hour; status %+v", n, st)
		}
		if g := w.server.Stats().After403; g.Least < 30*time.Second {
			t.Errorf("asked again %v after a 403", g.Least)
		}
		w.server.ClearFaults()
		time.Sleep(20 * time.Minute)
		w.stop()
		w.complete(true, nil)
	})
}

// TestNeverRight: a file that is malformed for ever is counted and stepped over.
func TestNeverRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bad = standin.DefaultFirstSequence + 20
		w := newWorld(t, standin.Config{Mails: mails(100, 1, time.Now()), Pace: standin.Pace{Rate: 1},
			Faults: standin.Faults{standin.InvalidJSON: {Numbers: []int64{bad}}}})
		defer w.close()
		w.start()
		time.Sleep(20 * time.Minute)
		st := w.intake.Status()
		w.stop()
		w.complete(true, func(f standin.File) bool { return f.Sequence == bad })
		w.manners()
		if st.Bad != 1 || st.Behind != 0 {
			t.Errorf("status %+v", st)
		}
	})
}
