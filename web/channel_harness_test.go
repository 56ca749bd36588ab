package web_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"killfeed"
)

// patience bounds every wait. None needs a hundredth of it, and in a bubble of synctest it passes at once.
const patience = 30 * time.Second

// online serves the API on a real port until the test ends, and tells how to reach it. At the end all connections have to end.
func (s *server) online() dialing {
	s.t.Helper()
	_, addr := s.listen(s.api)
	s.lookAfter()
	return dialing{host: addr}
}

// lookAfter runs what looks after connections until the test ends.
func (s *server) lookAfter() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.api.Run(ctx) }()
	s.t.Cleanup(func() {
		if left := s.api.Drain(ctx, 0); left != 0 {
			s.t.Errorf("%d connections have not ended", left)
		}
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
}

// wire is a client of Channels over WebSocket that knows nothing but texts: they are compared byte for byte. In what is sent
// and wanted EPOCH stands for the log's epoch.
type wire struct {
	s      *server
	t      testing.TB
	conn   *websocket.Conn
	reads  chan string // closed behind err; nil when nobody reads beside the test
	err    error
	header http.Header // of the handshake's answer
}

// dialing is how to reach a server.
type dialing struct {
	client *http.Client // nil: the usual one
	host   string
	header http.Header
	// byHand: nothing is read but what next asks for.
	byHand bool
	// loose: the test itself closes the socket, and it is not remembered until the end.
	loose bool
}

// dial opens a socket, whose handshake has to be accepted. query is like "vsn=2.0.0".
func (s *server) dial(d dialing, query string, protocols ...string) *wire {
	s.t.Helper()
	w, res, err := s.tryDial(d, query, protocols...)
	if err != nil {
		s.t.Fatalf("opening a socket: %v (%+v)", err, res)
	}
	return w
}

func (s *server) tryDial(d dialing, query string, protocols ...string) (*wire, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, "ws://"+d.host+"/socket/websocket?"+query, &websocket.DialOptions{
		HTTPClient: d.client, HTTPHeader: d.header, Subprotocols: protocols,
	})
	if err != nil {
		return nil, res, err
	}
	conn.SetReadLimit(1 << 26)
	w := &wire{s: s, t: s.t, conn: conn, header: res.Header}
	if !d.loose {
		s.t.Cleanup(func() { conn.CloseNow() })
	}
	if !d.byHand {
		w.read()
	}
	return w, res, nil
}

// read takes all that comes, from here on.
func (w *wire) read() {
	w.reads = make(chan string, 1<<15)
	go func() {
		defer close(w.reads)
		for {
			kind, text, err := w.conn.Read(context.Background())
			if err != nil {
				w.err = err
				return
			}
			if kind != websocket.MessageText {
				text = fmt.Appendf(nil, "binary %q", text)
			}
			w.reads <- string(text)
		}
	}()
}

func (w *wire) fill(text string) string {
	return strings.ReplaceAll(text, "EPOCH", string(w.s.feed.State().Epoch))
}

// send sends texts, each in a frame.
func (w *wire) send(texts ...string) *wire {
	w.t.Helper()
	for _, text := range texts {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := w.conn.Write(ctx, websocket.MessageText, []byte(w.fill(text)))
		cancel()
		if err != nil {
			w.t.Fatalf("sending %.100s: %v", text, err)
		}
	}
	return w
}

// next is the next text.
func (w *wire) next() string {
	w.t.Helper()
	if w.reads == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, text, err := w.conn.Read(ctx)
		if err != nil {
			w.t.Fatalf("the socket is closed: %v", err)
		}
		return string(text)
	}
	select {
	case text, ok := <-w.reads:
		if !ok {
			w.t.Fatalf("the socket is closed: %v", w.err)
		}
		return text
	case <-time.After(patience):
		w.t.Fatal("nothing comes")
	}
	return ""
}

// want fails the test unless these come next.
func (w *wire) want(texts ...string) *wire {
	w.t.Helper()
	for _, text := range texts {
		if got, want := w.next(), w.fill(text); got != want {
			w.t.Fatalf("there came\n%.2000s\nwant\n%.2000s", got, want)
		}
	}
	return w
}

