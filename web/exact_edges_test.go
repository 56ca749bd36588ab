package web_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing/synctest"

	"killfeed"
)

// asked is what a reader asks for.
type asked struct {
	topics            []killfeed.Topic
	cursor            string
	updates, backfill bool
	filter            string // empty: none
}

// reader is one way to read, from a cursor on. All of them are to tell the same, in short as say has it: events, and gaps.
type reader interface {
	// take waits until nothing more comes at the moment, and returns what came since.
	take() []string
	// cursor is where to go on.
	cursor() string
	// leave ends it.
	leave()
}

// edges are all ways to read. from is the place behind which the reader began, as it was told. refused is the parameter that was
// not accepted; there is no reader then.
var edges = map[string]func(h *host, q asked) (r reader, from killfeed.EventID, refused string){
	"poll": openPoll,
	"sse": func(h *host, q asked) (reader, killfeed.EventID, string) {
		return openStream(h, q, "text/event-stream")
	},
	"ndjson": func(h *host, q asked) (reader, killfeed.EventID, string) {
		return openStream(h, q, "application/x-ndjson")
	},
	"channels": openChannel,
}

// query is what is asked for as parameters; a poll and a stream leave out different things by themselves.
func (q asked) query() string {
	v := url.Values{"after": {q.cursor}, "updates": {"0"}, "backfill": {"0"}}
	for _, t := range q.topics {
		v.Add("topics", t.String())
	}
	if q.updates {
		v.Set("updates", "1")
	}
	if q.backfill {
		v.Set("backfill", "1")
	}
	if q.filter != "" {
		v.Set("filter", q.filter)
	}
	return v.Encode()
}

// polling reads by polls without a client.
type polling struct {
	h    *host
	q    asked
	told []string
}

func openPoll(h *host, q asked) (reader, killfeed.EventID, string) {
	a := <-h.later(h.request("GET", "/api/killfeed?limit=3&"+q.query(), ""))
	if a.status == 400 {
		return nil, 0, a.problem(400).Parameter
	}
	r := &polling{h: h, q: q}
	p := r.note(a)
	return r, p.Head, ""
}

// note takes the answer to a poll.
func (r *polling) note(a *answer) poll {
	p := a.poll()
	if p.Gap != nil {
		r.told = append(r.told, "gap "+p.Gap.String())
	}
	for _, e := range p.Events {
		r.told = append(r.told, shortOf(e.ID, e.Update, e.Backfill))
	}
	r.q.cursor = p.Next
	return p
}

func (r *polling) take() []string {
	for {
		before := len(r.told)
		p := r.note(<-r.h.later(r.h.request("GET", "/api/killfeed?limit=3&"+r.q.query(), "")))
		if len(r.told) == before && p.Head == r.h.feed.State().Head { // else one came behind the look of this poll
			told := r.told
			r.told = nil
			return told
		}
	}
}

func (r *polling) cursor() string { return r.q.cursor }
func (r *polling) leave()         {}

// watching reads a stream.
type watching struct {
	s    *streaming
	told []string // of its open
}

func openStream(h *host, q asked, accept string) (reader, killfeed.EventID, string) {
	s := h.stream(streamPath+"?"+q.query(), "Accept", accept)
	if s.res.StatusCode != 200 {
		return nil, 0, h.get(streamPath + "?" + q.query()).problem(400).Parameter
	}
	frames := s.take()
	if len(frames) == 0 || frames[0].kind != "open" {
		h.t.Fatalf("a stream begins with %q", say(frames))
	}
	var at place
	decode(h.t, []byte(frames[0].data), &at)
	return &watching{s, shortAll(frames)}, at.Start - 1, ""
}

// shortAll leaves out what is neither an event nor a gap.
func shortAll(frames []frame) (told []string) {
	for _, f := range frames {
		switch text := f.short(); text {
		case "open", "heartbeat":
		default:
			told = append(told, strings.TrimPrefix(text, "open "))
		}
	}
	return told
}

func (r *watching) take() []string {
	told := append(r.told, shortAll(r.s.take())...)
	r.told = nil
	return told
}

func (r *watching) cursor() string { return r.s.last() }
func (r *watching) leave()         { r.s.leave() }

// joined reads a channel.
type joined struct {
	w    *wire
	told []string
	last string
}

func openChannel(h *host, q asked) (reader, killfeed.EventID, string) {
	w := h.dial(dialing{client: h.client, host: "memory"}, "vsn=2.0.0")
	params := map[string]any{"after": q.cursor, "updates": q.updates, "backfill": q.backfill}
	if q.filter != "" {
		params["filter"] = q.filter
	}
	topic := "killfeed"
	if len(q.topics) == 1 {
		topic = q.topics[0].String()
	} else {
		var names []string
		for _, t := range q.topics {
			names = append(names, t.String())
		}
		params["topics"] = names
	}
	text, err := json.Marshal(params)
	if err != nil {
		h.t.Fatal(err)
	}
	w.send(fmt.Sprintf(`["1","1",%q,"phx_join",%s]`, topic, text))
	reply := parse(h.t, w.next())
	var p struct {
		Response struct {
			place
			Parameter string
		}
	}
	decode(h.t, reply.payload, &p)
	if reply.status() != "ok" {
		w.conn.CloseNow()
		return nil, 0, p.Response.Parameter
	}
	r := &joined{w: w, last: p.Response.Cursor}
	if g := p.Response.Gap; g != nil {
		r.told = append(r.told, "gap "+g.String())
	}
	return r, p.Response.Start - 1, ""
}

func (r *joined) take() []string {
	synctest.Wait()
	for {
		select {
		case text, ok := <-r.w.reads:
			if !ok {
				r.w.t.Fatalf("the socket is closed: %v", r.w.err)
			}
			r.note(parse(r.w.t, text))
			continue
		default:
		}
		told := r.told
		r.told = nil
		return told
	}
}

func (r *joined) note(m message) {
	var p struct {
		killfeed.Gap
		EventID          killfeed.EventID `json:"event_id"`
		Update, Backfill bool
		Cursor           string
	}
	decode(r.w.t, m.payload, &p)
	switch m.event {
	case "new_killmail":
		r.told = append(r.told, shortOf(p.EventID, p.Update, p.Backfill))
		r.last = p.Cursor
	case "gap":
		r.told = append(r.told, "gap "+p.Gap.String())
	default:
		r.w.t.Fatalf("there came %+v", m)
	}
}

func (r *joined) cursor() string { return r.last }
func (r *joined) leave()         { r.w.conn.CloseNow() }
