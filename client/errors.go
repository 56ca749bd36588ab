package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ErrReplaced ends a stream: a newer connection has taken the client id. Coming back would take it from that one again.
var ErrReplaced = errors.New("a newer connection has taken the client's name: give each reader its own")

// errLate is why a request ends that takes too long.
var errLate = &ConnectionError{errors.New("no whole answer came in time")}

// ConnectionError says that there was no answer, or that it broke off. The same may go better later.
type ConnectionError struct{ Err error }

func (e *ConnectionError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ConnectionError) Unwrap() error { return e.Err }

// ProblemError is a refusal of the server's: a problem document (RFC 9457), or what could be made of another answer.
type ProblemError struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	// Detail is for people. It is empty when it was no killfeed that answered.
	Detail string `json:"detail"`
	// Parameter, Value and Accepted are there when one parameter is at fault; else empty.
	Parameter string `json:"parameter"`
	Value     string `json:"value"`
	Accepted  string `json:"accepted"`
	// RetryAfter is how long the server wants to be left alone; 0 when it did not say.
	RetryAfter time.Duration `json:"-"`
}

func (e *ProblemError) Error() string {
	text := e.Detail
	if text == "" {
		text = strings.ToLower(http.StatusText(e.Status))
	}
	return fmt.Sprintf("the server refused: %s (%d)", text, e.Status)
}

// Temporary tells whether the same may go better later.
func (e *ProblemError) Temporary() bool {
	return e.Status >= 500 || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
}

// refusal makes an error from an answer that is no success.
func refusal(res *http.Response) *ProblemError {
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what cannot be read says nothing that the status does not
	p := &ProblemError{}
	if json.Unmarshal(text, p) != nil {
		p = &ProblemError{}
	}
	p.Status = res.StatusCode
	if to := res.Header.Get("Location"); p.Status < 400 && to != "" {
		p.Detail = "it redirects to " + to + ": use that as server"
	}
	// Retry-After may be a date too, but neither a killfeed nor the proxies before one write that.
	if n, err := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 31); err == nil {
		p.RetryAfter = min(time.Duration(n)*time.Second, time.Hour)
	}
	return p
}

// gapOfHeader reads Killfeed-Gap, which is all that an answer without a body tells. It has no reason where it has bounds.
func gapOfHeader(text string) *Gap {
	if text == "" {
		return nil
	}
	first, last, _ := strings.Cut(text, "-")
	from, err1 := strconv.ParseUint(first, 10, 64)
	to, err2 := strconv.ParseUint(last, 10, 64)
	if err1 != nil || err2 != nil {
		return &Gap{Reason: text}
	}
	return &Gap{Reason: "unknown", From: from, To: to}
}
