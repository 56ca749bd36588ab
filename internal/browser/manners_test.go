//go:build unix

package browser

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"killfeed/storetest"
)

// Nobody but the server is asked, unless pictures are allowed by it and wanted by the reader: then CCP's image server, and it
// alone.
func TestForeign(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	use := func(t *testing.T, s *server, storage map[string]string) *page {
		s.insert(t, 3, worth(rifter, jita))
		p := b.open(t, s.url("/"), look{Storage: storage})
		p.live()
		p.rows(3)
		s.insert(t, 1, worth(avatar, thera))
		p.rows(4)
		p.click("li.row .hull")
		p.wait(`document.querySelector("#detail h2").textContent === "Avatar"`)
		p.press("Escape")
		return p
	}
	t.Run("switched off by the server", func(t *testing.T) {
		p := use(t, newServer(t, "--images=false"), map[string]string{"killfeed.images": "on"})
		if asked := p.seen().Foreign; len(asked) > 0 {
			t.Errorf("asked of others: %q", asked)
		}
		if !eval[bool](p, `document.querySelector("#images").hidden`) {
			t.Error("there is a switch for pictures, which does nothing")
		}
	})
	t.Run("switched off by the reader", func(t *testing.T) {
		p := use(t, newServer(t), map[string]string{"killfeed.images": "off"})
		if asked := p.seen().Foreign; len(asked) > 0 {
			t.Errorf("asked of others: %q", asked)
		}
		p.click("#images")
		p.wait(`document.querySelectorAll("li.row img").length === 4`)
		p.do(nil, "reload", nil)
		p.wait(`document.querySelectorAll("li.row img").length === 4`) // it is remembered
	})
	t.Run("on", func(t *testing.T) {
		p := use(t, newServer(t), nil)
		p.wait(`[...document.querySelectorAll("li.row img")].filter(i => i.complete && i.naturalWidth > 0).length === 4`)
		s := p.seen()
		if s.Pictures == 0 {
			t.Error("no picture was asked for")
		}
		for _, url := range s.Foreign {
			if !strings.HasPrefix(url, "https://images.evetech.net/types/") || !strings.HasSuffix(url, "?size=64") {
				t.Errorf("asked of others: %s", url)
			}
		}
		if got := eval[string](p, `document.querySelector("li.row img").referrerPolicy`); got != "no-referrer" {
			t.Errorf("the image server is told %q of where it is asked from", got)
		}
	})
}

// What is told by names and killmails is text, whatever it looks like.
func TestStrangers(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.post(t, []byte(`{"killmail_id":7,"killmail_time":"2026-11-23T18:00:00Z","solar_system_id":30000142,"victim":{"ship_type_id":"<img src=x onerror=alert(1)>"},
		"attackers":"none","zkb":{"totalValue":"a lot","labels":["<script>globalThis.hit=1</script>"],"npc":1}}`))
	s.post(t, []byte(`{"system_id":30000142,"killmail":{"anything":"goes"}}`))
	p := b.open(t, s.url("/#km=7"), look{})
	p.live()
	p.rows(2)
	p.wait(`document.querySelector("#detail .labels")?.innerText.includes("<script>")`)
	if eval[bool](p, `globalThis.hit === 1 || document.querySelector("#list img, #detail img") !== null`) {
		t.Error("text of a killmail has become markup")
	}
}

// Dark unless the system or the reader says otherwise, from the first frame on, and remembered.
func TestThemes(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	back := func(p *page) string { return eval[string](p, `getComputedStyle(document.body).backgroundColor`) }
	p := b.open(t, s.url("/"), look{Scheme: "dark"})
	p.live()
	dark := back(p)
	p.do(nil, "emulate", map[string]any{"scheme": "light"})
	light := back(p)
	if dark == light {
		t.Fatalf("dark and light are both %s", dark)
	}
	p.click("#theme")
	if got := back(p); got != dark {
		t.Errorf("the other theme of light is %s, want %s", got, dark)
	}
	p.do(nil, "reload", nil)
	p.live()
	if got := back(p); got != dark {
		t.Errorf("after a reload it is %s, want %s", got, dark)
	}
}

