package zkillws

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/web/socket"
)

const (
	// maxChannels bounds the channels of a connection.
	maxChannels = 10_000
	// maxTopics bounds what is followed of the log for a connection. One that has more channels follows the whole log and picks
	// from it: killmails come every few seconds, and looking for one among any number of channels costs the same.
	maxTopics = 256
	// maxAnswers bounds the answers that wait to be sent, in bytes. Beyond it no message is handled until the client takes some.
	maxAnswers = 64 << 10
	// maxRead is how many events are read at a time, maxReads how often in one turn.
	maxRead  = 32
	maxReads = 8
	// patience bounds what a client's message may set off.
	patience = 30 * time.Second
)

// client is a connection. It implements socket.Handler.
type client struct {
	*dialect
	wake     func()                   // has the connection pull; never blocks
	end      func(*socket.CloseError) // ends the connection
	backfill bool                     // imported history is asked for

	// Owned by the goroutine that handles messages, as is every change of what mu guards but answers.
	wide int  // channels for which the whole log is followed
	all  bool // it is

	// Owned by who pulls, of which there is one at a time.
	queue []message

	size atomic.Int64 // of answers, in bytes; changed with mu held

	mu sync.Mutex // guards the rest; held for a walk over the channels of what was read at most, and when no method of sub is called
	// channels are those of the client, each with where its killmails are; worth those that ask for a value, ascending by it.
	channels map[string]killfeed.Topic
	worth    []threshold
	sub      *killfeed.Subscription // nil without channels
	cursors  bool                   // the client wants cursors
	answers  [][]byte
}

// threshold is a channel of all that is worth so much.
type threshold struct {
	name  string
	least float64
}

// message is what is to be sent: a text, or that a killmail is on a channel; and what stands behind either.
type message struct {
	text    []byte
	of      *kill
	channel string
	after   []byte
}

var brace = []byte{'}'}

// request is a client's message.
type request struct {
	Action   string          `json:"action"`
	Channel  string          `json:"channel"`
	Channels []string        `json:"channels"`
	After    json.RawMessage `json:"after"`
	Cursor   json.RawMessage `json:"cursor"`
}

// Message is socket.Handler's.
func (c *client) Message(_ bool, frame []byte) error {
	var r request
	if err := json.Unmarshal(frame, &r); err != nil {
		c.refuse("", `this is not JSON as expected: want {"action":"sub","channel":"killstream"}`)
		return nil
	}
	if r.Channel != "" {
		r.Channels = append(r.Channels, r.Channel)
	}
	switch {
	case r.Action != "sub" && r.Action != "unsub":
		c.refuse("", "action "+shown(r.Action)+" is not known: want sub or unsub")
		return nil
	case len(r.Channels) == 0:
		c.refuse("", `no channel is named: want one, as in {"action":"`+r.Action+`","channel":"killstream"}`)
		return nil
	}
	if r.Action == "unsub" {
		for _, name := range r.Channels {
			c.remove(name)
		}
		return c.follow(nil)
	}
	from, err := c.from(r.After)
	if err != nil {
		c.refuse(r.Channels[0], err.Error())
		return nil
	}
	if from != nil || isTrue(r.Cursor) {
		c.mu.Lock()
		c.cursors = true
		c.mu.Unlock()
	}
	for _, name := range r.Channels {
		if err := c.add(name); err != nil {
			return err
		}
	}
	return c.follow(from)
}

// from is where a client resumes, nil when it does not.
func (c *client) from(after json.RawMessage) (*killfeed.Cursor, error) {
	if len(after) == 0 || string(after) == "null" {
		return nil, nil
	}
	text := string(after)
	if after[0] == '"' {
		if err := json.Unmarshal(after, &text); err != nil {
			return nil, err
		}
	}
	cursor, err := killfeed.ParseCursor(text)
	switch {
	case err != nil:
		return nil, err
	case len(c.channels) > 0:
		return nil, errors.New(`after is for the first channels of a connection, as they have one place in the log: want all of them at once, ` +
			`as in {"action":"sub","channels":["system:30000142","region:10000002"],"after":"` + cursor.String() + `"}`)
	}
	return &cursor, nil
}

// isTrue tells whether a switch is on.
func isTrue(value json.RawMessage) bool {
	switch string(value) {
	case "", "null", "false", "0", `""`:
		return false
	}
	return true
}

