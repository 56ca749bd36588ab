package web

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"killfeed"
	"killfeed/names"
)

// What looks back at the log instead of following it. Nothing is stored or committed, so that anybody may cache it for a moment.

// showKillmail answers with the newest version of one killmail.
func (a *API) showKillmail(x *exchange) error {
	id, err := strconv.ParseInt(x.r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return killfeed.Invalid("id", x.r.PathValue("id"), "a killmail's id: decimal digits, from 1 on")
	}
	p := &x.params
	p.form = formOne
	if err := eachPair(x.r.URL.RawQuery, p.set); err != nil {
		return err
	}
	shown, err := p.readShape()
	if err != nil {
		return err
	}
	e, err := a.feed.Killmail(id)
	var damaged *killfeed.DamageError
	switch {
	case errors.Is(err, killfeed.ErrNotFound):
		return refuse(http.StatusNotFound, "%s", strings.TrimSuffix(err.Error(), ": "+killfeed.ErrNotFound.Error()))
	case errors.As(err, &damaged):
		a.log.Error("a killmail cannot be read; run killfeed check", "killmail_id", id, "err", err)
		return refuse(http.StatusInternalServerError, "killmail %d is damaged on this server's disk: get it from elsewhere", id)
	case err != nil:
		return err
	}
	x.cacheable()
	x.buf = a.appendEvent(x.buf[:0], &e, shown)
	x.send(http.StatusOK, valueJSON, x.buf)
	return nil
}

// lookBack answers with the newest events on the topics, newest first.
func (a *API) lookBack(x *exchange) error {
	x.params.form = formHistory
	if err := eachPair(x.r.URL.RawQuery, x.params.set); err != nil {
		return err
	}
	return a.history(x)
}

// lookBackAt is lookBack for the solar system that the path names.
func (a *API) lookBackAt(x *exchange) error {
	id, err := a.pathSystem(x)
	if err != nil {
		return err
	}
	p := &x.params
	p.form = formHistory
	err = eachPair(x.r.URL.RawQuery, func(name, value string) error {
		if isTopicList(name) { // it is another one that they belong to
			return nil
		}
		return p.set(name, value)
	})
	if err != nil {
		return err
	}
	p.topics = append(p.topics[:0], killfeed.System(id))
	return a.history(x)
}

// history answers for lookBack.
func (a *API) history(x *exchange) error {
	past, err := a.readPast(&x.params)
	if err != nil {
		return err
	}
	shown, err := x.params.readShape()
	if err != nil {
		return err
	}
	h, err := a.feed.LookBack(x.r.Context(), past)
	if err != nil {
		return err
	}
	b := a.appendEvents(x.buf[:0], h.Events, shown)
	b = a.appendHead(append(b, ','), h.Head)
	b = append(b, `,"next":`...)
	if h.Next > 0 {
		b = append(killfeed.Cursor{After: h.Next, Epoch: a.epoch}.Append(append(b, '"')), '"')
	} else {
		b = append(b, "null"...)
	}
	if h.Gap != nil {
		b = appendGap(append(b, `,"gap":`...), h.Gap)
	}
	x.buf = append(b, '}')
	x.w.Header()["Killfeed-Head"] = a.headValue(h.Head)
	x.cacheable()
	x.send(http.StatusOK, valueJSON, x.buf)
	return nil
}

// appendHead appends the members that tell where the log ended, and from where on to read what comes later.
func (a *API) appendHead(b []byte, head killfeed.EventID) []byte {
	b = appendID(append(b, `"head":`...), head)
	b = append(append(append(b, `,"epoch":"`...), a.epoch...), `","cursor":"`...)
	return append(killfeed.Cursor{After: head, Epoch: a.epoch}.Append(b), '"')
}

