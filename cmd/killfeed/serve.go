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
	"killfeed/supervise"
	"killfeed/tokens"
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

Reading is open to everybody who can reach the address, unless --read-tokens is given. Inserting, collecting, and listing and
deleting clients need the admin token, which is made at the first start in <data>/admin.token and read again on SIGHUP, or one
that 'killfeed token create' makes. The address answers at once: /livez with 200, all else
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
		"max-connections", "connect-rate", "read-tokens", "address-rate", "address-connections", "trusted-proxies", "tls-cert", "tls-key",
		"admin-listen", "socket-origins", "dialects", "redisq-ttl", "redisq-by-address", "drain-time", "cache", "log-level", "log-format",
		"r2z2-url", "esi-url", "redisq-url", "zkill-ws-url", "follow-url", "names", "images", "demo", "demo-rate",
		"ledger", "ledger-name", "node", "ledger-replicas", "ledger-creds", "ledger-ca", "ledger-cert", "ledger-key",
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
	cert, err := a.certificate()
	if err != nil {
		return err
	}
	if _, err := a.doors(); err != nil { // before anything is opened
		return err
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
	if cert != nil {
		cert.secure(server)
	}
	manager := newNotifier(a.env, log)
	stopped := context.AfterFunc(ctx, func() {
		manager.send("STOPPING=1")
		log.Info("stopping: no new requests, those in flight may end; a second signal stops at once", "cause", context.Cause(ctx))
	})
	defer stopped()
	services, running := errgroup.WithContext(ctx) // ends with the first signal, or the first service that fails
	services.Go(func() error { return a.serveHTTP(running, server, &gate, listener, log) })

	feed, node, err := a.openFeed(ctx, log)
	if err != nil {
		services.Go(func() error { return err }) // ends the others
		return services.Wait()
	}
	defer node.close()
	defer func() {
		if closing := feed.Close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("closing the log: %w", closing))
			return
		}
		log.Info("stopped; the log is closed", "head", uint64(feed.State().Head))
	}()
	if running.Err() == nil { // else it was stopped while the log was being opened
		services.Go(func() error {
			return a.runServices(running, &gate, feed, node, listener.Addr(), addrFile, cert, again, manager, log)
		})
	}
	return services.Wait()
}

// runServices lets requests through to the feed and runs what works in the background until ctx ends.
func (a *app) runServices(ctx context.Context, gate *web.Gate, feed *killfeed.Feed, node node, addr net.Addr, addrFile string,
	cert *certificate, again <-chan os.Signal, manager *notifier, log *slog.Logger) error {
	if err := a.checkDemo(ctx, feed); err != nil {
		return err
	}
	tree := supervise.New(log)
	tree.Add("collector", feed.Run)
	static, err := a.watchStaticData(feed, tree, log)
	if err != nil {
		return err
	}
	if a.settings.demo {
		tree.Add("demo", node.lead.only(func(ctx context.Context) error { return a.runDemo(ctx, feed) }))
	}
	sources := &sources{tree: tree}
	if !a.settings.demo {
		if sources, err = a.newSources(feed, node.lead, tree, log); err != nil {
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
	named, watch, err := a.loadTokens(log)
	if err != nil {
		return err
	}
	inside, err := a.listenAdmin()
	if err != nil {
		return err
	}
	if api, err = a.open(gate, feed, node, sources, hooks, named, addr, addrFile, log); err != nil {
		return err
	}
	manager.send("READY=1")
	if manager.every > 0 {
		tree.Add("watchdog", func(ctx context.Context) error { return manager.watchdog(ctx, feed) })
	}
	for _, h := range hooks.Hooks() {
		tree.Add("webhook "+h.Name(), node.lead.only(h.Run))
	}
	secrets := &secrets{app: a, api: api, static: static, cert: cert, tokens: watch, log: log}
	tree.Add("token", func(ctx context.Context) error { return secrets.follow(ctx, again) })
	if inside != nil {
		tree.Add("admin listener", func(ctx context.Context) error { return a.serveAdmin(ctx, inside, api, log) })
	}
	return tree.Run(ctx)
}

// open lets requests through to the feed and says so.
func (a *app) open(gate *web.Gate, feed *killfeed.Feed, node node, sources *sources, hooks *webhook.Set, named *tokens.Set,
	addr net.Addr, addrFile string, log *slog.Logger) (*web.API, error) {
	token, tokenFile, err := adminToken(a.settings.data, log)
	if err != nil {
		return nil, err
	}
	doors, err := a.doors()
	if err != nil {
		return nil, err
	}
	api, err := web.New(feed, web.Config{
		Tokens: named, ReadTokens: a.settings.readTokens, Doors: doors, AddressConnections: a.settings.addressConns,
		MaxConnections: a.settings.maxConns, ConnectRate: a.settings.connRate, Origins: a.settings.origins,
		AdminToken: token, Version: version(), Retention: a.retention(), Logger: log,
		Collectors: []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "killfeed_store_disk_bytes", Help: "Space that the store takes on its file system.",
		}, func() float64 { return float64(node.store.DiskBytes()) }), sources, nameMetrics{sources.names}, webhookMetrics{hooks}, node},
		Names:    sources.names,
		Complete: sources.complete(), Degraded: sources.degraded,
		Services: func() any { return sources.tree.Status() }, Sources: func() any { return sources.status() },
		Webhooks: webhookStatus(hooks), Cluster: node.status(),
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
	if err := mountBackup(api, node.store, log); err != nil {
		return nil, err
	}
	sources.tree.Add("connections", api.Run)
	gate.Open(api)
	if a.settings.logFormat == "json" { // whoever reads that wants nothing else
		log.Info("serving", "version", version(), "url", a.urlOf(addr), "data", a.settings.data, "token_file", tokenFile,
			"sources", a.sourcesText(a.urlOf(addr)))
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
	listener, err := inherited(a.env)
	if listener != nil || err != nil {
		return listener, err
	}
	listener, err = net.Listen("tcp", a.settings.listen)
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
		serve := server.Serve
		if server.TLSConfig != nil {
			serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
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

func (a *app) retention() killfeed.Retention {
	s := &a.settings
	return killfeed.Retention{
		Retain: time.Duration(s.retain), Max: time.Duration(s.retainMax), MaxBytes: int64(s.maxBytes), ClientTTL: time.Duration(s.clientTTL),
	}
}

// banner tells people where everything is. It goes to standard error beside the log.
func (a *app) banner(addr net.Addr, st killfeed.State, tokenFile string) {
	url, data := a.urlOf(addr), a.settings.data
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
		if a.settings.readTokens {
			reach = "everybody can reach it; reading and inserting need a token"
		}
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

// urlScheme is what the server's URLs begin with.
func (a *app) urlScheme() string {
	if a.settings.tlsCert != "" {
		return "https://"
	}
	return "http://"
}

// urlOf is an address as a URL that works on this machine.
func (a *app) urlOf(addr net.Addr) string {
	scheme := a.urlScheme()
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return scheme + net.JoinHostPort("127.0.0.1", port)
	}
	return scheme + addr.String()
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
	_ = a.level.UnmarshalText([]byte(a.settings.logLevel)) // one of the flag's choices
	opts := &slog.HandlerOptions{Level: &a.level}
	var h slog.Handler = slog.NewJSONHandler(a.stderr, opts)
	if a.settings.logFormat == "text" || a.settings.logFormat == "auto" && isTerminal(a.stderr) {
		h = slog.NewTextHandler(a.stderr, opts)
	}
	return slog.New(&remembering{Handler: h, warnings: &a.warnings})
}
