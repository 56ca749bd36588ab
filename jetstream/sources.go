package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"killfeed"
)

// sources are the checkpoints of the feed's sources. Each has the term of the lease that its writer held, and one of a lower term is
// refused: a leader that was cut off, and does not know yet that another one follows the source now, cannot set it back.
//
// The methods may be called by any number of goroutines.
type sources struct {
	b *bucket

	mu    sync.Mutex // guards known; held for a map operation
	known map[string]checkpoint
}

// checkpoint is a source's place as it was last seen or written here.
type checkpoint struct {
	rev uint64
	ids []string
	place
}

// place is a checkpoint as it stands in the bucket.
type place struct {
	Place string `json:"place"`
	Term  uint64 `json:"term"`
}

func newSources(b *bucket, _ Options) *sources {
	return &sources{b: b, known: map[string]checkpoint{}}
}

// get is the source's place, empty when it has none.
func (s *sources) get(ctx context.Context, source string) (string, error) {
	c, err := s.read(ctx, source)
	return c.Place, err
}

func (s *sources) read(ctx context.Context, source string) (checkpoint, error) {
	e, err := s.b.last(ctx, keyOf(keySource, source))
	if err != nil {
		return checkpoint{}, fmt.Errorf("the checkpoint of %s: %w", source, err)
	}
	return s.learn(source, e)
}

func (s *sources) learn(source string, e revision) (checkpoint, error) {
	c := checkpoint{rev: e.rev, ids: e.ids}
	if !e.gone {
		if err := json.Unmarshal(e.value, &c.place); err != nil {
			return checkpoint{}, fmt.Errorf("the checkpoint of %s in the bucket cannot be read: %w", source, err)
		}
	}
	s.keep(source, c)
	return c, nil
}

func (s *sources) keep(source string, c checkpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.rev >= s.known[source].rev {
		s.known[source] = c
	}
}

// put sets the places, by the lease of that term. The error is killfeed.ErrNotLeader when a later leader has set one of them; those
// before it in the list may be set then. Others are as Ledger.Agree has them for checkpoints.
func (s *sources) put(ctx context.Context, places []killfeed.Checkpoint, term uint64) error {
	for i, p := range places {
		err := s.putOne(ctx, p, term)
		switch {
		case err == nil:
		case i > 0 && errors.Is(err, killfeed.ErrUnavailable): // some count
			return fmt.Errorf("%v: %w", err, killfeed.ErrOutcomeUnknown)
		default:
			return err
		}
	}
	return nil
}

func (s *sources) putOne(ctx context.Context, p killfeed.Checkpoint, term uint64) error {
	s.mu.Lock()
	c, ok := s.known[p.Source]
	s.mu.Unlock()
	if !ok {
		var err error
		if c, err = s.read(ctx, p.Source); err != nil {
			return err
		}
	}
	value, err := json.Marshal(place{Place: p.Place, Term: term})
	if err != nil {
		return fmt.Errorf("the checkpoint of %s: %w", p.Source, err)
	}
	for {
		if c.Term > term || term == 0 {
			return fmt.Errorf("the checkpoint of %s is of term %d, this node's of term %d: %w", p.Source, c.Term, term, killfeed.ErrNotLeader)
		}
		if c.Term == term && c.Place == p.Place {
			return nil
		}
		o, err := s.b.swap(ctx, write{
			key: keyOf(keySource, p.Source), value: value, rev: c.rev, absent: c.rev == 0, after: c.ids, id: s.b.nextID(),
		})
		switch {
		case err != nil:
			return fmt.Errorf("the checkpoint of %s: %w", p.Source, err)
		case o.rev != 0:
			s.keep(p.Source, checkpoint{rev: o.rev, ids: o.ids, place: place{Place: p.Place, Term: term}})
			return nil
		case o.stored: // and replaced since, by a later leader
			return nil
		}
		if c, err = s.learn(p.Source, o.now); err != nil {
			return err
		}
	}
}