// readPast makes sense of a look back.
func (a *API) readPast(p *readParams) (past killfeed.Past, err error) {
	r, err := p.read()
	if err != nil {
		return past, err
	}
	past = killfeed.Past{Topics: r.Topics, Limit: r.Limit, Filter: r.Filter, Updates: r.Updates, NoBackfill: r.NoBackfill}
	if len(past.Topics) == 0 {
		past.Topics = []killfeed.Topic{killfeed.All()}
	}
	if p.given[paramBefore] {
		if past.Before, err = a.parseBefore(p.value[paramBefore]); err != nil {
			return past, err
		}
	}
	now := time.Now()
	for _, bound := range []struct {
		param param
		name  string
		to    *time.Time
	}{{paramSince, "since", &past.Since}, {paramUntil, "until", &past.Until}} {
		if p.given[bound.param] {
			if *bound.to, err = parseMoment(bound.name, p.value[bound.param], now); err != nil {
				return past, err
			}
		}
	}
	if !past.Since.IsZero() && !past.Until.IsZero() && !past.Since.Before(past.Until) {
		return past, killfeed.Invalid("until", p.value[paramUntil], "a time behind since")
	}
	return past, nil
}

// parseBefore reads where a look back goes on: a cursor of this log, or an event id.
func (a *API) parseBefore(value string) (killfeed.EventID, error) {
	c, err := killfeed.ParseCursor(value)
	switch {
	case err != nil || c.After == 0:
		return 0, killfeed.Invalid("before", value, "next of the answer before, or an event id from 1 on")
	case !a.feed.State().Holds(c):
		return 0, killfeed.Invalid("before", value, "a cursor of this log, whose epoch is "+string(a.epoch))
	}
	return c.After, nil
}

// parseMoment reads a time, or an age, which is a time ago.
func parseMoment(name, value string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, value); err == nil {
		return t, nil
	}
	if age, ok := parseAge(value); ok {
		return now.Add(-age), nil
	}
	return time.Time{}, killfeed.Invalid(name, value, "a time such as 2026-11-23T18:00:00Z, or how long ago, as in 24h or 7d")
}

// defaultWindow is the time that is counted unless the caller says which.
const defaultWindow = 24 * time.Hour

// counts answers with how many killmails each solar system had.
func (a *API) counts(x *exchange) error {
	p := &x.params
	p.form = formCounts
	if err := eachPair(x.r.URL.RawQuery, p.set); err != nil {
		return err
	}
	past, err := a.readPast(p)
	if err != nil {
		return err
	}
	shown, err := p.readShape()
	if err != nil {
		return err
	}
	window := defaultWindow
	if p.given[paramWindow] {
		var ok bool
		if window, ok = parseAge(p.value[paramWindow]); !ok {
			return killfeed.Invalid("window", p.value[paramWindow], "how long back to count, as in 24h or 7d")
		}
		if p.given[paramSince] {
			return killfeed.Invalid("window", p.value[paramWindow], "nothing, since since says where counting begins")
		}
	}
	until := past.Until
	if until.IsZero() {
		until = time.Now()
	}
	if past.Since.IsZero() {
		past.Since = until.Add(-window)
	}
	counts, st, err := a.feed.Counts(x.r.Context(), past)
	if err != nil {
		return err
	}
	slices.SortFunc(counts, func(c, d killfeed.SystemCount) int {
		return cmp.Or(cmp.Compare(d.Killmails, c.Killmails), cmp.Compare(c.System, d.System))
	})
	b := past.Since.UTC().AppendFormat(append(x.buf[:0], `{"since":"`...), timeLayout)
	b = until.UTC().AppendFormat(append(b, `","until":"`...), timeLayout)
	b = append(a.appendHead(append(b, `",`...), st.Head), `,"counts":[`...)
	u := a.feed.Universe()
	for i, c := range counts {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(b, `{"system_id":`...), uint64(c.System), 10)
		b = strconv.AppendInt(append(b, `,"killmails":`...), int64(c.Killmails), 10)
		b = appendID(append(b, `,"latest":`...), c.Latest)
		if shown.names {
			if place, state := a.place(u, c.System); state == names.Known {
				b = appendString(append(b, `,"name":`...), place.Name)
			}
		}
		b = append(b, '}')
	}
	x.buf = append(b, "]}"...)
	x.w.Header()["Killfeed-Head"] = a.headValue(st.Head)
	x.cacheable()
	x.send(http.StatusOK, valueJSON, x.buf)
	return nil
}
