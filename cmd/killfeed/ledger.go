package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"killfeed"
	"killfeed/jetstream"
)

// ledgerSettings are those of every command that talks to the servers of the ledger.
var ledgerSettings = []string{
	"ledger", "ledger-name", "node", "ledger-replicas", "ledger-creds", "ledger-ca", "ledger-cert", "ledger-key",
}

// serversValue is a list of NATS servers. It shows itself without the passwords that may be in it.
type serversValue listValue

func (v *serversValue) Type() string       { return (*listValue)(v).Type() }
func (v *serversValue) Set(s string) error { return (*listValue)(v).Set(s) }
func (v *serversValue) String() string {
	shown := make([]string, len(*v))
	for i, server := range *v {
		shown[i] = server
		if at := strings.LastIndexByte(server, '@'); at >= 0 { // also of a URL that cannot be read
			scheme, _, _ := strings.Cut(server, "://")
			if scheme == server {
				shown[i] = "***" + server[at:]
			} else {
				shown[i] = scheme + "://***" + server[at:]
			}
		}
	}
	return strings.Join(shown, ",")
}

// ledgerOptions are the settings as package jetstream has them.
func (a *app) ledgerOptions(log *slog.Logger) (jetstream.Config, jetstream.Options, error) {
	s := &a.settings
	if len(s.ledger) == 0 {
		return jetstream.Config{}, jetstream.Options{}, usageError{hint(errors.New("no server of the ledger is named"),
			"name them with --ledger nats://host:4222, with commas between")}
	}
	node := s.node
	if node == "" {
		name, err := os.Hostname()
		if err != nil {
			return jetstream.Config{}, jetstream.Options{}, usageError{hint(fmt.Errorf("this machine does not tell its name: %w", err),
				"name the node with --node")}
		}
		node = name
	}
	config := jetstream.Config{
		URLs: s.ledger, Node: node, Credentials: s.ledgerCreds, CA: s.ledgerCA, Cert: s.ledgerCert, Key: s.ledgerKey, Logger: log,
	}
	return config, jetstream.Options{Name: s.ledgerName, Node: node, Replicas: s.ledgerReplicas, Version: version(), Logger: log}, nil
}

// ledgerRetry bounds the time between two tries to reach the ledger when a node starts.
const ledgerRetry = 10 * time.Second

// connectLedger connects to the ledger and looks whether it is safe to use. While its servers cannot be reached, or too few of them, it
// waits and tries again until ctx ends: nodes and servers may be started in any order. What it finds unsafe ends it, each setting
// named; what it could not look at goes to the log.
func (a *app) connectLedger(ctx context.Context, log *slog.Logger) (*nats.Conn, jetstream.Options, error) {
	config, o, err := a.ledgerOptions(log)
	if err != nil {
		return nil, o, err
	}
	pause := time.Second
	for {
		nc, err := a.tryLedger(ctx, config, o, log)
		if err == nil {
			return nc, o, nil
		}
		if ctx.Err() != nil || !errors.Is(err, killfeed.ErrUnavailable) {
			return nil, o, ledgerHint(err)
		}
		log.Warn("waiting for the ledger", "err", err, "again_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, o, fmt.Errorf("waiting for the ledger: %w", context.Cause(ctx))
		}
		pause = min(2*pause, ledgerRetry)
	}
}

func (a *app) tryLedger(ctx context.Context, config jetstream.Config, o jetstream.Options, log *slog.Logger) (*nats.Conn, error) {
	nc, err := jetstream.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	found, err := jetstream.Verify(ctx, nc, o)
	if err == nil {
		err = jetstream.Refuse(found)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	for _, f := range found {
		log.Warn("the ledger may not be safe", "finding", f.String())
	}
	return nc, nil
}

// alone is an error when the store is that of a node: written to without the others it would give out numbers that they give out as well.
func alone(store killfeed.Store, dir string) error {
	node, err := jetstream.IsNode(store)
	if err == nil && node {
		err = hint(fmt.Errorf("%s is the directory of a node, which shares its log with others", dir),
			"start the server on it with --ledger, and import into that; 'killfeed cluster leave' makes it a feed of one node")
	}
	return err
}

// ledgerHint says what to do about an error of the ledger.
func ledgerHint(err error) error {
	switch {
	case errors.Is(err, jetstream.ErrNoFeed):
		return hint(err, "make it, once, with 'killfeed cluster init'; or name another with --ledger-name")
	case errors.Is(err, killfeed.ErrUnavailable):
		return hint(fmt.Errorf("%w: %w", errUnreachable, err), "see that the servers run and can be reached from here; --ledger names them")
	case errors.Is(err, jetstream.ErrRefused):
		return hint(err, "see docs/cluster.md; 'killfeed cluster status' shows everything that is found")
	}
	return err
}
