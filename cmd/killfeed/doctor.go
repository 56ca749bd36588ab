package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"killfeed"
	"killfeed/ingest"
	"killfeed/jetstream"
	"killfeed/pebblestore"
	"killfeed/sde"
	"killfeed/tokens"
)

const (
	levelOK   = "ok"
	levelWarn = "warn"
	levelFail = "fail"
)

// finding is what doctor says of one thing.
type finding struct {
	Level string `json:"level"`
	Check string `json:"check"`
	Text  string `json:"text"`
	// Do says what to do about it; empty when nothing is to be done.
	Do string `json:"do,omitempty"`
}

// doctor collects findings; it is for one goroutine.
type doctor struct {
	app   *app
	found []finding
	tell  func(finding)
}

func (d *doctor) say(level, check, do, format string, args ...any) {
	f := finding{level, check, fmt.Sprintf(format, args...), do}
	d.found = append(d.found, f)
	d.tell(f)
}

func (d *doctor) ok(check, format string, args ...any) { d.say(levelOK, check, "", format, args...) }

func (a *app) doctorCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong with a configuration, a data directory and a server",
		Long: `Look at the configuration, the data directory, the files of tokens, the static data, the server and what is between it and
here, and the servers of a ledger, and say of each thing whether it is well, and what to do if it is not. It changes nothing, but
for a file in the data directory that it makes and removes to see whether it can.

Each line begins with ok, warn or fail. Exit code 1 means that one begins with fail.`,
		Example: `  killfeed doctor
  killfeed doctor --data /var/lib/killfeed --server https://feed.example.com`,
		Args: cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, `print one JSON object, {"findings":[{"level":…,"check":…,"text":…,"do":…}]}`)
	return a.command(c, append(append([]string{"memory", "cache"}, clientSettings...), ledgerSettings...), func(ctx context.Context, _ []string) error {
		return a.doctor(ctx, asJSON)
	})
}

func (a *app) doctor(ctx context.Context, asJSON bool) error {
	d := &doctor{app: a, tell: func(f finding) {
		fmt.Fprintf(a.stdout, "%-5s%s: %s\n", f.Level, f.Check, f.Text)
		if f.Do != "" {
			fmt.Fprintf(a.stdout, "     -> %s\n", f.Do)
		}
	}}
	if asJSON {
		d.tell = func(finding) {}
	}
	d.configuration()
	running := d.directory()
	d.tokens()
	d.staticData()
	d.server(ctx, running)
	if len(a.settings.ledger) > 0 {
		d.ledger(ctx)
	}
	if ctx.Err() != nil {
		return errInterrupted
	}
	failed := 0
	for _, f := range d.found {
		if f.Level == levelFail {
			failed++
		}
	}
	if asJSON {
		if err := writeJSON(a.stdout, map[string]any{"findings": d.found}); err != nil {
			return err
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(d.found))
	}
	return nil
}

// configuration: what cannot be read has ended the command already.
func (d *doctor) configuration() {
	files, vars := map[string]bool{}, 0
	for _, from := range d.app.origin {
		if file, ok := strings.CutPrefix(from, "file:"); ok {
			files[file] = true
		} else if strings.HasPrefix(from, "env ") {
			vars++
		}
	}
	from := "no file"
	for file := range files {
		from = "the file " + file
	}
	d.ok("configuration", "read from %s and %d variables; 'killfeed config' shows it", from, vars)
}

const (
	freeWarn = 1 << 30
	freeFail = 32 << 20 // what the store refuses inserts below
)

// directory looks at the data directory, and tells whether some process has it open.
func (d *doctor) directory() (running bool) {
	const check = "data directory"
	dir := d.app.settings.data
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.say(levelWarn, check, "name another one with --data, or let 'killfeed serve' make it", "%s is not there", dir)
		return false
	case err != nil:
		d.say(levelFail, check, "see that this user may look into it", "%v", err)
		return false
	case !info.IsDir():
		d.say(levelFail, check, "name a directory with --data", "%s is no directory", dir)
		return false
	}
	if f, err := os.CreateTemp(dir, ".doctor-*"); err != nil {
		d.say(levelFail, check, "make it writable for the user that runs the server, and run this as that user", "%v", err)
	} else {
		f.Close()
		os.Remove(f.Name())
		d.ok(check, "%s can be written to", dir)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		d.say(levelFail, check, "chmod 750 "+dir, "others may write to %s (mode %04o)", dir, info.Mode().Perm())
	}
	if free, err := pebblestore.Free(dir); err == nil {
		switch {
		case free < freeFail:
			d.say(levelFail, "disk", "free some: the server refuses inserts until there are 32 MiB", "%d MiB are free", free>>20)
		case free < freeWarn:
			d.say(levelWarn, "disk", "free some, or bound the log with --max-bytes", "%d MiB are free", free>>20)
		default:
			d.ok("disk", "%.1f GiB are free", float64(free)/(1<<30))
		}
	}
	return d.log(dir)
}

