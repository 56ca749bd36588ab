package redisq

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// esiBody is what ESI gives of a made-up killmail.
func esiBody(m storetest.Mail) string {
	m.ZKB, m.Labels, m.NoHash = false, nil, true
	return string(m.AppendJSON(nil))
}

func TestPackage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer s.close()
		s.mail() // before the queue begins
		s.gives(s.get("/listen.php?queueID=a&ttw=1"), nil)
		var mails []storetest.Mail
		for range 3 {
			m := s.maker.NextMail()
			m.ZKB, m.Labels = false, nil
			mails = append(mails, m)
			s.insert(m.Killmail(), 0)
		}
		text := func(i int, killmail bool) string {
			m := mails[i]
			body := ""
			if killmail {
				body = `"killmail":` + esiBody(m) + `,`
			}
			return fmt.Sprintf(`{"killID":%d,%s"zkb":{"hash":"%s","href":"https://esi.evetech.net/killmails/%d/%[3]s/"}}`, m.ID, body, m.Hash(), m.ID)
		}
		s.is(s.get("/listen.php?queueID=a"), 200, `{"package":`+text(0, true)+`}`)
		s.is(s.get("/listen/?killmail=0&queueID=%20a%20&"), 200, `{"package":`+text(1, false)+`}`)
		s.is(s.get("/redisq?ttw=1&&queueID=a&unknown=%zz&x"), 200, `{"package":`+text(2, true)+`}`)
		s.is(s.get("/listen.php?queueID=a&ttw=1"), 200, `{"package":null}`)
	})
}

// The calls that real clients make, and what they read.
func TestClients(t *testing.T) {
	for _, c := range []struct {
		name, target, agent string
		timeout             time.Duration // of the client; 0: none that is known
		reads               func(a answer) bool
	}{
		{"EVE-KILL (Thessia)", "/listen.php?queueID=%s", "EVE-KILL", 0, nil},
		{"wanderer-kills", "/listen.php?queueID=%s&ttw=10", "req", 45 * time.Second, nil},
		{"demolizzen", "/listen.php?queueID=demolizzen_%s&ttw=5", "demolizzen", 30 * time.Second, nil},
		{"eveinsight", "/listen.php?queueID=%s", "InSight", 45 * time.Second, hasKillmail},
		{"socketkill", "/listen.php?queueID=%s&ttw=1", "axios", 5 * time.Second, func(a answer) bool { return a.Package.ZKB.HREF != "" }},
		{"krusty", "/listen.php?queueID=%s&", "krusty", 0, nil},
		{"a Go tool", "/listen.php?queueID=%s&ttw=10", "Go-http-client/1.1", 15 * time.Second, nil},
		{"wanderer-notifier", "/listen.php?queueID=%s&ttw=3", "wanderer", 0, hasKillmail},
		{"zKillboard itself", "/listen.php?queueID=%s", "", 15 * time.Second, nil},
		{"tiny bots", "/listen.php?queueID=%s", "python-requests/2.32", 0, hasKillmail},
		{"a relay of websockets", "/listen.php?queueID=%s", "axios/1.7", 12 * time.Second, nil},
		{"EVE-KILL's own address", "/redisq?queueID=%s&ttw=10", "curl", 0, hasKillmail},
		{"aa-killtracker, which names no queue", "/listen.php?ttw=5", "allianceauth-killtracker", 0, hasKillmail},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Options{ByAddress: true})
				defer s.close()
				target := strings.ReplaceAll(c.target, "%s", "queue")
				call := func() *httptest.ResponseRecorder {
					r := httptest.NewRequest("GET", target, nil)
					r.Header.Set("User-Agent", c.agent)
					begun := time.Now()
					w := s.do(r)
					if took := time.Since(begun); c.timeout > 0 && took >= c.timeout {
						t.Errorf("it took %v, and the client waits for %v", took, c.timeout)
					}
					return w
				}
				s.gives(call(), nil)
				var want []*killfeed.Killmail
				for range 3 {
					want = append(want, s.mail())
				}
				for _, k := range want {
					w := call()
					s.gives(w, k)
					if a := s.read(w); c.reads != nil && !c.reads(a) {
						t.Errorf("the client does not find what it reads in %s", w.Body)
					}
				}
				s.restart()
				want = append(want, s.mail())
				s.gives(call(), want[3])
				s.gives(call(), nil)
			})
		})
	}
}

