// Package esi fetches the bodies of killmails from ESI, EVE Online's public API, and beside them what else is asked of it.
//
// # What it guarantees
//
// A body that is returned is the killmail that was asked for: its id is right, and its hash where it can be computed. ESI's
// limits are kept by the account of this Client, so all that fetch behind one address should share one: the tokens of the
// bucket are not overspent and some are left to others, Retry-After is obeyed, and the fetching stops before the limit of
// errors is reached. What is not a killmail is asked for aside: one request at a time, not often, behind killmails that wait, and
// not at all while 40 of the 100 errors allowed in a minute are used up.
//
// What ESI says of a pair of id and hash is final: after a *RefusedError it is not asked again. What ESI cannot answer at the moment is
// asked again with growing waits, for as long as Config.Patience.
//
// The caller owes a context that ends some time.
package esi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/upstream"
)

const (
	// DefaultURL is ESI itself.
	DefaultURL = "https://esi.evetech.net"
	// CompatibilityDate is the date of the ESI that this package was written against. Without one ESI answers as it was at its
	// oldest.
	CompatibilityDate = "2026-06-01"

	// maxBody bounds a body. The largest killmails known have 1 MB.
	maxBody = 8 << 20
	// maxConcurrency bounds Config.Concurrency.
	maxConcurrency = 64
	// every is the least time between two requests. It is more than that of an upstream.Client (DefaultEvery), so that a request
	// that may be sent is sent at once: one that waited there would go out even when ESI said meanwhile that it wants silence.
	every = 120 * time.Millisecond
	// longestWait bounds the waits between tries of one body.
	longestWait = time.Minute
	// maxWrong is how often a body may be wrong that is JSON all the same, before it is believed to stay so.
	maxWrong = 3
)

// Header is what every request to ESI has: the upstream.Client that a Client uses must send it.
func Header() http.Header { return http.Header{"X-Compatibility-Date": {CompatibilityDate}} }

// Config configures a Client.
type Config struct {
	// URL is ESI's base URL; empty means DefaultURL.
	URL string
	// Concurrency is how many requests may be under way at a time, 1 to 64; 0 means 8.
	Concurrency int
	// Patience is how long a body is asked for again when ESI does not answer as it should; 0 means 5 min. Waits for ESI's
	// limits count too.
	Patience time.Duration
	// Logger is told of what ESI sends that is not right; nil discards.
	Logger *slog.Logger
}

// RefusedError: ESI has no body for this id and hash, and asking again will not help.
type RefusedError struct {
	ID   int64
	Hash string
	// Status is ESI's: 404 for an id that it does not know, 422 for a hash that is not this killmail's, another 4xx for a
	// request that it does not understand.
	Status int
	// Text is the beginning of what it said.
	Text string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("ESI has no killmail %d with the hash %s: status %d, %.200q", e.ID, e.Hash, e.Status, e.Text)
}

// ErrWrongBody: ESI gives, again and again, a body that is not the killmail that was asked for: its id is another one, or its
// hash is not what is computed from it.
var ErrWrongBody = errors.New("ESI gives a body that is not the killmail that was asked for")

// ErrUnavailable: ESI did not answer as it should, for as long as Config.Patience. Asking again later may help.
var ErrUnavailable = errors.New("ESI does not answer as it should; it is worth asking again later")

// Client fetches bodies. Its methods may be called concurrently.
type Client struct {
	base        string
	patience    time.Duration
	concurrency int
	log         *slog.Logger
	http        *upstream.Client
	limits      *limits
	killmails   bucket
	asides      [routes]bucket
}

// New makes a Client that asks by client, which must send Header, and whose rate should be the default one or higher.
func New(client *upstream.Client, c Config) (*Client, error) {
	if c.URL == "" {
		c.URL = DefaultURL
	}
	if c.Concurrency == 0 {
		c.Concurrency = 8
	}
	if c.Patience == 0 {
		c.Patience = 5 * time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("URL of ESI %q is not accepted: want as in %s", c.URL, DefaultURL)
	}
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		return nil, fmt.Errorf("number of requests to ESI at a time %d is not accepted: want 1 to %d", c.Concurrency, maxConcurrency)
	}
	made := &Client{
		base: strings.TrimRight(c.URL, "/"), patience: c.Patience, concurrency: c.Concurrency, log: c.Logger, http: client,
		limits: newLimits(every), killmails: bucket{slots: make(chan struct{}, c.Concurrency)},
	}
	one := make(chan struct{}, 1)
	for i := range made.asides {
		made.asides[i] = bucket{slots: one, aside: true}
	}
	return made, nil
}

