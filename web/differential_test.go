package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"killfeed"
	"killfeed/phoenix"
	"killfeed/storetest"
)

// TestTransportsAgree: a session of package phoenix on its own, a WebSocket and long polls answer any script in the same way:
// the same answers in the same order, and the same events on what is joined at the end.
func TestTransportsAgree(t *testing.T) {
	a := newAPI(t, Config{})
	mails := storetest.NewMaker(storetest.MakerOptions{Attackers: 1})
	for i := range 30 {
		m := mails.NextMail()
		m.System = []uint32{30000142, 30002053}[i%2]
		if _, err := a.feed.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, 0); err != nil {
			t.Fatal(err)
		}
	}
	a.awaitEvent(t, 30) // or it comes as a live one to the first
	web := httptest.NewServer(a)
	t.Cleanup(web.Close)
	t.Cleanup(func() {
		if left := a.Drain(context.Background(), 0); left != 0 {
			t.Errorf("%d connections are left", left)
		}
	})
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		s := script{version: rapid.SampledFrom([]phoenix.Version{phoenix.V1, phoenix.V2}).Draw(t, "version"), epoch: a.epoch}
		s.frames = rapid.SliceOfN(rapid.Custom(s.frame), 1, 10).Draw(t, "frames")
		if rapid.IntRange(0, 3).Draw(t, "end") == 0 {
			s.broken = rapid.SampledFrom([]string{"hello", "[1]", `{"topic":"x"}`, `[null,null,7,"x",{}]`}).Draw(t, "broken")
		}
		runs++
		want := s.over(t, "alone", runs, &alone{api: a})
		for name, c := range map[string]carrier{"a WebSocket": &overSocket{url: web.URL}, "long polls": &overPolls{url: web.URL}} {
			if diff := cmp.Diff(want, s.over(t, name, runs, c)); diff != "" {
				t.Fatalf("the session alone (-) and over %s (+):\n%s", name, diff)
			}
		}
	})
}

// awaitEvent waits until readers are told of an event.
func (a *API) awaitEvent(t *testing.T, id killfeed.EventID) {
	t.Helper()
	c := &alone{api: a}
	if err := c.open("2.0.0"); err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.send(fmt.Sprintf(`["1","1","all","phx_join",{"start":%d}]`, id)); err != nil {
		t.Fatal(err)
	}
	for {
		messages, err := c.receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if strings.Contains(m, fmt.Sprintf(`{"event_id":%d,`, id)) {
				return
			}
		}
	}
}

// script is what a client sends.
type script struct {
	version phoenix.Version
	epoch   killfeed.Epoch
	frames  []string
	broken  string // sent at the end, if not empty; the connection has to end by it
}

// frame makes up one. CLIENT is a client's name of the connection's own.
func (s *script) frame(t *rapid.T) string {
	pick := func(what string, of ...string) string { return rapid.SampledFrom(of).Draw(t, what) }
	joinRef := pick("join_ref", `null`, `"1"`, `"1"`, `"2"`, `3`, `""`)
	ref := pick("ref", `null`, `"1"`, `"2"`, `3`, `"☃\n"`)
	topic := pick("topic", "system:30000142", "system:30000142", "system:30002053", "all", "killfeed", "killfeed", "phoenix", "nosuch", "system:abc", "region:1")
	event := pick("event", "phx_join", "phx_join", "phx_join", "phx_leave", "heartbeat", "commit", "update", "nosuch")
	payload := strings.ReplaceAll(pick("payload", `{}`, `{}`, `{"start":"earliest"}`, `{"after":"20-EPOCH"}`, `{"after":"99-00000000"}`, `{"start":"nonsense"}`, `"x"`, `null`, `[]`,
		`{"systems":[30000142],"start":5}`, `{"systems":[30000142,30002053],"topics":["all"],"start":"earliest"}`, `{"systems":[]}`,
		`{"add":{"systems":[30002053]}}`, `{"remove":{"systems":[30000142]}}`, `{"event_id":3}`, `{"event_id":999}`, `{"event_id":"3-EPOCH"}`,
		`{"client_id":"CLIENT","start":"earliest","commit":"manual","systems":[30000142]}`, `{"client_id":"CLIENT","start":7,"systems":[1,2,3]}`), "EPOCH", string(s.epoch))
	if s.version == phoenix.V1 || rapid.IntRange(0, 5).Draw(t, "as object") == 0 {
		if rapid.Bool().Draw(t, "without join_ref") {
			return fmt.Sprintf(`{"topic":%q,"event":%q,"payload":%s,"ref":%s}`, topic, event, payload, ref)
		}
		return fmt.Sprintf(`{"join_ref":%s,"topic":%q,"event":%q,"payload":%s,"ref":%s}`, joinRef, topic, event, payload, ref)
	}
	return fmt.Sprintf(`[%s,%s,%q,%q,%s]`, joinRef, ref, topic, event, payload)
}