func hasKillmail(a answer) bool {
	var body struct {
		Victim        *struct{}
		Attackers     []struct{}
		KillmailTime  time.Time `json:"killmail_time"`
		SolarSystemID int       `json:"solar_system_id"`
		ZKB           *struct{}
	}
	return json.Unmarshal(a.Package.Killmail, &body) == nil && body.Victim != nil && len(body.Attackers) > 0 &&
		!body.KillmailTime.IsZero() && body.SolarSystemID > 0 && body.ZKB == nil
}

func TestWait(t *testing.T) {
	for _, c := range []struct {
		ttw  string
		want time.Duration
	}{
		{"", 10 * time.Second}, {"&ttw=", 10 * time.Second}, {"&ttw=3", 3 * time.Second}, {"&ttw=0", time.Second}, {"&ttw=-5", time.Second},
		{"&ttw=99", 10 * time.Second}, {"&ttw=abc", 10 * time.Second}, {"&ttw=2s", 2 * time.Second}, {"&ttw=1.9", time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, Options{})
			defer s.close()
			begun := time.Now()
			s.gives(s.get("/listen.php?queueID=a"+c.ttw), nil)
			if took := time.Since(begun); took != c.want {
				t.Errorf("%q waits %v, want %v", c.ttw, took, c.want)
			}
			// A killmail that comes in between ends the wait.
			k := s.maker.Next()
			time.AfterFunc(c.want/2, func() { s.insert(k, 0) })
			begun = time.Now()
			w := s.get("/listen.php?queueID=a" + c.ttw)
			if took := time.Since(begun); took != c.want/2 {
				t.Errorf("%q: the killmail comes after %v, want %v", c.ttw, took, c.want/2)
			}
			s.gives(w, k)
		})
	}
}

func TestRefusals(t *testing.T) {
	s := newServer(t, Options{})
	defer s.close()
	for _, c := range []struct {
		target string
		status int
		says   string
	}{
		{"/listen.php", 429, "queueID is missing"},
		{"/listen.php?queueID=", 429, "queueID is missing"},
		{"/listen.php?queueID=+%20", 429, "queueID is missing"},
		{"/listen.php?queueid=a", 429, "queueID is missing"},
		{"/listen.php?queueID=%ff", 400, "queueID"},
		{"/listen.php?queueID=%0a%00a", 400, "queueID"},
		{"/listen.php?queueID=" + strings.Repeat("a", 122), 400, "at most 121 bytes"},
		{"/listen.php?queueID=a&filter=alliance_id", 400, "filter"},
		{"/listen.php?queueID=a&filter=a=1;b=2,c=3", 400, "filter"},
		{"/listen.php?queueID=a&filter=%zz", 400, "filter"},
		{"/listen.php?queueID=a&limit=0", 400, "limit"},
		{"/listen.php?queueID=a&limit=101", 400, "limit"},
		{"/listen.php?queueID=a&limit=2&redirect=1", 400, "redirect"},
		{"/listen.php?queueID=a&ack=manual&esi=y", 400, "redirect"},
		{"/listen.php?queueID=a&ack=17", 400, "ack"},
		{"/listen.php?queueID=a&ack=99-" + string(s.feed.State().Epoch), 400, "head"},
		{"/object.php", 404, "objectID"},
		{"/object.php?objectID=", 404, "objectID"},
		{"/object.php?objectID=1", 404, "objectID"},
		{"/object.php?objectID=1-00000000", 404, "objectID"},
		{"/object.php?objectID=01-" + string(s.feed.State().Epoch), 404, "objectID"},
		{"/object.php?objectID=1-" + string(s.feed.State().Epoch), 404, "not kept"},
		{"/object.php?objectID=%", 400, "objectID"},
	} {
		w := s.get(c.target)
		var body struct{ Error string }
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != c.status || !strings.Contains(body.Error, c.says) {
			t.Errorf("%s: status %d: %s, want %d that says %q", c.target, w.Code, w.Body, c.status, c.says)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: browsers cannot read the answer", c.target)
		}
	}
	if n := s.feed.Stats().Clients; n > 1 {
		t.Errorf("refused requests made %d clients, want at most one, whose ack was refused", n)
	}
}

func TestOneRequestAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer s.close()
		first := make(chan *httptest.ResponseRecorder)
		go func() { first <- s.get("/listen.php?queueID=a") }()
		synctest.Wait()
		w := s.get("/listen.php?queueID=a")
		if w.Code != 429 || !strings.Contains(w.Body.String(), "another request") {
			t.Errorf("the second request at once: status %d: %s, want 429 that explains", w.Code, w.Body)
		}
		k := s.mail()
		s.gives(<-first, k)
		k = s.mail()
		s.gives(s.get("/listen.php?queueID=a"), k) // and it is free again
	})
}

// Many callers of one queue at once: each killmail is handed out once.
func TestRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer s.close()
		s.gives(s.get("/listen.php?queueID=a&ttw=1"), nil)
		const mails = 200
		for range mails {
			s.mail()
		}
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			seen = map[int64]int{}
		)
		for range 8 {
			wg.Go(func() {
				for { // until nothing comes for a second
					w := s.get("/listen.php?queueID=a&ttw=1")
					if w.Code == 429 {
						time.Sleep(time.Millisecond)
						continue
					}
					a := s.read(w)
					if a.Package == nil {
						return
					}
					mu.Lock()
					seen[a.Package.KillID]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for id, n := range seen {
			if n != 1 {
				t.Errorf("killmail %d was handed out %d times", id, n)
			}
		}
		if len(seen) != mails {
			t.Errorf("%d killmails were handed out, want %d", len(seen), mails)
		}
	})
}

func TestHangUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer s.close()
		s.gives(s.get("/listen.php?queueID=a&ttw=1"), nil)
		ctx, cancel := context.WithCancel(context.Background())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			s.do(httptest.NewRequestWithContext(ctx, "GET", "/listen.php?queueID=a", nil))
		}()
		synctest.Wait()
		cancel()
		<-gone
		k := s.mail()
		s.gives(s.get("/listen.php?queueID=a"), k)
		// Who only ever hangs up is there all the same: his queue is not over after its ttl.
		s.gives(s.get("/listen.php?queueID=b&ttl=8"), nil)
		for range 5 {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			s.do(httptest.NewRequestWithContext(ctx, "GET", "/listen.php?queueID=b&ttl=8", nil))
			cancel()
			time.Sleep(2 * time.Second)
		}
		k = s.mail()
		time.Sleep(2 * time.Second)
		s.gives(s.get("/listen.php?queueID=b&ttl=8"), k)
	})
}

