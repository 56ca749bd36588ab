package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"killfeed"
	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/suite"
	"killfeed/pebblestore"
)

// fetch measures how the cost of a read depends on what is stored.
func fetch(ctx context.Context, b *bench) ([]suite.Result, error) {
	_, topics := hotSystems()
	type end struct{ newest, oldest func() (float64, error) }
	var ends []end
	for _, n := range []int{1000, b.Events} {
		dir, remove, err := killmails.Clone(ctx, b.Work, n)
		if err != nil {
			return nil, err
		}
		defer remove()
		store, err := pebblestore.Open(dir, pebblestore.Options{})
		if err != nil {
			return nil, err
		}
		feed, err := killfeed.Open(store, killfeed.Options{})
		if err != nil {
			return nil, err
		}
		defer feed.Close()
		// The newest 100 on the ten systems begin here.
		entries, err := store.Find(nil, killfeed.Query{Positions: positions(topics), Through: store.State().Head, Max: n})
		if err != nil {
			return nil, err
		}
		from := entries[len(entries)-100].ID
		client := fmt.Sprintf("fetch-%d", time.Now().UnixNano())
		read := func(name string, start killfeed.Start) func() (float64, error) {
			r := killfeed.Read{Topics: topics, Limit: 100, Manual: true, Start: start}
			return func() (float64, error) {
				const times = 200
				began := time.Now()
				for range times {
					ans, err := feed.Fetch(ctx, client+name, r)
					if err != nil {
						return 0, err
					}
					if len(ans.Events) != 100 {
						return 0, fmt.Errorf("%d events, want 100", len(ans.Events))
					}
				}
				return time.Since(began).Seconds() / times * 1e6, nil
			}
		}
		ends = append(ends, end{read("new", killfeed.StartAt(from)), read("old", killfeed.Earliest)})
	}
	newest, err := b.turns(ctx, ends[0].newest, ends[1].newest)
	if err != nil {
		return nil, err
	}
	oldest, err := b.turns(ctx, ends[0].oldest, ends[1].oldest)
	if err != nil {
		return nil, err
	}
	line := func(which string, small, large, most float64, want string) suite.Result {
		return suite.Result{
			Measure: fmt.Sprintf("Fetch of the %s 100 events over 10 systems, %d stored, against 1000 stored", which, b.Events),
			Ours:    fmt.Sprintf("%.0f us", large), Yardstick: fmt.Sprintf("%.0f us", small), Ratio: small / large,
			Want: want, Met: large/small <= most,
		}
	}
	return []suite.Result{
		line("newest", suite.Median(newest[0]), suite.Median(newest[1]), 1.3, "within 30 %"),
		line("oldest", suite.Median(oldest[0]), suite.Median(oldest[1]), 10, "at most 10 times"),
	}, nil
}

func positions(topics []killfeed.Topic) (ps []killfeed.Position) {
	for _, t := range topics {
		ps = append(ps, killfeed.Position{Topic: t})
	}
	return ps
}

// insert measures durable inserts by 64 writers, against the engine with the same keys and bytes, grouped likewise.
func insert(ctx context.Context, b *bench) ([]suite.Result, error) {
	const writers = 64
	dir := func(name string) (string, error) {
		d := filepath.Join(b.Work, name)
		return d, os.RemoveAll(d)
	}
	ourDir, err := dir("insert-ours")
	if err != nil {
		return nil, err
	}
	store, err := pebblestore.Open(ourDir, pebblestore.Options{})
	if err != nil {
		return nil, err
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		return nil, err
	}
	defer feed.Close()
	rawDir, err := dir("insert-raw")
	if err != nil {
		return nil, err
	}
	raw, err := openRaw(rawDir)
	if err != nil {
		return nil, err
	}
	defer raw.close()

	m := killmails.Fresh()
	round := func(insert func(system uint32, json []byte, id int64) error) (float64, error) {
		// The killmails are made before, so that making them is not measured.
		per := int(10_000 * b.round.Seconds() / writers)
		work := make([][]*killfeed.Killmail, writers)
		for i := range work {
			for range per {
				work[i] = append(work[i], m.Next())
			}
		}
		var wg sync.WaitGroup
		var failed atomic.Pointer[error]
		start := time.Now()
		for _, ks := range work {
			wg.Go(func() {
				for _, k := range ks {
					if err := insert(k.SystemID, k.JSON, k.ID); err != nil {
						failed.Store(&err)
						return
					}
				}
			})
		}
		wg.Wait()
		if err := failed.Load(); err != nil {
			return 0, *err
		}
		return float64(writers*per) / time.Since(start).Seconds(), nil
	}
	rates, err := b.turns(ctx,
		func() (float64, error) {
			return round(func(system uint32, json []byte, _ int64) error {
				_, err := feed.Insert(ctx, system, json)
				return err
			})
		},
		func() (float64, error) { return round(raw.insert) },
	)
	if err != nil {
		return nil, err
	}
	ours, yard := suite.Median(rates[0]), suite.Median(rates[1])
	st := feed.Stats()
	return []suite.Result{
		{
			Measure: "Insert, fsynced, 64 writers, 2.5 KB", Ours: suite.PerSecond(ours), Yardstick: suite.PerSecond(yard), Ratio: ours / yard,
			Want: "at least 0.60", Met: ours/yard >= 0.60,
			Note: fmt.Sprintf("spread %.0f%% and %.0f%%; %.0f inserts a group; ours parses, finds duplicates and indexes 15 topics",
				100*suite.Spread(rates[0]), 100*suite.Spread(rates[1]), float64(st.Grouped)/float64(st.Groups)),
		},
		{
			Measure: "Insert, fsynced, 64 writers, 2.5 KB, absolute", Ours: suite.PerSecond(ours), Yardstick: "10.0k/s", Ratio: ours / 10_000,
			Want: "over 10,000/s where the disk gives 3,000 fsync/s", Met: ours >= 10_000,
		},
	}, nil
}

