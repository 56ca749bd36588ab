// Command torture kills a real server with SIGKILL at random moments, again and again, while it is under mixed load, and
// checks what it promises against an oracle outside the process that knows what was acknowledged. ./scripts/torture runs it.
//
// What is checked, after every restart and at the end:
//
//   - every acknowledged insert is there once, with the event id that was acknowledged
//   - event ids have no hole, and no id ever means another killmail
//   - an acknowledged commit or seek is never gone back on
//   - no client misses an event. A client with manual commit gets nothing again that it has committed; one with automatic
//     commit gets again at most what it got in the second before a kill, and may lose the one answer that was on its way to
//     it when the server died: that is what "at most once" means. A stream that resumes with the id of its last event gets each
//     exactly once.
//
// In place of the process it can fail the disk below a feed in its own process: power.go, diskfull.go and bitflip.go say how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

type config struct {
	killfeed string
	cluster  bool
	time     time.Duration // of a cluster
	self     string        // this program
	kills    int
	writers  int
	seed     uint64
	work     string
	resume   bool
	part     time.Duration
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "nats" {
		if err := runNATS(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
			os.Exit(2)
		}
		return
	}
	var c config
	power := flag.Bool("power", false, "cut the power instead, at every sync of a workload and in between: see power.go")
	diskFull := flag.Bool("disk-full", false, "fail every write of a workload in turn instead, for want of space and for good: see diskfull.go")
	bitflip := flag.Int("bitflip", 0, "flip so many bits of a data directory instead, one at a time: see bitflip.go")
	flag.StringVar(&c.killfeed, "killfeed", "", "the killfeed binary to torture")
	flag.IntVar(&c.kills, "kills", 100, "how often to kill the server")
	flag.IntVar(&c.writers, "writers", 4, "concurrent writers")
	flag.Uint64Var(&c.seed, "seed", 0, "seed of the random choices; 0 takes one from the clock")
	flag.StringVar(&c.work, "work", "", "keep the data and what is known of it in this directory, which --resume goes on with")
	flag.BoolVar(&c.resume, "resume", false, "go on where the part before ended, in the directory of --work")
	flag.DurationVar(&c.part, "for", 0, "end this part after so long, to be resumed; 0: when all kills are done")
	flag.BoolVar(&c.cluster, "cluster", false, "torture three nodes that share a log by way of three NATS servers instead: see cluster.go")
	minutes := flag.Float64("minutes", 15, "how long to torture a cluster")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.seed == 0 {
		c.seed = uint64(time.Now().UnixNano())
	}
	var violations int
	var err error
	switch {
	case c.cluster:
		c.time = time.Duration(*minutes * float64(time.Minute))
		if c.self, err = os.Executable(); err == nil {
			violations, err = runCluster(ctx, c, os.Stdout)
		}
	case *power:
		violations, err = cutPower(ctx, c.seed, os.Stdout)
	case *diskFull:
		violations, err = failDisk(ctx, 1, os.Stdout)
	case *bitflip > 0:
		violations, err = flipBits(ctx, c.seed, *bitflip, os.Stdout)
	default:
		violations, err = run(ctx, c, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(2)
	}
	if violations > 0 {
		os.Exit(1)
	}
}

// run tortures and returns how many promises were broken. When ctx ends, or the time of a part is over, it ends after the kill that
// comes next.
func run(ctx context.Context, c config, out io.Writer) (violations int, err error) {
	dir := c.work
	if dir == "" {
		if dir, err = os.MkdirTemp("", "killfeed-torture"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
	} else if err := os.MkdirAll(dir, 0o750); err != nil {
		return 0, err
	}
	done := 0
	var before *saved
	if c.resume {
		if before, err = readState(dir); err != nil {
			return 0, err
		}
		c.seed, done = before.Seed, before.Kills
	} else if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
		return 0, fmt.Errorf("%s has data of an earlier run: go on with --resume, or name an empty directory", dir)
	}
	srv := &server{binary: c.killfeed, data: filepath.Join(dir, "data"), addrFile: filepath.Join(dir, "addr")}
	defer srv.kill()
	o := newOracle(out)
	fmt.Fprintf(out, "seed %d, %d kills of which %d are done, %d writers\n", c.seed, c.kills, done, c.writers)
	w := newWorld(o, srv, c.writers, c.seed)
	if before != nil {
		if err := w.resume(before); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	// What has begun is brought to its end, whoever asks to stop.
	whole := context.WithoutCancel(ctx)
	for shown, first := began, done; done < c.kills; {
		if ctx.Err() != nil || c.part > 0 && done > first && time.Since(began) > c.part {
			if c.work == "" {
				return 0, fmt.Errorf("interrupted after %d kills: %s", done, o.progress())
			}
			fmt.Fprintf(out, "%d of %d kills, %s; go on with --work %s --resume\n", done, c.kills, o.progress(), c.work)
			return o.broken(), w.save(dir, done)
		}
		// Every other server removes at once what everybody has committed.
		if err := srv.start(whole, done%2 == 1); err != nil {
			return 0, fmt.Errorf("after kill %d: %w", done, err)
		}
		if done == 0 {
			if err := w.register(whole); err != nil {
				return 0, err
			}
		}
		if err := w.verify(whole, false); err != nil {
			return 0, fmt.Errorf("after kill %d: %w", done, err)
		}
		w.load(pause(c.seed, done), srv.kill)
		if done++; done%20 == 0 || done == c.kills {
			if err := srv.check(whole); err != nil {
				o.violate("check", "after kill %d: %v", done, err)
			}
		}
		if time.Since(shown) > 10*time.Second {
			shown = time.Now()
			each := time.Since(began) / time.Duration(done-first)
			fmt.Fprintf(out, "%4d kills, %s, %d ms each: %s\n", done, time.Since(began).Round(time.Second), each.Milliseconds(), o.progress())
		}
	}
	if err := srv.start(whole, false); err != nil {
		return 0, err
	}
	switch err := w.finish(whole); {
	case errors.Is(err, errServer): // it answers, but not as it must
		o.violate("acknowledged inserts lost", "%v", err)
	case err != nil:
		return 0, err
	}
	if err := srv.stop(); err != nil {
		o.violate("clean stop", "%v", err)
	}
	if err := srv.check(whole); err != nil {
		o.violate("check", "at the end: %v", err)
	}
	fmt.Fprintf(out, "\n%-60s %d, the last part in %s\n", "kills", done, time.Since(began).Round(time.Second))
	return o.summary(), nil
}

// pause is how long a server is under load before it is killed: half of them die young, when they may still be at what the death before
// cost.
func pause(seed uint64, kill int) time.Duration {
	rnd := rand.New(rand.NewPCG(seed, uint64(kill)))
	if rnd.IntN(2) == 0 {
		return time.Duration(rnd.IntN(200)) * time.Millisecond
	}
	return time.Duration(200+rnd.IntN(800)) * time.Millisecond
}

// errServer marks what the server, as opposed to the machine, did wrong.
var errServer = errors.New("server")
