//go:build unix

package browser

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed/storetest"
)

// rifter and avatar are types that the static data of the tests knows.
const rifter, avatar = 587, 11567

// worth sets what a killmail is about: type, system, minutes ago.
func worth(ship, system uint32) func(int, *storetest.Mail) {
	return func(_ int, m *storetest.Mail) {
		m.Victim.Ship, m.System = ship, system
		m.Time = time.Now().Add(-time.Minute).Truncate(time.Second)
	}
}

// descending are n ids from the greatest down.
func descending(from, n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = from - i
	}
	return ids
}

// History first, then live, on top, in the order of the log, and on the screen in under a second from the insert.
func TestLive(t *testing.T) {
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 5, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.live()
	p.rows(5)

	const slowest = time.Second // the page's promise
	var worst time.Duration
	for i := 6; i <= 15; i++ {
		eval[any](p, `(() => {
			globalThis.came = undefined
			new MutationObserver((_, o) => {
				if (document.querySelector('li.row[data-event="%d"]')) { globalThis.came = Date.now(); o.disconnect() }
			}).observe(document.querySelector("#list"), {childList: true})
		})()`, i)
		begun := time.Now()
		s.insert(t, 1, worth(avatar, thera))
		p.wait(`globalThis.came`)
		worst = max(worst, time.UnixMilli(eval[int64](p, `globalThis.came`)).Sub(begun))
	}
	t.Logf("from insert to screen: at most %v", worst.Round(time.Millisecond))
	if worst > slowest {
		t.Errorf("a killmail was on the screen after %v", worst)
	}
	if diff := cmp.Diff(descending(15, 15), p.events()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	text := eval[string](p, `document.querySelector("li.row").innerText`)
	for _, want := range []string{"Avatar", "Titan", "Thera", "G-R00031", "attackers"} {
		if !strings.Contains(text, want) {
			t.Errorf("the row does not say %s: %q", want, text)
		}
	}
	p.wait(`document.querySelector("#kills-chart .sum").textContent === "15 kills"`) // the last hour's
}

// The filter is in the address, what matches alone is shown and comes, the back button takes it back, and what the server refuses
// is told in its words.
func TestFilter(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 3, worth(rifter, jita))
	s.insert(t, 4, worth(avatar, jita))
	s.insert(t, 5, worth(avatar, thera))
	p := b.open(t, s.url("/"), look{})
	p.live()
	p.rows(12)

	pick := func(text, option string) {
		t.Helper()
		p.click("#search")
		p.do(nil, "type", map[string]any{"text": text})
		p.wait(`[...document.querySelectorAll("#suggestions [role=option]")].some(o => o.innerText.includes(%q))`, option)
		p.press("Enter")
	}
	address := func(want string) {
		t.Helper()
		p.wait(`location.search === %q`, want)
	}
	pick("avat", "Avatar")
	address("?ship=Avatar")
	p.rows(9)
	pick("the for", "The Forge")
	address("?ship=Avatar&region=The+Forge")
	p.rows(4)
	s.insert(t, 1, worth(rifter, jita))
	s.insert(t, 1, worth(avatar, thera))
	s.insert(t, 1, worth(avatar, jita))
	p.rows(5)
	if got := p.events()[0]; got != 15 {
		t.Errorf("the newest is event %d, want 15", got)
	}

	p.do(nil, "back", nil)
	address("?ship=Avatar")
	p.rows(11)
	p.do(nil, "back", nil)
	address("")
	p.rows(15)
	p.click(`#spaces [data-space="wormhole"]`)
	address("?space=wormhole")
	p.rows(6)
	p.click(`#spaces [data-space="wormhole"]`)
	p.rows(15)

	// A shared address says it all.
	q := b.open(t, s.url("/?victim.ship=Rifter&system=Jita&system=Thera&filter=attackers%3E%3D1"), look{})
	q.live()
	q.rows(4)
	if got := eval[[]string](q, `[...document.querySelectorAll(".chip .label")].map(c => c.textContent)`); !slices.Equal(got, []string{"Rifter", "Jita", "Thera", "attackers>=1"}) {
		t.Errorf("chips %q", got)
	}

	// A name that is clicked is added.
	p.click(`li.row a[data-key="region"]`)
	p.wait(`location.search.startsWith("?region=")`)
	p.live()

	p.failing = true // a 400 is on the console
	p.click("#search")
	p.do(nil, "type", map[string]any{"text": "region=Nowhere"})
	p.wait(`document.querySelector("#suggestions .kind")?.textContent === "filter"`)
	p.press("Enter")
	p.wait(`document.querySelector("#refusal").innerText.includes("Nowhere")`)
	p.wait(`document.querySelector("#state").dataset.state === "refused"`)
	p.rows(0)
	p.click("#clear")
	p.live()
	p.rows(15)
}

