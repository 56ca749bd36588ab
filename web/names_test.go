package web_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/ingest/esi"
	"killfeed/ingest/upstream"
	"killfeed/names"
	"killfeed/storetest"
)

// named gives a server static data and some names.
func named(t testing.TB, options ...func(*serverOptions)) *server {
	book, err := names.Open("", names.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { book.Close() })
	book.Learn(map[uint32]names.Entry{
		2112000001: {Category: names.Character, Name: `Ann "the" Pilot`},
		98000001:   {Category: names.Corporation, Name: "Anns", Ticker: "ANN"},
		99000001:   {Category: names.Alliance, Name: "Ünion", Ticker: "<U>"},
	})
	s := newServer(t, append(options, func(o *serverOptions) { o.config.Names = book })...)
	s.feed.SetUniverse(storetest.Universe())
	return s
}

// put inserts killmails as they are.
func (s *server) put(killmails ...string) {
	s.t.Helper()
	for _, text := range killmails {
		k, err := killfeed.ParseItem([]byte(text))
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.feed.InsertAll(s.t.Context(), []*killfeed.Killmail{k}, 0); err != nil {
			s.t.Fatal(err)
		}
	}
}

const annsLoss = `{"killmail_id":1,"killmail_time":"2026-11-23T18:00:00Z","solar_system_id":30000142,` +
	`"victim":{"character_id":2112000001,"corporation_id":98000001,"alliance_id":99000001,"ship_type_id":587,"items":[{"item_type_id":1,"flag":5}]},` +
	`"attackers":[{"character_id":2112000009,"corporation_id":98000001,"faction_id":7,"ship_type_id":587}],"zkb":{"totalValue":1500000.5,"hash":"x"}}`

// TestNamesOfEvents: what is known stands behind the killmail, which stays as it was.
func TestNamesOfEvents(t *testing.T) {
	s := named(t)
	mail := strings.Replace(annsLoss, `,"hash":"x"`, "", 1)
	s.put(mail)
	const known = `{"system":{"id":30000142,"name":"Jita","security":0.9,"space":"high","constellation":{"id":20000020,"name":"Kimotoro"},` +
		`"region":{"id":10000002,"name":"The Forge"}},"types":{"587":{"name":"Rifter","group":{"id":25,"name":"Frigate"}}},` +
		`"characters":{"2112000001":{"name":"Ann \"the\" Pilot"}},"corporations":{"98000001":{"name":"Anns","ticker":"ANN"}},` +
		`"alliances":{"99000001":{"name":"Ünion","ticker":"<U>"}}}`
	for _, c := range []struct{ query, killmail, names string }{
		{"names=1", mail, known},
		{"names=0", mail, ""},
		{"names=1&fields=killmail_id", `{"killmail_id":1}`, known[:strings.Index(known, `,"types"`)] + "}"},
		{"names=1&fields=victim.character_id", `{"victim":{"character_id":2112000001}}`,
			known[:strings.Index(known, `,"types"`)] + known[strings.Index(known, `,"characters"`):strings.Index(known, `,"corporations"`)] + "}"},
		{"fields=zkb.totalValue", `{"zkb":{"totalValue":1500000.5}}`, ""},
	} {
		want := `"killmail":` + c.killmail
		if c.names != "" {
			want += `,"names":` + c.names
		}
		for _, target := range []string{
			"/api/killfeed?after=0&topics=all&", "/api/killfeed/next?topics=all&client_id=" + url.QueryEscape(c.query) + "&",
			"/api/killmails/1?", "/api/killmails?", "/api/systems/jita/killmails?",
		} {
			if a := s.get(target + c.query).want(200); !strings.Contains(string(a.body), want+"}") {
				t.Errorf("%s: %s\nwant %s in it", a.what, a.body, want)
			}
		}
	}
	bare := newServer(t)
	bare.put(mail)
	if a := bare.get("/api/killfeed?after=0&topics=all&names=1").want(200); !strings.Contains(string(a.body), mail+`,"names":{}}`) {
		t.Errorf("nothing is known, and there is %s", a.body)
	}
}

