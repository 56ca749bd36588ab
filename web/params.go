package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"killfeed"
)

// readParams collects the parameters of a read, from the query, from a body, or from both. It is reused.
type readParams struct {
	form form
	// topics are systems and topics together, as given.
	topics []killfeed.Topic
	// value is what was given for each parameter that has one value, where given is set.
	value [paramCount]string
	given [paramCount]bool
}

// form is the kind of a read.
type form uint8

const (
	formPoll   form = iota
	formNext        // has no limit
	formStream      // stays: has no limit, does not wait, begins at the end, and leaves history out unless asked for it
)

type param uint8

const (
	paramClient param = iota
	paramAfter
	paramStart
	paramLimit
	paramWait
	paramCommit
	paramMaxAge
	paramUpdates
	paramBackfill
	paramResume // last_event_id of a stream; behind paramAfter, because it wins
	paramCount
)

const (
	defaultLimit = 500
	maxLimit     = 1000
	maxWait      = 60 * time.Second
	// maxMaxAge keeps a max_age in seconds from overflowing; all of EVE is younger.
	maxMaxAge = 100 * 365 * 24 * time.Hour
)

// reset forgets everything but the memory of a list of usual length.
func (p *readParams) reset() {
	topics := p.topics[:0]
	if cap(topics) > 1024 {
		topics = nil
	}
	clear(p.topics)
	*p = readParams{topics: topics}
}

// set takes one value. A name that is not known is ignored; so is limit where there is none.
func (p *readParams) set(name, value string) error {
	switch name {
	case "systems", "systems[]":
		return p.addSystems(value)
	case "topics", "topics[]":
		return p.addTopics(value)
	case "client_id":
		return p.setOnce(paramClient, name, value)
	case "after":
		return p.setOnce(paramAfter, name, value)
	case "last_event_id", "lastEventId":
		if p.form != formStream {
			return nil
		}
		return p.setOnce(paramResume, "last_event_id", value)
	case "start":
		return p.setOnce(paramStart, name, value)
	case "limit":
		if p.form != formPoll {
			return nil
		}
		return p.setOnce(paramLimit, name, value)
	case "wait":
		if p.form == formStream {
			return nil
		}
		return p.setOnce(paramWait, name, value)
	case "commit":
		return p.setOnce(paramCommit, name, value)
	case "max_age":
		return p.setOnce(paramMaxAge, name, value)
	case "updates":
		return p.setOnce(paramUpdates, name, value)
	case "backfill":
		return p.setOnce(paramBackfill, name, value)
	case "filter", "names", "fields":
		return &problem{Status: http.StatusBadRequest, Parameter: name, Value: shorten(value), Accepted: "nothing",
			Detail: name + " is not in this version of killfeed: leave it out"}
	}
	base, _, indexed := strings.Cut(name, "[")
	switch {
	case !indexed || !p.knows(base):
		return nil
	case base == "systems", base == "topics":
		return killfeed.Invalid(shorten(name), value,
			base+"=1,2 or "+base+"[]=1&"+base+"[]=2, without anything in the brackets")
	}
	// Ignoring it would read for nobody, or without what was asked for.
	return killfeed.Invalid(shorten(name), value, base+"=<value>: it is not a list")
}

// knows tells whether a name means something here.
func (p *readParams) knows(name string) bool {
	switch name {
	case "systems", "systems[]", "topics", "topics[]", "client_id", "after", "start", "commit", "max_age",
		"updates", "backfill", "filter", "names", "fields":
		return true
	case "limit":
		return p.form == formPoll
	case "wait":
		return p.form != formStream
	case "last_event_id", "lastEventId":
		return p.form == formStream
	}
	return false
}

// setOnce notes a parameter that has one value. Twice the same is the same; two different ones would leave it to chance
// which one the caller meant, and a client that reads under the wrong name loses events.
func (p *readParams) setOnce(which param, name, value string) error {
	if p.given[which] && p.value[which] != value {
		return killfeed.Invalid(name, value, "one value only, and "+strconv.Quote(shorten(p.value[which]))+" was given too")
	}
	p.value[which], p.given[which] = value, true
	return nil
}

// setTopics takes {"systems":[…],"topics":[…]}.
func (p *readParams) setTopics(name string, value []byte) error {
	if value[0] != '{' {
		return killfeed.Invalid(name, string(value), `an object, as in {"systems":[30000142],"topics":["label:solo"]}`)
	}
	return eachMember(value, func(name string, value []byte) error {
		if !isTopicList(name) {
			return nil
		}
		return setJSON(p.set, name, value)
	})
}

// add notes a topic. The feed has the same limit, but a body has room for 500,000 of them before it gets to say so.
func (p *readParams) add(t killfeed.Topic) error {
	if len(p.topics) == killfeed.MaxTopics {
		return killfeed.Invalid("topics", "more than "+strconv.Itoa(killfeed.MaxTopics)+" systems and topics",
			"at most "+strconv.Itoa(killfeed.MaxTopics)+" in one request")
	}
	p.topics = append(p.topics, t)
	return nil
}

const wantSystem = "a solar system's id: decimal digits, 1 to 2147483647; several are separated by commas"

