package web_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"killfeed"
)

// The specification was once built word for word and watched; these are the odd cases that came up, one test each, with what
// a user would want of them.

func TestUnknownClientAndNothingStored(t *testing.T) {
	s := newServer(t)
	if got := string(s.get("/api/killfeed?client_id=a&systems[]=30000142").want(200).body); !strings.HasPrefix(got, `{"events":[],"head":0,`) {
		t.Errorf("poll: got %s, want no events and head 0", got)
	}
	if a := s.get("/api/killfeed/next?client_id=b&systems[]=30000142").want(204); len(a.body) != 0 {
		t.Errorf("next: a 204 has the body %q", a.body)
	}
	for _, client := range []string{"a", "b"} { // the first use records a position, in both
		var info struct{ Offsets map[string]killfeed.EventID }
		s.get("/api/clients/" + client).want(200).into(&info)
		if at, ok := info.Offsets["system:30000142"]; !ok || at != 0 {
			t.Errorf("client %s stands at %v, want system:30000142 at 0", client, info.Offsets)
		}
	}
}

func TestPollAndNextShowTheSameObject(t *testing.T) {
	s := newServer(t)
	s.insert(jita)
	next := s.get("/api/killfeed/next?client_id=a&systems[]=30000142").want(200).body
	poll := string(s.get("/api/killfeed?client_id=b&systems[]=30000142").want(200).body)
	if !strings.HasPrefix(poll, `{"events":[`+string(next)+`],"head":1,`) {
		t.Errorf("next: %s\npoll: %s\nwant next's object in poll's array, byte by byte", next, poll)
	}
	for _, part := range []string{`"event_id":1,`, `"system_id":30000142,`, `"received_at":"2`, `"killmail":{`} {
		if !strings.Contains(string(next), part) {
			t.Errorf("next: %s has no %s", next, part)
		}
	}
}

