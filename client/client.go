package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// longestURL is what a URL is not longer than; a longer list goes into a body. Proxies take 8 KiB, killfeed itself 64.
	longestURL = 8000
	// maxAnswer bounds an answer: 16 MiB of killmails, of which the last may go beyond with its own 8 MiB, and what is around
	// them.
	maxAnswer = 64 << 20

	acceptStream = "text/event-stream"
)

// Options configure a [Client]. The zero value works.
type Options struct {
	// Token is sent as bearer token. What reads needs none.
	Token string
	// UserAgent says who you are, as in "my-bot/1.0 (me@example.com)".
	UserAgent string
	// HTTP sends the requests; nil: a client of its own, which takes proxies from the environment. A Timeout in it would end
	// streams: requests are bounded by Timeout below.
	HTTP *http.Client
	// Timeout is how long a request may take besides what it is told to wait; 0 means a minute. Streams have Silence.
	Timeout time.Duration
}

// Client talks to one server. Its methods may be called concurrently.
type Client struct {
	base    string // without a slash at the end
	options Options
	http    *http.Client
}

// New makes a client of the server, as in http://127.0.0.1:4004; a path in it stays. It opens no connection. The error says that
// the URL is none.
func New(server string, o Options) (*Client, error) {
	base, err := url.Parse(server)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil ||
		base.RawQuery != "" || base.Fragment != "" {
		return nil, fmt.Errorf("server %q is not accepted: want scheme, host and path, as in http://127.0.0.1:4004", server)
	}
	hc := &http.Client{}
	if o.HTTP != nil {
		*hc = *o.HTTP
	}
	// A redirect would turn a POST into a GET. The server never redirects, a proxy before it may: that is a *ProblemError.
	hc.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o.UserAgent = cmp.Or(o.UserAgent, "killfeed-go/0.1")
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	return &Client{base: strings.TrimRight(base.String(), "/"), options: o, http: hc}, nil
}

// Poll returns all events that the reader has not had, oldest first, each once.
func (c *Client) Poll(ctx context.Context, o PollOptions) (*Page, error) {
	var page Page
	res, err := c.read(ctx, "/api/killfeed", o, &page)
	if err != nil {
		return nil, err
	}
	if page.Epoch == "" {
		return nil, fmt.Errorf("%s answers %d with what is no page of events: is it a killfeed?", c.base, res.StatusCode)
	}
	return &page, nil
}

// Next returns the one event with the smallest id that the client has not had; a [Next] without Event when there is none. It
// needs [Read.ClientID], and ignores Limit.
func (c *Client) Next(ctx context.Context, o PollOptions) (*Next, error) {
	var found struct {
		Event
		Gap *Gap `json:"gap"`
	}
	res, err := c.read(ctx, "/api/killfeed/next", o, &found)
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusNoContent:
		return &Next{Gap: gapOfHeader(res.Header.Get("Killfeed-Gap")), More: res.Header.Get("Killfeed-More") == "1"}, nil
	case found.ID == 0:
		return nil, fmt.Errorf("%s answers with what is no event: is it a killfeed?", c.base)
	}
	return &Next{Event: &found.Event, Gap: found.Gap}, nil
}

// Commit says that a client has handled everything up to an event on some topics. at is a cursor, or an event id in decimal. It
// is on disk when Commit returns, and never moves back. Commit returns where the client then is on these topics.
func (c *Client) Commit(ctx context.Context, clientID, at string, on Selection) (map[string]uint64, error) {
	var answer struct{ Offsets map[string]uint64 }
	err := c.call(ctx, "/api/killfeed/commit", struct {
		ClientID string `json:"client_id"`
		EventID  string `json:"event_id"`
		Selection
	}{clientID, at, on}, &answer)
	return answer.Offsets, err
}

// Seek moves a client, back or forth. to is the first event to be delivered, in the forms of [Read.Start]. Without topics all of
// the client's are moved.
func (c *Client) Seek(ctx context.Context, clientID, to string, on Selection) (*Place, error) {
	var place Place
	err := c.call(ctx, "/api/clients/"+segment(clientID)+"/seek", struct {
		To string `json:"to"`
		Selection
	}{to, on}, &place)
	return &place, err
}

