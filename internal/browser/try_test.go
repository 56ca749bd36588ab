//go:build unix

package browser

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// text is what an element of the page says.
func (p *page) text(selector string) string {
	p.t.Helper()
	return eval[string](p, `document.querySelector(%q).textContent`, selector)
}

// fill types into a field of the playground in place of what is there.
func (p *page) fill(field, text string) {
	p.t.Helper()
	eval[any](p, `(document.querySelector("#field-%s").select(), 0)`, field)
	p.press("Delete")
	if text != "" {
		p.do(nil, "type", map[string]any{"text": text})
	}
}

// answered waits until the playground has an answer that is over, and returns its status and body.
func (p *page) answered() (status, body string) {
	p.t.Helper()
	p.wait(`document.querySelector("#answer").dataset.is === "done"`)
	return p.text("#status"), p.text("#body")
}

// shown asks that what is shown as curl, or as sent over the wire, was asked so.
func (p *page) shown() {
	p.t.Helper()
	command := p.text("#curl")
	var want []string
	if url, message, found := strings.Cut(command, "\n"); found {
		want = []string{"GET " + url, message}
	} else {
		accept := "*/*"
		if _, header, found := strings.Cut(command, "-H 'Accept: "); found {
			accept, _, _ = strings.Cut(header, "'")
		}
		_, url, _ := strings.Cut(command, "'http://")
		want = []string{"GET http://" + strings.TrimSuffix(url, "'") + " " + accept}
	}
	asked := p.seen().Asked
	for _, w := range want {
		if !slices.Contains(asked, w) {
			p.t.Errorf("%s\nis shown, but asked was\n%s", w, strings.Join(asked, "\n"))
		}
	}
}

// squeezed is JSON without white space.
func squeezed(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	return b.String()
}