// TestRefusals: whatever is not accepted is a 400 that names the parameter, the value, and what is.
func TestRefusals(t *testing.T) {
	s := newServer(t)
	s.insert(jita)
	long := strings.Repeat("x", 5000)
	const ok = "client_id=a&systems=30000142"
	for _, c := range []struct{ query, parameter, value, detail string }{
		// Missing.
		{"", "client_id", "", "client_id is missing or empty: want a name of your choice"},
		{"systems=1", "client_id", "", "client_id is missing or empty"},
		{"client_id=a", "systems", "", "systems is missing or empty: want at least one solar system"},

		// client_id.
		{"client_id=&systems=1", "client_id", "", "1 to 128 bytes of printable UTF-8"},
		{"client_id&systems=1", "client_id", "", "1 to 128 bytes of printable UTF-8"},
		{"client_id[]=x&systems=1", "client_id[]", "x", "client_id=<value>: it is not a list"},
		{"client_id=a%00b&systems=1", "client_id", "a\x00b", "printable"},
		{"client_id=" + long + "&systems=1", "client_id", long[:61] + "...", "1 to 128 bytes"},
		{"client_id=%zz&systems=1", "client_id", "%zz", "each % followed by two hex digits"},
		{"client_id=%&systems=1", "client_id", "%", "each % followed by two hex digits"},
		{"client_id=a%ff&systems=1", "client_id", "a%ff", "text in UTF-8"},
		{"client_id=a\xff&systems=1", "client_id", "a\uFFFD", "text in UTF-8"},
		{"client_id=%20a&systems=1", "client_id", " a", "no space at either end"},
		{"client_id=a+&systems=1", "client_id", "a ", "no space at either end"},
		{"client_id=x&client_id=y&systems=1", "client_id", "y", `one value only, and "x" was given too`},

		// Systems: empty ones, what is no number, what is out of range.
		{"client_id=a&systems[]=", "systems", "", "decimal digits, 1 to 2147483647"},
		{"client_id=a&systems=", "systems", "", "decimal digits, 1 to 2147483647"},
		{"client_id=a&systems=1,", "systems", "", "decimal digits"},
		{"client_id=a&systems=1,,2", "systems", "", "decimal digits"},
		{"client_id=a&systems[]=abc", "systems", "abc", "decimal digits"},
		{"client_id=a&systems[]=1.5", "systems", "1.5", "decimal digits"},
		{"client_id=a&systems[]=%201", "systems", " 1", "decimal digits"},
		{"client_id=a&systems[]=0x10", "systems", "0x10", "decimal digits"},
		{"client_id=a&systems[]=1e3", "systems", "1e3", "decimal digits"},
		{"client_id=a&systems[]=1_000", "systems", "1_000", "decimal digits"},
		{"client_id=a&systems[]=+1", "systems", " 1", "decimal digits"},
		{"client_id=a&systems[]=%2B1", "systems", "+1", "decimal digits"},
		{"client_id=a&systems[]=-1", "systems", "-1", "1 to 2147483647"},
		{"client_id=a&systems[]=0", "systems", "0", "1 to 2147483647"},
		{"client_id=a&systems[]=2147483648", "systems", "2147483648", "1 to 2147483647"},
		{"client_id=a&systems[]=99999999999999999999", "systems", "99999999999999999999", "1 to 2147483647"},
		{"client_id=a&systems=1&systems[]=x", "systems", "x", "decimal digits"},
		{"client_id=a&systems[0]=1", "systems[0]", "1", "without anything in the brackets"},
		{"client_id=a&systems[a]=1", "systems[a]", "1", "without anything in the brackets"},
		{"client_id=a&systems[][]=1", "systems[][]", "1", "without anything in the brackets"},
		{"client_id=a&systems%5B0%5D=1", "systems[0]", "1", "without anything in the brackets"},

		// Topics.
		{"client_id=a&topics=", "topics", "", "all, system:<id>, character:<id>"},
		{"client_id=a&topics=system", "topics", "system", "system:<id>"},
		{"client_id=a&topics=system:0", "topics", "0", "1 to 2147483647"},
		{"client_id=a&topics=system:x", "topics", "x", "decimal digits"},
		{"client_id=a&topics=planet:1", "topics", "planet:1", "all, system:<id>"},
		{"client_id=a&topics=ALL", "topics", "ALL", "all, system:<id>"},
		{"client_id=a&topics=all,", "topics", "", "all, system:<id>"},
		{"client_id=a&topics=label:", "topics", "label:", "label:<label>"},
		{"client_id=a&topics[1]=all", "topics[1]", "all", "without anything in the brackets"},
		{"client_id=a&topics=constellation:20000020", "topics", "constellation:20000020", "need static data, which this server does not have"},
		{"client_id=a&topics=region:10000002", "topics", "region:10000002", "need static data, which this server does not have"},
		{"client_id=a&topics=group:25", "topics", "group:25", "need static data, which this server does not have"},

		// The others.
		{ok + "&limit=0", "limit", "0", "a whole number from 1 to 1000 (500 when left out)"},
		{ok + "&limit=1001", "limit", "1001", "from 1 to 1000"},
		{ok + "&limit=-1", "limit", "-1", "from 1 to 1000"},
		{ok + "&limit=ten", "limit", "ten", "from 1 to 1000"},
		{ok + "&limit=", "limit", "", "from 1 to 1000"},
		{ok + "&limit=1&limit=2", "limit", "2", `one value only, and "1" was given too`},
		{ok + "&wait=61", "wait", "61", "seconds from 0 to 60"},
		{ok + "&wait=60.001", "wait", "60.001", "seconds from 0 to 60"},
		{ok + "&wait=-1", "wait", "-1", "seconds from 0 to 60"},
		{ok + "&wait=1e1", "wait", "1e1", "seconds from 0 to 60"},
		{ok + "&wait=NaN", "wait", "NaN", "seconds from 0 to 60"},
		{ok + "&wait=.", "wait", ".", "seconds from 0 to 60"},
		{ok + "&commit=no", "commit", "no", "auto (the default) or manual"},
		{ok + "&start=0", "start", "0", "earliest, latest, an event id from 1 on, or a time"},
		{ok + "&start=yesterday", "start", "yesterday", "earliest, latest"},
		{ok + "&after=x", "after", "x", "a cursor, <event_id>-<epoch>"},
		{ok + "&after=1-", "after", "1-", "a cursor, <event_id>-<epoch>"},
		{ok + "&after=1-XYZ", "after", "1-XYZ", "a cursor, <event_id>-<epoch>"},
		{ok + "&max_age=0", "max_age", "0", "an age above 0"},
		{ok + "&max_age=-5m", "max_age", "-5m", "an age above 0"},
		{ok + "&max_age=soon", "max_age", "soon", "an age above 0"},
		{ok + "&max_age=99999999999", "max_age", "99999999999", "an age above 0"},
		{ok + "&updates=2", "updates", "2", "0 or 1"},
		{ok + "&backfill=no", "backfill", "no", "0 or 1"},

		// Filters and shapes.
		{ok + "&filter=x", "filter", "x", "a key, an operator"},
		{ok + "&filter=", "filter", "", "filter"},
		{ok + "&filter=region%3DDelve", "filter", "region", "static data"},
		{ok + "&filter=isk>1&filter=isk>2", "filter", "isk>2", `one value only, and "isk>1" was given too`},
		{ok + "&filter[]=isk>1", "filter[]", "isk>1", "filter=<value>: it is not a list"},
		{ok + "&names=yes", "names", "yes", "0 or 1"},
		{ok + "&names[]=1", "names[]", "1", "names=<value>: it is not a list"},
		{ok + "&fields=", "fields", "", "members of the killmail"},
		{ok + "&fields=a,,b", "fields", "", "members of the killmail"},
		{ok + "&fields=a..b", "fields", "a..b", "members of the killmail"},
		{ok + "&fields=.a", "fields", ".a", "members of the killmail"},
		{ok + "&fields=a%00b", "fields", "a\x00b", "members of the killmail"},
		{ok + "&fields=a.b.c.d.e.f.g.h.i", "fields", "a.b.c.d.e.f.g.h.i", "at most 8 names"},
		{ok + "&fields=" + strings.Repeat("a,", 64) + "a", "fields", strings.Repeat("a,", 30) + "a...", "at most 64 members"},

		// Bad percent-encoding and bad UTF-8 anywhere, also where nothing is read.
		{ok + "&x=%zz", "x", "%zz", "each % followed by two hex digits"},
		{ok + "&%zz=1", "%zz", "%zz", "each % followed by two hex digits"},
		{ok + "&%ff=1", "%ff", "%ff", "text in UTF-8"},
	} {
		for _, path := range []string{"/api/killfeed", "/api/killfeed/next"} {
			if path == "/api/killfeed/next" && c.parameter == "limit" {
				continue // next has none, and what it does not know it ignores
			}
			t.Run(path+"?"+c.query[:min(len(c.query), 60)], func(t *testing.T) {
				s := *s
				s.t = t
				r := s.request("GET", path, "")
				r.URL.RawQuery = c.query
				p := s.send(r).problem(400)
				if p.Parameter != c.parameter || p.Value != c.value {
					t.Errorf("parameter %q, value %q; want %q, %q", p.Parameter, p.Value, c.parameter, c.value)
				}
				if !strings.Contains(p.Detail, c.detail) {
					t.Errorf("detail %q, want %q in it", p.Detail, c.detail)
				}
			})
		}
	}
	if n := s.feed.Stats().Clients; n != 0 {
		t.Errorf("%d clients were made by requests that were refused", n)
	}
}

