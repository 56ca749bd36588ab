package jetstream

import (
	"context"
	"errors"
	"testing"

	"killfeed"
)

// The leader's word on what is removed comes to all nodes, and then the stream is purged; never of its last message, which tells a new
// node where the log goes on.
func TestRemove(t *testing.T) {
	f := newFeed(t, 3)
	nodes := []*node{f.join(), f.join()}
	nodes[0].mustInsert(30)
	nodes[1].follow(30)
	var leader, other *node
	until(t, "one node leads", func() bool {
		for i, n := range nodes {
			if n.Leads() == nil {
				leader, other = n, nodes[1-i]
			}
		}
		return leader != nil
	})
	if err := other.Remove(t.Context(), 12); !errors.Is(err, killfeed.ErrNotLeader) {
		t.Fatalf("another node removes: %v", err)
	}
	for _, through := range []killfeed.EventID{12, 30} {
		if err := leader.Remove(t.Context(), through); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for told := killfeed.EventID(0); told < through; {
				select {
				case <-n.News():
				case <-ctx.Done():
					t.Fatalf("%s is not told", n.name)
				}
				news, err := n.Take()
				if err != nil {
					t.Fatal(err)
				}
				if told = max(told, news.Through); told > through {
					t.Fatalf("%s is to remove the events through %d", n.name, told)
				}
			}
			if err := n.store.Remove(through); err != nil {
				t.Fatal(err)
			}
		}
		want := min(through+1, 30)
		until(t, "the stream is purged", func() bool {
			info, err := leader.stream.state(t.Context())
			return err == nil && killfeed.EventID(info.State.FirstSeq) == want
		})
	}
	late := f.join() // it has the last message, and is told of the rest by another node
	late.follow(30)
	late.mustInsert(1)
	for _, n := range nodes {
		n.follow(31)
		if n.chain() != late.chain() {
			t.Errorf("the chain of %s is %s, that of the new node %s", n.name, n.chain(), late.chain())
		}
	}
	for id := int64(1); id <= 31; id++ {
		if _, ok, err := late.store.Known(id); !ok || err != nil {
			t.Errorf("the new node does not know killmail %d, %v", id, err)
		}
	}
}

// A node with another log than most, under the same numbers, appends no more; the others go on.
func TestDivergedNode(t *testing.T) {
	f := newFeed(t, 1)
	a, b, c := f.join(), f.join(), f.join()
	a.mustInsert(1)
	for _, n := range []*node{b, c} {
		n.follow(1)
	}
	c.link.sum[0] ^= 1 // as if it had been given another event 1
	for a.store.State().Head < markEvery {
		a.mustInsert(333)
	}
	head := a.store.State().Head
	b.follow(head)
	c.follow(head)
	until(t, "the node has found out", func() bool { return errors.Is(c.Health(), killfeed.ErrFailed) })
	t.Log(c.Health())
	if _, err := c.Agree(t.Context(), c.batch(1, 10)); !errors.Is(err, killfeed.ErrFailed) {
		t.Fatalf("it appends: %v", err)
	}
	b.mustInsert(1)
	a.follow(head + 1)
	if err := errors.Join(a.nodes.verdict(), b.nodes.verdict()); err != nil {
		t.Fatal(err)
	}
	equal(t, a, b)
}

// Closing gives the lease up: another node leads without waiting for it to run out.
func TestCloseGivesUpTheLease(t *testing.T) {
	f := newFeed(t, 1)
	a, b := f.join(), f.join()
	until(t, "a node leads", func() bool { return a.Leads() == nil || b.Leads() == nil })
	if b.Leads() == nil {
		a, b = b, a
	}
	if err := b.Leads(); !errors.Is(err, killfeed.ErrNotLeader) {
		t.Fatalf("both lead: %v", err)
	}
	worked := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Lead(ctx, func(ctx context.Context) error {
			close(worked)
			<-ctx.Done()
			return nil
		})
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	<-worked
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
