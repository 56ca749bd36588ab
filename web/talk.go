package web

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"killfeed"
	"killfeed/phoenix"
	"killfeed/tokens"
	"killfeed/web/doors"
	"killfeed/web/socket"
)

// talk is one client's Phoenix connection, whatever carries it: a WebSocket or long polls. Answers wait in it to be sent;
// events do not, they are read from the log when the transport has room for them.
//
// What a transport pulls is in order: the answers come before events that were read later, so the reply to a join before its
// first event, and a channel's last event before its phx_close.
type talk struct {
	api     *API
	session *phoenix.Session
	visit   *visit // nil: no token let the client in
	wake    func() // has the transport pull; must not block

	joins doors.Bucket // of joins and updates; owned by who hands in messages, one at a time

	// Owned by who pulls, of which there is one at a time.
	sent []pulled // those of which something was pulled last

	mu sync.Mutex // guards the rest; held for a moment, and never when a method of session or a Subscription is called
	// answers are frames to be sent, size their bytes.
	answers [][]byte
	size    int
	ready   []*member // those that may have something to read, each once
}

const (
	// maxAnswers bounds the answers that wait to be sent, in bytes. Beyond it no message is handled until the client takes some.
	maxAnswers = 256 << 10
	// maxFrames is how many events are read at a time.
	maxFrames = 128
	// patience bounds what a client's message may set off on the disk.
	patience = 30 * time.Second
)

func (a *API) newTalk(by admission, wake func()) *talk {
	t := &talk{api: a, visit: newVisit(by.token), wake: wake}
	t.session = phoenix.NewSession(phoenix.Options{Version: by.version, Join: t.join, Send: t.send, Panicked: a.panickedIn("a channel")})
	return t
}

// message handles a frame of the client's, which is not to be done while full. A *phoenix.BrokenError means that the
// connection is to end.
func (t *talk) message(text bool, frame []byte) error {
	if text {
		return t.session.Receive(frame)
	}
	return t.session.ReceiveBinary(frame)
}

// full tells whether too many answers are to be sent. A message may be answered at any length, so that this is asked before
// each.
func (t *talk) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size > maxAnswers
}

// send is the session's: it takes an answer.
func (t *talk) send(frame []byte) {
	t.mu.Lock()
	t.answers = append(t.answers, frame)
	t.size += len(frame)
	t.mu.Unlock()
	t.wake()
}

// pull puts what comes next into the sink, and returns false when there was nothing. last: only answers.
func (t *talk) pull(to Sink, last bool) bool {
	clear(t.sent) // or channels that have ended stay in memory
	t.sent = t.sent[:0]
	t.mu.Lock()
	answers, ready := t.answers, t.ready
	t.answers, t.size, t.ready = nil, 0, nil
	for _, c := range ready {
		c.queued = false
	}
	t.mu.Unlock()
	before := to.Len()
	for _, frame := range answers {
		to.Text(nil, frame, nil)
	}
	if last {
		return to.Len() > before
	}
	for i, c := range ready {
		if to.Room() == 0 {
			for _, c := range ready[i:] { // they come first the next time
				c.queue()
			}
			break
		}
		c.of.pull(to)
	}
	return to.Len() > before
}

// written tells that what was pulled last was handed over.
func (t *talk) written() {
	for _, c := range t.sent {
		c.delivered()
	}
}

// end closes everything. Nothing is pulled any more.
func (t *talk) end() {
	t.api.leave(t.visit)
	t.mu.Lock()
	t.answers, t.size = nil, 0
	t.mu.Unlock()
	t.session.Close()
}

// channel is one joined topic: a subscription, or with topic killfeed one that can change.
type channel struct {
	member
	link  *phoenix.Link
	sub   *killfeed.Subscription
	shelf *shelf
	name  string // the client's, empty without one
	many  bool   // the topic is killfeed, whose systems and topics can change

	before, after []byte // around an event's text
}

// pulled is a channel as its talk has it.
type pulled interface {
	pull(to Sink)
	delivered()
}

// member is a channel's place in its talk.
type member struct {
	talk *talk
	of   pulled

	// Guarded by talk.mu.
	joined, queued, left bool
}

// topicMany is the Phoenix topic for many systems and topics at once. A connection can join it once, as any topic: that is what
// bounds a client that asks for all it can, at killfeed.MaxTopics and one more for each other channel.
const topicMany = "killfeed"

// join is the session's.
func (t *talk) join(topic string, params []byte, link *phoenix.Link) (phoenix.Channel, []byte, error) {
	if err := t.mayJoin(); err != nil {
		return nil, nil, err
	}
	if guest := t.api.channels[topic]; guest != nil {
		return t.joinGuest(guest, params, link)
	}
	c := &channel{link: link, many: topic == topicMany}
	c.member = member{talk: t, of: c}
	p := t.api.streamParams()
	if !c.many {
		if !killfeed.IsTopic(topic) {
			return nil, nil, phoenix.ErrUnmatched
		}
		one, err := p.universe.ParseTopic(topic)
		if err != nil {
			return nil, nil, refusal(err)
		}
		p.topics = append(p.topics, one)
	}
	err := eachMember(params, func(name string, value []byte) error {
		if !p.knows(name) || !c.many && isTopicList(name) {
			return nil
		}
		return setJSON(p.set, name, value)
	})
	var place killfeed.Place
	if err == nil {
		place, err = c.subscribe(&p)
	}
	if err != nil {
		return nil, nil, t.api.refused("join", err)
	}
	c.before, c.after = link.Around("new_killmail")
	return c, append(appendPlace([]byte{'{'}, &place), '}'), nil
}