func (p *readParams) addSystems(list string) error {
	for {
		one, rest, more := strings.Cut(list, ",")
		id, ok := killfeed.ParseID(one)
		if !ok {
			return killfeed.Invalid("systems", one, wantSystem)
		}
		if err := p.add(killfeed.System(id)); err != nil || !more {
			return err
		}
		list = rest
	}
}

func (p *readParams) addTopics(list string) error {
	for {
		one, rest, more := strings.Cut(list, ",") // labels have no commas
		t, err := killfeed.ParseTopic(one)
		if err != nil {
			return err
		}
		t.Label = strings.Clone(t.Label) // a client keeps its topics; it must not keep the whole query with them
		if err := p.add(t); err != nil || !more {
			return err
		}
		list = rest
	}
}

// read makes sense of what was given, but for client_id.
func (p *readParams) read() (killfeed.Read, error) {
	if len(p.topics) == 0 {
		return killfeed.Read{}, killfeed.Invalid("systems", "",
			"at least one solar system, as in systems=30000142 or systems[]=30000142, or topic, as in topics=all")
	}
	r := killfeed.Read{Topics: slices.Clone(p.topics)} // the feed may keep it for a moment longer than this call
	var err error
	switch p.form {
	case formPoll:
		r.Limit = defaultLimit
	case formStream:
		r.Start, r.NoBackfill = killfeed.Latest, true
	}
	for which := range paramCount {
		if !p.given[which] {
			continue
		}
		switch value := p.value[which]; which {
		case paramAfter:
			r.From, err = parseCursor("after", value)
		case paramResume:
			if value != "" { // a program that has none yet sends none
				r.From, err = parseCursor("last_event_id", value)
			}
		case paramStart:
			r.Start, err = killfeed.ParseStart("start", value)
		case paramLimit:
			r.Limit, err = parseLimit("limit", value, defaultLimit)
		case paramWait:
			r.Wait, err = parseWait(value)
		case paramCommit:
			r.Manual = value == "manual"
			if !r.Manual && value != "auto" {
				err = killfeed.Invalid("commit", value, "auto (the default) or manual")
			}
		case paramMaxAge:
			r.MaxAge, err = parseMaxAge(value)
		case paramUpdates:
			r.Updates, err = parseFlag("updates", value)
		case paramBackfill:
			var backfill bool
			backfill, err = parseFlag("backfill", value)
			r.NoBackfill = !backfill
		}
		if err != nil {
			return killfeed.Read{}, err
		}
	}
	return r, nil
}

// parseCursor reads a cursor, also one with the nonce of a durable stream, which means nothing here.
func parseCursor(name, value string) (*killfeed.Cursor, error) {
	id, _ := cutNonce(value)
	c, err := killfeed.ParseCursor(id)
	if err != nil {
		return nil, killfeed.Invalid(name, value, "a cursor, <event_id>-<epoch>, as an earlier answer gave it, or an event id")
	}
	return &c, nil
}

// nonceLen is the length of a nonce as text.
const nonceLen = 12

// cutNonce takes the nonce from the id of a durable stream's event: <event_id>-<epoch>-<nonce>.
func cutNonce(id string) (cursor, nonce string) {
	i := strings.LastIndexByte(id, '-')
	if i < 0 || len(id)-i-1 != nonceLen || strings.IndexByte(id, '-') == i || strings.Trim(id[i+1:], "0123456789abcdef") != "" {
		return id, ""
	}
	return id[:i], id[i+1:]
}

func parseLimit(name, value string, usual int) (int, error) {
	n, ok := killfeed.ParseID(value)
	if !ok || n > maxLimit {
		return 0, killfeed.Invalid(name, value,
			"a whole number from 1 to "+strconv.Itoa(maxLimit)+" ("+strconv.Itoa(usual)+" when left out)")
	}
	return int(n), nil
}

func parseWait(value string) (time.Duration, error) {
	d, ok := parseSeconds(value)
	if !ok || d > maxWait {
		return 0, killfeed.Invalid("wait", value, "seconds from 0 to 60, as in 30 or 2.5")
	}
	return d, nil
}

func parseMaxAge(value string) (time.Duration, error) {
	d, ok := parseSeconds(value)
	if !ok && !strings.ContainsAny(value, "+-") {
		var err error
		d, err = time.ParseDuration(value)
		ok = err == nil
	}
	if !ok || d <= 0 || d > maxMaxAge {
		return 0, killfeed.Invalid("max_age", value, "an age above 0, in seconds, as in 900, or as in 90s, 15m or 2h")
	}
	return d, nil
}

// parseSeconds reads plain decimals, "30" or "2.5". What strconv takes beyond that (exponents, signs, Inf) is refused.
func parseSeconds(value string) (time.Duration, bool) {
	whole, fraction, _ := strings.Cut(value, ".")
	if whole == "" || len(value) > 20 || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || f > maxMaxAge.Seconds() {
		return 0, false
	}
	return time.Duration(f * float64(time.Second)), true
}

func parseFlag(name, value string) (bool, error) {
	switch value {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, killfeed.Invalid(name, value, "0 or 1")
}
