package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest/standin"
	"killfeed/storetest"
)

// delivery is what a receiver was sent.
type delivery struct {
	at     time.Time
	header http.Header
	body   []byte
	query  string
}

// reply is what a receiver does with a delivery. It returns whether it took it.
type reply func(w http.ResponseWriter, r *http.Request) (took bool)

// receiver is a webhook's other end, connected without sockets. It answers by script, and then with 200.
type receiver struct {
	pipe *standin.Pipe

	mu     sync.Mutex // guards the rest
	script []reply
	always reply                                // when the script is over; nil: takes
	judge  func(body []byte, usual reply) reply // may choose by the body; nil: usual
	all    []delivery
	taken  []delivery
}

func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	d := delivery{time.Now(), r.Header.Clone(), body, r.URL.RawQuery}
	c.mu.Lock()
	c.all = append(c.all, d)
	do := c.always
	if len(c.script) > 0 {
		do, c.script = c.script[0], c.script[1:]
	}
	if do == nil {
		do = status(200)
	}
	if c.judge != nil {
		do = c.judge(body, do)
	}
	c.mu.Unlock()
	if do(w, r) {
		c.mu.Lock()
		c.taken = append(c.taken, d)
		c.mu.Unlock()
	}
}

func (c *receiver) then(replies ...reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.script = append(c.script, replies...)
}

func (c *receiver) from(now reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.always = now
}

func (c *receiver) got() (all, taken []delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all), slices.Clone(c.taken)
}

// status answers with a status and headers.
func status(code int, header ...string) reply { return says(code, "", header...) }

func says(code int, body string, header ...string) reply {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		if code != http.StatusNoContent {
			io.WriteString(w, body)
		}
		return code < 300
	}
}

// hang answers nothing until the caller leaves.
func hang(_ http.ResponseWriter, r *http.Request) bool {
	<-r.Context().Done()
	return false
}

// cut breaks the connection; took says whether that is all that goes wrong.
func cut(took bool) reply {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
		return took
	}
}

// slow takes after a while.
func slow(d time.Duration) reply {
	return func(w http.ResponseWriter, r *http.Request) bool {
		time.Sleep(d)
		w.WriteHeader(204)
		return true
	}
}

// world is a feed, receivers, and webhooks that run. It is for tests in a bubble.
type world struct {
	t     *testing.T
	model *storetest.Model
	feed  *killfeed.Feed
	dir   string
	log   logged
	book  Options // Names, and what else is to be set

	client *http.Transport
	hosts  map[string]*receiver
	set    *Set
	stop   func()
	next   int64 // the next killmail's id
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, model: storetest.NewModel(), dir: t.TempDir(), hosts: map[string]*receiver{}, next: 1000}
	w.client = newTransport()
	w.client.Proxy = nil
	w.client.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := strings.Cut(address, ":")
		c := w.hosts[host]
		if c == nil {
			return nil, fmt.Errorf("dial %s: no such host", address)
		}
		return c.pipe.DialContext(ctx, network, address)
	}
	w.open()
	t.Cleanup(func() {
		w.halt()
		w.client.CloseIdleConnections()
		synctest.Wait()
	})
	return w
}

