// Package ingest brings killmails from upstream services into a feed.
//
// A source follows one upstream service. It yields killmails to its Intake and tells it how things stand; the Intake inserts
// them, remembers the source's place with them, and counts. Each source is a service of its own: when it fails it is started
// again and goes on from its place, and the others do not notice.
//
// # What it guarantees
//
// A killmail and the place behind it are stored in one commit. A source that is killed at any moment therefore goes on with
// the first killmail that is not in the log; what it yields twice is stored once, by its killmail id. Several sources may
// bring the same killmails; the counts tell who was first.
//
// What a live source yields never has the backfill mark. What it repairs from an upstream's history has it only when the kill
// is older than a day, so that subscribers of live events get what was merely late.
//
// # What a source owes
//
// It obeys the limits of its upstream, bounds everything that it reads and every wait, returns soon after its context ends,
// counts and steps over what cannot be read, and returns an error only when it cannot go on.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"killfeed"
)

// Source follows one upstream service.
type Source interface {
	// Follow yields killmails to in until ctx ends, or until it cannot go on. It begins at in.Place().
	Follow(ctx context.Context, in *Intake) error
}

// State is how a source stands.
type State string

const (
	// Starting: it has not heard from its upstream yet.
	Starting State = "starting"
	// CatchingUp: it is behind and reads as fast as it may.
	CatchingUp State = "catching up"
	// Following: it has all that there is.
	Following State = "following"
	// Waiting: the upstream asked it to wait, or does not answer. Detail says which.
	Waiting State = "waiting"
	// Stopped: it has ended, or was not started. Detail says why.
	Stopped State = "stopped"
	// Paused: an operator has it do nothing.
	Paused State = "paused"
	// StandingBy: another node follows it for all. Detail says which.
	StandingBy State = "standing by"
)

// Status tells how a source stands.
type Status struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail,omitempty"`
	// Since is when it came into the state.
	Since time.Time `json:"since"`
	// Lag is the time between the upstream's publishing of the newest killmail that was taken and its being taken, in
	// seconds; Behind how many killmails are known to be there that were not taken yet.
	Lag    float64 `json:"lag_seconds"`
	Behind int64   `json:"behind"`
	// Inserted counts the killmails that it was first to bring, Duplicates those that were there already, Updates those
	// that became update events, Bad what could not be read, Repaired those of Inserted that came from history.
	Inserted   uint64 `json:"inserted"`
	Duplicates uint64 `json:"duplicates"`
	Updates    uint64 `json:"updates"`
	Bad        uint64 `json:"bad"`
	Repaired   uint64 `json:"repaired"`
	// LastKillmail is when the last killmail was taken.
	LastKillmail *time.Time `json:"last_killmail,omitempty"`
	// LastError is what went wrong last, and ErrorAt when.
	LastError string     `json:"last_error,omitempty"`
	ErrorAt   *time.Time `json:"error_at,omitempty"`
	// Degraded is set, with the time since when and the reason, when the source should yield and does not.
	Degraded *Degraded `json:"degraded,omitempty"`
}

// Degraded says since when a source yields nothing that should, and why that is thought.
type Degraded struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

const (
	// fresh is how old a kill may be for what is repaired from history to count as live.
	fresh = 24 * time.Hour
	// maxSilence is how long a source may yield nothing. A kill happens every 5.5 s on average; a quarter of an hour
	// without any does not happen outside downtime.
	maxSilence = 15 * time.Minute
	// maxTrouble is how long an upstream may not answer as it should.
	maxTrouble = 2 * time.Minute
	// The daily downtime of the game begins at 11:00 UTC. For a while after it no kills are normal.
	downtimeHour, downtimeLength = 11, 45 * time.Minute
)

