package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// side is what is measured in turns: one or several nodes of one feed, and what is asked of them.
type side struct {
	nodes   []*node
	request func(i int) []byte
	status  int
	check   func(body []byte) error // nil: the status is enough
	before  func() error            // before each round; nil: nothing
}

// load is one round.
type load struct {
	server.Load
	nats time.Duration // processor time of the NATS servers meanwhile, for each request
}

func (b *bench) load(s side) (l load, err error) {
	if s.before != nil {
		if err := s.before(); err != nil {
			return l, err
		}
	}
	cpu := server.CPU(b.world.nats)
	defer func() {
		if l.Requests > 0 {
			l.nats = (server.CPU(b.world.nats) - cpu) / time.Duration(l.Requests)
		}
	}()
	l.Load, err = server.Drive(servers(s.nodes...), b.conns, b.round, s.request, func(_, status int, body []byte) error {
		if status == 204 && s.status == 200 {
			return server.ErrEnough // everything is read
		}
		if status != s.status {
			return fmt.Errorf("%s answered %d, want %d: %.300s", s.nodes[0].name, status, s.status, body)
		}
		if s.check != nil {
			return s.check(body)
		}
		return nil
	})
	return l, err
}

// against compares sides of the cluster with the single node, which is the last one. The order changes with each round. least is the
// ratio that is wanted; 0: none.
func (b *bench) against(ctx context.Context, measure string, names []string, least float64, sides ...side) ([]suite.Result, error) {
	loads := make([][]load, len(sides))
	for round := range b.Rounds + 1 { // the first does not count
		for k := range sides {
			i := k
			if round%2 == 1 {
				i = len(sides) - 1 - k
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			l, err := b.load(sides[i])
			if err != nil {
				return nil, err
			}
			if round > 0 {
				loads[i] = append(loads[i], l)
			}
		}
	}
	rate := func(l load) float64 { return l.Rate }
	cpu := func(l load) float64 { return float64(l.CPU.Nanoseconds()) / 1000 }
	nats := func(l load) float64 { return float64(l.nats.Nanoseconds()) / 1000 }
	last := len(sides) - 1
	y, yc := column(loads[last], rate), suite.Median(column(loads[last], cpu))
	var out []suite.Result
	for i, name := range names {
		o, oc := column(loads[i], rate), suite.Median(column(loads[i], cpu))
		r := suite.Result{
			Measure: fmt.Sprintf("%s, %s", measure, name), Ours: suite.PerSecond(suite.Median(o)), Yardstick: suite.PerSecond(suite.Median(y)),
			Ratio: suite.Median(o) / suite.Median(y),
			Note: fmt.Sprintf("CPU of the nodes asked %.1f against %.1f us a request (%.2f), of the NATS servers %.1f; spread %.0f%% and %.0f%%",
				oc, yc, yc/oc, suite.Median(column(loads[i], nats)), 100*suite.Spread(o), 100*suite.Spread(y)),
		}
		if least > 0 {
			r.Want, r.Met = fmt.Sprintf("at least %.2f", least), r.Ratio >= least
		}
		out = append(out, r)
	}
	return out, nil
}

// one names the side that asks a single node of the cluster, which is not the one that leads.
var one = []string{"one of three nodes"}

// fixed makes the requests of each worker beforehand.
func (b *bench) fixed(path func(i int) string) func(i int) []byte {
	requests := make([][]byte, b.conns)
	for i := range requests {
		requests[i] = server.Get(path(i))
	}
	return func(i int) []byte { return requests[i] }
}

// cursorReads measures reads that keep no place: everybody reads the newest 100 events.
func cursorReads(ctx context.Context, b *bench, w *world) ([]suite.Result, error) {
	const newest = 100
	reader := func(n *node) (side, error) {
		st, err := n.status()
		if err != nil {
			return side{}, err
		}
		path := fmt.Sprintf("/api/killfeed?topics=all&limit=%d&after=%d-%s", newest, st.Log.Head-newest, st.Log.Epoch)
		last := fmt.Appendf(nil, `{"event_id":%d,`, st.Log.Head)
		return side{nodes: []*node{n}, status: 200, request: b.fixed(func(int) string { return path }), check: func(body []byte) error {
			if !bytes.Contains(body, last) {
				return fmt.Errorf("%s left the newest event out: %.200s", n.name, body)
			}
			return nil
		}}, nil
	}
	ours, err := reader(w.nodes[1])
	if err != nil {
		return nil, err
	}
	single, err := reader(w.single)
	if err != nil {
		return nil, err
	}
	return b.against(ctx, fmt.Sprintf("the newest %d events behind a cursor, %d stored", newest, b.Events), one, 0.9, ours, single)
}

// query names a client and the ten busiest systems.
func query(client int) string {
	m := killmails.New()
	q := fmt.Sprintf("client_id=bench-%d", client)
	for rank := range 10 {
		q += fmt.Sprintf("&systems[]=%d", m.System(rank))
	}
	return q
}

// seek moves all of the bench's clients. In a cluster it is enough to tell one node.
func (b *bench) seek(n *node, to string) error {
	m := killmails.New()
	var ids []uint32
	for rank := range 10 {
		ids = append(ids, m.System(rank))
	}
	body, err := json.Marshal(map[string]any{"to": to, "systems": ids})
	if err != nil {
		return err
	}
	for i := range b.conns {
		status, answer, err := n.Send("POST", fmt.Sprintf("/api/clients/bench-%d/seek", i), string(body))
		if err != nil {
			return err
		}
		if status != 200 {
			return fmt.Errorf("%s answered a seek %d: %s", n.name, status, answer)
		}
	}
	return nil
}

// idle compares requests of clients that have read everything.
func (b *bench) idle(ctx context.Context, w *world, measure, path string, status int) ([]suite.Result, error) {
	ask := func(n *node) side {
		return side{nodes: []*node{n}, status: status, request: b.fixed(func(i int) string { return path + query(i) })}
	}
	for _, n := range []*node{w.nodes[1], w.single} {
		if err := b.seek(n, "latest"); err != nil {
			return nil, err
		}
	}
	return b.against(ctx, fmt.Sprintf("%s, nothing new, %d stored", measure, b.Events), one, 0.9, ask(w.nodes[1]), ask(w.single))
}

func idlePolls(ctx context.Context, b *bench, w *world) ([]suite.Result, error) {
	return b.idle(ctx, w, "poll", "/api/killfeed?", 200)
}

func idleNext(ctx context.Context, b *bench, w *world) ([]suite.Result, error) {
	return b.idle(ctx, w, "next", "/api/killfeed/next?", 204)
}

// committing measures next with an event each, which all nodes have to agree on.
func committing(ctx context.Context, b *bench, w *world) ([]suite.Result, error) {
	ask := func(nodes ...*node) side {
		return side{
			nodes: nodes, status: 200, request: b.fixed(func(i int) string { return "/api/killfeed/next?" + query(i) }),
			before: func() error { return b.seek(nodes[0], fmt.Sprint(b.Events-fresh)) },
		}
	}
	return b.against(ctx, "next with a new event, committed", []string{one[0], "three nodes"}, 0,
		ask(w.nodes[1]), ask(w.nodes...), ask(w.single))
}

// inserts measures killmails that are sent one by one, to the answer.
func inserts(ctx context.Context, b *bench, w *world) ([]suite.Result, error) {
	begin := time.Now()
	sides := 0
	write := func(nodes ...*node) side {
		// Each has killmails of its own: their numbers begin with microseconds.
		makers := make([]*killmails.Maker, b.conns)
		for i := range makers {
			makers[i] = killmails.Typical(begin.Add(time.Duration(sides*b.conns+i) * 10 * time.Second))
		}
		sides++
		return side{
			nodes: nodes, status: 201,
			request: func(i int) []byte {
				return server.Post("/api/killmails", nodes[i%len(nodes)].token, makers[i].Lines(1, uint32(firstSystem+i)))
			},
		}
	}
	return b.against(ctx, fmt.Sprintf("killmails inserted one by one by %d writers, acknowledged", b.conns),
		[]string{one[0], "three nodes"}, 0, write(w.nodes[1]), write(w.nodes...), write(w.single))
}
