package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"
)

// nemesis does harm to a cluster, by a seed: to at most one NATS server and one node at a time, but for what it calls a loss of the
// majority. After each round it waits until all is well again.
type nemesis struct {
	*fleet
	crowd *crowd
	judge *judge
	rnd   *rand.Rand
	cuts  bool // the network can be cut
}

// harm is done to a host, for at most that long. It returns when it has been undone.
type harm struct {
	name string
	do   func(ctx context.Context, host int, d time.Duration) error
}

func (n *nemesis) toServers() []harm {
	list := []harm{{"kill", n.kill}, {"pause", n.pause}}
	if n.cuts {
		list = append(list, harm{"cut off from all", n.isolate}, harm{"cut off from the other servers", n.fromServers},
			harm{"sends nothing", n.mute}, harm{"hears nothing", n.deaf})
	}
	return list
}

func (n *nemesis) toNodes() []harm {
	list := []harm{{"kill", n.kill}, {"pause", n.pause}, {"wipe", n.wipe}}
	if n.cuts {
		list = append(list, harm{"cut off from all", n.isolate}, harm{"cut off from the servers", n.fromServers},
			harm{"sends nothing", n.mute}, harm{"hears nothing", n.deaf})
	}
	return list
}

// run goes on until ctx ends; then it undoes what it has done.
func (n *nemesis) run(ctx context.Context) {
	for round := 0; ctx.Err() == nil; round++ {
		sleep(ctx, time.Second+upTo(n.rnd, 2*time.Second))
		n.collect(ctx)
		switch {
		case round%6 == 3:
			n.noMajority(ctx)
		case round%6 == 5:
			n.killLeader(ctx)
		default:
			n.round(ctx)
		}
		if !n.well(ctx) {
			return
		}
	}
}

// round harms a server, a node, or one of each.
func (n *nemesis) round(ctx context.Context) {
	var wg sync.WaitGroup
	begin := func(what string, h harm, host int, d time.Duration) {
		n.judge.count("nemesis: "+what+" "+h.name, 1)
		n.judge.say("%s %s: %s, %v", what, n.all[host].name, h.name, d.Round(100*time.Millisecond))
		wg.Go(func() {
			if err := h.do(ctx, host, d); err != nil {
				n.judge.violate("does not come back", "%s %s: %v", what, n.all[host].name, err)
			}
		})
	}
	which := n.rnd.IntN(3)
	if which != 0 {
		host, list := n.rnd.IntN(servers), n.toServers()
		if leader, _ := n.streamState(); leader >= 0 && n.rnd.IntN(2) == 0 {
			host = leader
		}
		begin("server", list[n.rnd.IntN(len(list))], host, n.time(15))
	}
	if which != 1 {
		list := n.toNodes()
		begin("node", list[n.rnd.IntN(len(list))], someNode(n.rnd), n.time(15))
	}
	wg.Wait()
}

// time is up to so many seconds, short ones as often as long ones.
func (n *nemesis) time(most int) time.Duration {
	d := time.Second + upTo(n.rnd, time.Duration(most-1)*time.Second)
	if n.rnd.IntN(2) == 0 {
		d = time.Second + upTo(n.rnd, 3*time.Second)
	}
	return d
}

func (n *nemesis) kill(ctx context.Context, host int, d time.Duration) error {
	n.all[host].kill()
	sleep(ctx, d/2)
	return n.all[host].start()
}

func (n *nemesis) pause(ctx context.Context, host int, d time.Duration) error {
	n.all[host].signal(sigStop)
	sleep(ctx, d)
	n.all[host].signal(sigCont)
	return nil
}

func (n *nemesis) isolate(ctx context.Context, host int, d time.Duration) error {
	err := n.network.cut(host)
	sleep(ctx, d)
	return errors.Join(err, n.network.mend(host))
}

// fromServers cuts a host off from the servers of NATS, both ways.
func (n *nemesis) fromServers(ctx context.Context, host int, d time.Duration) error {
	return n.block(ctx, d, func(do func(from, to int)) {
		for other := range servers {
			do(host, other)
			do(other, host)
		}
	})
}

func (n *nemesis) mute(ctx context.Context, host int, d time.Duration) error {
	return n.block(ctx, d, func(do func(from, to int)) {
		for other := range hosts {
			do(host, other)
		}
	})
}

func (n *nemesis) deaf(ctx context.Context, host int, d time.Duration) error {
	return n.block(ctx, d, func(do func(from, to int)) {
		for other := range hosts {
			do(other, host)
		}
	})
}

// block has what each yields vanish for a while.
func (n *nemesis) block(ctx context.Context, d time.Duration, each func(do func(from, to int))) (err error) {
	apply := func(f func(from, to int) error) func(from, to int) {
		return func(from, to int) {
			if from != to {
				err = errors.Join(err, f(from, to))
			}
		}
	}
	each(apply(n.network.drop))
	sleep(ctx, d)
	each(apply(n.network.pass))
	return err
}

