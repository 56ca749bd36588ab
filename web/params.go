package web

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"killfeed"
)

// readParams collects the parameters of a read, from the query, from a body, or from both. It is reused.
type readParams struct {
	form form
	// universe knows what systems, regions and so on are called; nil: ids are all there is.
	universe *killfeed.Universe
	// filters remembers what was compiled; nil: everything is compiled each time.
	filters *filters
	// topics are systems and topics together, as given.
	topics []killfeed.Topic
	// value is what was given for each parameter that has one value, where given is set.
	value [paramCount]string
	given [paramCount]bool
}

// form is the kind of a read.
type form uint8

const (
	formPoll    form = iota
	formNext         // has no limit
	formStream       // stays: has no limit, does not wait, begins at the end, and leaves history out unless asked for it
	formHistory      // looks back, newest first
	formCounts       // counts, looking back
	formOne          // shows one killmail
)

// param is a parameter that has one value.
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
	paramFilter
	paramNames
	paramFields
	paramBefore
	paramSince
	paramUntil
	paramWindow
	paramResume // last_event_id of a stream; behind paramAfter, because it wins
	paramCount
)

// params is a set of them.
type params uint32

func setOf(all ...param) (set params) {
	for _, p := range all {
		set |= 1 << p
	}
	return set
}

var (
	paramsOfAll = setOf(paramFilter, paramNames, paramUpdates, paramBackfill)
	paramsOf    = [...]params{
		formPoll: paramsOfAll | setOf(paramFields, paramClient, paramAfter, paramStart, paramLimit, paramWait, paramCommit, paramMaxAge),
		formNext: paramsOfAll | setOf(paramFields, paramClient, paramAfter, paramStart, paramWait, paramCommit, paramMaxAge),
		formStream: paramsOfAll |
			setOf(paramFields, paramClient, paramAfter, paramStart, paramCommit, paramMaxAge, paramResume),
		formHistory: paramsOfAll | setOf(paramFields, paramLimit, paramBefore, paramSince, paramUntil),
		formCounts:  paramsOfAll | setOf(paramSince, paramUntil, paramWindow),
		formOne:     setOf(paramNames, paramFields),
	}
)

// param is the parameter that has the name in reads of the form.
func (f form) param(name string) (which param, ok bool) {
	switch name {
	case "client_id":
		which = paramClient
	case "after":
		which = paramAfter
	case "last_event_id", "lastEventId":
		which = paramResume
	case "start":
		which = paramStart
	case "limit":
		which = paramLimit
	case "wait":
		which = paramWait
	case "commit":
		which = paramCommit
	case "max_age":
		which = paramMaxAge
	case "updates":
		which = paramUpdates
	case "backfill":
		which = paramBackfill
	case "filter":
		which = paramFilter
	case "names":
		which = paramNames
	case "fields":
		which = paramFields
	case "before":
		which = paramBefore
	case "since":
		which = paramSince
	case "until":
		which = paramUntil
	case "window":
		which = paramWindow
	default:
		return 0, false
	}
	return which, paramsOf[f]>>which&1 == 1
}

const (
	defaultLimit   = 500
	defaultHistory = 100
	maxLimit       = 1000
	maxWait        = 60 * time.Second
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
	*p = readParams{topics: topics} // what it knows is set by who begins the next one
}

// set takes one value. A name that means nothing in reads of the form is ignored.
func (p *readParams) set(name, value string) error {
	switch {
	case p.form == formOne:
	case name == "systems", name == "systems[]":
		return p.addSystems(value)
	case name == "topics", name == "topics[]":
		return p.addTopics(value)
	}
	if which, ok := p.form.param(name); ok {
		if which == paramResume {
			name = "last_event_id"
		}
		return p.setOnce(which, name, value)
	}
	base, _, indexed := strings.Cut(name, "[")
	switch {
	case !indexed || !p.knows(base):
		return nil
	case isTopicList(base):
		return killfeed.Invalid(shorten(name), value,
			base+"=1,2 or "+base+"[]=1&"+base+"[]=2, without anything in the brackets")
	}
	// Ignoring it would read for nobody, or without what was asked for.
	return killfeed.Invalid(shorten(name), value, base+"=<value>: it is not a list")
}

