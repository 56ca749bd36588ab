package storetest

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"killfeed"
)

// testLikeModel applies random batches and removals to the store and to a Model and compares every read.
func testLikeModel(t *testing.T, s *subject) {
	rapid.Check(t, func(rt *rapid.T) {
		r := &random{T: rt, got: s.h.Open(t), model: NewModel(), from: base}
		defer func() { r.got.Close() }()
		steps := rapid.IntRange(1, 12).Draw(rt, "steps")
		for range steps {
			r.step(t, s.h)
			if d := compare(r.got, r.model, false); len(d) > 0 {
				rt.Fatalf("%d differences, the first is %s", len(d), d[0])
			}
			r.ask()
		}
		r.got = s.h.Reopen(t, r.got)
		if d := compare(r.got, r.model, true); len(d) > 0 {
			rt.Fatalf("reopened: %d differences, the first is %s", len(d), d[0])
		}
		if s.h.Check != nil {
			s.h.Check(t, r.got)
		}
	})
}

// random is one run.
type random struct {
	*rapid.T
	got   killfeed.Store
	model *Model
	from  time.Time
}

var (
	randomSystem = rapid.Uint32Range(1, 5)
	// randomTopic is one that events are stored under, or All.
	randomTopic = rapid.Custom(func(t *rapid.T) killfeed.Topic {
		role := rapid.SampledFrom([]killfeed.TopicKind{killfeed.RoleLoss, killfeed.RoleKill}).Draw(t, "role")
		switch kind := rapid.SampledFrom([]killfeed.TopicKind{
			killfeed.KindSystem, killfeed.KindCharacter, killfeed.KindCorporation, killfeed.KindAlliance, killfeed.KindFaction,
			killfeed.KindShip, killfeed.KindLabel, killfeed.KindAll,
		}).Draw(t, "kind"); kind {
		case killfeed.KindAll:
			return killfeed.All()
		case killfeed.KindLabel:
			return killfeed.Label(rapid.SampledFrom([]string{"a", "ab", "b", "loc:highsec"}).Draw(t, "label"))
		case killfeed.KindSystem:
			return system(rapid.Uint32Range(1, 4).Draw(t, "id"))
		default:
			return on(kind|role, rapid.Uint32Range(1, 4).Draw(t, "id"))
		}
	})
	randomClient = rapid.SampledFrom([]string{"a", "ab", "a:b", "ä"})
)

// step does one thing to both stores.
func (r *random) step(t testing.TB, h Harness) {
	st := r.model.State()
	switch what := rapid.IntRange(0, 10).Draw(r.T, "what"); {
	case what <= 6:
		b := r.batch(st)
		if err := r.model.Commit(b); err != nil {
			r.Fatal(err)
		}
		if err := r.got.Commit(b); err != nil {
			r.Fatalf("Commit: %v", err)
		}
	case what <= 8:
		if st.First > st.Head {
			return
		}
		through := killfeed.EventID(rapid.Uint64Range(uint64(st.First), uint64(st.Head)).Draw(r.T, "through"))
		if err := r.model.Remove(through); err != nil {
			r.Fatal(err)
		}
		if err := r.got.Remove(through); err != nil {
			r.Fatalf("Remove(%d): %v", through, err)
		}
	case what <= 9:
		r.adopt(t, h, st)
	case h.Crash != nil && rapid.Bool().Draw(r.T, "crash"):
		r.got = h.Crash(t, r.got)
	default:
		r.got = h.Reopen(t, r.got)
	}
}

// adopt gives both stores a legacy in a few pieces.
func (r *random) adopt(t testing.TB, h Harness, st killfeed.State) {
	end := killfeed.PastEnd{ID: killfeed.EventID(rapid.Uint64Range(1, uint64(st.Head)+5).Draw(r.T, "end"))}
	if end.ID >= st.Head {
		end.MirrorSeq, end.ReceivedAt = st.MirrorSeq+rapid.Uint64Range(0, uint64(end.ID-st.Head)).Draw(r.T, "mirrored"), r.from
	}
	event := func(from, through killfeed.EventID) killfeed.EventID {
		return killfeed.EventID(rapid.Uint64Range(uint64(from), uint64(through)).Draw(r.T, "event"))
	}
	for left := rapid.IntRange(0, 2).Draw(r.T, "pieces"); left >= 0; left-- {
		var l killfeed.Legacy
		for range rapid.IntRange(0, 3).Draw(r.T, "killmails") {
			m := Mail{ID: rapid.Int64Range(1, 14).Draw(r.T, "killmail id"), ZKB: rapid.Bool().Draw(r.T, "zkb")}
			k := killfeed.Known{First: event(1, end.ID), Digest: m.digest()}
			k.Latest = event(k.First, end.ID+3)
			l.Killmails = append(l.Killmails, killfeed.PastKillmail{ID: m.ID, Known: k})
		}
		for range rapid.IntRange(0, 2).Draw(r.T, "marks") {
			l.Systems = append(l.Systems, killfeed.PastSystem{System: randomSystem.Draw(r.T, "system"), Last: event(1, end.ID+2)})
		}
		if left == 0 {
			l.At = &end
		}
		if err := r.model.Adopt(l); err != nil {
			r.Fatal(err)
		}
		if err := r.got.Adopt(l); err != nil {
			r.Fatalf("Adopt(%+v): %v", l, err)
		}
		if rapid.IntRange(0, 3).Draw(r.T, "reopen") == 0 {
			r.got = h.Reopen(t, r.got)
		}
		if d := compare(r.got, r.model, false); len(d) > 0 {
			r.Fatalf("%d differences, the first is %s", len(d), d[0])
		}
	}
}