// Intake is where one source puts its killmails. Its methods may be called concurrently, but a source that remembers its
// place takes one batch at a time.
type Intake struct {
	feed *killfeed.Feed
	name string
	log  *slog.Logger
	// quiet: the upstream may be silent for as long as it likes; only trouble degrades the source.
	quiet bool

	mu      sync.Mutex // guards the rest; held for field accesses
	status  Status
	trouble time.Time // when the upstream stopped answering as it should; zero when it does
	loud    time.Time // when the source last yielded, or began
	told    map[string]bool
	paused  bool
	changed chan struct{} // closed, and made anew, when paused changes
}

// NewIntake makes the Intake of the source with that name. quiet is set for sources whose upstream may have nothing for a
// long time, such as a filtered one.
func NewIntake(feed *killfeed.Feed, name string, quiet bool, log *slog.Logger) *Intake {
	now := time.Now().UTC()
	return &Intake{
		feed: feed, name: name, quiet: quiet, log: log.With("source", name), loud: now, told: map[string]bool{}, changed: make(chan struct{}),
		status: Status{Name: name, State: Starting, Since: now},
	}
}

// Log is the source's log.
func (in *Intake) Log() *slog.Logger { return in.log }

// Place returns where the source is to go on, as it said with the last Take; empty at its first start.
func (in *Intake) Place() (string, error) { return in.feed.Checkpoint(in.name) }

// Take inserts live killmails and stores the place behind them, durably, both or neither. There may be no killmails. An error
// leaves the place as it was; the source ends with it and is started again.
func (in *Intake) Take(ctx context.Context, place string, ks ...*killfeed.Killmail) error {
	return in.insert(ctx, place, ks, 0, false)
}

// TakeMarked is Take for killmails that have marks of their own already, as those of another feed have: 0 or MarkBackfill.
func (in *Intake) TakeMarked(ctx context.Context, place string, marks killfeed.Marks, ks ...*killfeed.Killmail) error {
	return in.insert(ctx, place, ks, marks, false)
}

// Repair is Take for killmails from the upstream's history. Those of kills older than a day get the backfill mark.
func (in *Intake) Repair(ctx context.Context, place string, ks ...*killfeed.Killmail) error {
	var late, old []*killfeed.Killmail
	limit := time.Now().Add(-fresh)
	for _, k := range ks {
		if k.Time.Before(limit) {
			old = append(old, k)
		} else {
			late = append(late, k)
		}
	}
	// The place goes with the second of the two, so that it never stands behind what is not stored.
	if len(old) > 0 && len(late) > 0 {
		before, err := in.Place()
		if err != nil {
			return err
		}
		if err := in.insert(ctx, before, old, killfeed.MarkBackfill, true); err != nil {
			return err
		}
		old = nil
	}
	if len(old) > 0 {
		return in.insert(ctx, place, old, killfeed.MarkBackfill, true)
	}
	return in.insert(ctx, place, late, 0, true)
}