// log opens the log read-only, unless somebody has it open.
func (d *doctor) log(dir string) (running bool) {
	const check = "log"
	if err := holdsLog(dir); err != nil {
		if !d.app.settings.memory {
			d.say(levelWarn, check, "name the data directory with --data, if this is not the one", "%s holds no log yet", dir)
		}
		return false
	}
	quiet := slog.New(slog.DiscardHandler)
	store, err := pebblestore.Open(dir, pebblestore.Options{ReadOnly: true, Cache: int64(d.app.settings.cache), Logger: quiet})
	switch {
	case errors.Is(err, killfeed.ErrLocked):
		d.ok(check, "a process has it open")
		return true
	case err != nil:
		d.say(levelFail, check, "restore the newest backup into an empty directory ('killfeed restore'), or see docs/operate.md, Damage", "%v", err)
		return false
	}
	defer store.Close()
	st := store.State()
	if damaged := len(store.Damaged()); damaged > 0 {
		d.say(levelFail, check, "'killfeed check' lists everything that is wrong", "%d events are damaged", damaged)
		return false
	}
	d.ok(check, "no process has it open; events %d to %d, epoch %s; 'killfeed check' verifies every record", st.First, st.Head, st.Epoch)
	return false
}

// tokens looks at the files that let callers in.
func (d *doctor) tokens() {
	for _, name := range []string{tokenFileName, tokens.FileName} {
		path := filepath.Join(d.app.settings.data, name)
		info, err := os.Stat(path)
		if err != nil {
			continue // made at the first start, or when there is a token
		}
		if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			d.say(levelFail, name, "chmod 600 "+path+"; and make a new token, if strangers are on this machine", "others may use %s (mode %04o)", path, info.Mode().Perm())
			continue
		}
		d.ok(name, "only its owner may read it")
	}
}

// staticOld is the age from which static data is likely to lack systems, ships or groups.
const staticOld = 60 * day

func (d *doctor) staticData() {
	const check = "static data"
	_, info, err := sde.Load(d.app.settings.data)
	switch {
	case errors.Is(err, sde.ErrNone):
		d.say(levelWarn, check, "'killfeed sde update' gets it", "there is none: no names, regions, constellations and groups")
	case err != nil:
		d.say(levelFail, check, "'killfeed sde update' gets it anew", "%v", err)
	case info.Released != nil && time.Since(*info.Released) > staticOld:
		d.say(levelWarn, check, "'killfeed sde update' gets the newest, also while the server runs", "build %d is of %s", info.Build,
			info.Released.Format(time.DateOnly))
	default:
		d.ok(check, "build %d", info.Build)
	}
}

// server looks at the server. running tells that some process has the data directory open.
func (d *doctor) server(ctx context.Context, running bool) {
	const check = "server"
	server, err := d.app.newClient()
	if err != nil {
		d.say(levelFail, check, "", "%v", err)
		return
	}
	sent := time.Now()
	res, err := server.do(ctx, call{method: http.MethodGet, path: []string{"readyz"}})
	if errors.Is(err, errUnreachable) {
		level := levelWarn // none need be running here
		if running || d.app.origin["server"] != "default" {
			level = levelFail
		}
		d.say(level, check, "start it with 'killfeed serve', or name another with --server", "%v", err)
		return
	}
	if err != nil {
		d.say(levelFail, check, "the server's log says more", "/readyz: %v", err)
		return
	}
	d.clock(res.Header.Get("Date"), sent, time.Now())
	res.Body.Close()
	var status topStatus
	if err := server.json(ctx, call{method: http.MethodGet, path: []string{"api", "status"}}, &status); err != nil {
		d.say(levelFail, check, "name the file of a token that may read with --token-file", "/api/status: %v", err)
		return
	}
	if status.Health.Status == "ready" {
		d.ok(check, "%s is ready, version %s, events %d to %d", server.base, status.Version, status.Log.First, status.Log.Head)
	} else {
		d.say(levelWarn, check, "", "%s is %s: %s", server.base, status.Health.Status, status.Health.Reason)
	}
	d.work(&status)
	d.metrics(ctx, server)
	d.stream(ctx, server)
}

// skewMost is how far the clocks may be apart: receipt times and max_age are the server's.
const skewMost = 5 * time.Second

