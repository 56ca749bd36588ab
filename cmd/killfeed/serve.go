package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"killfeed"
	"killfeed/ingest/demo"
	"killfeed/pebblestore"
	"killfeed/supervise"
	"killfeed/web"
	"killfeed/web/dashboard"
	"killfeed/webhook"
)

// stopTime is how long requests in flight may take to end when the server stops.
const stopTime = 10 * time.Second

func (a *app) serveCmd() *cobra.Command {
	var addrFile string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server: open the log in the data directory, or make one, and serve it over HTTP until SIGINT or SIGTERM.

Reading is open to everybody who can reach the address. Inserting, collecting, and listing and deleting clients need the
admin token, which is made at the first start in <data>/admin.token and read again on SIGHUP. The address answers at once: /livez with 200, all else
with 503 until the log is open.

Regions, constellations, kinds of space, groups and names need static data: 'killfeed sde update', once and after the
game's updates, also while the server runs.

Every minute the server removes events that every client has read and that are older than --retain; events older than
--retain-max or beyond --max-bytes whoever has not read them. A client unseen for --client-ttl holds nothing back. Zero
switches a limit off.`,
		Example: `  killfeed serve
  killfeed serve --listen :4004 --data /var/lib/killfeed --retain-max 90d --max-bytes 20GiB
  KILLFEED_LOG_LEVEL=debug killfeed serve --memory`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&addrFile, "addr-file", "", "when serving, write the bound address to this `file`; for scripts with --listen 127.0.0.1:0")
	return a.command(c, []string{
		"contact", "listen", "data", "memory", "retain", "retain-max", "max-bytes", "client-ttl", "max-clients",
		"max-connections", "connect-rate", "socket-origins", "dialects", "redisq-ttl", "redisq-by-address", "drain-time", "cache", "log-level", "log-format",
		"r2z2-url", "esi-url", "redisq-url", "zkill-ws-url", "follow-url", "names", "images", "demo", "demo-rate",
	}, func(ctx context.Context, _ []string) error { return a.serve(ctx, addrFile) })
}

// serve starts with the address, so that it answers while the log is being opened: then the store, the feed on it, the API on
// the feed. It stops from the other end: the requests and the collector first, then the feed, which closes the store.
func (a *app) serve(ctx context.Context, addrFile string) (err error) {
	if a.settings.maxClients < 1 {
		return usagef("max-clients %d is not accepted: want a number from 1 on", a.settings.maxClients)
	}
	if a.settings.demo {
		switch {
		case a.settings.demoRate <= 0 || a.settings.demoRate > demo.MaxRate:
			return usagef("demo-rate %v is not accepted: want a number above 0, at most %d", a.settings.demoRate, demo.MaxRate)
		case a.settings.contact != "":
			return usagef("demo and contact do not go together: %w", errMixed)
		case a.origin["data"] == "default":
			a.settings.data = "killfeed-demo"
		}
	}
	log := a.logger()
	again, stop := hangups() // from the beginning: one that comes early must not end the process
	defer stop()
	listener, err := a.listen()
	if err != nil {
		return err
	}
	var gate web.Gate
	server := web.NewServer(&gate, log)
	stopped := context.AfterFunc(ctx, func() {
		log.Info("stopping: no new requests, those in flight may end; a second signal stops at once", "cause", context.Cause(ctx))
	})
	defer stopped()
	services, running := errgroup.WithContext(ctx) // ends with the first signal, or the first service that fails
	services.Go(func() error { return a.serveHTTP(running, server, &gate, listener, log) })

	feed, store, err := a.openFeed(log)
	if err != nil {
		services.Go(func() error { return err }) // ends the others
		return services.Wait()
	}
	defer func() {
		if closing := feed.Close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("closing the log: %w", closing))
			return
		}
		log.Info("stopped; the log is closed", "head", uint64(feed.State().Head))
	}()
	if running.Err() == nil { // else it was stopped while the log was being opened
		services.Go(func() error { return a.runServices(running, &gate, feed, store, listener.Addr(), addrFile, again, log) })
	}
	return services.Wait()
}

// runServices lets requests through to the feed and runs what works in the background until ctx ends.
func (a *app) runServices(ctx context.Context, gate *web.Gate, feed *killfeed.Feed, store *pebblestore.Store, addr net.Addr, addrFile string,
	again <-chan os.Signal, log *slog.Logger) error {
	if err := a.checkDemo(feed); err != nil {
		return err
	}
	tree := supervise.New(log)
	tree.Add("collector", feed.Run)
	static, err := a.watchStaticData(feed, tree, log)
	if err != nil {
		return err
	}
	if a.settings.demo {
		tree.Add("demo", func(ctx context.Context) error { return a.runDemo(ctx, feed) })
	}
	sources := &sources{tree: tree}
	if !a.settings.demo {
		if sources, err = a.newSources(feed, tree, log); err != nil {
			return err
		}
	}
	defer sources.stop()
	if sources.names, err = a.newNames(feed, sources.bodies, tree, log); err != nil {
		return err
	}
	defer func() {
		if err := sources.names.Close(); err != nil {
			log.Warn("some names may be asked for again", "err", err)
		}
	}()
	var api *web.API
	hooks, err := a.newWebhooks(feed, sources.names, func(dst []byte, e *killfeed.Event, names bool) []byte {
		return api.AppendLive(dst, e, names) // there is an API before a webhook runs
	}, log)
	if err != nil {
		return err
	}
	defer hooks.Close()
	if api, err = a.open(gate, feed, store, sources, hooks, addr, addrFile, log); err != nil {
		return err
	}
	for _, h := range hooks.Hooks() {
		tree.Add("webhook "+h.Name(), h.Run)
	}
	tree.Add("token", func(ctx context.Context) error { return a.followHangups(ctx, again, api, static, log) })
	return tree.Run(ctx)
}

// open lets requests through to the feed and says so.
func (a *app) open(gate *web.Gate, feed *killfeed.Feed, store *pebblestore.Store, sources *sources, hooks *webhook.Set, addr net.Addr,
	addrFile string, log *slog.Logger) (*web.API, error) {
	token, tokenFile, err := adminToken(a.settings.data, log)
	if err != nil {
		return nil, err
	}
	api, err := web.New(feed, web.Config{
		MaxConnections: a.settings.maxConns, ConnectRate: a.settings.connRate, Origins: a.settings.origins,
		AdminToken: token, Version: version(), Retention: a.retention(), Logger: log,
		Collectors: []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "killfeed_store_disk_bytes", Help: "Space that the store takes on its file system.",
		}, func() float64 { return float64(store.DiskBytes()) }), sources, nameMetrics{sources.names}, webhookMetrics{hooks}},
		Names:    sources.names,
		Complete: sources.complete(), Degraded: sources.degraded,
		Services: func() any { return sources.tree.Status() }, Sources: func() any { return sources.status() },
		Webhooks:    webhookStatus(hooks),
		PauseSource: sources.pause, Warnings: func() any { return a.warnings.list() },
	})
	if err != nil {
		return nil, err
	}
	if err := dashboard.Mount(api, dashboard.Options{Images: a.settings.images}); err != nil {
		return nil, err
	}
	if err := a.mountDialects(api, feed, sources.tree, log); err != nil {
		return nil, err
	}
	if err := mountWebhooks(api, hooks); err != nil {
		return nil, err
	}
	sources.tree.Add("connections", api.Run)
	gate.Open(api)
	if a.settings.logFormat == "json" { // whoever reads that wants nothing else
		log.Info("serving", "version", version(), "url", urlOf(addr), "data", a.settings.data, "token_file", tokenFile,
			"sources", a.sourcesText(urlOf(addr)))
	} else {
		a.banner(addr, feed.State(), tokenFile)
	}
	if addrFile != "" {
		return api, writeAddr(addrFile, addr)
	}
	return api, nil
}

// listen opens the address. A port that is taken is by far the commonest reason for a server not to start.
func (a *app) listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", a.settings.listen)
	switch {
	case err == nil:
		return listener, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, hint(fmt.Errorf("cannot listen on %s: the address is in use", a.settings.listen),
			"another killfeed may be running already; stop it, or choose another port with --listen 127.0.0.1:4005")
	case errors.Is(err, syscall.EACCES):
		return nil, hint(fmt.Errorf("cannot listen on %s: %w", a.settings.listen, err), "choose a port above 1023 with --listen")
	}
	return nil, hint(fmt.Errorf("cannot listen on %s: %w", a.settings.listen, err),
		"--listen wants host:port of this machine, as in 127.0.0.1:4004 or :4004")
}

// serveHTTP serves until ctx ends. Then streams and sockets are ended one after another, while everything else is still
// answered, and after that requests in flight may end: long polls are answered at once.
func (a *app) serveHTTP(ctx context.Context, server *http.Server, gate *web.Gate, listener net.Listener, log *slog.Logger) error {
	var group errgroup.Group
	served := make(chan struct{})
	group.Go(func() error {
		defer close(served)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
		}
		return nil
	})
	select {
	case <-served:
	case <-ctx.Done():
		drain := time.Duration(a.settings.drainTime)
		draining, cancel := context.WithTimeout(context.Background(), drain+stopTime)
		defer cancel()
		if left := gate.Drain(draining, drain); left > 0 {
			log.Warn("connections were cut off because they did not end in time", "connections", left)
		}
		limit, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		if err := server.Shutdown(limit); err != nil {
			log.Warn("requests were cut off because they did not end in time", "limit", stopTime)
			server.Close()
		}
	}
	return group.Wait()
}

// openFeed opens the log.
func (a *app) openFeed(log *slog.Logger) (*killfeed.Feed, *pebblestore.Store, error) {
	s := &a.settings
	if s.memory { // there is no store there, but the token is
		if err := os.MkdirAll(s.data, 0o750); err != nil {
			return nil, nil, fmt.Errorf("making the data directory: %w", err)
		}
	}
	store, err := pebblestore.Open(s.data, pebblestore.Options{Memory: s.memory, Cache: int64(s.cache), Logger: log})
	if err != nil {
		return nil, nil, lockedHint(err, "another killfeed runs on this directory; stop it, or choose another directory with --data")
	}
	feed, err := killfeed.Open(store, killfeed.Options{Retention: a.retention(), MaxClients: s.maxClients, Logger: log})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return feed, store, nil
}

func (a *app) retention() killfeed.Retention {
	s := &a.settings
	return killfeed.Retention{
		Retain: time.Duration(s.retain), Max: time.Duration(s.retainMax), MaxBytes: int64(s.maxBytes), ClientTTL: time.Duration(s.clientTTL),
	}
}

// banner tells people where everything is. It goes to standard error beside the log.
func (a *app) banner(addr net.Addr, st killfeed.State, tokenFile string) {
	url, data := urlOf(addr), a.settings.data
	if full, err := filepath.Abs(data); err == nil {
		data = full
	}
	held := "no events yet"
	if st.Head >= st.First {
		held = fmt.Sprintf("events %d to %d", st.First, st.Head)
	} else if st.Head > 0 {
		held = fmt.Sprintf("no events kept, the last was %d", st.Head)
	}
	if a.settings.memory {
		data += " (only the token: --memory keeps the log in memory and loses it at the end)"
	}
	reach := "only this machine can reach it"
	if tcp, ok := addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		reach = "everybody who can reach it may read; inserting needs the token"
	}
	fmt.Fprintf(a.stderr, `killfeed %s is serving
  url        %s  (%s)
  status     %s/api/status  %s/metrics  %s/api/openapi.json
  data       %s
  log        %s
  token      %s
  retention  %s
  sources    %s
  try        curl '%s/api/killfeed?client_id=me&topics=all&limit=1'
`, version(), url, reach, url, url, url, data, held, tokenFile, retentionText(a.retention()), a.sourcesText(url), url)
}

// sourcesText says in words where killmails come from.
func (a *app) sourcesText(url string) string {
	switch {
	case a.settings.demo:
		return "a demo: the pilots are invented"
	case a.settings.contact != "":
		return "see " + url + "/api/status"
	}
	return "none: " + noContact
}

// retentionText says in words what is kept.
func retentionText(r killfeed.Retention) string {
	parts := []string{"what every client has read goes at once"}
	if r.Retain > 0 {
		parts[0] = "what every client has read goes after " + formatDuration(r.Retain)
	}
	if r.Max > 0 {
		parts = append(parts, "everything after "+formatDuration(r.Max))
	}
	if r.MaxBytes > 0 {
		parts = append(parts, "the oldest beyond "+formatSize(r.MaxBytes))
	}
	if r.Max == 0 && r.MaxBytes == 0 {
		parts = append(parts, "what one has not read stays for ever")
	}
	if r.ClientTTL > 0 {
		parts = append(parts, "clients unseen for "+formatDuration(r.ClientTTL)+" hold nothing back")
	}
	return strings.Join(parts, "; ")
}

// urlOf is an address as a URL that works on this machine.
func urlOf(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return "http://" + net.JoinHostPort("127.0.0.1", port)
	}
	return "http://" + addr.String()
}

// writeAddr writes the file whole or not at all: scripts wait for it to appear.
func writeAddr(path string, addr net.Addr) error {
	temp := path + ".new"
	err := os.WriteFile(temp, []byte(addr.String()+"\n"), 0o666)
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return fmt.Errorf("writing the address file: %w", err)
	}
	return nil
}

// logger logs to standard error: text for people, JSON for machines.
func (a *app) logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(a.settings.logLevel)) // one of the flag's choices
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewJSONHandler(a.stderr, opts)
	if a.settings.logFormat == "text" || a.settings.logFormat == "auto" && isTerminal(a.stderr) {
		h = slog.NewTextHandler(a.stderr, opts)
	}
	return slog.New(&remembering{Handler: h, warnings: &a.warnings})
}