// TestSpellings: all ways to name the same systems and topics, and events come once however often they are named.
func TestSpellings(t *testing.T) {
	s := newServer(t)
	s.insert(jita, hek, perimet) // 1, 2, 3
	for i, c := range []struct {
		query string
		want  []killfeed.EventID
	}{
		{"systems=30000142", []killfeed.EventID{1}},
		{"systems[]=30000142", []killfeed.EventID{1}},
		{"systems%5B%5D=30000142", []killfeed.EventID{1}},
		{"systems%5b%5d=30000142", []killfeed.EventID{1}},
		{"systems=30000142,30002053", []killfeed.EventID{1, 2}},
		{"systems=30000142%2C30002053", []killfeed.EventID{1, 2}},
		{"systems=30000142&systems=30002053", []killfeed.EventID{1, 2}},
		{"systems=30000142&systems[]=30002053", []killfeed.EventID{1, 2}},
		{"systems[]=30000142,30002053&systems[]=30000144", []killfeed.EventID{1, 2, 3}},
		{"systems[]=30000142&systems[]=30000142&systems=30000142,30000142", []killfeed.EventID{1}},
		{"topics=system:30000142", []killfeed.EventID{1}},
		{"topics=system%3A30000142", []killfeed.EventID{1}},
		{"topics[]=system:30000142&systems=30000144", []killfeed.EventID{1, 3}},
		{"topics=system:30000142,system:30000144", []killfeed.EventID{1, 3}},
		{"topics=all", []killfeed.EventID{1, 2, 3}},
		{"topics=all&systems=30000142", []killfeed.EventID{1, 2, 3}},
		{"systems=30000142&unknown=1&limits=x&foo[0]=1&&=&", []killfeed.EventID{1}},
		{"systems=30000142&updates=false&backfill=true&limit=1000&wait=0&commit=auto&start=earliest", []killfeed.EventID{1}},
		{"systems=30000142&limit=1&limit=1", []killfeed.EventID{1}},
		{"systems=999", nil},
	} {
		p := s.get(fmt.Sprintf("/api/killfeed?client_id=c%d&%s", i, c.query)).poll()
		if !slices.Equal(p.ids(), c.want) {
			t.Errorf("%s: events %v, want %v", c.query, p.ids(), c.want)
		}
	}
	if p := s.get("/api/killfeed?client_id=twice&client_id=twice&topics=all").poll(); len(p.Events) != 3 {
		t.Errorf("client_id twice, the same: %d events, want 3", len(p.Events))
	}
	for _, name := range []string{"%C3%A4+b", "a%2Fb", "%F0%9F%9A%80", strings.Repeat("x", 128)} {
		if p := s.get("/api/killfeed?client_id=" + name + "&topics=all").poll(); len(p.Events) != 3 {
			t.Errorf("client_id=%s: %d events, want 3", name, len(p.Events))
		}
	}
}