// TestShapesOnEveryEdge: polls, streams and Channels show an event alike, in every shape.
func TestShapesOnEveryEdge(t *testing.T) {
	shapes := []string{"", "names=1", "fields=killmail_id,zkb.totalValue", "fields=attackers.character_id&names=1", "fields=none"}
	for _, shape := range shapes {
		synctest.Test(t, func(t *testing.T) {
			h := named(t).host()
			params, err := url.ParseQuery(shape)
			if err != nil {
				t.Fatal(err)
			}
			join := map[string]any{}
			for name := range params {
				join[name] = params.Get(name)
			}
			text, err := json.Marshal(join)
			if err != nil {
				t.Fatal(err)
			}
			w := h.dial(dialing{client: h.client, host: "memory"}, "vsn=2.0.0")
			w.send(fmt.Sprintf(`["1","1","region:The Forge","phx_join",%s]`, text))
			parse(t, w.next())
			sse := h.stream(streamPath + "?topics=region:10000002&" + shape)
			lines := h.stream(streamPath+"?systems=Jita&"+shape, "Accept", "application/x-ndjson")
			sse.take()
			lines.take()
			h.put(strings.Replace(annsLoss, `,"hash":"x"`, "", 1))
			a := <-h.later(h.request("GET", "/api/killfeed?after=0&topics=all&"+shape, ""))
			want := string(a.body)
			want = want[len(`{"events":[`):strings.Index(want, `],"head"`)]
			cursor := killfeed.Cursor{After: 1, Epoch: h.feed.State().Epoch}
			want = want[:len(want)-1] + `,"cursor":"` + string(cursor.Append(nil)) + `"}`
			got := map[string]string{"channel": string(parse(t, w.next()).payload)}
			for name, s := range map[string]*streaming{"sse": sse, "ndjson": lines} {
				frames := s.take()
				if len(frames) != 1 {
					t.Fatalf("%s of %q: %v", name, shape, say(frames))
				}
				got[name] = strings.Replace(frames[0].data, `{"type":"new_killmail",`, "{", 1)
			}
			for name, text := range got {
				if text != want {
					t.Errorf("%s of %q: %s\nwant %s", name, shape, text, want)
				}
			}
			wantShelves := func(when string, want, readers int) {
				if shape == "" {
					want, readers = 0, 0
				}
				if shelves, n := h.api.Shelves(); shelves != want || n != readers {
					t.Errorf("%q, %s: %d shelves with %d readers, want %d with %d", shape, when, shelves, n, want, readers)
				}
			}
			wantShelves("three readers", 1, 3)
			w.send(`["1","2","region:The Forge","phx_leave",{}]`)
			w.next()
			w.next()
			wantShelves("one has left its channel", 1, 2)
			sse.leave()
			w.send(fmt.Sprintf(`["2","3","killfeed","phx_join",%s]`, strings.Replace(`{"systems":["Jita"],`+string(text[1:]), ",}", "}", 1)))
			if reply := parse(t, w.next()); reply.status() != "ok" {
				t.Errorf("a join by name: %s", reply.payload)
			}
			w.send(`["2","4","killfeed","update",{"add":{"topics":["space:null","region:the forge"]},"remove":{"systems":["jita"]}}]`)
			if reply := parse(t, w.next()); !strings.Contains(string(reply.payload), `"topics":2`) {
				t.Errorf("an update by name: %s", reply.payload)
			}
			w.send(`["3","5","all","phx_join",{"fields":""}]`) // refused: it takes no shelf
			w.next()
			lines.leave()
			synctest.Wait()
			wantShelves("one channel", 1, 1)
			w.conn.CloseNow()
			synctest.Wait()
			wantShelves("nobody", 0, 0)
		})
	}
}