// add takes note of a channel. The error ends the connection; what is wrong with the name does not.
func (c *client) add(name string) error {
	want, err := parseChannel(name)
	switch {
	case err != nil:
		c.refuse(name, err.Error())
		return nil
	case want.silent:
		return nil
	}
	if _, there := c.channels[name]; there {
		return nil
	}
	if len(c.channels) >= maxChannels {
		c.refuse(name, fmt.Sprintf("a connection has at most %d channels", maxChannels))
		return nil
	}
	if c.dialect.channels.Add(1) > c.most {
		c.dialect.channels.Add(-1)
		return c.failed(killfeed.ErrBusy)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.channels[name] = want.topic
	if want.topic == killfeed.All() {
		c.wide++
	}
	if want.least > 0 {
		at, _ := slices.BinarySearchFunc(c.worth, want.least, func(t threshold, least float64) int { return cmp.Compare(t.least, least) })
		c.worth = slices.Insert(c.worth, at, threshold{name, want.least})
	}
	return nil
}

// remove forgets a channel.
func (c *client) remove(name string) {
	topic, there := c.channels[name]
	if !there {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.channels, name)
	c.dialect.channels.Add(-1)
	if topic == killfeed.All() {
		c.wide--
		c.worth = slices.DeleteFunc(c.worth, func(t threshold) bool { return t.name == name })
	}
}

// follow has the subscription be what the channels need. from is where a new one begins, nil for what comes from now on. The error
// ends the connection.
func (c *client) follow(from *killfeed.Cursor) error {
	if len(c.channels) == 0 {
		c.replace(nil)
		return nil
	}
	all := c.wide > 0 || len(c.channels) > maxTopics
	if all && c.all && c.sub != nil { // or ten thousand channels, one in each message, would each cost a walk over them
		return nil
	}
	topics := []killfeed.Topic{killfeed.All()}
	if !all {
		topics = topics[:0]
		for _, t := range c.channels {
			topics = append(topics, t)
		}
	}
	err := c.subscribe(topics, from)
	var invalid *killfeed.InvalidError
	if errors.As(err, &invalid) && !all { // they stand for more systems and types than one reader may follow one by one
		all = true
		err = c.subscribe([]killfeed.Topic{killfeed.All()}, from)
	}
	if err != nil {
		return c.failed(err)
	}
	c.all = all
	return nil
}

// subscribe begins the subscription or changes its topics.
func (c *client) subscribe(topics []killfeed.Topic, from *killfeed.Cursor) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.sub != nil {
		_, err := c.sub.SetTopics(ctx, topics)
		return err
	}
	sub, place, err := c.feed.Subscribe(ctx, killfeed.Subscriber{
		Read: killfeed.Read{Topics: topics, Start: killfeed.Latest, From: from, NoBackfill: !c.backfill},
		Wake: c.wake,
	})
	if err != nil {
		return err
	}
	if place.Gap != nil && from != nil {
		c.answer(appendGap(place.Gap))
	}
	c.replace(sub)
	c.wake() // the first read comes unasked
	return nil
}

// replace ends the subscription; the next one may be nil.
func (c *client) replace(next *killfeed.Subscription) {
	c.mu.Lock()
	last := c.sub
	c.sub = next
	c.mu.Unlock()
	if last != nil {
		last.Close()
	}
}

// refuse tells the client what is wrong with what it said. The original says nothing to anything; its clients pass over an action
// that they do not know.
func (c *client) refuse(channel, text string) {
	answer := struct {
		Action  string `json:"action"`
		Channel string `json:"channel,omitempty"`
		Message string `json:"message"`
	}{"error", channel, text}
	if len(channel) > maxName {
		answer.Channel = "" // it is in the text, shortened
	}
	b, _ := json.Marshal(answer) // never fails for strings
	c.answer(b)
}

// appendGap is the message that tells of lost events.
func appendGap(g *killfeed.Gap) []byte {
	b, _ := json.Marshal(struct {
		Action string `json:"action"`
		*killfeed.Gap
	}{"gap", g}) // never fails for numbers and strings
	return b
}

// answer has a text sent.
func (c *client) answer(text []byte) {
	c.mu.Lock()
	c.answers = append(c.answers, text)
	c.size.Add(int64(len(text)))
	c.mu.Unlock()
	c.wake()
}

