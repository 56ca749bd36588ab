package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"killfeed/sde"
	"killfeed/tokens"
	"killfeed/web"
)

// hangups has SIGHUP, which would end the process, delivered to the channel until stop. Windows has no such signal, and nothing
// ever comes.
func hangups() (again <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// lookEvery is how often files are looked at that may change while the server runs.
const lookEvery = 2 * time.Second

// secrets are the files that say who may do what, and who the server is. A running server takes them up again when they change.
// They are for one goroutine.
type secrets struct {
	app    *app
	api    *web.API
	static *sde.Watch
	cert   *certificate // nil without TLS
	tokens *fileWatch
	log    *slog.Logger
}

// loadTokens reads the tokens beside the admin token.
func (a *app) loadTokens(log *slog.Logger) (*tokens.Set, *fileWatch, error) {
	path := filepath.Join(a.settings.data, tokens.FileName)
	watch, err := watchFile(path)
	if err != nil {
		return nil, nil, err
	}
	set, err := tokens.Load(path)
	if err != nil {
		return nil, nil, err
	}
	if watch.last != nil && runtime.GOOS != "windows" && watch.last.Mode().Perm()&0o077 != 0 {
		log.Warn("others than the server may use the file of the tokens; make it 0600", "file", path, "mode", watch.last.Mode().Perm())
	}
	return set, watch, nil
}

// follow takes up what has changed, every two seconds and when it is told to, until ctx ends. What cannot be read stays as it was.
func (s *secrets) follow(ctx context.Context, again <-chan os.Signal) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-again:
			s.static.Reload()
			s.takeAdminToken()
			s.takeTokens()
			s.takeCertificate()
		case <-tick.C:
			// What cannot even be looked at was an error before, or will be one when it is read: it is no change.
			if changed, err := s.tokens.changed(); err == nil && changed {
				s.takeTokens()
			}
			if changed, err := s.cert.changed(); err == nil && changed {
				s.takeCertificate()
			}
		}
	}
}

func (s *secrets) takeAdminToken() {
	token, file, err := adminToken(s.app.settings.data, s.log)
	if err != nil {
		s.log.Error("the admin token could not be read again; the one before holds", "err", err)
		return
	}
	closed := s.api.SetAdminToken(token)
	s.log.Info("the admin token was read again", "file", file, "connections_closed", closed)
}

func (s *secrets) takeTokens() {
	set, watch, err := s.app.loadTokens(s.log)
	if err != nil {
		s.log.Error("the tokens could not be read again; those before hold, also such as were revoked", "err", err)
		return
	}
	s.tokens = watch
	closed := s.api.SetTokens(set)
	s.log.Info("the tokens were read again", "tokens", len(set.All()), "connections_closed", closed)
}

func (s *secrets) takeCertificate() {
	if s.cert == nil {
		return
	}
	if err := s.cert.load(); err != nil {
		s.log.Error("the TLS certificate could not be read again; the one before holds", "err", err)
		return
	}
	s.log.Info("the TLS certificate was read again", "file", s.cert.certFile, "expires", s.cert.current.Load().Leaf.NotAfter)
}