// Nothing is wider than the screen, and every control can be reached by a thumb.
func TestNarrow(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 30, func(i int, m *storetest.Mail) { m.Victim.Ship = []uint32{rifter, avatar, 4000000}[i%3] })
	for _, width := range []int{360, 390, 768, 1024, 1440} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			p := b.open(t, s.url("/?system=Jita&system=Thera&ship=Rifter&ship=Avatar&ship=4000000&filter=attackers%3E%3D1"), look{Width: width, Height: 760})
			p.live()
			p.rows(30)
			if got := eval[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); got > 0 {
				t.Errorf("the page is %d pixels wider than the screen", got)
			}
			p.click("li.row .hull")
			p.wait(`document.querySelector("#detail .attackers")`)
			if got := eval[int](p, `(e => e.scrollWidth - e.clientWidth)(document.querySelector("#detail .body"))`); got > 0 {
				t.Errorf("the killmail's view is %d pixels wider than it may", got)
			}
		})
	}
}

// Rows have their height from the beginning: names and pictures that come do not move what is read.
func TestShift(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t)
	s.insert(t, 50, worth(rifter, jita))
	p := b.open(t, s.url("/"), look{})
	p.live()
	p.rows(50)
	p.wait(`document.querySelector("li.row img")?.complete`)
	heights := eval[[]float64](p, `[...new Set([...document.querySelectorAll("li.row")].slice(0, 10).map(r => r.getBoundingClientRect().height))]`)
	if len(heights) != 1 || heights[0] != 56 {
		t.Errorf("rows are %v pixels high, want 56", heights)
	}
	shifted := eval[float64](p, `new Promise(done => new PerformanceObserver(list => {
		done(list.getEntries().reduce((sum, e) => sum + e.value, 0))
	}).observe({type: "layout-shift", buffered: true}) ?? setTimeout(() => done(0), 500))`)
	if shifted > 0.1 { // what counts as good of a page's whole life
		t.Errorf("what is shown has moved by %.3f", shifted)
	}
}

// axe-core has no serious complaint, about either theme, with everything open.
func TestAccessible(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	s.insert(t, 20, func(i int, m *storetest.Mail) {
		m.Victim.Ship, m.System = []uint32{rifter, avatar}[i%2], []uint32{jita, niarja, thera}[i%3]
		m.Labels, m.Time = []string{"solo", "npc", "ganked"}[:i%4], time.Now().Truncate(time.Second)
	})
	for _, scheme := range []string{"dark", "light"} {
		t.Run(scheme, func(t *testing.T) {
			// The policy is off because what axe-core does is not the page's.
			p := b.open(t, s.url("/?ship=Rifter&ship=Avatar&system=Jita&system=Niarja&system=Thera"), look{Scheme: scheme, Bypass: true, Motion: "reduce"})
			p.live()
			p.rows(20)
			judge := func(of string) {
				t.Helper()
				var found []struct {
					ID, Impact, Help string
					Nodes            []string
				}
				p.do(&found, "judge", nil)
				for _, f := range found {
					if f.Impact == "serious" || f.Impact == "critical" {
						t.Errorf("%s: %s (%s): %s", of, f.Help, f.ID, strings.Join(f.Nodes, "\n"))
					} else {
						t.Logf("%s: %s (%s, %s)", of, f.Help, f.ID, f.Impact)
					}
				}
			}
			judge("the list")
			p.click("#search")
			p.do(nil, "type", map[string]any{"text": "ji"})
			p.wait(`document.querySelector("#suggestions [role=option]")`)
			judge("suggestions")
			p.press("Escape", "Escape")
			p.click("li.row .hull")
			p.wait(`document.querySelector("#detail .items, #detail .attackers")`)
			judge("a killmail")
			p.press("Escape")
			p.wait(`!document.querySelector("#detail").open && !location.hash`) // keys are the list's again
			p.press("?")
			p.wait(`document.querySelector("#help").open`)
			judge("help")
		})
	}
}