// What is copied can be used: the command gets what the page shows.
func TestCopy(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 1, worth(rifter, jita))
	p := b.open(t, s.url("/?ship=Rifter&isk=1m&npc=0"), look{})
	p.live()
	copied := func(button string) string {
		t.Helper()
		p.do(nil, "eval", map[string]any{"code": `navigator.clipboard.writeText("")`})
		p.click("#share summary")
		p.click(button)
		p.wait(`document.querySelector("#toast").textContent`)
		return eval[string](p, `navigator.clipboard.readText()`)
	}
	for button, want := range map[string]string{
		"#copy-link": s.url("/?ship=Rifter&isk=1m&npc=0"),
		"#copy-curl": fmt.Sprintf(`curl -sNG -H 'Accept: application/x-ndjson' '%s' -d topics=all --data-urlencode 'filter=ship=Rifter;isk>=1m;npc!=1'`,
			s.url("/api/killfeed/stream")),
	} {
		if got := copied(button); got != want {
			t.Errorf("%s copies %q, want %q", button, got, want)
		}
	}
	if got := copied("#copy-redisq"); !strings.HasPrefix(got, s.url("/listen.php?queueID=page-")) || !strings.HasSuffix(got, "&filter=ship%3DRifter%3Bisk%3E%3D1m%3Bnpc%21%3D1") {
		t.Errorf("the RedisQ URL is %q", got)
	}
}

