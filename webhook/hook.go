package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"killfeed"
)

// State is what a webhook does.
type State string

const (
	// Running: it posts what comes.
	Running State = "running"
	// Retrying: the last post did not work. What waits is tried again after a pause.
	Retrying State = "retrying"
	// Paused: the receiver refused too many in a row. Nothing is posted before Retry, or a restart.
	Paused State = "paused"
)

// Status is how a webhook is doing. Counts are since the program started.
type Status struct {
	Name   string `json:"name"`
	Format Format `json:"format"`
	// Host is all that is told of the address.
	Host  string    `json:"host"`
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Reason says why it is not Running, in words for everybody.
	Reason string `json:"reason,omitempty"`
	// Delivered counts the events that the receiver took, Failed the posts that did not work, Expired the events that became too
	// old, Gaps how often retention was faster.
	Delivered uint64 `json:"delivered"`
	Failed    uint64 `json:"failed"`
	Expired   uint64 `json:"expired"`
	Gaps      uint64 `json:"gaps"`
	// Died counts the events that became dead. Dead is how many are on the list now, Dropped how many left it because it was full.
	Died    uint64 `json:"died"`
	Dead    int    `json:"dead"`
	Dropped uint64 `json:"dropped"`
	// Lag is how long ago the oldest event that waits was received, in seconds; 0: none waits.
	Lag float64 `json:"lag_seconds"`
	// LastStatus is the receiver's last HTTP status, 0 when it did not answer; LastError what went wrong, for the operator: it
	// may tell of the receiver's network.
	LastStatus    int        `json:"last_status,omitempty"`
	LastError     string     `json:"last_error,omitempty"`
	LastDelivered *time.Time `json:"last_delivered,omitempty"`
	NextAttempt   *time.Time `json:"next_attempt,omitempty"`
}

// Public is the status without what is for the operator only.
func (s Status) Public() Status {
	s.LastError = ""
	return s
}

// Hook is one webhook.
type Hook struct {
	set     *Set
	config  Config
	target  *url.URL
	secrets []string
	limit   *rate.Limiter
	dead    *deadList
	kick    chan struct{} // cap 1: somebody asked for a retry

	testing sync.Mutex // held through a Test: one at a time

	mu     sync.Mutex // guards the rest; held for a copy
	status Status     // without Lag, Dead and Dropped
	oldest time.Time  // when the oldest waiting event was received, zero when none waits
	again  bool       // Retry was called, and the dead were not sent yet
}

// Name is the webhook's name.
func (h *Hook) Name() string { return h.config.Name }

// Client is the name under which the feed keeps the webhook's place.
func (h *Hook) Client() string { return "webhook:" + h.config.Name }

// Status returns how it is doing.
func (h *Hook) Status() Status {
	h.mu.Lock()
	s, oldest := h.status, h.oldest
	h.mu.Unlock()
	s.Dead, s.Dropped = h.dead.count()
	if !oldest.IsZero() {
		s.Lag = max(0, time.Since(oldest).Seconds())
	}
	return s
}

// Dead returns the dead events, ascending by id.
func (h *Hook) Dead() []Dead { return h.dead.list() }

// Retry has all dead events sent again, one by one and whatever their age is, and then the webhook go on at once if it was paused
// or waited. It returns how many are dead, and does not wait for them.
func (h *Hook) Retry() int {
	h.mu.Lock()
	h.again = true
	h.mu.Unlock()
	ring(h.kick)
	n, _ := h.dead.count()
	return n
}

// Tested is what came of a Test.
type Tested struct {
	// Taken: the receiver answered 2xx.
	Taken bool `json:"taken"`
	// Status is the answer's, 0 without one.
	Status int `json:"status,omitempty"`
	// Reason says what went wrong, Answer is how the answer began.
	Reason string  `json:"reason,omitempty"`
	Answer string  `json:"answer,omitempty"`
	Took   float64 `json:"took_seconds"`
}

// Test posts a message that says that it is one, and returns what came of it, within 10 s. It is no event: nothing is counted.
func (h *Hook) Test(ctx context.Context) (Tested, error) {
	h.testing.Lock()
	defer h.testing.Unlock()
	begun := time.Now()
	header := h.header()
	header.Set("Killfeed-Test", "1")
	body, err := h.testBody(begun)
	if err != nil {
		return Tested{}, err
	}
	o := h.post(ctx, body, header)
	return Tested{Taken: o.verdict == taken, Status: o.status, Reason: o.reason, Answer: o.answer, Took: time.Since(begun).Seconds()}, nil
}

func (h *Hook) header() http.Header {
	header := http.Header{}
	if h.config.Format == JSON {
		header.Set("Killfeed-Webhook", h.config.Name)
	}
	return header
}

// Run posts what comes until ctx or the feed ends, and returns nil then. Another error is the feed's, such as
// killfeed.ErrReplaced when somebody else reads under the webhook's client.
func (h *Hook) Run(ctx context.Context) error {
	for {
		err := h.follow(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, killfeed.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("webhook %q: %w", h.config.Name, err)
		}
	}
}

// change changes the status.
func (h *Hook) change(f func(*Status)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.status.State
	f(&h.status)
	if h.status.State != before {
		h.status.Since = time.Now().UTC()
	}
}

// ring tells a channel of capacity 1 that there is something; once is enough.
func ring(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
