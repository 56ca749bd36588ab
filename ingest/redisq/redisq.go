// Package redisq follows a service that speaks as zKillboard's RedisQ did: another killfeed, EVE-KILL, or a mirror. The service
// keeps a queue for each queueID and hands out one killmail a request.
//
// # What it guarantees
//
// There is one request at a time and a second of silence after each, so at most two a second where the service redirects. A
// killmail that came without a body is remembered with the place until ESI has given the body or refused it, so that it
// outlives a restart.
//
// # What it cannot guarantee
//
// The service hands a killmail out once. What is lost on the way, or with a process that is killed between reading an answer
// and inserting it, does not come again; and a queue is forgotten some hours after its last request (three at zKillboard). A
// second source, or backfill, brings what is missing.
package redisq

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/esi"
	"killfeed/ingest/upstream"
)

const (
	// ttw is how long the service is asked to wait for a killmail, in seconds; it may take a little longer.
	ttw = 10
	// pause is the silence after each answer. The service's limit is two requests a second, and a redirect is one too.
	pause = time.Second
	// maxPackage bounds an answer.
	maxPackage = 8 << 20
	// maxPending bounds a package without a body that is kept with the place.
	maxPending = 32 << 10
	// firstForbidden and mostForbidden bound the silence after a 403.
	firstForbidden = 30 * time.Second
	mostForbidden  = 10 * time.Minute
)

// Config configures a Source.
type Config struct {
	// URL is the endpoint, as in https://feed.example.com/listen.php. A query in it is sent along.
	URL string
	// QueueID names the queue, 1 to 64 printable bytes. Empty: one is drawn at the first start and kept.
	QueueID string
}

// Source follows a RedisQ. It implements ingest.Source.
type Source struct {
	endpoint *url.URL
	queueID  string
	client   *upstream.Client
	esi      *esi.Client
}

// New makes a Source that asks by client, and by bodies for what comes without a body. Without bodies, which may be nil, such
// killmails are counted as bad.
func New(client *upstream.Client, bodies *esi.Client, c Config) (*Source, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("URL of a RedisQ %q is not accepted: want as in https://feed.example.com/listen.php", c.URL)
	}
	unprintable := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(c.QueueID) > 64 || strings.ContainsFunc(c.QueueID, unprintable) {
		return nil, fmt.Errorf("queue id %.80q is not accepted: want 1 to 64 printable ASCII characters without a space", c.QueueID)
	}
	return &Source{endpoint: u, queueID: c.QueueID, client: client, esi: bodies}, nil
}

// place is what is remembered: as JSON, the queue, and the package whose body is missing.
type place struct {
	Queue   string          `json:"queue"`
	Pending json.RawMessage `json:"pending,omitempty"`
}

func (p place) String() string {
	text := fmt.Appendf(nil, `{"queue":%q`, p.Queue) // printable ASCII: quoted in Go is quoted in JSON
	if p.Pending != nil {
		text = append(append(text, `,"pending":`...), p.Pending...) // as it came; json.Marshal would write it anew
	}
	return string(append(text, '}'))
}

// Follow implements ingest.Source.
func (s *Source) Follow(ctx context.Context, in *ingest.Intake) error {
	at, err := s.begin(ctx, in)
	if err != nil {
		return err
	}
	if at.Pending != nil {
		if err := s.fill(ctx, in, at); err != nil {
			return err
		}
		at.Pending = nil
	}
	u := *s.endpoint
	q := u.Query()
	q.Set("queueID", at.Queue)
	q.Set("ttw", strconv.Itoa(ttw))
	u.RawQuery = q.Encode()
	backoff, forbidden := upstream.Backoff{}, upstream.Backoff{Least: firstForbidden, Most: mostForbidden}
	for {
		answer, err := s.client.Get(ctx, u.String(), maxPackage)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var item []byte
		if err == nil {
			item, err = packageOf(answer.Body)
		}
		if err != nil {
			wait := time.Duration(0)
			if errors.Is(err, upstream.ErrForbidden) {
				wait = forbidden.Next(upstream.RetryAfter(err))
			} else {
				wait = backoff.Next(upstream.RetryAfter(err))
			}
			in.Troubled(err, fmt.Sprintf("asked again in %v", wait.Round(time.Second)))
			if err := upstream.Sleep(ctx, wait); err != nil {
				return err
			}
			continue
		}
		backoff.Reset()
		forbidden.Reset()
		in.Is(ingest.Following, "")
		if item != nil {
			if err := s.take(ctx, in, at, item); err != nil {
				return err
			}
		}
		if err := upstream.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// begin reads the place, or makes it at the first start.
func (s *Source) begin(ctx context.Context, in *ingest.Intake) (at place, err error) {
	text, err := in.Place()
	if err != nil {
		return at, fmt.Errorf("reading the place in %s: %w", s.endpoint.Host, err)
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), &at); err != nil {
			return at, fmt.Errorf("the place in %s that was remembered cannot be read: %w", s.endpoint.Host, err)
		}
	}
	queue := at.Queue
	switch {
	case s.queueID != "":
		queue = s.queueID
	case queue == "":
		var b [8]byte
		rand.Read(b[:]) // never fails
		queue = "killfeed-" + hex.EncodeToString(b[:])
	}
	if queue == at.Queue {
		return at, nil
	}
	at.Queue = queue
	return at, in.Take(ctx, at.String())
}

// packageOf is the package of an answer as it is to be read; nil when there was no killmail.
func packageOf(answer []byte) ([]byte, error) {
	var doc struct {
		Package json.RawMessage `json:"package"`
	}
	if err := json.Unmarshal(answer, &doc); err != nil {
		return nil, fmt.Errorf("the answer is no package: %w", err)
	}
	switch {
	case doc.Package == nil:
		return nil, fmt.Errorf("the answer has no member package: %.100q", answer)
	case bytes.Equal(doc.Package, []byte("null")):
		return nil, nil
	}
	return answer, nil
}

// take takes one package.
func (s *Source) take(ctx context.Context, in *ingest.Intake, at place, item []byte) error {
	k, err := killfeed.ParseItem(item)
	switch {
	case err == nil && !utf8.Valid(k.JSON):
		in.Bad("not UTF-8", fmt.Errorf("killmail %d is not in UTF-8", k.ID))
		return nil
	case err == nil:
		return in.Take(ctx, at.String(), k)
	case !errors.Is(err, killfeed.ErrNeedsESI):
		in.Bad("package", err)
		return nil
	case s.esi == nil:
		in.Bad("package without a killmail", errors.New("its body would have to be fetched from ESI, which is switched off"))
		return nil
	case len(item) > maxPending:
		in.Bad("package too large", fmt.Errorf("package without a killmail has %d bytes: want at most %d", len(item), maxPending))
		return nil
	}
	at.Pending = item
	if err := in.Take(ctx, at.String()); err != nil {
		return err
	}
	return s.fill(ctx, in, at)
}

// fill takes the pending package, with its body from ESI, and moves the place behind it.
func (s *Source) fill(ctx context.Context, in *ingest.Intake, at place) error {
	behind := place{Queue: at.Queue}
	if s.esi == nil {
		return in.Take(ctx, behind.String())
	}
	it, err := esi.ReadItem(at.Pending)
	if err != nil {
		in.Bad("package without a killmail", err)
		return in.Take(ctx, behind.String())
	}
	k, err := s.esi.FillPatiently(ctx, in, it)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		in.Bad("killmail without a body", err)
		return in.Take(ctx, behind.String())
	}
	in.Is(ingest.Following, "")
	return in.Take(ctx, behind.String(), k)
}