// Full is socket.Handler's. It is called under a lock that Wake takes, and whoever rings the bells of the log waits for that one: so
// it does not wait for mu.
func (c *client) Full() bool { return c.size.Load() > maxAnswers }

// Pull is socket.Handler's.
func (c *client) Pull(b *socket.Batch, last bool) bool {
	before := b.Len()
	c.mu.Lock()
	answers, sub := c.answers, c.sub
	c.answers = nil
	c.size.Store(0)
	c.mu.Unlock()
	for _, text := range answers {
		b.Text(nil, text, nil)
	}
	if last {
		return b.Len() > before
	}
	more := sub != nil
	for reads := 0; ; reads++ {
		c.put(b)
		if !more || b.Room() == 0 || reads == maxReads {
			break
		}
		more = c.read(sub)
	}
	if more || len(c.queue) > 0 {
		c.wake()
	}
	return b.Len() > before
}

// put puts into the batch what is queued, as much as there is room for.
func (c *client) put(b *socket.Batch) {
	n := 0
	for ; n < len(c.queue) && b.Room() > 0; n++ {
		m := &c.queue[n]
		if m.of == nil {
			b.Text(m.text, m.after, nil)
		} else {
			b.Text(m.of.little, appendText(nil, m.channel), m.after)
		}
	}
	clear(c.queue[:n])
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil // most are idle for most of the time
	}
}

// room is what a read needs, lent for as long as it takes.
type room struct {
	events [maxRead]killfeed.Event
	kills  [maxRead]*kill
}

// read queues what comes next. It returns whether there may be more.
func (c *client) read(sub *killfeed.Subscription) (more bool) {
	in := c.rooms.Get().(*room)
	defer func() {
		*in = room{}
		c.rooms.Put(in)
	}()
	d, err := sub.Read(in.events[:], maxRead)
	if err != nil {
		c.mu.Lock()
		replaced := c.sub != sub // by who handles messages, and woke the new one
		c.mu.Unlock()
		if !replaced && !errors.Is(err, killfeed.ErrClosed) { // else the server is about to end the connection
			c.end(c.failed(err))
		}
		return false
	}
	if len(d.Events) == 0 && d.Gap == nil {
		return d.More
	}
	c.mu.Lock()
	_, streams := c.channels[killstream]
	c.mu.Unlock()
	u := c.feed.Universe()
	for i := range d.Events { // a large killmail takes a while, so not with mu held
		e := &d.Events[i]
		if e.KillmailID == 0 { // there is no message that could name it
			continue
		}
		if in.kills[i] = c.shelf.take(e, u); streams {
			in.kills[i].streamOf(e)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Gap != nil && c.cursors {
		c.queue = append(c.queue, message{text: appendGap(d.Gap)})
	}
	for _, k := range in.kills[:len(d.Events)] {
		if k != nil {
			c.match(k, streams)
		}
	}
	return d.More
}

// match queues the messages of a killmail: one for each of the client's channels that it is on. It looks for the fewer in the
// more. The caller holds mu.
func (c *client) match(k *kill, streams bool) {
	before := len(c.queue)
	if streams {
		c.queue = append(c.queue, message{text: k.stream, after: brace})
	}
	on := func(name string) { c.queue = append(c.queue, message{of: k, channel: name, after: brace}) }
	if first := len(c.queue); len(c.channels) < len(k.channels) {
		for name := range c.channels {
			if _, ok := slices.BinarySearch(k.channels, name); ok {
				on(name)
			}
		}
		slices.SortFunc(c.queue[first:], func(a, b message) int { return cmp.Compare(a.channel, b.channel) })
	} else {
		for _, name := range k.channels {
			if _, ok := c.channels[name]; ok {
				on(name)
			}
		}
	}
	for _, t := range c.worth {
		if t.least > k.value {
			break
		}
		on(t.name)
	}
	if c.cursors && len(c.queue) > before { // with the last: who resumes behind it has had all
		after := append(killfeed.Cursor{After: k.id, Epoch: c.epoch}.Append([]byte(`,"cursor":"`)), `"}`...)
		c.queue[len(c.queue)-1].after = after
	}
}

// Written is socket.Handler's.
func (c *client) Written() {}

// Ended is socket.Handler's.
func (c *client) Ended(int) {
	c.replace(nil)
	c.dialect.channels.Add(-int64(len(c.channels)))
}
