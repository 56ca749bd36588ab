package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"killfeed"
)

const (
	// MaxEvents and MaxBytes bound what is appended as one, all or nothing: servers take no more messages in one atomic batch, and
	// a batch has to get to most of them before their patience ends. The bytes are those of the killmails.
	MaxEvents = 1000
	MaxBytes  = 8 << 20
)

// stream is the stream as one node uses it. It is for concurrent use.
type stream struct {
	jetstream.Stream
	nc   *nats.Conn
	name string
	try  time.Duration
}

// state asks what the stream has. The leader answers, or a server that has only just started and does not know yet that it does not lead:
// so its last sequence may be too low.
func (s *stream) state(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, s.try)
	defer cancel()
	info, err := s.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the state of stream %q: %w", s.name, err)
	}
	return info, nil
}

// get reads the message of an event from any server that has it: what one has was agreed on by most of them and stays. That the error is
// jetstream.ErrMsgNotFound says little: that server may be behind.
func (s *stream) get(ctx context.Context, id killfeed.EventID) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.try)
	defer cancel()
	m, err := s.GetMsg(ctx, uint64(id))
	if err == nil && m.Sequence != uint64(id) {
		err = jetstream.ErrMsgNotFound // the first one kept instead of one that was purged
	}
	if err != nil {
		return entry{}, fmt.Errorf("reading message %d of stream %q: %w", id, s.name, err)
	}
	return parse(s.name, m.Sequence, m.Subject, m.Header, m.Data)
}

// stored is a message as the server that leads its stream tells it.
type stored struct {
	Error   *jetstream.APIError `json:"error"`
	Message struct {
		Subject string `json:"subject"`
		Seq     uint64 `json:"seq"`
		Header  []byte `json:"hdrs"`
		Data    []byte `json:"data"`
	} `json:"message"`
}

// getLeader is get from the server that leads the stream. That one answers when appends are answered, while a request that goes to any server
// may go to one that was cut off and that the others still count on.
func (s *stream) getLeader(ctx context.Context, id killfeed.EventID) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, s.try)
	defer cancel()
	ask := fmt.Appendf(nil, `{"seq":%d}`, id)
	reply, err := s.nc.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+s.name, ask)
	if err != nil {
		return entry{}, fmt.Errorf("reading message %d of stream %q: %w", id, s.name, err)
	}
	var got stored
	err = json.Unmarshal(reply.Data, &got)
	if err == nil && got.Error != nil {
		err = got.Error
	}
	var header nats.Header
	if err == nil {
		header, err = nats.DecodeHeadersMsg(got.Message.Header)
	}
	if err == nil && got.Message.Seq != uint64(id) {
		err = jetstream.ErrMsgNotFound
	}
	if err != nil {
		return entry{}, fmt.Errorf("reading message %d of stream %q from its leader: %w", id, s.name, err)
	}
	return parse(s.name, got.Message.Seq, got.Message.Subject, header, got.Message.Data)
}

// batch is what is appended as one.
type batch struct {
	// after is the event that it follows.
	after killfeed.EventID
	// append names it, however often it is sent.
	append   string
	messages []*nats.Msg
}

// last is the id of its last event.
func (b *batch) last() killfeed.EventID { return b.after + killfeed.EventID(len(b.messages)) }

// cut makes a batch of the first of the events, at least one, and returns the rest of them and the chain behind the batch.
func (s *stream) cut(events []killfeed.Event, from link, id string) (*batch, []killfeed.Event, link) {
	b := &batch{after: from.at, append: id}
	for bytes := 0; len(events) > 0 && len(b.messages) < MaxEvents; events = events[1:] {
		e := &events[0]
		if bytes += len(e.Killmail); bytes > MaxBytes && len(b.messages) > 0 {
			break
		}
		b.messages = append(b.messages, message(s.name, e, id, from.sum))
		from = from.next(e)
	}
	first := b.messages[0].Header
	first[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatUint(uint64(b.after), 10)}
	for _, m := range b.messages {
		m.Header[jetstream.ExpectedStreamHeader] = []string{s.name}
	}
	return b, events, from
}

