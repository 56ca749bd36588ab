package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// world is a cluster and a feed of one node, with the same events stored.
type world struct {
	dir    string // of all files; removed at the end
	nats   []*server.Server
	nodes  []*node
	single *node

	moved  time.Duration   // what bringing the log to the servers took
	copied []time.Duration // what copying it took each node that began with an empty directory
}

// node is a server with a log.
type node struct {
	*server.Server
	name  string
	data  string
	token string
	start func(context.Context) (*server.Server, error)
}

// serve starts a node, or starts it again.
func (n *node) serve(ctx context.Context) (err error) {
	if n.Server, err = n.start(ctx); err != nil {
		return err
	}
	n.token, err = killmails.Token(n.data)
	return err
}

// status is what is looked at of /api/status.
type status struct {
	Log struct {
		Epoch string `json:"epoch"`
		Head  int    `json:"head"`
	} `json:"log"`
	Cluster struct {
		Leads bool `json:"leads"`
	} `json:"cluster"`
}

func (n *node) status() (st status, err error) {
	code, body, err := n.Get("/api/status")
	if err != nil {
		return st, err
	}
	if code != 200 {
		return st, fmt.Errorf("%s answered a request for its status %d: %.200s", n.name, code, body)
	}
	return st, json.Unmarshal(body, &st)
}

