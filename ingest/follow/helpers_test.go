package follow_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/follow"
	"killfeed/ingest/upstream"
	"killfeed/storetest"
	"killfeed/web"
)

const name = "killfeed:leader"

// leader is a killfeed that can be followed. Its parts are changed only while nobody follows, or in a bubble that waits.
type leader struct {
	t     *testing.T
	store *storetest.Model
	feed  *killfeed.Feed
	mails *storetest.Maker

	mu  sync.Mutex // guards the rest
	api http.Handler
	// spoil, when set, may answer instead, or spoil what was answered.
	spoil    func(r *http.Request, w *httptest.ResponseRecorder) error
	requests int
	queries  []string
}

func newLeader(t *testing.T) *leader {
	l := &leader{t: t, mails: storetest.NewMaker(storetest.MakerOptions{Attackers: 1, Bytes: 700})}
	l.replace(storetest.NewModel())
	t.Cleanup(func() { l.feed.Close() })
	return l
}

// replace gives the leader another log.
func (l *leader) replace(store *storetest.Model) {
	l.t.Helper()
	if l.feed != nil {
		l.feed.Close()
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	api, err := web.New(feed, web.Config{})
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store, l.feed, l.api = store, feed, api
}

// RoundTrip implements http.RoundTripper.
func (l *leader) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	api, spoil := l.api, l.spoil
	l.requests++
	l.queries = append(l.queries, r.URL.RawQuery)
	l.mu.Unlock()
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if spoil != nil {
		if err := spoil(r, w); err != nil {
			return nil, err
		}
	}
	res := w.Result()
	res.Request = r
	return res, nil
}

// asked is how many requests there were.
func (l *leader) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requests
}

// insert puts killmails into the leader.
func (l *leader) insert(marks killfeed.Marks, ks ...*killfeed.Killmail) {
	l.t.Helper()
	if _, err := l.feed.InsertAll(context.Background(), ks, marks); err != nil {
		l.t.Fatal(err)
	}
}

func (l *leader) insertNew(n int) {
	l.t.Helper()
	for range n {
		l.insert(0, l.mails.Next())
	}
}

// follower is a killfeed that follows a leader.
type follower struct {
	t      *testing.T
	leader *leader
	store  *storetest.Model
	feed   *killfeed.Feed
	in     *ingest.Intake
	config follow.Config
	log    bytes.Buffer

	cancel context.CancelFunc
	ended  chan error
}

// newFollower makes a follower that does not follow yet. It is for tests in a bubble.
func newFollower(t *testing.T, l *leader, c follow.Config) *follower {
	if c.URL == "" {
		c.URL = "http://leader.example/"
	}
	f := &follower{t: t, leader: l, store: storetest.NewModel(), config: c}
	t.Cleanup(f.stop)
	return f
}

// start follows.
func (f *follower) start() {
	f.t.Helper()
	var err error
	if f.feed, err = killfeed.Open(f.store, killfeed.Options{}); err != nil {
		f.t.Fatal(err)
	}
	client, err := upstream.New(upstream.Config{
		Version: "test", Contact: "test@example.com", Timeout: follow.Timeout, Every: time.Millisecond, Transport: f.leader,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	source, err := follow.New(client, f.config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.in = ingest.NewIntake(f.feed, name, false, slog.New(slog.NewTextHandler(&f.log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	f.cancel, f.ended = cancel, ended
	go func() { ended <- f.in.Run(ctx, source) }()
}

// stop ends the follower and closes its log.
func (f *follower) stop() {
	if f.cancel == nil {
		return
	}
	f.cancel()
	<-f.ended
	f.feed.Close()
	f.store = f.store.Reopen()
	f.cancel = nil
}

// kill ends the follower's log first: from one moment on nothing is stored any more.
func (f *follower) kill() {
	store := f.store.Reopen()
	f.stop()
	f.store = store
}

// record is what is compared of an event.
type record struct {
	ID         killfeed.EventID
	System     uint32
	KillmailID int64
	KilledAt   time.Time
	Marks      killfeed.Marks
	Killmail   string
}

func records(t *testing.T, feed *killfeed.Feed) (all []record) {
	t.Helper()
	st := feed.State()
	for id := st.First; id <= st.Head; id++ {
		e, err := feed.Event(id)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, record{id, e.SystemID, e.KillmailID, e.KilledAt, e.Marks, string(e.Killmail)})
	}
	return all
}

// same checks that the follower has what the leader has, in its order.
func (f *follower) same() {
	f.t.Helper()
	if d := cmp.Diff(records(f.t, f.leader.feed), records(f.t, f.feed)); d != "" {
		f.t.Errorf("the follower's log is not the leader's (-leader +follower):\n%.3000s", d)
	}
}

// sleep lets time pass, and then everything come to rest.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
