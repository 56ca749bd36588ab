package jetstream

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"killfeed"
)

// Headers of a message. Its data is the event's killmail, byte by byte, and its sequence the event's id.
const (
	// headerAppend names the try to append: the same for all messages of one batch, and when they are sent again.
	headerAppend = "Killfeed-Append"
	// headerReceived is ReceivedAt in Unix milliseconds, headerKilled KilledAt in Unix seconds.
	headerReceived = "Killfeed-Received"
	headerKilled   = "Killfeed-Killed"
	headerMarks    = "Killfeed-Marks"
	headerMirror   = "Killfeed-Mirror"
	headerKillmail = "Killfeed-Killmail"
	// headerChain is the chain's sum before the event.
	headerChain = "Killfeed-Chain"
)

// entry is an event as it stands in the stream.
type entry struct {
	killfeed.Event
	// append is the try that brought it, before the chain's sum before it.
	append string
	before sum
}

// message makes the message of an event. It has nothing in it that depends on the event's place but the chain.
func message(name string, e *killfeed.Event, id string, before sum) *nats.Msg {
	m := nats.NewMsg(name + ".events." + strconv.FormatUint(uint64(e.SystemID), 10))
	m.Data = e.Killmail
	set := func(key, value string) { m.Header[key] = []string{value} }
	set(headerAppend, id)
	set(headerChain, before.header())
	set(headerReceived, strconv.FormatInt(e.ReceivedAt.UnixMilli(), 10))
	set(headerMarks, strconv.FormatUint(uint64(e.Marks), 10))
	set(headerMirror, strconv.FormatUint(e.MirrorSeq, 10))
	if e.KillmailID != 0 {
		set(headerKillmail, strconv.FormatInt(e.KillmailID, 10))
	}
	if !e.KilledAt.IsZero() {
		set(headerKilled, strconv.FormatInt(e.KilledAt.Unix(), 10))
	}
	return m
}

// parse is the inverse of message. An error, a killfeed.ErrFailed, means that something else than a node has published into the stream,
// or a version of the program that this one does not understand.
func parse(name string, seq uint64, subject string, h nats.Header, data []byte) (entry, error) {
	p := parser{header: h}
	e := entry{append: h.Get(headerAppend)}
	e.ID = killfeed.EventID(seq)
	e.Killmail = data
	system, ok := strings.CutPrefix(subject, name+".events.")
	e.SystemID = uint32(p.number("subject", system, !ok, 32))
	e.ReceivedAt = time.UnixMilli(p.get(headerReceived, false, 63)).UTC()
	e.Marks = killfeed.Marks(p.get(headerMarks, false, 8))
	e.MirrorSeq = uint64(p.get(headerMirror, false, 63))
	e.KillmailID = p.get(headerKillmail, true, 63)
	if text := h.Get(headerKilled); text != "" {
		at, err := strconv.ParseInt(text, 10, 64) // a killmail may name a time before 1970
		p.fail(headerKilled, text, err != nil)
		e.KilledAt = time.Unix(at, 0).UTC()
	}
	var err error
	if e.before, err = parseHeader(h.Get(headerChain)); err != nil {
		p.fail(headerChain, h.Get(headerChain), true)
	}
	p.fail(headerAppend, e.append, e.append == "")
	p.fail("data", fmt.Sprintf("%.20q", data), len(data) == 0 || data[0] != '{')
	if p.err != nil {
		return entry{}, fmt.Errorf("message %d of stream %q is no event (%w); only nodes of the feed may publish there: %w",
			seq, name, p.err, killfeed.ErrFailed)
	}
	return e, nil
}

// parser keeps the first error.
type parser struct {
	header nats.Header
	err    error
}

func (p *parser) fail(what, value string, failed bool) {
	if failed && p.err == nil {
		p.err = fmt.Errorf("its %s is %q", what, value)
	}
}

func (p *parser) get(key string, optional bool, bits int) int64 {
	value := p.header.Get(key)
	if value == "" && optional {
		return 0
	}
	return int64(p.number(key, value, false, bits))
}

func (p *parser) number(what, value string, failed bool, bits int) uint64 {
	n, err := strconv.ParseUint(value, 10, bits)
	p.fail(what, value, failed || err != nil)
	return n
}