func TestTTL(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		name    string
		options Options
		ttl     string
		away    time.Duration
		restart bool
		missed  bool
	}{
		{"three hours are the rule", Options{}, "", 3*hour - time.Second, false, false},
		{"and after them it begins anew", Options{}, "", 3 * hour, false, true},
		{"a shorter one", Options{}, "&ttl=60", 59 * time.Second, false, false},
		{"a shorter one is over", Options{}, "&ttl=60", 60 * time.Second, false, true},
		{"no longer one", Options{}, "&ttl=999999", 3 * hour, false, true},
		{"a second at least", Options{}, "&ttl=0", time.Second / 2, false, false},
		{"as the server was told", Options{MaxTTL: 48 * hour}, "", 47 * hour, false, false},
		{"over a restart", Options{}, "", 3 * hour, true, false}, // and a minute for what a crash makes uncertain
		{"over a restart, and over", Options{}, "", 3*hour + time.Minute, true, true},
		{"a shorter one, over a restart", Options{}, "&ttl=60", 2 * time.Minute, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, c.options)
				defer func() { s.close() }()
				target := "/listen.php?queueID=a&ttw=1" + c.ttl
				s.gives(s.get(target), nil)
				missed := s.mail()
				if c.restart {
					s.restart()
				}
				time.Sleep(c.away)
				if c.missed {
					missed = nil
				}
				s.gives(s.get(target), missed)
				k := s.mail()
				s.gives(s.get(target), k)
			})
		})
	}
}

func TestFilter(t *testing.T) {
	for _, c := range []struct {
		filter string // as it stands in the address
		want   []int
	}{
		{"", []int{0, 1, 2}},
		{"solar_system_id=7", []int{1}},
		{"solar_system_id=7;killID>0", []int{1}}, // the semicolon as it is
		{"solar_system_id%3D7%3BkillID%3E0", []int{1}},
		{"solar_system_id=7,solar_system_id=8", []int{1, 2}},
		{"labels=ganked", []int{2}}, // as documented, not as it was
		{"killmail_id!=1", []int{0, 1, 2}},
		{"solar_system_id=99", nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, Options{})
			defer s.close()
			target := "/listen.php?queueID=a&ttw=1&filter=" + c.filter
			s.gives(s.get(target), nil)
			var mails []*killfeed.Killmail
			for i := range 3 {
				m := s.maker.NextMail()
				m.System = uint32(6 + i)
				m.ZKB, m.Labels = true, []string{"pvp", "cat:6"}
				if i == 2 {
					m.Labels = append(m.Labels, "ganked")
				}
				mails = append(mails, s.insert(m.Killmail(), 0))
			}
			for _, i := range c.want {
				s.gives(s.get(target), mails[i])
			}
			begun := time.Now()
			s.gives(s.get(target), nil)
			if took := time.Since(begun); took != time.Second {
				t.Errorf("%s: %v, want a second", c.filter, took)
			}
			// What it passed over is not searched again, and does not come without the filter either.
			s.gives(s.get("/listen.php?queueID=a&ttw=1"), nil)
		})
	}
}

// A filter that passes over more than the feed looks into at a time finds what is behind that, in one request.
func TestMuchPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer s.close()
		target := "/listen.php?queueID=a&ttw=1&filter=damage_taken%3E999999999"
		s.gives(s.get(target), nil)
		m := s.maker.NextMail()
		text := m.AppendJSON(nil)
		large, err := killfeed.NewKillmail(m.System, []byte(`{"damage_taken":1,"pad":"`+strings.Repeat("x", 4<<20)+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		many := slices.Repeat([]*killfeed.Killmail{large}, 32) // the same again: it has no id
		last, err := killfeed.ParseItem([]byte(strings.Replace(string(text), "{", `{"damage_taken":1000000000,`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.feed.InsertAll(context.Background(), append(many, last), 0); err != nil {
			t.Fatal(err)
		}
		filter, err := killfeed.ParseFilter("damage_taken>999999999", nil)
		if err != nil {
			t.Fatal(err)
		}
		ans, err := s.feed.Fetch(context.Background(), "redisq:a", killfeed.Read{
			Topics: []killfeed.Topic{killfeed.All()}, Limit: 1, Filter: filter, Peek: true,
		})
		if err != nil || !ans.More || len(ans.Events) > 0 {
			t.Fatalf("one look finds %d events, more: %v (%v); this test needs one that is not enough", len(ans.Events), ans.More, err)
		}
		s.gives(s.get(target), last)
	})
}

func TestLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer s.close()
		for _, q := range []string{"a", "b", "manual"} {
			s.gives(s.get("/listen.php?ttw=1&queueID="+q), nil)
		}
		m := s.maker.NextMail()
		m.ZKB, m.Labels = false, nil
		first := s.insert(m.Killmail(), 0)
		m.ZKB, m.Labels = true, []string{"pvp"}
		s.insert(m.Killmail(), 0) // an update
		old := s.insert(s.maker.Next(), killfeed.MarkBackfill)
		if _, err := s.feed.Insert(context.Background(), 5, []byte(`{"no":"id"}`)); err != nil {
			t.Fatal(err)
		}
		last := s.mail()
		s.gives(s.get("/listen.php?ttw=1&queueID=a"), first)
		s.gives(s.get("/listen.php?ttw=1&queueID=a"), last)
		s.gives(s.get("/listen.php?ttw=1&queueID=a"), nil)
		for _, k := range []*killfeed.Killmail{first, old, last, nil} {
			s.gives(s.get("/listen.php?ttw=1&queueID=b&backfill=1"), k)
		}
		// The same for who acknowledges: what cannot be shown does not come up for ever.
		ack := "manual"
		for _, k := range []*killfeed.Killmail{first, last, nil} {
			w := s.get("/listen.php?ttw=1&queueID=manual&ack=" + ack)
			s.gives(w, k)
			ack = s.read(w).Ack
		}
	})
}

func TestRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer func() { s.close() }()
		where := func(target, want string) string {
			t.Helper()
			w := s.get(target)
			at := w.Header().Get("Location")
			if w.Code != http.StatusFound || !strings.HasPrefix(at, want) || w.Body.Len() > 0 {
				t.Fatalf("%s: status %d to %q with %q, want 302 to %s", target, w.Code, at, w.Body, want)
			}
			return at
		}
		null := where("/listen.php?queueID=a&ttw=1&redirect=1", "/object.php?objectID=null")
		s.gives(s.get(null), nil)
		k := s.mail()
		at := where("/listen.php?queueID=a&redirect=1", "/object.php?objectID=1-")
		for range 2 {
			w := s.get(at)
			s.gives(w, k)
			if got := w.Header().Get("Cache-Control"); got != "public, max-age=10800" {
				t.Errorf("Cache-Control is %q", got)
			}
			s.restart() // the object is still there
		}
		s.mail()
		bare := where("/listen.php?queueID=a&redirect=1&killmail=0", "/object.php?objectID=2-")
		if a := s.read(s.get(bare)); a.Package == nil || a.Package.Killmail != nil {
			t.Errorf("with killmail=0 there is %+v", a.Package)
		}

		k = s.mail()
		where("/listen.php?queueID=a&esi=y", fmt.Sprintf("https://esi.evetech.net/killmails/%d/%s/", k.ID, k.Hash))
		s.gives(s.get("/listen.php?queueID=a&esi=y&ttw=1"), nil)
		// A killmail without a hash has no address at ESI.
		if _, err := s.feed.Insert(context.Background(), 5, []byte(`{"killmail_id":5}`)); err != nil {
			t.Fatal(err)
		}
		s.gives(s.get("/listen.php?queueID=a&esi=y&ttw=1"), nil)
		// Whoever sends killmails does not choose where readers go.
		m := s.maker.NextMail()
		m.ZKB, m.Labels = false, nil
		text := strings.Replace(string(m.AppendJSON(nil)), `"zkb":{`, `"zkb":{"href":"https://example.com/","points":1,`, 1)
		evil, err := killfeed.ParseItem([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		s.insert(evil, 0)
		where("/listen.php?queueID=a&esi=y", "https://esi.evetech.net/killmails/")
	})
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer s.close()
		s.is(s.get("/listen.php?queueID=a&limit=3&ttw=1"), 200, `{"package":null,"packages":[]}`)
		var want []int64
		for range 5 {
			want = append(want, s.mail().ID)
		}
		for _, n := range []int{3, 2} {
			a := s.read(s.get("/listen.php?queueID=a&limit=3"))
			if a.Package == nil || a.Package.KillID != want[0] || len(a.Packages) != n {
				t.Fatalf("%+v, want %d from %d on", a, n, want[0])
			}
			for _, p := range a.Packages {
				if p.KillID != want[0] {
					t.Errorf("killmail %d, want %d", p.KillID, want[0])
				}
				want = want[1:]
			}
		}
	})
}

func TestAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer func() { s.close() }()
		listen := func(ack string) *httptest.ResponseRecorder { return s.get("/listen.php?queueID=a&ttw=1&ack=" + ack) }
		s.is(listen("manual"), 200, nothing)
		first, second := s.mail(), s.mail()
		s.gives(listen("manual"), first)
		s.restart()
		w := listen("manual") // the answer was lost
		s.gives(w, first)
		one := s.read(w).Ack
		w = listen(one)
		s.gives(w, second)
		s.gives(listen(one), second)
		two := s.read(w).Ack
		s.gives(listen(two), nil)
		s.gives(listen(one), nil) // it never goes back
		third := s.mail()
		s.restart()
		// Whoever knows where he was loses nothing, however long he was away, and wherever the queue has gone.
		time.Sleep(5 * time.Hour)
		if err := s.dialect.sweep(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := s.feed.Stats().Clients; n != 0 {
			t.Errorf("%d clients are left, want none", n)
		}
		s.gives(listen(two), third)
		// An ack of another log says nothing.
		s.gives(listen("1-00000000"), third)
		many := s.get("/listen.php?queueID=a&limit=10&ack=manual")
		fourth := s.mail()
		s.gives(listen(s.read(many).Ack), fourth)
	})
}

func TestHead(t *testing.T) {
	s := newServer(t, Options{})
	defer s.close()
	w := s.do(httptest.NewRequest("HEAD", "/listen.php?queueID=a", nil))
	if w.Code != 200 || w.Body.Len() > 0 || s.feed.Stats().Clients > 0 {
		t.Errorf("HEAD: status %d, %d bytes, %d clients", w.Code, w.Body.Len(), s.feed.Stats().Clients)
	}
}

func TestManyQueues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{}, killfeed.Options{MaxClients: 2})
		defer s.close()
		s.get("/listen.php?queueID=a&ttw=1")
		s.get("/listen.php?queueID=b&ttw=1")
		if w := s.get("/listen.php?queueID=c&ttw=1"); w.Code != 503 || !strings.Contains(w.Body.String(), "queueID") {
			t.Errorf("one too many: status %d: %s, want 503 that explains", w.Code, w.Body)
		}
		if n := len(s.dialect.queues.byID); n != 2 {
			t.Errorf("%d queues are remembered, want 2", n)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- s.dialect.Run(ctx) }()
		time.Sleep(2 * time.Hour)
		s.get("/listen.php?queueID=a&ttw=1")
		time.Sleep(time.Hour + 2*sweepEvery) // b is over
		if w := s.get("/listen.php?queueID=c&ttw=1"); w.Code != 200 {
			t.Errorf("when one is over: status %d: %s, want 200", w.Code, w.Body)
		}
		if _, err := s.feed.Client("redisq:a"); err != nil {
			t.Errorf("a queue that is not over was forgotten: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The sweep leaves other clients alone.
func TestSweepOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		defer s.close()
		for _, name := range []string{"redis", "redisq", "redisq;", "redisr", "z"} {
			if _, err := s.feed.Commit(context.Background(), name, map[killfeed.Topic]killfeed.EventID{killfeed.All(): 0}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(24 * time.Hour)
		if err := s.dialect.sweep(context.Background()); err != nil || s.feed.Stats().Clients != 5 {
			t.Errorf("%d clients are left, want 5 (%v)", s.feed.Stats().Clients, err)
		}
	})
}

func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{MaxTTL: 1000 * time.Hour}, killfeed.Options{Retention: killfeed.Retention{Retain: time.Hour, Max: time.Hour}})
		defer s.close()
		for _, target := range []string{"/listen.php?queueID=a&ttw=1", "/listen.php?queueID=b&ttw=1&ack=manual"} {
			s.gives(s.get(target), nil)
			from := s.feed.State().Head + 1
			for range 3 {
				s.mail()
			}
			time.Sleep(2 * time.Hour)
			if _, err := s.feed.Collect(context.Background()); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			w := s.get(target)
			s.gives(w, nil)
			if got, want := w.Header().Get("Killfeed-Gap"), fmt.Sprintf("%d-%d", from, from+2); got != want {
				t.Errorf("%s: gap %q, want %q", target, got, want)
			}
			if took := time.Since(begun); took != time.Second {
				t.Errorf("%s: it took %v, want a second", target, took)
			}
			k := s.mail()
			w = s.get(target)
			s.gives(w, k)
			if got := w.Header().Get("Killfeed-Gap"); got != "" {
				t.Errorf("%s: the gap %q is told again", target, got)
			}
		}
	})
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Options{})
		got := make(chan *httptest.ResponseRecorder)
		go func() { got <- s.get("/listen.php?queueID=a") }()
		synctest.Wait()
		s.close()
		if w := <-got; w.Code != 503 || w.Header().Get("Retry-After") == "" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("status %d: %s, want 503 as JSON with Retry-After", w.Code, w.Body)
		}
	})
}

