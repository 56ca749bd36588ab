package main

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// reopen measures how long a large log takes to be ready.
func reopen(ctx context.Context, b *bench) ([]suite.Result, error) {
	var rs []suite.Result
	for _, m := range []struct {
		name   string
		least  time.Duration // 0: for information
		end    func(*server.Server) error
		forget bool // have the system forget the files
	}{
		{"clean", time.Second, (*server.Server).Stop, false},
		{"after kill -9", 3 * time.Second, (*server.Server).Kill, false},
		{"clean, none of its files in the system's memory", 0, (*server.Server).Stop, true},
	} {
		var took []float64
		for range b.Rounds {
			s, err := b.serve(ctx, b.Events)
			if err != nil {
				return nil, err
			}
			err = s.feed(killmails.Fresh(), 2000) // so that there is something to replay
			if end := m.end(s.Server); err == nil && m.name != "after kill -9" {
				err = end
			}
			if err == nil && m.forget {
				err = forget(s.dir)
			}
			if err != nil {
				s.remove()
				return nil, err
			}
			start := time.Now()
			if err := s.start(ctx, b); err != nil {
				s.remove()
				return nil, err
			}
			took = append(took, time.Since(start).Seconds())
			s.close()
		}
		r := suite.Result{
			Measure: fmt.Sprintf("open with %d events, %s", b.Events, m.name), Ours: fmt.Sprintf("%.2f s", suite.Median(took)),
			Note: fmt.Sprintf("spread %.0f%%", 100*suite.Spread(took)),
		}
		if m.least > 0 {
			r.Yardstick, r.Ratio = m.least.String(), m.least.Seconds()/suite.Median(took)
			r.Want, r.Met = "under "+m.least.String(), suite.Median(took) < m.least.Seconds()
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// memory measures what a server holds that nobody asks anything.
func memory(ctx context.Context, b *bench) ([]suite.Result, error) {
	const rounds, quiet = 3, 10 * time.Second
	var resident []float64
	for range min(b.Rounds, rounds) {
		s, err := b.serve(ctx, b.Events)
		if err != nil {
			return nil, err
		}
		select {
		case <-time.After(quiet):
			resident = append(resident, float64(s.RSS())/1e6)
			s.close()
		case <-ctx.Done():
			s.close()
			return nil, context.Cause(ctx)
		}
	}
	const most = 250 // MB
	mb := suite.Median(resident)
	return []suite.Result{{
		Measure: fmt.Sprintf("resident memory with %d events stored, no traffic", b.Events), Ours: fmt.Sprintf("%.0f MB", mb),
		Yardstick: fmt.Sprintf("%d MB", most), Ratio: most / mb, Want: fmt.Sprintf("at most %d MB", most), Met: mb <= most, Promise: true,
		Note: fmt.Sprintf("%v after the log was open, spread %.0f%%", quiet, 100*suite.Spread(resident)),
	}}, nil
}

// size tells how large the program is.
func size(_ context.Context, b *bench) ([]suite.Result, error) {
	st, err := os.Stat(b.Killfeed)
	if err != nil {
		return nil, err
	}
	r := suite.Result{Measure: "size of the program", Ours: fmt.Sprintf("%.1f MB", float64(st.Size())/1e6)}
	f, err := elf.Open(b.Killfeed)
	if err != nil { // another system's format
		return []suite.Result{r}, nil
	}
	defer f.Close()
	var loaded uint64
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			loaded += p.Filesz
		}
	}
	r.Note = fmt.Sprintf("%.1f MB without symbols for debuggers", float64(loaded)/1e6)
	return []suite.Result{r}, nil
}

// forget has the operating system write the files of a directory to disk and drop them from its memory.
func forget(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		if err = f.Sync(); err == nil {
			err = dontNeed(f)
		}
		f.Close()
		if err != nil {
			return fmt.Errorf("dropping %s from memory: %w", name, err)
		}
	}
	return nil
}
