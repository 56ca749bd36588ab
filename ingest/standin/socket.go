package standin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

const (
	// maxChannels bounds the subscriptions of a connection; further ones are ignored, as unknown messages are.
	maxChannels = 1000
	// writeTimeout is how long a client may take to read a message before its connection is cut.
	writeTimeout = 10 * time.Second
)

// sockets are the open websockets.
type sockets struct {
	mu     sync.Mutex // guards the rest
	wg     sync.WaitGroup
	closed bool
	opened uint64
	open   map[*websocket.Conn]struct{}
}

func newSockets() sockets { return sockets{open: map[*websocket.Conn]struct{}{}} }

// register counts a connection. False: the Server is closed.
func (ss *sockets) register(c *websocket.Conn) (number uint64, ok bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.closed {
		return 0, false
	}
	ss.wg.Add(1)
	ss.opened++
	ss.open[c] = struct{}{}
	return ss.opened, true
}

func (ss *sockets) unregister(c *websocket.Conn) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.open, c)
	ss.wg.Done()
}

// drop cuts all connections and returns how many there were.
func (ss *sockets) drop() int {
	ss.mu.Lock()
	open := make([]*websocket.Conn, 0, len(ss.open))
	for c := range ss.open {
		open = append(open, c)
	}
	ss.mu.Unlock()
	for _, c := range open {
		c.CloseNow()
	}
	return len(open)
}

// close cuts all connections, lets no new ones in, and waits until all have ended.
func (ss *sockets) close() {
	ss.mu.Lock()
	ss.closed = true
	ss.mu.Unlock()
	ss.drop()
	ss.wg.Wait()
}

// subscriptions are the channels of one connection.
type subscriptions struct {
	mu       sync.Mutex
	channels map[string]struct{}
}

func (s *subscriptions) set(action, channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case action == "sub" && channel != "" && len(channel) <= 128 && len(s.channels) < maxChannels:
		s.channels[channel] = struct{}{}
	case action == "unsub":
		delete(s.channels, channel)
	}
}

func (s *subscriptions) has(channel string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.channels[channel]
	return ok
}

// socket serves a websocket to its end.
func (s *Server) socket(w http.ResponseWriter, q *request) {
	next := s.feed.published() // what was published before the connection is not for it
	// Any origin: programs send that of the site they believe to talk to.
	c, err := websocket.Accept(&handshake{w, s.stats, q}, q.Request, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // Accept has answered
	}
	defer c.CloseNow()
	number, ok := s.sockets.register(c)
	if !ok {
		return
	}
	defer s.sockets.unregister(c)

	// The request's context is not for use after Accept.
	ctx, cancel := context.WithCancel(context.WithoutCancel(q.Context()))
	subs := &subscriptions{channels: map[string]struct{}{}}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer c.CloseNow() // ends the reading below
		s.stream(ctx, c, number, subs, next)
	})
	for {
		_, data, err := c.Read(ctx)
		if err != nil {
			return
		}
		var message struct{ Action, Channel string }
		if json.Unmarshal(data, &message) == nil {
			subs.set(message.Action, message.Channel)
		}
	}
}

// handshake counts the answer to the request that opens a websocket.
type handshake struct {
	http.ResponseWriter
	stats *recorder
	q     *request
}

func (h *handshake) WriteHeader(status int) {
	h.stats.answered(h.q, status, 0)
	h.ResponseWriter.WriteHeader(status)
}

// Unwrap is for who takes the connection over.
func (h *handshake) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// stream sends to one connection what is published from index next on, until ctx or the connection ends.
func (s *Server) stream(ctx context.Context, c *websocket.Conn, number uint64, subs *subscriptions, next int) {
	var silent time.Time // until when
	mute := false        // for ever
	for n := uint64(0); ; next++ {
		slot := s.feed.next(ctx, s.closing, next, time.Time{})
		if slot == nil {
			return
		}
		for _, message := range s.messages(slot, subs) {
			n++
			if _, drop := s.faults.message(SocketDrop, number, n); drop {
				return
			}
			if strike, fall := s.faults.message(SocketSilent, number, n); fall {
				mute = mute || strike.For == 0
				silent = s.config.Clock.Now().Add(strike.For)
			}
			if mute || s.config.Clock.Now().Before(silent) {
				continue
			}
			writing, cancel := context.WithTimeout(ctx, writeTimeout)
			err := c.Write(writing, websocket.MessageText, message)
			cancel()
			if err != nil {
				return
			}
			s.stats.message()
		}
	}
}

