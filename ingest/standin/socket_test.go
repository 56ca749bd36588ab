package standin_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"killfeed/ingest/standin"
)

// dial opens a websocket and subscribes.
func (s *site) dial(channels ...string) *websocket.Conn {
	s.t.Helper()
	c, _, err := websocket.Dial(s.t.Context(), "ws://standin/websocket/", &websocket.DialOptions{
		HTTPClient: s.client, HTTPHeader: http.Header{"User-Agent": {agent}, "Origin": {"https://zkillboard.com"}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.CloseNow() })
	s.tell(c, "sub", channels...)
	return c
}

func (s *site) tell(c *websocket.Conn, action string, channels ...string) {
	s.t.Helper()
	for _, channel := range channels {
		text := fmt.Sprintf(`{"action":"%s","channel":"%s"}`, action, channel)
		if err := c.Write(s.t.Context(), websocket.MessageText, []byte(text)); err != nil {
			s.t.Fatal(err)
		}
	}
	synctest.Wait() // until it has been read
}

// receive reads what comes until nothing has come for a second, or the connection ends.
func (s *site) receive(c *websocket.Conn) (messages []string, err error) {
	for {
		type read struct {
			data []byte
			err  error
		}
		got := make(chan read, 1)
		ctx, cancel := context.WithCancel(s.t.Context())
		go func() {
			_, data, err := c.Read(ctx)
			got <- read{data, err}
		}()
		select {
		case r := <-got:
			cancel()
			if r.err != nil {
				return messages, r.err
			}
			messages = append(messages, string(r.data))
		case <-time.After(time.Second):
			s.t.Cleanup(func() { cancel(); <-got }) // to give a read up is to lose the connection
			return messages, nil
		}
	}
}

func TestSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: []standin.Mail{mail1(), mail1()}, Pace: standin.Pace{Hold: true}})
		s.mustPublish() // before anyone is there
		stream := s.dial("killstream")
		many := s.dial("nothing", "system:30000186", "system:30000187", "ship:670", "ship:37456", "character:2114529076",
			"label:tz:usw", "label:all", "all:*", "location:50013452", "alliance:0", "total_value:10b+")
		s.tell(many, "unsub", "ship:670")
		if err := many.Write(t.Context(), websocket.MessageText, []byte("not JSON")); err != nil {
			t.Fatal(err)
		}
		none := s.dial()
		s.mustPublish()

		got, err := s.receive(stream)
		want := compact1()[:len(compact1())-1] + `,"zkb":{"locationID":50013452,"hash":"` + hash1 +
			`","fittedValue":10000,"totalValue":627868229.10,"esi":"https://esi.evetech.net/latest/killmails/134435757/` + hash1 +
			`/","url":"https://zkillboard.com/kill/134435757/"}}`
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("killstream:\n got %v, %v\nwant %s", got, err, want)
		}
		got, err = s.receive(many)
		var channels []string
		for _, text := range got {
			var m struct{ Channel string }
			decode(t, text, &m)
			channels = append(channels, m.Channel)
			want := `{"action":"littlekill","killID":134435757,"character_id":2114529076,"corporation_id":0,"alliance_id":0,` +
				`"ship_type_id":670,"group_id":0,"url":"https://zkillboard.com/kill/134435757/","channel":"` + m.Channel + `"}`
			if text != want {
				t.Errorf("littlekill:\n got %s\nwant %s", text, want)
			}
		}
		slices.Sort(channels)
		list := []string{"alliance:0", "all:*", "character:2114529076", "label:all", "label:tz:usw", "location:50013452",
			"ship:37456", "system:30000186"}
		slices.Sort(list)
		if err != nil || !slices.Equal(channels, list) {
			t.Errorf("channels %q, %v, want %q", channels, err, list)
		}
		if got, err := s.receive(none); len(got) > 0 || err != nil {
			t.Errorf("without a subscription: %q, %v", got, err)
		}
		st := s.Stats()
		if st.SocketMessages != 9 || st.Requests[standin.KindSocket][101] != 3 || st.ConcurrentByService[standin.ServiceSocket] != 3 {
			t.Errorf("%d messages, requests %v, concurrent %v", st.SocketMessages, st.Requests, st.ConcurrentByService)
		}
		s.want(http.StatusUpgradeRequired, "/websocket/")
		s.want(http.StatusBadRequest, "/websocket", "Upgrade", "websocket", "Connection", "upgrade")
	})
}

// A killmail whose victim is no pilot is in the killstream only.
func TestSocketWithoutPilot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mail1()
		m.ESI = []byte(strings.ReplaceAll(compact1(), `"character_id":2114529076,`, ""))
		s := open(t, standin.Config{Mails: []standin.Mail{m}, Pace: standin.Pace{Hold: true}})
		c := s.dial("killstream", "all:*")
		s.mustPublish()
		if got, err := s.receive(c); len(got) != 1 || err != nil || strings.Contains(got[0], "littlekill") {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestSocketFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(100), Pace: standin.Pace{Hold: true}})
		check := func(c *websocket.Conn, want int, ended bool) {
			t.Helper()
			if got, err := s.receive(c); len(got) != want || (err != nil) != ended {
				t.Fatalf("%d messages, %v; want %d, ended %v", len(got), err, want, ended)
			}
		}
		s.set(standin.SocketDrop, standin.Strike{Next: 1})
		c := s.dial("killstream")
		s.mustPublish()
		check(c, 0, true)

		c = s.dial("killstream")
		s.Publish(2)
		check(c, 2, false)

		c = s.dial("killstream")
		if n := s.DropSockets(); n != 2 {
			t.Errorf("%d sockets are cut, want 2", n)
		}
		check(c, 0, true)

		// Silent for a minute: what is published then never comes.
		s.set(standin.SocketSilent, standin.Strike{Next: 1, For: time.Minute})
		c = s.dial("killstream")
		s.Publish(2)
		time.Sleep(59 * time.Second)
		s.mustPublish()
		time.Sleep(time.Second)
		s.Publish(3)
		check(c, 3, false)
		s.DropSockets() // or it might be the one that is struck

		s.set(standin.SocketSilent, standin.Strike{Next: 1})
		c = s.dial("killstream")
		s.mustPublish()
		time.Sleep(1000 * time.Hour)
		s.mustPublish()
		check(c, 0, false)

		// Opening one can fail as any request.
		s.set(standin.ServerError, standin.Strike{Next: 1, Status: 503, Kinds: []standin.Kind{standin.KindSocket}})
		_, r, err := websocket.Dial(t.Context(), "ws://standin/websocket/", &websocket.DialOptions{HTTPClient: s.client})
		if err == nil || r.StatusCode != 503 {
			t.Errorf("%v, %v", r, err)
		}
		if n := s.Stats().Faults; n[standin.SocketDrop] != 1 || n[standin.SocketSilent] != 2 || n[standin.ServerError] != 1 {
			t.Errorf("faults struck: %v", n)
		}

		c = s.dial("killstream")
		s.Close()
		check(c, 0, true)
		check(s.dialled(), 0, true)
	})
}

// dialled opens a websocket to a stand-in that is closed.
func (s *site) dialled() *websocket.Conn {
	c, _, err := websocket.Dial(s.t.Context(), "ws://standin/websocket/", &websocket.DialOptions{HTTPClient: s.client})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}