// conflictError is an entry that stands where a batch should have been. It is killfeed.ErrBehind.
type conflictError struct{ entry entry }

func (e *conflictError) Error() string {
	return fmt.Sprintf("event %d is another node's: %v", e.entry.ID, killfeed.ErrBehind)
}
func (e *conflictError) Unwrap() error { return killfeed.ErrBehind }

// append appends the batch. It sends it again, with the same expectation, until it is decided what became of it. A batch can only ever
// stand right behind b.after. So it is decided by an acknowledgement, and by what stands there: that is never replaced. An
// answer of the servers that refuses it decides nothing about an earlier try that had no answer.
//
// Errors are *conflictError, killfeed.ErrUnavailable when no try can have been stored, killfeed.ErrOutcomeUnknown when one can and ctx
// ends, and killfeed.ErrFailed when the servers refuse it for good. patience is how long to try before ErrUnavailable. known
// tells what is known already of an event in the stream, from elsewhere.
func (s *stream) append(ctx context.Context, b *batch, patience time.Duration, known func(killfeed.EventID) (entry, bool)) error {
	// open: at least one try may be stored, or be stored later.
	open := false
	give := time.NewTimer(patience)
	defer give.Stop()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := s.publish(ctx, b)
		var refused *refusedError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &refused):
			open = true
		case refused.final && !open:
			return fmt.Errorf("appending %d events after event %d: %w: %w", len(b.messages), b.after, err, killfeed.ErrFailed)
		}
		if open || refused.conflict {
			if there, ok := s.behind(ctx, b.after, known); ok {
				if there.append == b.append {
					return nil
				}
				return &conflictError{there}
			}
		}
		tell := func(end error) error {
			return fmt.Errorf("appending %d events after event %d: %w: %w", len(b.messages), b.after, err, end)
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
			continue
		case <-ctx.Done():
			if open {
				return tell(killfeed.ErrOutcomeUnknown)
			}
			return tell(killfeed.ErrUnavailable)
		case <-give.C:
			if !open {
				wait.Stop()
				return tell(killfeed.ErrUnavailable)
			}
			// No way back. From here on only ctx ends it.
			select {
			case <-wait.C:
			case <-ctx.Done():
				return tell(killfeed.ErrOutcomeUnknown)
			}
		}
	}
}

// behind returns what stands right behind an event, if that can be found out.
func (s *stream) behind(ctx context.Context, after killfeed.EventID, known func(killfeed.EventID) (entry, bool)) (entry, bool) {
	if known != nil {
		if e, ok := known(after + 1); ok {
			return e, true
		}
	}
	e, err := s.getLeader(ctx, after+1)
	if err != nil {
		e, err = s.get(ctx, after+1)
	}
	return e, err == nil
}

// refusedError: a try was certainly not stored.
type refusedError struct {
	// conflict: the head is another one. final: no further try will be taken either.
	conflict, final bool
	err             error
}

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

var errNoConnection = errors.New("no connection to the servers")

