// Package zkillws follows zKillboard's websocket, or what speaks as it does.
//
// # What it guarantees
//
// Each message of the channel killstream, which is a whole killmail, is inserted before the next one is read. A littlekill
// message, which only names a killmail, is inserted when ESI has given the body; meanwhile further messages are read. A
// connection that breaks, does not answer a ping, or is silent for ten minutes is made anew, with growing waits.
//
// # What it cannot guarantee
//
// The websocket has no numbers and repeats nothing: what is published while there is no connection, or while ESI's bodies are
// awaited at the end of the process, is lost to it. A second source, or backfill, brings what is missing. Only kills of the
// last day are published, and on channels other than killstream only those of victims with a name. Since August 2025
// zKillboard leaves the hash out of littlekill messages; without it nothing can be fetched, and such messages are counted as
// bad.
package zkillws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/esi"
	"killfeed/ingest/upstream"
)

const (
	// DefaultURL is zKillboard's.
	DefaultURL = "wss://zkillboard.com/websocket/"
	// Killstream is the channel of whole killmails, All that of all littlekill messages.
	Killstream = "killstream"
	All        = "all:*"

	// maxMessage bounds a message. The largest killmails known have 1 MB.
	maxMessage = 2 << 20
	// maxChannels bounds Config.Channels.
	maxChannels = 100
	// maxSilence is how long a connection may bring nothing. A kill happens every few seconds but for the daily downtime, and
	// connections are known to stay open and silent for hours.
	maxSilence = 10 * time.Minute
	// dialTime is for connecting and subscribing, pingEvery and pongTime for looking whether the other end is still there.
	dialTime  = 30 * time.Second
	pingEvery = 30 * time.Second
	pongTime  = 15 * time.Second
	// steady is how long a connection must have lasted for the next failure to count as the first.
	steady = time.Minute
	// maxWaiting bounds the killmails whose bodies are awaited: hours of them.
	maxWaiting = 4096
)

// Config configures a Source.
type Config struct {
	// URL is that of the websocket; empty means DefaultURL.
	URL string
	// Channels are subscribed to; none means Killstream.
	Channels []string
	// UserAgent names the program and a contact, as upstream.Client.UserAgent does. It is required.
	UserAgent string
	// Transport replaces the network; nil means http.DefaultTransport. Answers to the handshake must have a body that is
	// writable.
	Transport http.RoundTripper
}

// Source follows a websocket. It implements ingest.Source.
type Source struct {
	config Config
	esi    *esi.Client
}

// New makes a Source that has bodies from bodies. Without, which is nil, littlekill messages are counted as bad.
func New(bodies *esi.Client, c Config) (*Source, error) {
	if c.URL == "" {
		c.URL = DefaultURL
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "ws" && u.Scheme != "wss" && u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("URL of a websocket %q is not accepted: want as in %s", c.URL, DefaultURL)
	}
	if strings.TrimSpace(c.UserAgent) == "" {
		return nil, errors.New("no user agent is set: upstreams want to know who asks")
	}
	if len(c.Channels) == 0 {
		c.Channels = []string{Killstream}
	}
	if len(c.Channels) > maxChannels {
		return nil, fmt.Errorf("%d channels are too many: want at most %d", len(c.Channels), maxChannels)
	}
	for _, ch := range c.Channels {
		if ch == "" || len(ch) > 128 || !utf8.ValidString(ch) {
			return nil, fmt.Errorf("channel %.60q is not accepted: want one as in %s or %s", ch, Killstream, All)
		}
	}
	return &Source{config: c, esi: bodies}, nil
}

// follower is one run of a Source.
type follower struct {
	*Source
	in      *ingest.Intake
	waiting chan esi.Item // closed by nobody
	// connected: there is a connection, so whoever fetches may say so when ESI answers again.
	connected atomic.Bool
	// seen are the killmails named lately, so that one on several channels is fetched once. Owned by the reading goroutine.
	seen    map[int64]struct{}
	ring    [maxWaiting]int64
	ringEnd int
}