// TestManySystems: a thousand of them fit into a URL, and ten thousand into a body.
func TestManySystems(t *testing.T) {
	s := newServer(t)
	s.insert(jita)
	var ids []string
	for i := range killfeed.MaxTopics + 1 {
		ids = append(ids, fmt.Sprint(jita-i))
	}
	query := "systems[]=" + strings.Join(ids[:1000], "&systems[]=")
	if p := s.get("/api/killfeed?client_id=url&" + query).poll(); len(p.Events) != 1 {
		t.Errorf("a thousand systems in the URL: %d events, want 1", len(p.Events))
	}
	body := func(n int) string { return `{"client_id":"body","systems":[` + strings.Join(ids[:n], ",") + `]}` }
	p := s.do("POST", "/api/killfeed", body(killfeed.MaxTopics), "Content-Type", "application/json").poll()
	if len(p.Events) != 1 {
		t.Errorf("ten thousand systems in the body: %d events, want 1", len(p.Events))
	}
	refused := s.do("POST", "/api/killfeed", body(killfeed.MaxTopics+1)).problem(400)
	if refused.Parameter != "topics" || !strings.Contains(refused.Detail, "at most 10000") {
		t.Errorf("one more: %+v, want a refusal that names the limit", refused)
	}
}

// TestOtherMethods: what is not there is a 405 that says what is. HEAD and OPTIONS consume nothing.
func TestOtherMethods(t *testing.T) {
	s := newServer(t)
	s.insert(jita)
	for _, path := range []string{"/api/killfeed", "/api/killfeed/next"} {
		url := path + "?client_id=a&systems=30000142"
		for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "BREW", "get"} {
			a := s.do(method, url, "")
			p := a.problem(405)
			if got := a.header.Get("Allow"); got != "GET, HEAD, POST, OPTIONS" {
				t.Errorf("%s %s: Allow %q, want GET, HEAD, POST, OPTIONS", method, path, got)
			}
			if !strings.Contains(p.Detail, method) || !strings.Contains(p.Detail, path) {
				t.Errorf("%s %s: detail %q, want method and path in it", method, path, p.Detail)
			}
		}
		for range 2 {
			a := s.do("HEAD", url, "").want(200)
			if a.header.Get("Killfeed-Head") != "1" || a.header.Get("Content-Length") == "0" {
				t.Errorf("HEAD %s: headers %v, want those of GET", path, a.header)
			}
			s.do("OPTIONS", url, "").want(204)
		}
	}
	if n := s.feed.Stats().Clients; n != 0 {
		t.Errorf("HEAD and OPTIONS made %d clients", n)
	}
	if p := s.get("/api/killfeed?client_id=a&systems=30000142").poll(); len(p.Events) != 1 {
		t.Errorf("after HEAD and OPTIONS there are %d events, want 1", len(p.Events))
	}
	if p := s.do("POST", "/api/killfeed?client_id=b&systems=30000142", "").poll(); len(p.Events) != 1 {
		t.Errorf("POST: %d events, want 1", len(p.Events))
	}
}

