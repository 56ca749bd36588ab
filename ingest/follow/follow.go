// Package follow follows another killfeed, by its stateless poll.
//
// # What it guarantees
//
// The follower takes every event of the leader, in the leader's order, and remembers the leader's cursor in the same commit. So
// it goes on exactly where it was, however it ended: event for event, nothing lost, nothing twice. The backfill mark is kept.
// Updates are not taken over as such: the follower's log decides by itself, as the leader's did, what is an update, and it comes
// to the same result when it has the same killmails in the same order from here only. What it had from elsewhere already is a
// duplicate or an update here. Event ids, receipt times and the epoch are the follower's own.
//
// Where the leader has lost what the follower had not read, the gap is logged and shown in the status. When the leader's log
// is another one (it was wiped or restored), or ends before the place that was reached, the follower reads again everything
// that the leader has kept. What it had already is a duplicate then and adds nothing, but for killmails without a
// killmail_id, which are never duplicates: such ones are there twice.
//
// # What the caller owes
//
// Feeds may follow each other in a ring only when no killmail in them lacks its killmail_id: such a one would go round for
// ever. A feed that is told to follow itself refuses (Config.Self).
package follow

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/upstream"
)

const (
	// pageEvents is how many events are asked for at a time, as many as a killfeed gives.
	pageEvents = 1000
	// Timeout is how long a request may take, for the Client that is given to New: a long poll, and then 16 MiB over a slow
	// line.
	Timeout = 3 * time.Minute
	// longPoll is how long the leader may hold a request when it has nothing. It is less than the 15 s in which a Client wants
	// an answer to begin.
	longPoll = 10 * time.Second
	// maxPage bounds an answer: 16 MiB of killmails, of which the last may go beyond with its own 8 MiB, what is around them,
	// and room for a leader that is more generous.
	maxPage = 64 << 20
	// shortest is the least time between two requests that brought nothing new. A leader that does not hold a request as
	// asked would otherwise be asked without pause.
	shortest = time.Second
)

// Config configures a Source.
type Config struct {
	// URL is the leader's base URL, as in https://feed.example.com.
	URL string
	// Start is where to begin at the very first start; the zero value is the first event that the leader has.
	Start killfeed.Start
	// Self is the epoch of the follower's own log, so that it does not follow itself; empty: not checked.
	Self killfeed.Epoch
}

// Source follows another killfeed. It implements ingest.Source.
type Source struct {
	base   *url.URL
	config Config
	client *upstream.Client
}

// errSelf: the leader has the follower's own epoch.
var errSelf = errors.New("the killfeed to follow is this one itself: give the URL of another one")

