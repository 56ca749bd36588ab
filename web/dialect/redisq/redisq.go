package redisq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"killfeed"
	"killfeed/web"
	"killfeed/web/dialect/internal/pack"
)

// defaultMaxTTL is RedisQ's: three hours.
const defaultMaxTTL = 3 * time.Hour

// Options configure the dialect. The zero value is RedisQ as it was.
type Options struct {
	// MaxTTL is the longest that a queue is remembered when nobody asks for it, and how long it is when the caller does not
	// say. Whole seconds; 0 means 3 h. With more of it than a restart of a client ever takes, clients miss nothing, unless
	// retention removes it first.
	MaxTTL time.Duration
	// ByAddress gives callers without a queueID one of their address and User-Agent, as RedisQ did until 2025. Behind a proxy
	// that the API does not trust all have its address, so that only their programs tell them apart. Without it they are answered 429.
	ByAddress bool
	// Logger is told of what went wrong on this side; nil discards.
	Logger *slog.Logger
}

// Dialect serves RedisQ. Run must be running for queues that are over to be forgotten.
type Dialect struct {
	api       *web.API
	feed      *killfeed.Feed
	maxTTL    time.Duration
	byAddress bool
	log       *slog.Logger
	queues    queues
	shelf     pack.Shelf
}

// Mount adds RedisQ's paths to an API: /listen.php, also as /listen and /redisq, and /object.php.
func Mount(api *web.API, feed *killfeed.Feed, o Options) (*Dialect, error) {
	d := &Dialect{api: api, feed: feed, maxTTL: o.MaxTTL, byAddress: o.ByAddress, log: o.Logger}
	d.queues.byID = map[string]*queue{}
	if d.maxTTL == 0 {
		d.maxTTL = defaultMaxTTL
	}
	if d.maxTTL < time.Second {
		return nil, fmt.Errorf("redisq: a queue cannot be remembered for %v: want a second at least", d.maxTTL)
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	routes := []web.Route{{Method: http.MethodGet, Path: "/object.php", Serve: d.object}}
	for _, path := range []string{"/listen.php", "/listen", "/redisq"} {
		routes = append(routes, web.Route{Method: http.MethodGet, Path: path, Plainly: true, Serve: d.listen})
	}
	return d, api.Mount(routes...)
}

// nothing is the answer when there is no killmail. Clients compare its bytes.
const nothing = `{"package":null}`

func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body) // an error means that the caller left, and nobody is there to be told
	}
}

// refuse answers with an error. RedisQ's clients look at the status; the text is for who wonders.
func refuse(w http.ResponseWriter, r *http.Request, status int, text string) {
	body, err := json.Marshal(map[string]string{"error": text})
	if err != nil { // not reached: it is a string
		body = []byte(`{}`)
	}
	write(w, r, status, body)
}

// listen answers with the next killmail of a queue.
func (d *Dialect) listen(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead { // it takes nothing out of the queue
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		return
	}
	c, err := d.parse(r)
	switch {
	case err != nil:
		d.fail(w, r, err)
		return
	case c.client == "":
		refuse(w, r, http.StatusTooManyRequests, "queueID is missing: choose one, and send it with every request, as in "+
			"/listen.php?queueID=my-bot; under it your position is kept")
		return
	}
	q := d.queues.take(c.client)
	if q == nil {
		w.Header().Set("Retry-After", "1")
		refuse(w, r, http.StatusTooManyRequests, "another request for this queueID is being answered: send one at a time, and give "+
			"each program a queueID of its own")
		return
	}
	ttl := time.Duration(0)
	defer func() { d.queues.give(c.client, q, ttl) }()
	if err := d.begin(r.Context(), &c, q); err != nil {
		d.fail(w, r, err)
		return
	}
	got, err := d.next(r.Context(), &c)
	if err == nil || r.Context().Err() != nil { // who hangs up was there until now
		ttl = c.ttl
	}
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if got.gap != nil {
		w.Header().Set("Killfeed-Gap", got.gap.String())
	}
	d.answer(w, r, &c, got)
}