// wipe takes a node's disk away.
func (n *nemesis) wipe(ctx context.Context, host int, d time.Duration) error {
	n.all[host].kill()
	if err := os.RemoveAll(n.data(host)); err != nil {
		return err
	}
	sleep(ctx, d/4)
	return errors.Join(n.token(host), n.all[host].start())
}

// noMajority takes two servers away. Nothing may be stored then, and reads go on.
func (n *nemesis) noMajority(ctx context.Context) {
	first, d := n.rnd.IntN(servers), 4*time.Second+upTo(n.rnd, 5*time.Second)
	two := []int{first, (first + 1 + n.rnd.IntN(servers-1)) % servers}
	kill := n.rnd.IntN(2) == 0
	n.judge.count("nemesis: no majority", 1)
	n.judge.say("servers %s and %s: gone (kill: %v), %v", n.all[two[0]].name, n.all[two[1]].name, kill, d.Round(100*time.Millisecond))
	for _, host := range two {
		if kill {
			n.all[host].kill()
		} else {
			n.all[host].signal(sigStop)
		}
	}
	sleep(ctx, 500*time.Millisecond) // what was on its way may be stored
	n.crowd.phase.Add(1)
	n.crowd.noMajority.Store(time.Now().UnixNano())
	for over := time.Now().Add(d); time.Now().Before(over) && ctx.Err() == nil; sleep(ctx, 500*time.Millisecond) {
		host := someNode(n.rnd)
		if status, _, err := n.call(ctx, host, http.MethodGet, "/api/killfeed?topics=all&limit=1&after=1", nil, nil, nil); err != nil && ctx.Err() == nil {
			n.judge.violate("reads without a majority", "at node %s: %d, %v", n.all[host].name, status, err)
		}
	}
	n.crowd.phase.Add(1)
	n.crowd.noMajority.Store(0)
	for _, host := range two {
		if !kill {
			n.all[host].signal(sigCont)
		} else if err := n.all[host].start(); err != nil {
			n.judge.violate("does not come back", "%v", err)
		}
	}
}

// takeOver is how long the others may be without a leader.
const takeOver = 10 * time.Second

// killLeader kills the node that leads, and waits for another one to do so.
func (n *nemesis) killLeader(ctx context.Context) {
	host := n.leader(ctx)
	if host < 0 {
		n.judge.say("no node is known to lead")
		return
	}
	n.judge.count("nemesis: node that leads kill", 1)
	n.judge.say("node %s, which leads: kill", n.all[host].name)
	n.all[host].kill()
	began := time.Now()
	taken := func() bool {
		for other := servers; other < hosts; other++ {
			if other == host {
				continue
			}
			if st, err := n.status(ctx, other); err == nil && st.Cluster.Leads {
				return true
			}
		}
		return false
	}
	for !taken() && ctx.Err() == nil && time.Since(began) < 3*takeOver {
		sleep(ctx, 50*time.Millisecond)
	}
	d := time.Since(began)
	if ctx.Err() == nil {
		n.judge.took("kill of the node that leads to another one that does", d)
		if d > takeOver {
			n.judge.violate("take-over", "%v after node %s was killed", d, n.all[host].name)
		}
	}
	if err := n.all[host].start(); err != nil {
		n.judge.violate("does not come back", "%v", err)
	}
}

// collect has the node that leads remove what may go.
func (n *nemesis) collect(ctx context.Context) {
	for host := servers; host < hosts; host++ {
		if _, _, err := n.call(ctx, host, http.MethodPost, "/api/collect", nil, nil, nil); err == nil {
			n.judge.count("collections", 1)
		}
	}
}

// patience is how long a cluster may take until all is well again. A connection that sent into the void notices late that it need
// not any more: the pauses between its tries grow with the time.
const patience = time.Minute

// well waits until servers and nodes are all there.
func (n *nemesis) well(ctx context.Context) bool {
	began := time.Now()
	head := n.judge.top()
	for {
		_, current := n.streamState()
		if current || ctx.Err() != nil {
			break
		}
		if time.Since(began) > patience {
			n.judge.violate("does not come back", "the servers are not all current after %v", patience)
			break
		}
		sleep(ctx, 100*time.Millisecond)
	}
	for host := servers; host < hosts; host++ {
		if err := n.await(ctx, host, patience, head); err != nil && ctx.Err() == nil {
			n.judge.violate("does not come back", "%v", err)
		}
	}
	if ctx.Err() == nil {
		n.judge.took("end of harm to all well", time.Since(began))
	}
	return ctx.Err() == nil
}

// heal has everything run and everybody connected, whatever was interrupted.
func (n *nemesis) heal() error {
	var errs []error
	for _, p := range n.all {
		p.signal(sigCont)
		if !p.running() {
			errs = append(errs, p.start())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("starting everything again: %w", err)
	}
	return nil
}