// until asks for the node's status until it is so, for a minute at most.
func (n *node) until(ctx context.Context, what string, is func(status) bool) error {
	for deadline := time.Now().Add(time.Minute); ; {
		st, err := n.status()
		if err != nil {
			return err
		}
		if is(st) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %s did not come within a minute: %+v", n.name, what, st)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// newWorld starts all servers. The single node and the cluster's first begin with copies of one log, which the other nodes copy from
// the NATS servers.
func newWorld(ctx context.Context, b *bench) (_ *world, err error) {
	log, err := killmails.Log(ctx, b.Work, b.Events)
	if err != nil {
		return nil, err
	}
	w := &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp(b.Work, "cluster"); err != nil {
		return nil, err
	}
	ledger := ""
	add := func(name string, more ...string) *node {
		n := &node{name: name, data: filepath.Join(w.dir, name)}
		// No event is to be removed while it is measured, however long ago the log was made.
		args := append([]string{"--retain", "8760h", "--retain-max", "0", "--names", "off"}, more...)
		n.start = func(ctx context.Context) (*server.Server, error) {
			return server.Serve(ctx, b.Work, b.Killfeed, n.data, args...)
		}
		return n
	}
	single := add("single")
	for _, name := range []string{"single", "a"} {
		if err := os.CopyFS(filepath.Join(w.dir, name), os.DirFS(log)); err != nil {
			return nil, err
		}
	}
	if err := single.serve(ctx); err != nil {
		return nil, err
	}
	w.single = single
	if w.nats, ledger, err = startNATS(ctx, b.Work, w.dir); err != nil {
		return nil, err
	}
	suite.Progress("   bringing %d events to the servers", b.Events)
	if err := w.move(ctx, b, ledger); err != nil {
		return nil, err
	}
	for _, name := range []string{"a", "b", "c"} {
		n := add(name, "--ledger", ledger, "--node", name)
		began := time.Now()
		if err := n.serve(ctx); err != nil {
			return nil, err
		}
		w.nodes = append(w.nodes, n)
		if err := n.until(ctx, "the log's end", func(st status) bool { return st.Log.Head >= b.Events }); err != nil {
			return nil, err
		}
		if name == "a" { // it has everything
			err = n.until(ctx, "the lead", func(st status) bool { return st.Cluster.Leads })
		} else {
			w.copied = append(w.copied, time.Since(began))
		}
		if err != nil {
			return nil, err
		}
	}
	// Killmails come in anew, so that both have the newest in memory: the copies of the log were opened from disk.
	maker := killmails.Typical(time.Now())
	for range fresh / 500 {
		lines := maker.Lines(500, firstSystem)
		for _, n := range []*node{w.single, w.nodes[1]} {
			if err := insert(n, lines); err != nil {
				return nil, err
			}
		}
	}
	return w, w.level(ctx)
}

// fresh is how many killmails come in after both have opened their logs.
const fresh = 6000

// firstSystem is the system of the killmails that are inserted; writers that are several have the following ones.
const firstSystem = 30_000_001

// insert hands killmails in, one a line.
func insert(n *node, lines []byte) error {
	c, err := server.Dial(n.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return hand(c, n, lines)
}

// level waits until all nodes of the cluster have what one of them has.
func (w *world) level(ctx context.Context) error {
	head := 0
	for _, n := range w.nodes {
		st, err := n.status()
		if err != nil {
			return err
		}
		head = max(head, st.Log.Head)
	}
	for _, n := range w.nodes {
		if err := n.until(ctx, "the log's end", func(st status) bool { return st.Log.Head >= head }); err != nil {
			return err
		}
	}
	return nil
}

// move makes the log on the servers from the first node's directory. As long as they have not found each other it is tried again.
func (w *world) move(ctx context.Context, b *bench, ledger string) error {
	const unreachable = 4 // killfeed's exit code
	for deadline := time.Now().Add(time.Minute); ; {
		began := time.Now()
		c := exec.CommandContext(ctx, b.Killfeed, "cluster", "init", "--ledger", ledger, "--data", filepath.Join(w.dir, "a"))
		out, err := c.CombinedOutput()
		if err == nil {
			w.moved = time.Since(began)
			return nil
		}
		if c.ProcessState.ExitCode() != unreachable || time.Now().After(deadline) {
			return fmt.Errorf("killfeed cluster init: %w: %s", err, bytes.TrimSpace(out))
		}
	}
}

// close ends all servers and removes their files.
func (w *world) close() error {
	var errs []error
	for _, n := range append([]*node{w.single}, w.nodes...) {
		if n != nil && n.Server != nil {
			errs = append(errs, n.Stop())
		}
	}
	for _, s := range w.nats {
		s.Kill() // its end by a signal is no clean one either
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// servers are those of a side.
func servers(nodes ...*node) (list []*server.Server) {
	for _, n := range nodes {
		list = append(list, n.Server)
	}
	return list
}

// size is what the files of a directory take, in bytes.
func size(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		if errors.Is(err, fs.ErrNotExist) { // the store has removed it meanwhile
			err = nil
		}
		return err
	})
	return sum, err
}

// joined tells how fast the log came to the servers and to new nodes, and what it takes there.
func joined(_ context.Context, b *bench, w *world) ([]suite.Result, error) {
	of := func(took time.Duration) float64 { return float64(b.Events) / took.Seconds() }
	kept, err := size(filepath.Join(w.dir, "nats1"))
	if err != nil {
		return nil, err
	}
	own, err := size(w.nodes[1].data)
	if err != nil {
		return nil, err
	}
	most := max(w.copied[0], w.copied[1])
	return []suite.Result{{
		Measure: fmt.Sprintf("the log of %d events brought to the servers: events", b.Events), Ours: suite.PerSecond(of(w.moved)), Ratio: 1,
		Note: fmt.Sprintf("%.1f s; %.0f bytes an event on each server, whose memory then is %d MB", w.moved.Seconds(),
			float64(kept)/float64(b.Events), w.nats[0].RSS()>>20),
	}, {
		Measure: fmt.Sprintf("a new node copies %d events: events", b.Events), Ours: suite.PerSecond(of(most)), Ratio: 1,
		Note: fmt.Sprintf("%.1f and %.1f s from the start; %.0f bytes an event on its disk, not compacted yet; resident %d MB, the single node %d MB",
			w.copied[0].Seconds(), w.copied[1].Seconds(), float64(own)/float64(b.Events), w.nodes[1].RSS()>>20, w.single.RSS()>>20),
	}}, nil
}