// publish tries once. The error is a *refusedError, or the outcome of this try is unknown.
func (s *stream) publish(ctx context.Context, b *batch) error {
	if !s.nc.IsConnected() {
		// It would be kept and sent with the next connection, when nobody waits for it any more.
		return &refusedError{err: errNoConnection}
	}
	ctx, cancel := context.WithTimeout(ctx, s.try)
	defer cancel()
	last := b.messages[len(b.messages)-1]
	if len(b.messages) > 1 {
		// Each try is a batch of its own for the servers. The messages are this goroutine's, and sent before PublishMsg returns.
		id := nuid.Next()
		for i, m := range b.messages {
			m.Header["Nats-Batch-Id"] = []string{id}
			m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
		}
		last.Header["Nats-Batch-Commit"] = []string{"1"}
		for _, m := range b.messages[:len(b.messages)-1] {
			if err := s.nc.PublishMsg(m); err != nil {
				// Without its last message a batch is nothing.
				return &refusedError{err: fmt.Errorf("sending: %w", err), final: errors.Is(err, nats.ErrMaxPayload)}
			}
		}
	}
	reply, err := s.nc.RequestMsgWithContext(ctx, last)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return &refusedError{err: fmt.Errorf("no server takes appends to stream %q: %w", s.name, err)}
	case errors.Is(err, nats.ErrMaxPayload):
		return &refusedError{err: fmt.Errorf("an event of %d bytes is larger than the servers' max_payload: %w", len(last.Data), err), final: true}
	case errors.Is(err, nats.ErrConnectionClosed):
		return &refusedError{err: err}
	case err != nil:
		return fmt.Errorf("no answer: %w", err)
	}
	var ack struct {
		Stream string              `json:"stream"`
		Seq    uint64              `json:"seq"`
		Error  *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return fmt.Errorf("answer %.100q: %w", reply.Data, err)
	}
	if ack.Error != nil {
		return refusal(ack.Error)
	}
	if ack.Stream != s.name || ack.Seq != uint64(b.last()) {
		return fmt.Errorf("answer %.100q: want sequence %d of stream %q", reply.Data, b.last(), s.name)
	}
	return nil
}

// Error codes of the servers that jetstream has no names for.
const (
	codeIncompleteBatch jetstream.ErrorCode = 10176 // a message of it was lost, or it was dropped in between
	codeTooManyBatches  jetstream.ErrorCode = 10210
)

func refusal(err *jetstream.APIError) *refusedError {
	r := &refusedError{err: err}
	switch err.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		r.conflict = true
	case codeIncompleteBatch, codeTooManyBatches:
	default:
		r.final = err.Code >= 400 && err.Code < 500
	}
	return r
}

// Copier appends the events of a log that is there already, with their ids, as it moves into a cluster. It is not for concurrent
// use, and nobody else may append meanwhile.
type Copier struct {
	stream *stream
	link   link
	run    string
	n      int
}

// NewCopier begins behind the stream's last event.
func NewCopier(ctx context.Context, nc *nats.Conn, o Options) (*Copier, error) {
	s, _, err := openStream(ctx, nc, o.filled())
	if err != nil {
		return nil, err
	}
	info, err := s.state(ctx)
	if err != nil {
		return nil, err
	}
	c := &Copier{stream: s, link: link{at: killfeed.EventID(info.State.LastSeq)}, run: nuid.Next()}
	if info.State.Msgs > 0 {
		e, err := s.get(ctx, c.link.at)
		if err != nil {
			return nil, err
		}
		c.link.sum = e.before.next(&e.Event)
	}
	return c, nil
}

// Next is the id that the stream gives out next.
func (c *Copier) Next() killfeed.EventID { return c.link.at + 1 }

// Append appends events, the first of which is Next. It may be called again with the same events after an error, when they are cut to
// what Next says then.
func (c *Copier) Append(ctx context.Context, events []killfeed.Event) error {
	if len(events) > 0 && events[0].ID != c.Next() {
		return fmt.Errorf("event %d comes where the stream gives out %d", events[0].ID, c.Next())
	}
	for len(events) > 0 {
		c.n++
		b, rest, after := c.stream.cut(events, c.link, c.run+"."+strconv.Itoa(c.n))
		if err := c.stream.append(ctx, b, 10*c.stream.try, nil); err != nil {
			return err
		}
		events, c.link = rest, after
	}
	return nil
}

// Checkpoint is the chain at the event before Next. The store that has the events up to it takes it along.
func (c *Copier) Checkpoint() killfeed.Checkpoint { return c.link.checkpoint() }