// begin brings a queue to where it goes on: to now when it is over, behind what the caller acknowledges.
func (d *Dialect) begin(ctx context.Context, c *call, q *queue) error {
	if c.acked != nil && d.feed.State().Holds(*c.acked) {
		// Who has an ack knows where he was, however long ago. One of a log that is no more says nothing.
		_, err := d.feed.Commit(ctx, c.client, map[killfeed.Topic]killfeed.EventID{killfeed.All(): c.acked.After})
		return err
	}
	over, err := d.over(c.client, q, c.ttl)
	if err != nil || !over {
		return err
	}
	_, err = d.feed.Seek(ctx, c.client, killfeed.Latest, []killfeed.Topic{killfeed.All()})
	return err
}

// taken is what a queue gave.
type taken struct {
	events []killfeed.Event
	mails  []*pack.Mail // of the events
	gap    *killfeed.Gap
}

// next waits for the killmails that come next.
func (d *Dialect) next(ctx context.Context, c *call) (got taken, err error) {
	read := killfeed.Read{
		Topics: []killfeed.Topic{killfeed.All()}, Limit: max(c.limit, 1), Start: killfeed.Latest,
		Filter: c.filter, NoBackfill: !c.backfill, Manual: c.manual,
	}
	for until := time.Now().Add(c.ttw); ; {
		// The last look does not wait. That the feed has seen the caller at the end of his wait, and not only when it began,
		// is what a ttl counts from after a restart.
		read.Wait = max(0, time.Until(until))
		ans, err := d.feed.Fetch(ctx, c.client, read)
		if err != nil {
			return got, err
		}
		if ans.Gap != nil {
			got.tell(ans.Gap)
		}
		for i := range ans.Events {
			m := d.shelf.Open(&ans.Events[i])
			if m == nil || c.esi && m.HREF == "" {
				continue
			}
			got.events = append(got.events, ans.Events[i])
			got.mails = append(got.mails, m)
		}
		if len(got.mails) > 0 {
			return got, nil
		}
		if c.manual {
			if err := d.pass(ctx, c.client, &ans); err != nil {
				return got, err
			}
		}
		if read.Wait == 0 {
			return got, nil
		}
	}
}

// pass commits what a caller who acknowledges by himself will never be shown: what no package can show, and what is lost.
func (d *Dialect) pass(ctx context.Context, client string, ans *killfeed.Answer) error {
	var behind killfeed.EventID
	if n := len(ans.Events); n > 0 {
		behind = ans.Events[n-1].ID
	} else if ans.Gap != nil {
		behind = min(ans.Gap.To, ans.Head)
	}
	if behind == 0 {
		return nil
	}
	_, err := d.feed.Commit(ctx, client, map[killfeed.Topic]killfeed.EventID{killfeed.All(): behind})
	return err
}

// tell notes a gap, and joins it with one that was told in the same answer.
func (t *taken) tell(g *killfeed.Gap) {
	if t.gap == nil {
		t.gap = g
		return
	}
	t.gap = &killfeed.Gap{Reason: t.gap.Reason, From: min(t.gap.From, g.From), To: max(t.gap.To, g.To)}
}

// answer answers with what a queue gave.
func (d *Dialect) answer(w http.ResponseWriter, r *http.Request, c *call, got taken) {
	switch {
	case len(got.mails) == 0 && c.redirect:
		redirect(w, "/object.php?objectID=null")
	case len(got.mails) == 0 && c.limit > 0:
		write(w, r, http.StatusOK, []byte(`{"package":null,"packages":[]}`))
	case len(got.mails) == 0:
		write(w, r, http.StatusOK, []byte(nothing))
	case c.esi:
		redirect(w, got.mails[0].HREF)
	case c.redirect:
		to := "/object.php?objectID=" + killfeed.Cursor{After: got.events[0].ID, Epoch: d.feed.State().Epoch}.String()
		if c.bare {
			to += "&killmail=0"
		}
		redirect(w, to)
	default:
		write(w, r, http.StatusOK, d.encode(c, got))
	}
}