// TestTopicsByName: whatever reads a system or topic knows its name, and says what is near when there is none.
func TestTopicsByName(t *testing.T) {
	s := named(t)
	s.put(annsLoss[:strings.Index(annsLoss, `,"hash"`)] + "}}")
	s.insert(hek)
	for _, query := range []string{
		"systems=Jita", "systems=jita,30002187", "systems[]=JITA", "topics=system:Jita", "topics=region:The+Forge", "topics=constellation:kimotoro",
		"topics=space:high", "topics=space:highsec", "topics=ship:Rifter", "topics=group:Frigate", "topics=kill:ship:rifter", "topics=loss:group:25",
		"topics=loss:corporation:98000001", "topics=loss:character:2112000001", "topics=kill:character:2112000009",
	} {
		if p := s.get("/api/killfeed?after=0&" + query).poll(); !slices.Contains(p.ids(), 1) {
			t.Errorf("%s: events %v, want 1 among them", query, p.ids())
		}
	}
	for _, query := range []string{"systems=Amarr", "topics=space:null", "topics=kill:character:2112000001", "topics=loss:character:2112000009"} {
		if p := s.get("/api/killfeed?after=0&" + query).poll(); slices.Contains(p.ids(), 1) {
			t.Errorf("%s: event 1 is not on it", query)
		}
	}
	for _, c := range []struct{ query, parameter, said string }{
		{"systems=Jitta", "systems", "did you mean Jita (30000142)?"},
		{"topics=region:The+Forg", "topics", "did you mean The Forge (10000002)?"},
		{"topics=space:deep", "topics", "space:wormhole"},
		{"topics=character:Ann", "topics", "decimal digits"},
		{"filter=system%3DJitta", "filter", "did you mean Jita"},
	} {
		query := c.query
		if strings.HasPrefix(query, "filter") {
			query += "&topics=all"
		}
		p := s.get("/api/killfeed?after=0&" + query).problem(400)
		if p.Parameter != c.parameter || !strings.Contains(p.Detail, c.said) {
			t.Errorf("%s: %q about %s, want %q about %s", c.query, p.Detail, p.Parameter, c.said, c.parameter)
		}
	}
	s.do("POST", "/api/killfeed/commit", `{"client_id":"a","systems":["Jita"],"event_id":1}`).want(200)
	s.do("POST", "/api/killfeed/commit", `{"client_id":"a","offsets":{"region:The Forge":1}}`).want(200)
	s.do("POST", "/api/clients/a/seek", `{"to":1,"topics":["space:high"]}`).want(200)
	var c struct{ Offsets map[string]killfeed.EventID }
	s.get("/api/clients/a").want(200).into(&c)
	want := map[string]killfeed.EventID{"system:30000142": 1, "region:10000002": 1, "space:high": 0}
	if diff := cmp.Diff(want, c.Offsets); diff != "" {
		t.Errorf("offsets (-want +got):\n%s", diff)
	}
}

// TestNames: GET /api/names.
func TestNames(t *testing.T) {
	s := named(t)
	a := s.get("/api/names?ids=30000142,587&ids[]=98000001&ids=10000002,20000020,2112000001,5,587").want(200)
	want := `{"names":{"587":{"category":"type","name":"Rifter","group":{"id":25,"name":"Frigate"}},` +
		`"10000002":{"category":"region","name":"The Forge"},"20000020":{"category":"constellation","name":"Kimotoro"},` +
		`"30000142":{"category":"system","name":"Jita"},"98000001":{"category":"corporation","name":"Anns","ticker":"ANN"},` +
		`"2112000001":{"category":"character","name":"Ann \"the\" Pilot"}},"missing":[],"unknown":[5]}`
	if got := string(a.body); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, c := range []struct{ query, parameter string }{
		{"", "ids"}, {"ids=", "ids"}, {"ids=0", "ids"}, {"ids=1,x", "ids"}, {"ids=2147483648", "ids"}, {"ids=1&wait=11", "wait"}, {"ids=1&wait=x", "wait"},
		{"ids=1" + strings.Repeat(",1", 1000), "ids"},
	} {
		if p := s.get("/api/names?" + c.query).problem(400); p.Parameter != c.parameter {
			t.Errorf("%s: parameter %s, want %s", c.query, p.Parameter, c.parameter)
		}
	}
	synctest.Test(t, func(t *testing.T) { // nobody is asked, so that there is nothing to wait for
		begun := time.Now()
		newServer(t).get("/api/names?ids=2112000002&wait=10").want(200)
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("waited %v for nothing", waited)
		}
	})
}

