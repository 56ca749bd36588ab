package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"killfeed"
)

// peers copies what is remembered of events that the stream has no more, from a node that is complete to one that is not: which
// killmail ids have been in the log, and up to where events were removed, of each solar system.
//
// It goes in pieces, each asked for by itself, so that the node that answers may be another one each time: what is asked for is the same
// on all that have the events in question. A piece carries a checksum and says what it answers; one that does not fit is asked for again.
type peers struct {
	nc       *nats.Conn
	store    killfeed.Store
	name     string
	node     string
	t        Timing
	complete func() bool
	log      *slog.Logger
}

// pastQuestion asks for a piece.
type pastQuestion struct {
	Part string           `json:"part"` // "killmails" or "systems"
	UpTo killfeed.EventID `json:"upTo"`
	// After is the killmail id or solar system that the piece begins behind.
	After int64 `json:"after"`
	// Max is how many there may be.
	Max int `json:"max"`
}

const (
	partKillmails = "killmails"
	partSystems   = "systems"

	// maxPiece bounds a piece in killmails or systems. It is far below the least that servers let a message have: 32 bytes each.
	maxPiece = 8192
	// maxQuestions wait at a node; others go unanswered, and are asked again.
	maxQuestions = 64

	sizeKillmail = 4 * 8
	sizeSystem   = 4 + 8

	// headerPart repeats the question, headerSum is the SHA-256 of the piece, headerRefusal says why there is none.
	headerPart    = "Killfeed-Part"
	headerSum     = "Killfeed-Sum"
	headerRefusal = "Killfeed-Refusal"
	headerMore    = "Killfeed-More"
)

func newPeers(nc *nats.Conn, store killfeed.Store, o Options, complete func() bool) *peers {
	return &peers{nc: nc, store: store, name: o.Name, node: o.Node, t: o.Timing, complete: complete, log: o.Logger}
}

