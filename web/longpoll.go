package web

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"killfeed/phoenix"
	"killfeed/web/live"
	"killfeed/web/socket"
)

// Phoenix's long-poll transport: for clients whose network lets no WebSocket through. Answers have the HTTP status 200
// throughout, and the one that counts in their body.

const (
	// pollWindow is how long a poll waits for something to send.
	pollWindow = 10 * time.Second
	// pollAway is how long a session lives between two polls.
	pollAway = pollWindow * 3 / 2
	// maxPollBody bounds what one request may bring. A current client splits at 100 messages, an older one does not split.
	maxPollBody = 8 << 20
	// maxPollLine bounds a message in it. One in binary comes in base64.
	maxPollLine = socket.MaxMessage/3*4 + 4
)

// Statuses of the transport, in the body.
const (
	pollOK       = http.StatusOK
	pollNothing  = http.StatusNoContent
	pollGone     = http.StatusGone // with a token: a new session was begun
	pollRefused  = http.StatusForbidden
	pollBusy     = http.StatusRequestTimeout
	pollTryAgain = http.StatusInternalServerError // clients begin a new session
)

// pollSession is one client's connection by long polls. It implements live.Conn.
type pollSession struct {
	api   *API
	token string
	lease *live.Lease
	talk  *talk

	rung chan struct{} // cap 1: there may be something to pull
	turn chan struct{} // cap 1: held by the poll that waits
	sent chan struct{} // cap 1: held while messages are read and handled, which is in order and one body at a time
	over chan struct{} // closed at the end

	mu      sync.Mutex    // guards the rest
	oust    chan struct{} // closed when a newer poll takes over from the one that is going on; nil when none is
	polled  time.Time     // when the last poll ended, zero while one is going on
	ended   bool
	refused bool // ended, and its client is not to come back
}

// polls are the sessions by token.
type polls struct {
	mu     sync.Mutex // guards byName; held for one map operation
	byName map[string]*pollSession
}

// tokenBytes is the length of a session's secret.
const tokenBytes = 24

func newPollToken(kind byte) string {
	b := make([]byte, 1+tokenBytes)
	rand.Read(b[1:]) // never fails
	b[0] = kind
	return base64.RawURLEncoding.EncodeToString(b)
}

// Kinds of tokens, their first byte.
const (
	tokenGood = 0
	// tokenDoomed is given to who comes with the token of a session that is gone. A current client takes the 410 for what it
	// is. An older one takes it for the beginning of its connection, believes its channels to be joined, and would hear
	// nothing for ever: its next poll, with this token, is answered in a way that makes it join them again.
	tokenDoomed = 1
)

// tokenKind tells what kind a token is of, and false for what was never one.
func tokenKind(token string) (kind byte, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 1+tokenBytes || b[0] > tokenDoomed {
		return 0, false
	}
	return b[0], true
}

func (p *polls) find(token string) *pollSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byName[token]
}

// longpoll is GET: it begins a session, or waits for what there is to send.
func (a *API) longpoll(x *exchange) error {
	how, err := a.admit(x.r)
	if err != nil {
		return a.pollRefusal(x, err)
	}
	token := pollToken(x.r)
	if s := a.polls.find(token); s != nil {
		return s.poll(x)
	}
	switch kind, ok := tokenKind(token); {
	case ok && kind == tokenDoomed:
		return x.poll(pollTryAgain, "", nil)
	case ok:
		return x.poll(pollGone, newPollToken(tokenDoomed), messages{})
	}
	lease, err := a.enter(x.r)
	if err != nil {
		return a.pollLater(x, err)
	}
	s := &pollSession{api: a, token: newPollToken(tokenGood), lease: lease, rung: make(chan struct{}, 1),
		turn: make(chan struct{}, 1), sent: make(chan struct{}, 1), over: make(chan struct{}), polled: time.Now()}
	s.talk = a.newTalk(how, s.wake)
	a.polls.mu.Lock()
	if a.polls.byName == nil {
		a.polls.byName = map[string]*pollSession{}
	}
	a.polls.byName[s.token] = s
	a.polls.mu.Unlock()
	a.connections.began("longpoll")
	lease.Is(s)
	a.welcome(s.talk.visit, s.refuse)
	return x.poll(pollGone, s.token, messages{})
}