func redirect(w http.ResponseWriter, to string) {
	// Not by http.Redirect, which adds a page that nobody asked for.
	w.Header().Set("Location", to)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusFound)
}

// encode is the answer with packages in it. Those beyond the first, and the ack, are members that older clients do not look for.
func (d *Dialect) encode(c *call, got taken) []byte {
	size := 128
	for i, m := range got.mails {
		n := len(m.ESI) + len(m.ZKB) + 64
		if size += n; i == 0 && c.limit > 0 {
			size += n
		}
	}
	b := appendPackage(append(make([]byte, 0, size), `{"package":`...), got.mails[0], c.bare)
	if c.limit > 0 {
		b = append(b, `,"packages":[`...)
		for i, m := range got.mails {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendPackage(b, m, c.bare)
		}
		b = append(b, ']')
	}
	if c.manual {
		last := killfeed.Cursor{After: got.events[len(got.events)-1].ID, Epoch: d.feed.State().Epoch}
		b = append(last.Append(append(b, `,"ack":"`...)), '"')
	}
	return append(b, '}')
}

// appendPackage appends a package. Its members have RedisQ's order.
func appendPackage(b []byte, m *pack.Mail, bare bool) []byte {
	b = strconv.AppendInt(append(b, `{"killID":`...), m.ID, 10)
	if !bare {
		b = append(append(b, `,"killmail":`...), m.ESI...)
	}
	return append(append(append(b, `,"zkb":`...), m.ZKB...), '}')
}

// object answers with the package that a redirect led to. It stays the same, and so may be kept by caches.
func (d *Dialect) object(w http.ResponseWriter, r *http.Request) {
	id, bare := "", false
	err := eachPair(r.URL.RawQuery, func(name, value string) error {
		switch name {
		case "objectID":
			id = value
		case "killmail":
			bare = no(value)
		}
		return nil
	})
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if id == "null" {
		write(w, r, http.StatusOK, []byte(nothing))
		return
	}
	at, err := killfeed.ParseCursor(id)
	if err != nil || at.Epoch == "" || !d.feed.State().Holds(at) || at.String() != id {
		refuse(w, r, http.StatusNotFound, "objectID is missing, or none that this server gave: /listen.php?redirect=1 leads to one")
		return
	}
	e, err := d.feed.Event(at.After)
	if err != nil && !errors.Is(err, killfeed.ErrNotFound) {
		d.fail(w, r, err)
		return
	}
	var m *pack.Mail
	if err == nil {
		m = d.shelf.Open(&e)
	}
	if m == nil {
		refuse(w, r, http.StatusNotFound, "this object is not kept any more")
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=10800")
	body := make([]byte, 0, len(m.ESI)+len(m.ZKB)+80)
	write(w, r, http.StatusOK, append(appendPackage(append(body, `{"package":`...), m, bare), '}'))
}

// fail answers with an error of the feed, if anybody is there.
func (d *Dialect) fail(w http.ResponseWriter, r *http.Request, err error) {
	if ctx := r.Context(); ctx.Err() != nil && !errors.Is(context.Cause(ctx), killfeed.ErrClosed) {
		return
	}
	status, text := web.Status(err)
	switch {
	case errors.Is(err, killfeed.ErrTooManyClients):
		status, text = http.StatusServiceUnavailable, "the server has as many queues and clients as it may, and takes no new queueID: "+
			"use one that it knows, or ask its operator to delete some"
	case status >= http.StatusInternalServerError:
		d.log.Warn("a request for a queue could not be served", "status", status, "err", err)
		status = http.StatusServiceUnavailable
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	refuse(w, r, status, text)
}
