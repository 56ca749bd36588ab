package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// fillDisk fills a real, small file system with killmails until an insert is refused, gives it space, and goes on. Only root can mount one:
// for others nothing is done, and said.
func fillDisk(ctx context.Context, out io.Writer) error {
	dir, err := os.MkdirTemp("", "killfeed-full")
	if err != nil {
		return err
	}
	defer os.Remove(dir)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		fmt.Fprintf(out, "no file system could be mounted, so none is filled: %v\n", err)
		return nil
	}
	// A store that failed keeps its files open: then it goes when this process does.
	defer unix.Unmount(dir, unix.MNT_DETACH)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 24<<20), 0o600); err != nil {
		return err
	}
	open := func() (*killfeed.Feed, error) {
		store, err := pebblestore.Open(filepath.Join(dir, "data"), pebblestore.Options{
			MinFree: 1, Logger: slog.New(slog.DiscardHandler), // full is when the kernel says so
		})
		if err != nil {
			return nil, err
		}
		return killfeed.Open(store, killfeed.Options{Retention: killfeed.DefaultRetention()})
	}
	feed, err := open()
	if err != nil {
		return err
	}
	maker := storetest.NewMaker(storetest.MakerOptions{Seed: 1})
	var group []*killfeed.Killmail
	acked := 0
	for err == nil {
		if group = group[:0]; ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), feed.Close())
		}
		for range 50 {
			group = append(group, maker.Next())
		}
		if _, err = feed.InsertAll(ctx, group, 0); err == nil {
			acked += len(group)
		}
		if acked > 500_000 {
			return errors.Join(errors.New("64 MB took 500,000 killmails"), feed.Close())
		}
	}
	if !errors.Is(err, killfeed.ErrDiskFull) {
		return broken("refused as it should", "on a full file system: %v", err)
	}
	if err := readWhole(ctx, feed, acked); err != nil {
		return broken("reads go on", "on a full file system: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		results, err := feed.InsertAll(ctx, group, 0)
		if err == nil {
			if results[0].EventID != killfeed.EventID(acked+1) {
				return broken("ids reused", "behind %d the next is %d", acked, results[0].EventID)
			}
			break
		}
		if !errors.Is(err, killfeed.ErrDiskFull) || time.Now().After(limit) {
			return broken("recovers", "with space again: %v", err)
		}
	}
	full := acked
	acked += len(group)
	if err := feed.Close(); err != nil {
		return err
	}
	if feed, err = open(); err != nil {
		return broken("open", "%v", err)
	}
	fmt.Fprintf(out, "a real file system of 64 MB is full after %d killmails, and has %d when it got space and was opened again\n",
		full, feed.State().Head)
	return errors.Join(readWhole(ctx, feed, acked), feed.Close())
}

// readWhole reads the log, which must have so many events at least.
func readWhole(ctx context.Context, feed *killfeed.Feed, least int) error {
	st := feed.State()
	next := st.First
	for after := (killfeed.Cursor{After: st.First - 1, Epoch: st.Epoch}); ; {
		answer, err := feed.ReadAfter(ctx, after, killfeed.Read{Topics: everything})
		if err != nil {
			return err
		}
		for _, e := range answer.Events {
			if e.ID != next {
				return broken("holes", "event %d comes where %d should", e.ID, next)
			}
			next++
		}
		if after = answer.Next; !answer.More {
			break
		}
	}
	if int(next-1) < least {
		return broken("acknowledged inserts lost", "%d are read, %d were acknowledged", next-1, least)
	}
	return nil
}
