package sde

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"killfeed"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/internal/sdesim"
)

const build = 3569502

// small are the members of an archive of a small world, for a test to change. Only updates with few accept it.
func small() map[string][]byte { return sdesim.Small(build).Members() }

// few accepts archives with two records of everything, where a real one must have thousands.
func few() []member {
	all := members()
	for i := range all {
		all[i].least = min(all[i].least, 2)
	}
	return all
}

// pack makes an archive.
func pack(t testing.TB, members map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := sdesim.Zip(&b, members); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// file writes a file in a directory of its own.
func file(t testing.TB, name string, data []byte) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// archiveOf is a file with the small world as the archive of a build. It has some MB that nobody wants, to be downloaded.
func archiveOf(t testing.TB, number int) string {
	t.Helper()
	members := sdesim.Small(number).Members()
	noise := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(noise)
	members["mapMoons.jsonl"] = noise
	return file(t, archiveName(number), pack(t, members))
}

// site is a stand-in of upstream in a bubble, and a data directory beside it.
type site struct {
	*standin.Server
	t    *testing.T
	wire *wire
	Options
}

func open(t *testing.T, dir string, archives ...string) *site {
	t.Helper()
	server, err := standin.New(standin.Config{StaticData: archives})
	if err != nil {
		t.Fatal(err)
	}
	pipe := standin.NewPipe()
	h := &http.Server{Handler: server.Handler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.Serve(pipe)
	}()
	w := &wire{transport: &http.Transport{DialContext: pipe.DialContext}, left: -1}
	client, err := upstream.New(upstream.Config{Version: "1", Contact: "test@example.com", Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.transport.CloseIdleConnections()
		server.Close()
		h.Close()
		<-ended
		synctest.Wait()
	})
	return &site{server, t, w, Options{Dir: dir, Client: client, URL: "http://standin/static-data/tranquility", members: few()}}
}

// update must succeed.
func (s *site) update() Result {
	s.t.Helper()
	r, err := Update(s.t.Context(), s.Options)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// mustLoad reads the index, which must be there.
func mustLoad(t testing.TB, dir string) (*killfeed.Universe, Info) {
	t.Helper()
	u, info, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return u, info
}

// entries are the names in the directory of static data, but for the lock.
func entries(t testing.TB, dir string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(staticDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if e.Name() != "lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

// wire is a client's end of the network. It cancels what is under way when so many bytes of an archive have come.
type wire struct {
	transport *http.Transport

	before func() // called before an archive is asked for; nil: nothing is

	mu     sync.Mutex // guards the rest
	left   int64      // below 0: it does not
	cancel context.CancelFunc
	ranges []string // that were asked for
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.before != nil && strings.HasSuffix(r.URL.Path, ".zip") {
		w.before()
	}
	res, err := w.transport.RoundTrip(r)
	if err == nil && res.Header.Get("Content-Type") == "application/zip" {
		w.mu.Lock()
		w.ranges = append(w.ranges, r.Header.Get("Range"))
		w.mu.Unlock()
		res.Body = &body{res.Body, w}
	}
	return res, err
}

// cut has the wire cancel after n more bytes.
func (w *wire) cut(n int64, cancel context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.cancel = n, cancel
}

type body struct {
	io.ReadCloser
	w *wire
}

func (b *body) Read(p []byte) (int, error) {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	if b.w.left == 0 {
		b.w.left = -1
		b.w.cancel()
		return 0, context.Canceled
	}
	if b.w.left > 0 {
		p = p[:min(int64(len(p)), b.w.left)]
	}
	n, err := b.ReadCloser.Read(p)
	if b.w.left > 0 {
		b.w.left -= int64(n)
	}
	return n, err
}