// serve answers others while this node is complete, until ctx ends.
func (p *peers) serve(ctx context.Context) error {
	look := time.NewTicker(p.t.Beat)
	defer look.Stop()
	questions := make(chan *nats.Msg, maxQuestions)
	var sub *nats.Subscription
	defer func() {
		if sub != nil {
			_ = sub.Unsubscribe()
		}
	}()
	for {
		switch complete := p.complete(); {
		case complete && sub == nil:
			var err error
			if sub, err = p.nc.ChanQueueSubscribe(subjectPast(p.name), "complete", questions); err != nil {
				p.log.Warn("other nodes cannot copy from this one", "error", err)
				sub = nil
			}
		case !complete && sub != nil:
			_ = sub.Unsubscribe()
			sub = nil
		}
		select {
		case m := <-questions:
			p.answer(m)
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *peers) answer(m *nats.Msg) {
	reply := nats.NewMsg(m.Reply)
	reply.Header.Set(headerPart, string(m.Data))
	var q pastQuestion
	err := json.Unmarshal(m.Data, &q)
	if err == nil {
		err = p.piece(q, reply)
	}
	if err != nil {
		reply.Header.Set(headerRefusal, fmt.Sprintf("node %s: %v", p.node, err))
		reply.Data = nil
	}
	sum := sha256.Sum256(reply.Data)
	reply.Header.Set(headerSum, hex.EncodeToString(sum[:]))
	if err := p.nc.PublishMsg(reply); err != nil {
		p.log.Debug("answering a node that copies", "error", err)
	}
}

// piece fills the reply.
func (p *peers) piece(q pastQuestion, reply *nats.Msg) error {
	if head := p.store.State().Head; head < q.UpTo || !p.complete() {
		return fmt.Errorf("its log is complete to event %d, not to %d, for now", head, q.UpTo)
	}
	limit := min(max(q.Max, 1), maxPiece)
	more := false
	switch q.Part {
	case partKillmails:
		n := 0
		err := p.store.Past(q.After, q.UpTo, func(k killfeed.PastKillmail) bool {
			if more = n == limit; more {
				return false
			}
			n++
			for _, v := range [...]uint64{uint64(k.ID), uint64(k.First), uint64(k.Latest), uint64(k.Digest)} {
				reply.Data = binary.BigEndian.AppendUint64(reply.Data, v)
			}
			return true
		})
		if err != nil {
			return err
		}
	case partSystems:
		last, err := p.systems(q.UpTo)
		if err != nil {
			return err
		}
		list := slices.Sorted(maps.Keys(last))
		list = slices.DeleteFunc(list, func(s uint32) bool { return int64(s) <= q.After })
		if more = len(list) > limit; more {
			list = list[:limit]
		}
		for _, s := range list {
			reply.Data = binary.BigEndian.AppendUint32(reply.Data, s)
			reply.Data = binary.BigEndian.AppendUint64(reply.Data, uint64(last[s]))
		}
	default:
		return fmt.Errorf("nothing is known of the part %q", q.Part)
	}
	if more {
		reply.Header.Set(headerMore, "1")
	}
	return nil
}

// systems is the greatest event up to upTo of each solar system: what was removed here, and what is still kept. A system of which
// events behind upTo were removed here counts as having had the event upTo. That tells a gap too many rather than none, and only until
// the node that asks has removed the same events.
func (p *peers) systems(upTo killfeed.EventID) (map[uint32]killfeed.EventID, error) {
	last := map[uint32]killfeed.EventID{}
	const step = 1000
	ids := make([]killfeed.EventID, 0, step)
	for id := p.store.State().First; id <= upTo; {
		ids = ids[:0]
		for ; id <= upTo && len(ids) < step; id++ {
			ids = append(ids, id)
		}
		var failed error
		err := p.store.Read(ids, func(e killfeed.Event, err error) bool {
			if failed = err; failed != nil {
				return false
			}
			last[e.SystemID] = max(last[e.SystemID], e.ID)
			return true
		})
		if err := errors.Join(err, failed); err != nil {
			return nil, err
		}
	}
	// Last, as events that were kept a moment ago may be removed by now.
	err := p.store.PastSystems(func(s killfeed.PastSystem) bool {
		last[s.System] = max(last[s.System], min(s.Last, upTo))
		return true
	})
	return last, err
}

// fetch yields what other nodes remember of the events up to upTo, in pieces without At and Checkpoints: all killmails whose first event
// is one of them, then of all systems the greatest of them. It tries again until it has all or ctx ends; an error of yield ends it.
func (p *peers) fetch(ctx context.Context, upTo killfeed.EventID, yield func(killfeed.Legacy) error) error {
	for _, part := range []string{partKillmails, partSystems} {
		q := pastQuestion{Part: part, UpTo: upTo, After: -1, Max: maxPiece}
		pause := backoff{}
		for more := true; more; {
			past, last, further, err := p.ask(ctx, q)
			if err != nil {
				p.log.Warn("copying what other nodes remember goes on", "part", part, "after", q.After, "error", err)
				if !pause.wait(ctx) {
					return fmt.Errorf("copying %s up to event %d from another node: %w: %w", part, upTo, err, context.Cause(ctx))
				}
				continue
			}
			pause = backoff{}
			if len(past.Killmails)+len(past.Systems) > 0 {
				if err := yield(past); err != nil {
					return err
				}
			}
			q.After, more = last, further
		}
	}
	return nil
}

// ask gets one piece: what it has, where it ends, and whether there is more.
func (p *peers) ask(ctx context.Context, q pastQuestion) (past killfeed.Legacy, last int64, more bool, err error) {
	text, err := json.Marshal(q)
	if err != nil {
		return past, 0, false, err
	}
	try, cancel := context.WithTimeout(ctx, max(p.t.Try, p.t.Take)) // a piece may be read from a disk
	defer cancel()
	m, err := p.nc.RequestWithContext(try, subjectPast(p.name), text)
	if errors.Is(err, nats.ErrNoResponders) {
		return past, 0, false, fmt.Errorf("no node of the feed is complete: %w", err)
	}
	if err != nil {
		return past, 0, false, err
	}
	if m.Header.Get(headerPart) != string(text) {
		return past, 0, false, fmt.Errorf("the answer is to another question: %q", m.Header.Get(headerPart))
	}
	if r := m.Header.Get(headerRefusal); r != "" {
		return past, 0, false, errors.New(r)
	}
	if sum := sha256.Sum256(m.Data); m.Header.Get(headerSum) != hex.EncodeToString(sum[:]) {
		return past, 0, false, errors.New("the piece does not match its checksum")
	}
	last, err = parsePast(&past, q, m.Data)
	more = m.Header.Get(headerMore) != ""
	if err == nil && more && last == q.After {
		err = errors.New("the piece is empty, but said not to be the last")
	}
	return past, last, more, err
}

// parsePast reads a piece, and makes sure that it is what q asked for.
func parsePast(past *killfeed.Legacy, q pastQuestion, data []byte) (last int64, err error) {
	last = q.After
	size := sizeKillmail
	if q.Part == partSystems {
		size = sizeSystem
	}
	if len(data)%size != 0 || len(data) > q.Max*size {
		return 0, fmt.Errorf("a piece of %d bytes, in steps of %d", len(data), size)
	}
	for ; len(data) > 0; data = data[size:] {
		id, event := int64(0), killfeed.EventID(0)
		if q.Part == partSystems {
			s := killfeed.PastSystem{System: binary.BigEndian.Uint32(data), Last: killfeed.EventID(binary.BigEndian.Uint64(data[4:]))}
			id, event = int64(s.System), s.Last
			past.Systems = append(past.Systems, s)
		} else {
			k := killfeed.PastKillmail{ID: int64(binary.BigEndian.Uint64(data))}
			k.First, k.Latest = killfeed.EventID(binary.BigEndian.Uint64(data[8:])), killfeed.EventID(binary.BigEndian.Uint64(data[16:]))
			k.Digest = killfeed.Digest(binary.BigEndian.Uint64(data[24:]))
			id, event = k.ID, k.First
			if k.Latest < k.First {
				return 0, fmt.Errorf("killmail %d: its newest version is event %d, before event %d, its first", k.ID, k.Latest, k.First)
			}
			past.Killmails = append(past.Killmails, k)
		}
		if id <= last || event == 0 || event > q.UpTo {
			return 0, fmt.Errorf("%d of event %d behind %d, where those up to event %d were asked for", id, event, last, q.UpTo)
		}
		last = id
	}
	return last, nil
}