// New makes a Source that asks by client, whose time limit should be Timeout.
func New(client *upstream.Client, c Config) (*Source, error) {
	base, err := url.Parse(strings.TrimRight(c.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("URL of the killfeed to follow %q is not accepted: want as in https://feed.example.com", c.URL)
	}
	return &Source{base: base, config: c, client: client}, nil
}

// follower is one run of a Source.
type follower struct {
	*Source
	in *ingest.Intake
	// at is the place; begun is false until there is one.
	at    killfeed.Cursor
	begun bool
	// again: everything that the leader has is read again.
	again bool
	// lost tells of the last gap; empty when there was none.
	lost string
}

// Follow implements ingest.Source.
func (s *Source) Follow(ctx context.Context, in *ingest.Intake) error {
	place, err := in.Place()
	if err != nil {
		return fmt.Errorf("reading the place in %s: %w", s.base, err)
	}
	f := &follower{Source: s, in: in}
	if place != "" {
		if f.at, err = killfeed.ParseCursor(place); err != nil {
			return fmt.Errorf("the place in %s that was remembered cannot be read: %w", s.base, err)
		}
		f.begun = true
	}
	var backoff upstream.Backoff
	for {
		asked := time.Now()
		p, err := f.ask(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			wait := backoff.Next(upstream.RetryAfter(err))
			in.Troubled(err, fmt.Sprintf("asked again in %v", wait.Round(time.Second)))
			if err := upstream.Sleep(ctx, wait); err != nil {
				return err
			}
			continue
		}
		backoff.Reset()
		moved, err := f.take(ctx, p)
		if err != nil {
			return err
		}
		if rest := shortest - time.Since(asked); !moved && rest > 0 {
			if err := upstream.Sleep(ctx, rest); err != nil {
				return err
			}
		}
	}
}

// ask asks for what comes next.
func (f *follower) ask(ctx context.Context) (*page, error) {
	q := url.Values{"topics": {"all"}, "updates": {"1"}, "backfill": {"1"}, "limit": {strconv.Itoa(pageEvents)},
		"wait": {strconv.Itoa(int(longPoll / time.Second))}}
	from := f.at
	switch {
	case f.again:
		from = killfeed.Cursor{}
		q.Set("start", killfeed.Earliest.String())
	case !f.begun:
		q.Set("start", f.config.Start.String())
		q.Del("wait") // so that there is a place at once
	default:
		q.Set("after", f.at.String())
	}
	u := f.base.JoinPath("api/killfeed")
	u.RawQuery = q.Encode()
	answer, err := f.client.Get(ctx, u.String(), maxPage)
	if err != nil {
		return nil, err
	}
	return readPage(answer.Body, from)
}

// take inserts what a page has and moves the place behind it. moved: it went on as it should, so that the next page may be
// asked for at once.
func (f *follower) take(ctx context.Context, p *page) (moved bool, err error) {
	if f.config.Self != "" && p.Epoch == f.config.Self {
		return false, errSelf
	}
	if p.Gap != nil {
		f.tell(p)
		if p.Gap.Reason == killfeed.GapFuture {
			// The leader goes on from its head. But it may have taken killmails since it lost the end of its log, under ids
			// that were passed here already.
			f.again = true
			return false, nil
		}
	}
	f.again = false
	f.stand(p)
	newest := time.Time{}
	for i := 0; i < len(p.Events); {
		// One insert has one kind of marks, so a page is taken in runs of them.
		run := p.Events[i:]
		marks := killfeed.Marks(0)
		if run[0].Backfill {
			marks = killfeed.MarkBackfill
		}
		n := 1
		for n < len(run) && run[n].Backfill == run[0].Backfill {
			n++
		}
		run, i = run[:n], i+n
		at := killfeed.Cursor{After: run[n-1].ID, Epoch: p.Epoch}
		if i == len(p.Events) {
			at = p.next
		}
		if err := f.in.TakeMarked(ctx, at.String(), marks, f.killmails(run)...); err != nil {
			return false, err
		}
		f.at, f.begun, moved = at, true, true
		newest = run[n-1].Received
	}
	if len(p.Events) == 0 && (!f.begun || f.at != p.next) {
		if err := f.in.TakeMarked(ctx, p.next.String(), 0); err != nil {
			return false, err
		}
		f.at, f.begun, moved = p.next, true, true
	}
	if !newest.IsZero() || !p.More {
		lag := time.Duration(0)
		if p.More {
			lag = time.Since(newest)
		}
		f.in.Lag(lag, int64(p.Head)-int64(p.next.After))
	}
	// Gaps without end, as two leaders behind one address would tell them, must not make a busy loop.
	return moved && p.Gap == nil, nil
}

// killmails are those of a run that can be read.
func (f *follower) killmails(run []event) []*killfeed.Killmail {
	ks := make([]*killfeed.Killmail, 0, len(run))
	for _, e := range run {
		k, err := killfeed.ParseItem(e.text)
		if err != nil {
			f.in.Bad("event", fmt.Errorf("event %d of %s: %w", e.ID, f.base, err))
			continue
		}
		ks = append(ks, k)
	}
	return ks
}

// stand notes how the follower stands with a page.
func (f *follower) stand(p *page) {
	state := ingest.Following
	if p.More {
		state = ingest.CatchingUp
	}
	f.in.Is(state, f.lost)
}

// tell tells a gap.
func (f *follower) tell(p *page) {
	now := time.Now().UTC().Format(time.RFC3339)
	log := f.in.Log().With("leader", f.base.String(), "place", f.at.String(), "reason", p.Gap.Reason)
	switch p.Gap.Reason {
	case killfeed.GapEpoch:
		f.lost = fmt.Sprintf("at %s the leader's log was another one than before: what it had was read again, and what it had "+
			"lost until then is missing", now)
		log.Warn("the leader's log is another one than before; everything that it has is read again", "epoch", p.Epoch)
	case killfeed.GapFuture:
		f.lost = fmt.Sprintf("at %s the leader's log ended before the place that had been reached: what it had was read again", now)
		log.Warn("the leader's log ends before the place that was reached; everything that it has is read again", "head", p.Head)
	default:
		f.lost = fmt.Sprintf("at %s the leader's events %s were gone before they were read", now, p.Gap)
		log.Warn("events of the leader are gone before they were read", "from", p.Gap.From, "to", p.Gap.To)
	}
}
