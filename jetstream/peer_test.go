package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"killfeed"
	"killfeed/storetest"
)

// past is what a store remembers.
type past struct {
	Killmails []killfeed.PastKillmail
	Systems   []killfeed.PastSystem
}

func pastOf(t *testing.T, s killfeed.Store, upTo killfeed.EventID) (p past) {
	t.Helper()
	err := errors.Join(s.Past(0, upTo, func(k killfeed.PastKillmail) bool { p.Killmails = append(p.Killmails, k); return true }),
		s.PastSystems(func(s killfeed.PastSystem) bool { p.Systems = append(p.Systems, s); return true }))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fill gives a store n killmails on 50 systems, and removes those up to and including through.
func fill(t *testing.T, s killfeed.Store, n int, through killfeed.EventID) {
	t.Helper()
	at := time.UnixMilli(1_700_000_000_000).UTC()
	b := &killfeed.Batch{}
	for i := range n {
		id := killfeed.EventID(i + 1)
		k, err := killfeed.NewKillmail(uint32(30000001+i%50), fmt.Appendf(nil, `{"killmail_id":%d,"solar_system_id":%d}`, 1000+i*7919%n, 30000001+i%50))
		if err != nil {
			t.Fatal(err)
		}
		b.Events = append(b.Events, killfeed.NewEvent{
			Event:  killfeed.Event{ID: id, SystemID: k.SystemID, ReceivedAt: at, Killmail: k.JSON, KillmailID: k.ID, MirrorSeq: uint64(id)},
			Topics: k.Topics, Known: killfeed.Known{First: id, Latest: id, Digest: k.Digest},
		})
	}
	if err := s.Commit(b); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(through); err != nil {
		t.Fatal(err)
	}
}

// servePast answers from the store until stop or the test's end.
func (f *feed) servePast(name string, s killfeed.Store) (p *peers, stop func()) {
	o := f.options().filled()
	o.Node = name
	p = newPeers(f.Conn(f.t), s, o, func() bool { return true })
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return p.serve(ctx) })
	stop = func() {
		cancel()
		if err := g.Wait(); err != nil {
			f.t.Error(err)
		}
	}
	f.t.Cleanup(stop)
	return p, stop
}

// TestCopyPast: a node with an empty store remembers all that a complete one does, also when that one dies in the middle and another
// one goes on.
func TestCopyPast(t *testing.T) {
	const n, through = 20_000, 19_000
	f := newFeed(t, 1)
	full := storetest.NewModel()
	fill(t, full, n, through)
	empty := storetest.NewModel()
	o := f.options().filled()
	p := newPeers(f.Conn(t), empty, o, func() bool { return false })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, stopFirst := f.servePast("first", full)
	pieces := 0
	err := p.fetch(ctx, through, func(piece killfeed.Legacy) error {
		if len(piece.Killmails) > maxPiece || piece.At != nil || piece.Checkpoints != nil {
			t.Errorf("a piece of %d killmails, %v", len(piece.Killmails), piece.At)
		}
		if pieces++; pieces == 1 {
			stopFirst()
			f.servePast("second", full)
		}
		return empty.Adopt(piece)
	})
	if err != nil {
		t.Fatal(err)
	}
	if pieces != 4 { // three of killmails, one of systems
		t.Errorf("it came in %d pieces", pieces)
	}
	end := &killfeed.PastEnd{ID: through, MirrorSeq: through, ReceivedAt: time.UnixMilli(1_700_000_000_000).UTC()}
	if err := empty.Adopt(killfeed.Legacy{At: end}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(pastOf(t, full, through), pastOf(t, empty, through)); d != "" {
		t.Errorf("what the nodes remember differs:\n%.2000s", d)
	}
	if st := empty.State(); st.First != through+1 || st.Head != through {
		t.Errorf("the log is at %+v", st)
	}
}

// TestCopyPastOfKept: the peer has not removed everything yet, or has removed more already.
func TestCopyPastOfKept(t *testing.T) {
	const n, upTo = 200, 120
	want := map[uint32]killfeed.EventID{}
	for id := killfeed.EventID(1); id <= upTo; id++ {
		want[30000001+uint32(id-1)%50] = id
	}
	for _, removed := range []killfeed.EventID{30, upTo, 180} {
		full := storetest.NewModel()
		fill(t, full, n, removed)
		p := newPeers(nil, full, Options{}.filled(), func() bool { return true })
		got, err := p.systems(upTo)
		if err != nil {
			t.Fatal(err)
		}
		if removed <= upTo {
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("removed up to %d: %s", removed, d)
			}
			continue
		}
		for s, id := range want {
			if got[s] < id || got[s] > upTo {
				t.Errorf("removed up to %d: system %d has event %d, want %d to %d", removed, s, got[s], id, upTo)
			}
		}
	}
}

