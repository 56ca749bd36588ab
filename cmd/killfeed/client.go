package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clientSettings are the settings of every command that talks to a server.
var clientSettings = []string{"server", "token-file", "data"}

// client talks to a server for the commands.
type client struct {
	base  *url.URL
	token string // empty without one
	http  *http.Client
}

// problemError is a server's refusal: an RFC 9457 problem document, or what could be made of another answer.
type problemError struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	// Results are those of POST /api/killmails, when none of its items was good.
	Results []insertResult `json:"results"`
	// later: the server says when to try again, because it is opening its log or shutting down.
	later bool
	// retryAfter is how long the server wants to be left alone, 0 when it did not say.
	retryAfter time.Duration
}

func (e *problemError) Error() string {
	text := e.Detail
	if text == "" {
		text = strings.ToLower(e.Title)
	}
	if text == "" {
		text = strings.ToLower(http.StatusText(e.Status))
	}
	return fmt.Sprintf("the server refused: %s (%d)", text, e.Status)
}

// newClient makes a client from the settings. It opens no connection.
func (a *app) newClient() (*client, error) {
	base, err := url.Parse(a.settings.server)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, usagef("server %q is no URL: want one as in http://127.0.0.1:4004", a.settings.server)
	}
	if base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, usagef("server %q: want only scheme, host, port and path", base.Redacted())
	}
	token, err := a.readToken(base)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &client{
		base:  base,
		token: token,
		http: &http.Client{
			Transport: &http.Transport{
				Proxy:                 http.ProxyFromEnvironment,
				DialContext:           dialer.DialContext,
				TLSHandshakeTimeout:   10 * time.Second,
				ForceAttemptHTTP2:     true,
				MaxIdleConnsPerHost:   4,
				ResponseHeaderTimeout: 2 * time.Minute, // a long poll is at most one, a collection may take some time
			},
			// A redirect would turn a POST into a GET. The server never redirects, a proxy before it may.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// readToken reads the bearer token. Without --token-file that is the data directory's admin token when it can be read, and
// only for a server on this machine: the token of the local log is nobody else's business.
func (a *app) readToken(server *url.URL) (string, error) {
	path, optional := a.settings.tokenFile, false
	if path == "" {
		if !isLoopback(server.Hostname()) {
			return "", nil
		}
		path, optional = filepath.Join(a.settings.data, tokenFileName), true
	}
	text, err := os.ReadFile(path)
	if optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("reading the token: %s holds no token: want one line of printable text", path)
	}
	return token, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// call is one request. Body, when not nil, is sent as JSON. The answer's body is the caller's to close.
type call struct {
	method string
	path   []string // elements, each percent-encoded on its own
	query  url.Values
	body   any
	header http.Header
}

// do sends the request and returns the answer when it is a success. Others become a *problemError, and no answer at all
// errUnreachable.
func (c *client) do(ctx context.Context, r call) (*http.Response, error) {
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case io.Reader:
		body = b
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	target := strings.TrimSuffix(c.base.String(), "/")
	for _, element := range r.path {
		escaped := url.PathEscape(element)
		if element == "." || element == ".." { // a client may be called so, and servers tidy them away
			escaped = strings.ReplaceAll(element, ".", "%2E")
		}
		target += "/" + escaped
	}
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "killfeed/"+version())
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, errInterrupted
		}
		return nil, c.unreachable(err)
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, c.refusal(res)
}

func (c *client) unreachable(err error) error {
	var inUrl *url.Error
	if errors.As(err, &inUrl) { // its text repeats method and URL
		err = inUrl.Err
	}
	return hint(fmt.Errorf("%w: %s: %w", errUnreachable, c.base, err),
		"start one with 'killfeed serve', or name another with --server")
}

// refusal makes an error from an answer that is no success.
func (c *client) refusal(res *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	p := &problemError{}
	if json.Unmarshal(text, p) != nil || p.Title == "" && p.Detail == "" {
		p = &problemError{Title: http.StatusText(res.StatusCode)}
	}
	p.Status, p.retryAfter = res.StatusCode, retryAfter(res.Header)
	switch {
	case res.StatusCode < 400:
		return hint(fmt.Errorf("%s redirects to %s", c.base, res.Header.Get("Location")), "give --server the URL it redirects to")
	case res.StatusCode == http.StatusUnauthorized && c.token == "":
		return hint(p, "this needs a token: name its file with --token-file, that of the admin token is <data>/admin.token on its machine")
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return hint(p, "name the file of a token that may do this with --token-file")
	case res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "":
		p.later = true
		return hint(p, "try again in %s s", res.Header.Get("Retry-After"))
	case res.StatusCode == http.StatusTooManyRequests && p.retryAfter > 0:
		return hint(p, "try again in %s s", res.Header.Get("Retry-After"))
	}
	return p
}

// retryAfter reads the seconds of Retry-After, at most an hour. It may be a date too, but neither a killfeed nor the proxies
// before one write that.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

// json sends the request and decodes the answer into out, which may be nil.
func (c *client) json(ctx context.Context, r call, out any) error {
	res, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return fmt.Errorf("reading the answer of %s: %w", c.base, err)
	}
	return nil
}
