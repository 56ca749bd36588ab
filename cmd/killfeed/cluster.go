package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"killfeed"
	"killfeed/jetstream"
	"killfeed/pebblestore"
)

func (a *app) clusterCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:   "cluster",
		Short: "Share one log between several nodes, by way of NATS",
		Long: `Several nodes can share one log: each serves all clients, and each can be lost. They agree on it by way of NATS
servers with JetStream, which --ledger names.

  killfeed cluster nats-config --server 1 --of nats1,nats2,nats3   a configuration for such a server
  killfeed cluster init --ledger nats://nats1,nats://nats2,…       make the log there, once
  killfeed serve --ledger nats://nats1,nats://nats2,…              on each node`,
	}, a.clusterInitCmd(), a.clusterStatusCmd(), a.clusterLeaveCmd(), a.natsConfigCmd())
}

// monitors adds the flag with the servers' monitoring ports.
func monitors(flags *pflag.FlagSet, urls *[]string) {
	flags.StringSliceVar(urls, "monitor", nil,
		"monitoring `URLs` of the NATS servers, as in http://nats1:8222, for settings that servers tell nobody else; several with commas between")
}

func (a *app) clusterInitCmd() *cobra.Command {
	var (
		asJSON, repair bool
		urls           []string
	)
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the shared log on the servers, from a directory or empty",
		Long: `Make the stream and the bucket of the shared log on the NATS servers, with settings that lose nothing, and verify
those of the servers. What is there already is verified and left as it is; --repair sets right what servers can change,
and has nodes go on with a log that 'cluster leave' has taken home.

With --data (the flag; a setting in the environment or in the file does not count here) the log of that directory is
brought there: its events with their ids, its clients with their offsets, the places of its sources, its epoch. Clients
notice nothing. The server on the directory must be stopped. When it is interrupted, repeat it: it goes on where it was,
and no node begins before it is done. The directory then is a node's: start it with --ledger. When servers have lost the
log, that of a node is brought back to them in the same way.

With --json the one line of standard output is {"name":…,"epoch":…,"first":…,"head":…,"moved":{…},"findings":[…]}.`,
		Example: `  killfeed cluster init --ledger nats://nats1,nats://nats2,nats://nats3
  killfeed cluster init --ledger nats://nats1,nats://nats2,nats://nats3 --data /var/lib/killfeed`,
		Args: cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.Flags().BoolVar(&repair, "repair", false, "give a stream and a bucket that are there the settings that they lack")
	monitors(c.Flags(), &urls)
	return a.command(c, append([]string{"data", "cache"}, ledgerSettings...), func(ctx context.Context, _ []string) error {
		return a.clusterInit(ctx, urls, repair, asJSON)
	})
}

// onLedger connects to the ledger's servers for one command, which ends when they cannot be reached.
func (a *app) onLedger(ctx context.Context, f func(nc *nats.Conn, o jetstream.Options) error) error {
	config, o, err := a.ledgerOptions(a.commandLog())
	if err != nil {
		return err
	}
	nc, err := jetstream.Connect(ctx, config)
	if err == nil {
		defer nc.Close()
		err = f(nc, o)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return hint(errInterrupted, "repeat the command to go on")
	case err != nil:
		return ledgerHint(err)
	}
	return nil
}

// commandLog is for commands that end: what needs attention only.
func (a *app) commandLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func (a *app) clusterInit(ctx context.Context, urls []string, repair, asJSON bool) error {
	var store *pebblestore.Store
	if a.origin["data"] == "flag" {
		var err error
		if store, err = a.openForMove(); err != nil {
			return err
		}
		defer store.Close() // what it returns is of no use: all that counts was committed
	}
	return a.onLedger(ctx, func(nc *nats.Conn, o jetstream.Options) error {
		var plan jetstream.Plan
		if store != nil {
			st := store.State()
			plan = jetstream.Plan{Epoch: st.Epoch, FirstSeq: uint64(st.First), Move: jetstream.Coming}
		}
		if err := jetstream.Create(ctx, nc, o, plan); err != nil {
			return err
		}
		if repair {
			if store != nil { // it says that servers go on without a log that was taken home
				return usagef("--repair and --data do not go together: repair first")
			}
			if err := jetstream.Repair(ctx, nc, o); err != nil {
				return err
			}
		}
		found, err := a.verify(ctx, nc, o, urls)
		if err != nil {
			return err
		}
		if store != nil { // that the log is not there is about to change
			found = without(found, jetstream.SettingMove)
		}
		a.warn(found)
		if err := jetstream.Refuse(found); err != nil {
			return err
		}
		var moved *jetstream.Moved
		if store != nil {
			if moved, err = a.moveIn(ctx, nc, store, o); err != nil {
				return err
			}
		}
		st, err := jetstream.Look(ctx, nc, o)
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(a.stdout, struct {
				Name     string              `json:"name"`
				Epoch    killfeed.Epoch      `json:"epoch"`
				First    killfeed.EventID    `json:"first"`
				Head     killfeed.EventID    `json:"head"`
				Moved    *jetstream.Moved    `json:"moved,omitempty"`
				Findings []jetstream.Finding `json:"findings"`
			}{st.Name, st.Epoch, st.First, st.Head, moved, append([]jetstream.Finding{}, found...)})
		}
		if moved != nil {
			fmt.Fprintf(a.stdout, "brought %d events, %d clients and the places of %d sources from %s\n",
				moved.Events, moved.Clients, moved.Positions, a.settings.data)
		}
		_, err = fmt.Fprintf(a.stdout, "the log %s is ready: epoch %s, %s; start each node with 'killfeed serve --ledger …'\n",
			st.Name, st.Epoch, heldText(st.First, st.Head))
		return err
	})
}

