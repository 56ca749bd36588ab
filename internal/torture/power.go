package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// The power is cut at every sync of a workload, just before it and just after it. What survives is, in turn:
//
//   - exactly what was synced
//   - of each block and directory entry that was not synced, or not: a random part
//   - what was synced, and of the bytes behind it in each file a beginning, cut at a random byte, with nothing, zeros or garbage behind it
//
// A feed is opened on each and compared with what the drill had been told.

// survivor is what a cut of the power left.
type survivor struct {
	where         string
	fs            *vfs.MemFS
	before, after told
}

// powerLives is how often the feed is opened in the workload, powerCalls how many calls each life has.
const powerLives, powerCalls = 8, 60

func cutPower(ctx context.Context, seed uint64, out io.Writer) (int, error) {
	return cutPowerOften(ctx, seed, powerLives, powerCalls, out)
}

func cutPowerOften(ctx context.Context, seed uint64, lives, calls int, out io.Writer) (int, error) {
	var (
		d         = newDrill(seed)
		disk      = vfs.NewCrashableMem()
		count     = tally{out: out, broken: map[string]int{}}
		survivors = make(chan survivor, 8) // bounds memory: the drill waits for the verifiers
		verifiers sync.WaitGroup
		syncs     atomic.Int64
		states    atomic.Int64
		began     = time.Now()
	)
	fmt.Fprintf(out, "seed %d: the power is cut at every sync of %d calls in %d lives\n", seed, lives*calls, lives)
	for range 2 {
		verifiers.Go(func() {
			for s := range survivors {
				if ctx.Err() == nil {
					count.add(s.where, d.sheet.verify(ctx, s.fs, s.before, s.after))
				}
				states.Add(1)
			}
		})
	}
	cutter := cutter{rnd: rand.New(rand.NewPCG(seed, 2)), disk: disk, sheet: &d.sheet, survivors: survivors}
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData:
			cutter.cut(fmt.Sprintf("sync %d, of %s", syncs.Add(1), op.Path))
		}
		return nil
	}))
	err := func() error {
		for life := range lives {
			if err := d.open(fs); err != nil {
				return fmt.Errorf("opening for life %d: %w", life, err)
			}
			for range calls {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := d.step(ctx); err != nil {
					return err
				}
			}
			if err := d.feed.Close(); err != nil {
				return fmt.Errorf("closing in life %d: %w", life, err)
			}
		}
		cutter.cut("the end")
		return nil
	}()
	close(survivors)
	verifiers.Wait()
	if err != nil {
		return 0, err
	}
	t := d.sheet.now()
	fmt.Fprintf(out, "\n%-60s %d\n%-60s %d\n", "events inserted", t.acked, "of which removed by collections", t.first-1)
	fmt.Fprintf(out, "%-60s %d\n%-60s %d\n", "syncs at which the power was cut", syncs.Load(), "disks that were left and opened", states.Load())
	fmt.Fprintf(out, "%-60s %s\n", "time", time.Since(began).Round(time.Second))
	return count.summary(drillPromises...), nil
}

// cutter makes what survives.
type cutter struct {
	mu        sync.Mutex // guards rnd; held while disks are copied, so that only one is at a time
	rnd       *rand.Rand
	disk      *vfs.MemFS
	sheet     *sheet
	survivors chan<- survivor
}

func (c *cutter) cut(where string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, kind := range []struct {
		name string
		make func() *vfs.MemFS
	}{
		{"what was synced", func() *vfs.MemFS { return c.disk.CrashClone(vfs.CrashCloneCfg{}) }},
		{"some blocks", func() *vfs.MemFS {
			return c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 10 + c.rnd.IntN(90), RNG: c.rnd})
		}},
		{"a torn tail", c.torn},
	} {
		before := c.sheet.now()
		fs := kind.make()
		c.survivors <- survivor{where + ", left is " + kind.name, fs, before, c.sheet.now()}
	}
}

// torn is what was synced with a beginning of what was not behind it. What stands in a file before its synced end does not change: the
// engine only appends, but to the marks, which are half written or not.
func (c *cutter) torn() *vfs.MemFS {
	synced := c.disk.CrashClone(vfs.CrashCloneCfg{})
	all := c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: c.rnd})
	names, err := all.List("data")
	if err != nil {
		return synced // the directory itself was not synced yet
	}
	for _, name := range names {
		path := "data/" + name
		whole, err := readFile(all, path)
		if err != nil {
			continue
		}
		// A file whose entry was not synced may have been synced itself, which cannot be told here: the random blocks are for those.
		kept, err := readFile(synced, path)
		if err != nil || len(whole) <= len(kept) {
			continue
		}
		cut := len(kept) + c.rnd.IntN(len(whole)-len(kept)+1)
		torn := append([]byte(nil), whole[:cut]...)
		rest := make([]byte, len(whole)-cut)
		switch c.rnd.IntN(4) {
		case 0: // nothing
		case 1:
			for i := range rest {
				rest[i] = byte(c.rnd.Uint32())
			}
			rest = rest[:min(len(rest), 64)] // of a long one the engine tries for seconds whether one bit would mend it
			fallthrough
		default:
			torn = append(torn, rest...)
		}
		_ = writeFile(synced, path, torn) // memory does not fail
	}
	return synced.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: c.rnd})
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}

func writeFile(fs vfs.FS, path string, content []byte) error {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Sync()
}
