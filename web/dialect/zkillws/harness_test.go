package zkillws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
	"killfeed/web/dialect/zkillws"
)

// patience bounds every wait; none needs a hundredth of it.
const patience = 30 * time.Second

const (
	jita   = 30000142
	hek    = 30002053
	marker = 31000001 // no killmail of a test is there but those that say that all before them has come
)

// captures is where genuine messages are.
const captures = "../../../../shared/data/"

// server is an API with the dialect, over a log in memory.
type server struct {
	t     *testing.T
	model *storetest.Model
	feed  *killfeed.Feed
	api   *web.API
	http  *httptest.Server
	mails *storetest.Maker
	log   bytes.Buffer
	stop  func()
}

type options struct {
	model    *storetest.Model
	universe *killfeed.Universe
	web      web.Config
	dialect  zkillws.Options
}

func serve(t *testing.T, o options) *server {
	t.Helper()
	if o.model == nil {
		o.model = storetest.NewModel()
	}
	s := &server{t: t, model: o.model, mails: storetest.NewMaker(storetest.MakerOptions{Attackers: 3})}
	var err error
	if s.feed, err = killfeed.Open(o.model, killfeed.Options{}); err != nil {
		t.Fatal(err)
	}
	s.feed.SetUniverse(o.universe)
	if s.api, err = web.New(s.feed, o.web); err != nil {
		t.Fatal(err)
	}
	o.dialect.Logger = slog.New(slog.NewTextHandler(&s.log, nil))
	if err := zkillws.Mount(s.api, s.feed, o.dialect); err != nil {
		t.Fatal(err)
	}
	s.http = httptest.NewServer(s.api)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.api.Run(ctx) })
	s.stop = sync.OnceFunc(func() {
		if left := s.api.Drain(ctx, 0); left != 0 {
			t.Errorf("%d connections have not ended", left)
		}
		cancel()
		running.Wait()
		s.http.Close()
		if n := s.feed.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
		if err := s.feed.Close(); err != nil {
			t.Errorf("closing the feed: %v", err)
		}
		if s.log.Len() > 0 {
			t.Errorf("the log says %s", &s.log)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// restart is the next process with the same log.
func (s *server) restart() *server {
	s.stop()
	next := serve(s.t, options{model: s.model.Reopen(), universe: s.feed.Universe()})
	next.mails = s.mails
	return next
}

// insert inserts killmails of any shape.
func (s *server) insert(marks killfeed.Marks, items ...[]byte) killfeed.EventID {
	s.t.Helper()
	var last killfeed.EventID
	for _, item := range items {
		k, err := killfeed.ParseItem(item)
		if err != nil {
			s.t.Fatal(err)
		}
		res, err := s.feed.InsertAll(context.Background(), []*killfeed.Killmail{k}, marks)
		if err != nil {
			s.t.Fatal(err)
		}
		last = res[0].EventID
	}
	return last
}

// mail makes a killmail up in a system.
func (s *server) mail(system uint32) storetest.Mail {
	m := s.mails.NextMail()
	m.System = system
	return m
}

// kill inserts made-up killmails in systems, and returns the last of them.
func (s *server) kill(systems ...uint32) storetest.Mail {
	s.t.Helper()
	var m storetest.Mail
	for _, system := range systems {
		m = s.mail(system)
		s.insert(0, m.AppendJSON(nil))
	}
	return m
}

// client is a connection.
type client struct {
	t     *testing.T
	conn  *websocket.Conn
	reads chan string // closed behind err
	err   error
}

// dial connects, to /websocket/ unless the path is another. header is name, value, name, value…
func (s *server) dial(path string, header ...string) *client {
	s.t.Helper()
	c, res, err := s.tryDial(path, header...)
	if err != nil {
		s.t.Fatalf("the handshake: %v (%+v)", err, res)
	}
	return c.read()
}

func (s *server) tryDial(path string, header ...string) (*client, *http.Response, error) {
	if path == "" {
		path = "/websocket/"
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	conn, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.http.URL, "http")+path, &websocket.DialOptions{HTTPHeader: h})
	if err != nil {
		return nil, res, err
	}
	conn.SetReadLimit(1 << 24)
	s.t.Cleanup(func() { conn.CloseNow() })
	return &client{t: s.t, conn: conn}, res, nil
}

// read takes all that comes, from here on.
func (c *client) read() *client {
	c.reads = make(chan string, 1<<16)
	go func() {
		defer close(c.reads)
		for {
			kind, text, err := c.conn.Read(context.Background())
			if err != nil {
				c.err = err
				return
			}
			if kind != websocket.MessageText {
				text = []byte("binary")
			}
			c.reads <- string(text)
		}
	}()
	return c
}

// say sends texts, and returns when the server has handled them: a ping is answered behind.
func (c *client) say(texts ...string) *client {
	c.t.Helper()
	c.send(websocket.MessageText, texts...)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.conn.Ping(ctx); err != nil {
		c.t.Fatalf("the server does not answer behind %.200q: %v", texts, err)
	}
	return c
}

func (c *client) send(kind websocket.MessageType, texts ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, text := range texts {
		if err := c.conn.Write(ctx, kind, []byte(text)); err != nil {
			c.t.Fatalf("sending %.100s: %v", text, err)
		}
	}
}

// sub subscribes to channels, one a message.
func (c *client) sub(channels ...string) *client {
	c.t.Helper()
	texts := make([]string, len(channels))
	for i, ch := range channels {
		b, _ := json.Marshal(map[string]string{"action": "sub", "channel": ch})
		texts[i] = string(b)
	}
	return c.say(texts...)
}

// next is the next message.
func (c *client) next() string {
	c.t.Helper()
	select {
	case text, ok := <-c.reads:
		if !ok {
			c.t.Fatalf("the connection has ended: %v", c.err)
		}
		return text
	case <-time.After(patience):
		c.t.Fatal("nothing comes")
	}
	return ""
}

// until returns what comes before the message that has the text in it. It is for tests that would know what does not come.
func (c *client) until(text string) (all []string) {
	c.t.Helper()
	for {
		m := c.next()
		if strings.Contains(m, text) {
			return all
		}
		all = append(all, m)
	}
}

// mark has a killmail come behind all others, and returns what came before it. The client is subscribed to the marker's system.
func (s *server) mark(c *client) []string {
	s.t.Helper()
	s.kill(marker)
	return c.until(`"channel":"system:31000001"`)
}

// closed waits for the end and returns its code.
func (c *client) closed() websocket.StatusCode {
	c.t.Helper()
	for {
		select {
		case _, ok := <-c.reads:
			if !ok {
				return websocket.CloseStatus(c.err)
			}
		case <-time.After(patience):
			c.t.Fatal("the connection stays open")
		}
	}
}

// message is any message, as clients read it.
type message struct {
	Action  string
	KillID  int64 `json:"killID"`
	Channel string
	Message string
	Cursor  string
	Reason  string
	// of killstream
	KillmailID    int64     `json:"killmail_id"`
	KillmailTime  time.Time `json:"killmail_time"`
	SolarSystemID uint32    `json:"solar_system_id"`
	Victim        struct {
		Ship int64 `json:"ship_type_id"`
	}
	Attackers []struct {
		FinalBlow bool `json:"final_blow"`
	}
	ZKB *struct {
		LocationID int64
		Hash       string
		TotalValue float64
		NPC        bool
		ESI, URL   string
	}
}

func (c *client) parse(text string) (m message) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		c.t.Fatalf("%v in %s", err, text)
	}
	return m
}

// channels are those of messages.
func (c *client) channels(texts []string) (all []string) {
	for _, text := range texts {
		m := c.parse(text)
		if m.KillmailID != 0 {
			m.Channel = "killstream"
		}
		all = append(all, m.Channel)
	}
	slices.Sort(all)
	return all
}

// members are a killmail's members but zkb, as texts.
func members(t *testing.T, mail []byte) map[string]string {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(mail, &raw); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for name, value := range raw {
		if name != "zkb" {
			all[name] = string(value)
		}
	}
	return all
}
