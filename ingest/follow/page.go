package follow

import (
	"encoding/json"
	"fmt"
	"time"

	"killfeed"
)

// page is an answer to the stateless poll.
type page struct {
	Events []event          `json:"events"`
	Head   killfeed.EventID `json:"head"`
	Epoch  killfeed.Epoch   `json:"epoch"`
	More   bool             `json:"more"`
	Gap    *killfeed.Gap    `json:"gap"`
	Next   string           `json:"next"`

	next killfeed.Cursor // Next, read
}

// event is an event of a page. What was received of it is kept: the killmail is read out of it by the package killfeed.
type event struct {
	ID       killfeed.EventID
	Received time.Time
	Backfill bool
	text     json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *event) UnmarshalJSON(data []byte) error {
	var doc struct {
		ID       killfeed.EventID `json:"event_id"`
		Received time.Time        `json:"received_at"`
		Backfill bool             `json:"backfill"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return err
	}
	*e = event{doc.ID, doc.Received, doc.Backfill, append(json.RawMessage(nil), data...)}
	return nil
}

// readPage reads an answer to a poll from the cursor on; zero at the first. What is wrong in a way that would lose events or
// move the place to where it does not belong is an error.
func readPage(data []byte, from killfeed.Cursor) (*page, error) {
	var p page
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if !p.Epoch.Valid() {
		return nil, fmt.Errorf("the answer has the epoch %.20q: is this a killfeed? Want 8 hex digits", p.Epoch)
	}
	var err error
	if p.next, err = killfeed.ParseCursor(p.Next); err != nil {
		return nil, fmt.Errorf("the answer has no cursor that goes on behind it: %w", err)
	}
	if p.next.Epoch != p.Epoch {
		return nil, fmt.Errorf("the answer of the epoch %s goes on at %s: want the same epoch", p.Epoch, p.next)
	}
	last := killfeed.EventID(0)
	if !p.moved() { // also with another epoch: a leader that was restored from a backup knows which cursors of the old one still hold
		if last = from.After; p.next.After < last {
			return nil, fmt.Errorf("the answer to a cursor at %d goes on at %s: want one that never goes back", last, p.next)
		}
	}
	for _, e := range p.Events {
		if e.ID <= last {
			return nil, fmt.Errorf("event %d comes behind %d: want ascending ids behind the cursor", e.ID, last)
		}
		last = e.ID
	}
	if p.next.After < last {
		return nil, fmt.Errorf("the answer ends with event %d and goes on at %s: want a cursor behind it", last, p.next)
	}
	return &p, nil
}

// moved tells whether the answer is not from the cursor on, because the cursor is none of this log's.
func (p *page) moved() bool {
	return p.Gap != nil && (p.Gap.Reason == killfeed.GapEpoch || p.Gap.Reason == killfeed.GapFuture)
}
