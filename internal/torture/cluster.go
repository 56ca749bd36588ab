package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// This file and its neighbours (network, fleet, nemesis, crowd, subscriber, judge, verdict) torture a cluster: three NATS servers and three
// nodes, real processes, each on a host of its own. A crowd uses the nodes, a nemesis harms servers and nodes by a seed, and a judge, who
// knows what was acknowledged and said, checks
//
//   - every acknowledged insert is there once, with the event id that was acknowledged, also when it was inserted on several nodes at
//     once and again after an unknown outcome, and every node knows it after its event was removed; without a majority of the servers
//     nothing is acknowledged, and reads go on
//   - event ids have no hole on any node, and no id ever means another killmail
//   - clients with automatic commit, which ask another node each time, get no event twice, and miss only what was in answers that did
//     not arrive; with manual commit they get nothing again that they have committed, and miss nothing
//   - after a seek on one node another one goes on there, and who names what it has written (Killfeed-Head) reads it
//   - a stream that breaks goes on at another node by its cursor with the very next event
//   - another node leads within ten seconds of the death of the one that did
//   - at the end all nodes have one log, byte by byte, with one chain, and 'killfeed check' finds nothing.

// runCluster tortures three nodes and three NATS servers, and returns how many promises were broken.
func runCluster(ctx context.Context, c config, out io.Writer) (violations int, err error) {
	if c.seed == 0 {
		c.seed = uint64(time.Now().UnixNano())
	}
	dir := c.work
	if dir == "" {
		if dir, err = os.MkdirTemp("", "killfeed-torture"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
	} else if err := os.Mkdir(dir, 0o750); err != nil {
		return 0, fmt.Errorf("a cluster begins in a directory of its own: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return 0, err
	}
	j := newJudge(out)
	var net network
	cuts := true
	if net, err = newBridged(); err != nil {
		cuts = false
		j.say("no network namespaces (%v): all is on the loopback interface, and nothing is cut off", err)
		if net, err = newLoopback(); err != nil {
			return 0, err
		}
	}
	f, err := newFleet(net, c, dir, func(name, why string) { j.violate("a process ended", "%s: %s", name, why) })
	if err != nil {
		net.close()
		return 0, err
	}
	defer f.end()
	j.say("seed %d, %d NATS servers, %d nodes, %v", c.seed, servers, nodes, c.time)
	if err := f.begin(ctx); err != nil {
		return 0, err
	}
	crowd := newCrowd(f, j, c.seed)
	if err := crowd.register(ctx); err != nil {
		return 0, err
	}
	n := &nemesis{fleet: f, crowd: crowd, judge: j, rnd: rand.New(rand.NewPCG(c.seed, 500)), cuts: cuts}

	using, stopUsing := context.WithCancel(ctx)
	defer stopUsing()
	inserting, stopInserting := context.WithCancel(ctx)
	defer stopInserting()
	inserted, all := crowd.start(using, inserting)
	harming, stopHarming := context.WithTimeout(ctx, c.time)
	defer stopHarming()
	var telling sync.WaitGroup
	telling.Go(func() { progress(using, f, j) })
	n.run(harming)
	if ctx.Err() == nil {
		j.say("all heals")
		if err := n.heal(); err != nil {
			return 0, err
		}
		n.well(ctx)
		stopInserting()
		inserted()
	}
	if ctx.Err() == nil {
		awaitReaders(ctx, crowd, j)
	}
	stopUsing()
	all()
	telling.Wait()
	if ctx.Err() == nil {
		(&verdict{fleet: f, crowd: crowd, judge: j}).reach(ctx)
	}
	if ctx.Err() != nil { // interrupted: nobody came to the end, which proves nothing
		return 0, context.Cause(ctx)
	}
	return j.summary(c.seed), nil
}

// progress says every ten seconds where everybody is.
func progress(ctx context.Context, f *fleet, j *judge) {
	for {
		if sleep(ctx, 10*time.Second); ctx.Err() != nil {
			return
		}
		var where []string
		for host := servers; host < hosts; host++ {
			st, err := f.status(ctx, host)
			text := fmt.Sprintf("%d-%d", st.Log.First, st.Log.Head)
			if err != nil {
				text = "away"
			} else if st.Cluster.Leads {
				text += " leads"
			}
			where = append(where, f.all[host].name+" "+text)
		}
		n := j.total()
		j.mu.Lock()
		j.sayLocked("head %d; nodes %s; %d without an answer, %d answered 503; %d violations", j.head, strings.Join(where, ", "),
			j.counts["requests without an answer"], j.counts["requests answered 503"], n)
		j.mu.Unlock()
	}
}

// awaitReaders waits until all who read are at the end of the log.
func awaitReaders(ctx context.Context, c *crowd, j *judge) {
	for deadline := time.Now().Add(2 * patience); ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
		head := j.top()
		behind := ""
		for _, r := range c.readers {
			if r.kind != "manual" && r.place.Load() < head {
				behind = r.name
			}
		}
		for i, s := range c.live {
			if s.place.Load() < head {
				behind = fmt.Sprintf("stream %d", i)
			}
		}
		if behind == "" {
			return
		}
		if time.Now().After(deadline) {
			j.violate("events skipped", "%s does not come to the end of the log", behind)
			return
		}
	}
}
