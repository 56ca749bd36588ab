package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"killfeed"
)

// One operation of a workload fails at a time, each in its turn: for want of space, which lasts until it was noticed; once for another
// reason; and for another reason for good. See trial.

// The workload: a feed that is opened, called and closed, twice.
const diskLives, diskCalls = 2, 40

// want of space is given back after so long when nobody noticed: the operation was one of the engine's own, which waits for it.
const unnoticed = 100 * time.Millisecond

// failDisk fails every n-th operation.
func failDisk(ctx context.Context, every int64, out io.Writer) (int, error) {
	count := tally{out: out, broken: map[string]int{}}
	began := time.Now()
	for _, kind := range []struct {
		name string
		err  error
		all  bool
	}{
		{"no space (ENOSPC)", syscall.ENOSPC, true},
		{"one error (EIO)", syscall.EIO, false},
		{"errors from then on (EIO)", syscall.EIO, true},
	} {
		var (
			next  atomic.Int64
			past  atomic.Bool // the workload has fewer operations
			told  [4]atomic.Int64
			tried atomic.Int64
			wait  sync.WaitGroup
		)
		// Most of the time is waiting for space.
		for range 8 {
			wait.Go(func() {
				for !past.Load() && ctx.Err() == nil {
					t := trial{disk: vfs.NewCrashableMem(), drill: newDrill(1), err: kind.err, all: kind.all, at: 1 + every*(next.Add(1)-1)}
					err := t.run(ctx)
					if what := t.what.Load(); what != nil {
						tried.Add(1)
						told[t.told].Add(1)
						count.add(fmt.Sprintf("%s at operation %d, %s", kind.name, t.at, *what), err)
					} else {
						past.Store(true)
						count.add("nothing fails", err)
					}
				}
			})
		}
		wait.Wait()
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		fmt.Fprintf(out, "%-28s %4d operations: %d told at opening, %d to a caller, %d in the background, %d without harm\n", kind.name,
			tried.Load(), told[toldAtOpen].Load(), told[toldCaller].Load(), told[toldLater].Load(), told[toldNobody].Load())
	}
	count.add("a real file system", fillDisk(ctx, out))
	fmt.Fprintf(out, "%-60s %s\n", "time", time.Since(began).Round(time.Second))
	return count.summary(append(drillPromises, "refused as it should", "reads go on", "recovers")...), nil
}

// trial is one run of the workload in which one operation fails. What is wanted:
//
//   - an insert is refused, or its outcome said to be unknown; it is never acknowledged and then gone
//   - reading goes on, with everything that was acknowledged
//   - when there is space again, so does writing, by itself; after another error all writing is refused as failed, and so the health says
//   - opened again, on the disk as it is and on what a power cut would have left of it, everything acknowledged is there
type trial struct {
	disk  *vfs.MemFS
	drill *drill
	err   error
	all   bool
	at    int64
	told  int // toldNobody and so on

	ops  atomic.Int64
	over atomic.Bool
	what atomic.Pointer[string] // the operation that failed first
}

const (
	toldNobody = iota
	toldAtOpen
	toldCaller
	toldLater
)

// fs is the disk on which the operation fails.
func (t *trial) fs() vfs.FS {
	full := errors.Is(t.err, syscall.ENOSPC)
	return errorfs.Wrap(t.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileClose, errorfs.OpLock:
			return nil
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpRemove, errorfs.OpRemoveAll:
			if full { // these need no space
				return nil
			}
		}
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || t.over.Load() {
			return nil
		}
		if n := t.ops.Add(1); n < t.at || n > t.at && !t.all {
			return nil
		}
		what := fmt.Sprintf("kind %d of %s", op.Kind, op.Path)
		t.what.CompareAndSwap(nil, &what)
		return t.err
	}))
}

func (t *trial) run(ctx context.Context) error {
	if errors.Is(t.err, syscall.ENOSPC) {
		return t.full(ctx)
	}
	return t.failed(ctx)
}