func heldText(first, head killfeed.EventID) string {
	if head < first {
		return fmt.Sprintf("no events, the next is %d", first)
	}
	return fmt.Sprintf("events %d to %d", first, head)
}

func without(found []jetstream.Finding, setting string) (rest []jetstream.Finding) {
	for _, f := range found {
		if f.Setting != setting {
			rest = append(rest, f)
		}
	}
	return rest
}

// verify looks at all settings, with the help of the servers' monitoring ports if there are some.
func (a *app) verify(ctx context.Context, nc *nats.Conn, o jetstream.Options, urls []string) ([]jetstream.Finding, error) {
	var answers [][]byte
	for _, text := range urls {
		answer, err := monitored(ctx, text)
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer)
	}
	return jetstream.Verify(ctx, nc, o, answers...)
}

// monitored asks a server's monitoring port.
func monitored(ctx context.Context, text string) ([]byte, error) {
	base, err := url.Parse(text)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, usagef("--monitor %q is no URL: want one as in http://nats1:8222", text)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("varz").String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking a monitoring port: %w: %w", errUnreachable, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 4<<20))
	if err != nil {
		return nil, fmt.Errorf("asking a monitoring port: %w: %w", errUnreachable, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: is it the monitoring port of a NATS server?", base.Redacted(), response.Status)
	}
	return answer, nil
}

// warn tells what nobody could look at; what is unsafe becomes an error.
func (a *app) warn(found []jetstream.Finding) {
	for _, f := range found {
		if f.Unverified {
			fmt.Fprintln(a.stderr, "warning:", f)
		}
	}
}

func (a *app) clusterStatusCmd() *cobra.Command {
	var (
		asJSON bool
		urls   []string
	)
	c := &cobra.Command{
		Use:   "status",
		Short: "Tell how the shared log, its servers and its nodes are, and verify the settings",
		Long: `Tell what the NATS servers have of the shared log, which of them keep it, which node leads, and where each node is:
its last event, how many it lacks, and the newest event of which it told a checksum. Then verify all settings that the
log could be lost by. Exit code 1 says that one is unsafe, or that two nodes have different events.`,
		Example: `  killfeed cluster status --ledger nats://nats1
  killfeed cluster status --json | jq '.nodes[] | select(.lag > 1000).name'`,
		Args: cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	monitors(c.Flags(), &urls)
	return a.command(c, ledgerSettings, func(ctx context.Context, _ []string) error {
		return a.onLedger(ctx, func(nc *nats.Conn, o jetstream.Options) error { return a.clusterStatus(ctx, nc, o, urls, asJSON) })
	})
}

func (a *app) clusterStatus(ctx context.Context, nc *nats.Conn, o jetstream.Options, urls []string, asJSON bool) error {
	st, err := jetstream.Look(ctx, nc, o)
	if err != nil {
		return err
	}
	found, err := a.verify(ctx, nc, o, urls)
	if err != nil {
		return err
	}
	if asJSON {
		err = writeJSON(a.stdout, struct {
			jetstream.Status
			Findings []jetstream.Finding `json:"findings"`
		}{st, append([]jetstream.Finding{}, found...)})
	} else {
		err = a.showStatus(st)
		a.warn(found)
	}
	if err != nil {
		return err
	}
	faults := []error{jetstream.Refuse(found)}
	for _, n := range st.Nodes {
		if n.Live && len(n.Differs) > 0 {
			faults = append(faults, fmt.Errorf("node %s has other events up to %d than %s", n.Name, n.Mark, strings.Join(n.Differs, ", ")))
		}
	}
	return errors.Join(faults...)
}

func (a *app) showStatus(st jetstream.Status) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "log\t%s, epoch %s\n", st.Name, st.Epoch)
	fmt.Fprintf(w, "stream\t%s, %s\n", heldText(st.First, st.Head), megabytes(int64(st.Bytes)))
	fmt.Fprintf(w, "clients\t%d\n", st.Clients)
	leader := "none at the moment"
	if st.Leader != "" {
		leader = fmt.Sprintf("%s, term %d", st.Leader, st.Term)
	}
	fmt.Fprintf(w, "leader\t%s\n", leader)
	if len(st.Servers) == 0 {
		fmt.Fprintf(w, "servers\ta single one\n")
	}
	for i, s := range st.Servers {
		title := ""
		if i == 0 {
			title = "servers"
		}
		fmt.Fprintf(w, "%s\t%s\n", title, serverText(s))
	}
	if len(st.Nodes) == 0 {
		fmt.Fprintf(w, "nodes\tnone yet\n")
	}
	if err := w.Flush(); err != nil || len(st.Nodes) == 0 {
		return err
	}
	fmt.Fprintln(w, "\nNODE\tSTATE\tHEAD\tLAG\tCHECKSUM\tVERSION")
	for _, n := range st.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", n.Name, nodeText(n), n.Head, n.Lag, sumText(n), n.Version)
	}
	return w.Flush()
}

func serverText(s jetstream.ServerStatus) string {
	switch {
	case s.Offline:
		return s.Name + ": offline"
	case s.Leader:
		return s.Name + ": leads"
	case s.Current:
		return s.Name + ": current"
	}
	return fmt.Sprintf("%s: %d writes behind", s.Name, s.Lag)
}

func nodeText(n jetstream.NodeStatus) string {
	switch {
	case !n.Live:
		return "silent for " + formatDuration(n.Age.Round(time.Second))
	case !n.Complete:
		return "copying"
	}
	return "live"
}

func sumText(n jetstream.NodeStatus) string {
	switch {
	case n.Mark == 0:
		return "-"
	case len(n.Differs) > 0:
		return "DIFFERS at " + strconv.FormatUint(uint64(n.Mark), 10)
	}
	return fmt.Sprintf("%.8s at %d", n.Sum, n.Mark)
}
