package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
)

// Epoch asks for the epoch of the log in the stream. A node's new store is made with it.
func Epoch(ctx context.Context, nc *nats.Conn, o Options) (killfeed.Epoch, error) {
	_, epoch, err := openStream(ctx, nc, o.filled())
	return epoch, err
}

// openStream finds the stream. It waits for servers that do not answer until ctx ends.
func openStream(ctx context.Context, nc *nats.Conn, o Options) (*stream, killfeed.Epoch, error) {
	if err := checkName(o); err != nil {
		return nil, "", err
	}
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(o.Timing.Try))
	if err != nil {
		return nil, "", err
	}
	var s *stream
	err = persist(ctx, func() error {
		try, cancel := context.WithTimeout(ctx, o.Timing.Try)
		defer cancel()
		handle, err := js.Stream(try, o.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("stream %q: %w; 'killfeed cluster init' makes it", o.Name, ErrNoFeed)
		}
		if err != nil {
			return asked("looking for stream "+o.Name, err)
		}
		s = &stream{Stream: handle, nc: nc, name: o.Name, try: o.Timing.Try}
		return ours(handle.CachedInfo(), "")
	})
	if err != nil {
		return nil, "", err
	}
	return s, killfeed.Epoch(s.CachedInfo().Config.Metadata[metaEpoch]), nil
}

// persist repeats what fails with killfeed.ErrUnavailable until ctx ends.
func persist(ctx context.Context, do func() error) error {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := do()
		if !errors.Is(err, killfeed.ErrUnavailable) || errors.Is(err, killfeed.ErrFailed) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// verify tells whether the node's store can follow the stream: of the same log, and the stream has all that the store has.
func verify(ctx context.Context, s *stream, store killfeed.Store, epoch killfeed.Epoch, patience time.Duration) error {
	st := store.State()
	if st.Epoch != epoch {
		return fmt.Errorf("this node's data are of the log %s, and stream %q is of the log %s: start with an empty data directory, which then "+
			"copies the stream's log, or name the ledger that these data belong to: %w", st.Epoch, s.name, epoch, killfeed.ErrFailed)
	}
	short := time.Now().Add(patience) // see stream.state
	err := persist(ctx, func() error {
		info, err := s.state(ctx)
		if err != nil {
			return asked("comparing with stream "+s.name, err)
		}
		if err := ours(info, epoch); err != nil {
			return err
		}
		if last := killfeed.EventID(info.State.LastSeq); last < st.Head {
			_, err := s.get(ctx, st.Head)
			switch {
			case errors.Is(err, jetstream.ErrMsgNotFound):
				err := shorter(s.name, last, st.Head)
				if time.Now().Before(short) {
					return fmt.Errorf("%v: %w", err, killfeed.ErrUnavailable)
				}
				return err
			case err != nil:
				return asked("comparing with stream "+s.name, err)
			}
		}
		if st.Head < killfeed.EventID(info.State.FirstSeq) || st.Head < st.First {
			return nil // nothing is in both
		}
		there, err := s.get(ctx, st.Head)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return fmt.Errorf("%w: %w", err, killfeed.ErrUnavailable) // purged since, or that server is behind
		}
		if err != nil {
			return asked("comparing with stream "+s.name, err)
		}
		return same(store, there.Event)
	})
	return err
}

// shorter: events that this node has were acknowledged by the stream, and it has them no more.
func shorter(name string, last, head killfeed.EventID) error {
	return fmt.Errorf("stream %q ends with event %d and this node has %d: the stream has lost events, or was made anew. Nothing is appended, "+
		"as those numbers would be given out twice. See 'the stream is shorter than a node' in docs/cluster.md: %w", name, last, head, killfeed.ErrFailed)
}

// same compares an event of the stream with that of the store.
func same(store killfeed.Store, there killfeed.Event) error {
	var here killfeed.Event
	var damage error
	if err := store.Read([]killfeed.EventID{there.ID}, func(e killfeed.Event, err error) bool { here, damage = e, err; return false }); err != nil {
		return err
	}
	if damage != nil || here.ID == 0 {
		return nil // the store tells of it by itself
	}
	if here.SystemID != there.SystemID || !here.ReceivedAt.Equal(there.ReceivedAt) || here.KillmailID != there.KillmailID ||
		here.MirrorSeq != there.MirrorSeq || here.Marks != there.Marks || !bytes.Equal(here.Killmail, there.Killmail) {
		return fmt.Errorf("event %d of the stream is killmail %d, and this node has killmail %d there: the logs differ. Start with an empty "+
			"data directory, which then copies the stream's log: %w", there.ID, there.KillmailID, here.KillmailID, killfeed.ErrFailed)
	}
	return nil
}

// linkAt finds the chain at the store's head: what the store keeps of it, else from the stream, where each message has the sum before it.
func linkAt(ctx context.Context, s *stream, store killfeed.Store) (link, error) {
	head := store.State().Head
	place, err := store.Checkpoint(chainSource)
	if err != nil {
		return link{}, err
	}
	if place != "" {
		l, err := parseLink(place)
		if err != nil {
			return link{}, err
		}
		if l.at == head {
			return l, nil
		}
	}
	l := link{at: head}
	err = persist(ctx, func() error {
		info, err := s.state(ctx)
		if err != nil {
			return asked("looking for the chain at event "+fmt.Sprint(head), err)
		}
		first, last := killfeed.EventID(info.State.FirstSeq), killfeed.EventID(info.State.LastSeq)
		switch {
		case info.State.Msgs == 0 && last == head: // nothing was appended yet
			return nil
		case head >= first:
			e, err := s.get(ctx, head)
			if err != nil {
				return fmt.Errorf("%w: %w", err, killfeed.ErrUnavailable)
			}
			l.sum = e.before.next(&e.Event)
			return nil
		default:
			e, err := s.get(ctx, head+1)
			if err != nil {
				return fmt.Errorf("%w: %w", err, killfeed.ErrUnavailable)
			}
			l.sum = e.before
			return nil
		}
	})
	return l, err
}
