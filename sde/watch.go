package sde

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"killfeed"
)

// watchEvery is how often a Watch looks for a new index.
const watchEvery = 30 * time.Second

// Watch hands on the index in a data directory, and each that takes its place, so that a server takes up an update while it runs.
//
// An index that is damaged is told in the log, once, and what was handed on before stays in use; so it does when the index is
// removed. Methods may be called concurrently.
type Watch struct {
	dir  string
	use  func(*killfeed.Universe)
	log  *slog.Logger
	wake chan struct{} // asks Run to look at once

	mu   sync.Mutex  // guards the rest, and is held while an index is read and handed on: they are handed on in order
	seen fs.FileInfo // of the index that was read last, nil before
	told string      // what was wrong with it and is in the log; empty: nothing
}

// NewWatch makes a Watch that hands indexes on to use, one at a time.
func NewWatch(dir string, use func(*killfeed.Universe), log *slog.Logger) *Watch {
	return &Watch{dir: dir, use: use, log: log, wake: make(chan struct{}, 1)}
}

// Look hands the index on, if there is one that has not been. It tells whether it did.
func (w *Watch) Look() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, err := os.Stat(indexFile(w.dir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && same(now, w.seen) {
		return false
	}
	u, info, read, err := load(w.dir)
	if read != nil {
		w.seen = read
	}
	if err != nil {
		if text := err.Error(); text != w.told {
			w.told = text
			w.log.Warn("the static data cannot be used; what was there before stays in use", "err", err)
		}
		return false
	}
	w.told = ""
	w.use(u)
	w.log.Info("static data is in use", "build", info.Build, "systems", info.Systems, "types", info.Types, "file", info.File)
	return true
}

// same tells whether two descriptions are of one file in one state. An update makes a new file.
func same(a, b fs.FileInfo) bool {
	return b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Reload has Run look at once. It waits for nothing.
func (w *Watch) Reload() {
	select {
	case w.wake <- struct{}{}:
	default: // it is going to already
	}
}

// Run looks every 30 seconds, and when Reload asks for it, until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		w.Look()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-w.wake:
		}
	}
}
