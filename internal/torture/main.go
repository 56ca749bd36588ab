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
//     it when the server died: that is what "at most once" means.
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
	kills    int
	writers  int
	seed     uint64
	keep     string
}

func main() {
	var c config
	flag.StringVar(&c.killfeed, "killfeed", "", "the killfeed binary to torture")
	flag.IntVar(&c.kills, "kills", 100, "how often to kill the server")
	flag.IntVar(&c.writers, "writers", 4, "concurrent writers")
	flag.Uint64Var(&c.seed, "seed", 0, "seed of the random choices; 0 takes one from the clock")
	flag.StringVar(&c.keep, "keep", "", "use this data directory and leave it, instead of a temporary one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	violations, err := run(ctx, c, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(2)
	}
	if violations > 0 {
		os.Exit(1)
	}
}

// run tortures and returns how many promises were broken.
func run(ctx context.Context, c config, out io.Writer) (violations int, err error) {
	if c.seed == 0 {
		c.seed = uint64(time.Now().UnixNano())
	}
	dir := c.keep
	if dir == "" {
		if dir, err = os.MkdirTemp("", "killfeed-torture"); err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
	}
	rnd := rand.New(rand.NewPCG(c.seed, 1))
	srv := &server{binary: c.killfeed, data: filepath.Join(dir, "data"), addrFile: filepath.Join(dir, "addr")}
	defer srv.kill()
	o := newOracle(out)
	fmt.Fprintf(out, "seed %d, %d kills, %d writers\n", c.seed, c.kills, c.writers)
	world := newWorld(o, srv, c.writers, c.seed)
	began := time.Now()
	for k := range c.kills {
		// Every other server removes at once what everybody has committed.
		if err := srv.start(ctx, k%2 == 1); err != nil {
			return 0, fmt.Errorf("after kill %d: %w", k, err)
		}
		if k == 0 {
			if err := world.register(); err != nil {
				return 0, err
			}
		}
		if err := world.verify(ctx, false); err != nil {
			return 0, fmt.Errorf("after kill %d: %w", k, err)
		}
		world.load(time.Duration(50+rnd.IntN(1200))*time.Millisecond, func() { srv.kill() })
		if k%10 == 9 || k == c.kills-1 {
			if err := srv.check(ctx); err != nil {
				o.violate("check", "after kill %d: %v", k+1, err)
			}
			fmt.Fprintf(out, "%4d kills, %s: %s\n", k+1, time.Since(began).Round(time.Second), o.progress())
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
	}
	if err := srv.start(ctx, false); err != nil {
		return 0, err
	}
	switch err := world.finish(ctx); {
	case ctx.Err() != nil: // interrupted: nobody came to the end, which proves nothing
		return 0, context.Cause(ctx)
	case errors.Is(err, errServer): // it answers, but not as it must
		o.violate("acknowledged inserts lost", "%v", err)
	case err != nil:
		return 0, err
	}
	if err := srv.stop(); err != nil {
		o.violate("clean stop", "%v", err)
	}
	if err := srv.check(ctx); err != nil {
		o.violate("check", "at the end: %v", err)
	}
	return o.summary(), nil
}

// errServer marks what the server, as opposed to the machine, did wrong.
var errServer = errors.New("server")