// Keys are those of zKillboard, and can be switched off.
func TestKeys(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	ids := s.insert(t, 5, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.live()
	p.rows(5)
	at := func(event int) {
		t.Helper()
		p.wait(`document.activeElement.closest("li.row")?.dataset.event === "%d"`, event)
	}
	p.press("j")
	at(5)
	p.press("j", "j")
	at(3)
	p.press("k")
	at(4)
	p.press("c")
	p.wait(`document.querySelector("#toast").textContent`)
	if got, want := eval[string](p, `navigator.clipboard.readText()`), s.url(fmt.Sprintf("/#km=%d", ids[3])); got != want {
		t.Errorf("c copies %q, want %q", got, want)
	}

	// While a row is chosen, nothing moves.
	s.insert(t, 2, worth(rifter, jita))
	p.wait(`document.querySelector("#pill").textContent === "+2 new"`)
	at(4)
	p.press("Enter")
	p.wait(`document.querySelector("#detail").open && location.hash === "#km=%d"`, ids[3])
	p.press("j")
	p.wait(`location.hash === "#km=%d"`, ids[2])
	p.press("Escape")
	p.wait(`!document.querySelector("#detail").open && location.hash === ""`)
	p.press("Escape")
	p.rows(7)

	p.press("/")
	p.wait(`document.activeElement.id === "search"`)
	p.press("j") // is text here
	p.wait(`document.querySelector("#search").value === "j"`)
	p.press("Escape", "Escape")
	p.wait(`document.activeElement.id !== "search"`)

	p.press("?")
	p.wait(`document.querySelector("#help").open`)
	p.click("#keys")
	p.press("Escape")
	p.wait(`!document.querySelector("#help").open`)
	p.press("/", "?", "j")
	if eval[bool](p, `document.querySelector("#help").open || document.activeElement.id === "search"`) {
		t.Error("keys work although they are switched off")
	}
	p.do(nil, "reload", nil)
	p.live()
	p.press("/")
	if eval[bool](p, `document.activeElement.id === "search"`) {
		t.Error("keys work again after a reload")
	}
}

// While the pointer is on the list, and while the reader has scrolled down, what comes waits above.
func TestPause(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 40, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.live()
	p.rows(40)
	held := func(event, waiting int) {
		t.Helper()
		p.wait(`document.querySelector("#pill").textContent === "+%d new" && document.title === "(%d) killfeed"`, waiting, waiting)
		if got := p.events()[0]; got != event {
			t.Errorf("the newest row is event %d, want %d", got, event)
		}
	}
	p.do(nil, "hover", map[string]any{"on": "li.row"})
	s.insert(t, 12, worth(rifter, jita))
	held(40, 12)
	p.do(nil, "move", map[string]any{"x": 5, "y": 5})
	p.rows(52)
	p.wait(`document.querySelector("#pill").hidden && document.title === "killfeed"`)

	eval[any](p, `scrollTo(0, 600)`)
	p.wait(`scrollY === 600`)
	s.insert(t, 3, worth(rifter, jita))
	held(52, 3)
	p.click("#pill")
	p.rows(55)
	p.wait(`scrollY === 0`)
	if got := p.events()[0]; got != 55 {
		t.Errorf("the newest row is event %d, want 55", got)
	}
}

// Older killmails are loaded below; however far back one goes, the document has at most 300 rows, and the way to the newest is one
// click.
func TestOlder(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 650, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.live()
	p.rows(100)
	for last := 550; last > 50; last -= 100 {
		p.do(nil, "eval", map[string]any{"code": `document.querySelector("#older").click()`})
		p.wait(`document.querySelector("li.row:last-child").dataset.event === "%d"`, last-99)
		if events, want := p.events(), min(300, 650-last+100); !slices.Equal(events, descending(last-100+want, want)) {
			t.Fatalf("down to event %d the list has %d rows from %d", last-99, len(events), events[0])
		}
	}
	s.insert(t, 1, worth(rifter, jita))
	p.wait(`document.querySelector("#pill").textContent === "+1 new"`)
	p.click("#pill")
	p.wait(`document.querySelector("li.row").dataset.event === "651"`)
	p.rows(100)
}

// A server that is killed and started again costs nothing but the time: what came meanwhile is there, once, and the page says so.
func TestReconnect(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 3, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.failing = true
	p.live()
	p.rows(3)
	for round := range 2 {
		s.kill()
		p.wait(`document.querySelector("#state").dataset.state === "lost"`)
		s.start(t)
		s.insert(t, 20, worth(rifter, jita))
		p.rows(23 + 20*round)
		p.live()
	}
	s.insert(t, 1, worth(rifter, jita))
	p.rows(44)
	if diff := cmp.Diff(descending(44, 44), p.events()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	p.wait(`[...document.querySelectorAll("#notices p")].some(n => /Away .*, caught up 20 killmails\./.test(n.innerText)) ||
		[...document.querySelectorAll("#notices p")].filter(n => n.innerText.startsWith("Away")).length === 2`)
}

// A log that is deleted and begun anew is told, and the list is the new log's.
func TestNewLog(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false", "--memory")
	s.insert(t, 30, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.failing = true
	p.live()
	p.rows(30)
	s.kill()
	p.wait(`document.querySelector("#state").dataset.state === "lost"`)
	s.start(t)
	s.insert(t, 2, worth(avatar, thera))
	p.wait(`[...document.querySelectorAll("#notices p")].some(n => n.innerText.includes("began a new log"))`)
	p.rows(2)
	s.insert(t, 1, worth(avatar, thera))
	p.rows(3)
	if diff := cmp.Diff(descending(3, 3), p.events()); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// All of one killmail, by its address and by a click.
func TestDetail(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	const hash = "46b0f94ad6549c2f9662706893180f6ad73925e6"
	s.post(t, []byte(`{"killmail_id":123456789,"killmail_time":"2026-11-23T18:00:00Z","solar_system_id":30000142,"victim":{"character_id":2100000001,
		"corporation_id":98000001,"ship_type_id":11567,"damage_taken":90,"items":[{"flag":27,"item_type_id":587,"quantity_dropped":2,"singleton":0},
		{"flag":5,"item_type_id":100,"quantity_destroyed":1,"singleton":0,"items":[{"flag":0,"item_type_id":587,"quantity_destroyed":7,"singleton":0}]}]},
		"attackers":[{"character_id":2100000002,"corporation_id":1000125,"ship_type_id":587,"damage_done":30,"final_blow":true},
		{"character_id":2100000003,"corporation_id":98000002,"ship_type_id":587,"damage_done":60,"final_blow":false}],
		"zkb":{"totalValue":75123456789.5,"droppedValue":1000,"npc":false,"solo":false,"labels":["loc:highsec","isk:10b+"],"hash":"`+hash+`"}}`))
	p := b.open(t, s.url("/#km=123456789"), look{})
	p.wait(`document.querySelector("#detail h2").textContent === "Avatar"`)
	text := eval[string](p, `document.querySelector("#detail").innerText`)
	for _, want := range []string{"75.1b", "Jita", "2 attackers", "final blow", "CONCORD", "67 %", "33 %", "High slots", "Rifter", "Cargo", "isk:10b+", "2026-11-23 18:00:00"} {
		if !strings.Contains(text, want) {
			t.Errorf("the killmail's view does not say %s: %q", want, text)
		}
	}
	want := []string{"https://zkillboard.com/kill/123456789/", "https://esi.evetech.net/killmails/123456789/" + hash + "/",
		"https://evemaps.dotlan.net/system/Jita", "/api/killmails/123456789"}
	if diff := cmp.Diff(want, eval[[]string](p, `[...document.querySelectorAll("#detail .links a")].map(a => a.getAttribute("href"))`)); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	if got := eval[[]string](p, `[...document.querySelectorAll(".attackers .value .line:first-child")].map(e => e.textContent)`); !slices.Equal(got, []string{"60", "30"}) {
		t.Errorf("attackers have done %q", got)
	}
	p.press("Escape")
	p.wait(`!document.querySelector("#detail").open && location.hash === ""`)
	p.click("li.row .hull")
	p.wait(`document.querySelector("#detail").open`)
	p.wait(`location.hash === "#km=123456789"`)
	p.do(nil, "back", nil)
	p.wait(`!document.querySelector("#detail").open`)

	q := b.open(t, s.url("/?ship=Avatar&km=1"), look{})
	q.failing = true // a 404 is on the console
	q.wait(`document.querySelector("#detail [role=alert]")?.innerText`)
	q.wait(`location.search === "?ship=Avatar" && location.hash === "#km=1"`)
}

// A killmail does not wait for names: ids stand there first, and names and tickers take their places when they come.
func TestNames(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	addrFile := filepath.Join(t.TempDir(), "addr")
	sim := start(t, bin, "upstream-sim", "--listen", "127.0.0.1:0", "--addr-file", addrFile)
	addr := awaitAddr(t, sim, addrFile)
	s := newServer(t, "--images=false", "--contact", "test@example.com", "--r2z2-url", "off", "--esi-url", "http://"+addr)
	s.insert(t, 3, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.live()
	p.rows(3)
	s.insert(t, 2, worth(avatar, thera))
	p.rows(5)
	p.wait(`[...document.querySelectorAll("li.row")].every(r => !/corp \d/.test(r.innerText))`)
	p.wait(`[...document.querySelectorAll("li.row .victim, li.row .final")].every(r => /\[C\d+\]/.test(r.innerText))`)
}
