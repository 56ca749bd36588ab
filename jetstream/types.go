package jetstream

import (
	"cmp"
	"log/slog"
	"time"

	"killfeed"
)

// Options are the settings of a node's ledger. The zero value of each field stands for what its comment says.
type Options struct {
	// Name is that of the feed's stream, of its bucket, and the first token of its subjects: letters, digits, - and _. "" stands
	// for "killfeed".
	Name string
	// Node is this node's name, unlike that of any other node of the feed; printable, at most killfeed.MaxClientName bytes. It must
	// be set.
	Node string
	// Replicas is how many servers keep the stream and the bucket: 3, which 0 stands for, 5, or 1 where it is asked for.
	Replicas int
	// Version is the program's, told to the other nodes.
	Version string
	// Logger gets what the background work has to say; nil stands for slog.Default().
	Logger *slog.Logger

	// Timing is for tests; the zero value is what the package documents.
	Timing Timing
}

// Timing is how long things take.
type Timing struct {
	// Beat is how often the leader renews its lease, and each node its record. 2 s.
	Beat time.Duration
	// Hold is how long the leader goes on without having renewed. 6 s.
	Hold time.Duration
	// Take is how long a candidate sees no renewal before it takes the lease over. More than Hold. 8 s.
	Take time.Duration
	// Look is how often the tail compares itself with the stream. 5 s.
	Look time.Duration
	// Try is how long one request to the servers may take before its outcome counts as unknown and it is tried again. 3 s.
	Try time.Duration
}

// filled returns o with the defaults in place.
func (o Options) filled() Options {
	o.Name = cmp.Or(o.Name, "killfeed")
	o.Replicas = cmp.Or(o.Replicas, 3)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	t := &o.Timing
	t.Beat = cmp.Or(t.Beat, 2*time.Second)
	t.Hold = cmp.Or(t.Hold, 6*time.Second)
	t.Take = cmp.Or(t.Take, 8*time.Second)
	t.Look = cmp.Or(t.Look, 5*time.Second)
	t.Try = cmp.Or(t.Try, 3*time.Second)
	return o
}

// Names on the servers. The stream and the bucket have the feed's name; the bucket's stream is "KV_" + name.
const (
	// keyClient and keySource are followed by the base64url, without padding, of the name.
	keyClient = "client."
	keySource = "source."
	// keyNode is followed by the base64url, without padding, of the node's name.
	keyNode    = "node."
	keyLeader  = "leader"
	keyRemoved = "removed"

	// chainSource is the Checkpoint that a node's own store keeps of the chain. It never goes into the bucket.
	chainSource = "cluster"
	// markEvery: the chain's sum at each event id that is a multiple of it is told to the other nodes.
	markEvery = 1000
)

// subjectEvents is the stream's subject, subjectPast where a node asks for what another one remembers of removed events.
func subjectEvents(name string) string { return name + ".events.>" }
func subjectPast(name string) string   { return name + ".peer.past" }

// nodeState is what a node tells of itself. It is asked for by any goroutine.
type nodeState struct {
	Head, First killfeed.EventID
	// Complete: the node has, or remembers, every event before those in its tail, so that others may copy from it.
	Complete bool
}