// direct is what the server answers without the page.
func (s *server) direct(t *testing.T, path string) string {
	t.Helper()
	res, err := http.Get(s.url(path))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each way to read runs against the server, asks what is shown as curl, and shows what the API answers. Nothing is asked before.
func TestTry(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false", "--names", "off")
	s.insert(t, 5, worth(rifter, jita))
	s.insert(t, 3, worth(avatar, niarja))
	p := b.open(t, s.url("/try"), look{})
	visit := func(t *testing.T, query string) {
		t.Helper()
		p.do(nil, "goto", map[string]any{"url": s.url("/try?" + query)})
		p.wait(`document.querySelector("#curl").textContent !== ""`)
	}
	for _, one := range []struct{ way, query, status, path string }{
		{"poll", "limit=3&start=2&client_id=", "200", "/api/killfeed?topics=all&limit=3&start=2"},
		{"lookback", "limit=2&topics=system:Jita&fields=killmail_id", "200", "/api/killmails?topics=system%3AJita&fields=killmail_id&limit=2"},
		{"lookback", "limit=2&filter=ship%3DAvatar&names=1", "200", "/api/killmails?topics=all&filter=ship%3DAvatar&names=1&limit=2"},
		{"counts", "since=2020-01-01T00:00:00Z&names=1", "200", ""},
		{"r2z2", "", "200", "/ephemeral/sequence.json"},
		{"r2z2", "number=2", "200", "/ephemeral/2.json"},
	} {
		t.Run(one.way, func(t *testing.T) {
			before := len(p.seen().Asked)
			visit(t, "way="+one.way+"&"+one.query)
			for _, asked := range p.seen().Asked[before:] {
				if !strings.Contains(asked, "/try") && !strings.Contains(asked, "/assets/") {
					t.Errorf("before anybody ran it, it asked %s", asked)
				}
			}
			p.click("#run")
			status, body := p.answered()
			if !strings.HasPrefix(status, one.status) || !strings.HasSuffix(status, " ms") {
				t.Errorf("status %q", status)
			}
			p.shown()
			if one.path == "" {
				if got := squeezed(t, body); !strings.Contains(got, `"killmails":5`) || !strings.Contains(got, `"name":"Niarja"`) {
					t.Error(got)
				}
				return
			}
			if diff := cmp.Diff(squeezed(t, s.direct(t, one.path)), squeezed(t, body)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("client", func(t *testing.T) {
		visit(t, "limit=6")
		if got := eval[string](p, `document.querySelector("#field-client_id").value`); !strings.HasPrefix(got, "try-") {
			t.Errorf("the client is %q", got)
		}
		run := func() string {
			p.click("#run")
			_, body := p.answered()
			p.shown()
			return squeezed(t, body)
		}
		if got := run(); !strings.HasPrefix(got, `{"events":[{"event_id":1,`) {
			t.Error(got)
		}
		told := strings.Join(p.texts("#headers > *"), " ")
		if !strings.Contains(told, "Killfeed-Head 8") || !strings.Contains(told, "Killfeed-More 1") {
			t.Errorf("headers %q", told)
		}
		if got := run(); !strings.HasPrefix(got, `{"events":[{"event_id":7,`) {
			t.Error(got)
		}
		p.click("[data-seek=earliest]")
		if status, body := p.answered(); !strings.HasPrefix(status, "200") || !strings.Contains(squeezed(t, body), `"offsets":{"all":0},"lag":8`) {
			t.Errorf("%s: %s", status, body)
		}
		if got := p.text("#asked"); !strings.HasPrefix(got, "POST /api/clients/try-") || !slices.ContainsFunc(p.seen().Asked, func(a string) bool {
			return strings.HasPrefix(a, "POST ") && strings.HasSuffix(a, ` */* {"to":"earliest","topics":["all"]}`)
		}) {
			t.Errorf("asked %s", got)
		}
		p.click("[name=way][value=next]")
		if got := run(); !strings.HasPrefix(got, `{"event_id":1,`) {
			t.Error(got)
		}
		p.click("[data-seek=latest]")
		p.answered()
		p.click("#run")
		if status, body := p.answered(); !strings.HasPrefix(status, "204") || body != "no body" {
			t.Errorf("%s: %s", status, body)
		}

		// The same client waits, and is answered when something comes.
		p.click("[name=way][value=wait]")
		p.fill("wait", "50")
		p.click("#run")
		p.wait(`fetch("/api/status").then(r => r.json()).then(s => s.waiting === 1)`)
		s.insert(t, 1, worth(rifter, jita))
		if _, body := p.answered(); !strings.HasPrefix(squeezed(t, body), `{"events":[{"event_id":9,`) {
			t.Error(body)
		}
		p.shown()
	})
	t.Run("redisq", func(t *testing.T) {
		visit(t, "way=redisq&wait=1")
		p.click("#run")
		if _, body := p.answered(); squeezed(t, body) != `{"package":null,"packages":[]}` {
			t.Error(body)
		}
		s.insert(t, 1, worth(rifter, jita))
		p.click("#run")
		if _, body := p.answered(); !strings.HasPrefix(squeezed(t, body), `{"package":{"killID":`) {
			t.Error(body)
		}
		p.shown()
	})
	head := 10
	for _, one := range []struct{ way, opening string }{{"sse", "open"}, {"ndjson", "open"}, {"channels", "phx_reply"}} {
		t.Run(one.way, func(t *testing.T) {
			visit(t, fmt.Sprintf("way=%s&start=%d&filter=ship%%3DRifter", one.way, head))
			p.click("#run")
			p.wait(`document.querySelectorAll("#messages li").length === 2`)
			p.shown()
			if diff := cmp.Diff([]string{"2 new_killmail", "1 " + one.opening}, p.texts("#messages .code")); diff != "" {
				t.Error(diff)
			}
			if got, want := p.text("#messages pre"), fmt.Sprintf(`"event_id": %d,`, head); !strings.Contains(got, want) {
				t.Errorf("%s lacks %s", got, want)
			}
			s.insert(t, 60, worth(rifter, jita))
			head += 60
			p.wait(`document.querySelector("#messages .code").textContent === "62 new_killmail"`)
			if got := len(p.texts("#messages li")); got != 50 {
				t.Errorf("%d messages are shown, want 50", got)
			}
			p.click("#run")
			if status, _ := p.answered(); !strings.HasSuffix(status, "stopped") {
				t.Errorf("status %q", status)
			}
			p.wait(`fetch("/api/status").then(r => r.json()).then(s => s.connections === 0)`)
		})
	}
	t.Run("bounded", func(t *testing.T) {
		visit(t, "way=lookback&limit=1000")
		p.click("#run")
		_, body := p.answered()
		whole := s.direct(t, "/api/killmails?topics=all&limit=1000")
		if got := p.text("#cut"); len(body) != 200<<10 || !strings.Contains(got, "The first 200 KB are shown") {
			t.Errorf("of %d bytes %d are shown, and it says %q", len(whole), len(body), got)
		}
	})
	if foreign := p.seen().Foreign; len(foreign) > 0 {
		t.Errorf("it asked %q", foreign)
	}
}

// What is refused is told with its parameter, which is marked; what strangers wrote is text; a server that is away is told.
func TestTryRefusals(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false", "--names", "off")
	s.post(t, []byte(`{"killmail_id":7,"killmail_time":"2026-11-23T18:00:00Z","solar_system_id":30000142,
		"victim":{"ship_type_id":"<img src=x onerror=globalThis.hit=1>","precise":12345678901234567890.50}}`))
	p := b.open(t, s.url("/try?way=lookback"), look{})
	p.failing = true // each 400 is on the console
	p.click("#run")
	if _, body := p.answered(); !strings.Contains(body, `"<img src=x onerror=globalThis.hit=1>"`) || !strings.Contains(body, "12345678901234567890.50") {
		t.Error(body)
	}
	if eval[bool](p, `globalThis.hit === 1 || document.querySelector("#answer img") !== null`) {
		t.Error("text of a killmail has become markup")
	}
	for _, one := range []struct{ query, parameter, text, marked string }{
		{"way=poll&filter=nonsense(", "filter", `filter "nonsense("`, "filter"},
		{"way=poll&client_id=", "client_id", "client_id", "client_id"},
		{"way=sse&topics=nonsense", "topics", `"nonsense"`, "topics"},
		{"way=channels&filter=nonsense(", "filter", `filter "nonsense("`, "filter"},
		{"way=counts&since=nonsense", "since", `"nonsense"`, "since"},
		{"way=redisq&client_id=", "", "queueID is missing", ""},
		{"way=r2z2&number=2", "", "not there yet", ""},
	} {
		p.do(nil, "goto", map[string]any{"url": s.url("/try?" + one.query)})
		p.click("#run")
		p.answered()
		p.wait(`document.querySelector("#refusal").checkVisibility()`)
		if got := p.text("#refusal"); !strings.HasPrefix(got, one.parameter) || !strings.Contains(got, one.text) {
			t.Errorf("%s: %s", one.query, got)
		}
		if got := strings.Join(eval[[]string](p, `[...document.querySelectorAll("[aria-invalid]")].map(e => e.id)`), " "); got != "" && got != "field-"+one.marked || (got == "") != (one.marked == "") {
			t.Errorf("%s: %q is marked", one.query, got)
		}
	}
	p.do(nil, "goto", map[string]any{"url": s.url("/try?way=sse")})
	p.click("#run")
	p.wait(`document.querySelector("#messages li")`)
	s.kill()
	if status, _ := p.answered(); !strings.Contains(status, "· the server ") { // it depends on the browser what it takes it for
		t.Errorf("status %q", status)
	}
}

// The address has all that was typed and not the client that was made up; keys alone are enough; what is copied is what is shown,
// and works.
func TestTryAddress(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false", "--names", "off")
	s.insert(t, 2, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.live()
	p.click(`footer a[href="/try"]`)
	p.wait(`location.pathname === "/try" && document.querySelector("#curl")?.textContent`)
	made := eval[string](p, `document.querySelector("#field-client_id").value`)
	eval[any](p, `(document.querySelector("[name=way]").focus(), 0)`)
	p.press("ArrowRight", "ArrowRight")
	p.fill("filter", `isk>1;'"&`)
	p.fill("limit", "")
	eval[any](p, `(document.querySelector("#field-names").focus(), 0)`)
	p.press(" ")
	p.click("#search")
	p.do(nil, "type", map[string]any{"text": "Jita"})
	p.wait(`document.querySelector("#suggestions [role=option]")`)
	p.press("Enter")
	state := func() []string {
		return append(eval[[]string](p, `[...document.querySelectorAll("#fields input")].map(e => e.type === "checkbox" ? String(e.checked) : e.value)`), p.text("#curl"), p.text("#script"))
	}
	p.wait(`location.search !== "" && document.querySelector("#field-topics").value === "system:Jita"`)
	if got, want := eval[string](p, `location.search`), "?way=wait&topics=system%3AJita&filter=isk%3E1%3B%27%22%26&limit=&names=1"; got != want {
		t.Errorf("the address has %s, want %s", got, want)
	}
	before := state()
	p.do(nil, "reload", nil)
	p.wait(`document.querySelector("#curl").textContent !== ""`)
	if diff := cmp.Diff(before, state()); diff != "" {
		t.Error(diff)
	}
	if got := eval[string](p, `document.querySelector("#field-client_id").value`); got != made {
		t.Errorf("after a reload the client is %s, was %s", got, made)
	}
	if got := p.text("#run"); got != "Run" || p.text("#asked") != "Nothing was asked yet." {
		t.Error("an address runs by itself")
	}

	p.fill("filter", "")
	p.fill("client_id", "me")
	p.press("Enter")
	if status, _ := p.answered(); !strings.HasPrefix(status, "200") {
		t.Errorf("status %q", status)
	}
	p.shown()
	for id, of := range map[string]string{"#copy-curl": "#curl", "#copy-script": "#script"} {
		p.click(id)
		p.wait(`navigator.clipboard.readText().then(text => text === document.querySelector(%q).textContent)`, of)
	}
	for _, way := range []string{"redisq", "r2z2", "lookback", "counts"} {
		p.click("[name=way][value=" + way + "]")
		if got := eval[string](p, `(async () => { %s
			return typeof answer })()`, p.text("#script")); got != "object" {
			t.Errorf("the JavaScript of %s has %s", way, got)
		}
		p.shown()
	}
	eval[any](p, `(globalThis.logged = [], console.log = (...what) => logged.push(JSON.stringify(what)), 0)`)
	p.click("[name=way][value=sse]")
	p.fill("start", "1")
	for way, last := range map[string]string{"sse": `[2,{"`, "ndjson": `[{"type":"new_killmail","event_id":2,`} {
		p.click("[name=way][value=" + way + "]")
		eval[any](p, `(() => { logged.length = 0; (async () => { %s
			})() })()`, p.text("#script"))
		p.wait(`logged.some(line => line.startsWith(%q))`, last)
	}
}

// Nothing is wider than a phone, and nothing serious is in the way of who cannot see, in either theme.
func TestTryAccessible(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false", "--names", "off")
	s.insert(t, 3, worth(rifter, jita))
	for _, scheme := range []string{"dark", "light"} {
		t.Run(scheme, func(t *testing.T) {
			p := b.open(t, s.url("/try?way=sse&start=1"), look{Width: 360, Height: 760, Scheme: scheme, Bypass: true})
			p.click("#run")
			p.wait(`document.querySelectorAll("#messages li").length === 4`)
			p.judged("a stream")
			for _, way := range eval[[]string](p, `[...document.querySelectorAll("[name=way]")].map(e => e.value)`) {
				p.click("[name=way][value=" + way + "]")
				if wide := eval[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
					t.Errorf("%s: %d pixels stick out at the side", way, wide)
				}
			}
			p.click("[name=way][value=poll]")
			p.click("#search")
			p.do(nil, "type", map[string]any{"text": "ji"})
			p.wait(`document.querySelector("#suggestions [role=option]")`)
			p.judged("suggestions")
			p.press("Escape", "Escape")
			p.fill("filter", "nonsense(")
			p.failing = true // the 400 is on the console
			p.click("#run")
			p.wait(`document.querySelector("#refusal").checkVisibility()`)
			p.judged("a refusal")
		})
	}
}
