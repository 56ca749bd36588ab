package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
	"killfeed/pebblestore"
)

// A bit of a data directory is flipped, in a byte of a file or in the name of one, and the directory opened, read and checked. What is
// wanted is one of these:
//
//   - opening refuses it
//   - a check, or the feed by a gap of reason damaged, tells of it; and what is served is right
//   - it makes no difference: every event, every client and every killmail id is there as it was
//
// So nothing is ever served damaged, and nothing that was acknowledged is ever missing without a word.

// outcome is what became of a flipped bit.
type outcome int

const (
	refused outcome = iota
	reported
	harmless
	wrong
)

func flipBits(ctx context.Context, seed uint64, n int, out io.Writer) (int, error) {
	began := time.Now()
	d, disks, err := flippable(ctx, seed)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "seed %d: %d bits are flipped, one at a time, in a directory of %d events\n", seed, n, d.sheet.now().acked)
	var (
		count = tally{out: out, broken: map[string]int{}}
		mu    sync.Mutex // guards all below but wait
		table = map[string]*[wrong + 1]int{}
		rnd   = rand.New(rand.NewPCG(seed, 3))
		wait  sync.WaitGroup
		left  = n
		done  int
		shown = began
	)
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				if left--; left < 0 {
					mu.Unlock()
					return
				}
				f, err := flip(disks[rnd.IntN(len(disks))], rnd)
				mu.Unlock()
				if err != nil {
					count.add("flipping a bit", err)
					return
				}
				o, err := d.sheet.flipped(ctx, f)
				count.add(f.where, err)
				mu.Lock()
				if table[f.kind] == nil {
					table[f.kind] = &[wrong + 1]int{}
				}
				table[f.kind][o]++
				if done++; time.Since(shown) > 10*time.Second {
					shown = time.Now()
					fmt.Fprintf(out, "%5d bits, %s\n", done, time.Since(began).Round(time.Second))
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	fmt.Fprintf(out, "\n%-24s %9s %9s %9s %9s\n", "", "refused", "reported", "harmless", "wrong")
	kinds := make([]string, 0, len(table))
	for kind := range table {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		row := table[kind]
		fmt.Fprintf(out, "%-24s %9d %9d %9d %9d\n", kind, row[refused], row[reported], row[harmless], row[wrong])
	}
	fmt.Fprintf(out, "\n%-60s %s\n", "time", time.Since(began).Round(time.Second))
	return count.summary("served damaged", "missing without a word", "refused without a name"), nil
}

// flippable makes the directories: one that was closed, and one of a server that was killed.
func flippable(ctx context.Context, seed uint64) (*drill, []*vfs.MemFS, error) {
	d := newDrill(seed)
	disk := vfs.NewCrashableMem()
	whole := func() *vfs.MemFS {
		return disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
	}
	var disks []*vfs.MemFS
	for life := range 4 {
		if err := d.open(disk); err != nil {
			return nil, nil, err
		}
		for range 60 {
			if err := d.step(ctx); err != nil {
				return nil, nil, err
			}
		}
		if life == 3 {
			// What is written behind is written by the feed's end; so both directories hold the same.
			if err := d.feed.Close(); err != nil {
				return nil, nil, err
			}
			if err := d.open(disk); err != nil {
				return nil, nil, err
			}
			if err := d.insert(ctx, 3, ""); err != nil {
				return nil, nil, err
			}
			if err := d.insert(ctx, 3, "the last place"); err != nil {
				return nil, nil, err
			}
			disks = append(disks, whole())
		}
		if err := d.feed.Close(); err != nil {
			return nil, nil, err
		}
	}
	disks = append(disks, whole())
	for _, disk := range disks {
		if err := dropDead(disk); err != nil {
			return nil, nil, err
		}
	}
	return d, disks, nil
}

// dropDead removes the tables that the next open would remove, which are those that it does not miss: a bit of them makes no difference,
// and there are many.
func dropDead(disk *vfs.MemFS) error {
	names, err := disk.List("data")
	if err != nil {
		return err
	}
	for _, name := range names {
		if kindOf(name) != "tables" {
			continue
		}
		without := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
		if err := without.Remove("data/" + name); err != nil {
			return err
		}
		_, feed, err := openFeed(without, false)
		if err != nil {
			continue
		}
		if err := errors.Join(feed.Close(), disk.Remove("data/"+name)); err != nil {
			return err
		}
	}
	dir, err := disk.OpenDir("data")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close()) // or a copy would have them again
}

// digits are names of write-ahead logs.
var digits = regexp.MustCompile(`^[0-9]+\.log$`)

// flippedBit is a directory with a flipped bit.
type flippedBit struct {
	kind, where string
	name        string // of the file
	disk        *vfs.MemFS
}

// kindOf is the kind of a file of the engine's or of the store's own.
func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, ".sst"):
		return "tables"
	case strings.HasSuffix(name, ".log"):
		return "write-ahead logs"
	case strings.HasPrefix(name, "MANIFEST-"):
		return "manifests"
	case strings.HasPrefix(name, "OPTIONS-"):
		return "options"
	case strings.HasPrefix(name, "marker."):
		return "markers"
	default:
		return name
	}
}