// Follow implements ingest.Source.
func (s *Source) Follow(ctx context.Context, in *ingest.Intake) error {
	f := &follower{Source: s, in: in, waiting: make(chan esi.Item, maxWaiting), seen: map[int64]struct{}{}}
	// The first that cannot go on, the reader or one of those that fetch, ends all.
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	if s.esi != nil {
		for range s.esi.Concurrency() {
			wg.Go(func() { cancel(f.fill(ctx)) })
		}
	}
	var backoff upstream.Backoff
	for {
		begun := time.Now()
		err := f.connection(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if taking, ok := errors.AsType[*takeError](err); ok {
			return taking.err
		}
		if time.Since(begun) > steady {
			backoff.Reset()
		}
		wait := backoff.Next(upstream.RetryAfter(err))
		in.Troubled(err, fmt.Sprintf("connected again in %v", wait.Round(time.Second)))
		if err := upstream.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// takeError is that of an Intake: no other connection would help.
type takeError struct{ err error }

func (e *takeError) Error() string { return e.err.Error() }

// connection is one connection, to its end.
func (f *follower) connection(ctx context.Context) error {
	c, err := f.dial(ctx)
	if err != nil {
		return err
	}
	// Closing with a handshake could take as long as the other end likes.
	defer c.CloseNow()
	f.in.Is(ingest.Following, "")
	f.connected.Store(true)
	defer f.connected.Store(false)

	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { cancel(keepAlive(ctx, c)) })
	for {
		reading, stop := context.WithTimeoutCause(ctx, maxSilence, fmt.Errorf("nothing came for %v", maxSilence))
		kind, data, err := c.Read(reading)
		cause := context.Cause(reading)
		stop()
		switch {
		case cause != nil:
			return fmt.Errorf("websocket of %s: %w", f.config.URL, cause)
		case err != nil:
			return fmt.Errorf("websocket of %s: %w", f.config.URL, err)
		}
		if err := f.message(ctx, kind, data); err != nil {
			return err
		}
	}
}

// dial connects and subscribes.
func (f *follower) dial(ctx context.Context) (*websocket.Conn, error) {
	dialing, cancel := context.WithTimeoutCause(ctx, dialTime, fmt.Errorf("no connection within %v", dialTime))
	defer cancel()
	c, answer, err := websocket.Dial(dialing, f.config.URL, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: f.config.Transport},
		HTTPHeader: http.Header{"User-Agent": {f.config.UserAgent}},
	})
	if err != nil {
		e := &upstream.Error{Class: upstream.ErrNetwork, URL: f.config.URL, Err: err}
		if cause := context.Cause(dialing); cause != nil {
			e.Err = cause
		}
		if answer != nil {
			e.Status, e.Header = answer.StatusCode, answer.Header
			e.RetryAfter = retryAfter(answer)
		}
		return nil, e
	}
	c.SetReadLimit(maxMessage)
	for _, ch := range f.config.Channels {
		text, _ := json.Marshal(map[string]string{"action": "sub", "channel": ch}) // never fails for strings
		if err := c.Write(dialing, websocket.MessageText, text); err != nil {
			c.CloseNow()
			return nil, fmt.Errorf("subscribing to %s at %s: %w", ch, f.config.URL, err)
		}
	}
	return c, nil
}

// retryAfter is the wait that a refused handshake asks for: what it says, and at least half a minute for a 403 and 429.
func retryAfter(answer *http.Response) time.Duration {
	wait := time.Duration(0)
	if d, err := time.ParseDuration(strings.TrimSpace(answer.Header.Get("Retry-After")) + "s"); err == nil {
		wait = min(max(d, 0), time.Hour)
	}
	if answer.StatusCode == http.StatusForbidden || answer.StatusCode == http.StatusTooManyRequests {
		wait = max(wait, 30*time.Second)
	}
	return wait
}

// keepAlive pings until ctx ends or no answer comes. Its error is what to end the connection for; nil when ctx ended.
func keepAlive(ctx context.Context, c *websocket.Conn) error {
	for upstream.Sleep(ctx, pingEvery) == nil {
		pinging, cancel := context.WithTimeout(ctx, pongTime)
		err := c.Ping(pinging)
		cancel()
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("no answer to a ping within %v: %w", pongTime, err)
		}
	}
	return nil
}

// message takes one message. Its error is a takeError.
func (f *follower) message(ctx context.Context, kind websocket.MessageType, data []byte) error {
	if kind != websocket.MessageText || !utf8.Valid(data) {
		f.in.Bad("message that is no text", fmt.Errorf("message of %d bytes is no text in UTF-8", len(data)))
		return nil
	}
	var head struct {
		Action string `json:"action"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		f.in.Bad("message", fmt.Errorf("message is not JSON as expected: %w", err))
		return nil
	}
	switch head.Action {
	case "littlekill":
		f.named(data)
		return nil
	case "":
	default: // the state of the server, messages for visitors, and what else there may be
		return nil
	}
	k, err := killfeed.ParseItem(data)
	switch {
	case errors.Is(err, killfeed.ErrNeedsESI):
		f.named(data)
		return nil
	case err != nil:
		f.in.Bad("killmail", err)
		return nil
	}
	if err := f.in.Take(ctx, "", k); err != nil {
		return &takeError{err}
	}
	return nil
}

// named puts a killmail that is only named on the list of those to be fetched.
func (f *follower) named(data []byte) {
	it, err := esi.ReadItem(data)
	switch {
	case errors.Is(err, esi.ErrNoHash):
		f.in.Bad("littlekill without a hash", fmt.Errorf("%w: zKillboard leaves it out since August 2025; follow R2Z2, or the "+
			"channel %s where there is one", err, Killstream))
		return
	case err != nil:
		f.in.Bad("littlekill", err)
		return
	case f.esi == nil:
		f.in.Bad("littlekill without ESI", errors.New("bodies would have to be fetched from ESI, which is switched off"))
		return
	}
	if _, ok := f.seen[it.ID]; ok {
		return
	}
	select {
	case f.waiting <- it:
	default:
		f.in.Bad("littlekill beyond what can wait", fmt.Errorf("%d killmails wait for their bodies already", maxWaiting))
		return
	}
	delete(f.seen, f.ring[f.ringEnd])
	f.ring[f.ringEnd] = it.ID
	f.ringEnd = (f.ringEnd + 1) % len(f.ring)
	f.seen[it.ID] = struct{}{}
}

// fill fetches bodies and takes them, until ctx ends or nothing can be taken.
func (f *follower) fill(ctx context.Context) error {
	for {
		var it esi.Item
		select {
		case it = <-f.waiting:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		k, err := f.esi.FillPatiently(ctx, f.in, it)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			f.in.Bad("killmail without a body", err)
			continue
		}
		if f.connected.Load() {
			f.in.Is(ingest.Following, "")
		}
		if err := f.in.Take(ctx, "", k); err != nil {
			return err
		}
	}
}