// TestNamesComeLater: an event goes out without the names that are not known, which are asked for; who waits for them gets them when
// they come, and no later than it wants.
func TestNamesComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nobody, err := upstream.New(upstream.Config{Version: "test", Contact: "test@example.com", Header: esi.Header()})
		if err != nil {
			t.Fatal(err)
		}
		client, err := esi.New(nobody, esi.Config{URL: "http://esi.example"})
		if err != nil {
			t.Fatal(err)
		}
		book, err := names.Open("", names.Options{ESI: client}) // which does not run, so that ESI is never asked
		if err != nil {
			t.Fatal(err)
		}
		defer book.Close()
		s := newServer(t, func(o *serverOptions) { o.config.Names = book })
		s.put(`{"killmail_id":1,"solar_system_id":30000142,"victim":{"character_id":2112000001,"ship_type_id":587},"attackers":[]}`)
		begun := time.Now()
		if a := s.get("/api/killfeed?after=0&topics=all&names=1").want(200); !strings.Contains(string(a.body),
			`"names":{"missing":[587,30000142,2112000001]}}`) {
			t.Errorf("nothing is known yet: %s", a.body)
		}
		if p := s.get("/api/systems/30000142").problem(404); !strings.Contains(p.Detail, "looked up") {
			t.Errorf("a system that is looked up: %s", p.Detail)
		}
		if waited := time.Since(begun); waited != 0 {
			t.Errorf("names held it up for %v", waited)
		}
		if a := s.get("/api/names?ids=587,2112000001&wait=2.5").want(200); string(a.body) != `{"names":{},"missing":[587,2112000001],"unknown":[]}` {
			t.Errorf("nothing came: %s", a.body)
		}
		if waited := time.Since(begun); waited != 2500*time.Millisecond {
			t.Errorf("waited %v, want 2.5 s", waited)
		}
		h := s.host()
		answered := h.later(h.request("GET", "/api/names?ids=587,2112000001&wait=10", ""))
		synctest.Wait()
		book.Learn(map[uint32]names.Entry{587: {Category: names.Type, Name: "Rifter"}})
		synctest.Wait()
		book.Learn(map[uint32]names.Entry{2112000001: {Category: names.Character, Name: "Ann"}, 30000142: {Category: names.System, Name: "Jita"}})
		want := `{"names":{"587":{"category":"type","name":"Rifter"},"2112000001":{"category":"character","name":"Ann"}},"missing":[],"unknown":[]}`
		if a := <-answered; string(a.body) != want {
			t.Errorf("they came: %s, want %s", a.body, want)
		}
		if waited := time.Since(begun); waited != 2500*time.Millisecond {
			t.Errorf("waited %v more for what was there", waited-2500*time.Millisecond)
		}
		if a := s.get("/api/killmails/1?names=1&fields=none").want(200); !strings.Contains(string(a.body), `"names":{"system":{"id":30000142,"name":"Jita"}}`) {
			t.Errorf("a system without a place: %s", a.body)
		}
	})
}

