package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// watching is somebody who follows keys of the bucket. The methods are called by one goroutine.
type watching interface {
	// begin: what follows is everything that there is, from its oldest revision to its newest, deletions that are still marked
	// included.
	begin()
	// see is told of the newest that a key has.
	see(e revision)
	// whole: what there was at begin has all been seen. What was known before and was not seen since is gone. An error begins anew.
	whole(ctx context.Context) error
}

// watch has w follow the keys, with wildcards, until ctx ends.
//
// It keeps nothing on the servers that outlives them: when anything is lost, a message, the consumer, the connection, it begins anew
// with all there is. To go on where it was would miss deletions whose mark has been purged meanwhile.
func (b *bucket) watch(ctx context.Context, keys []string, w watching) error {
	var pause backoff
	for {
		began := time.Now()
		err := b.follow(ctx, keys, w)
		if ctx.Err() != nil {
			return nil
		}
		b.log.Debug("watching the bucket begins anew", "keys", keys, "error", err)
		if time.Since(began) > b.look {
			pause = backoff{}
		}
		if !pause.wait(ctx) {
			return nil
		}
	}
}

// follow is watch until something is lost.
func (b *bucket) follow(ctx context.Context, keys []string, w watching) error {
	s, err := b.stand(ctx, keys, false)
	if err != nil {
		return err
	}
	defer s.leave()
	w.begin()
	missing, got := false, uint64(0)
	for whole := false; ; {
		if s.pending == 0 && !whole {
			if err := w.whole(ctx); err != nil {
				return err
			}
			whole = true
		}
		e, err := s.next(ctx, b.look)
		switch {
		case err == nil:
			missing, got = false, max(got, e.rev)
			w.see(e)
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			// Silence. A consumer can fall silent for good, so the leader is asked whether there is something newer; twice, as it may
			// be on its way.
			newer, err := b.newer(ctx, keys, got)
			if err != nil {
				return err
			}
			if missing && newer {
				return errors.New("the consumer has fallen silent")
			}
			missing = newer
		default:
			return err
		}
	}
}

// newer tells whether a key has a revision above rev.
func (b *bucket) newer(ctx context.Context, keys []string, rev uint64) (bool, error) {
	for _, k := range keys {
		e, err := b.last(ctx, k)
		if err != nil || e.rev > rev {
			return err == nil, err
		}
	}
	return false, nil
}

// all yields the newest of every key, once, without values when bare. It stops when yield returns false.
func (b *bucket) all(ctx context.Context, keys []string, bare bool, yield func(revision) bool) error {
	s, err := b.stand(ctx, keys, bare)
	if err != nil {
		return err
	}
	defer s.leave()
	for s.pending > 0 {
		e, err := s.next(ctx, b.try)
		if err != nil {
			return fmt.Errorf("reading the bucket: %w", err)
		}
		if !yield(e) {
			return nil
		}
	}
	return nil
}

// stance is a consumer of the bucket's stream, from the newest of every key on.
type stance struct {
	b        *bucket
	name     string
	messages jetstream.MessagesContext
	// pending is how many messages there were behind the last one.
	pending, seq uint64
}

func (b *bucket) stand(ctx context.Context, keys []string, bare bool) (*stance, error) {
	subjects := make([]string, len(keys))
	for i, k := range keys {
		subjects[i] = b.pre + k
	}
	try, cancel := context.WithTimeout(ctx, b.try)
	defer cancel()
	c, err := b.js.CreateConsumer(try, b.stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy, AckPolicy: jetstream.AckNonePolicy, FilterSubjects: subjects,
		MemoryStorage: true, Replicas: 1, HeadersOnly: bare, InactiveThreshold: max(10*b.try, 10*time.Second),
	})
	if err != nil {
		return nil, fmt.Errorf("watching the bucket: %w", err)
	}
	beat := min(max(b.try, 500*time.Millisecond), 10*time.Second)
	m, err := c.Messages(jetstream.PullMaxMessages(512), jetstream.PullExpiry(max(3*beat, time.Second)), jetstream.PullHeartbeat(beat))
	if err != nil {
		return nil, fmt.Errorf("watching the bucket: %w", err)
	}
	info := c.CachedInfo()
	return &stance{b: b, name: info.Name, messages: m, pending: info.NumPending}, nil
}

// next waits for a message. The error is context.DeadlineExceeded when none came within patience.
func (s *stance) next(ctx context.Context, patience time.Duration) (revision, error) {
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := s.messages.Next(jetstream.NextContext(wait))
	if err != nil {
		return revision{}, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return revision{}, err
	}
	if s.seq++; meta.Sequence.Consumer != s.seq {
		return revision{}, fmt.Errorf("message %d came where %d comes next", meta.Sequence.Consumer, s.seq)
	}
	s.pending = meta.NumPending
	e := revision{key: m.Subject()[len(s.b.pre):], rev: meta.Sequence.Stream, value: m.Data()}
	e.headers(m.Headers())
	return e, nil
}

// leave removes the consumer; one that is left behind goes by itself.
func (s *stance) leave() {
	s.messages.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), min(s.b.try, time.Second))
	defer cancel()
	_ = s.b.js.DeleteConsumer(ctx, s.b.stream, s.name)
}
