package web_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"killfeed/web"
)

// listen serves h on a real port until the test ends, and returns the server and its address.
func (s *server) listen(h http.Handler) (*http.Server, string) {
	s.t.Helper()
	srv := web.NewServer(h, slog.New(slog.DiscardHandler))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	s.t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			s.t.Errorf("shutting down: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			s.t.Errorf("serving ended with %v, want ErrServerClosed", err)
		}
	})
	return srv, ln.Addr().String()
}
