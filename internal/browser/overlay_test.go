//go:build unix

package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed/storetest"
)

// plates waits until the overlay shows these events, from the top.
func (p *page) plates(events ...int) {
	p.t.Helper()
	text := strings.Trim(strings.ReplaceAll(fmt.Sprint(events), " ", ","), "[]")
	p.wait(`[...document.querySelectorAll("li.plate:not(.leaving)")].map(e => e.dataset.event).join() === %q`, text)
}

// The overlay shows the newest killmails of the filter in its address, then each as it comes, on a ground that is not there, and asks
// nobody but the server without pictures.
func TestOverlay(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--names", "off")
	s.insert(t, 1, worth(avatar, niarja))
	s.insert(t, 4, worth(rifter, niarja))
	s.insert(t, 1, worth(rifter, jita))
	p := b.open(t, s.url("/overlay?system=Niarja&ship=Rifter&limit=3&images=0&sound=0"), look{Width: 800, Height: 600})
	eval[any](p, `(globalThis.rang = 0, globalThis.AudioContext = class { state = "suspended"; constructor() { globalThis.rang++ } async resume() {} }, 0)`)
	p.plates(5, 4, 3)
	s.insert(t, 1, worth(rifter, jita))
	s.insert(t, 1, worth(rifter, niarja))
	p.plates(8, 5, 4)
	if text := p.texts("li.plate .first, li.plate .security"); text[0] != "Rifter" || text[1] != "P" {
		t.Errorf("the first says %q", text)
	}
	ground := eval[[]string](p, `[document.documentElement, document.body].map(e => getComputedStyle(e).backgroundColor + " " + getComputedStyle(e).colorScheme)`)
	if diff := cmp.Diff([]string{"rgba(0, 0, 0, 0) normal", "rgba(0, 0, 0, 0) normal"}, ground); diff != "" {
		t.Error(diff)
	}
	if rang := eval[int](p, `globalThis.rang`); rang != 0 {
		t.Error("it sounds although sound=0")
	}

	// What comes while the server is away, or is started, is there afterwards.
	p.failing = true
	s.kill()
	s.start(t)
	s.insert(t, 2, worth(rifter, niarja))
	p.plates(10, 9, 8)

	// A burst draws no more than stays.
	s.insert(t, 500, worth(rifter, niarja))
	p.plates(510, 509, 508)
	if got := eval[int](p, `document.querySelectorAll("li.plate").length`); got != 3 {
		t.Errorf("%d rows are drawn", got)
	}
	if foreign := p.seen().Foreign; len(foreign) > 0 {
		t.Errorf("it asked %q", foreign)
	}
}

// With pictures they come of CCP's image server alone; there is a sound; old killmails leave; what the server refuses is said.
func TestOverlayParameters(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--names", "off")
	s.insert(t, 6, worth(rifter, jita))
	p := b.open(t, s.url("/overlay?topics=system:30000142"), look{Width: 390, Height: 600})
	eval[any](p, `(globalThis.rang = 0, globalThis.AudioContext = class { state = "suspended"; constructor() { globalThis.rang++ } async resume() {} }, 0)`)
	p.plates(6, 5, 4, 3, 2)
	s.insert(t, 1, worth(rifter, thera))
	s.insert(t, 1, worth(rifter, jita))
	p.plates(8, 6, 5, 4, 3)
	p.wait(`globalThis.rang > 0 && document.querySelector("li.plate img")`)
	if wide := eval[int](p, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
		t.Errorf("%d pixels stick out at the side", wide)
	}
	for _, url := range p.seen().Foreign {
		if !strings.HasPrefix(url, "https://images.evetech.net/types/587/") {
			t.Errorf("it asked %s", url)
		}
	}

	// Those of a minute ago are too old; one of this moment is shown, until the clock is a minute further.
	p = b.open(t, s.url("/overlay?max_age=55s&sound=0&images=0"), look{})
	s.insert(t, 1, func(_ int, m *storetest.Mail) { m.Time = time.Now().Truncate(time.Second) })
	p.plates(9)
	eval[any](p, `(() => { const now = Date.now; Date.now = () => now() + 60_000 })()`)
	p.wait(`!document.querySelector("li.plate")`)

	p = b.open(t, s.url("/overlay?limit=20&sound=0"), look{Bypass: true})
	p.wait(`document.querySelectorAll("li.plate").length === 9`)
	p.judged("the overlay")

	p = b.open(t, s.url("/overlay?filter=nonsense("), look{})
	p.failing = true // the 400 is on the console
	p.wait(`document.querySelector("#trouble").checkVisibility() && document.querySelector("#trouble").textContent.includes('filter "nonsense("')`)
}