func (r *random) batch(st killfeed.State) *killfeed.Batch {
	b := &killfeed.Batch{}
	prev := killfeed.Event{ID: st.Head, MirrorSeq: st.MirrorSeq}
	versions := map[int64]killfeed.Known{} // of this batch
	for range rapid.IntRange(0, 6).Draw(r.T, "events") {
		r.from = r.from.Add(time.Duration(rapid.IntRange(0, 3).Draw(r.T, "pause")) * time.Millisecond)
		m := about(randomSystem.Draw(r.T, "system"), rapid.SliceOfN(randomTopic, 0, 5).Draw(r.T, "topics")...)
		m.ID, m.Seed, m.Items = rapid.Int64Range(0, 9).Draw(r.T, "killmail id"), rapid.Uint64().Draw(r.T, "n"), 1
		m.NoHash = rapid.Bool().Draw(r.T, "no hash")
		if rapid.Bool().Draw(r.T, "tells its time") {
			m.Time = r.from.Truncate(time.Second)
		}
		e := killfeed.NewEvent{Event: killfeed.Event{
			ID: prev.ID + 1, SystemID: m.System, ReceivedAt: r.from, Killmail: m.AppendJSON(nil), KillmailID: m.ID,
			KilledAt: m.Time, MirrorSeq: prev.MirrorSeq,
		}, Topics: m.Topics()}
		if rapid.Bool().Draw(r.T, "backfill") {
			e.Marks = killfeed.MarkBackfill
		}
		if m.ID != 0 {
			known, ok := versions[m.ID]
			if !ok {
				known, ok, _ = r.model.Known(m.ID)
			}
			if ok {
				e.Marks |= killfeed.MarkUpdate
			} else {
				known.First = e.ID
			}
			known.Latest, known.Digest = e.ID, m.digest().Over(known.Digest)
			versions[m.ID], e.Known = known, known
		}
		if e.Marks == 0 {
			e.MirrorSeq++
		}
		b.Events = append(b.Events, e)
		prev = e.Event
	}
	for range rapid.IntRange(0, 3).Draw(r.T, "offsets") {
		name := randomClient.Draw(r.T, "client")
		b.Offsets = append(b.Offsets, killfeed.Offset{
			Client: name, Topic: randomTopic.Draw(r.T, "topic"),
			At: killfeed.EventID(rapid.Uint64Range(0, uint64(prev.ID)).Draw(r.T, "at")),
		})
		b.Seen = append(b.Seen, killfeed.ClientSeen{Client: name, Created: base, At: r.from})
	}
	if rapid.IntRange(0, 4).Draw(r.T, "checkpoint") == 0 {
		b.Checkpoints = append(b.Checkpoints, killfeed.Checkpoint{
			Source: randomClient.Draw(r.T, "source"), Place: fmt.Sprint(rapid.Uint8().Draw(r.T, "place")),
		})
	}
	if rapid.IntRange(0, 4).Draw(r.T, "gone") == 0 {
		b.Gone = append(b.Gone, randomClient.Draw(r.T, "client"))
	}
	return b
}

// ask puts a few random questions to both stores.
func (r *random) ask() {
	head := uint64(r.model.State().Head)
	for range 3 {
		seq := rapid.Uint64Range(0, r.model.State().MirrorSeq+1).Draw(r.T, "mirror_seq")
		if got, want := r.got.Mirrored(seq), r.model.Mirrored(seq); got != want {
			r.Fatalf("Mirrored(%d) = %d, want %d", seq, got, want)
		}
		q := killfeed.Query{
			Through: killfeed.EventID(rapid.Uint64Range(0, head+1).Draw(r.T, "through")), Max: rapid.IntRange(1, 12).Draw(r.T, "max"),
		}
		for _, topic := range rapid.SliceOfN(randomTopic, 1, 6).Draw(r.T, "topics") { // perhaps twice the same
			q.Positions = append(q.Positions, at(topic, killfeed.EventID(rapid.Uint64Range(0, head+1).Draw(r.T, "after"))))
		}
		if d := diff(found(r.got, q), found(r.model, q)); d != "" {
			r.Fatalf("Find(%+v) (-want +got):\n%s", q, d)
		}
	}
	for range 2 {
		when := base.Add(time.Duration(rapid.Int64Range(-1, int64(r.from.Sub(base))+1).Draw(r.T, "received")))
		got, err := r.got.ReceivedFrom(when)
		if want, _ := r.model.ReceivedFrom(when); got != want || err != nil {
			r.Fatalf("ReceivedFrom(%v) is %d, %v; want %d", when, got, err, want)
		}
	}
}