// receiver makes one at http://<host>.
func (w *world) receiver(host string) *receiver {
	c := &receiver{pipe: standin.NewPipe()}
	w.hosts[host] = c
	server := &http.Server{Handler: c, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	var ended sync.WaitGroup
	ended.Go(func() { server.Serve(c.pipe) })
	w.t.Cleanup(func() {
		server.Close()
		c.pipe.Close()
		ended.Wait()
	})
	return c
}

func (w *world) open() {
	w.t.Helper()
	feed, err := killfeed.Open(w.model, killfeed.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.feed = feed
}

// run has webhooks run until halt.
func (w *world) run(configs ...Config) {
	w.t.Helper()
	o := w.book
	o.Show, o.Version, o.Dir, o.Transport, o.Logger = show, "1.2.3", w.dir, w.client, slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	set, err := New(w.feed, o, configs)
	if err != nil {
		w.t.Fatal(err)
	}
	w.set = set
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	for _, h := range set.Hooks() {
		running.Go(func() {
			if err := h.Run(ctx); err != nil {
				w.t.Error(err)
			}
		})
	}
	feed := w.feed
	w.stop = func() {
		cancel()
		running.Wait()
		set.Close()
		if err := feed.Close(); err != nil && w.model.State().Head > 0 {
			w.log.Write([]byte("closing: " + err.Error() + "\n"))
		}
	}
	synctest.Wait()
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	} else {
		w.feed.Close()
	}
}

// restart stops everything and starts it again; with kill, what was not on disk by now is lost.
func (w *world) restart(kill bool, configs ...Config) {
	w.t.Helper()
	if kill {
		w.model = w.model.Reopen()
		w.halt()
	} else {
		w.halt()
		w.model = w.model.Reopen()
	}
	w.open()
	w.run(configs...)
}

// insert inserts n killmails and returns their event ids.
func (w *world) insert(n int, change ...func(k map[string]any)) (ids []killfeed.EventID) {
	w.t.Helper()
	for range n {
		w.next++
		k := map[string]any{
			"killmail_id": w.next, "killmail_time": time.Now().UTC().Format(time.RFC3339), "solar_system_id": 30000142,
			"victim":    map[string]any{"character_id": 2100000001, "corporation_id": 98000001, "ship_type_id": 587},
			"attackers": []any{map[string]any{"character_id": 2100000002, "corporation_id": 98000002, "ship_type_id": 11393, "final_blow": true}},
			"zkb":       map[string]any{"totalValue": 1234567.89},
		}
		for _, f := range change {
			f(k)
		}
		text, err := json.Marshal(k)
		if err != nil {
			w.t.Fatal(err)
		}
		res, err := w.feed.Insert(w.t.Context(), 30000142, text)
		if err != nil {
			w.t.Fatal(err)
		}
		ids = append(ids, res.EventID)
	}
	return ids
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	time.Sleep(d) // of the bubble's clock
	synctest.Wait()
}

// show is what live streams tell, near enough.
func show(dst []byte, e *killfeed.Event, names bool) []byte {
	dst = append(e.AppendOpen(dst), e.Killmail...)
	if names {
		dst = append(dst, `,"names":{}`...)
	}
	return append(dst, fmt.Sprintf(`,"cursor":"%d-epoch"}`, e.ID)...)
}

// eventIDs are the events in deliveries of JSON.
func eventIDs(t *testing.T, all []delivery) (ids []killfeed.EventID) {
	t.Helper()
	for _, d := range all {
		ids = append(ids, idsIn(t, d.body)...)
	}
	return ids
}

func idsIn(t *testing.T, body []byte) (ids []killfeed.EventID) {
	t.Helper()
	type event struct {
		ID killfeed.EventID `json:"event_id"`
	}
	var one struct {
		event
		Events []event `json:"events"`
	}
	if err := json.Unmarshal(body, &one); err != nil {
		t.Errorf("%s: %v", body, err)
	}
	if one.ID > 0 {
		ids = append(ids, one.ID)
	}
	for _, e := range one.Events {
		ids = append(ids, e.ID)
	}
	return ids
}

func deadIDs(h *Hook) (ids []killfeed.EventID) {
	for _, d := range h.Dead() {
		ids = append(ids, d.EventID)
	}
	return ids
}

// logged is a log that a test looks into.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// plain is a webhook that posts JSON.
func plain(change ...func(*Config)) Config {
	c := Config{Name: "plain", URL: "http://plain.example/hook", Start: killfeed.Latest, GiveUp: DefaultGiveUp}
	for _, f := range change {
		f(&c)
	}
	return c
}

func spans(from, to killfeed.EventID) (ids []killfeed.EventID) {
	for id := from; id <= to; id++ {
		ids = append(ids, id)
	}
	return ids
}
