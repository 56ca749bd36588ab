package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/web"
)

func (a *app) backupCmd() *cobra.Command {
	var (
		to     string
		asJSON bool
	)
	c := &cobra.Command{
		Use:   "backup --to FILE|DIR",
		Short: "Copy a log, also while a server runs on it",
		Long: `Copy the whole log, with its clients' offsets and the places of its sources, as it is at one moment, into one file:
from a server, which goes on meanwhile (it needs the admin token), or from a data directory that no server has open, which --data
names. What was written is read again as it comes and verified; only a whole copy gets its name. In a directory, the file is called
killfeed-<time>-<head>.tar.zst. "-" is standard output.

Tokens, names, static data and the configuration are not in it: copy admin.token, tokens.json and killfeed.toml with it when you
want them back. 'killfeed restore' makes a data directory of it.`,
		Example: `  killfeed backup --to /backups/
  killfeed backup --server https://feed.example.com --token-file admin.token --to feed.tar.zst
  killfeed backup --data /var/lib/killfeed --to feed.tar.zst     (no server runs there)`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&to, "to", "", "`file` to write, or a directory for it")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object of what the backup has")
	return a.command(c, append([]string{"cache"}, clientSettings...), func(ctx context.Context, _ []string) error {
		if to == "" {
			return usageError{hint(errors.New("no place for the backup"), "name a file or a directory with --to")}
		}
		if to == "-" && asJSON {
			return usagef("--json and --to - do not go together: both write to standard output")
		}
		return a.backup(ctx, to, asJSON)
	})
}

// backup copies from the data directory when that was named on the command line and no server was; else from the server.
func (a *app) backup(ctx context.Context, to string, asJSON bool) error {
	copyTo := a.backupOfServer
	if a.origin["data"] == "flag" && a.origin["server"] != "flag" {
		copyTo = a.backupOfDirectory
	}
	out, err := newBackupFile(to, a.stdout)
	if err != nil {
		return err
	}
	begun := time.Now()
	made, err := copyTo(ctx, out, a.eventsBar("copying events"))
	if err != nil {
		out.discard()
		if ctx.Err() != nil {
			return errInterrupted
		}
		return err
	}
	path, err := out.keep(made)
	if err != nil {
		return err
	}
	if made.Damaged > 0 {
		fmt.Fprintf(a.stderr, "warning: %d records were damaged already and are in the backup as they are; 'killfeed check' lists them\n", made.Damaged)
	}
	if asJSON {
		return writeJSON(a.stdout, backupSummary(made, path, ""))
	}
	summary := fmt.Sprintf("copied %s to %s in %s\n", backupText(made), path, time.Since(begun).Round(time.Millisecond))
	if to == "-" {
		_, err = io.WriteString(a.stderr, summary)
	} else {
		_, err = io.WriteString(a.stdout, summary)
	}
	return err
}

func backupText(b pebblestore.Backup) string {
	kept := "no events"
	if b.Events() > 0 {
		kept = fmt.Sprintf("%d events (%d to %d)", b.Events(), b.First, b.Head)
	}
	return fmt.Sprintf("%s, %d records in all, of epoch %s", kept, b.Records, b.Epoch)
}

func backupSummary(b pebblestore.Backup, path string, epoch killfeed.Epoch) any {
	return struct {
		pebblestore.Backup
		Events uint64         `json:"events"`
		File   string         `json:"file,omitempty"`
		New    killfeed.Epoch `json:"new_epoch,omitempty"`
	}{b, b.Events(), path, epoch}
}

// eventsBar shows how many events are done, on a terminal; elsewhere it is nil.
func (a *app) eventsBar(what string) func(done, total uint64) {
	if !isTerminal(a.stderr) {
		return nil
	}
	var bar *progressbar.ProgressBar
	return func(done, total uint64) {
		if bar == nil {
			bar = progressbar.NewOptions64(int64(total), progressbar.OptionSetWriter(a.stderr), progressbar.OptionClearOnFinish(),
				progressbar.OptionSetDescription(what), progressbar.OptionThrottle(barEvery))
		}
		_ = bar.Set64(int64(done))
	}
}