// TestSearch: GET /api/search.
func TestSearch(t *testing.T) {
	s := named(t)
	for _, c := range []struct{ query, want string }{
		{"q=jit&kinds=system", `{"matches":[{"kind":"system","id":30000142,"name":"Jita"}]}`},
		{"q=Rifter&kinds=system,ship&limit=1", `{"matches":[{"kind":"ship","id":587,"name":"Rifter"}]}`},
		{"q=rifter&kinds[]=region&kinds[]=system", `{"matches":[]}`},
		{"q=the+forge&limit=1", `{"matches":[{"kind":"region","id":10000002,"name":"The Forge"}]}`},
		{"q=jitta&kinds=system&limit=1", `{"matches":[{"kind":"system","id":30000142,"name":"Jita"}]}`},
	} {
		if got := string(s.get("/api/search?" + c.query).want(200).body); got != c.want {
			t.Errorf("%s: %s, want %s", c.query, got, c.want)
		}
	}
	for _, c := range []struct{ query, parameter string }{
		{"", "q"}, {"q=", "q"}, {"q=+", "q"}, {"q=" + strings.Repeat("x", 101), "q"}, {"q=a&kinds=planet", "kinds"}, {"q=a&kinds=", "kinds"},
		{"q=a&limit=101", "limit"}, {"q=a&limit=0", "limit"},
	} {
		if p := s.get("/api/search?" + c.query).problem(400); p.Parameter != c.parameter {
			t.Errorf("%s: parameter %s, want %s", c.query, p.Parameter, c.parameter)
		}
	}
	if p := newServer(t).get("/api/search?q=jita").problem(400); !strings.Contains(p.Detail, "static data") {
		t.Errorf("without static data: %s", p.Detail)
	}
}

// TestShowSystem: GET /api/systems/{id}.
func TestShowSystem(t *testing.T) {
	s := named(t)
	const at = `{"id":30000142,"name":"Jita","security":0.9,"space":"high","constellation":{"id":20000020,"name":"Kimotoro"},` +
		`"region":{"id":10000002,"name":"The Forge"}}`
	for _, name := range []string{"30000142", "Jita", "jITA", "%4Aita"} {
		if got := string(s.get("/api/systems/" + name).want(200).body); got != at {
			t.Errorf("%s: %s, want %s", name, got, at)
		}
	}
	if p := s.get("/api/systems/Jitta").problem(400); !strings.Contains(p.Detail, "did you mean Jita (30000142)?") {
		t.Errorf("Jitta: %s", p.Detail)
	}
	s.get("/api/systems/0").problem(400)
	if p := s.get("/api/systems/31999999").problem(404); !strings.Contains(p.Detail, "there is no solar system 31999999") {
		t.Errorf("31999999: %s", p.Detail)
	}
	if p := newServer(t).get("/api/systems/30000142").problem(404); !strings.Contains(p.Detail, "static data") {
		t.Errorf("without static data: %s", p.Detail)
	}
}

// The id of a region that static data lacks is refused, for it would be silent for ever. A client that has an offset on one, from
// when there was other data, is shown and moved as any.
func TestUnknownPlaces(t *testing.T) {
	s := newServer(t)
	s.feed.SetUniverse(storetest.Universe())
	s.insert(jita)
	for _, topic := range []string{"region:99", "constellation:99", "group:999999", "loss:group:999999"} {
		if p := s.get("/api/killfeed?client_id=a&topics=" + topic).problem(400); p.Parameter != "topics" || p.Value != topic ||
			!strings.Contains(p.Detail, "static data") {
			t.Errorf("%s: %+v", topic, p)
		}
	}
	s.get("/api/killfeed?client_id=free&topics=system:31999999,ship:999999,kill:character:99").want(200)

	r := killfeed.Read{Topics: []killfeed.Topic{{Kind: killfeed.KindRegion, ID: 99}}}
	if _, err := s.feed.Fetch(t.Context(), "old", r); err != nil {
		t.Fatal(err)
	}
	if got := string(s.get("/api/clients/old").want(200).body); !strings.Contains(got, `"offsets":{"region:99":0}`) {
		t.Errorf("a client on a region that is gone: %s", got)
	}
	if got := string(s.admin("GET", "/api/clients", "").want(200).body); !strings.Contains(got, `"offsets":{"region:99":0}`) {
		t.Errorf("clients: %s", got)
	}
	if got := string(s.do("POST", "/api/clients/old/seek", `{"to":"latest"}`).want(200).body); !strings.Contains(got, `"offsets":{"region:99":1}`) {
		t.Errorf("a seek on all topics: %s", got)
	}
}