// pollRefusal answers who is not admitted.
func (a *API) pollRefusal(x *exchange, err error) error {
	if p := problemOf(err); p.Status == http.StatusTooManyRequests {
		return a.pollLater(x, p)
	}
	return x.poll(pollRefused, "", nil)
}

// pollLaterBody has a client begin a new session after a pause.
const pollLaterBody = `{"status":500}`

// longpollOptions is the preflight of other sites' pages, with Phoenix's status.
func (a *API) longpollOptions(x *exchange) error {
	h := x.w.Header()
	h.Set("Allow", "GET, POST, OPTIONS")
	h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "Content-Type, X-Phoenix-AuthToken, X-Phoenix-Longpoll-Token")
	h.Set("Access-Control-Max-Age", "86400")
	x.status = http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	return nil
}

// pollToken is the token that a request carries.
func pollToken(r *http.Request) string {
	if token := r.Header.Get("X-Phoenix-Longpoll-Token"); token != "" {
		return token
	}
	return r.URL.Query().Get("token")
}

// pollLater answers who is not let in at the moment. A client whose answer has another status in its body than those above
// hangs for ever, so it is not a problem document.
func (a *API) pollLater(x *exchange, err error) error {
	p := problemOf(err)
	if p.retryAfter > 0 {
		x.w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	x.send(p.Status, valueJSON, []byte(pollLaterBody))
	return nil
}

// poll answers with a status of the transport. messages are left out when nil.
func (x *exchange) poll(status int, token string, m messages) error {
	answer := struct {
		Messages *messages `json:"messages,omitempty"`
		Status   int       `json:"status"`
		Token    string    `json:"token,omitempty"`
	}{Status: status, Token: token}
	if m != nil {
		answer.Messages = &m
	}
	x.waits = true
	return x.json(http.StatusOK, answer)
}

// messages is a Sink of whole messages as JSON strings.
type messages []string

// Text is Sink's.
func (m *messages) Text(before, payload, after []byte) {
	*m = append(*m, string(before)+string(payload)+string(after))
}

// Len is Sink's.
func (m *messages) Len() int { return len(*m) }

// Room is Sink's.
func (m *messages) Room() int {
	const most = 256 << 10 // bytes of an answer; a message that is larger makes one of its own
	size := 0
	for _, one := range *m {
		size += len(one)
	}
	if size >= most {
		return 0
	}
	return max(0, maxFrames-len(*m))
}

// MarshalJSON keeps an empty list from being null.
func (m messages) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	list := []string(m)
	if list == nil {
		list = []string{}
	}
	err := enc.Encode(list)
	return b.Bytes(), err
}

func (s *pollSession) wake() {
	select {
	case s.rung <- struct{}{}:
	default:
	}
}

// poll waits for what there is to send. A newer poll takes over from one that waits.
func (s *pollSession) poll(x *exchange) error {
	ctx, oust := x.r.Context(), make(chan struct{})
	s.begin(oust)
	defer s.leave(oust)
	nothing := func() error { return x.poll(pollNothing, s.token, messages{}) }
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-oust:
		return nothing()
	case <-ctx.Done():
		return nothing()
	}
	window := time.NewTimer(pollWindow)
	defer window.Stop()
	for {
		if ctx.Err() != nil || isClosed(oust) { // nobody is there to take it
			return nothing()
		}
		m := messages{}
		if s.talk.pull(&m, false) {
			err := x.poll(pollOK, s.token, m)
			// What did not go out is not committed. That the client has left by now says nothing: it may have what it wanted.
			if http.NewResponseController(x.w).Flush() == nil {
				s.talk.written()
			}
			return err
		}
		select {
		case <-s.rung:
		case <-window.C:
			return nothing()
		case <-oust:
		case <-s.over:
			return s.gone(x)
		case <-ctx.Done():
		}
	}
}

// begin notes that a poll is going on, and ousts the one before.
func (s *pollSession) begin(oust chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.oust != nil {
		close(s.oust)
	}
	s.oust, s.polled = oust, time.Time{}
}

// leave notes that a poll has ended, if no newer one has taken over.
func (s *pollSession) leave(oust chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.oust == oust {
		s.oust, s.polled = nil, time.Now()
	}
}