func (a *app) backupOfDirectory(ctx context.Context, w io.Writer, progress func(done, total uint64)) (made pebblestore.Backup, err error) {
	dir := a.settings.data
	if err := holdsLog(dir); err != nil {
		return made, hint(err, "name the data directory with --data")
	}
	log := slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store, err := pebblestore.Open(dir, pebblestore.Options{ReadOnly: true, Cache: int64(a.settings.cache), Logger: log})
	if err != nil {
		return made, lockedHint(err, "a running server holds it: copy from that, with --server "+a.settings.server)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return verified(w, func(w io.Writer) error {
		_, err := store.Backup(ctx, w, version(), nil, nil)
		return err
	}, func(r io.Reader) (pebblestore.Backup, error) { return pebblestore.ReadBackup(ctx, r, progress) })
}

func (a *app) backupOfServer(ctx context.Context, w io.Writer, progress func(done, total uint64)) (made pebblestore.Backup, err error) {
	server, err := a.newClient()
	if err != nil {
		return made, err
	}
	res, err := server.do(ctx, call{method: http.MethodGet, path: []string{"api", "backup"}})
	if err != nil {
		return made, err
	}
	defer res.Body.Close()
	return verified(w, func(w io.Writer) error {
		if _, err := io.Copy(w, res.Body); err != nil {
			return hint(fmt.Errorf("the backup of %s broke off: %w", server.base, err), "the server's log says why; repeat the command")
		}
		return nil
	}, func(r io.Reader) (pebblestore.Backup, error) { return pebblestore.ReadBackup(ctx, r, progress) })
}

// verified has a backup written to w and read at the same time.
func verified(w io.Writer, write func(io.Writer) error, read func(io.Reader) (pebblestore.Backup, error)) (pebblestore.Backup, error) {
	r, pipe := io.Pipe()
	written := make(chan error, 1)
	go func() { // ends with what it writes: the reader's end ends that
		err := write(io.MultiWriter(w, pipe))
		pipe.CloseWithError(err) // nil is the end of the file
		written <- err
	}()
	made, err := read(r)
	r.CloseWithError(err) // what was read to its end needs nothing more; else the writer shall not wait
	if wrote := <-written; wrote != nil && (err == nil || !errors.Is(wrote, err)) {
		return made, wrote // and what was read has its end missing because of that
	}
	return made, err
}

// backupFile is a file that gets its name once all of it is there.
type backupFile struct {
	io.Writer
	file *os.File // nil: standard output
	to   string
}

func newBackupFile(to string, stdout io.Writer) (*backupFile, error) {
	if to == "-" {
		return &backupFile{Writer: stdout, to: to}, nil
	}
	dir := filepath.Dir(to)
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		dir = to
	} else if err == nil {
		return nil, hint(fmt.Errorf("writing the backup: %s is there already", to), "name another file, or a directory")
	}
	f, err := os.CreateTemp(dir, ".killfeed-backup-*") // mode 0600: names of clients are nobody else's business
	if err != nil {
		return nil, fmt.Errorf("writing the backup: %w", err)
	}
	return &backupFile{Writer: f, file: f, to: to}, nil
}

func (b *backupFile) discard() {
	if b.file != nil {
		b.file.Close()
		os.Remove(b.file.Name())
	}
}

// keep makes the file durable and gives it its name. Another one is never written over.
func (b *backupFile) keep(made pebblestore.Backup) (path string, err error) {
	if b.file == nil {
		return "standard output", nil
	}
	defer func() {
		if err != nil {
			os.Remove(b.file.Name())
			err = fmt.Errorf("writing the backup: %w", err)
		}
	}()
	if err := errors.Join(b.file.Sync(), b.file.Close()); err != nil {
		return "", err
	}
	path = b.to
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, backupName(made))
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is there already", path)
	}
	return path, os.Rename(b.file.Name(), path)
}

func backupName(b pebblestore.Backup) string {
	return fmt.Sprintf("killfeed-%s-%d.tar.zst", b.Made.Format("20060102T150405Z"), b.Head)
}

// mountBackup serves GET /api/backup: a backup of the store, one at a time.
func mountBackup(api *web.API, store *pebblestore.Store, log *slog.Logger) error {
	one := make(chan struct{}, 1)
	return api.Mount(web.Route{Method: "GET", Path: "/api/backup", Admin: true, Plainly: true, Serve: func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", "application/zstd")
			w.WriteHeader(http.StatusOK)
			return
		}
		select {
		case one <- struct{}{}:
			defer func() { <-one }()
		default:
			w.Header().Set("Retry-After", "30")
			answerProblem(w, http.StatusServiceUnavailable, "another backup is being made; try again when it is done")
			return
		}
		begun, started := time.Now(), false
		out := &patientWriter{to: w, control: http.NewResponseController(w)}
		made, err := store.Backup(r.Context(), out, version(), func(b pebblestore.Backup) {
			h := w.Header()
			h.Set("Content-Type", "application/zstd")
			h.Set("Content-Disposition", `attachment; filename="`+backupName(b)+`"`)
			started = true
			w.WriteHeader(http.StatusOK)
		}, nil)
		switch {
		case err == nil:
			log.Info("a backup was made", "head", uint64(made.Head), "records", made.Records, "took", time.Since(begun).Round(time.Millisecond))
		case started: // the caller must not take what it has for all of it
			log.Warn("a backup was broken off", "err", err)
			panic(http.ErrAbortHandler)
		default:
			log.Error("no backup could be made", "err", err)
			answerProblem(w, http.StatusServiceUnavailable, "no backup could be made: the server's log says why")
		}
	}})
}

// backupPatience is how long whoever fetches a backup may take nothing. The engine keeps what is removed meanwhile, so it is not left
// to them.
const backupPatience = time.Minute

// patientWriter moves the deadline of an answer on with each write, so that the whole may take as long as it has to.
type patientWriter struct {
	to      io.Writer
	control *http.ResponseController
}

// Write is io.Writer's.
func (w *patientWriter) Write(b []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(backupPatience)) // where there is none, the server's own holds
	return w.to.Write(b)
}