// messages are what a connection gets for a killmail: one message for each channel of its own that the killmail is on.
func (s *Server) messages(slot *slot, subs *subscriptions) [][]byte {
	var all [][]byte
	if subs.has("killstream") {
		all = append(all, s.killstream(slot))
	}
	var b body
	if err := json.Unmarshal(slot.mail.ESI, &b); err != nil || b.Victim.CharacterID == 0 {
		return all // only pilots, who have a name, are on the other channels
	}
	for _, channel := range channels(&b, s.zkb(slot)) {
		if subs.has(channel) {
			all = append(all, littlekill(slot.mail, &b, channel))
		}
	}
	return all
}

// killstream is a killmail as on the channel killstream: the ESI body with zkb in it. Links and counts of later years are not
// in that zkb, and two links of its own are.
func (s *Server) killstream(slot *slot) []byte {
	m := slot.mail
	zkb, err := members(m.ZKB)
	if err != nil {
		return m.ESI // complete has looked at it
	}
	zkb = slices.DeleteFunc(zkb, func(m member) bool {
		return slices.Contains([]string{"labels", "attackerCount", "href", "totalDroppableValue", "esi", "url"}, m.name)
	})
	zkb = append(zkb,
		member{"esi", fmt.Appendf(nil, `"https://esi.evetech.net/latest/killmails/%d/%s/"`, m.ID, m.Hash)},
		member{"url", fmt.Appendf(nil, `"https://zkillboard.com/kill/%d/"`, m.ID)})
	text := append(slices.Clone(m.ESI[:len(m.ESI)-1]), `,"zkb":`...)
	return append(appendObject(text, zkb), '}')
}

// littlekill is a killmail as on the other channels.
func littlekill(m *Mail, b *body, channel string) []byte {
	text, _ := json.Marshal(struct { // there is nothing in it that could fail
		Action        string `json:"action"`
		KillID        int64  `json:"killID"`
		CharacterID   int64  `json:"character_id"`
		CorporationID int64  `json:"corporation_id"`
		AllianceID    int64  `json:"alliance_id"`
		ShipTypeID    int64  `json:"ship_type_id"`
		GroupID       int64  `json:"group_id"`
		URL           string `json:"url"`
		Channel       string `json:"channel"`
	}{
		"littlekill", m.ID, b.Victim.CharacterID, b.Victim.CorporationID, b.Victim.AllianceID, b.Victim.ShipTypeID, 0,
		fmt.Sprintf("https://zkillboard.com/kill/%d/", m.ID), channel,
	})
	return text
}

// channels are those that a killmail is on, each once, but for those that need static data.
func channels(b *body, zkb []byte) []string {
	all := []string{"all:*", "system:" + strconv.FormatInt(b.SolarSystemID, 10), "label:all"}
	seen := map[string]struct{}{}
	add := func(kind string, id int64) {
		channel := kind + ":" + strconv.FormatInt(id, 10)
		if _, ok := seen[channel]; !ok {
			seen[channel] = struct{}{}
			all = append(all, channel)
		}
	}
	for _, p := range append([]party{b.Victim.party}, b.Attackers...) {
		add("character", p.CharacterID)
		add("corporation", p.CorporationID)
		add("alliance", p.AllianceID)
		add("faction", p.FactionID)
		add("ship", p.ShipTypeID)
	}
	var z struct {
		LocationID int64    `json:"locationID"`
		TotalValue float64  `json:"totalValue"`
		Labels     []string `json:"labels"`
	}
	_ = json.Unmarshal(zkb, &z) // what cannot be read is on no channel
	if z.LocationID != 0 {
		add("location", z.LocationID)
	}
	if z.TotalValue >= 1e10 {
		all = append(all, "total_value:10b+")
	}
	for _, label := range z.Labels {
		all = append(all, "label:"+label)
	}
	return all
}
