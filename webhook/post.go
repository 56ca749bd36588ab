package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// postTime is how long a receiver may take for one post.
	postTime = 10 * time.Second
	// longestWait bounds what a receiver may ask for: beyond that it is asked again anyway.
	longestWait = time.Hour
	// maxAnswer is what is read of an answer, maxShown what is shown of it, in bytes.
	maxAnswer = 64 << 10
	maxShown  = 300
)

// verdict is what a post came to.
type verdict uint8

const (
	// taken: the receiver has it.
	taken verdict = iota
	// later: it did not work, and may when tried again.
	later
	// refused: there is nothing at this address that takes posts from here. It is not this event's fault.
	refused
	// spoilt: the receiver does not want this event, and will not when it is asked again.
	spoilt
)

// outcome is what became of one post.
type outcome struct {
	verdict verdict
	status  int // 0: there was no answer
	// reason is for people; answer is how the answer began. Neither has a secret in it.
	reason, answer string
	// wait is how long the receiver wants to be left alone; global: by everybody who posts there.
	wait   time.Duration
	global bool
}

// post posts a body once.
func (h *Hook) post(ctx context.Context, body []byte, header http.Header) outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, postTime, fmt.Errorf("the receiver did not answer within %v", postTime))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.target.String(), bytes.NewReader(body))
	if err != nil { // not reached: the URL was parsed before
		return outcome{verdict: later, reason: "the request could not be made"}
	}
	r.Header = header
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "killfeed/"+h.set.version)
	if h.config.Secret != "" {
		r.Header.Set("Killfeed-Signature", sign(h.config.Secret, time.Now(), body))
	}
	answer, err := h.set.client.Do(r)
	if err != nil {
		return outcome{verdict: later, reason: h.hide(cause(ctx, err))}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	o := judge(answer.StatusCode)
	o.answer = shown(h.hide(string(text)))
	if o.verdict == taken {
		o.answer = "" // what was taken needs no explanation
	} else if err != nil {
		o.reason += ", and the answer broke off"
	}
	o.wait, o.global = h.limits(answer, text)
	return o
}

// cause is why there was no answer, without the URL, which http.Client puts in front.
func cause(ctx context.Context, err error) string {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err.Error()
}

// judge says what a status means.
func judge(status int) outcome {
	o := outcome{status: status, reason: fmt.Sprintf("the receiver answered %d %s", status, strings.ToLower(http.StatusText(status)))}
	o.reason = strings.TrimRight(o.reason, " ")
	switch {
	case status >= 200 && status < 300:
		o.verdict, o.reason = taken, ""
	case status >= 300 && status < 400:
		o.verdict = refused
		o.reason += ": redirects are not followed, give the URL it leads to"
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound,
		status == http.StatusMethodNotAllowed, status == http.StatusProxyAuthRequired, status == http.StatusGone:
		o.verdict = refused
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		o.verdict = later
	case status >= 400 && status < 500:
		o.verdict = spoilt
	default:
		o.verdict = later
	}
	return o
}

// limits reads how long the receiver wants to be left alone: Retry-After, and of Discord what its answer and its X-RateLimit
// headers say.
func (h *Hook) limits(answer *http.Response, text []byte) (wait time.Duration, global bool) {
	if answer.StatusCode >= 400 {
		wait = retryAfter(answer.Header.Get("Retry-After"), time.Now())
	}
	if h.config.Format != Discord {
		return wait, false
	}
	if answer.StatusCode == http.StatusTooManyRequests {
		var said struct {
			After  float64 `json:"retry_after"`
			Global bool    `json:"global"`
		}
		_ = json.Unmarshal(text, &said) // it is a page of HTML when Discord's own front refuses
		wait = max(wait, seconds(said.After))
		global = said.Global || strings.EqualFold(answer.Header.Get("X-RateLimit-Global"), "true")
	}
	after, err := strconv.ParseFloat(answer.Header.Get("X-RateLimit-Reset-After"), 64)
	if err == nil && (answer.Header.Get("X-RateLimit-Remaining") == "0" || answer.StatusCode == http.StatusTooManyRequests) {
		wait = max(wait, seconds(after))
	}
	return wait, global
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(text string, now time.Time) time.Duration {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return seconds(n)
	}
	if t, err := http.ParseTime(text); err == nil {
		return min(max(0, t.Sub(now)), longestWait)
	}
	return 0
}

// seconds is a number of seconds that somebody else chose.
func seconds(n float64) time.Duration {
	if math.IsNaN(n) || n <= 0 {
		return 0
	}
	return time.Duration(math.Min(n, longestWait.Seconds()) * float64(time.Second))
}

// sign is the value of Killfeed-Signature: the time, and the HMAC-SHA256 of "<time>.<body>", so that an old post cannot be played
// again much later.
func sign(secret string, at time.Time, body []byte) string {
	t := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(t))
	mac.Write([]byte{'.'})
	mac.Write(body)
	return "t=" + t + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// shown is how a text begins, fit for a line of a log.
func shown(text string) string {
	s := strings.ToValidUTF8(text[:min(len(text), maxShown)], "")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

// hide takes out of a text what must not be shown: a receiver may say in its answer what it was asked.
func (h *Hook) hide(text string) string {
	for _, secret := range h.secrets {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return text
}

// secretsOf are the parts of a URL that are nobody's business, the longest first, and the key of signatures.
func secretsOf(u *url.URL, key string) (all []string) {
	add := func(s string) {
		if len(s) >= 6 { // a shorter one is in all sorts of texts, and no secret
			all = append(all, s)
		}
	}
	add(u.String())
	add(u.RequestURI())
	add(u.EscapedPath())
	add(u.Path)
	add(u.RawQuery)
	for part := range strings.SplitSeq(u.Path, "/") {
		add(part)
	}
	for _, values := range u.Query() {
		for _, v := range values {
			add(v)
		}
	}
	if u.User != nil {
		add(u.User.String())
		password, _ := u.User.Password()
		add(password)
		add(u.User.Username())
	}
	add(key)
	return all
}
