// Package upstream is the HTTP client with which sources speak to their upstreams.
//
// # What it guarantees
//
// Manners: every request names the program, its version and somebody to write to, and a Client sends no more of them than its
// rate allows, however many goroutines use it. Without a contact there is no Client.
//
// Bounds: connecting, the TLS handshake, the wait for the answer's head and the whole request have time limits; no body is
// read further than the caller allows, also after unpacking.
//
// Classes: what went wrong is one of a few errors, so that a source decides by errors.Is what to do. A page in HTML where JSON
// was asked for is an error, whatever its status.
//
// Nothing is kept: no cookies, no cache. A cache in front of files that are written again would freeze a feed silently.
//
// A Client starts no goroutines of its own; those of its connections end with Close.
package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Classes of errors. They are wrapped in an *Error.
var (
	// ErrNotFound: 404 and 410.
	ErrNotFound = errors.New("not found")
	// ErrTooMany: 429, and ESI's 420. Error.RetryAfter says how long to wait, if the upstream did.
	ErrTooMany = errors.New("too many requests")
	// ErrForbidden: 401 and 403. R2Z2 says so to a blank User-Agent and to who is banned.
	ErrForbidden = errors.New("forbidden")
	// ErrServer: 5xx.
	ErrServer = errors.New("server error")
	// ErrStatus: any other status that is not 200.
	ErrStatus = errors.New("unexpected status")
	// ErrNotJSON: a page in HTML, or nothing, where JSON was asked for.
	ErrNotJSON = errors.New("not JSON")
	// ErrTooLarge: the body is larger than the caller allows.
	ErrTooLarge = errors.New("body is too large")
	// ErrNetwork: no connection, no answer in time, or one that was cut.
	ErrNetwork = errors.New("no answer")
)

// Error is a request that failed. Its text has the URL without its query.
type Error struct {
	// Class is one of the errors above.
	Class error
	// URL is what was asked for.
	URL string
	// Status is that of the answer, 0 without one.
	Status int
	// Header is that of the answer, nil without one.
	Header http.Header
	// Body is the beginning of the answer's body, at most 1 KiB.
	Body []byte
	// RetryAfter is how long the upstream asked to be left alone, 0 when it did not.
	RetryAfter time.Duration
	// Err is the cause; nil when the status says all.
	Err error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "asking for %s: %v", e.URL, e.Class)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (status %d)", e.Status)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, ", retry after %v", e.RetryAfter)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap makes errors.Is find the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Err}
}

// RetryAfter is what the upstream asked for with the error, 0 when it did not.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}

// Defaults of Config.
const (
	DefaultTimeout = 20 * time.Second
	DefaultEvery   = 125 * time.Millisecond
)

const (
	dialTimeout   = 10 * time.Second
	headTimeout   = 15 * time.Second
	idleTimeout   = 90 * time.Second
	maxRedirects  = 5
	maxErrorBody  = 1 << 10
	maxRetryAfter = time.Hour // a ban is said to last so long; whoever asks for more is asked again after it
	maxHead       = 64 << 10
)

// Config makes a Client.
type Config struct {
	// Version is the program's.
	Version string
	// Contact is a mail address or URL of whoever runs the program. It is required.
	Contact string
	// Project is the URL of the project, put into the User-Agent too; it may be empty.
	Project string
	// Every is the least time between two requests, on average; 0 means DefaultEvery, eight a second where ten are allowed:
	// the network moves requests closer together than they were sent.
	Every time.Duration
	// Burst is how many requests may come at once after a pause; 0 means 1.
	Burst int
	// Timeout is for a whole request with its body; 0 means DefaultTimeout.
	Timeout time.Duration
	// Header is sent with every request.
	Header http.Header
	// Transport replaces the network; nil means one of the Client's own.
	Transport http.RoundTripper
}

// Client asks one upstream. Its methods may be called concurrently.
type Client struct {
	agent   string
	header  http.Header
	timeout time.Duration
	http    *http.Client
	limiter *rate.Limiter

	mu     sync.Mutex // guards paused; held for its access
	paused time.Time  // no request leaves before
}

// New makes a Client. The error says what is wrong with the contact.
func New(c Config) (*Client, error) {
	if err := CheckContact(c.Contact); err != nil {
		return nil, err
	}
	if c.Every <= 0 {
		c.Every = DefaultEvery
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Transport == nil {
		c.Transport = transport()
	}
	agent := "killfeed/" + c.Version + " (" + c.Contact
	if c.Project != "" {
		agent += "; +" + c.Project
	}
	return &Client{
		agent: agent + ")", header: c.Header.Clone(), timeout: c.Timeout,
		http: &http.Client{Transport: c.Transport, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return fmt.Errorf("stopped after %d redirects", maxRedirects)
			}
			return nil
		}},
		limiter: rate.NewLimiter(rate.Every(c.Every), max(c.Burst, 1)),
	}, nil
}

