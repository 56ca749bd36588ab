//go:build unix

package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ask asks the server something, with a token unless that is empty.
func (s *server) ask(t *testing.T, method, path, token, body string) (status int, text []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.url(path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err = io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, text
}

// get asks for JSON.
func get[T any](t *testing.T, s *server, path string) (v T) {
	t.Helper()
	status, text := s.ask(t, http.MethodGet, path, s.token, "")
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d\n%s", path, status, text)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("GET %s: %v\n%s", path, err, text)
	}
	return v
}

// reads has a client read so many events of all.
func (s *server) reads(t *testing.T, client string, limit int) {
	t.Helper()
	status, text := s.ask(t, http.MethodGet, fmt.Sprintf("/api/killfeed?topics=all&limit=%d&client_id=%s", limit, url.QueryEscape(client)), "", "")
	if status != http.StatusOK {
		t.Fatalf("%s reads: %d\n%s", client, status, text)
	}
}

// clientState is a client as the API shows it.
type clientState struct {
	ID      string `json:"client_id"`
	Offsets map[string]int
	Lag     int
}

func (s *server) clients(t *testing.T) []clientState {
	t.Helper()
	return get[struct{ Clients []clientState }](t, s, "/api/clients").Clients
}

// openOps opens the operator's view and waits until it shows something.
func openOps(t *testing.T, b *browser, s *server, l look) *page {
	t.Helper()
	p := b.open(t, s.url("/ops"), l)
	p.wait(`document.querySelector("#main").dataset.fresh === "yes"`)
	return p
}

// useToken types a token in, as a person without a mouse does.
func (p *page) useToken(token string) {
	p.t.Helper()
	eval[any](p, `document.querySelector("#token").focus()`)
	p.do(nil, "type", map[string]any{"text": token})
	p.press("Enter")
}

// accepted waits until the page's token has been accepted and what needs it is there.
func (p *page) accepted() {
	p.t.Helper()
	p.wait(`document.querySelector("#token-state").textContent === "The token is accepted." && document.querySelectorAll("#clients tbody tr").length > 0 &&
		document.querySelectorAll("#warnings tbody tr").length > 0`)
}

// texts are the texts of elements.
func (p *page) texts(selector string) []string {
	p.t.Helper()
	return eval[[]string](p, `[...document.querySelectorAll(%q)].map(e => e.textContent)`, selector)
}

// happened waits until something was said that begins so.
func (p *page) happened(prefix string) string {
	p.t.Helper()
	p.wait(`document.querySelector("#done li")?.lastChild.textContent.startsWith(%q)`, prefix)
	return eval[string](p, `document.querySelector("#done li").lastChild.textContent`)
}

// judged has axe-core judge what is seen: nothing serious may be wrong, and nothing be wider than the screen.
func (p *page) judged(of string) {
	p.t.Helper()
	var found []struct {
		ID, Impact, Help string
		Nodes            []string
	}
	p.do(&found, "judge", nil)
	for _, f := range found {
		if f.Impact == "serious" || f.Impact == "critical" {
			p.t.Errorf("%s: %s (%s): %s", of, f.Help, f.ID, strings.Join(f.Nodes, "\n"))
		}
	}
	if wide := eval[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		p.t.Errorf("%s: %d pixels stick out at the side", of, wide)
	}
}

