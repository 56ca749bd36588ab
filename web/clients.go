package web

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"killfeed"
)

// timeLayout is RFC 3339 in UTC with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// clientInfo is a client as it is shown.
type clientInfo struct {
	ID       string                      `json:"client_id"`
	Offsets  map[string]killfeed.EventID `json:"offsets"`
	Lag      int                         `json:"lag"`
	LastSeen string                      `json:"last_seen"`
}

func showInfo(c killfeed.ClientInfo) clientInfo {
	return clientInfo{c.Name, byName(c.Offsets), c.Lag, c.LastSeen.UTC().Format(timeLayout)}
}

func byName(offsets map[killfeed.Topic]killfeed.EventID) map[string]killfeed.EventID {
	named := make(map[string]killfeed.EventID, len(offsets))
	for t, id := range offsets {
		named[t.String()] = id
	}
	return named
}

// listClients answers with a page of all clients, by name.
func (a *API) listClients(x *exchange) error {
	after, limit := "", maxLimit
	err := eachPair(x.r.URL.RawQuery, func(name, value string) (err error) {
		switch name {
		case "after":
			after = value
		case "limit":
			limit, err = parseLimit(name, value, maxLimit, maxLimit)
		}
		return err
	})
	if err != nil {
		return err
	}
	infos, err := a.feed.Clients(after, limit+1)
	if err != nil {
		return err
	}
	page := struct {
		Clients []clientInfo `json:"clients"`
		More    bool         `json:"more"`
	}{Clients: []clientInfo{}, More: len(infos) > limit}
	for _, c := range infos[:min(len(infos), limit)] {
		page.Clients = append(page.Clients, showInfo(c))
	}
	return x.json(http.StatusOK, page)
}

// clientOf is the client that the path names.
func clientOf(x *exchange) (string, error) {
	name := strings.Clone(x.r.PathValue("id"))
	return name, killfeed.CheckClientName(name)
}

// unknownClient makes a 404 that names the client out of ErrNotFound.
func unknownClient(name string, err error) error {
	if !errors.Is(err, killfeed.ErrNotFound) {
		return err
	}
	p := refuse(http.StatusNotFound, "client %q is not known here: a client is made by its first read, commit or seek", name)
	p.Parameter, p.Value = "client_id", shorten(name)
	return p
}

func (a *API) showClient(x *exchange) error {
	name, err := clientOf(x)
	if err != nil {
		return err
	}
	if err := a.mayUseOwn(x.token, name); err != nil { // looking at the server's own harms nobody
		return err
	}
	info, err := a.feed.Client(name)
	if err != nil {
		return unknownClient(name, err)
	}
	return x.json(http.StatusOK, showInfo(info))
}

func (a *API) deleteClient(x *exchange) error {
	name, err := clientOf(x)
	if err != nil {
		return err
	}
	if err := a.feed.DeleteClient(x.settled(), name); err != nil {
		return unknownClient(name, err)
	}
	x.empty()
	return nil
}

// seek moves a client, also backwards.
func (a *API) seek(x *exchange) error {
	name, err := clientOf(x)
	if err == nil {
		err = x.mayUse(name)
	}
	if err != nil {
		return err
	}
	var (
		to     killfeed.Start
		sought bool
	)
	err = x.members(false, func(name string, value []byte) error {
		switch name {
		case "to":
			text, ok := scalar(value)
			if !ok {
				text = ""
			}
			sought = true
			to, err = killfeed.ParseStart("to", text)
			return err
		case "systems", "systems[]", "topics", "topics[]":
			return setJSON(x.params.set, name, value)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !sought {
		_, err := killfeed.ParseStart("to", "") // for its words
		return err
	}
	info, err := a.feed.Seek(x.settled(), name, to, slices.Clone(x.params.topics))
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showInfo(info))
}

// commit sets offsets, as far as they are ahead of where the client stands.
func (a *API) commit(x *exchange) error {
	var (
		offsets = map[killfeed.Topic]killfeed.EventID{}
		id      killfeed.EventID
		hasID   bool
		hasMap  bool
	)
	err := x.members(false, func(name string, value []byte) error {
		var err error
		switch name {
		case "client_id", "systems", "systems[]", "topics", "topics[]":
			err = setJSON(x.params.set, name, value)
		case "event_id":
			hasID = true
			id, err = a.handled(name, value)
		case "offsets":
			hasMap = true
			err = a.offsets(offsets, value)
		}
		return err
	})
	client, on := x.client(), x.params.topics
	if err == nil {
		err = killfeed.CheckClientName(client)
	}
	if err == nil {
		err = x.mayUse(client)
	}
	if err != nil {
		return err
	}
	switch {
	case hasMap && (hasID || len(on) > 0):
		return killfeed.Invalid("offsets", "with event_id, systems or topics",
			`either offsets, as in {"system:30000142":17}, or event_id with systems or topics`)
	case hasMap:
	case !hasID:
		return killfeed.Invalid("event_id", "",
			`the last event id handled, with systems or topics, or offsets, as in {"system:30000142":17}`)
	case len(on) == 0:
		return killfeed.Invalid("systems", "", "the systems or topics on which event_id was handled")
	}
	for _, t := range on {
		offsets[t] = id
	}
	now, err := a.feed.Commit(x.settled(), client, offsets)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, struct {
		ID      string                      `json:"client_id"`
		Offsets map[string]killfeed.EventID `json:"offsets"`
	}{client, byName(now)})
}

// offsets reads {"system:30000142":17,…} into dst.
func (a *API) offsets(dst map[killfeed.Topic]killfeed.EventID, value []byte) error {
	if value[0] != '{' {
		return killfeed.Invalid("offsets", string(value), `topics with event ids, as in {"system:30000142":17}`)
	}
	return eachMember(value, func(name string, value []byte) error {
		t, err := a.feed.Universe().ParseTopic(name)
		if err != nil {
			return err
		}
		id, err := a.handled("offsets", value)
		if err != nil {
			return err
		}
		if other, double := dst[t]; double && other != id {
			return killfeed.Invalid("offsets", name, "each topic once")
		}
		dst[t] = id
		return nil
	})
}

// handled reads the id of the last event that a client has handled: a number, or a cursor of this log.
func (a *API) handled(name string, value []byte) (killfeed.EventID, error) {
	text, _ := scalar(value)
	id, _ := cutNonce(text)
	c, err := killfeed.ParseCursor(id)
	if err != nil {
		return 0, killfeed.Invalid(name, text, "the id of the last event handled, from 0 to the log's head, or its cursor")
	}
	if !a.feed.State().Holds(c) {
		return 0, killfeed.Invalid(name, text, "a cursor of this log, whose epoch is "+string(a.epoch)+
			"; the other log's event ids mean other events here")
	}
	return c.After, nil
}