// Place returns where a client stands. An unknown one is a [*ProblemError] of status 404.
func (c *Client) Place(ctx context.Context, clientID string) (*Place, error) {
	var place Place
	err := c.call(ctx, "/api/clients/"+segment(clientID), nil, &place)
	return &place, err
}

// read sends a poll.
func (c *Client) read(ctx context.Context, path string, o PollOptions, answer any) (*http.Response, error) {
	query := o.query()
	ctx, cancel := context.WithTimeoutCause(ctx, o.Wait+c.options.Timeout, errLate)
	defer cancel()
	if target := path + "?" + query.Encode(); len(c.base)+len(target) <= longestURL {
		return c.json(ctx, http.MethodGet, target, nil, answer)
	}
	body := map[string]any{}
	for name := range query {
		body[name] = query.Get(name)
	}
	return c.json(ctx, http.MethodPost, path, body, answer)
}

// call sends a request whose body, when there is one, is JSON.
func (c *Client) call(ctx context.Context, path string, body, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Timeout, errLate)
	defer cancel()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	_, err := c.json(ctx, method, path, body, answer)
	return err
}

// json sends a request and decodes its answer, unless that is empty.
func (c *Client) json(ctx context.Context, method, target string, body, answer any) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	res, err := c.send(ctx, method, target, text, "application/json")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &ConnectionError{fmt.Errorf("the answer of %s broke off: %w", c.base, err)}
	case len(got) > maxAnswer:
		return nil, fmt.Errorf("the answer of %s is longer than %d bytes", c.base, maxAnswer)
	case res.StatusCode == http.StatusNoContent:
		return res, nil
	}
	if err := json.Unmarshal(got, answer); err != nil {
		return nil, fmt.Errorf("reading the answer of %s: %w", c.base, err)
	}
	return res, nil
}

// send sends a request and returns the answer when it is a success. Others become a *ProblemError, no answer at all a
// *ConnectionError, and the end of ctx its cause.
func (c *Client) send(ctx context.Context, method, target string, body []byte, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", accept)
	if accept == acceptStream {
		req.Header.Set("Accept-Encoding", "identity") // compressed, an event would wait in some buffer for the next one
	}
	req.Header.Set("User-Agent", c.options.UserAgent)
	if c.options.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.options.Token)
	}
	res, err := c.http.Do(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		var inURL *url.Error
		if errors.As(err, &inURL) { // its text repeats method and URL, which may be kilobytes
			err = inURL.Err
		}
		return nil, &ConnectionError{fmt.Errorf("%s cannot be reached: %w", c.base, err)}
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return res, nil
	}
	defer res.Body.Close()
	return nil, refusal(res)
}

// segment is a client's name as an element of a path. Those that are dots are tidied away unless they are encoded.
func segment(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}

// query is the parameters that say what to read and how.
func (r *Read) query() url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	systems := make([]string, len(r.Systems))
	for i, id := range r.Systems {
		systems[i] = strconv.FormatUint(uint64(id), 10)
	}
	set("systems", strings.Join(systems, ","))
	set("topics", strings.Join(r.Topics, ","))
	set("client_id", r.ClientID)
	set("after", r.After)
	set("start", r.Start)
	if r.MaxAge > 0 {
		set("max_age", strconv.FormatInt(int64((r.MaxAge+time.Second-1)/time.Second), 10))
	}
	if r.Updates {
		set("updates", "1")
	}
	set("filter", r.Filter)
	if r.Names {
		set("names", "1")
	}
	set("fields", strings.Join(r.Fields, ","))
	return q
}

func (o *PollOptions) query() url.Values {
	q := o.Read.query()
	if o.Limit != 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Wait != 0 {
		q.Set("wait", strconv.FormatFloat(o.Wait.Seconds(), 'f', -1, 64))
	}
	if o.Manual {
		q.Set("commit", "manual")
	}
	if o.NoBackfill {
		q.Set("backfill", "0")
	}
	return q
}