func (d *doctor) clock(date string, from, to time.Time) {
	at, err := http.ParseTime(date)
	if err != nil {
		return // a proxy may leave it out
	}
	// The header has whole seconds.
	if behind, ahead := from.Sub(at.Add(time.Second)), at.Sub(to); behind > skewMost || ahead > skewMost {
		d.say(levelWarn, "clock", "have both machines keep time (chrony, systemd-timesyncd)", "the server's clock says %s, this one %s",
			at.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
		return
	}
	d.ok("clock", "the server's and this one agree to %s", skewMost)
}

const lagMost = 10 * time.Minute

// work looks at sources and services.
func (d *doctor) work(status *topStatus) {
	if len(status.Sources) == 0 {
		d.say(levelWarn, "sources", "give --contact (a mail address or URL of yours) to follow zKillboard, or post killmails",
			"the server follows none")
	}
	for _, s := range status.Sources {
		switch check := "source " + s.Name; {
		case s.State == string(ingest.Paused):
			d.say(levelWarn, check, "resume it on /ops", "it is paused")
		case s.Lag > lagMost.Seconds() || s.Behind > 1000:
			d.say(levelWarn, check, "wait if it catches up; else look for its warnings in the server's log", "%s, %.0f s and %d killmails behind",
				s.State, s.Lag, s.Behind)
		case s.State == string(ingest.Stopped):
			d.say(levelWarn, check, "give --contact (a mail address or URL of yours) to follow zKillboard, if nothing else brings killmails",
				"it is stopped: %s", s.Detail)
		case s.State == string(ingest.Waiting):
			d.say(levelWarn, check, "see that the server reaches it; its log says what it answers", "%s: %s", s.State, s.Detail)
		default:
			d.ok(check, "%s, %d killmails inserted", s.State, s.Inserted)
		}
	}
	for _, s := range status.Services {
		if s.Restarts > 0 {
			d.say(levelWarn, "service "+s.Name, "the server's log says why", "it was started again %d times; last: %s", s.Restarts, s.LastError)
		}
	}
}

// metrics looks at what only the metrics have.
func (d *doctor) metrics(ctx context.Context, server *client) {
	res, err := server.do(ctx, call{method: http.MethodGet, path: []string{"metrics"}})
	if err != nil {
		d.say(levelWarn, "metrics", "let this machine read /metrics", "%v", err)
		return
	}
	defer res.Body.Close()
	value := map[string]float64{}
	lines := bufio.NewScanner(io.LimitReader(res.Body, 16<<20))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			value[name] = v
		}
	}
	if n := value["killfeed_damaged_reads_total"]; n > 0 {
		d.say(levelFail, "damage", "stop the server and run 'killfeed check'; then restore the newest backup, or live with the gaps",
			"%.0f reads found a damaged record since the server started", n)
	} else {
		d.ok("damage", "no read found a damaged record since the server started")
	}
	open, most := value["process_open_fds"], value["process_max_fds"]
	switch {
	case most == 0: // only some systems tell
	case open > 0.8*most:
		d.say(levelFail, "open files", "raise LimitNOFILE of the service (ulimit -n)", "%.0f of %.0f are in use", open, most)
	case most < 8192:
		d.say(levelWarn, "open files", "raise LimitNOFILE of the service (ulimit -n): each connection takes one, and the store some 1000",
			"the server may have only %.0f", most)
	default:
		d.ok("open files", "%.0f of %.0f are in use", open, most)
	}
}

// firstByte is how long the first bytes of a stream may take. The server sends them at once.
const firstByte = 5 * time.Second

// stream opens a stream and sees whether what the server sends at once arrives: a proxy that buffers keeps it.
func (d *doctor) stream(ctx context.Context, server *client) {
	const check = "stream"
	ctx, cancel := context.WithTimeout(ctx, firstByte)
	defer cancel()
	begun := time.Now()
	res, err := server.do(ctx, call{
		method: http.MethodGet, path: []string{"api", "killfeed", "stream"}, query: url.Values{"topics": {"all"}},
		header: http.Header{"Accept": {"text/event-stream"}},
	})
	var first string
	if err == nil {
		defer res.Body.Close()
		first, err = bufio.NewReader(io.LimitReader(res.Body, 64<<10)).ReadString('\n')
	}
	switch {
	case ctx.Err() != nil:
		d.say(levelFail, check, "switch buffering off in the proxy for it (nginx: proxy_buffering off); see docs/api.md, Proxies",
			"nothing came within %s, though the server writes at once", firstByte)
	case err != nil:
		d.say(levelFail, check, "see docs/api.md, Proxies", "%v", err)
	case res.Header.Get("Content-Type") == "" || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream"):
		d.say(levelFail, check, "see that --server is the killfeed's own URL", "the answer is %q, %.40q", res.Header.Get("Content-Type"), first)
	default:
		d.ok(check, "it begins after %s", time.Since(begun).Round(time.Millisecond))
	}
}

// ledgerPatience bounds how long the servers of the ledger may take to answer.
const ledgerPatience = 10 * time.Second

func (d *doctor) ledger(ctx context.Context) {
	const check = "ledger"
	config, o, err := d.app.ledgerOptions(slog.New(slog.DiscardHandler))
	if err != nil {
		d.say(levelFail, check, "", "%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerPatience)
	defer cancel()
	nc, err := jetstream.Connect(ctx, config)
	if err != nil {
		d.say(levelFail, check, "see that the servers run and can be reached from here; --ledger names them", "%v", err)
		return
	}
	defer nc.Close()
	found, err := jetstream.Verify(ctx, nc, o)
	if err != nil {
		d.say(levelFail, check, "'killfeed cluster init' makes the log there; see docs/cluster.md", "%v", err)
		return
	}
	for _, f := range found {
		level := levelFail
		if f.Unverified {
			level = levelWarn
		}
		d.say(level, check, f.Fix, "%s: %s is %s, want %s: %s", f.Where, f.Setting, f.Is, f.Want, f.Why)
	}
	if len(found) == 0 {
		d.ok(check, "its servers are set as they must be")
	}
}