// The operator's view says what the API says, at every width and in both themes, and whoever cannot see or click can use it.
func TestOps(t *testing.T) {
	t.Parallel() // most of it is waiting for the next refresh
	b := newBrowser(t)
	s := newServer(t, "--images=false", "--names", "off", "--max-bytes", "20GiB")
	s.insert(t, 1234, nil)
	s.reads(t, "foo", 1000)
	s.reads(t, "bar/baz", 1)
	st := get[struct {
		Version  string
		Health   struct{ Status string }
		Log      struct{ Epoch string }
		Services []struct{ Name string }
		Sources  []struct{ Name, Detail string }
		Static   struct{ Build int } `json:"static_data"`
	}](t, s, "/api/status")
	want := map[string]string{
		"version": st.Version, "log.head": "1,234", "log.first": "1", "log.kept": "1,234", "log.epoch": st.Log.Epoch, "clients": "2", "waiting": "0",
		"connections": "1", "subscriptions": "1", "retention.retain": "24 h", "retention.max": "30 d", "retention.max_bytes": "20 GiB",
		"retention.client_ttl": "7 d", "static.build": fmt.Sprint("build ", st.Static.Build), "names.state": "switched off",
	}
	stream, err := http.Get(s.url("/api/killfeed/stream?topics=all"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	for _, l := range []look{
		{Width: 1440, Height: 900, Scheme: "dark"}, {Width: 1440, Height: 900, Scheme: "light"},
		{Width: 360, Height: 740, Scheme: "dark"}, {Width: 360, Height: 740, Scheme: "light"},
	} {
		t.Run(fmt.Sprint(l.Width, " ", l.Scheme), func(t *testing.T) {
			l.Bypass = true // what axe-core does is not the page's
			p := openOps(t, b, s, l)
			p.wait(`document.querySelector('[data-value="disk"]').textContent !== "–"`)
			got := map[string]string{}
			for name := range want {
				got[name] = eval[string](p, `document.querySelector('[data-value="%s"]').textContent`, name)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if word := p.texts("#health"); word[0] != st.Health.Status {
				t.Errorf("health is %q, want %q", word, st.Health.Status)
			}
			var services []string
			for _, one := range st.Services {
				services = append(services, one.Name)
			}
			if diff := cmp.Diff(services, p.texts("#services tbody th")); diff != "" {
				t.Error(diff)
			}
			if got := p.texts("#sources tbody th"); !slices.Equal(got, []string{st.Sources[0].Name}) {
				t.Errorf("sources %q", got)
			}
			if got := p.texts("#sources .more"); !slices.Contains(got, st.Sources[0].Detail) {
				t.Errorf("of the source it says %q, want %q", got, st.Sources[0].Detail)
			}
			if got := p.texts("#transports tbody tr"); !slices.Contains(got, "sse1") {
				t.Errorf("transports %q", got)
			}
			p.judged("without a token")
			p.useToken(s.token)
			p.accepted()
			if got := p.texts("#clients tbody tr"); len(got) != 2 || !strings.HasPrefix(got[0], "bar/baz1,2331") || !strings.HasPrefix(got[1], "foo2341") {
				t.Errorf("clients, the one furthest behind first: %q", got)
			}
			p.judged("with the token")
			p.click(`[aria-label="Seek foo"]`)
			p.wait(`document.querySelector("#seek").open`)
			p.judged("seek")
			p.press("Escape")
			dark := eval[string](p, `getComputedStyle(document.body).backgroundColor`)
			p.click("#theme")
			if light := eval[string](p, `getComputedStyle(document.body).backgroundColor`); light == dark {
				t.Errorf("both themes have the background %s", dark)
			}
		})
	}
}

// A refresh changes texts and moves nothing; a hidden tab asks nothing.
func TestOpsRefresh(t *testing.T) {
	t.Parallel() // most of it is waiting for the next refresh
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 10, nil)
	p := openOps(t, b, s, look{})
	p.wait(`document.querySelector('[data-value="disk"]').textContent !== "–"`)
	eval[any](p, `(async () => {
		for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame) // the first answer is drawn
		globalThis.shifted = []
		new PerformanceObserver(list => {
			for (const e of list.getEntries()) globalThis.shifted.push(...e.sources.map(s => s.node?.outerHTML ?? s.node?.textContent ?? ""))
		}).observe({type: "layout-shift"})
		globalThis.row = document.querySelector("#services tbody tr")
	})()`)
	s.insert(t, 1000, nil)
	p.wait(`document.querySelector('[data-value="log.head"]').textContent === "1,010"`)
	s.insert(t, 1, nil)
	p.wait(`document.querySelector('[data-value="log.head"]').textContent === "1,011"`)
	if shifted := eval[[]string](p, `globalThis.shifted`); len(shifted) > 0 {
		t.Errorf("these moved: %q", shifted)
	}
	if !eval[bool](p, `globalThis.row.isConnected`) {
		t.Error("a row that is still there was made anew")
	}

	// With timers that end at once, a page that asks does so all the time.
	asked := func() (n int) {
		for _, path := range p.seen().Paths {
			if path == "/api/status" {
				n++
			}
		}
		return n
	}
	show := func(state string) {
		eval[any](p, `(Object.defineProperty(document, "visibilityState", {value: %q, configurable: true}), document.dispatchEvent(new Event("visibilitychange")), 0)`, state)
	}
	eval[any](p, `(() => {
		const later = globalThis.setTimeout
		globalThis.setTimeout = (f, ms, ...rest) => later(f, 0, ...rest)
	})()`)
	before := asked()
	p.wait(`performance.getEntriesByType("resource").filter(e => e.name.endsWith("/api/status")).length > %d`, before+3)
	show("hidden")
	eval[any](p, `(async () => { for (let i = 0; i < 50; i++) await new Promise(done => setTimeout(done)) })()`) // what was under way ends
	hidden := asked()
	eval[any](p, `(async () => { for (let i = 0; i < 200; i++) await new Promise(done => setTimeout(done)) })()`)
	if now := asked(); now != hidden {
		t.Errorf("a hidden page asked %d times", now-hidden)
	}
	s.insert(t, 1, nil)
	show("visible")
	p.wait(`document.querySelector('[data-value="log.head"]').textContent === "1,012"`)
}

// Without the token, and with a wrong one, nothing can be done, the page says why, and nothing was changed.
func TestOpsRefuses(t *testing.T) {
	t.Parallel() // most of it is waiting for the next refresh
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 10, nil)
	s.reads(t, "foo", 3)
	before := s.clients(t)
	p := openOps(t, b, s, look{})
	able := func() []string {
		return eval[[]string](p, `[...document.querySelectorAll("[data-admin], #sources button, #clients button")].filter(b => b.checkVisibility() && !b.disabled).map(b => b.textContent)`)
	}
	unable := func(reason string) {
		t.Helper()
		if got := able(); len(got) > 0 {
			t.Errorf("these can be pressed: %q", got)
		}
		if got := eval[bool](p, `document.querySelector("#collect").title.includes(%q) && document.querySelector(".why").checkVisibility() && document.querySelector(".why").textContent.includes(%q)`,
			reason, reason); !got {
			t.Errorf("it does not say %q but %q", reason, p.texts(".why"))
		}
	}
	unable("needs the admin token")

	p.failing = true // each 403 is on the console
	p.useToken("not-the-token-of-this-server")
	p.wait(`document.querySelector("#token-refusal").textContent.startsWith("Refused (403): ")`)
	_, text := s.ask(t, http.MethodGet, "/api/warnings", "not-the-token-of-this-server", "")
	var problem struct{ Detail string }
	if err := json.Unmarshal(text, &problem); err != nil || !strings.HasSuffix(p.texts("#token-refusal")[0], problem.Detail) {
		t.Errorf("the refusal is %q, and the server's %s %v", p.texts("#token-refusal"), text, err)
	}
	unable("needs the admin token")
	if kept := eval[int](p, `sessionStorage.length + localStorage.length`); kept != 0 {
		t.Error("a refused token was kept")
	}

	// One that was good, and is changed on the server under the page's hands.
	eval[any](p, `document.querySelector("#token").value = ""`)
	p.useToken(s.token)
	p.accepted()
	if got := eval[bool](p, `sessionStorage.length === 1 && localStorage.length === 0 && document.cookie === ""`); !got {
		t.Error("the token is not in the session's storage alone")
	}
	if eval[bool](p, `location.href.includes(%q) || performance.getEntriesByType("resource").some(e => e.name.includes(%q))`, s.token, s.token) {
		t.Error("the token is in an address")
	}
	p.click(`[aria-label="Delete foo"]`)
	p.wait(`document.querySelector("#confirm").open`)
	s.changeToken(t, "another-token-of-this-server")
	p.click("#confirm-yes")
	// Should the list of clients have been refused in this moment, the token is forgotten already, and it is a 401.
	got := p.happened("Not done: deleting foo. The server refused (40")
	if !strings.HasSuffix(got, "(403): "+problem.Detail) && !strings.Contains(got, "(401): this needs the admin token") {
		t.Errorf("it says %q", got)
	}
	unable("refused the token")
	if got := eval[int](p, `sessionStorage.length`); got != 0 {
		t.Error("the refused token was kept")
	}
	if diff := cmp.Diff(before, s.clients(t)); diff != "" {
		t.Error(diff)
	}
}

// changeToken has the server take another token, and waits until it has.
func (s *server) changeToken(t *testing.T, token string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.data, "admin.token"), []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond) // another process has no better way to tell
	defer tick.Stop()
	for {
		if status, _ := s.ask(t, http.MethodGet, "/api/warnings", token, ""); status == http.StatusOK {
			s.token = token
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the new token is not taken\n%s", s.process.said())
		}
	}
}