// outcome is what a script leads to.
type outcome struct {
	Answers []string
	// Events are those of the channels that are joined at the end, by what stands before and behind them: topic, join_ref, and
	// form. What was sent on channels that have ended depends on how fast it was.
	Events map[string][]string
}

// carrier carries a script.
type carrier interface {
	open(vsn string) error
	// send sends frames that can be read.
	send(frames ...string) error
	// receive returns what there is, at least one message.
	receive() ([]string, error)
	// end sends a frame that cannot be read. The error says that the connection has not ended by it.
	end(broken string) error
	close()
}

// over runs the script.
func (s *script) over(t *rapid.T, name string, run int, c carrier) outcome {
	fail := func(err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	vsn := map[phoenix.Version]string{phoenix.V1: "1.0.0", phoenix.V2: "2.0.0"}[s.version]
	fail(c.open(vsn))
	defer c.close()
	client := fmt.Sprintf("%s %d", name, run)
	fill, neutral := strings.NewReplacer("CLIENT", client), strings.NewReplacer(client, "CLIENT")
	o := outcome{Events: map[string][]string{}}
	// beat is a heartbeat, whose reply comes behind all other answers.
	beats := 0
	beat := func() (frame, reply string) {
		beats++
		ref := fmt.Sprintf("beat %d", beats)
		if s.version == phoenix.V1 {
			return fmt.Sprintf(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":%q}`, ref),
				fmt.Sprintf(`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":%q,"topic":"phoenix"}`, ref)
		}
		return fmt.Sprintf(`[null,%q,"phoenix","heartbeat",{}]`, ref), fmt.Sprintf(`[null,%q,"phoenix","phx_reply",{"response":{},"status":"ok"}]`, ref)
	}
	until := func(reply string) {
		for {
			messages, err := c.receive()
			fail(err)
			done := false
			for _, m := range messages {
				switch before, rest, pushed := strings.Cut(m, `{"event_id":`); {
				case m == reply:
					done = true
				case pushed && strings.Contains(before, "new_killmail"):
					at := strings.LastIndex(rest, `,"cursor":"`)
					end := at + strings.IndexByte(rest[at:], '}') + 1
					o.Events[before+"…"+rest[end:]] = append(o.Events[before+"…"+rest[end:]], rest[:end])
				default:
					o.Answers = append(o.Answers, neutral.Replace(m))
					// What was joined anew or has ended is not compared.
					for key := range o.Events {
						if sameChannel(key, m) {
							delete(o.Events, key)
						}
					}
				}
			}
			if done {
				return
			}
		}
	}
	for _, f := range s.frames {
		frame, reply := beat()
		fail(c.send(fill.Replace(f), frame))
		until(reply)
		// What history a join brings is read when this is answered, and known to be written.
		frame, reply = beat()
		fail(c.send(frame))
		until(reply)
	}
	if s.broken != "" {
		fail(c.end(s.broken))
	}
	return o
}

// sameChannel tells whether an answer is the beginning or the end of the channel that events came on.
func sameChannel(key, answer string) bool {
	if !strings.Contains(answer, "phx_close") && !strings.Contains(answer, "phx_error") && !strings.Contains(answer, `"epoch"`) {
		return false
	}
	for _, topic := range []string{`"system:30000142"`, `"system:30002053"`, `"all"`, `"killfeed"`} {
		if strings.Contains(key, topic) && strings.Contains(answer, topic) {
			return true
		}
	}
	return false
}

// alone is a talk without a transport.
type alone struct {
	api  *API
	talk *talk
	rung chan struct{}
}

func (c *alone) open(vsn string) error {
	version, err := phoenix.ParseVersion(vsn)
	c.rung = make(chan struct{}, 1)
	c.talk = c.api.newTalk(admission{version: version}, func() {
		select {
		case c.rung <- struct{}{}:
		default:
		}
	})
	return err
}

func (c *alone) send(frames ...string) error {
	for _, f := range frames {
		if err := c.talk.message(true, []byte(f)); err != nil {
			return err
		}
	}
	return nil
}

func (c *alone) end(broken string) error {
	var err *phoenix.BrokenError
	if !errors.As(c.send(broken), &err) {
		return errors.New("it was read")
	}
	return nil
}

func (c *alone) receive() ([]string, error) {
	m := messages{}
	for !c.talk.pull(&m, false) {
		select {
		case <-c.rung:
		case <-time.After(time.Minute):
			return nil, errors.New("nothing comes")
		}
	}
	c.talk.written()
	return m, nil
}

func (c *alone) close() { c.talk.end() }

// overSocket carries it over a WebSocket.
type overSocket struct {
	url  string
	conn *websocket.Conn
}

func (c *overSocket) open(vsn string) (err error) {
	c.conn, _, err = websocket.Dial(context.Background(), c.url+"/socket/websocket?vsn="+vsn, nil)
	if err == nil {
		c.conn.SetReadLimit(1 << 20)
	}
	return err
}

func (c *overSocket) send(frames ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, f := range frames {
		if err := c.conn.Write(ctx, websocket.MessageText, []byte(f)); err != nil {
			return err
		}
	}
	return nil
}

func (c *overSocket) end(broken string) error {
	err := c.send(broken)
	for err == nil {
		_, err = c.receive()
	}
	if code := websocket.CloseStatus(err); code != 1003 && code != 1007 {
		return err
	}
	return nil
}

func (c *overSocket) receive() ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, text, err := c.conn.Read(ctx)
	return []string{string(text)}, err
}

func (c *overSocket) close() { c.conn.CloseNow() }

// overPolls carries it over long polls.
type overPolls struct{ url string }

func (c *overPolls) open(vsn string) error {
	c.url += "/socket/longpoll?vsn=" + vsn
	_, err := c.ask(http.MethodGet, "")
	return err
}

func (c *overPolls) ask(method, body string) (a struct {
	Messages []string
	Status   int
	Token    string
}, err error) {
	r, err := http.NewRequest(method, c.url, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	err = json.NewDecoder(res.Body).Decode(&a)
	if a.Token != "" && !strings.Contains(c.url, "token=") {
		c.url += "&token=" + a.Token
	}
	return a, err
}

func (c *overPolls) send(frames ...string) error {
	a, err := c.ask(http.MethodPost, strings.Join(frames, "\n"))
	if err == nil && a.Status != pollOK {
		err = fmt.Errorf("status %d", a.Status)
	}
	return err
}

func (c *overPolls) end(broken string) error {
	if a, err := c.ask(http.MethodPost, broken); err != nil || a.Status != pollGone {
		return fmt.Errorf("it is answered with status %d, %v", a.Status, err)
	}
	return nil
}

func (c *overPolls) receive() ([]string, error) {
	a, err := c.ask(http.MethodGet, "")
	if err == nil && a.Status != pollOK {
		err = fmt.Errorf("status %d", a.Status)
	}
	return a.Messages, err
}

func (c *overPolls) close() {}