func TestTrailingSlashAndAccept(t *testing.T) {
	s := newServer(t)
	s.insert(jita, jita)
	var bodies []string
	for i, path := range []string{"/api/killfeed", "/api/killfeed/"} {
		a := s.do("GET", fmt.Sprintf("%s?client_id=poll%d&topics=all", path, i), "", "Accept", "text/html").want(200)
		bodies = append(bodies, string(a.body)+a.header.Get("Content-Type"))
	}
	for i, path := range []string{"/api/killfeed/next", "/api/killfeed/next/"} {
		a := s.do("GET", fmt.Sprintf("%s?client_id=next%d&topics=all", path, i), "", "Accept", "text/html").want(200)
		bodies = append(bodies, string(a.body)+a.header.Get("Content-Type"))
	}
	if bodies[0] != bodies[1] || bodies[2] != bodies[3] || !strings.HasSuffix(bodies[0], "application/json") {
		t.Errorf("answers differ with a slash or are no JSON: %q", bodies)
	}
}

// TestConnectionSurvivesRefusals on a real connection: a client that pools connections must not lose its next request.
func TestConnectionSurvivesRefusals(t *testing.T) {
	s := newServer(t)
	_, addr := s.listen(s.api)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	back := bufio.NewReader(conn)
	for _, c := range []struct {
		request string
		status  int
	}{
		{"GET /api/killfeed HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		{"PUT /api/killfeed HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405},
		{"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		{"POST /api/killfeed HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{ab", 400},
		{"POST /api/killmails HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 401},
		{"HEAD /api/killfeed?client_id=a&topics=all HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		{"GET /api/killfeed/next?client_id=a&topics=all HTTP/1.1\r\nHost: x\r\n\r\n", 204},
		{"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200},
	} {
		if _, err := io.WriteString(conn, c.request); err != nil {
			t.Fatalf("%s: %v", c.request, err)
		}
		method, _, _ := strings.Cut(c.request, " ")
		res, err := http.ReadResponse(back, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s: %v", c.request, err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Fatalf("%s: %v", c.request, err)
		}
		if res.StatusCode != c.status || res.Close {
			t.Errorf("%s: status %d, close %v; want %d on a connection that stays", c.request, res.StatusCode, res.Close, c.status)
		}
	}
}

func TestSystemIDsOfOtherTypes(t *testing.T) {
	s := newServer(t)
	a := s.admin("POST", "/api/killmails", `{"system_id":"30000142","killmail":{"a":1}}
		{"system_id":30000142.0,"killmail":{"a":2}}
		{"system_id":-1,"killmail":{"a":3}}
		{"system_id":99999999999999999999,"killmail":{"a":4}}
		{"system_id":{},"killmail":{"a":5}}
		{"system_id":30000142,"killmail":5}
		{"system_id":30000142,"killmail":null}
		{"system_id":30000142,"killmail":[1]}
		5`)
	var results []result
	if a.status == 400 {
		results = a.problem(400).Results
	} else {
		var body struct{ Results []result }
		a.want(201).into(&body)
		results = body.Results
	}
	if len(results) != 9 {
		t.Fatalf("%d results, want 9: %s", len(results), a.body)
	}
	// Whatever is taken can be polled under its system: refused or made the number that it is, never stored unseen.
	p := s.get("/api/killfeed?client_id=a&systems=30000142").poll()
	taken := 0
	for i, r := range results {
		if r.Error == "" {
			taken++
		}
		if i >= 2 && r.Error == "" {
			t.Errorf("item %d was taken: %+v", i, r)
		}
	}
	if len(p.Events) != taken || int(p.Head) != taken {
		t.Errorf("%d items were taken, %d can be polled, the head is %d", taken, len(p.Events), p.Head)
	}
}

// TestBytesAreKept: order of keys, number texts, escapes and doubles are as they were sent.
func TestBytesAreKept(t *testing.T) {
	s := newServer(t)
	const killmail = `{"z":1e300,"a":-0.0,"n":123456789012345678901234567890,"d":1,"d":2,"s":"</script>\u2028` + "\u2028" + `\/é","t":1.50}`
	s.admin("POST", "/api/killmails", ` { "system_id" : 30000142 , "killmail" : `+strings.ReplaceAll(killmail, ",", " , ")+` } `).want(201)
	got := s.get("/api/killfeed/next?client_id=a&systems=30000142").want(200).body
	if !strings.HasSuffix(string(got), `,"killmail":`+killmail+`}`) {
		t.Errorf("got  %s\nwant %s as its killmail", got, killmail)
	}
}

// TestBacklogComesInPages: a client that was long away gets bounded answers, each saying that there is more.
func TestBacklogComesInPages(t *testing.T) {
	s := newServer(t)
	const total = 3000
	group := make([]*killfeed.Killmail, 0, total)
	for range total {
		m := s.mail(jita)
		group = append(group, m.Killmail())
	}
	if _, err := s.feed.InsertAll(t.Context(), group, 0); err != nil {
		t.Fatal(err)
	}
	var sizes []int
	for last := killfeed.EventID(0); ; {
		a := s.get("/api/killfeed?client_id=a&systems=30000142&limit=1000")
		p := a.poll()
		sizes = append(sizes, len(p.Events))
		for _, id := range p.ids() {
			if id != last+1 {
				t.Fatalf("event %d follows %d", id, last)
			}
			last = id
		}
		if header := a.header.Get("Killfeed-More"); (header == "1") != p.More {
			t.Errorf("more is %v, Killfeed-More is %q", p.More, header)
		}
		if !p.More {
			break
		}
	}
	if !slices.Equal(sizes, []int{1000, 1000, 1000}) {
		t.Errorf("pages of %v events, want three of 1000", sizes)
	}
	if p := s.get("/api/killfeed?client_id=b&systems=30000142").poll(); len(p.Events) != 500 || !p.More {
		t.Errorf("without a limit: %d events, more %v; want 500 and more", len(p.Events), p.More)
	}
}