// knows tells whether a name means something here.
func (p *readParams) knows(name string) bool {
	_, ok := p.form.param(name)
	return ok || isTopicList(name) && p.form != formOne
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

const wantSystem = "a solar system's name, or its id: decimal digits, 1 to 2147483647; several are separated by commas"

func (p *readParams) addSystems(list string) error {
	for {
		one, rest, more := strings.Cut(list, ",")
		id, ok := killfeed.ParseID(one)
		if !ok {
			var err error
			if id, err = systemNamed("systems", one, p.universe); err != nil {
				return err
			}
		}
		if err := p.add(killfeed.System(id)); err != nil || !more {
			return err
		}
		list = rest
	}
}

// systemNamed is the id of the solar system that has the name. All names have a letter in them, so that what has none is a number
// gone wrong.
func systemNamed(param, name string, u *killfeed.Universe) (uint32, error) {
	if !strings.ContainsFunc(name, unicode.IsLetter) {
		return 0, killfeed.Invalid(param, name, wantSystem)
	}
	return u.Find(param, killfeed.KindSystem, name)
}

func (p *readParams) addTopics(list string) error {
	for {
		one, rest, more := strings.Cut(list, ",") // neither labels nor names have commas
		t, err := p.universe.ParseTopic(one)
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

// read makes sense of what was given, but for client_id, how events are to be shown, and how far a look back goes.
func (p *readParams) read() (killfeed.Read, error) {
	if len(p.topics) == 0 && p.form <= formStream {
		return killfeed.Read{}, killfeed.Invalid("systems", "",
			"at least one solar system, as in systems=30000142 or systems[]=30000142, or topic, as in topics=all")
	}
	r := killfeed.Read{Topics: slices.Clone(p.topics)} // the feed may keep it for a moment longer than this call
	var err error
	switch p.form {
	case formPoll:
		r.Limit = defaultLimit
	case formHistory:
		r.Limit = defaultHistory
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
			r.Limit, err = parseLimit("limit", value, maxLimit, r.Limit)
		case paramWait:
			r.Wait, err = parseWait(value, maxWait)
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
		case paramFilter:
			r.Filter, err = p.filters.compile(value, p.universe)
		}
		if err != nil {
			return killfeed.Read{}, err
		}
	}
	return r, nil
}

// readShape makes sense of how events are to be shown.
func (p *readParams) readShape() (s shape, err error) {
	if p.given[paramNames] {
		if s.names, err = parseFlag("names", p.value[paramNames]); err != nil {
			return shape{}, err
		}
	}
	if p.given[paramFields] {
		s.fields, err = parseFields(p.value[paramFields])
	}
	return s, err
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

func parseLimit(name, value string, most, usual int) (int, error) {
	n, ok := killfeed.ParseID(value)
	if !ok || int(n) > most {
		return 0, killfeed.Invalid(name, value,
			"a whole number from 1 to "+strconv.Itoa(most)+" ("+strconv.Itoa(usual)+" when left out)")
	}
	return int(n), nil
}

func parseWait(value string, most time.Duration) (time.Duration, error) {
	d, ok := parseSeconds(value)
	if !ok || d > most {
		return 0, killfeed.Invalid("wait", value, "seconds from 0 to "+strconv.Itoa(int(most.Seconds()))+", as in 5 or 2.5")
	}
	return d, nil
}

func parseMaxAge(value string) (time.Duration, error) {
	d, ok := parseAge(value)
	if !ok {
		return 0, killfeed.Invalid("max_age", value, "an age above 0, in seconds, as in 900, or as in 90s, 15m, 2h or 7d")
	}
	return d, nil
}

// parseAge reads an age above 0: seconds, a duration as Go writes it, or days.
func parseAge(value string) (time.Duration, bool) {
	d, ok := parseSeconds(value)
	if days, found := strings.CutSuffix(value, "d"); !ok && found {
		if d, ok = parseSeconds(days); ok {
			d *= 24
			ok = d <= maxMaxAge/3600
			d *= 3600
		}
	}
	if !ok && !strings.ContainsAny(value, "+-") {
		var err error
		d, err = time.ParseDuration(value)
		ok = err == nil
	}
	return d, ok && d > 0 && d <= maxMaxAge
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
