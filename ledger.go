package killfeed

import (
	"context"
	"errors"
)

// Ledger is where the nodes of a feed agree on what they must agree on: the order of events, and the clients' offsets. Every node
// has its own Store, which all reads are served from; what the ledger has agreed on is then given to it.
//
// There are two: a feed of one node agrees with itself (Options.Ledger is nil), and that of a cluster keeps the events in a stream
// and the clients in a key-value store which all nodes share.
//
// Agree and Take are called by one goroutine, the writer's. The other methods may be called by any. A ledger knows the node's
// Store: when the Store turns out not to have what was agreed on, as after a full disk, Take returns that again.
type Ledger interface {
	// Load yields every client as the nodes have agreed on it. It is called once, when a Feed opens, before all else.
	Load(yield func(SharedClient) bool) error

	// Checkpoint returns what was last agreed on as the place of the named source, empty when nothing was.
	Checkpoint(source string) (string, error)

	// Agree makes the batch part of what all nodes hold true. The caller then commits it to its Store. It may add Checkpoints of
	// its own to the batch, to be stored with it.
	//
	// Events come first. Those of a batch carry ids that follow the head of the Store. The error is ErrBehind when other nodes
	// have appended what this node has not got yet: then nothing of the batch counts, and after a Take it is to be built anew.
	// With ErrOutcomeUnknown, which comes only when ctx ends, events may count, and Take tells; with ErrUnavailable they do not.
	//
	// Then each client's part, by itself, if the client is as this node knows it from Load, Agree and Take; else it is in
	// Outcome.Moved, and nothing of it counts. Outcome.Err says why parts of clients do not count otherwise; all of those do not count
	// then, with ErrOutcomeUnknown they may, and Take tells what is. Outcome.Places says the same of checkpoints.
	Agree(ctx context.Context, b *Batch) (Outcome, error)

	// News is readable when Take has something to return.
	News() <-chan struct{}

	// Take returns what was agreed on that this node does not know of yet. Its size is bounded; News stays readable while there is
	// more. An error means that the node's log and the stream do not fit together, and says what to do; nothing is agreed on any
	// more.
	Take() (News, error)

	// Remove has all nodes remove the events up to and including through; those follow when they can. The error is ErrNotLeader when
	// another node collects.
	Remove(ctx context.Context, through EventID) error

	// Head asks for the last event that the nodes have agreed on. This node may not have it yet.
	Head(ctx context.Context) (EventID, error)

	// Leads is nil when this node does what one node does for all: follow sources, collect, post to webhooks. Else it is
	// ErrNotLeader, wrapped with the name of the one that does if it is known.
	Leads() error

	// Health is nil, or why nothing can be agreed on at the moment: ErrUnavailable, which passes by itself, or ErrFailed.
	Health() error

	// Close ends all background work. The Store is closed after it.
	Close() error
}

var (
	// ErrBehind: other nodes have appended events that this node does not have yet.
	ErrBehind = errors.New("behind the other nodes")
	// ErrUnavailable: the nodes cannot agree at the moment, as too few of the servers that keep the ledger can be reached. It passes by
	// itself; reads from this node go on.
	ErrUnavailable = errors.New("the ledger is unavailable")
	// ErrNotLeader: another node does that for all.
	ErrNotLeader = errors.New("another node leads")
)

// Outcome is what became of the clients' parts of a batch, and of its checkpoints.
type Outcome struct {
	// Moved are those clients that another node has changed, as they are now.
	Moved []SharedClient
	// Err is why the parts of clients do not count, nil when they do; Places is that of the checkpoints.
	Err, Places error
}

// News is what other nodes have agreed on.
type News struct {
	// Events follow the head of the Store, without a hole.
	Events []Event
	// Checkpoints are to be stored with the events.
	Checkpoints []Checkpoint
	// Clients are as they are now.
	Clients []SharedClient
	// Through, when not 0, is the last event to be removed.
	Through EventID
}

// SharedClient is a client as the nodes agree on it.
type SharedClient struct {
	ClientRecord
	Hold
	// Gone: it was deleted.
	Gone bool
}

// Hold is what nodes tell each other of a client beside its offsets. A feed of one node does not store it.
type Hold struct {
	// Moves counts the seeks and the cursors of the client's own. Offsets of an earlier count than the nodes agree on must not pull the
	// client forward again.
	Moves uint64
	// Head is the head of the log where the client was changed last. A node that is behind it waits a moment before it reads for the client,
	// so that calls of a client on several nodes see the log move forward only. The ledger sets it: the Store's head, with the batch.
	Head EventID
	// Holder names the connection whose subscriptions the client has, or had last; it differs from that of any other connection of any
	// node.
	Holder string
}

// HoldChange changes what nodes tell each other of a client. Without a change it asks whether the client is as this node knows it.
type HoldChange struct {
	Client string
	// Moved: it was moved explicitly.
	Moved bool
	// Holder, when not empty, is the connection that its subscriptions are of from now on.
	Holder string
}

// alone is the ledger of a feed of one node, which agrees with itself: what its Store has is what is true.
type alone struct{ store Store }

func (a alone) Load(yield func(SharedClient) bool) error {
	return a.store.Clients(func(r ClientRecord) bool { return yield(SharedClient{ClientRecord: r}) })
}
func (a alone) Checkpoint(source string) (string, error)       { return a.store.Checkpoint(source) }
func (a alone) Agree(context.Context, *Batch) (Outcome, error) { return Outcome{}, nil }
func (a alone) News() <-chan struct{}                          { return nil }
func (a alone) Take() (News, error)                            { return News{}, nil }
func (a alone) Remove(context.Context, EventID) error          { return nil }
func (a alone) Head(context.Context) (EventID, error)          { return a.store.State().Head, nil }
func (a alone) Leads() error                                   { return nil }
func (a alone) Health() error                                  { return nil }
func (a alone) Close() error                                   { return nil }
