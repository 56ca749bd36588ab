package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Part is what is left of a large file, as it comes.
type Part struct {
	// ReadCloser gives it; its errors are those of Open's stream. The caller closes it.
	io.ReadCloser
	// From is where in the file it begins: where the caller wanted, or 0 when the upstream sends all of it.
	From int64
	// Total is the length of the whole file, -1 when the upstream did not tell.
	Total int64
	// Tag names this version of the file, for the next OpenFrom; empty when there is none to go on with.
	Tag string
}

// OpenFrom is Open for a file of which the caller has the first bytes already, as many as from says, of the version named tag.
// The rest comes only if the file is still of that version, else all of it: Part.From tells. An error of status 416 is the
// answer when nothing is left, or when there is less than from; its Content-Range says how long the file is (see Length).
// limit bounds what is read of the answer.
func (c *Client) OpenFrom(ctx context.Context, address string, from int64, tag string, limit int64) (*Part, error) {
	if err := c.Wait(ctx); err != nil {
		return nil, err
	}
	parent := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	watchdog := time.AfterFunc(c.timeout, func() { cancel(errStalled) })
	res, err := c.askFrom(ctx, address, from, tag)
	watchdog.Stop()
	if err != nil {
		cancel(nil)
		if parent.Err() != nil {
			return nil, context.Cause(parent)
		}
		return nil, err
	}
	p := &Part{Total: res.ContentLength, Tag: validator(res.Header)}
	if res.StatusCode == http.StatusPartialContent {
		p.From, p.Total = from, Length(res.Header)
	}
	p.ReadCloser = &streamed{
		ctx: ctx, cancel: cancel, watchdog: watchdog, timeout: c.timeout, body: res.Body, closer: res.Body, left: limit,
		url: shown(address),
	}
	return p, nil
}

// askFrom sends the request. Without an error the answer is a 200, or a 206 that begins where it was asked for.
func (c *Client) askFrom(ctx context.Context, address string, from int64, tag string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("address %.100q: %w", address, err)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept-Encoding", "identity") // a range is of what is sent, so it must not be packed once more
	if from > 0 && tag != "" {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		req.Header.Set("If-Range", tag)
	}
	res, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok { // it repeats the URL
			err = e.Err
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, &Error{Class: ErrNetwork, URL: shown(address), Err: err}
	}
	fail := &Error{URL: shown(address), Status: res.StatusCode, Header: res.Header}
	switch coding := res.Header.Get("Content-Encoding"); {
	case res.StatusCode == http.StatusPartialContent && beginning(res.Header) != from:
		fail.Class, fail.Err = ErrStatus, fmt.Errorf("asked for bytes from %d on, and the answer has %.60q", from, res.Header.Get("Content-Range"))
	case res.StatusCode != http.StatusPartialContent && classOf(res.StatusCode) != nil:
		fail.Class, fail.RetryAfter = classOf(res.StatusCode), retryAfter(res.Header)
		fail.Body, _ = io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	case coding != "" && !strings.EqualFold(coding, "identity"):
		fail.Class, fail.Err = ErrStatus, fmt.Errorf("the answer is packed (%.20q) although that was not asked for", coding)
	default:
		return res, nil
	}
	res.Body.Close()
	return nil, fail
}

// validator is what If-Range may name: an ETag that is not weak, or else when the file was last changed.
func validator(h http.Header) string {
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return h.Get("Last-Modified")
}

// Length is the length of the whole file that a Content-Range tells, -1 when it does not.
func Length(h http.Header) int64 {
	_, text, _ := strings.Cut(h.Get("Content-Range"), "/")
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return n
	}
	return -1
}

// beginning is the first byte that a Content-Range tells, -1 when it does not.
func beginning(h http.Header) int64 {
	text, _ := strings.CutPrefix(h.Get("Content-Range"), "bytes ")
	text, _, _ = strings.Cut(text, "-")
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n
	}
	return -1
}
