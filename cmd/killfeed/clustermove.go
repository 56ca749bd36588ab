package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"killfeed"
	"killfeed/jetstream"
	"killfeed/pebblestore"
)

// openForMove opens the store of a directory that holds a log.
func (a *app) openForMove() (*pebblestore.Store, error) {
	if err := holdsLog(a.settings.data); err != nil {
		return nil, hint(err, "name the data directory with --data, or leave it out for an empty log")
	}
	store, err := pebblestore.Open(a.settings.data, pebblestore.Options{Cache: int64(a.settings.cache), Logger: a.commandLog()})
	if err != nil {
		return nil, lockedHint(err, "a running server holds it: stop the server first")
	}
	return store, nil
}

// moveIn brings a directory's log to the servers. It does nothing when that was done before.
func (a *app) moveIn(ctx context.Context, nc *nats.Conn, store *pebblestore.Store, o jetstream.Options) (*jetstream.Moved, error) {
	st, err := jetstream.Look(ctx, nc, o)
	if err != nil {
		return nil, err
	}
	node, err := jetstream.IsNode(store)
	if err != nil {
		return nil, err
	}
	switch {
	case st.Move == jetstream.Here && node:
		return &jetstream.Moved{}, nil
	case st.Move == jetstream.Here: // such as a copy from before: it would put clients back
		return nil, fmt.Errorf("the servers have the log %s, and %s is not one of its nodes' directories; a node begins with an empty directory", o.Name,
			a.settings.data)
	case st.Move == jetstream.Gone && node:
		return nil, fmt.Errorf("the log %s was taken home, into another directory than %s; bring that one", o.Name, a.settings.data)
	}
	var places []killfeed.Checkpoint
	if err := store.Checkpoints(func(c killfeed.Checkpoint) bool { places = append(places, c); return true }); err != nil {
		return nil, fmt.Errorf("reading the places of sources: %w", err)
	}
	if err := a.nobodyLive(ctx, nc, o, "a log is brought to servers before nodes use them"); err != nil {
		return nil, err
	}
	if err := jetstream.SetMove(ctx, nc, o, jetstream.Coming); err != nil {
		return nil, err
	}
	shown := a.moveProgress("bringing events")
	defer shown.end()
	moved, err := jetstream.MoveIn(ctx, nc, store, places, o, shown.update)
	if err != nil {
		return nil, err
	}
	return &moved, jetstream.SetMove(ctx, nc, o, jetstream.Here)
}

// beats is time enough for a node that lives to tell of itself, which it does every 2 s.
const beats = 5 * time.Second

// nobodyLive returns an error when nodes use the log at the moment. One that was stopped a moment ago looks as if it did, until it misses
// its time.
func (a *app) nobodyLive(ctx context.Context, nc *nats.Conn, o jetstream.Options, why string) error {
	lately := func(limit time.Duration) (names []string, err error) {
		st, err := jetstream.Look(ctx, nc, o)
		for _, n := range st.Nodes {
			if n.Age < limit {
				names = append(names, n.Name)
			}
		}
		return names, err
	}
	names, err := lately(2 * beats)
	if err != nil || len(names) == 0 {
		return err
	}
	fmt.Fprintf(a.stderr, "looking for %s whether %s still runs\n", beats, strings.Join(names, ", "))
	select {
	case <-time.After(beats):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if names, err = lately(beats); err != nil || len(names) == 0 {
		return err
	}
	return hint(fmt.Errorf("nodes use the log %s: %s; %s", o.Name, strings.Join(names, ", "), why), "stop all nodes, and repeat the command")
}

func (a *app) clusterLeaveCmd() *cobra.Command {
	var asJSON, offline bool
	c := &cobra.Command{
		Use:   "leave",
		Short: "Take the shared log home: make a feed of one node of it again",
		Long: `Bring the directory of a node up to the end of the shared log, and put the clients with their offsets and the places
of sources into it. Then 'killfeed serve' without --ledger goes on with the same events, ids, epoch and offsets, and
clients notice nothing. All nodes must be stopped. What the NATS servers have stays, and is marked, so that no node
goes on with it by mistake; 'killfeed cluster init --data' brings the log back there.

An empty directory, or one that is missing, becomes a copy of what the servers have, if no event was removed yet. When it
is interrupted, repeat it.

With --offline nobody is asked: when the servers are lost for good, a node's directory goes on alone with what it has.
Events that it has not got are missing then, and the offsets of clients that other nodes served.`,
		Example: "  killfeed cluster leave --ledger nats://nats1,nats://nats2,nats://nats3 --data /var/lib/killfeed",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, `print one JSON object, {"head":…,"moved":{…}}`)
	c.Flags().BoolVar(&offline, "offline", false, "the servers are lost: go on with what the directory has")
	return a.command(c, append([]string{"data", "cache"}, ledgerSettings...), func(ctx context.Context, _ []string) error {
		if offline {
			return a.leaveOffline(asJSON)
		}
		return a.onLedger(ctx, func(nc *nats.Conn, o jetstream.Options) error { return a.clusterLeave(ctx, nc, o, asJSON) })
	})
}

func (a *app) clusterLeave(ctx context.Context, nc *nats.Conn, o jetstream.Options, asJSON bool) error {
	if err := a.nobodyLive(ctx, nc, o, "what they take in after that would be left behind"); err != nil {
		return err
	}
	fetched, err := a.fetch(ctx, nc, o)
	if err != nil {
		return err
	}
	store, err := pebblestore.Open(a.settings.data, pebblestore.Options{Cache: int64(a.settings.cache), Logger: a.commandLog()})
	if err != nil {
		return lockedHint(err, "a running server holds it: stop the server first")
	}
	var moved jetstream.Moved
	if err = jetstream.SetMove(ctx, nc, o, jetstream.Gone); err == nil { // before the directory is its own, so that only one of both is
		moved, err = jetstream.MoveOut(ctx, nc, store, o)
	}
	moved.Events = fetched
	head := store.State().Head
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, struct {
			Head  killfeed.EventID `json:"head"`
			Moved jetstream.Moved  `json:"moved"`
		}{head, moved})
	}
	_, err = fmt.Fprintf(a.stdout, "fetched %d events, %d clients and the places of %d sources into %s, which now ends with event %d; "+
		"start it with 'killfeed serve' without --ledger\n", moved.Events, moved.Clients, moved.Positions, a.settings.data, head)
	return err
}