// Concurrency is how many calls can make progress at a time.
func (c *Client) Concurrency() int { return c.concurrency }

// Body returns the body of a killmail as ESI gives it. Errors are a *RefusedError, ErrWrongBody, ErrUnavailable, wrapped with
// what went wrong last, or the cause of ctx.
func (c *Client) Body(ctx context.Context, id int64, hash string) ([]byte, error) {
	body, _, err := c.fetch(ctx, Item{ID: id, Hash: hash})
	return body, err
}

// Fill returns the killmail that an item names. Errors are those of Body, and a *killfeed.InvalidError for a zkb that cannot
// be accepted.
func (c *Client) Fill(ctx context.Context, it Item) (*killfeed.Killmail, error) {
	if it.ZKB != nil { // or the fault would be looked for in the body, again and again
		var zkb map[string]json.RawMessage
		if err := json.Unmarshal(it.ZKB, &zkb); err != nil {
			return nil, killfeed.Invalid("zkb", string(it.ZKB), "an object")
		}
	}
	_, k, err := c.fetch(ctx, it)
	return k, err
}

// fetch asks until there is an answer that is right or final.
func (c *Client) fetch(ctx context.Context, it Item) ([]byte, *killfeed.Killmail, error) {
	hash, ok := lowerHash(it.Hash)
	if it.ID < 1 || !ok {
		return nil, nil, killfeed.Invalid("hash", it.Hash, "a killmail_id from 1 on and a hash of 40 hex digits")
	}
	it.Hash = hash
	address := fmt.Sprintf("%s/killmails/%d/%s/", c.base, it.ID, it.Hash)
	trying, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	backoff := upstream.Backoff{Most: longestWait}
	var last error
	for wrong := 0; ; {
		body, k, err := c.try(trying, address, it)
		if err == nil {
			return body, k, nil
		}
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			return nil, nil, refused
		}
		if errors.Is(err, ErrWrongBody) {
			if wrong++; wrong == maxWrong {
				return nil, nil, err
			}
		}
		if trying.Err() == nil {
			last = err
			// What ESI asked for is waited for by the limits: for all requests, not for this one alone.
			_ = upstream.Sleep(trying, backoff.Next(0))
		}
		if trying.Err() != nil {
			if last == nil {
				last = errors.New("its limits left no room")
			}
			return nil, nil, fmt.Errorf("killmail %d: %w: %w", it.ID, ErrUnavailable, last)
		}
	}
}

// try asks once.
func (c *Client) try(ctx context.Context, address string, it Item) ([]byte, *killfeed.Killmail, error) {
	if err := c.limits.begin(ctx, &c.killmails); err != nil {
		return nil, nil, err
	}
	answer, err := c.http.Get(ctx, address, maxBody)
	if err != nil {
		e, ok := errors.AsType[*upstream.Error](err)
		if !ok {
			c.limits.end(&c.killmails, 0, nil)
			return nil, nil, err
		}
		c.limits.end(&c.killmails, e.Status, e.Header)
		if final(e) {
			return nil, nil, &RefusedError{ID: it.ID, Hash: it.Hash, Status: e.Status, Text: string(e.Body)}
		}
		return nil, nil, err
	}
	c.limits.end(&c.killmails, http.StatusOK, answer.Header)
	k, err := it.join(answer.Body)
	if err != nil {
		c.log.Warn("ESI's answer is not the killmail that was asked for; it is asked again", "killmail_id", it.ID, "err", err)
		if json.Valid(answer.Body) {
			err = fmt.Errorf("%w: %w", ErrWrongBody, err)
		}
		return nil, nil, fmt.Errorf("asking for %s: %w", address, err)
	}
	return answer.Body, k, nil
}

// final tells whether an answer is ESI's last word on a killmail.
func final(e *upstream.Error) bool {
	if e.Status < 400 || e.Status > 499 {
		return false
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests, statusErrorLimited:
		return false
	}
	return true
}

// FillPatiently is Fill that goes on through ErrUnavailable until ctx ends. in is told each time.
func (c *Client) FillPatiently(ctx context.Context, in *ingest.Intake, it Item) (*killfeed.Killmail, error) {
	for {
		k, err := c.Fill(ctx, it)
		if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return k, err
		}
		in.Troubled(err, "its body is asked for again")
	}
}