// gone answers a poll of a session that has ended.
func (s *pollSession) gone(x *exchange) error {
	s.mu.Lock()
	refused := s.refused
	s.mu.Unlock()
	if refused {
		return x.poll(pollRefused, "", nil)
	}
	return x.poll(pollGone, newPollToken(tokenDoomed), messages{})
}

// longpollSend is POST: messages of the client, each a line of NDJSON, or one that is the body.
func (a *API) longpollSend(x *exchange) error {
	if _, err := a.admit(x.r); err != nil {
		return a.pollRefusal(x, err)
	}
	s := a.polls.find(pollToken(x.r))
	if s == nil {
		return x.poll(pollGone, "", nil)
	}
	select {
	case s.sent <- struct{}{}:
		defer func() { <-s.sent }()
	case <-s.over:
		return x.poll(pollGone, "", nil)
	case <-x.r.Context().Done():
		return x.poll(pollTryAgain, "", nil)
	}
	if control := http.NewResponseController(x.w); control.SetReadDeadline(time.Now().Add(bodyTime)) == nil {
		defer control.SetReadDeadline(time.Time{})
	}
	lines := strings.HasPrefix(x.r.Header.Get("Content-Type"), "application/x-ndjson")
	return x.poll(s.receive(http.MaxBytesReader(x.w, x.r.Body, maxPollBody), lines), "", nil)
}

// receive handles messages as they arrive, in their order, so that no more than one of them is in memory. It returns a status.
func (s *pollSession) receive(body io.Reader, lines bool) int {
	from := &watched{Reader: body}
	in := bufio.NewScanner(from)
	in.Buffer(nil, maxPollLine)
	if !lines {
		in.Split(func(data []byte, atEOF bool) (int, []byte, error) { // all of it
			if !atEOF {
				return 0, nil, nil
			}
			return len(data), data, bufio.ErrFinalToken
		})
	}
	for in.Scan() {
		message := in.Bytes()
		if from.failed { // then this may be half of one
			return pollTryAgain
		}
		if len(message) == 0 {
			continue
		}
		if isClosed(s.over) {
			return pollGone
		}
		if s.talk.full() {
			return pollBusy
		}
		text := !lines || message[0] == '[' || message[0] == '{'
		if err := s.message(text, message); err != nil {
			s.end()
			return pollGone
		}
	}
	switch {
	case from.failed: // the body did not arrive, or is too large
		return pollTryAgain
	case in.Err() != nil: // a line is too large
		s.end()
		return pollGone
	}
	return pollOK
}

// watched tells whether reading has failed. A scanner hands out what there is before it says so.
type watched struct {
	io.Reader
	failed bool
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	w.failed = w.failed || err != nil && err != io.EOF
	return n, err
}

var errTooBig = errors.New("a message is too large")

// message handles one message. After an error the session is to end.
func (s *pollSession) message(text bool, message []byte) error {
	if !text {
		n, err := base64.StdEncoding.Decode(message, message)
		if err != nil {
			return err
		}
		message = message[:n]
	}
	if len(message) > socket.MaxMessage {
		return errTooBig
	}
	err := s.talk.message(text, message)
	var broken *phoenix.BrokenError
	if errors.As(err, &broken) {
		s.api.connections.broken.Inc()
	}
	return err
}

// isClosed tells whether a channel of which nothing else is received is closed.
func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Look is live.Conn's.
func (s *pollSession) Look(now time.Time) {
	s.mu.Lock()
	away := !s.polled.IsZero() && now.Sub(s.polled) > pollAway
	s.mu.Unlock()
	if away {
		s.end()
	}
}

// Drain is live.Conn's.
func (s *pollSession) Drain() { s.end() }

// refuse ends the session of a client that is not to come back.
func (s *pollSession) refuse() {
	s.mu.Lock()
	s.refused = true
	s.mu.Unlock()
	s.end()
}

// end ends the session.
func (s *pollSession) end() {
	s.mu.Lock()
	ended := s.ended
	s.ended = true
	s.mu.Unlock()
	if ended {
		return
	}
	s.api.polls.mu.Lock()
	delete(s.api.polls.byName, s.token)
	s.api.polls.mu.Unlock()
	close(s.over)
	s.api.guard("the end of a long-poll session", s.talk.end)
	s.api.connections.ended("longpoll", 0)
	s.lease.End()
}
