package storetest

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"killfeed"
)

// past is what a store yields as such.
func past(s killfeed.Store, after int64, upTo killfeed.EventID) (all []killfeed.PastKillmail, err error) {
	err = s.Past(after, upTo, func(k killfeed.PastKillmail) bool { all = append(all, k); return true })
	return all, err
}

func pastSystems(s killfeed.Store) (all []killfeed.PastSystem, err error) {
	err = s.PastSystems(func(m killfeed.PastSystem) bool { all = append(all, m); return true })
	return all, err
}

func (s *subject) adopt(l killfeed.Legacy) {
	s.Helper()
	if err := s.Adopt(l); err != nil {
		s.Fatalf("Adopt(%+v): %v", l, err)
	}
}

// Past yields exactly what a naive count says, in order, bounded on both sides.
func testPast(t *testing.T, s *subject) {
	ids := []int64{1<<62 + 1, 7, 300, 1, 256, 255, 1 << 40, 8, 2}
	var want []killfeed.PastKillmail
	var b killfeed.Batch
	for i, id := range append(ids, 0) { // the last one has no killmail id
		e := s.eventOf(i+1, Mail{ID: id, System: 1 + uint32(i%3)})
		b.Events = append(b.Events, e)
		if id != 0 {
			want = append(want, killfeed.PastKillmail{ID: id, Known: e.Known})
		}
	}
	update := s.eventOf(len(b.Events)+1, Mail{ID: 300, System: 3, ZKB: true})
	update.Marks, update.MirrorSeq = killfeed.MarkUpdate, update.MirrorSeq-1
	update.Known = killfeed.Known{First: want[2].First, Latest: update.ID, Digest: update.Known.Digest.Over(want[2].Digest)}
	want[2].Known = update.Known
	b.Events = append(b.Events, update)
	s.apply(&b)
	slices.SortFunc(want, func(a, b killfeed.PastKillmail) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	check := func(what string) {
		t.Helper()
		s.reopened(func(when string) {
			for _, after := range append(ids, 0, 3, -1, math.MinInt64, 1<<62, math.MaxInt64) {
				for upTo := killfeed.EventID(0); upTo < 14; upTo++ {
					var naive []killfeed.PastKillmail
					for _, k := range want {
						if k.ID > after && k.First <= upTo {
							naive = append(naive, k)
						}
					}
					got, err := past(s, after, upTo)
					if !slices.Equal(got, naive) || err != nil {
						t.Fatalf("%s, %s: Past(%d, %d) is %+v, %v; want %+v", what, when, after, upTo, got, err, naive)
					}
				}
			}
		})
	}
	check("all kept")
	s.remove(5)
	check("some removed")
	s.remove(11)
	check("all removed")
	n := 0
	if err := s.Past(0, math.MaxUint64, func(killfeed.PastKillmail) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("Past went on to %d after it was told to stop at 3; %v", n, err)
	}
	// It sees the log as of its call.
	var seen []int64
	err := s.Past(0, math.MaxUint64, func(k killfeed.PastKillmail) bool {
		if len(seen) == 0 {
			s.apply(&killfeed.Batch{Events: []killfeed.NewEvent{s.eventOf(1, Mail{ID: 1 << 50, System: 1})}})
		}
		seen = append(seen, k.ID)
		return true
	})
	if slices.Contains(seen, 1<<50) || len(seen) != len(want) || err != nil {
		t.Errorf("killmails %v were yielded, %v; one of them came meanwhile", seen, err)
	}
}

func testPastSystems(t *testing.T, s *subject) {
	s.commit(3, killfeed.MaxID, 1, 3, 1, 2)
	check := func(what string, want ...killfeed.PastSystem) {
		t.Helper()
		s.reopened(func(when string) {
			if got, err := pastSystems(s); !slices.Equal(got, want) || err != nil {
				t.Errorf("%s, %s: %v, %v; want %v", what, when, got, err, want)
			}
		})
	}
	check("nothing removed")
	s.remove(4)
	check("some removed", killfeed.PastSystem{System: 1, Last: 3}, killfeed.PastSystem{System: 3, Last: 4},
		killfeed.PastSystem{System: killfeed.MaxID, Last: 2})
	n := 0
	if err := s.PastSystems(func(killfeed.PastSystem) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("PastSystems went on to %d after it was told to stop at 2; %v", n, err)
	}
}

// sharedLog is a log of n events with updates, as all nodes have it.
func sharedLog(n int) []killfeed.NewEvent {
	maker := NewMaker(MakerOptions{Seed: 6, Systems: 9, Attackers: 2})
	var events []killfeed.NewEvent
	mails, known := []Mail{}, map[int64]killfeed.Known{}
	mirror := uint64(0)
	for i := range n {
		id := killfeed.EventID(i + 1)
		mail := maker.NextMail()
		e := killfeed.NewEvent{Event: killfeed.Event{ID: id, ReceivedAt: base.Add(time.Duration(i) * time.Second)}}
		switch i % 8 {
		case 3:
			e.Marks = killfeed.MarkBackfill
		case 6: // of a killmail that came some time ago
			mail = mails[i*2/3]
			mail.Labels = append(slices.Clone(mail.Labels), fmt.Sprint("again", i))
			e.Marks = killfeed.MarkUpdate
		}
		mails = append(mails, mail)
		k, ok := known[mail.ID]
		if !ok {
			k.First = id
		}
		k.Latest, k.Digest = id, mail.digest().Over(k.Digest)
		known[mail.ID] = k
		if e.Marks == 0 {
			mirror++
		}
		e.SystemID, e.Killmail, e.KillmailID, e.KilledAt = mail.System, mail.AppendJSON(nil), mail.ID, mail.Time
		e.MirrorSeq, e.Topics, e.Known = mirror, mail.Topics(), k
		events = append(events, e)
	}
	return events
}

// legacy is what the store remembers of the events up to end, in pieces of n killmails, the last one with the end.
func legacy(t testing.TB, s killfeed.Store, end killfeed.NewEvent, n int) (pieces []killfeed.Legacy) {
	t.Helper()
	systems, err := pastSystems(s)
	if err != nil {
		t.Fatal(err)
	}
	pieces = append(pieces, killfeed.Legacy{Systems: systems[:len(systems)/2]})
	killmails, err := past(s, 0, end.ID)
	if err != nil {
		t.Fatal(err)
	}
	for c := range slices.Chunk(killmails, n) {
		pieces = append(pieces, killfeed.Legacy{
			Killmails: c, Checkpoints: []killfeed.Checkpoint{{Source: "copied", Place: fmt.Sprint(c[len(c)-1].ID)}},
		})
	}
	last := &pieces[len(pieces)-1]
	last.Systems = systems[len(systems)/2:]
	last.At = &killfeed.PastEnd{ID: end.ID, MirrorSeq: end.MirrorSeq, ReceivedAt: end.ReceivedAt}
	last.Checkpoints = append(last.Checkpoints, killfeed.Checkpoint{Source: "chain", Place: fmt.Sprint(end.ID)})
	return pieces
}

// A node that adopts the past from another one, and then follows the log, ends up with what the other one has, wherever it
// stood before. Until it has the end, nothing has changed but the killmails that it knows.
func testAdopt(t *testing.T, s *subject) {
	const total, end = 60, 40
	log := sharedLog(total)
	fill := func(s killfeed.Store, from, to int) {
		t.Helper()
		for c := range slices.Chunk(log[from:to], 7) {
			if err := s.Commit(&killfeed.Batch{Events: c}); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(s killfeed.Store, through killfeed.EventID) {
		t.Helper()
		if st := s.State(); st.First <= through {
			if err := s.Remove(through); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name      string
		have      int
		removed   killfeed.EventID
		peerAhead killfeed.EventID // the other node has removed up to there while it was asked
	}{
		{"empty", 0, 0, 0},
		{"behind", 20, 0, 0},
		{"behind, some removed", 20, 9, 0},
		{"behind, all removed", 20, 20, 0},
		{"at the end", end, 0, 0},
		{"at the end, some removed", end, 12, 0},
		{"at the end, all removed", end, end, 0},
		{"ahead", end + 10, 0, 0},
		{"ahead, some removed", end + 10, 11, 0},
		{"ahead, the same removed", end + 10, end, 0},
		{"ahead, more removed", end + 10, end + 5, 0},
		{"ahead, all removed", end + 10, end + 10, 0},
		{"at the head", total, 0, 0},
		{"empty, and the other one removes more", 0, 0, end + 7},
		{"ahead, and the other one removes more", end + 10, 3, end + 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			peer, before := NewModel(), NewModel()
			s := &subject{TB: t, h: s.h, Store: s.h.Open(t), from: base.Add(time.Hour)}
			defer s.end()
			fill(peer, 0, total)
			remove(peer, max(end, tt.peerAhead))
			for _, s := range []killfeed.Store{s, before} {
				fill(s, 0, tt.have)
				remove(s, tt.removed)
			}
			pieces := legacy(t, peer, log[end-1], 9)
			last := pieces[len(pieces)-1]
			for _, l := range slices.Backward(pieces[:len(pieces)-1]) {
				s.adopt(l)
				if err := before.Adopt(killfeed.Legacy{Killmails: l.Killmails, Checkpoints: l.Checkpoints}); err != nil {
					t.Fatal(err)
				}
				for _, d := range compare(s.Store, before, false) {
					t.Fatalf("without the end: %s", d)
				}
			}
			s.reopened(func(when string) {
				for _, d := range compare(s.Store, before, true) {
					t.Fatalf("without the end, %s: %s", when, d)
				}
			})
			s.adopt(pieces[1]) // once more does no harm
			s.adopt(last)
			first, head := max(end, tt.removed)+1, max(end, killfeed.EventID(tt.have))
			s.reopened(func(when string) {
				st := s.State()
				s.same(when+": State", st, killfeed.State{
					Epoch: st.Epoch, First: first, Head: head, MirrorSeq: log[head-1].MirrorSeq,
					LastReceived: log[head-1].ReceivedAt, Bytes: st.Bytes,
				})
				if (st.Bytes == 0) != (first > head) {
					t.Errorf("%s: %d to %d take %d bytes", when, first, head, st.Bytes)
				}
				s.same(when+": Removed", s.Removed(killfeed.All()), first-1)
				s.same(when+": ReceivedFrom", s.received(time.Time{}), first)
				for _, e := range log[:end] {
					if k, ok := s.known(e.KillmailID); !ok || k.First > e.ID || k.Latest < e.ID {
						t.Errorf("%s: killmail %d is known as %+v, it was event %d", when, e.KillmailID, k, e.ID)
					}
					if id := s.Mirrored(e.MirrorSeq); id != 0 && id < first {
						t.Errorf("%s: mirror_seq %d is event %d, the first is %d", when, e.MirrorSeq, id, first)
					}
				}
				if place, err := s.Checkpoint("chain"); place != fmt.Sprint(end) || err != nil {
					t.Errorf("%s: the checkpoint is %q, %v", when, place, err)
				}
				if systems, err := pastSystems(s); tt.removed <= end && tt.peerAhead == 0 {
					want, _ := pastSystems(peer)
					s.same(fmt.Sprintf("%s: PastSystems, %v", when, err), systems, want)
				} else if i := slices.IndexFunc(systems, func(m killfeed.PastSystem) bool { return m.Last >= first }); i >= 0 {
					t.Errorf("%s: %+v is lost, the first kept is %d", when, systems[i], first)
				}
			})
			s.adopt(last) // and again
			fill(s, int(head), total)
			through := max(end, tt.removed, tt.peerAhead)
			remove(s, through)
			remove(peer, through)
			s.reopened(func(when string) {
				for _, d := range compare(s.Store, peer, true) {
					t.Errorf("followed, %s: %s", when, d)
				}
			})
			more := &killfeed.Batch{Events: []killfeed.NewEvent{s.event(1, 7), s.event(2, log[0].SystemID)}}
			s.apply(more)
			if err := peer.Commit(more); err != nil {
				t.Fatal(err)
			}
			for _, d := range compare(s.Store, peer, false) {
				t.Errorf("two more: %s", d)
			}
		})
	}
}

// A legacy comes from another machine. What cannot be true is refused, whole.
func testAdoptRefuses(t *testing.T, s *subject) {
	e := s.commit(1, 2, 3)[2]
	at := func(id killfeed.EventID, mirror uint64, received time.Time) *killfeed.PastEnd {
		return &killfeed.PastEnd{ID: id, MirrorSeq: mirror, ReceivedAt: received}
	}
	known := killfeed.Known{First: 4, Latest: 4}
	good := []killfeed.PastKillmail{{ID: 77, Known: known}}
	tests := []struct {
		name   string
		legacy killfeed.Legacy
	}{
		{"no killmail id", killfeed.Legacy{Killmails: append(good, killfeed.PastKillmail{Known: known})}},
		{"killmail id below 0", killfeed.Legacy{Killmails: append(good, killfeed.PastKillmail{ID: -1, Known: known})}},
		{"no first event", killfeed.Legacy{Killmails: append(good, killfeed.PastKillmail{ID: 5, Known: killfeed.Known{Latest: 4}})}},
		{"latest before first", killfeed.Legacy{Killmails: append(good, killfeed.PastKillmail{ID: 5, Known: killfeed.Known{First: 4, Latest: 3}})}},
		{"no system", killfeed.Legacy{Killmails: good, Systems: []killfeed.PastSystem{{Last: 4}}}},
		{"no event of a system", killfeed.Legacy{Killmails: good, Systems: []killfeed.PastSystem{{System: 4}}}},
		{"mirror_seq above the id", killfeed.Legacy{Killmails: good, At: at(5, 6, e.ReceivedAt)}},
		{"mirror_seq goes back", killfeed.Legacy{Killmails: good, At: at(5, 2, e.ReceivedAt)}},
		{"time goes back", killfeed.Legacy{Killmails: good, At: at(3, 3, e.ReceivedAt.Add(-time.Millisecond))}},
	}
	for _, tt := range tests {
		if err := s.Adopt(tt.legacy); err == nil {
			t.Errorf("%s: adopted", tt.name)
		}
	}
	s.reopened(func(when string) {
		st := s.State()
		s.same(when+": State", st, killfeed.State{
			Epoch: st.Epoch, First: 1, Head: 3, MirrorSeq: 3, LastReceived: e.ReceivedAt, Bytes: st.Bytes,
		})
		if _, ok := s.known(77); ok {
			t.Errorf("%s: half of a legacy is there", when)
		}
	})
}

// A past without events changes nothing.
func testAdoptNothing(t *testing.T, s *subject) {
	check := func(what string, want killfeed.State) {
		t.Helper()
		s.adopt(killfeed.Legacy{})
		s.adopt(killfeed.Legacy{At: &killfeed.PastEnd{ReceivedAt: base}})
		s.reopened(func(when string) { s.same(what+", "+when, s.State(), want) })
	}
	st := s.State()
	check("empty", killfeed.State{Epoch: st.Epoch, First: 1})
	s.commit(1, 2)
	check("two events", s.State())
	s.remove(2)
	check("two events removed", s.State())
}

// Readers see the log as it was before the end of a legacy, or as it is after it.
func testAtomicAdopt(t *testing.T, s *subject) {
	const have, end = 50, 70
	seven := kill(killfeed.KindCharacter, 7)
	var b killfeed.Batch
	for i := range have {
		b.Events = append(b.Events, s.event(i+1, 1, seven))
	}
	s.apply(&b)
	last := b.Events[have-1]
	stop := watch(func() {
		for _, topic := range []killfeed.Topic{system(1), seven, killfeed.All()} {
			if n := len(s.ids(topic)); n != 0 && n != have {
				t.Errorf("%v has %d events, which is neither all nor none", topic, n)
			}
		}
		switch st := s.State(); {
		case st.First == 1 && st.Head == have && st.Bytes > 0 && st.MirrorSeq == have:
		case st.First == end+1 && st.Head == end && st.Bytes == 0 && st.MirrorSeq == have+2:
			if got := s.Removed(system(2)); got != end {
				t.Errorf("events to %d are gone and the store says %d", end, got)
			}
		default:
			t.Errorf("a torn state: %+v", st)
		}
	})
	s.adopt(killfeed.Legacy{Systems: []killfeed.PastSystem{{System: 2, Last: end}}})
	s.adopt(killfeed.Legacy{At: &killfeed.PastEnd{ID: end, MirrorSeq: have + 2, ReceivedAt: last.ReceivedAt}})
	stop()
	s.same("head", s.State().Head, killfeed.EventID(end))
}