func transport() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: headTimeout, IdleConnTimeout: idleTimeout,
		MaxIdleConnsPerHost: 8, MaxConnsPerHost: 16, MaxResponseHeaderBytes: maxHead,
		DisableCompression: true, // unpacked here, so that the bound is on what comes out
	}
}

// CheckContact returns an error unless contact is a mail address or a URL that can stand in a User-Agent.
func CheckContact(contact string) error {
	const want = "give a mail address or an http URL at which upstreams can reach whoever runs this"
	if contact == "" {
		return errors.New("no contact is set: " + want)
	}
	printable := len(contact) <= 200 && strings.IndexFunc(contact, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>";`, r)
	}) < 0
	ok := false
	if at := strings.LastIndexByte(contact, '@'); at > 0 && at < len(contact)-1 {
		ok = true
	} else if u, err := url.Parse(contact); err == nil {
		ok = (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
	}
	if !printable || !ok {
		return fmt.Errorf("contact %.64q is not accepted: %s", contact, want)
	}
	return nil
}

// UserAgent is what the Client calls itself, for connections that it does not make.
func (c *Client) UserAgent() string { return c.agent }

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Wait waits for the Client's rate, and for the end of a pause, to allow one more request. Get and Open do so themselves.
func (c *Client) Wait(ctx context.Context) error {
	for {
		if err := c.limiter.Wait(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		pause := time.Until(c.paused)
		c.mu.Unlock()
		if pause <= 0 {
			return nil
		}
		// Then once more by the rate: all that wait come back at the same moment.
		if err := Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// Pause keeps new requests back for a time, those that wait already included. A shorter pause does not end a longer one.
func (c *Client) Pause(d time.Duration) {
	until := time.Now().Add(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	if until.After(c.paused) {
		c.paused = until
	}
}

// Answer is an answer with the status 200.
type Answer struct {
	Header http.Header
	// Body is unpacked.
	Body []byte
	// Date is the upstream's time, zero when it did not say.
	Date time.Time
}

// Get asks for JSON of at most limit bytes. Errors are those of ctx, or an *Error.
func (c *Client) Get(ctx context.Context, address string, limit int64) (*Answer, error) {
	if err := c.Wait(ctx); err != nil {
		return nil, err
	}
	return c.Ask(ctx, address, limit)
}

// Post is Get for a question that is JSON itself. The rate is the same; a redirect may lose the question.
func (c *Client) Post(ctx context.Context, address string, question []byte, limit int64) (*Answer, error) {
	if err := c.Wait(ctx); err != nil {
		return nil, err
	}
	return c.ask(ctx, address, question, limit)
}

// Ask is Get for a caller that has called Wait itself.
func (c *Client) Ask(ctx context.Context, address string, limit int64) (*Answer, error) {
	return c.ask(ctx, address, nil, limit)
}

func (c *Client) ask(ctx context.Context, address string, question []byte, limit int64) (*Answer, error) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, body, err := c.send(ctx, address, question)
	if err != nil {
		if parent.Err() != nil {
			return nil, context.Cause(parent)
		}
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	fail := &Error{URL: shown(address), Status: res.StatusCode, Header: res.Header}
	switch {
	case parent.Err() != nil:
		return nil, context.Cause(parent)
	case err != nil:
		fail.Class, fail.Err = ErrNetwork, fmt.Errorf("reading the body: %w", err)
		return nil, fail
	case int64(len(data)) > limit:
		fail.Class, fail.Err = ErrTooLarge, fmt.Errorf("more than %d bytes", limit)
		return nil, fail
	case !looksLikeJSON(data):
		fail.Class, fail.Body = ErrNotJSON, data[:min(len(data), maxErrorBody)]
		return nil, fail
	}
	a := &Answer{Header: res.Header, Body: data}
	a.Date, _ = http.ParseTime(res.Header.Get("Date"))
	return a, nil
}

// looksLikeJSON tells JSON from the pages that a CDN sends with the status 200. It is no parser.
func looksLikeJSON(data []byte) bool {
	data = bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	return len(data) > 0 && data[0] != '<'
}

// Open asks for a large file of any kind. The time limit is on each read, which must bring something within the Client's
// timeout; limit is that of the unpacked bytes, beyond which reading is ErrTooLarge. The caller closes the stream. Its length
// is -1 when the upstream did not tell, and counts packed bytes.
func (c *Client) Open(ctx context.Context, address string, limit int64) (stream io.ReadCloser, length int64, err error) {
	if err := c.Wait(ctx); err != nil {
		return nil, 0, err
	}
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	watchdog := time.AfterFunc(c.timeout, func() { cancel(errStalled) })
	res, body, err := c.send(ctx, address, nil)
	watchdog.Stop() // it runs while something is waited for, and not while the caller works on what came
	if err != nil {
		cancel(nil)
		if parent.Err() != nil {
			return nil, 0, context.Cause(parent)
		}
		return nil, 0, err
	}
	return &streamed{
		ctx: ctx, cancel: cancel, watchdog: watchdog, timeout: c.timeout, body: body, closer: res.Body, left: limit,
		url: shown(address),
	}, res.ContentLength, nil
}

var errStalled = errors.New("nothing came for too long")

// streamed is the body of Open. It is used by one goroutine.
type streamed struct {
	ctx      context.Context // that of the request, for its cause; it ends with the stream
	cancel   context.CancelCauseFunc
	watchdog *time.Timer
	timeout  time.Duration
	body     io.Reader
	closer   io.Closer
	left     int64
	url      string
}

func (s *streamed) Read(p []byte) (int, error) {
	if s.left < 0 {
		return 0, &Error{Class: ErrTooLarge, URL: s.url, Status: http.StatusOK}
	}
	s.watchdog.Reset(s.timeout)
	n, err := s.body.Read(p)
	s.watchdog.Stop()
	s.left -= int64(n)
	if err != nil && err != io.EOF {
		if cause := context.Cause(s.ctx); cause != nil {
			err = cause
		}
		err = &Error{Class: ErrNetwork, URL: s.url, Status: http.StatusOK, Err: fmt.Errorf("reading the body: %w", err)}
	}
	return n, err
}

func (s *streamed) Close() error {
	s.watchdog.Stop()
	s.cancel(nil)
	return s.closer.Close()
}

// send sends a request, a GET unless there is a question. Without an error the answer is a 200, its body not read, and body reads
// it unpacked.
func (c *Client) send(ctx context.Context, address string, question []byte) (res *http.Response, body io.Reader, err error) {
	method, asked := http.MethodGet, io.Reader(nil)
	if question != nil {
		method, asked = http.MethodPost, bytes.NewReader(question)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, asked)
	if err != nil {
		return nil, nil, fmt.Errorf("address %.100q: %w", address, err)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	if question != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept-Encoding", "gzip")
	res, err = c.http.Do(req)
	if err != nil {
		// url.Error repeats the URL.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, nil, &Error{Class: ErrNetwork, URL: shown(address), Err: err}
	}
	body = res.Body
	if strings.EqualFold(res.Header.Get("Content-Encoding"), "gzip") {
		body = &lazyGzip{packed: res.Body}
	}
	if class := classOf(res.StatusCode); class != nil {
		e := &Error{Class: class, URL: shown(address), Status: res.StatusCode, Header: res.Header}
		e.RetryAfter = retryAfter(res.Header)
		e.Body, _ = io.ReadAll(io.LimitReader(body, maxErrorBody))
		// The rest, up to a bound, so that the connection can be used again.
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
		res.Body.Close()
		return nil, nil, e
	}
	return res, body, nil
}

// lazyGzip unpacks. The head of the packed stream is read with the first Read, where errors are the body's.
type lazyGzip struct {
	packed io.Reader
	z      *gzip.Reader
	err    error
}

func (l *lazyGzip) Read(p []byte) (int, error) {
	if l.z == nil && l.err == nil {
		if l.z, l.err = gzip.NewReader(l.packed); l.err == io.EOF {
			l.err = io.ErrUnexpectedEOF
		}
	}
	if l.err != nil {
		return 0, l.err
	}
	return l.z.Read(p)
}

func classOf(status int) error {
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusNotFound, status == http.StatusGone:
		return ErrNotFound
	case status == http.StatusTooManyRequests, status == 420:
		return ErrTooMany
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return ErrForbidden
	case status >= 500:
		return ErrServer
	}
	return ErrStatus
}

// retryAfter reads Retry-After: seconds, or a date, which is compared with the upstream's own clock where it tells it.
func retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(seconds) {
		wait = time.Duration(min(max(seconds, 0), maxRetryAfter.Seconds()) * float64(time.Second))
	} else if at, err := http.ParseTime(text); err == nil {
		now := time.Now()
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			now = date
		}
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// shown is an address for messages: without its query, which may have a secret in it.
func shown(address string) string {
	address, _, _ = strings.Cut(address, "?")
	if len(address) > 200 {
		address = address[:200] + "…"
	}
	return address
}
