package web

import (
	"net/http"
	"slices"
	"strconv"

	"killfeed"
)

// readRequest fills x.params and returns the read that the request asks for, and how it wants its events. HEAD changes nothing
// and does not wait.
func (x *exchange) readRequest(f form) (r killfeed.Read, s shape, err error) {
	p := &x.params
	p.form = f
	if err := eachPair(x.r.URL.RawQuery, p.set); err != nil {
		return r, s, err
	}
	if x.r.Method == http.MethodPost {
		err := x.members(true, func(name string, value []byte) error {
			if !p.knows(name) {
				return nil
			}
			return setJSON(p.set, name, value)
		})
		if err != nil {
			return r, s, err
		}
	}
	switch {
	case p.given[paramClient]:
		if err := killfeed.CheckClientName(p.value[paramClient]); err != nil {
			return r, s, err
		}
		if err := x.mayUse(p.value[paramClient]); err != nil {
			return r, s, err
		}
	case f == formNext:
		return r, s, killfeed.Invalid("client_id", "", "a name of your choice, under which the server keeps your "+
			"position, 1 to 128 bytes of printable UTF-8; to keep it yourself, use /api/killfeed?after=<cursor>&limit=1")
	case !p.given[paramAfter] && !p.given[paramStart]:
		return r, s, killfeed.Invalid("client_id", "", "a name of your choice, under which the server keeps your "+
			"position, 1 to 128 bytes of printable UTF-8; to keep it yourself, send after=<cursor> instead, and after=0 at first")
	}
	if r, err = p.read(); err == nil {
		s, err = p.readShape()
	}
	if x.r.Method == http.MethodHead {
		r.Peek, r.Wait = true, 0
	}
	x.waits = r.Wait > 0
	return r, s, err
}

// client is the client_id that was given.
func (x *exchange) client() string { return x.params.value[paramClient] }

// poll answers with the events that a client, or the holder of a cursor, has not had.
func (a *API) poll(x *exchange) error {
	r, shown, err := x.readRequest(formPoll)
	if err != nil {
		return err
	}
	var ans killfeed.Answer
	if x.params.given[paramClient] {
		ans, err = a.feed.Fetch(x.r.Context(), x.client(), r)
	} else {
		ans, err = a.readAfter(x, r)
	}
	if err != nil {
		return err
	}
	b := a.appendEvents(x.buf[:0], ans.Events, shown)
	b = append(b, `,"head":`...)
	b = strconv.AppendUint(b, uint64(ans.Head), 10)
	b = append(b, `,"epoch":"`...)
	b = append(b, a.epoch...)
	b = append(b, `","more":`...)
	b = strconv.AppendBool(b, ans.More)
	if ans.Gap != nil {
		b = appendGap(append(b, `,"gap":`...), ans.Gap)
	}
	if !x.params.given[paramClient] {
		b = append(ans.Next.Append(append(b, `,"next":"`...)), '"')
	}
	b = append(b, '}')
	x.buf = b
	a.describe(x, &ans)
	x.send(http.StatusOK, valueJSON, b)
	return nil
}

// appendEvents appends the beginning of an answer, up to the end of its events.
func (a *API) appendEvents(b []byte, events []killfeed.Event, s shape) []byte {
	size := 256
	if s.fields == nil {
		for i := range events {
			size += 128 + len(events[i].Killmail)
		}
	}
	b = append(slices.Grow(b, size), `{"events":[`...)
	for i := range events {
		if i > 0 {
			b = append(b, ',')
		}
		b = a.appendEvent(b, &events[i], s)
	}
	return append(b, ']')
}

// readAfter reads without a client. Such answers are the same for everybody, so caches may hold them for a moment: many
// readers of one log cost no more than one then.
func (a *API) readAfter(x *exchange, r killfeed.Read) (killfeed.Answer, error) {
	var (
		after killfeed.Cursor
		err   error
	)
	if r.From != nil {
		after = *r.From
	} else if after, err = a.feed.CursorAt(r.Start); err != nil {
		return killfeed.Answer{}, err
	}
	ans, err := a.feed.ReadAfter(x.r.Context(), after, r)
	if err == nil && !x.waits {
		x.cacheable()
	}
	return ans, err
}

// cacheable lets caches hold the answer for a moment: it is the same for everybody.
func (x *exchange) cacheable() {
	if x.r.Method == http.MethodPost {
		return
	}
	h := x.w.Header()
	h["Cache-Control"] = valueBriefly
	if x.private {
		h["Cache-Control"] = valuePrivately
	}
	if h["Vary"] == nil { // compression sets it by itself
		h["Vary"] = valueEncoding
	}
}

// next answers with the one event that comes next for a client.
func (a *API) next(x *exchange) error {
	r, shown, err := x.readRequest(formNext)
	if err != nil {
		return err
	}
	ans, err := a.feed.Next(x.r.Context(), x.client(), r)
	if err != nil {
		return err
	}
	a.describe(x, &ans)
	if len(ans.Events) == 0 {
		x.empty()
		return nil
	}
	b := a.appendOpenEvent(x.buf[:0], &ans.Events[0], shown)
	if ans.Gap != nil {
		b = appendGap(append(b, `,"gap":`...), ans.Gap)
	}
	b = append(b, '}')
	x.buf = b
	x.send(http.StatusOK, valueJSON, b)
	return nil
}

// describe sets the headers that tell about a read.
func (a *API) describe(x *exchange, ans *killfeed.Answer) {
	h := x.w.Header()
	h["Killfeed-Head"] = a.headValue(ans.Head)
	if ans.Gap != nil {
		h["Killfeed-Gap"] = []string{ans.Gap.String()}
	}
	if ans.More { // next sets it only when it found nothing
		h["Killfeed-More"] = valueOne
	}
}

func appendGap(b []byte, g *killfeed.Gap) []byte {
	b = append(b, `{"reason":"`...)
	b = append(b, g.Reason...)
	b = append(b, '"')
	if g.From > 0 {
		b = appendID(append(b, `,"from":`...), g.From)
	}
	if g.To > 0 {
		b = appendID(append(b, `,"to":`...), g.To)
	}
	return append(b, '}')
}

func appendID(b []byte, id killfeed.EventID) []byte { return strconv.AppendUint(b, uint64(id), 10) }
