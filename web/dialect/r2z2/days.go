package r2z2

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"killfeed"
	"killfeed/web/dialect/internal/pack"
)

const (
	// tallyBlock is how many events are counted together.
	tallyBlock = 1 << 16
	// maxDay bounds the killmails of a day, twenty times a busy one, and keptMails those of the days that are remembered.
	maxDay    = 500_000
	keptMails = 500_000
)

// day is a date: whole days since 1970, UTC.
type day int64

func dayOf(unix int64) day { return day(unix / 86400) }

// parseDay reads YYYYMMDD.
func parseDay(text string) (day, bool) {
	t, err := time.Parse("20060102", text)
	return dayOf(t.Unix()), err == nil && t.Unix() >= 0
}

func (d day) String() string { return time.Unix(int64(d)*86400, 0).UTC().Format("20060102") }

// tally is how many killmails came on an event's date, and the last event of them. As killmails are only added at one end of the
// log and removed at the other, it is the same if and only if the killmails are.
type tally struct {
	killmails int
	last      killfeed.EventID
}

// history knows which killmails are of which day. One at a time looks into the log for it, and the others wait.
type history struct {
	feed *killfeed.Feed
	size killfeed.EventID // of a block: tallyBlock, but in tests
	raw  chan struct{}    // a place for each who reads bodies

	turn    chan struct{} // cap 1: who has put something in owns the rest
	blocks  map[killfeed.EventID]*tallied
	days    map[day]*mails
	kept    int // killmails of days
	uses    uint64
	entries []killfeed.Entry // room
}

// tallied are the events above after, up to through, of one block, counted by their killmails' days.
type tallied struct {
	after, through killfeed.EventID
	days           map[day]tally
}

// mails are the killmails of a day. It never changes, but for used.
type mails struct {
	tally
	all  []mail // by killmail id
	used uint64 // owned by who has the turn
}

type mail struct {
	id    int64
	event killfeed.EventID
	// hash is all zero when it is not known.
	hash [20]byte
}

func newHistory(feed *killfeed.Feed) *history {
	return &history{
		feed: feed, size: tallyBlock, raw: make(chan struct{}, 8), turn: make(chan struct{}, 1),
		blocks: map[killfeed.EventID]*tallied{}, days: map[day]*mails{},
	}
}

// begin takes the turn, and counts what is new. The caller must call end unless there is an error.
func (h *history) begin(ctx context.Context) error {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err := context.Cause(ctx) // who has left must not be counted for, even when it is his turn
	if err == nil {
		err = h.count(ctx)
	}
	if err != nil {
		h.end()
	}
	return err
}

func (h *history) end() { <-h.turn }

// count brings blocks up to date. What it has done stays done when it is interrupted.
func (h *history) count(ctx context.Context) error {
	st := h.feed.State()
	oldest := (st.First - 1) / h.size
	for b := range h.blocks {
		if b < oldest {
			delete(h.blocks, b)
		}
	}
	for b := oldest; b*h.size < st.Head; b++ {
		after, through := max(b*h.size, st.First-1), min((b+1)*h.size, st.Head)
		at := h.blocks[b]
		if at == nil || at.after != after { // retention came as far as into it
			at = &tallied{after: after, through: after, days: map[day]tally{}}
		}
		if at.through < through {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := h.each(at.through, through, func(d day, id killfeed.EventID) {
				at.days[d] = tally{at.days[d].killmails + 1, id}
			})
			if err != nil {
				return err
			}
			at.through = through
		}
		h.blocks[b] = at
	}
	return nil
}

// each calls f with the events of a part of a block that count: those that brought a killmail with a time.
func (h *history) each(after, through killfeed.EventID, f func(day, killfeed.EventID)) error {
	entries, err := h.feed.Entries(h.entries[:0], after, through)
	if err != nil {
		return err
	}
	h.entries = entries
	for _, e := range entries {
		if !e.Marks.Has(killfeed.MarkUpdate) && e.KilledAt > 0 {
			f(dayOf(e.KilledAt), e.ID)
		}
	}
	return nil
}

// tallies are those of all days.
func (h *history) tallies() map[day]tally {
	all := map[day]tally{}
	for _, b := range h.blocks {
		for d, t := range b.days {
			was := all[d]
			all[d] = tally{was.killmails + t.killmails, max(was.last, t.last)}
		}
	}
	return all
}

// of is the tally of one day. Without killmails it is of the span of all days when inside is true.
func (h *history) of(d day) (t tally, inside bool) {
	earlier, later := false, false
	for _, b := range h.blocks {
		for other, n := range b.days {
			switch {
			case other == d:
				t = tally{t.killmails + n.killmails, max(t.last, n.last)}
			case other < d:
				earlier = true
			default:
				later = true
			}
		}
	}
	return t, t.killmails > 0 || earlier && later
}

// read returns the killmails of a day, whose tally is t. Who has them already, but for those that are new, reads those alone.
func (h *history) read(ctx context.Context, d day, t tally) (*mails, error) {
	h.uses++
	known := h.days[d]
	if known == nil {
		known = &mails{}
	}
	known.used = h.uses
	if known.tally == t {
		return known, nil
	}
	if t.killmails > maxDay {
		return nil, killfeed.Invalid("day", d.String(), fmt.Sprintf("one with at most %d killmails; it has %d", maxDay, t.killmails))
	}
	first := h.feed.State().First
	all := make([]mail, 0, t.killmails)
	for _, m := range known.all {
		if m.event >= first {
			all = append(all, m)
		}
	}
	var ids []killfeed.EventID
	for _, b := range h.blocks {
		if b.days[d].last <= known.last {
			continue
		}
		err := h.each(max(b.after, known.last), b.through, func(of day, id killfeed.EventID) {
			if of == d {
				ids = append(ids, id)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	for i, id := range ids {
		if i%64 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		m, err := h.mail(id)
		if err != nil {
			return nil, err
		}
		if m.id != 0 {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b mail) int { return cmp.Compare(a.id, b.id) })
	h.kept += len(all) - len(known.all)
	got := &mails{tally: t, all: all, used: h.uses}
	h.days[d] = got
	h.forget(got)
	return got, nil
}

// mail reads what history tells of an event's killmail. It has no id when there is nothing to tell.
func (h *history) mail(id killfeed.EventID) (mail, error) {
	e, err := h.feed.Event(id)
	if err != nil {
		if showsNothing(err) {
			err = nil
		}
		return mail{}, err
	}
	m := mail{id: e.KillmailID, event: id}
	p := pack.Open(&e)
	if p != nil && p.Hash == "" { // nothing to compute it of; a newer version may bring it
		if e, err := h.feed.Killmail(e.KillmailID); err == nil {
			p = pack.Open(&e)
		}
	}
	if p != nil {
		_, err = hex.Decode(m.hash[:], []byte(p.Hash))
	}
	return m, err
}

// forget forgets the days that were not asked for for longest while there are too many killmails, but not one.
func (h *history) forget(but *mails) {
	for h.kept > keptMails && len(h.days) > 1 {
		var oldest day
		least := but
		for d, m := range h.days {
			if m != but && (least == but || m.used < least.used) {
				oldest, least = d, m
			}
		}
		h.kept -= len(least.all)
		delete(h.days, oldest)
	}
}