// Who hears the page is told a sentence now and then, and not each killmail.
func TestSpoken(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	p := b.open(t, s.url("/"), look{})
	p.live()
	eval[any](p, `(() => {
		globalThis.spoken = []
		new MutationObserver(() => globalThis.spoken.push(document.querySelector("#spoken").textContent))
			.observe(document.querySelector("#spoken"), {childList: true, characterData: true, subtree: true})
	})()`)
	s.insert(t, 60, worth(rifter, jita))
	p.rows(60)
	p.wait(`globalThis.spoken.length > 0`)
	if got := eval[[]string](p, `globalThis.spoken`); len(got) != 1 || !strings.HasPrefix(got[0], "60 new killmails") || !strings.Contains(got[0], "in Jita") {
		t.Errorf("spoken was %q", got)
	}
}

// However much passes through a page, its memory is what it was, and it does little.
func TestThrough(t *testing.T) {
	total := 5_000
	if *long {
		total = 100_000
	}
	b := newBrowser(t)
	s := newServer(t, "--images=false")
	p := b.open(t, s.url("/"), look{})
	p.live()
	metrics := func(tidy bool) (m map[string]float64) {
		t.Helper()
		p.do(&m, "metrics", map[string]any{"tidy": tidy})
		return m
	}
	through := 0
	pass := func(n int) {
		t.Helper()
		for range n / 1000 {
			s.insert(t, 1000, worth(rifter, jita))
			through += 1000
			p.wait(`document.querySelector("li.row")?.dataset.event === "%d"`, through) // no faster than the page
		}
	}
	pass(2_000) // the window is full, and everything that is made once is made
	before := metrics(true)
	pass(total - 2_000)
	after := metrics(true)
	if got := len(p.events()); got != 300 {
		t.Errorf("the list has %d rows, want 300", got)
	}
	const mb = 1 << 20
	grown := after["JSHeapUsedSize"] - before["JSHeapUsedSize"]
	t.Logf("%d killmails through: heap %.1f MB, then %.1f MB; %.0f nodes, then %.0f; main thread %.2f ms for each killmail", through,
		before["JSHeapUsedSize"]/mb, after["JSHeapUsedSize"]/mb, before["Nodes"], after["Nodes"],
		(after["TaskDuration"]-before["TaskDuration"])*1000/float64(total-2_000))
	if grown > 4*mb { // the names that are remembered are bounded, and this is what they may be
		t.Errorf("the heap has grown by %.1f MB", grown/mb)
	}
	if after["Nodes"] > before["Nodes"]*1.3 {
		t.Errorf("the document has grown from %.0f to %.0f nodes", before["Nodes"], after["Nodes"])
	}

	// Ten a second, as in a great battle.
	const seconds = 5
	before = metrics(false)
	begun := time.Now()
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	for range 10 * seconds {
		<-pace.C
		s.insert(t, 1, worth(rifter, jita))
		through++
	}
	p.wait(`document.querySelector("li.row")?.dataset.event === "%d"`, through)
	after = metrics(false)
	took := time.Since(begun).Seconds()
	busy := func(what string) float64 { return (after[what] - before[what]) * 1000 / took }
	t.Logf("10 killmails a second: %.1f ms main thread a second (scripts %.1f, layout %.1f, styles %.1f)",
		busy("TaskDuration"), busy("ScriptDuration"), busy("LayoutDuration"), busy("RecalcStyleDuration"))
	const most = 50 // ms a second: the page's promise, on a machine that has nothing else to do
	if b := busy("TaskDuration"); b > 4*most || math.IsNaN(b) {
		t.Errorf("the main thread is busy for %.0f ms a second", b)
	}
}

// The scripts' types, which stand in comments, agree.
func TestTypes(t *testing.T) {
	t.Parallel()
	node := needNode(t)
	assets, err := filepath.Abs("../../web/dashboard/assets")
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`{"compilerOptions":{"checkJs":true,"allowJs":true,"noEmit":true,"strict":true,"target":"es2024","module":"nodenext",
		"moduleResolution":"nodenext","lib":["es2024","dom","dom.iterable"],"types":[]},"include":[%q]}`, assets+"/*.js")
	name := filepath.Join(t.TempDir(), "tsconfig.json")
	if err := os.WriteFile(name, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(node, "node_modules/typescript/bin/tsc", "-p", name).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