// rawPebble is the engine with nothing above it but the same grouping: one goroutine commits what has come in meanwhile.
type rawPebble struct {
	db       *pebble.DB
	requests chan rawRequest
	done     sync.WaitGroup
	next     uint64
}

type rawRequest struct {
	json []byte
	id   int64
	done chan error
}

func openRaw(dir string) (*rawPebble, error) {
	cache := pebble.NewCache(64 << 20)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{
		Cache: cache, FormatMajorVersion: pebble.FormatWALSyncChunks, MemTableSize: 16 << 20, MemTableStopWritesThreshold: 4,
		Logger: quiet{},
	})
	if err != nil {
		return nil, err
	}
	r := &rawPebble{db: db, requests: make(chan rawRequest, 1024), next: 1}
	r.done.Go(r.run)
	return r, nil
}

func (r *rawPebble) insert(_ uint32, json []byte, id int64) error {
	req := rawRequest{json: json, id: id, done: make(chan error, 1)}
	r.requests <- req
	return <-req.done
}

func (r *rawPebble) run() {
	for first := range r.requests {
		group := append([]rawRequest(nil), first)
	gather:
		for len(group) < 1024 {
			select {
			case req, ok := <-r.requests:
				if !ok {
					break gather
				}
				group = append(group, req)
			default:
				break gather
			}
		}
		b := r.db.NewBatch()
		for _, req := range group {
			key := func(space byte, n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{space}, n) }
			record := make([]byte, len(req.json)+42)
			copy(record, req.json)
			b.Set(key('e', r.next), record, nil)
			b.Set(key('m', r.next), make([]byte, 38), nil)
			b.Set(key('k', uint64(req.id)), make([]byte, 28), nil)
			r.next++
		}
		err := b.Commit(pebble.Sync)
		b.Close()
		for _, req := range group {
			req.done <- err
		}
	}
}

func (r *rawPebble) close() {
	close(r.requests)
	r.done.Wait()
	r.db.Close()
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// importDay measures the import of a real day against decompressing and validating it with nothing behind.
func importDay(ctx context.Context, b *bench) ([]suite.Result, error) {
	if _, err := os.Stat(b.archive); err != nil {
		fmt.Fprintln(os.Stderr, "   skipped:", err)
		return nil, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	timed := func(cmd *exec.Cmd) (float64, error) {
		start := time.Now()
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
		return time.Since(start).Seconds(), nil
	}
	times, err := b.turns(ctx,
		func() (float64, error) {
			dir := filepath.Join(b.Work, "import")
			if err := os.RemoveAll(dir); err != nil {
				return 0, err
			}
			return timed(exec.Command(b.Killfeed, "import", "--data", dir, b.archive))
		},
		func() (float64, error) {
			cmd := exec.Command(self, "yardstick", b.archive)
			cmd.Env = append(os.Environ(), "YARDSTICK=import")
			return timed(cmd)
		},
	)
	if err != nil {
		return nil, err
	}
	ours, yard := suite.Median(times[0]), suite.Median(times[1])
	return []suite.Result{{
		Measure: "import of the real day", Ours: fmt.Sprintf("%.2f s", ours), Yardstick: fmt.Sprintf("%.2f s", yard), Ratio: yard / ours,
		Want: "at least 0.60", Met: yard/ours >= 0.60, Note: fmt.Sprintf("spread %.0f%% and %.0f%%", 100*suite.Spread(times[0]), 100*suite.Spread(times[1])),
	}}, nil
}