// Each action does what it says with the token, says what came of it, and does nothing when it was not meant.
func TestOpsActs(t *testing.T) {
	t.Parallel() // most of it is waiting for the next refresh
	upstream := httptest.NewServer(http.NotFoundHandler())
	defer upstream.Close()
	b := newBrowser(t)
	s := newServer(t, "--images=false", "--names", "off", "--contact", "you@example.com", "--r2z2-url", upstream.URL, "--esi-url", upstream.URL,
		"--retain", "0s", "--retain-max", "0s", "--client-ttl", "0s")
	s.insert(t, 10, nil)
	s.reads(t, "foo", 3)
	s.reads(t, "a/b c", 7)
	s.reads(t, "gone", 5)
	p := openOps(t, b, s, look{})
	p.useToken(s.token)
	p.accepted()
	find := func(id string) (c clientState) {
		for _, c = range s.clients(t) {
			if c.ID == id {
				return c
			}
		}
		return clientState{}
	}

	// Not meant.
	p.click(`[aria-label="Delete gone"]`)
	p.wait(`document.querySelector("#confirm").open`)
	if text := p.texts("#confirm-text")[0]; !strings.Contains(text, "on 1 topic") || !strings.Contains(text, "5 events unread") {
		t.Errorf("it asks %q", text)
	}
	p.press("Enter") // the button that has the focus is the harmless one
	p.wait(`!document.querySelector("#confirm").open`)
	p.click("#collect")
	p.press("Escape")
	p.wait(`!document.querySelector("#confirm").open`)
	if len(s.clients(t)) != 3 || get[struct{ Log struct{ First int } }](t, s, "/api/status").Log.First != 1 {
		t.Error("something was done that was not meant")
	}

	p.click(`[aria-label="Delete gone"]`)
	p.click("#confirm-yes")
	p.happened("Client gone is deleted.")
	p.wait(`![...document.querySelectorAll("#clients tbody th")].some(th => th.textContent === "gone")`)
	if find("gone").ID != "" {
		t.Error("gone is still there")
	}

	seek := func(client, choose string, want int) {
		t.Helper()
		p.click(fmt.Sprintf(`[aria-label="Seek %s"]`, client))
		p.wait(`document.querySelector("#seek").open`)
		eval[any](p, "%s", choose)
		p.click("#seek-yes")
		p.happened(fmt.Sprintf("Client %s was moved: it has %d event", client, 10-want))
		p.wait(`!document.querySelector("#seek").open`)
		if got := find(client); got.Offsets["all"] != want {
			t.Errorf("%s is at %d, want %d", client, got.Offsets["all"], want)
		}
	}
	pick := func(value string) string {
		return fmt.Sprintf(`document.querySelector('#seek [value="%s"]').click()`, value)
	}
	seek("foo", pick("latest"), 10)
	seek("foo", pick("earliest"), 0)
	seek("foo", `(document.querySelector("#seek-id").value = "6", document.querySelector("#seek-id").dispatchEvent(new Event("input")))`, 5)
	seek("a/b c", `(document.querySelector("#seek-time").value = "2020-01-01T00:00", document.querySelector("#seek-time").dispatchEvent(new Event("input")))`, 0)

	// The server's own words where it refuses, and the dialog stays.
	p.failing = true // each 400 is on the console
	p.click(`[aria-label="Seek foo"]`)
	p.wait(`document.querySelector("#seek").open`)
	eval[any](p, `(document.querySelector("#seek-id").value = "0", document.querySelector("#seek-id").dispatchEvent(new Event("input")))`)
	p.click("#seek-yes")
	p.wait(`document.querySelector("#seek-refusal").textContent.startsWith("The server refused (400): ")`)
	p.press("Escape")
	eval[any](p, `document.querySelector("#client").value = "nobody"`)
	p.click("#client-delete")
	p.happened("Not done: deleting nobody. The server refused (404): ")

	// By the rule of these settings, what every client has read goes.
	eval[any](p, `document.querySelector("#client").value = "a/b c"`)
	p.click("#client-seek")
	p.wait(`document.querySelector("#seek").open`)
	eval[any](p, "%s", pick("latest"))
	p.click("#seek-yes")
	p.happened("Client a/b c was moved: it has 0 events unread.")
	p.wait(`!document.querySelector("#seek").open`)
	p.click("#collect")
	p.click("#confirm-yes")
	p.happened("Collected: 5 events removed; kept are 6 to 10.")
	p.wait(`document.querySelector('[data-value="log.first"]').textContent === "6"`)

	state := func() string {
		for _, one := range get[struct {
			Sources []struct{ Name, State string }
		}](t, s, "/api/status").Sources {
			if one.Name == "r2z2" {
				return one.State
			}
		}
		return ""
	}
	p.click(`[aria-label="Pause r2z2"]`)
	p.click("#confirm-yes")
	p.happened("Source r2z2 pauses.")
	p.wait(`document.querySelector('[aria-label="Resume r2z2"]')`)
	if got := state(); got != "paused" {
		t.Errorf("the source is %s", got)
	}
	p.click(`[aria-label="Resume r2z2"]`)
	p.happened("Source r2z2 goes on.")
	p.wait(`document.querySelector('[aria-label="Pause r2z2"]')`)
	if got := state(); got == "paused" {
		t.Errorf("the source is %s", got)
	}

	// A reload keeps the token, Forget forgets it.
	p.do(nil, "reload", nil)
	p.accepted()
	p.click("#forget")
	p.wait(`document.querySelector("#collect").disabled && document.querySelector("#clients-list").hidden && document.querySelector("#warnings-list").hidden`)
	if eval[int](p, `sessionStorage.length`) != 0 {
		t.Error("the token was not forgotten")
	}
}

