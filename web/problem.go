package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"killfeed"
)

// problem is an RFC 9457 problem document. As an error it is a refusal whose words are for the caller.
type problem struct {
	// Type is about:blank: Status says which kind it is, Detail what to do.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Parameter, Value and Accepted say what was wrong with a parameter, for programs.
	Parameter string `json:"parameter,omitempty"`
	Value     string `json:"value,omitempty"`
	Accepted  string `json:"accepted,omitempty"`
	// Results are those of an insert of which nothing was good.
	Results json.RawMessage `json:"results,omitempty"`

	// retryAfter is for the header, in seconds; 0 leaves it out.
	retryAfter int
}

func (p *problem) Error() string { return p.Detail }

// internal is what a caller is told of a fault that is none of his business.
const internal = "internal error: it was logged, and trying again may help"

// refuse makes a problem.
func refuse(status int, format string, args ...any) *problem {
	return &problem{Status: status, Detail: fmt.Sprintf(format, args...)}
}

// problemOf decides how an error is answered. It is the only place that does.
func problemOf(err error) *problem {
	var (
		p     *problem
		bad   *killfeed.InvalidError
		large *http.MaxBytesError
	)
	unknown := errors.Is(err, killfeed.ErrOutcomeUnknown)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &bad):
		return &problem{Status: http.StatusBadRequest, Detail: bad.Error(),
			Parameter: bad.Param, Value: strings.ToValidUTF8(bad.Value, "\uFFFD"), Accepted: bad.Want}
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, "the body is too large: want at most %s", bytesText(large.Limit))
	case errors.Is(err, killfeed.ErrNotFound):
		return refuse(http.StatusNotFound, "there is no such client: one is made by its first read, commit or seek")
	case errors.Is(err, killfeed.ErrTooManyClients):
		return refuse(http.StatusTooManyRequests, "the server remembers as many clients as it may, and takes no new client_id: "+
			"use one that it knows, read without one (after=0), or ask its operator to delete some")
	case errors.Is(err, killfeed.ErrBusy):
		p = refuse(http.StatusServiceUnavailable, "the server does as much at once as it may, for readers that wait and for such as look "+
			"back: come back later, with fewer systems and topics or a smaller filter, or poll without wait")
		p.retryAfter = 5
		return p
	case errors.Is(err, killfeed.ErrDiskFull):
		p = refuse(http.StatusInsufficientStorage, "the server's disk is full, so nothing new is stored; reading goes on")
		p.retryAfter = 30
	case errors.Is(err, killfeed.ErrBehind):
		p = refuse(http.StatusServiceUnavailable, "this node is behind the others, and does not have yet what the cursor has passed: try again "+
			"in a moment, or another node")
		p.retryAfter = 2
	case errors.Is(err, killfeed.ErrUnavailable):
		p = refuse(http.StatusServiceUnavailable, "%s", reasonAlone)
		p.retryAfter = 2
	case errors.Is(err, killfeed.ErrNotLeader):
		p = refuse(http.StatusConflict, "another node of this cluster does that for all: ask there; killfeed cluster status names it")
	case errors.Is(err, killfeed.ErrFailed):
		p = refuse(http.StatusServiceUnavailable, "%s", reasonFailed)
	case errors.Is(err, killfeed.ErrClosed):
		p = refuse(http.StatusServiceUnavailable, "the server is shutting down: try again in a moment")
		p.retryAfter = 1
	case unknown:
		p = refuse(http.StatusServiceUnavailable, "the disk did not answer in time")
		p.retryAfter = 1
	default:
		return refuse(http.StatusInternalServerError, internal)
	}
	if unknown {
		p.Detail += "; it is not known whether this request was stored. Sending it again is safe for killmails with a " +
			"killmail_id, which are stored once, and for commits"
	}
	return p
}

// Reasons for a feed's poor health, for callers.
const (
	reasonFull   = "the disk is full: inserts are refused until there is space, reads go on"
	reasonFailed = "a write to the disk failed, or this node's log differs from the others', so it stores nothing any more until " +
		"it is restarted; reads go on"
	reasonAlone = "too few servers of the cluster can be reached, so nothing is stored or committed until they are back; reads that " +
		"commit nothing, and live streams, go on"
)

// fail answers with an error. A caller who left gets nothing.
func (a *API) fail(x *exchange, err error) {
	if x.status != 0 { // the answer had begun
		a.log.Error("a request failed behind its answer", "method", x.r.Method, "err", err)
		return
	}
	if ctx := x.r.Context(); ctx.Err() != nil && !errors.Is(context.Cause(ctx), killfeed.ErrClosed) {
		x.status = statusGone
		return
	}
	p := problemOf(err)
	if p.Status >= 500 {
		a.log.Warn("a request could not be served", "method", x.r.Method, "status", p.Status, "err", err)
	}
	p.send(x)
}

// send answers with the problem document.
func (p *problem) send(x *exchange) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	h := x.w.Header()
	h["Cache-Control"] = valueNoStore // a handler may have set another one before it failed
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="killfeed"`)
	}
	body, err := marshal(p)
	if err != nil { // not reached: all of a problem can be written as JSON
		body = []byte(`{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"internal error"}`)
	}
	x.send(p.Status, valueProblem, body)
}

// marshal is json.Marshal without the escapes for HTML: "<event_id>" stays readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding an answer: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// shorten makes text of the caller's fit to be shown back.
func shorten(s string) string {
	if len(s) > 64 {
		s = s[:61] + "..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func bytesText(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return strconv.FormatInt(n>>20, 10) + " MiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
