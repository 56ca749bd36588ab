package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"killfeed/web"
)

// The admin listener has what is for whoever looks into the running process: profiles, the level of the log, how it was built. It
// is another address than the public one, so that no mistake in the routes of that one, and none in a proxy's, opens it to
// strangers.

// listenAdmin opens the admin listener's address; nil when there is none.
func (a *app) listenAdmin() (net.Listener, error) {
	if a.settings.adminListen == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", a.settings.adminListen)
	if err != nil {
		return nil, hint(fmt.Errorf("cannot listen on %s: %w", a.settings.adminListen, err),
			"--admin-listen wants host:port of this machine, as in 127.0.0.1:6060, and another one than --listen")
	}
	return listener, nil
}

// adminHandler serves the admin listener. On a loopback address whoever is on the machine may use it, as he may a debugger;
// anywhere else the admin token is needed.
func (a *app) adminHandler(addr net.Addr, api *web.API) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /log-level", func(w http.ResponseWriter, _ *http.Request) { a.showLevel(w) })
	mux.HandleFunc("PUT /log-level", a.setLevel)
	mux.HandleFunc("GET /build", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(readBuild()) // an error means that the caller left
	})
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		return noPages(mux)
	}
	return api.Admin(mux)
}

// noPages refuses what pages in a browser on this machine ask for: those of other sites, and of a site whose name was made to mean
// this machine. A profile costs time, and a log level is not theirs to change.
func noPages(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		named := net.ParseIP(strings.Trim(host, "[]")) == nil && host != "localhost"
		site := r.Header.Get("Sec-Fetch-Site")
		if named || r.Header.Get("Origin") != "" || site != "" && site != "none" {
			http.Error(w, "this is for programs and for who types its address in, by number or as localhost", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (a *app) showLevel(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintln(w, strings.ToLower(a.level.Level().String()))
}

// setLevel changes the level of the log until the server ends.
func (a *app) setLevel(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64))
	var level string
	value := choice(&level, "info", logLevels...)
	if err == nil {
		err = value.Set(strings.TrimSpace(string(text)))
	}
	if err == nil {
		err = a.level.UnmarshalText([]byte(level))
	}
	if err != nil {
		http.Error(w, fmt.Sprintf("that is no level: want one of %s as the body", strings.Join(logLevels, ", ")), http.StatusBadRequest)
		return
	}
	a.showLevel(w)
}

// serveAdmin serves the admin listener until ctx ends.
func (a *app) serveAdmin(ctx context.Context, listener net.Listener, api *web.API, log *slog.Logger) error {
	server := &http.Server{
		Handler:           a.adminHandler(listener.Addr(), api),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := context.AfterFunc(ctx, func() { server.Close() }) // a profile of a minute is not waited for
	defer stopped()
	log.Info("the admin listener is open", "url", "http://"+listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	}
	return nil
}
