package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"killfeed"
)

// peerNode is a node that tells of itself.
type peerNode struct {
	*nodes
	head atomic.Uint64
	stop func()
}

// startNode has a node tell of itself, with a head that the test sets.
func (f *feed) startNode(name, process string, head uint64, t Timing) *peerNode {
	f.t.Helper()
	o := f.options().filled()
	o.Node, o.Timing = name, t
	p := &peerNode{}
	p.head.Store(head)
	p.nodes = newNodes(f.newTestBucket(f.Conn(f.t)), o, process, func() nodeState {
		return nodeState{Head: killfeed.EventID(p.head.Load()), First: 1, Complete: true}
	})
	p.nodes.t = t
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	g.Go(func() error { return p.run(ctx) })
	p.stop = func() {
		cancel()
		if err := g.Wait(); err != nil {
			f.t.Errorf("node %s: %v", name, err)
		}
	}
	f.t.Cleanup(p.stop)
	return p
}

// lively is for tests that wait until a node is taken for dead.
var lively = Timing{
	Beat: 100 * time.Millisecond, Hold: 500 * time.Millisecond, Take: 750 * time.Millisecond, Look: 100 * time.Millisecond,
	Try: time.Second,
}

func TestNodesApplied(t *testing.T) {
	f := newFeed(t, 1)
	a := f.startNode("a", "1", 100, lively)
	until(t, "a node knows of itself", func() bool { is, ok := a.applied(); return ok && is == 100 })
	b := f.startNode("b", "2", 40, lively)
	until(t, "the slower one counts", func() bool { is, ok := a.applied(); return ok && is == 40 })
	b.head.Store(70)
	until(t, "it has caught up a little", func() bool { is, ok := a.applied(); return ok && is == 70 })
	b.stop()
	until(t, "it is dead", func() bool { is, ok := a.applied(); return ok && is == 100 })
	// Its record is still there, and goes when it has been there for long enough.
	a.mu.Lock()
	for key, n := range a.others {
		if n.Name == "b" {
			n.seen = n.seen.Add(-2 * forgotten)
			a.others[key] = n
		}
	}
	a.mu.Unlock()
	if err := a.forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := sure(a.b.last(t.Context(), keyOf(keyNode, "b"))); !e.gone {
		t.Error("the record of a node that was not seen for two days is still there")
	}
	if e := sure(a.b.last(t.Context(), keyOf(keyNode, "a"))); e.gone {
		t.Error("the record of a live node was removed")
	}
	// Cut off from the servers, nothing is known of the others.
	f.Stop(0)
	until(t, "it is not known who is live", func() bool { _, ok := a.applied(); return !ok })
}

func TestNodesOfOneName(t *testing.T) {
	f := newFeed(t, 1)
	old := f.startNode("a", "1", 1, quick)
	until(t, "it is there", func() bool { _, ok := old.applied(); return ok })
	newer := f.startNode("a", "2", 1, quick)
	until(t, "the older one knows", func() bool { return errors.Is(old.verdict(), killfeed.ErrFailed) })
	if err := newer.verdict(); err != nil {
		t.Errorf("the newer one says %v", err)
	}
	newer.stop()
	until(t, "the older one is alone again", func() bool { _, ok := old.applied(); return ok && old.verdict() == nil })
}

func TestNodesVerdict(t *testing.T) {
	marks := func(text string) (list []chainMark) { // "1a 2a 3b": events 1,000 to 3,000, and their sums
		for _, m := range strings.Fields(text) {
			list = append(list, chainMark{Event: killfeed.EventID(m[0]-'0') * 1000, Sum: m[1:]})
		}
		return list
	}
	for _, c := range []struct {
		mine   string
		others []string
		failed bool
	}{
		{"1a 2a", nil, false},
		{"1a 2a", []string{"1a 2a"}, false},
		{"1a 2a", []string{"1a 2b"}, true}, // one against one: neither is believed
		{"1a 2b", []string{"1a 2a", "2a"}, true},
		{"1a 2a", []string{"1a 2b", "2a"}, false},
		{"1a 2a", []string{"1a", "1a"}, false},
		{"1a 2a", []string{"3c", ""}, false}, // nothing in common
		{"1a 2a 3a", []string{"2a", "3b", "3b"}, true},
		{"1a 2a 3a", []string{"2a 3a", "1x 2x 3x", "3a"}, false},
		{"1x 2a", []string{"1a 2a"}, false}, // the newest counts; those before it were compared then
	} {
		n := newNodes(nil, Options{Node: "me"}.filled(), "me", func() nodeState { return nodeState{} })
		n.marks = marks(c.mine)
		for i, text := range c.others {
			n.others[fmt.Sprint(i)] = sighting{nodeRecord: nodeRecord{Name: fmt.Sprint(i), Marks: marks(text)}, seen: time.Now()}
		}
		n.others["dead"] = sighting{nodeRecord: nodeRecord{Name: "dead", Marks: marks("1z 2z 3z")}, seen: time.Now().Add(-time.Hour)}
		if err := n.verdict(); errors.Is(err, killfeed.ErrFailed) != c.failed {
			t.Errorf("marks %q among %q: %v", c.mine, c.others, err)
		}
	}
}

// TestMarksAreTold: marks reach the other nodes, the newest 16 of them, and outlive a restart, but not the loss of the log.
func TestMarksAreTold(t *testing.T) {
	f := newFeed(t, 1)
	a := f.startNode("a", "1", 30_000, quick)
	b := f.startNode("b", "2", 30_000, quick)
	for i := killfeed.EventID(1); i <= 20; i++ {
		a.mark(i*1000, "same")
		b.mark(i*1000, "same")
	}
	told := func(n *peerNode, name string) (list []chainMark) {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, o := range n.others {
			if o.Name == name {
				list = o.Marks
			}
		}
		return list
	}
	until(t, "the other node has them", func() bool { m := told(b, "a"); return len(m) == maxMarks && m[maxMarks-1].Event == 20_000 })
	if err := b.verdict(); err != nil {
		t.Fatal(err)
	}
	b.mark(21_000, "that of b")
	a.mark(21_000, "another")
	until(t, "they differ", func() bool { return errors.Is(b.verdict(), killfeed.ErrFailed) })
	b.stop()
	again := f.startNode("b", "3", 30_000, quick)
	until(t, "it differs still", func() bool { return errors.Is(again.verdict(), killfeed.ErrFailed) })
	again.stop()
	wiped := f.startNode("b", "4", 0, quick)
	until(t, "it knows of itself", func() bool { _, ok := wiped.applied(); return ok })
	until(t, "it is told of the other", func() bool { return told(wiped, "a") != nil })
	if err := wiped.verdict(); err != nil {
		t.Errorf("with another log, a node is held to the one before: %v", err)
	}
}
