package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"killfeed/ingest/demo"
	"killfeed/ingest/standin"
)

func (a *app) upstreamSimCmd() *cobra.Command {
	var (
		listen, addrFile, faults, archives string
		rate, speed                        float64
		all                                bool
		before                             int
		seed                               uint64
		static                             []string
	)
	c := &cobra.Command{
		Use:   "upstream-sim [flags] [FILE...]",
		Short: "Stand in for zKillboard and ESI, for development",
		Long: `Serve what zKillboard (R2Z2, RedisQ, websocket, history), ESI and EVE Ref serve, without them: the killmails of the
given files (as import reads them), or killmails of invented pilots when none is given; and CCP's static data, from
archives of it. It is for development and tests only; nothing is kept.

With --faults it misbehaves: "all" for some of everything, or JSON as POST /standin/control takes it, as in
'{"hole":{"chance":0.02},"too_many":{"chance":0.01}}'. GET /standin/stats tells how clients behaved: the greatest request
rate, the least pause after a 404, requests without a contact.`,
		Example: `  killfeed upstream-sim --listen 127.0.0.1:4005 --rate 10 killmails.jsonl.gz
  killfeed serve --contact you@example.com --r2z2-url http://127.0.0.1:4005 --esi-url http://127.0.0.1:4005`,
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:4005", "`address` to listen on")
	f.StringVar(&addrFile, "addr-file", "", "when serving, write the bound address to this `file`")
	f.Float64Var(&rate, "rate", 1, "killmails published a `second`")
	f.Float64Var(&speed, "speed", 0, "publish as far apart as they happened, divided by this; overrides --rate")
	f.BoolVar(&all, "all", false, "publish all at once")
	f.IntVar(&before, "before", 0, "how many of the killmails were published before the start, at their own times")
	f.StringVar(&faults, "faults", "", "misbehave: all, or JSON")
	f.StringVar(&archives, "archives", "", "`directory` of EVE Ref's day archives to serve")
	f.StringSliceVar(&static, "static-data", nil, "`file` of CCP's archive of static data to serve; of several, the last is the latest")
	f.Uint64Var(&seed, "seed", 1, "what chance depends on")
	return a.command(c, []string{"log-level", "log-format"}, func(ctx context.Context, files []string) error {
		config := standin.Config{Before: before, Seed: seed, ArchiveDir: archives, StaticData: static}
		switch {
		case all:
		case speed > 0:
			config.Pace = standin.Pace{Speed: speed}
		default:
			config.Pace = standin.Pace{Rate: rate}
		}
		var err error
		if config.Faults, err = parseFaults(faults); err != nil {
			return err
		}
		if len(files) > 0 {
			if config.Mails, err = standin.Load(ctx, files...); err != nil {
				return err
			}
		} else {
			g := demo.New(demo.Options{Seed: seed})
			config.Named = demoNamed()
			config.More = func() (standin.Mail, bool) {
				k, _ := g.Next()
				var parts struct {
					ZKB json.RawMessage `json:"zkb"`
				}
				if json.Unmarshal(k.JSON, &parts) != nil {
					return standin.Mail{}, false
				}
				return standin.Mail{ID: k.ID, Hash: k.Hash, ESI: withoutZKB(k.JSON), ZKB: parts.ZKB, Time: k.Time}, true
			}
			if all {
				return usagef("all needs files: the invented killmails have no end")
			}
		}
		server, err := standin.New(config)
		if err != nil {
			return usageError{err}
		}
		defer server.Close()
		listener, err := net.Listen("tcp", listen)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stderr, "upstream-sim stands in for zKillboard and ESI on http://%s\n", listener.Addr())
		if addrFile != "" {
			if err := writeAddr(addrFile, listener.Addr()); err != nil {
				return err
			}
		}
		h := &http.Server{Handler: server.Handler(), ReadHeaderTimeout: 10 * time.Second}
		stop := context.AfterFunc(ctx, func() { h.Close() })
		defer stop()
		if err := h.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		stats, err := json.MarshalIndent(server.Stats(), "", "  ")
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s\n", stats)
		}
		return err
	})
}

// demoNamed is what ESI knows of ids in a world with the invented pilots in it.
func demoNamed() func(id uint32) (standin.Named, bool) {
	known := map[uint32]standin.Named{}
	for _, e := range demo.Names() {
		n, _ := standin.MadeUp(e.ID) // where systems lie
		n.Category, n.Name, n.Ticker = e.Category, e.Name, e.Ticker
		known[e.ID] = n
	}
	return func(id uint32) (standin.Named, bool) {
		if n, ok := known[id]; ok {
			return n, true
		}
		return standin.MadeUp(id)
	}
}

// withoutZKB is the killmail as ESI has it.
func withoutZKB(killmail []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(killmail, &members) != nil {
		return killmail
	}
	delete(members, "zkb")
	body, err := json.Marshal(members)
	if err != nil {
		return killmail
	}
	return body
}

// someOfAll is every misbehaviour, each now and then.
func someOfAll() standin.Faults {
	chance := func(p float64) standin.Strike { return standin.Strike{Chance: p} }
	return standin.Faults{
		standin.Hole: chance(0.01), standin.Late: chance(0.02), standin.Reupload: chance(0.02),
		standin.Hang: {Chance: 0.001, For: 10 * time.Second}, standin.Forbidden: chance(0.001),
		standin.TooMany: {Chance: 0.005, RetryAfter: 2 * time.Second}, standin.ServerError: chance(0.01),
		standin.NotFound: chance(0.01), standin.HTML: chance(0.01), standin.Stale: chance(0.005), standin.Skew: chance(0.01),
		standin.WrongSequence: chance(0.01), standin.InvalidJSON: chance(0.01), standin.Truncated: chance(0.01),
		standin.WrongNames: chance(0.01), standin.Cut: chance(0.01), standin.Slow: chance(0.01),
		standin.SocketDrop: chance(0.005), standin.SocketSilent: chance(0.001),
	}
}

// parseFaults reads the misbehaviour that --faults asks for: a text, or @file.
func parseFaults(text string) (standin.Faults, error) {
	switch {
	case text == "":
		return nil, nil
	case text == "all":
		return someOfAll(), nil
	case text[0] == '@':
		b, err := os.ReadFile(text[1:])
		if err != nil {
			return nil, err
		}
		text = string(b)
	}
	var f standin.Faults
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return nil, usageError{fmt.Errorf("faults: %w", err)}
	}
	return f, nil
}