// full runs the workload with want of space. Whoever is refused tries again.
func (t *trial) full(ctx context.Context) error {
	d := t.drill
	// Space comes back when it was noticed, or when nobody noticed: then something waits in the background, or opening does.
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for look := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-ended:
				look.Stop()
				return
			case <-look.C:
				if t.what.Load() == nil {
					continue
				}
				select {
				case <-time.After(20 * unnoticed): // a caller is told after a second
				case <-ended:
				}
				t.over.Store(true)
				return
			}
		}
	}()
	fs := t.fs()
	for range diskLives {
		before := t.what.Load()
		if err := d.open(fs); err != nil {
			return broken("recovers", "opening: %v", err)
		}
		if before == nil && t.what.Load() != nil {
			t.told = toldAtOpen
		}
		for range diskCalls {
			err := d.step(ctx)
			if errors.Is(err, killfeed.ErrDiskFull) {
				t.told = toldCaller
				err = t.again(ctx)
			}
			if err != nil {
				return err
			}
		}
		if errors.Is(d.feed.Health(), killfeed.ErrDiskFull) {
			t.told = max(t.told, toldLater)
			t.over.Store(true)
		}
		if err := t.healthy(ctx); err != nil {
			return err
		}
		if err := d.feed.Close(); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				return fmt.Errorf("closing: %w", err)
			}
			break // closed on a full disk, which is an end
		}
	}
	t.over.Store(true)
	now := d.sheet.now()
	return d.sheet.verify(ctx, t.left(), now, now)
}

// left is the disk as it is. It is a copy: a feed that failed keeps the lock of its own.
func (t *trial) left() *vfs.MemFS {
	return t.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// again checks what holds on a full disk, gives it space, and inserts what was refused.
func (t *trial) again(ctx context.Context) error {
	d := t.drill
	if err := d.reads(ctx); err != nil {
		return broken("reads go on", "on a full disk: %v", err)
	}
	t.over.Store(true)
	if err := t.healthy(ctx); err != nil {
		return err
	}
	// Behind this insert stands what waited before it: then where the clients are does not change any more.
	if err := d.insert(ctx, 1, ""); err != nil {
		return err
	}
	return d.resolve()
}

// healthy waits until the feed says that writing works.
func (t *trial) healthy(ctx context.Context) error {
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := t.drill.feed.Health()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, killfeed.ErrDiskFull) || time.Now().After(limit) {
			return broken("recovers", "with space again: %v", err)
		}
	}
}

// failed runs the workload until it is told that the store has failed.
func (t *trial) failed(ctx context.Context) error {
	d := t.drill
	fs := t.fs()
	var err error
	for life := 0; life < diskLives && err == nil; life++ {
		if err = d.open(fs); err != nil {
			if t.what.Load() == nil {
				return fmt.Errorf("opening: %w", err)
			}
			t.told = toldAtOpen
			break
		}
		for range diskCalls {
			if err = d.step(ctx); err != nil {
				break
			}
		}
		if err == nil {
			err = d.feed.Health()
		} else {
			t.told = toldCaller
		}
		if err == nil {
			if err = d.feed.Close(); err != nil {
				t.told = toldLater
			}
			continue
		}
		if t.told == toldNobody {
			t.told = toldLater
		}
		if !errors.Is(err, killfeed.ErrFailed) {
			return fmt.Errorf("not told to have failed: %w", err)
		}
		if err := t.stays(ctx); err != nil {
			return err
		}
		if err := d.feed.Close(); !errors.Is(err, killfeed.ErrFailed) {
			return broken("refused as it should", "closing after a failure: %v", err)
		}
	}
	t.over.Store(true)
	now := d.sheet.now()
	if t.told == toldAtOpen && now.epoch == "" {
		return nil
	}
	// As a power cut leaves it, and as it is.
	for _, disk := range []*vfs.MemFS{t.disk.CrashClone(vfs.CrashCloneCfg{}), t.left()} {
		if err := d.sheet.verify(ctx, disk, now, now); err != nil {
			return err
		}
	}
	return nil
}

// stays checks what holds after a failure.
func (t *trial) stays(ctx context.Context) error {
	d := t.drill
	if err := d.feed.Health(); !errors.Is(err, killfeed.ErrFailed) {
		return broken("refused as it should", "the health after a failure: %v", err)
	}
	k := d.maker.Next()
	if _, err := d.feed.Insert(ctx, k.SystemID, k.JSON); !errors.Is(err, killfeed.ErrFailed) {
		return broken("refused as it should", "inserting after a failure: %v", err)
	}
	if err := d.reads(ctx); err != nil {
		return broken("reads go on", "after a failure: %v", err)
	}
	return nil
}
