package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"killfeed"
	"killfeed/supervise"
	"killfeed/web"
	"killfeed/web/dialect/evekill"
	"killfeed/web/dialect/r2z2"
	"killfeed/web/dialect/redisq"
	"killfeed/web/dialect/wanderer"
	"killfeed/web/dialect/zkillws"
)

// dialectNames are the copies of older services, as the setting names them.
var dialectNames = []string{"redisq", "r2z2", "zkillws", "wanderer", "evekill"}

// mountDialects has the API serve the dialects that the settings switch on, before it serves.
func (a *app) mountDialects(api *web.API, feed *killfeed.Feed, tree *supervise.Tree, log *slog.Logger) error {
	on := []string(a.settings.dialects)
	switch {
	case len(on) == 0:
		on = dialectNames
	case slices.Equal(on, []string{off}):
		return nil
	}
	for _, name := range on {
		if !slices.Contains(dialectNames, name) {
			return usagef("dialects: %q is none%s: want some of %v, or off", name, didYouMean(name, dialectNames), dialectNames)
		}
	}
	mounting := func(name string, mount func() error) error {
		if !slices.Contains(on, name) {
			return nil
		}
		if err := mount(); err != nil {
			return fmt.Errorf("dialect %s: %w", name, err)
		}
		return nil
	}
	return errors.Join(
		mounting("redisq", func() error {
			d, err := redisq.Mount(api, feed, redisq.Options{
				MaxTTL: time.Duration(a.settings.redisqTTL), ByAddress: a.settings.redisqByAddress, Logger: log,
			})
			if err == nil {
				tree.Add("redisq queues", d.Run)
			}
			return err
		}),
		mounting("r2z2", func() error { return r2z2.Mount(api, feed, r2z2.Options{Logger: log}) }),
		mounting("zkillws", func() error { return zkillws.Mount(api, feed, zkillws.Options{Logger: log}) }),
		mounting("wanderer", func() error { return wanderer.Mount(api, feed, wanderer.Options{Logger: log}) }),
		mounting("evekill", func() error { return evekill.Mount(api, feed, evekill.Options{Logger: log}) }),
	)
}
