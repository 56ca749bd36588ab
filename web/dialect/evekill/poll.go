package evekill

import (
	"errors"
	"net/http"
	"strconv"

	"killfeed"
)

const (
	// defaultLimit and maxLimit are those of the original.
	defaultLimit, maxLimit = 100, 1000
	// maxLooks bounds how often one poll goes on behind events that it passes over: each passes over some hundred thousand.
	maxLooks = 50
)

// poll answers with what is behind the caller's cursor.
func (d *dialect) poll(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	limit := defaultLimit
	if n, err := strconv.Atoi(query.Get("limit")); err == nil { // out of range is brought into it, as the original does
		limit = min(max(n, 1), maxLimit)
	}
	page := page{dialect: d, limit: limit, backfill: query.Get("backfill") == "1"}
	head := d.feed.State().Head
	switch after := query.Get("after"); after {
	case "", "0": // nothing but the head, from which a newcomer goes on
		page.next, page.more = head, head > 0
	case "earliest":
		page.after = killfeed.Cursor{After: d.feed.State().First - 1}
		if err := page.read(r); err != nil {
			d.failed(w, r, err)
			return
		}
	default:
		cursor, err := killfeed.ParseCursor(after)
		if err != nil {
			refuse(w, http.StatusBadRequest, "after is not accepted: want the seq that was handled last, 0 for the head alone, or earliest")
			return
		}
		page.after = cursor
		if err := page.read(r); err != nil {
			d.failed(w, r, err)
			return
		}
		head = max(head, page.next)
	}
	if page.gap != nil {
		w.Header().Set("Killfeed-Gap", page.gap.String())
	}
	w.Header().Set("Cache-Control", "no-cache")
	answer(w, http.StatusOK, page.json(head))
}

// page is one answer to a poll.
type page struct {
	*dialect
	after    killfeed.Cursor
	limit    int
	backfill bool

	events []killfeed.Event // with ids
	next   killfeed.EventID
	more   bool
	gap    *killfeed.Gap
}

// read reads the page. It goes on until there is something, or nothing more: a page that says that there is more, and has nothing,
// would have clients that go by the last seq ask the same again for ever.
func (p *page) read(r *http.Request) error {
	for range maxLooks {
		ans, err := p.feed.ReadAfter(r.Context(), p.after, killfeed.Read{
			Topics: []killfeed.Topic{killfeed.All()}, Limit: p.limit, NoBackfill: !p.backfill,
		})
		if err != nil {
			return err
		}
		if p.gap == nil {
			p.gap = ans.Gap
		}
		for _, e := range ans.Events {
			if e.KillmailID > 0 {
				p.events = append(p.events, e)
			}
		}
		p.next = ans.Next.After
		if p.more = ans.More; len(p.events) > 0 || !ans.More {
			return nil
		}
		p.after = ans.Next
		if err := p.skip(); err != nil {
			return err
		}
	}
	p.more = false
	return nil
}

// skip goes to just before the next killmail that is no history: millions of imported ones may lie before it.
func (p *page) skip() error {
	if p.backfill {
		return nil
	}
	e, err := p.feed.Event(p.after.After)
	var damage *killfeed.DamageError
	if errors.Is(err, killfeed.ErrNotFound) || errors.As(err, &damage) {
		return nil // step by step
	} else if err != nil {
		return err
	}
	if next := p.feed.Mirrored(e.MirrorSeq + 1); next > e.ID {
		p.after.After = next - 1
	}
	return nil
}

// json is the page as the original has it.
func (p *page) json(head killfeed.EventID) []byte {
	size := 256
	for i := range p.events {
		size += len(p.events[i].Killmail) + 192
	}
	b := append(make([]byte, 0, size), `{"data":[`...)
	for i := range p.events {
		m := p.shelf.Open(&p.events[i])
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(b, `{"seq":`...), uint64(p.events[i].ID), 10)
		b = strconv.AppendInt(append(b, `,"killmail_id":`...), m.ID, 10)
		if m.Hash != "" {
			b = append(append(append(b, `,"killmail_hash":"`...), m.Hash...), '"')
		} else {
			b = append(b, `,"killmail_hash":null`...)
		}
		b = append(appendBody(append(b, `,"data":`...), m), '}')
	}
	b = append(append(b, `],"latest":`...), latest(head)...)
	b = strconv.AppendBool(append(b, `,"hasMore":`...), p.more)
	b = p.appendURL(append(b, `,"next":"`...), p.next)
	last := killfeed.EventID(1)
	if head > killfeed.EventID(p.limit) {
		last = head - killfeed.EventID(p.limit)
	}
	return append(p.appendURL(append(b, `","last":"`...), last), `"}`...)
}

// appendURL appends the address of a page, from the base on.
func (p *page) appendURL(b []byte, after killfeed.EventID) []byte {
	b = strconv.AppendUint(append(b, "/feed/poll?after="...), uint64(after), 10)
	return strconv.AppendInt(append(b, "&limit="...), int64(p.limit), 10)
}
