package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"killfeed/sde"
	"killfeed/web"
)

// hangups has SIGHUP, which would end the process, delivered to the channel until stop. Windows has no such signal, and nothing
// ever comes.
func hangups() (again <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// followHangups reads the admin token anew each time that it is told to, and has a new index of static data looked for, until ctx
// ends. When the token cannot be read, it stays what it was.
func (a *app) followHangups(ctx context.Context, again <-chan os.Signal, api *web.API, static *sde.Watch, log *slog.Logger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
		}
		static.Reload()
		token, file, err := adminToken(a.settings.data, log)
		if err != nil {
			log.Error("the admin token could not be read again; the one before holds", "err", err)
			continue
		}
		closed := api.SetAdminToken(token)
		log.Info("the admin token was read again", "file", file, "connections_closed", closed)
	}
}
