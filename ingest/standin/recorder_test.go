package standin

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// handClock is moved by hand. Nothing waits on it.
type handClock struct{ now time.Time }

func (c *handClock) Now() time.Time { return c.now }

func (c *handClock) Timer(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }

// happening is what happened to one request.
type happening struct {
	kind       Kind
	number     int64
	agent      string
	came       time.Time
	status     int // 0: none
	retryAfter time.Duration
	answered   time.Time
	// The order in which it came, was answered and ended, among everything; 0: not.
	before, at, over int
}

// TestRecorder compares the recorder with counts made afterwards, from the list of everything that happened, in the plainest
// way there is.
func TestRecorder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := &handClock{now: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}
		r := newRecorder(clock)
		var all []*happening
		open := map[*request]*happening{}
		var queue []*request
		order := 0
		pass := rapid.SampledFrom([]time.Duration{0, 1, 100 * time.Millisecond, 333 * time.Millisecond, time.Second, 7 * time.Second})
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			clock.now = clock.now.Add(pass.Draw(t, "pass"))
			order++
			if len(queue) == 0 || rapid.IntRange(0, 2).Draw(t, "come") > 0 {
				h := &happening{
					kind:   rapid.SampledFrom([]Kind{KindFile, KindFile, KindPointer, KindESI, KindListen}).Draw(t, "kind"),
					agent:  rapid.SampledFrom([]string{"", " ", "x", "x (a@b.c)", "x (+https://x.org)"}).Draw(t, "agent"),
					number: rapid.Int64Range(1, 3).Draw(t, "number"),
					came:   clock.now, before: order,
				}
				q := &request{Request: &http.Request{Header: http.Header{"User-Agent": {h.agent}}, URL: &url.URL{}}, kind: h.kind}
				if h.kind == KindFile {
					q.number = h.number
				} else {
					h.number = 0
				}
				all, open[q], queue = append(all, h), h, append(queue, q)
				r.begin(q)
				if !q.now.Equal(clock.now) {
					t.Fatalf("the request came at %v, not %v", q.now, clock.now)
				}
				continue
			}
			i := rapid.IntRange(0, len(queue)-1).Draw(t, "which")
			q := queue[i]
			h := open[q]
			switch {
			case h.status == 0 && rapid.IntRange(0, 4).Draw(t, "answer") > 0:
				h.status = rapid.SampledFrom([]int{200, 404, 404, 403, 429, 420}).Draw(t, "status")
				h.answered, h.at = clock.now, order
				if h.status == 429 {
					h.retryAfter = rapid.SampledFrom([]time.Duration{0, 2 * time.Second}).Draw(t, "retry")
				}
				r.answered(q, h.status, h.retryAfter)
			default:
				h.over = order
				r.end(q)
				queue = append(queue[:i], queue[i+1:]...)
			}
		}
		got := r.stats()
		want := recount(all, got.Since)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("counts (-want +got):\n%s", diff)
		}
	})
}

func recount(all []*happening, since time.Time) Stats {
	s := Stats{
		Since: since, Requests: map[Kind]map[int]int64{}, PeakByKind: map[Kind]int{}, PeakByService: map[Service]int{},
		ConcurrentByService: map[Service]int{},
	}
	within := func(h *happening, same func(*happening) bool) (n int) {
		for _, g := range all {
			if g.before <= h.before && h.came.Sub(g.came) < time.Second && same(g) {
				n++
			}
		}
		return n
	}
	for _, h := range all {
		service := h.kind.Service()
		if s.Requests[h.kind] == nil {
			s.Requests[h.kind] = map[int]int64{}
		}
		s.Requests[h.kind][h.status]++
		s.Peak = max(s.Peak, within(h, func(*happening) bool { return true }))
		s.PeakByKind[h.kind] = max(s.PeakByKind[h.kind], within(h, func(g *happening) bool { return g.kind == h.kind }))
		s.PeakByService[service] = max(s.PeakByService[service],
			within(h, func(g *happening) bool { return g.kind.Service() == service }))
		underWay := func(same func(*happening) bool) (n int) {
			for _, g := range all {
				if g.before <= h.before && (g.over == 0 || g.over > h.before) && same(g) {
					n++
				}
			}
			return n
		}
		ofService := func(g *happening) bool { return g.kind.Service() == service }
		s.Concurrent = max(s.Concurrent, underWay(func(*happening) bool { return true }))
		s.ConcurrentByService[service] = max(s.ConcurrentByService[service], underWay(ofService))
		switch h.agent {
		case "", " ":
			s.NoUserAgent++
			s.NoContact++
		case "x":
			s.NoContact++
		}
		// What was answered before this request came, and not asked about in between.
		latest := func(match func(g *happening) bool, asked func(g *happening) bool) *happening {
			var found *happening
			for _, g := range all {
				if g.status != 0 && g.at < h.before && match(g) && (found == nil || g.at > found.at) {
					found = g
				}
			}
			for _, g := range all {
				if found != nil && g.before > found.at && g.before < h.before && asked(g) {
					return nil
				}
			}
			return found
		}
		measure := func(gap *Gap, g *happening, number int64) {
			if g == nil {
				return
			}
			d := h.came.Sub(g.answered)
			if gap.Count == 0 || d < gap.Least {
				gap.Least, gap.Number = d, number
			}
			gap.Count++
		}
		if h.kind == KindFile {
			same := func(g *happening) bool { return g.kind == KindFile && g.number == h.number }
			measure(&s.After404, latest(func(g *happening) bool { return same(g) && g.status == 404 }, same), h.number)
		}
		measure(&s.After403, latest(func(g *happening) bool { return ofService(g) && g.status == 403 }, ofService), 0)
		measure(&s.After429, latest(func(g *happening) bool {
			return ofService(g) && (g.status == 429 || g.status == 420)
		}, ofService), 0)
		g := latest(func(g *happening) bool { return ofService(g) && g.retryAfter > 0 },
			func(*happening) bool { return false })
		if g != nil && h.came.Before(g.answered.Add(g.retryAfter)) {
			s.BeforeRetryAfter++
		}
	}
	return s
}
