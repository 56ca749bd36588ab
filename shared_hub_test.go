package killfeed_test

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"killfeed"
)

// hub is what the nodes of a cluster agree on, in memory: the naive form of what jetstream does with servers.
type hub struct {
	mu      sync.Mutex // guards all; held through one call
	events  []killfeed.Event
	clients map[string]*hubClient
	places  map[string]string
	through killfeed.EventID
	revs    uint64
	nodes   []*hubLedger
	down    bool // nothing can be agreed on
}

type hubClient struct {
	killfeed.SharedClient
	rev uint64
}

func newHub() *hub { return &hub{clients: map[string]*hubClient{}, places: map[string]string{}} }

// hubLedger is one node's.
type hubLedger struct {
	hub   *hub
	store killfeed.Store
	more  chan struct{}
	cache map[string]uint64 // revisions, as this node knows them; owned by who calls Agree and Take
	told  killfeed.EventID  // of hub.through
	deaf  bool              // it gets no events
}

// join makes the ledger of another node.
func (h *hub) join(store killfeed.Store) *hubLedger {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &hubLedger{hub: h, store: store, more: make(chan struct{}, 1), cache: map[string]uint64{}}
	h.nodes = append(h.nodes, l)
	l.ring()
	return l
}

func (l *hubLedger) ring() {
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// changed tells all nodes. The caller holds mu.
func (h *hub) changed() {
	for _, n := range h.nodes {
		n.ring()
	}
}

func (h *hub) set(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

func (l *hubLedger) Load(yield func(killfeed.SharedClient) bool) error {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	for name, c := range l.hub.clients {
		l.cache[name] = c.rev
		if !c.Gone && !yield(c.copy()) {
			break
		}
	}
	return nil
}

func (c *hubClient) copy() killfeed.SharedClient {
	s := c.SharedClient
	s.Offsets = maps.Clone(c.Offsets)
	return s
}

func (l *hubLedger) Checkpoint(source string) (string, error) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	return l.hub.places[source], nil
}

func (l *hubLedger) Agree(_ context.Context, b *killfeed.Batch) (killfeed.Outcome, error) {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down {
		return killfeed.Outcome{}, fmt.Errorf("the hub is down: %w", killfeed.ErrUnavailable)
	}
	if len(b.Events) > 0 {
		if int(b.Events[0].ID) != len(h.events)+1 {
			return killfeed.Outcome{}, killfeed.ErrBehind
		}
		for _, e := range b.Events {
			h.events = append(h.events, e.Event)
		}
		defer h.changed()
	}
	var out killfeed.Outcome
	next := map[string]*hubClient{}
	of := func(name string) *hubClient {
		if next[name] == nil {
			c := &hubClient{}
			if old := h.clients[name]; old != nil && !old.Gone {
				c.SharedClient = old.copy()
			}
			c.Client = name
			if c.Offsets == nil {
				c.Offsets = map[killfeed.Topic]killfeed.EventID{}
			}
			next[name] = c
		}
		return next[name]
	}
	for _, name := range b.Gone {
		of(name).Gone = true
	}
	for _, o := range b.Offsets {
		of(o.Client).Offsets[o.Topic] = o.At
	}
	for _, s := range b.Seen {
		of(s.Client).ClientSeen = s
	}
	for _, d := range b.Holds {
		if d == (killfeed.HoldChange{Client: d.Client}) && next[d.Client] == nil {
			if old := h.clients[d.Client]; old != nil && old.rev != l.cache[d.Client] {
				l.cache[d.Client] = old.rev
				out.Moved = append(out.Moved, old.copy())
			}
			continue
		}
		c := of(d.Client)
		if d.Moved {
			c.Moves++
		}
		if d.Holder != "" {
			c.Holder = d.Holder
		}
	}
	for name, c := range next {
		if old := h.clients[name]; old != nil && old.rev != l.cache[name] {
			l.cache[name] = old.rev
			out.Moved = append(out.Moved, old.copy())
			continue
		}
		h.revs++
		c.rev, c.Head = h.revs, killfeed.EventID(len(h.events))
		l.cache[name], h.clients[name] = c.rev, c
		h.changed()
	}
	for _, p := range b.Checkpoints {
		h.places[p.Source] = p.Place
	}
	return out, nil
}

func (l *hubLedger) News() <-chan struct{} { return l.more }

func (l *hubLedger) Take() (killfeed.News, error) {
	const most = 3 // that there is more is the rule
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	var n killfeed.News
	at := int(l.store.State().Head)
	if l.deaf {
		return n, nil
	}
	n.Events = append(n.Events, h.events[at:min(len(h.events), at+most)]...)
	for name, c := range h.clients {
		if len(n.Clients) == most {
			break
		}
		if c.rev != l.cache[name] {
			l.cache[name] = c.rev
			n.Clients = append(n.Clients, c.copy())
		}
	}
	if h.through > l.told {
		n.Through, l.told = h.through, h.through
	}
	if at+len(n.Events) < len(h.events) || len(n.Clients) == most {
		l.ring()
	}
	return n, nil
}

func (l *hubLedger) Remove(_ context.Context, through killfeed.EventID) error {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.through = max(h.through, through)
	h.changed()
	return nil
}

// plug has the node get no events, or get them again, while the others and it can agree on all.
func (h *hub) plug(node int, deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nodes[node].deaf = deaf
	h.nodes[node].ring()
}

func (l *hubLedger) Head(context.Context) (killfeed.EventID, error) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	return killfeed.EventID(len(l.hub.events)), nil
}

// Leads: the first node leads.
func (l *hubLedger) Leads() error {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if l.hub.nodes[0] != l {
		return killfeed.ErrNotLeader
	}
	return nil
}

func (l *hubLedger) Health() error {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if l.hub.down {
		return killfeed.ErrUnavailable
	}
	return nil
}

func (l *hubLedger) Close() error { return nil }