// flip flips a bit: of all kinds of files equally often, and of five times once in the name. It makes no log the name of another one: that
// is not found out, and to keep names is the file system's own part.
func flip(from *vfs.MemFS, rnd *rand.Rand) (f flippedBit, err error) {
	f.disk = from.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rnd})
	names, err := f.disk.List("data")
	if err != nil {
		return f, err
	}
	slices.Sort(names)
	inName := rnd.IntN(5) == 0
	kinds := map[string][]string{}
	var order []string
	contents := map[string][]byte{}
	for _, name := range names {
		if contents[name], err = readFile(f.disk, "data/"+name); err != nil {
			return f, err
		}
		if !inName && len(contents[name]) == 0 || name == "LOCK" {
			continue
		}
		kind := kindOf(name)
		if kinds[kind] == nil {
			order = append(order, kind)
		}
		kinds[kind] = append(kinds[kind], name)
	}
	f.kind = order[rnd.IntN(len(order))]
	f.name = kinds[f.kind][rnd.IntN(len(kinds[f.kind]))]
	if !inName {
		content := contents[f.name]
		at, bit := rnd.IntN(len(content)), rnd.IntN(8)
		content[at] ^= 1 << bit
		f.where = fmt.Sprintf("bit %d of byte %d of %s (%d bytes)", bit, at, f.name, len(content))
		return f, writeFile(f.disk, "data/"+f.name, content)
	}
	f.kind = "name of " + f.kind
	for {
		name := []byte(f.name)
		name[rnd.IntN(len(name))] ^= 1 << rnd.IntN(8)
		if slices.Contains(name, '/') || slices.Contains(name, 0) || slices.Contains(names, string(name)) || digits.Match(name) && digits.MatchString(f.name) {
			continue
		}
		f.where = fmt.Sprintf("name of %s becomes %q", f.name, name)
		return f, f.disk.Rename("data/"+f.name, "data/"+string(name))
	}
}

// flipped opens, reads and checks what has a flipped bit.
func (s *sheet) flipped(ctx context.Context, f flippedBit) (o outcome, err error) {
	now := s.now()
	store, feed, err := openFeed(f.disk, false)
	if err != nil {
		// A table is named by its number.
		number, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(f.name, "MANIFEST-"), "OPTIONS-"), ".")
		if !strings.HasPrefix(f.kind, "name of ") && !strings.Contains(err.Error(), "data/") && !strings.Contains(err.Error(), number) {
			return wrong, broken("refused without a name", "%v", err)
		}
		return refused, nil
	}
	// The engine takes up to a second for a damaged block, at each read of it, to see whether one bit would mend it: so what is known to be
	// damaged is not read again.
	told := len(store.Damaged()) > 0
	err = s.served(ctx, store, feed, now, &told)
	var found []string
	if !told {
		found = problems(ctx, store)
	}
	if closing := feed.Close(); closing != nil {
		told = true
	}
	var v violation
	switch {
	case errors.As(err, &v) && v.promise == "served damaged":
		return wrong, err
	case len(found) > 0 || told:
		return reported, nil
	case err != nil:
		return wrong, broken("missing without a word", "a check finds nothing, but %v", err)
	}
	return harmless, nil
}

// served reads everything and compares it with what was told. told is set when damage is said to be damage, which ends it once
// the log was read.
func (s *sheet) served(ctx context.Context, store *pebblestore.Store, feed *killfeed.Feed, now told, told *bool) error {
	st := feed.State()
	if st.Epoch != now.epoch || st.First != now.first || int(st.Head) != now.acked {
		return fmt.Errorf("the log is %+v, want %d to %d of epoch %s", st, now.first, now.acked, now.epoch)
	}
	whole := func(gap killfeed.Gap) error {
		if gap.Reason != killfeed.GapDamaged {
			return fmt.Errorf("the log has the gap %v", gap)
		}
		*told = true
		return nil
	}
	if err := s.log(ctx, feed, st, whole); err != nil || *told {
		return err
	}
	// Every topic has its events.
	topics := map[killfeed.Topic][]killfeed.EventID{}
	for id := st.First; id <= st.Head; id++ {
		for _, t := range s.all()[id-1].Topics {
			topics[t] = append(topics[t], id)
		}
	}
	for t, want := range topics {
		entries, err := store.Find(nil, killfeed.Query{
			Positions: []killfeed.Position{{Topic: t}}, Through: st.Head, Max: len(want) + 1,
		})
		if err != nil {
			*told = true
			return nil
		}
		got := make([]killfeed.EventID, len(entries))
		for i, e := range entries {
			got[i] = e.ID
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("%s has the events %v, want %v", t, got, want)
		}
	}
	for i, k := range s.all()[:now.acked] {
		switch known, ok, err := store.Known(k.ID); {
		case err != nil:
			*told = true
			return nil
		case !ok || known.First != killfeed.EventID(i+1):
			return fmt.Errorf("killmail %d is known as %+v (%v), want event %d", k.ID, known, ok, i+1)
		}
	}
	for name, c := range now.clients {
		if info, err := feed.Client(name); err != nil || info.Offsets[killfeed.All()] != c.at {
			return fmt.Errorf("client %s stands at %v (%w), want %d", name, info.Offsets, err, c.at)
		}
	}
	place, err := feed.Checkpoint(source)
	if last := now.bounds[len(now.bounds)-1].place; err == nil && place != last {
		return fmt.Errorf("the source's place is %q, want %q", place, last)
	} else if err != nil {
		*told = true
	}
	return nil
}
