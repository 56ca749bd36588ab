package jetstream

import (
	"slices"
	"strings"
	"time"

	"killfeed"
)

// Info is how a node sees the cluster, without asking anybody.
type Info struct {
	// Name is that of the feed, Node that of this node.
	Name string `json:"name"`
	Node string `json:"node"`
	// Leads: this node does what one does for all. Leader is the node that does, as far as it is known.
	Leads  bool   `json:"leads"`
	Leader string `json:"leader,omitempty"`
	// Lag is how many events another node has told of that this one does not have yet.
	Lag killfeed.EventID `json:"lag"`
	// Complete: this node has, or remembers, every event before those that it still gets.
	Complete bool `json:"complete"`
	// Chain is the chained checksum of all events up to this node's head, as <event id>:<sum>. Nodes with one head have one sum.
	Chain string `json:"chain,omitempty"`
	// Nodes are those that were heard of lately, this one included, by name.
	Nodes []Peer `json:"nodes"`
	// Trouble says why nothing can be agreed on at the moment; it is empty when all is well. It may name servers, and is not for everybody.
	Trouble string `json:"-"`
}

// Peer is a node as it told of itself last.
type Peer struct {
	Name    string           `json:"name"`
	Version string           `json:"version,omitempty"`
	Head    killfeed.EventID `json:"head"`
	// Age is how long ago that was, in seconds.
	Age float64 `json:"age_seconds"`
}

// Info may be called by any goroutine. It costs a look-up in the store.
func (l *Ledger) Info() Info {
	head := l.store.State().Head
	i := Info{Name: l.o.Name, Node: l.o.Node, Leads: l.lease.term() != 0, Leader: l.lease.known(), Complete: l.complete.Load()}
	i.Chain, _ = l.store.Checkpoint(chainSource) // what cannot be read is not shown
	if err := l.Health(); err != nil {
		i.Trouble = err.Error()
	}
	i.Nodes = l.nodes.peers()
	for _, p := range i.Nodes {
		if p.Head > head {
			i.Lag = max(i.Lag, p.Head-head)
		}
	}
	return i
}

// known is the node that leads, as far as this one knows.
func (l *lease) known() string {
	if l.term() != 0 {
		return l.node
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leader == l.node {
		return "" // that was before
	}
	return l.leader
}

// peers are all nodes that were heard of lately.
func (n *nodes) peers() []Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := []Peer{}
	for _, s := range n.others {
		if age := time.Since(s.seen); age < n.silent() {
			all = append(all, Peer{Name: s.Name, Version: s.Version, Head: s.Head, Age: age.Seconds()})
		}
	}
	slices.SortFunc(all, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	return all
}