// Real packages, inserted as they were received, come out the same.
func TestCaptures(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/data/wire/redisq_*_with_killmail.json")
	if len(files) == 0 {
		t.Skip("there are no captures here")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t, Options{})
			defer s.close()
			s.gives(s.get("/listen.php?queueID=a&ttw=1"), nil)
			k, err := killfeed.ParseItem(data)
			if err != nil {
				t.Fatal(err)
			}
			s.insert(k, 0)
			var got, want map[string]map[string]any
			if err := json.Unmarshal(s.get("/listen.php?queueID=a").Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if zkb := want["package"]["zkb"].(map[string]any); zkb["href"] == nil {
				zkb["href"] = fmt.Sprintf("https://esi.evetech.net/killmails/%d/%s/", k.ID, k.Hash)
			}
			if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
				t.Errorf("%s:\ngot  %s\nwant %s", filepath.Base(file), g, w)
			}
		})
	}
}

// No query panics, makes a nameless queue or has an answer that is no JSON.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"queueID=a&ttw=5", "queueID=a&ttl=-1&filter=a=1;b=2", "queueID=%20&&=&x=%zz", "ack=1-00000000&queueID=b", "limit=5&redirect=1&esi=y",
		"queueID=a&filter=%ff", "queueID=" + strings.Repeat("ä", 70), "ttw=99999999999999999999&queueID=a&killmail=0",
	} {
		f.Add(seed)
	}
	model := storetest.NewModel()
	feed, err := killfeed.Open(model, killfeed.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { feed.Close() })
	d := &Dialect{feed: feed, maxTTL: defaultMaxTTL}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/listen.php", nil)
		r.URL.RawQuery = query
		c, err := d.parse(r)
		if err != nil {
			w := httptest.NewRecorder()
			d.fail(w, r, err)
			if w.Code != 400 || !json.Valid(w.Body.Bytes()) {
				t.Fatalf("%q: status %d: %s", query, w.Code, w.Body)
			}
			return
		}
		if c.client != "" && killfeed.CheckClientName(c.client) != nil {
			t.Fatalf("%q names the client %q", query, c.client)
		}
		if c.ttw < time.Second || c.ttw > maxTTW*time.Second || c.ttl < time.Second || c.ttl > defaultMaxTTL || c.limit < 0 || c.limit > maxLimit {
			t.Fatalf("%q is out of range: %+v", query, c)
		}
	})
}