func (in *Intake) insert(ctx context.Context, place string, ks []*killfeed.Killmail, marks killfeed.Marks, repair bool) error {
	results, err := in.feed.InsertFrom(ctx, ks, marks, killfeed.Checkpoint{Source: in.name, Place: place})
	if err != nil {
		return fmt.Errorf("inserting %d killmails of %s: %w", len(ks), in.name, err)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range results {
		switch {
		case r.Duplicate:
			in.status.Duplicates++
		case r.Update:
			in.status.Updates++
		default:
			in.status.Inserted++
			if repair {
				in.status.Repaired++
			}
		}
	}
	if len(ks) > 0 {
		now := time.Now().UTC()
		in.status.LastKillmail, in.loud = &now, now
	}
	return nil
}

// Bad counts something that could not be read and was stepped over. It is logged once for each kind; kind is a short constant
// text.
func (in *Intake) Bad(kind string, err error) {
	in.mu.Lock()
	in.status.Bad++
	first := !in.told[kind]
	in.told[kind] = true
	in.mu.Unlock()
	if first {
		in.log.Warn("upstream data cannot be read and is stepped over; further ones are only counted", "kind", kind, "err", err)
	}
}

// Is notes how the source stands and that its upstream answers as it should.
func (in *Intake) Is(s State, detail string) { in.set(s, detail, nil) }

// Troubled notes that the upstream does not answer as it should, and what the source does about it.
func (in *Intake) Troubled(err error, detail string) { in.set(Waiting, detail, err) }

func (in *Intake) set(s State, detail string, err error) {
	now := time.Now().UTC()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.status.State != s {
		in.status.State, in.status.Since = s, now
	}
	in.status.Detail = detail
	if err == nil {
		in.trouble = time.Time{}
		return
	}
	in.status.LastError, in.status.ErrorAt = err.Error(), &now
	if in.trouble.IsZero() {
		in.trouble = now
		in.log.Warn("the upstream does not answer as it should", "err", err, "then", detail)
	}
}

// Lag notes how far behind the source is: in time for the newest killmail taken, and in killmails that are known to be there.
func (in *Intake) Lag(lag time.Duration, behind int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.status.Lag, in.status.Behind = max(lag, 0).Seconds(), max(behind, 0)
}

// Pause has the source do nothing until Resume, or until the program is started again. Its place stays, so that it then goes on
// with what it had not taken. It does not wait for what the source is about to take.
func (in *Intake) Pause() { in.pause(true) }

// Resume undoes Pause.
func (in *Intake) Resume() { in.pause(false) }

func (in *Intake) pause(paused bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.paused != paused {
		in.paused = paused
		close(in.changed)
		in.changed = make(chan struct{})
		in.log.Info("an operator changed the source", "paused", paused)
	}
}

// pausing tells whether the source is paused, and gives a channel that is closed when that changes.
func (in *Intake) pausing() (bool, <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.paused, in.changed
}

// Run follows the source. It is what the supervisor starts, and starts again.
func (in *Intake) Run(ctx context.Context, s Source) error {
	for {
		paused, changed := in.pausing()
		if !paused {
			err := in.follow(ctx, s, changed)
			if again, _ := in.pausing(); !again || ctx.Err() != nil {
				return err
			}
			continue // it ended because it was paused, or just before
		}
		in.Is(Paused, "by an operator")
		select {
		case <-ctx.Done():
		case <-changed:
		}
		if ctx.Err() != nil {
			in.Is(Stopped, "the program ends")
			return nil
		}
	}
}

// follow follows the source until it ends, the context does, or changed is closed.
func (in *Intake) follow(ctx context.Context, s Source, changed <-chan struct{}) error {
	in.mu.Lock()
	in.loud = time.Now().UTC()
	in.mu.Unlock()
	in.Is(Starting, "")
	following, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		select {
		case <-changed:
			cancel()
		case <-following.Done():
		}
	})
	err := s.Follow(following, in)
	switch {
	case ctx.Err() != nil:
		in.Is(Stopped, "the program ends")
		return nil
	case following.Err() != nil: // paused
		return nil
	case err == nil:
		err = errors.New("the source ended by itself")
	}
	in.Troubled(err, "it is started again soon")
	return err
}

// Status tells how the source stands.
func (in *Intake) Status() Status {
	in.mu.Lock()
	defer in.mu.Unlock()
	st := in.status
	now := time.Now().UTC()
	switch {
	case st.State == Stopped, st.State == Paused, st.State == StandingBy:
	case !in.trouble.IsZero() && now.Sub(in.trouble) > maxTrouble:
		st.Degraded = &Degraded{in.trouble, "its upstream does not answer as it should: " + st.LastError}
	case !in.quiet && now.Sub(in.loud) > maxSilence && !downtime(now):
		st.Degraded = &Degraded{in.loud, "no killmail has come for a long time, though the upstream answers"}
	}
	return st
}

// downtime tells whether now is within the game's daily downtime, or soon after, or would be but for the silence of it.
func downtime(now time.Time) bool {
	begin := time.Date(now.Year(), now.Month(), now.Day(), downtimeHour, 0, 0, 0, time.UTC)
	return !now.Before(begin) && now.Before(begin.Add(downtimeLength+maxSilence))
}
