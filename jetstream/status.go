package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
)

// Status is what the servers have of a feed, as an operator wants to see it.
type Status struct {
	Name  string         `json:"name"`
	Epoch killfeed.Epoch `json:"epoch"`
	Move  Move           `json:"move,omitempty"`
	// First and Head are the first and the last event of the stream; First is Head+1 when it has none. Bytes is what it takes.
	First killfeed.EventID `json:"first"`
	Head  killfeed.EventID `json:"head"`
	Bytes uint64           `json:"bytes"`
	// Clients is how many clients are remembered.
	Clients int `json:"clients"`
	// Servers are those that keep the stream, its leader first; none when the server is a single one.
	Servers []ServerStatus `json:"servers"`
	// Leader is the node that does what one does for all, and Term counts them; empty when there is none at the moment.
	Leader string       `json:"leader"`
	Term   uint64       `json:"term"`
	Nodes  []NodeStatus `json:"nodes"`
}

// ServerStatus is a server that keeps the stream.
type ServerStatus struct {
	Name    string `json:"name"`
	Leader  bool   `json:"leader"`
	Current bool   `json:"current"`
	Offline bool   `json:"offline"`
	// Lag counts what it has still to write.
	Lag uint64 `json:"lag"`
}

// NodeStatus is what a node last told of itself.
type NodeStatus struct {
	Name    string           `json:"name"`
	Version string           `json:"version"`
	Head    killfeed.EventID `json:"head"`
	First   killfeed.EventID `json:"first"`
	// Lag is how many events it has not got yet.
	Lag killfeed.EventID `json:"lag"`
	// Age is how long ago that was. A node that lives tells every 2 s.
	Age  time.Duration `json:"age_ns"`
	Live bool          `json:"live"`
	// Complete: it has, or remembers, all events before those that it still gets.
	Complete bool `json:"complete"`
	// Mark is the newest event that it told the chain's sum of, 0 when none. Differs are the other nodes that told another one of
	// the same event: one of them has other events than the rest.
	Mark    killfeed.EventID `json:"mark"`
	Sum     string           `json:"sum"`
	Differs []string         `json:"differs,omitempty"`

	marks []chainMark
}

// liveFor is how long a node's record counts: several beats.
const liveFor = 10 * time.Second

// Look asks the servers for the Status. The errors are those of Verify.
func Look(ctx context.Context, nc *nats.Conn, o Options) (Status, error) {
	o = o.filled()
	js, err := jetstream.New(nc)
	if err != nil {
		return Status{}, err
	}
	info, err := streamInfo(ctx, js, o.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Status{}, fmt.Errorf("%w: there is no stream %s", ErrNoFeed, o.Name)
	}
	if err != nil {
		return Status{}, err
	}
	if err := ours(info, ""); err != nil {
		return Status{}, err
	}
	s := Status{
		Nodes: []NodeStatus{},
		Name:  o.Name, Epoch: killfeed.Epoch(info.Config.Metadata[metaEpoch]), Move: Move(info.Config.Metadata[metaMove]),
		Head: killfeed.EventID(info.State.LastSeq), Bytes: info.State.Bytes,
		First: killfeed.EventID(max(info.State.FirstSeq, 1)), Servers: serversOf(info),
	}
	if info.State.Msgs == 0 {
		s.First = s.Head + 1
	}
	return s, s.bucket(ctx, js, o)
}

func serversOf(info *jetstream.StreamInfo) []ServerStatus {
	all := []ServerStatus{}
	if c := info.Cluster; c != nil && len(c.Replicas) > 0 {
		if c.Leader != "" {
			all = append(all, ServerStatus{Name: c.Leader, Leader: true, Current: true})
		}
		for _, p := range c.Replicas {
			all = append(all, ServerStatus{Name: p.Name, Current: p.Current, Offline: p.Offline, Lag: p.Lag})
		}
	}
	return all
}

// bucket adds what the bucket has.
func (s *Status) bucket(ctx context.Context, js jetstream.JetStream, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	name := bucketConfig(o).Name
	stream, err := js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w: there is no stream %s", ErrNoFeed, name)
	}
	if err != nil {
		return asked("looking at the stream "+name, err)
	}
	prefix := "$KV." + o.Name + "."
	list := func(match string) (*jetstream.StreamInfo, error) {
		info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+match))
		if err != nil {
			return nil, asked("listing the keys "+match+" of the stream "+name, err)
		}
		return info, nil
	}
	rest := 0 // keys that are no clients'
	for _, match := range []string{keySource + ">", keyNode + ">", keyLeader, keyRemoved} {
		info, err := list(match)
		if err != nil {
			return err
		}
		rest += len(info.State.Subjects)
		// Those of clients that were deleted a short time ago count, as the marks of that are still there.
		s.Clients = int(info.State.NumSubjects) - rest
		if match != keyLeader && match != keyNode+">" {
			continue
		}
		for subject := range info.State.Subjects {
			m, err := stream.GetLastMsgForSubject(ctx, subject)
			if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Header.Get(headerOp) != "" {
				continue // deleted
			}
			if err != nil {
				return asked("reading "+subject+" of the stream "+name, err)
			}
			if err := s.record(strings.TrimPrefix(subject, prefix), m, info.TimeStamp); err != nil {
				return fmt.Errorf("reading %s of the stream %s: %w", subject, name, err)
			}
		}
	}
	s.compare()
	return nil
}

// record adds a node's record, or the leader's.
func (s *Status) record(key string, m *jetstream.RawStreamMsg, now time.Time) error {
	if key == keyLeader {
		r, err := parseLease(revision{value: m.Data})
		s.Leader, s.Term = r.Node, r.Term
		return err
	}
	var r nodeRecord
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return err
	}
	n := NodeStatus{
		Name: r.Name, Version: r.Version, Head: r.Head, First: r.First, Lag: s.Head - min(r.Head, s.Head), Complete: r.Complete,
		Age: max(now.Sub(m.Time), 0), marks: r.Marks,
	}
	n.Live = n.Age < liveFor
	if len(r.Marks) > 0 {
		newest := r.Marks[len(r.Marks)-1]
		n.Mark, n.Sum = newest.Event, newest.Sum
	}
	s.Nodes = append(s.Nodes, n)
	return nil
}

// compare finds nodes that differ, each against each.
func (s *Status) compare() {
	slices.SortFunc(s.Nodes, func(a, b NodeStatus) int { return strings.Compare(a.Name, b.Name) })
	for i := range s.Nodes {
		for j := range s.Nodes {
			if _, common, equal := compare(s.Nodes[i].marks, s.Nodes[j].marks); common && !equal {
				s.Nodes[i].Differs = append(s.Nodes[i].Differs, s.Nodes[j].Name)
			}
		}
	}
}
