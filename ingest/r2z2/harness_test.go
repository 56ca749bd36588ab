package r2z2

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/storetest"
)

// wire calls a handler where a network would be. It can be cut.
type wire struct {
	handler http.Handler
	down    atomic.Bool
	tries   atomic.Int64
}

var errDown = errors.New("network is unreachable")

func (w *wire) RoundTrip(req *http.Request) (res *http.Response, err error) {
	w.tries.Add(1)
	if w.down.Load() {
		return nil, errDown
	}
	rec := httptest.NewRecorder()
	cut := false
	func() {
		defer func() {
			if p := recover(); p == http.ErrAbortHandler {
				cut = true
			} else if p != nil {
				panic(p)
			}
		}()
		w.handler.ServeHTTP(rec, req)
	}()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if cut && !rec.Flushed {
		return nil, io.ErrUnexpectedEOF
	}
	res = rec.Result()
	res.Request = req
	if cut {
		res.Body = io.NopCloser(io.MultiReader(res.Body, broken{}))
	}
	return res, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// world is a stand-in, a log, and the source between them. It lives in a bubble of synctest.
type world struct {
	t      *testing.T
	server *standin.Server
	wire   *wire
	model  *storetest.Model
	feed   *killfeed.Feed
	intake *ingest.Intake

	cancel context.CancelFunc
	ended  chan error
}

// mails makes up killmails in the true shape, a few seconds apart.
func mails(n int, seed uint64, start time.Time) []standin.Mail {
	return mailsEvery(n, seed, 0, start, 3*time.Second)
}

func mailsEvery(n int, seed uint64, firstID int64, start time.Time, every time.Duration) []standin.Mail {
	m := storetest.NewMaker(storetest.MakerOptions{Seed: seed, FirstID: firstID, Start: start, Every: every, Attackers: 2})
	all := make([]standin.Mail, n)
	for i := range all {
		mail := m.NextMail()
		mail.ZKB, mail.Labels, mail.NoHash = false, nil, true
		all[i] = standin.Mail{ESI: mail.AppendJSON(nil)}
	}
	return all
}

func newWorld(t *testing.T, c standin.Config) *world {
	t.Helper()
	if c.PointerLag == 0 {
		c.PointerLag = -1
	}
	s, err := standin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, server: s, wire: &wire{handler: s.Handler()}, model: storetest.NewModel()}
	w.open()
	return w
}

func (w *world) open() {
	feed, err := killfeed.Open(w.model, killfeed.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.feed = feed
}

func (w *world) start() {
	client, err := upstream.New(upstream.Config{Version: "test", Contact: "test@example.com", Transport: w.wire})
	if err != nil {
		w.t.Fatal(err)
	}
	src := New(Config{Client: client, URL: "http://upstream", Known: func(id int64) (bool, error) {
		_, ok, err := w.model.Known(id)
		return ok, err
	}})
	w.intake = ingest.NewIntake(w.feed, "r2z2", false, slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{
		Level: slog.LevelWarn,
	})))
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.ended = cancel, make(chan error, 1)
	go func() { w.ended <- w.intake.Run(ctx, src) }()
}

// stop ends the source.
func (w *world) stop() {
	w.cancel()
	if err := <-w.ended; err != nil {
		w.t.Errorf("the source ended with %v", err)
	}
}

// kill ends the source and the process around it, as kill -9 does, and opens the log again.
func (w *world) kill() {
	old := w.model
	w.model = old.Reopen() // what the source does from now on is lost
	w.cancel()
	<-w.ended
	w.feed.Close()
	w.open()
}

func (w *world) close() {
	w.feed.Close()
	w.server.Close()
}

// events are all events of the log.
func (w *world) events(updates bool) []killfeed.Event {
	w.t.Helper()
	var all []killfeed.Event
	var at killfeed.Cursor
	for {
		ans, err := w.feed.ReadAfter(context.Background(), at, killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}, Updates: updates})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, ans.Events...)
		if at = ans.Next; !ans.More {
			return all
		}
	}
}

// complete tells whether the log has every published killmail that has a file, each once. Late ones may be out of order when
// late is set.
func (w *world) complete(inOrder bool, ignore func(standin.File) bool) {
	w.t.Helper()
	var want, got []int64
	for _, f := range w.server.Files() {
		if ignore == nil || !ignore(f) {
			want = append(want, f.KillmailID)
		}
	}
	for _, e := range w.events(false) {
		got = append(got, e.KillmailID)
	}
	if !inOrder {
		slices.Sort(want)
		slices.Sort(got)
	}
	if slices.Equal(want, got) {
		return
	}
	w.t.Errorf("the log has %d killmails, want %d", len(got), len(want))
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			w.t.Errorf("at %d: got killmail %d, want %d", i, got[i], want[i])
			break
		}
	}
}

// manners checks what upstream asks of its callers, by the stand-in's own count.
func (w *world) manners() {
	w.t.Helper()
	st := w.server.Stats()
	if p := st.PeakByService[standin.ServiceR2Z2]; p > 10 {
		w.t.Errorf("%d requests in a second, want at most 10", p)
	}
	if g := st.After404; g.Count > 0 && g.Least < 6*time.Second {
		w.t.Errorf("number %d asked for again %v after a 404, want 6 s", g.Number, g.Least)
	}
	if st.BeforeRetryAfter > 0 {
		w.t.Errorf("%d requests before Retry-After was over", st.BeforeRetryAfter)
	}
	if st.NoContact > 0 {
		w.t.Errorf("%d requests without contact", st.NoContact)
	}
}
