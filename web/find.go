package web

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"killfeed"
	"killfeed/names"
)

const (
	// maxNames bounds the ids of one question for names, and maxNamesWait how long it may wait for them.
	maxNames     = 1000
	maxNamesWait = 10 * time.Second
	// defaultMatches and maxMatches are how many things a search finds.
	defaultMatches, maxMatches = 10, 100
	// maxSearch bounds the text of a search.
	maxSearch = 100
)

// showNames answers with what ids are called.
func (a *API) showNames(x *exchange) error {
	var (
		ids  []uint32
		wait time.Duration
	)
	err := eachPair(x.r.URL.RawQuery, func(name, value string) (err error) {
		switch name {
		case "ids", "ids[]":
			for one := range strings.SplitSeq(value, ",") {
				id, ok := killfeed.ParseID(one)
				if !ok {
					return killfeed.Invalid("ids", one, "an id of the game: decimal digits, 1 to 2147483647; several are separated by commas")
				}
				if ids = append(ids, id); len(ids) > maxNames {
					return killfeed.Invalid("ids", "more than "+strconv.Itoa(maxNames)+" ids", "at most "+strconv.Itoa(maxNames)+" in one request")
				}
			}
		case "wait":
			wait, err = parseWait(value, maxNamesWait)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case len(ids) == 0:
		return killfeed.Invalid("ids", "", "ids of characters, corporations, types and so on, as in ids=587,98000001")
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if wait > 0 && x.r.Method != http.MethodHead {
		x.waits = true
		if err := a.awaitNames(x.r.Context(), ids, wait); err != nil {
			return err
		}
	}
	x.buf = a.appendNamesOf(x.buf[:0], ids)
	x.send(http.StatusOK, valueJSON, x.buf)
	return nil
}

// awaitNames waits until all that static data does not know is known, or so long.
func (a *API) awaitNames(ctx context.Context, ids []uint32, wait time.Duration) error {
	u := a.feed.Universe()
	var wanted []uint32
	for _, id := range ids {
		if _, category := a.static(u, id); category == 0 {
			wanted = append(wanted, id)
		}
	}
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	_ = a.config.Names.Await(within, wanted) // that it took too long is no error here
	return context.Cause(ctx)
}

// appendNamesOf appends the answer about ids, which ascend.
func (a *API) appendNamesOf(b []byte, ids []uint32) []byte {
	u := a.feed.Universe()
	var missing, unknown []uint32
	b = append(b, `{"names":{`...)
	begin := len(b)
	for _, id := range ids {
		is, category := a.static(u, id)
		if category == 0 {
			e, state := a.config.Names.Guess(id)
			switch state {
			case names.Pending:
				missing = append(missing, id)
				continue
			case names.Unknown:
				unknown = append(unknown, id)
				continue
			}
			is, category = known{name: e.Name, ticker: e.Ticker}, e.Category
		}
		b = strconv.AppendUint(append(comma(b, begin), '"'), uint64(id), 10)
		b = append(append(append(b, `":{"category":"`...), category.String()...), `",`...)
		b = append(is.append(b), '}')
	}
	b = appendIDs(append(b, `},"missing":`...), missing)
	b = appendIDs(append(b, `,"unknown":`...), unknown)
	return append(b, '}')
}

// static is what static data knows of an id of whatever kind; no category: nothing. Ids of different kinds do not meet.
func (a *API) static(u *killfeed.Universe, id uint32) (known, names.Category) {
	if s, ok := u.System(id); ok {
		return known{name: s.Name}, names.System
	}
	if c, ok := u.Constellation(id); ok {
		return known{name: c.Name}, names.Constellation
	}
	if r, ok := u.Region(id); ok {
		return known{name: r.Name}, names.Region
	}
	if f, ok := u.Faction(id); ok {
		return known{name: f.Name}, names.Faction
	}
	if c, ok := u.Corporation(id); ok {
		return known{name: c.Name, ticker: c.Ticker}, names.Corporation
	}
	if t, ok := u.Type(id); ok {
		group, _ := u.Group(t.Group)
		return known{name: t.Name, group: group}, names.Type
	}
	return known{}, 0
}

// searchable are the kinds of things that can be searched for, by what they are called.
var searchable = []struct {
	name string
	kind killfeed.TopicKind
}{
	{"system", killfeed.KindSystem}, {"constellation", killfeed.KindConstellation}, {"region", killfeed.KindRegion},
	{"ship", killfeed.KindShip}, {"group", killfeed.KindGroup}, {"faction", killfeed.KindFaction},
	{"corporation", killfeed.KindCorporation},
}

// search answers with what is called nearly so.
func (a *API) search(x *exchange) error {
	var (
		text  string
		kinds []killfeed.TopicKind
		limit = defaultMatches
	)
	err := eachPair(x.r.URL.RawQuery, func(name, value string) (err error) {
		switch name {
		case "q":
			text = value
		case "kinds", "kinds[]":
			kinds, err = appendKinds(kinds, value)
		case "limit":
			limit, err = parseLimit(name, value, maxMatches, defaultMatches)
		}
		return err
	})
	u := a.feed.Universe()
	switch {
	case err != nil:
		return err
	case strings.TrimSpace(text) == "" || len(text) > maxSearch:
		return killfeed.Invalid("q", text, "some of a name, 1 to "+strconv.Itoa(maxSearch)+" bytes")
	case u == nil:
		return killfeed.Invalid("q", text,
			"nothing yet: names need static data, which this server does not have (killfeed sde update gets it)")
	}
	if len(kinds) == 0 {
		for _, s := range searchable {
			kinds = append(kinds, s.kind)
		}
	}
	type match struct {
		Kind string `json:"kind"`
		ID   uint32 `json:"id"`
		Name string `json:"name"`
	}
	matches := []match{}
	for _, m := range u.Search(text, limit, kinds...) {
		for _, s := range searchable {
			if s.kind == m.Kind {
				matches = append(matches, match{s.name, m.ID, m.Name})
			}
		}
	}
	x.cacheable()
	return x.json(http.StatusOK, struct {
		Matches []match `json:"matches"`
	}{matches})
}

// appendKinds reads a list of kinds. Each is searched once.
func appendKinds(kinds []killfeed.TopicKind, list string) ([]killfeed.TopicKind, error) {
	for one := range strings.SplitSeq(list, ",") {
		known := false
		for _, s := range searchable {
			if s.name == one {
				known = true
				if !slices.Contains(kinds, s.kind) {
					kinds = append(kinds, s.kind)
				}
			}
		}
		if !known {
			return nil, killfeed.Invalid("kinds", one, "system, constellation, region, ship (any type), group, faction or corporation; "+
				"several are separated by commas")
		}
	}
	return kinds, nil
}

// pathSystem is the solar system that the path names.
func (a *API) pathSystem(x *exchange) (uint32, error) {
	name := x.r.PathValue("id")
	if id, ok := killfeed.ParseID(name); ok {
		return id, nil
	}
	return systemNamed("id", name, a.feed.Universe())
}

// showSystem answers with where a solar system lies.
func (a *API) showSystem(x *exchange) error {
	id, err := a.pathSystem(x)
	if err != nil {
		return err
	}
	u := a.feed.Universe()
	place, state := a.place(u, id)
	switch {
	case state == names.Known:
		x.cacheable()
		x.buf = place.append(x.buf[:0])
		x.send(http.StatusOK, valueJSON, x.buf)
		return nil
	case state == names.Pending:
		p := refuse(http.StatusNotFound, "solar system %d is not known yet: it is being looked up, ask again in a moment", id)
		p.retryAfter = 2
		return p
	case u == nil:
		return refuse(http.StatusNotFound, "solar system %d is not known: this server has no static data (killfeed sde update gets it)", id)
	}
	return refuse(http.StatusNotFound, "there is no solar system %d", id)
}
