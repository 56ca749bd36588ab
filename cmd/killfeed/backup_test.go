package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"killfeed"
	"killfeed/jetstream"
	"killfeed/pebblestore"
	"killfeed/web"
)

// ran runs a command line in this process.
func ran(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, nil, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// small is the directory of a log with a few killmails, and the bytes of a backup of it.
func small(t *testing.T, places ...killfeed.Checkpoint) (dir string, backup []byte) {
	t.Helper()
	dir = t.TempDir()
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= 20; id++ {
		k, err := killfeed.ParseItem([]byte(madeUp(id)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := feed.InsertAll(t.Context(), []*killfeed.Killmail{k}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Commit(&killfeed.Batch{Checkpoints: places}); err != nil && len(places) > 0 {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := store.Backup(t.Context(), &out, "test", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, out.Bytes()
}

// TestBackupBrokenOff: what breaks off on its way, or comes from something else, gets no name.
func TestBackupBrokenOff(t *testing.T) {
	_, backup := small(t)
	for name, serve := range map[string]http.HandlerFunc{
		"broken off": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			w.Write(backup[:len(backup)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"short":          func(w http.ResponseWriter, _ *http.Request) { w.Write(backup[:len(backup)-100]) },
		"something else": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>hello</html>")) },
		"refused":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
	} {
		s := httptest.NewServer(serve)
		dir := t.TempDir()
		code, out, errs := ran(t, "backup", "--server", s.URL, "--to", filepath.Join(dir, "b.tar.zst"))
		s.Close()
		left, err := os.ReadDir(dir)
		if code != exitFailure || out != "" || errs == "" || len(left) > 0 || err != nil {
			t.Errorf("%s: exit code %d, %q, %q; left are %v, %v", name, code, out, errs, left, err)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(backup) }))
	defer s.Close()
	dir := t.TempDir()
	if code, _, errs := ran(t, "backup", "--server", s.URL, "--to", dir); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0].Name(), "-20.tar.zst") {
		t.Fatalf("there are %v, %v", left, err)
	}
	if content, err := os.ReadFile(filepath.Join(dir, left[0].Name())); err != nil || !bytes.Equal(content, backup) {
		t.Errorf("the file is not what was sent, %v", err)
	}
}

// slowWriter is a caller who takes nothing more after the first bytes, until it is let go.
type slowWriter struct {
	http.ResponseWriter
	begun, release chan struct{}
	once           bool
}

func (w *slowWriter) Write(b []byte) (int, error) {
	if !w.once {
		w.once = true
		close(w.begun)
		<-w.release
	}
	return w.ResponseWriter.Write(b)
}

// TestBackupRoute: a backup is the admin's, and one is made at a time.
func TestBackupRoute(t *testing.T) {
	dir, _ := small(t)
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	api, err := web.New(feed, web.Config{AdminToken: "0123456789abcdef"})
	if err != nil {
		t.Fatal(err)
	}
	if err := mountBackup(api, store, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	ask := func(w http.ResponseWriter, token string) {
		r := httptest.NewRequestWithContext(context.Background(), "GET", "/api/backup", nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		api.ServeHTTP(w, r)
	}
	for token, want := range map[string]int{"": 401, "0123456789abcdeX": 403, "0123456789abcdef": 200} {
		w := httptest.NewRecorder()
		ask(w, token)
		if w.Code != want {
			t.Errorf("with the token %q it is answered %d, want %d", token, w.Code, want)
		}
		if want == 200 {
			if made, err := pebblestore.ReadBackup(t.Context(), w.Body, nil); err != nil || made.Head != 20 {
				t.Errorf("the backup is %+v, %v", made, err)
			}
		}
	}
	slow := &slowWriter{ResponseWriter: httptest.NewRecorder(), begun: make(chan struct{}), release: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ask(slow, "0123456789abcdef")
	}()
	<-slow.begun
	w := httptest.NewRecorder()
	if ask(w, "0123456789abcdef"); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second one is answered %d", w.Code)
	}
	close(slow.release)
	<-done
	w = httptest.NewRecorder()
	if ask(w, "0123456789abcdef"); w.Code != 200 {
		t.Errorf("the next one is answered %d", w.Code)
	}
}

// TestRestoreOfNode: the copy of a node's log is a log of its own.
func TestRestoreOfNode(t *testing.T) {
	_, backup := small(t, killfeed.Checkpoint{Source: "cluster", Place: "something"})
	work := t.TempDir()
	file, dir := filepath.Join(work, "b.tar.zst"), filepath.Join(work, "data")
	if err := os.WriteFile(file, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := ran(t, "restore", "--from", file, "--data", dir)
	if code != exitOK || !strings.Contains(errs, "note: the backup is that of a node of a cluster") {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if node, err := jetstream.IsNode(store); node || err != nil {
		t.Errorf("the copy is a node's: %v, %v", node, err)
	}
}