// What the server warns of is there for who has the token.
func TestOpsWarnings(t *testing.T) {
	t.Parallel() // most of it is waiting for the next refresh
	b := newBrowser(t)
	s := newServer(t, "--images=false", "--names", "off")
	good := s.token
	if err := os.WriteFile(filepath.Join(s.data, "admin.token"), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	var said []struct{ Message string }
	for tick := time.Tick(5 * time.Millisecond); len(said) == 0; <-tick {
		said = get[struct{ Warnings []struct{ Message string } }](t, s, "/api/warnings").Warnings
	}
	p := openOps(t, b, s, look{})
	p.useToken(good)
	p.accepted()
	if got := p.texts("#warnings tbody td"); !slices.ContainsFunc(got, func(text string) bool { return strings.HasPrefix(text, said[0].Message) }) {
		t.Errorf("warnings %q, want %q", got, said)
	}
}

// A server that is away is said to be, and since when; when it is back the page goes on by itself.
func TestOpsAway(t *testing.T) {
	t.Parallel() // most of it is waiting for the next refresh
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 10, nil)
	p := openOps(t, b, s, look{})
	p.wait(`document.querySelector('[data-value="log.head"]').textContent === "10"`)
	p.failing = true
	s.kill()
	p.wait(`document.querySelector("#health").textContent === "away" && document.querySelector("#reason").textContent.startsWith("Last answer at ")`)
	if got := p.texts("#spoken")[0]; !strings.Contains(got, "away since") {
		t.Errorf("who hears the page is told %q", got)
	}
	if got := p.texts(`[data-value="log.head"]`)[0]; got != "10" {
		t.Errorf("the head is now %q", got)
	}
	s.start(t)
	s.insert(t, 5, nil)
	p.wait(`document.querySelector("#main").dataset.fresh === "yes" && document.querySelector('[data-value="log.head"]').textContent === "15"`)
	if got := p.happened("The server is back, after "); !strings.Contains(got, "started anew") {
		t.Errorf("it says %q", got)
	}
	if got := p.texts("#health")[0]; got != "ready" {
		t.Errorf("health is %q", got)
	}
}
