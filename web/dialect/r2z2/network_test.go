package r2z2

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"killfeed"
	"killfeed/web"
)

// Over a network: a day comes packed, and each of its pieces may have its own time, through all that is wrapped around it.
func TestNetwork(t *testing.T) {
	s := newServer(t, killfeed.Options{})
	defer s.close()
	var deadline error
	probe := web.Route{Method: "GET", Path: "/probe", Serve: func(w http.ResponseWriter, _ *http.Request) {
		deadline = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
	}}
	if err := s.api.Mount(probe); err != nil {
		t.Fatal(err)
	}
	for range 300 { // more than a buffer of them
		s.insert(0, s.mail())
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := web.NewServer(s.api, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		<-ended
	}()
	get := func(path string) []byte {
		t.Helper()
		res, err := http.Get("http://" + l.Addr().String() + path) // which asks for gzip, and unpacks it
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: status %d (%v)", path, res.StatusCode, err)
		}
		if path != "/probe" && !res.Uncompressed {
			t.Errorf("%s is not packed", path)
		}
		return body
	}
	var day map[string]struct{ Victim *struct{} }
	if err := json.Unmarshal(get("/history/raw/20211127.json"), &day); err != nil || len(day) != 300 || day["90000001"].Victim == nil {
		t.Errorf("the day has %d killmails (%v), want 300", len(day), err)
	}
	if get("/probe"); deadline != nil {
		t.Errorf("an answer cannot have a deadline of its own: %v", deadline)
	}
}