// TestCopyPastFromLiars: pieces that are damaged, of another question, or not what was asked for are not taken.
func TestCopyPastFromLiars(t *testing.T) {
	const n, through = 500, 400
	f := newFeed(t, 1)
	full := storetest.NewModel()
	fill(t, full, n, through)
	o := f.options().filled()
	honest := newPeers(f.Conn(t), full, o, func() bool { return true })
	resum := func(m *nats.Msg) {
		sum := sha256.Sum256(m.Data)
		m.Header.Set(headerSum, hex.EncodeToString(sum[:]))
	}
	lies := []func(m *nats.Msg){
		func(m *nats.Msg) { m.Data[len(m.Data)/2] ^= 1 },
		func(m *nats.Msg) { m.Data = m.Data[:len(m.Data)-sizeKillmail] },
		func(m *nats.Msg) { m.Data = m.Data[:len(m.Data)-3]; resum(m) },
		func(m *nats.Msg) { m.Header.Del(headerSum) },
		func(m *nats.Msg) { m.Header.Set(headerPart, `{"part":"killmails"}`) },
		func(m *nats.Msg) { m.Data = append(m.Data, m.Data...); resum(m) },                              // not ascending
		func(m *nats.Msg) { binary.BigEndian.PutUint64(m.Data[8:], through+1); resum(m) },               // of a later event
		func(m *nats.Msg) { m.Data = nil; m.Header.Set(headerMore, "1"); resum(m) },                     // without an end
		func(m *nats.Msg) { m.Data = nil; m.Header.Set(headerRefusal, "not now"); resum(m) },            // a refusal
		func(m *nats.Msg) { m.Data = append(m.Data, make([]byte, maxPiece*sizeKillmail)...); resum(m) }, // too much
		func(m *nats.Msg) { m.Header = nats.Header{headerPart: m.Header[headerPart]} },                  // nothing known of it
		func(m *nats.Msg) { m.Data[0] = 0xff; resum(m) },                                                // a negative id
	}
	var told atomic.Int64
	liar := f.Conn(t)
	sub, err := liar.QueueSubscribe(subjectPast(o.Name), "complete", func(m *nats.Msg) {
		reply := nats.NewMsg(m.Reply)
		reply.Header.Set(headerPart, string(m.Data))
		var q pastQuestion
		if err := errors.Join(json.Unmarshal(m.Data, &q), honest.piece(q, reply)); err != nil {
			t.Error(err)
		}
		resum(reply)
		if i := int(told.Add(1)) - 1; i < len(lies) {
			lies[i](reply)
		}
		if err := liar.PublishMsg(reply); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is closed after it
	if err := liar.Flush(); err != nil {
		t.Fatal(err)
	}
	empty := storetest.NewModel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := newPeers(f.Conn(t), empty, o, func() bool { return false }).fetch(ctx, through, empty.Adopt); err != nil {
		t.Fatal(err)
	}
	if got := int(told.Load()); got != len(lies)+2 {
		t.Errorf("%d answers were asked for, want %d lies, and one for each part", got, len(lies))
	}
	if d := cmp.Diff(pastOf(t, full, through).Killmails, pastOf(t, empty, through).Killmails); d != "" {
		t.Errorf("what the nodes remember differs:\n%.2000s", d)
	}
}

// TestCopyPastWaits: from a node that is behind, or with nobody to ask, nothing is copied; it goes on when there is somebody.
func TestCopyPastWaits(t *testing.T) {
	f := newFeed(t, 1)
	behind, full := storetest.NewModel(), storetest.NewModel()
	fill(t, behind, 50, 40)
	fill(t, full, 500, 400)
	empty := storetest.NewModel()
	p := newPeers(f.Conn(t), empty, f.options().filled(), func() bool { return false })
	_, _, _, err := p.ask(t.Context(), pastQuestion{Part: partKillmails, UpTo: 400, After: -1, Max: maxPiece})
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Fatalf("with nobody to ask: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { return p.fetch(ctx, 400, empty.Adopt) })
	_, stop := f.servePast("behind", behind)
	until(t, "the one behind refuses", func() bool {
		_, _, _, err := p.ask(ctx, pastQuestion{Part: partKillmails, UpTo: 400, After: -1, Max: maxPiece})
		return err != nil && !errors.Is(err, nats.ErrNoResponders)
	})
	f.servePast("full", full)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	stop()
	if d := cmp.Diff(pastOf(t, full, 400).Killmails, pastOf(t, empty, 400).Killmails); d != "" {
		t.Errorf("what the nodes remember differs:\n%.2000s", d)
	}
}

func FuzzParsePast(f *testing.F) {
	f.Add(false, int64(-1), uint64(10), []byte{})
	f.Add(true, int64(5), uint64(10), make([]byte, sizeSystem))
	f.Add(false, int64(-1), uint64(1<<40), binary.BigEndian.AppendUint64(nil, 1<<63))
	f.Fuzz(func(t *testing.T, systems bool, after int64, upTo uint64, data []byte) {
		q := pastQuestion{Part: partKillmails, UpTo: killfeed.EventID(upTo), After: after, Max: 100}
		if systems {
			q.Part = partSystems
		}
		var got killfeed.Legacy
		last, err := parsePast(&got, q, data)
		if err != nil {
			return
		}
		at := after
		for _, k := range got.Killmails {
			if k.ID <= at || k.First == 0 || k.First > q.UpTo || k.Latest < k.First {
				t.Fatalf("%+v behind %d", k, at)
			}
			at = k.ID
		}
		for _, s := range got.Systems {
			if int64(s.System) <= at || s.Last == 0 || s.Last > q.UpTo {
				t.Fatalf("%+v behind %d", s, at)
			}
			at = int64(s.System)
		}
		if at != last || len(got.Killmails)+len(got.Systems) > q.Max {
			t.Fatalf("the piece ends at %d, and is said to at %d", at, last)
		}
	})
}
