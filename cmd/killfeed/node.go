package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"killfeed"
	"killfeed/jetstream"
	"killfeed/pebblestore"
)

// node is what a feed is made of.
type node struct {
	store *pebblestore.Store
	lead  leading
	// cluster is nil for a feed of one node.
	cluster *jetstream.Ledger
	// close closes the connection to the ledger's servers, once the feed is closed.
	close func()
}

// leading runs what one node does for all that share the log; nil where there is only one.
type leading func(ctx context.Context, work func(ctx context.Context) error) error

// only makes a service that works while this node leads.
func (l leading) only(work func(ctx context.Context) error) func(ctx context.Context) error {
	if l == nil {
		return work
	}
	return func(ctx context.Context) error { return l(ctx, work) }
}

// openFeed opens the log: the store in the data directory, and with --ledger the cluster's ledger, which the feed closes.
func (a *app) openFeed(ctx context.Context, log *slog.Logger) (*killfeed.Feed, node, error) {
	s := &a.settings
	if s.memory { // there is no store there, but the token is
		if err := os.MkdirAll(s.data, 0o750); err != nil {
			return nil, node{}, fmt.Errorf("making the data directory: %w", err)
		}
	}
	stored := pebblestore.Options{Memory: s.memory, Cache: int64(s.cache), Logger: log}
	options := killfeed.Options{Retention: a.retention(), MaxClients: s.maxClients, Logger: log}
	if len(s.ledger) == 0 {
		return a.openNode(stored, options, nil)
	}
	conn, shared, err := a.connectLedger(ctx, log)
	if err != nil {
		return nil, node{}, err
	}
	if stored.Epoch, err = jetstream.Epoch(ctx, conn, shared); err != nil {
		conn.Close()
		return nil, node{}, hint(err, "killfeed cluster init makes the stream; killfeed cluster status tells what is there")
	}
	feed, n, err := a.openNode(stored, options, func(store *pebblestore.Store) (*jetstream.Ledger, error) {
		return jetstream.Open(ctx, conn, store, shared)
	})
	if err != nil {
		conn.Close()
	}
	n.close = conn.Close
	return feed, n, err
}

// openNode opens the store, and the feed on it; cluster, when it is set, opens the ledger.
func (a *app) openNode(stored pebblestore.Options, options killfeed.Options, cluster func(*pebblestore.Store) (*jetstream.Ledger, error)) (
	*killfeed.Feed, node, error) {
	store, err := pebblestore.Open(a.settings.data, stored)
	if err != nil {
		return nil, node{}, lockedHint(err, "another killfeed runs on this directory; stop it, or choose another directory with --data")
	}
	n := node{store: store, close: func() {}}
	if cluster == nil {
		if err := alone(store, a.settings.data); err != nil {
			return nil, node{}, errors.Join(err, store.Close())
		}
	} else {
		if n.cluster, err = cluster(store); err != nil {
			return nil, node{}, errors.Join(err, store.Close())
		}
		n.lead, options.Ledger = n.cluster.Lead, n.cluster
	}
	feed, err := killfeed.Open(store, options)
	if err != nil {
		if n.cluster != nil {
			err = errors.Join(err, n.cluster.Close())
		}
		return nil, node{}, errors.Join(err, store.Close())
	}
	return feed, n, nil
}

// status is what /api/status shows of the cluster; nil for a feed of one node.
func (n node) status() func() any {
	if n.cluster == nil {
		return nil
	}
	return func() any { return n.cluster.Info() }
}

// Describe implements prometheus.Collector.
func (n node) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(n, ch) }

// Collect implements prometheus.Collector.
func (n node) Collect(ch chan<- prometheus.Metric) {
	if n.cluster == nil {
		return
	}
	gauge := func(name, help string, value float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("killfeed_cluster_"+name, help, nil, nil), prometheus.GaugeValue, value)
	}
	is := map[bool]float64{true: 1}
	info := n.cluster.Info()
	gauge("leads", "1 when this node does what one does for all: follow sources, post to webhooks, collect.", is[info.Leads])
	gauge("lag_events", "Events of the cluster that this node does not have yet.", float64(info.Lag))
	gauge("agrees", "1 when this node can agree with the others; else it stores nothing.", is[info.Trouble == ""])
	gauge("nodes", "Nodes that were heard of lately, this one included.", float64(len(info.Nodes)))
	chain := prometheus.NewDesc("killfeed_cluster_chain_info",
		"The chained checksum of all events up to the head, the same on all nodes with that head.", []string{"chain"}, nil)
	ch <- prometheus.MustNewConstMetric(chain, prometheus.GaugeValue, 1, info.Chain)
}
