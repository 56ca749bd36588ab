package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// maxWarnings is how many warnings and errors are remembered, maxWarningText how much of each of their values, in bytes: a panic's
// stack is for the log.
const (
	maxWarnings    = 100
	maxWarningText = 500
)

// warning is a line of the log, as the operator's view shows it.
type warning struct {
	Time       time.Time         `json:"time"`
	Level      string            `json:"level"`
	Message    string            `json:"message"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// warnings remembers the newest warnings and errors.
type warnings struct {
	mu     sync.Mutex // guards newest; held for an append, or a copy
	newest []warning  // the last one is the newest
}

func (w *warnings) add(v warning) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.newest) == maxWarnings {
		copy(w.newest, w.newest[1:])
		w.newest = w.newest[:maxWarnings-1]
	}
	w.newest = append(w.newest, v)
}

// list returns them, the newest first.
func (w *warnings) list() []warning {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]warning, 0, len(w.newest))
	for i := range w.newest {
		all = append(all, w.newest[len(w.newest)-1-i])
	}
	return all
}

// remembering is a handler that remembers warnings and errors, whatever the level of the log is.
type remembering struct {
	slog.Handler
	warnings *warnings
	given    []slog.Attr // of With
}

// Enabled is slog.Handler's.
func (h *remembering) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || h.Handler.Enabled(ctx, level)
}

// Handle is slog.Handler's.
func (h *remembering) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		v := warning{Time: r.Time.UTC(), Level: r.Level.String(), Message: r.Message, Attributes: map[string]string{}}
		note := func(a slog.Attr) bool {
			text := a.Value.Resolve().String()
			v.Attributes[a.Key] = text[:min(len(text), maxWarningText)]
			return true
		}
		for _, a := range h.given {
			note(a)
		}
		r.Attrs(note)
		h.warnings.add(v)
		if !h.Handler.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs is slog.Handler's.
func (h *remembering) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &remembering{h.Handler.WithAttrs(attrs), h.warnings, append(h.given[:len(h.given):len(h.given)], attrs...)}
}

// WithGroup is slog.Handler's. What is in the group is remembered without its name: nothing here has groups.
func (h *remembering) WithGroup(name string) slog.Handler {
	return &remembering{h.Handler.WithGroup(name), h.warnings, h.given}
}