const (
	// joinRate and joinBurst bound the joins of one connection, and the changes of what it reads: each looks for a place in the
	// log, and may write on the disk. A client that comes back joins its hundred channels at once.
	joinRate, joinBurst = 20, 200
)

// mayJoin counts a join, or refuses it.
func (t *talk) mayJoin() error {
	wait, ok := t.joins.Allow(doors.NewLimit(joinRate, joinBurst), time.Now())
	if ok {
		return nil
	}
	return refusal(refuse(http.StatusTooManyRequests, "this connection joins and changes channels too often: at most %d a second, after %d at once; "+
		"try again in %d s", joinRate, joinBurst, seconds(wait)))
}

// token is that of the client, nil without one.
func (t *talk) token() *tokens.Token {
	if t.visit == nil {
		return nil
	}
	return t.visit.token
}

// subscribe begins the subscription that the params ask for.
func (c *channel) subscribe(p *readParams) (place killfeed.Place, err error) {
	r, err := p.read()
	if err != nil {
		return killfeed.Place{}, err
	}
	shown, err := p.readShape()
	if err != nil {
		return killfeed.Place{}, err
	}
	if p.given[paramClient] {
		c.name = p.value[paramClient]
		if err := killfeed.CheckClientName(c.name); err != nil {
			return killfeed.Place{}, err
		}
		if err := c.talk.api.mayUse(c.talk.token(), c.name); err != nil {
			return killfeed.Place{}, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	shelves := &c.talk.api.shelves
	c.shelf = shelves.take(shown)
	c.sub, place, err = c.talk.api.feed.Subscribe(ctx, killfeed.Subscriber{
		Read: r, Client: c.name, Holder: c.talk, Wake: c.queue,
	})
	if err != nil {
		shelves.give(c.shelf)
	}
	return place, err
}

// streamParams are those of a stream, before anything is given.
func (a *API) streamParams() readParams {
	return readParams{form: formStream, universe: a.feed.Universe(), filters: &a.filters}
}

// isTopicList tells whether a parameter says what is to be read.
func isTopicList(name string) bool {
	switch name {
	case "systems", "systems[]", "topics", "topics[]":
		return true
	}
	return false
}

// refused is what a client is told of an error, and the log of one that is this side's.
func (a *API) refused(what string, err error) error {
	if problemOf(err).Status >= 500 {
		a.log.Warn("a channel's "+what+" could not be served", "err", err)
	}
	return refusal(err)
}

// refusal is an error as Channels tell it.
func refusal(err error) error {
	p := problemOf(err)
	text, err := marshal(struct {
		Reason    string `json:"reason"`
		Parameter string `json:"parameter,omitempty"`
		Value     string `json:"value,omitempty"`
		Accepted  string `json:"accepted,omitempty"`
	}{p.Detail, p.Parameter, p.Value, p.Accepted})
	if err != nil {
		return err
	}
	return &phoenix.Refusal{Response: text}
}

// queue notes that there may be something to read, and has the transport pull it.
func (m *member) queue() {
	t := m.talk
	t.mu.Lock()
	wake := m.joined && !m.left && !m.queued
	if wake {
		m.queued = true
		t.ready = append(t.ready, m)
	}
	t.mu.Unlock()
	if wake {
		t.wake()
	}
}

// begin has the channel pulled from now on, and asked at once.
func (m *member) begin() {
	m.talk.mu.Lock()
	m.joined = true
	m.talk.mu.Unlock()
	m.queue()
}

// end has it queued no more.
func (m *member) end() {
	m.talk.mu.Lock()
	m.left = true
	m.talk.mu.Unlock()
}

// Joined is phoenix.Channel's.
func (c *channel) Joined() { c.begin() }

// Left is phoenix.Channel's.
func (c *channel) Left() {
	c.end()
	c.sub.Close()
	c.talk.api.shelves.give(c.shelf)
}

func (c *channel) delivered() { c.sub.Delivered() }

// pull reads what comes next into the sink.
func (c *channel) pull(to Sink) {
	a := c.talk.api
	room := a.rooms.Get().(*[maxFrames]killfeed.Event)
	d, err := c.sub.Read(room[:], min(maxFrames, to.Room()))
	defer func() {
		clear(d.Events) // which are in room
		a.rooms.Put(room)
	}()
	if err != nil {
		c.lost(err)
		return
	}
	if c.name != "" {
		c.talk.sent = append(c.talk.sent, c)
	}
	if d.Gap != nil {
		before, after := c.link.Around("gap")
		to.Text(before, appendGap(nil, d.Gap), after)
	}
	for i := range d.Events {
		to.Text(c.before, c.shelf.text(&d.Events[i]), c.after)
	}
	if d.More {
		c.queue()
	}
}

// lost ends a channel that cannot be read any more.
func (c *channel) lost(err error) {
	c.talk.mu.Lock()
	left := c.left
	c.talk.mu.Unlock()
	switch {
	case left, errors.Is(err, killfeed.ErrClosed):
		// The client left, or the server is about to: its connections are closed.
	case errors.Is(err, killfeed.ErrReplaced):
		c.link.Push("replaced", nil)
		c.link.Close()
	case errors.Is(err, killfeed.ErrNotFound):
		c.link.Crash() // it may join again, under the same name
	default:
		c.talk.api.log.Error("a channel could not be read; its client may join again", "topic", c.link.Topic(), "err", err)
		c.link.Crash()
	}
}

// Push is phoenix.Channel's.
func (c *channel) Push(event string, payload []byte) ([]byte, error) {
	var (
		response []byte
		err      error
	)
	switch {
	case event == "commit":
		response, err = c.commit(payload)
	case event == "update" && c.many:
		if err := c.talk.mayJoin(); err != nil {
			return nil, err
		}
		response, err = c.update(payload)
	case event == "update":
		return nil, phoenix.Refuse("update is an event of the topic " + topicMany + ": this topic is one and stays so")
	default:
		return nil, phoenix.Refuse("unknown event " + shorten(event) + ": a client's events here are commit, and update on the topic " + topicMany)
	}
	if err != nil {
		return nil, c.talk.api.refused(event, err)
	}
	return response, nil
}

// commit moves the client's offsets.
func (c *channel) commit(payload []byte) ([]byte, error) {
	var (
		id    killfeed.EventID
		given bool
	)
	err := eachMember(payload, func(name string, value []byte) (err error) {
		if name == "event_id" {
			given = true
			id, err = c.talk.api.handled(name, value)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case !given:
		return nil, killfeed.Invalid("event_id", "", "the id of the last event handled")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.sub.Commit(ctx, id); err != nil {
		return nil, err
	}
	return marshal(struct {
		ClientID string           `json:"client_id"`
		EventID  killfeed.EventID `json:"event_id"`
	}{c.name, id})
}

// update changes the topics: {"systems","topics"} are what it shall have, {"add","remove"} what it shall have more and less.
func (c *channel) update(payload []byte) ([]byte, error) {
	whole := c.talk.api.streamParams()
	add, remove := whole, whole
	replace := false
	err := eachMember(payload, func(name string, value []byte) error {
		switch {
		case isTopicList(name):
			replace = true
			return setJSON(whole.set, name, value)
		case name == "add":
			return add.setTopics(name, value)
		case name == "remove":
			return remove.setTopics(name, value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	topics := whole.topics
	if !replace {
		if len(add.topics)+len(remove.topics) == 0 {
			return nil, killfeed.Invalid("systems", "", `what to read from now on, as in {"systems":[30000142]}, or the change, `+
				`as in {"add":{"systems":[30000142]},"remove":{"topics":["label:solo"]}}`)
		}
		topics = c.sub.Topics()
	}
	gone := make(map[killfeed.Topic]bool, len(remove.topics))
	for _, t := range remove.topics {
		gone[t] = true
	}
	kept := make([]killfeed.Topic, 0, len(topics)+len(add.topics))
	for _, t := range topics {
		if !gone[t] {
			kept = append(kept, t)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	place, err := c.sub.SetTopics(ctx, append(kept, add.topics...))
	if err != nil {
		return nil, err
	}
	b := appendID([]byte(`{"topics":`), killfeed.EventID(len(c.sub.Topics())))
	return append(appendPlace(append(b, ','), &place), '}'), nil
}

// socketHandler carries a talk over a WebSocket.
type socketHandler struct{ talk *talk }

// Message is socket.Handler's.
func (h *socketHandler) Message(text bool, frame []byte) error {
	err := h.talk.message(text, frame)
	var broken *phoenix.BrokenError
	if errors.As(err, &broken) {
		h.talk.api.connections.broken.Inc()
		code := socket.BadData
		if broken.Kind == phoenix.NotJSON {
			code = socket.NotText
		}
		return &socket.CloseError{Code: code, Reason: broken.Reason}
	}
	return err
}

// Full is socket.Handler's.
func (h *socketHandler) Full() bool { return h.talk.full() }

// Pull is socket.Handler's.
func (h *socketHandler) Pull(b *socket.Batch, last bool) bool { return h.talk.pull(b, last) }

// Written is socket.Handler's.
func (h *socketHandler) Written() { h.talk.written() }

// Ended is socket.Handler's.
func (h *socketHandler) Ended(code int) {
	h.talk.end()
	h.talk.api.connections.ended("websocket", code)
}