// leaveOffline makes a feed of one node of a node's directory with what it has.
func (a *app) leaveOffline(asJSON bool) error {
	store, err := a.openForMove()
	if err != nil {
		return err
	}
	node, err := jetstream.IsNode(store)
	if err == nil && !node {
		err = fmt.Errorf("%s is no node's directory: 'killfeed serve' without --ledger takes it as it is", a.settings.data)
	}
	if err == nil {
		err = jetstream.Forget(store)
	}
	head := store.State().Head
	if err = errors.Join(err, store.Close()); err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, map[string]any{"head": head, "moved": jetstream.Moved{}})
	}
	_, err = fmt.Fprintf(a.stdout, "%s ends with event %d and is a feed of one node; start it with 'killfeed serve' without --ledger\n",
		a.settings.data, head)
	return err
}

// fetch brings the directory up to the stream's end, as a node does by itself. It returns how many events it lacked.
func (a *app) fetch(ctx context.Context, nc *nats.Conn, o jetstream.Options) (n int, err error) {
	stored := pebblestore.Options{Cache: int64(a.settings.cache), Logger: a.commandLog()}
	if stored.Epoch, err = jetstream.Epoch(ctx, nc, o); err != nil {
		return 0, err
	}
	st, err := jetstream.Look(ctx, nc, o)
	if err != nil {
		return 0, err
	}
	feed, _, err := a.openNode(stored, killfeed.Options{Logger: a.commandLog()}, func(store *pebblestore.Store) (*jetstream.Ledger, error) {
		if head := store.State().Head; head+1 < st.First { // only another node could tell, and none runs
			return nil, hint(fmt.Errorf("%s ends with event %d, and the servers have removed those up to %d", a.settings.data, head, st.First-1),
				"name the directory of a node that is further, or start nodes for long enough that this one catches up")
		}
		return jetstream.Open(ctx, nc, store, o)
	})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, feed.Close()) }()
	began := feed.State().Head
	shown := a.moveProgress("fetching events")
	defer shown.end()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		head := feed.State().Head
		if head >= st.Head {
			return int(head - began), nil
		}
		if health := feed.Health(); errors.Is(health, killfeed.ErrFailed) {
			return 0, health
		}
		shown.update(uint64(head-began), uint64(st.Head-began))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// moveShow shows how a move goes: a bar on a terminal, else a line now and then. One goroutine uses it.
type moveShow struct {
	a     *app
	what  string
	bar   *progressbar.ProgressBar // nil before the first update, and where there is no terminal
	begun time.Time
	last  time.Time
}

func (a *app) moveProgress(what string) *moveShow {
	return &moveShow{a: a, what: what, begun: time.Now(), last: time.Now()}
}

func (s *moveShow) update(done, total uint64) {
	if isTerminal(s.a.stderr) {
		if s.bar == nil {
			s.bar = progressbar.NewOptions64(int64(total), progressbar.OptionSetWriter(s.a.stderr), progressbar.OptionSetDescription(s.what),
				progressbar.OptionThrottle(barEvery), progressbar.OptionSetPredictTime(true), progressbar.OptionShowCount(),
				progressbar.OptionSetSpinnerChangeInterval(0), progressbar.OptionClearOnFinish())
		}
		_ = s.bar.Set64(int64(done))
		return
	}
	if time.Since(s.last) < plainEvery {
		return
	}
	s.last = time.Now()
	left := time.Duration(float64(time.Since(s.begun)) * float64(total-done) / float64(max(done, 1)))
	fmt.Fprintf(s.a.stderr, "%s: %d of %d, %s left\n", s.what, done, total, left.Round(time.Second))
}

func (s *moveShow) end() {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
}