// quiet fails the test when anything comes before the answer to a heartbeat. It says so in both versions.
func (w *wire) quiet() *wire {
	w.t.Helper()
	w.send(`[null,"quiet","phoenix","heartbeat",{}]`)
	return w.want(`[null,"quiet","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
}

// closed fails the test unless the server closes the socket next, with the code; it returns the reason.
func (w *wire) closed(code int) (reason string) {
	w.t.Helper()
	select {
	case text, ok := <-w.reads:
		if ok {
			w.t.Fatalf("there came %.200s, want the end with %d", text, code)
		}
	case <-time.After(patience):
		w.t.Fatalf("nothing comes, want the end with %d", code)
	}
	var closed websocket.CloseError
	if !errors.As(w.err, &closed) || int(closed.Code) != code {
		w.t.Fatalf("the socket is closed with %v, want %d", w.err, code)
	}
	return closed.Reason
}

// join joins a topic with V2 and returns what the reply says.
func (w *wire) join(ref, topic, params string) place {
	w.t.Helper()
	w.send(fmt.Sprintf(`[%q,%q,%q,"phx_join",%s]`, ref, ref, topic, params))
	return w.joined(ref, topic)
}

// joined takes the reply to a join, which has to be ok.
func (w *wire) joined(ref, topic string) (p place) {
	w.t.Helper()
	m := parse(w.t, w.next())
	if m.joinRef != ref || m.ref != ref || m.topic != topic || m.event != "phx_reply" || m.status() != "ok" {
		w.t.Fatalf("there came %+v, want that %s is joined", m, topic)
	}
	var payload struct{ Response *place }
	payload.Response = &p
	if err := json.Unmarshal(m.payload, &payload); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// place is what a join is answered with.
type place struct {
	Head, Start killfeed.EventID
	Epoch       killfeed.Epoch
	Cursor      string
	Gap         *killfeed.Gap
}

// message is a frame of V2, with refs that are strings, or null as the empty string.
type message struct {
	joinRef, ref, topic, event string
	payload                    json.RawMessage
}

func parse(t testing.TB, text string) (m message) {
	t.Helper()
	var parts []json.RawMessage
	if err := json.Unmarshal([]byte(text), &parts); err != nil || len(parts) != 5 {
		t.Fatalf("%.200s is no message of V2: %v", text, err)
	}
	for i, to := range []*string{&m.joinRef, &m.ref, &m.topic, &m.event} {
		if err := json.Unmarshal(parts[i], to); err != nil {
			t.Fatalf("%.200s: %v", text, err)
		}
	}
	m.payload = parts[4]
	return m
}

// status is that of a reply, empty for other messages.
func (m *message) status() string {
	var p struct{ Status string }
	if m.event == "phx_reply" {
		_ = json.Unmarshal(m.payload, &p)
	}
	return p.Status
}

// id is that of the event that a push carries.
func (m *message) id() killfeed.EventID {
	var p struct {
		EventID killfeed.EventID `json:"event_id"`
	}
	_ = json.Unmarshal(m.payload, &p)
	return p.EventID
}

// idOf is the id of the event that a frame pushes, 0 when it pushes none. It is for many frames, of which nothing else matters.
func idOf(text string) (id killfeed.EventID) {
	if _, rest, ok := strings.Cut(text, `"new_killmail",{"event_id":`); ok {
		digits, _, _ := strings.Cut(rest, ",")
		n, _ := strconv.ParseUint(digits, 10, 64)
		id = killfeed.EventID(n)
	}
	return id
}

// live is an event as live edges send it: what polling says of it, with its cursor.
func (s *server) live(id killfeed.EventID) string {
	s.t.Helper()
	var p struct{ Events []json.RawMessage }
	s.get(fmt.Sprintf("/api/killfeed?after=%d&topics=all&limit=1&updates=1", id-1)).into(&p)
	if len(p.Events) != 1 {
		s.t.Fatalf("there is no event %d", id)
	}
	event := string(p.Events[0])
	return fmt.Sprintf(`%s,"cursor":"%d-EPOCH"}`, strings.TrimSuffix(event, "}"), id)
}

// pushed is the frame of V2 that pushes an event.
func (s *server) pushed(joinRef, topic string, id killfeed.EventID) string {
	return fmt.Sprintf(`[%q,null,%q,"new_killmail",%s]`, joinRef, topic, s.live(id))
}

// pushedAll are the frames of several.
func (s *server) pushedAll(joinRef, topic string, ids ...killfeed.EventID) (frames []string) {
	for _, id := range ids {
		frames = append(frames, s.pushed(joinRef, topic, id))
	}
	return frames
}

// The usual answers.
func okJoin(ref, topic string, head, start int) string {
	return fmt.Sprintf(`[%q,%q,%q,"phx_reply",{"response":{"head":%d,"epoch":"EPOCH","start":%d,"cursor":"%d-EPOCH"},"status":"ok"}]`,
		ref, ref, topic, head, start, start-1)
}

func okReply(joinRef, ref, topic string) string {
	return fmt.Sprintf(`[%q,%q,%q,"phx_reply",{"response":{},"status":"ok"}]`, joinRef, ref, topic)
}

func phxClose(joinRef, topic string) string {
	return fmt.Sprintf(`[%q,%q,%q,"phx_close",{}]`, joinRef, joinRef, topic)
}

func unmatched(ref, topic string) string {
	return fmt.Sprintf(`[null,%q,%q,"phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]`, ref, topic)
}

// moody is a store on whose reads something can happen. It is put in with moody, before anything is read.
type moody struct {
	killfeed.Store
	// onTime is called by joins that begin at a time, onRead when events are read.
	onTime, onRead atomic.Pointer[func() error]
}

func (s *server) moody() *moody {
	m := &moody{Store: s.disk.Store}
	s.disk.Store = m
	return m
}

func call(f *atomic.Pointer[func() error]) error {
	if f := f.Load(); f != nil {
		return (*f)()
	}
	return nil
}

func (m *moody) ReceivedFrom(t time.Time) (killfeed.EventID, error) {
	if err := call(&m.onTime); err != nil {
		return 0, err
	}
	return m.Store.ReceivedFrom(t)
}

func (m *moody) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	if err := call(&m.onRead); err != nil {
		return dst, err
	}
	return m.Store.Find(dst, q)
}

func (m *moody) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	if err := call(&m.onRead); err != nil {
		return err
	}
	return m.Store.Read(ids, yield)
}

// decode decodes JSON that has to be good.
func decode(t testing.TB, text []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%v in %.200s", err, text)
	}
}
