package standin

import (
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Stats is what a Server has counted since it was made or since ResetStats.
type Stats struct {
	// Since is when counting began.
	Since time.Time `json:"since"`
	// Requests counts requests by kind and status. Status 0 counts those that got no answer, or none yet. A connection that
	// breaks in the middle of a body counts with the status it had; a websocket with 101.
	Requests map[Kind]map[int]int64 `json:"requests"`
	// Peak is the greatest number of requests that came within one second, of any second: after t-1s and up to t.
	Peak          int             `json:"peak"`
	PeakByKind    map[Kind]int    `json:"peak_by_kind"`
	PeakByService map[Service]int `json:"peak_by_service"`
	// Concurrent is the greatest number of requests that were under way at one time, from arrival to the last byte; a
	// websocket is under way while it is open.
	Concurrent          int             `json:"concurrent"`
	ConcurrentByService map[Service]int `json:"concurrent_by_service"`

	// After404 is from the 404 of a number's file to the next request for the same number.
	After404 Gap `json:"after_404"`
	// After403 and After429 are from such an answer (429 or 420) to the next request to the same service. Requests that were
	// on their way already count too: a client with several at a time shows small gaps without being impolite.
	After403 Gap `json:"after_403"`
	After429 Gap `json:"after_429"`
	// BeforeRetryAfter counts requests to a service that came before the time that its latest Retry-After asked for was over. In ESI
	// each kind of requests is one by itself, as the buckets are.
	BeforeRetryAfter int64 `json:"before_retry_after"`

	// NoUserAgent counts requests with no or a blank User-Agent, NoContact those whose User-Agent has neither a mail address
	// nor a URL in it; the former are among the latter.
	NoUserAgent int64 `json:"no_user_agent"`
	NoContact   int64 `json:"no_contact"`

	// ESI is the accounting of ESI's limits.
	ESI ESIStats `json:"esi"`
	// SocketMessages counts what was sent over websockets.
	SocketMessages int64 `json:"socket_messages"`
	// StaticBytes counts the bytes of bodies that were sent of static data.
	StaticBytes int64 `json:"static_bytes,omitempty"`
	// Faults counts how often each fault has struck. A fault that another one hid does not count.
	Faults map[Fault]int64 `json:"faults"`
	// Untracked counts 404s of numbers that After404 does not know of, because a million others wait.
	Untracked int64 `json:"untracked,omitempty"`

	// Published counts the numbers given out, Head is the newest, and Waiting counts the killmails that have none yet.
	Published int   `json:"published"`
	Head      int64 `json:"head"`
	Waiting   int   `json:"waiting"`
	// Error says why Config.More was given up.
	Error string `json:"error,omitempty"`
}

// Gap is the time that clients let pass after an answer.
type Gap struct {
	// Count is how many were measured, Least the shortest of them; 0 when there were none.
	Count int64
	Least time.Duration
	// Number is the sequence number with the shortest, where it is about numbers.
	Number int64
}

// MarshalJSON implements json.Marshaler. Least is in seconds.
func (g Gap) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Count  int64   `json:"count"`
		Least  float64 `json:"least_seconds"`
		Number int64   `json:"number,omitempty"`
	}{g.Count, g.Least.Seconds(), g.Number})
}

func (g *Gap) add(d time.Duration, number int64) {
	if g.Count == 0 || d < g.Least {
		g.Least, g.Number = d, number
	}
	g.Count++
}

// window counts what happens within a second.
type window struct {
	times []time.Time // of the last second, in order
	peak  int
}

func (w *window) add(t time.Time) int {
	old := 0
	for old < len(w.times) && t.Sub(w.times[old]) >= time.Second {
		old++
	}
	w.times = append(w.times[old:], t)
	w.peak = max(w.peak, len(w.times))
	return len(w.times)
}

// level counts what goes on at a time.
type level struct{ now, peak int }

func (l *level) rise() {
	l.now++
	l.peak = max(l.peak, l.now)
}

// waitingLimit bounds the numbers whose 404 waits for the next request.
const waitingLimit = 1 << 20

// recorder counts requests.
type recorder struct {
	clock Clock

	mu        sync.Mutex // guards the rest; times are taken under it, so that they never fall
	since     time.Time
	requests  map[Kind]map[int]int64 // those that have been answered or given up
	flying    map[Kind]int64         // the others
	rates     map[Kind]*window
	services  map[Service]*window
	rate      window
	open      map[Service]*level
	openAll   level
	after404  Gap
	after403  Gap
	after429  Gap
	early     int64
	nameless  int64
	uncalled  int64 // without contact
	messages  int64
	untracked int64
	// missed is when a number was last answered with 404, if nobody has asked for it again; refused and busy when a service
	// last said 403 and 429; wait until when it asked to be left alone, ESI for each of its kinds of requests.
	missed        map[int64]time.Time
	refused, busy map[Service]time.Time
	wait          map[lane]time.Time
}

func newRecorder(clock Clock) *recorder {
	r := &recorder{clock: clock, flying: map[Kind]int64{}, open: map[Service]*level{}}
	r.reset()
	return r
}

// reset begins anew. What is under way stays so, and counts when it is answered.
func (r *recorder) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = r.clock.Now()
	r.requests = map[Kind]map[int]int64{}
	r.rates, r.services, r.rate = map[Kind]*window{}, map[Service]*window{}, window{}
	for _, l := range r.open {
		l.peak = l.now
	}
	r.openAll.peak = r.openAll.now
	r.after404, r.after403, r.after429 = Gap{}, Gap{}, Gap{}
	r.early, r.nameless, r.uncalled, r.messages, r.untracked = 0, 0, 0, 0, 0
	r.missed = map[int64]time.Time{}
	r.refused, r.busy, r.wait = map[Service]time.Time{}, map[Service]time.Time{}, map[lane]time.Time{}
}

// lane is what a Retry-After holds for.
type lane string

func (k Kind) lane() lane {
	if service := k.Service(); service != ServiceESI {
		return lane(service)
	}
	return lane(k)
}

// begin counts a request that has come. It sets q.now, and returns how many the service has had in the last second.
func (r *recorder) begin(q *request) (inSecond int) {
	agent, service := q.agent(), q.kind.Service()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	q.now = now
	r.flying[q.kind]++
	r.rate.add(now)
	of(r.rates, q.kind).add(now)
	inSecond = of(r.services, service).add(now)
	r.openAll.rise()
	of(r.open, service).rise()
	if agent == "" {
		r.nameless++
	}
	if !hasContact(agent) {
		r.uncalled++
	}
	if at, ok := r.missed[q.number]; ok && q.kind == KindFile {
		r.after404.add(now.Sub(at), q.number)
		delete(r.missed, q.number)
	}
	if at, ok := r.refused[service]; ok {
		r.after403.add(now.Sub(at), 0)
		delete(r.refused, service)
	}
	if at, ok := r.busy[service]; ok {
		r.after429.add(now.Sub(at), 0)
		delete(r.busy, service)
	}
	if now.Before(r.wait[q.kind.lane()]) {
		r.early++
	}
	return inSecond
}

// answered counts an answer that is about to be sent.
func (r *recorder) answered(q *request, status int, retryAfter time.Duration) {
	service := q.kind.Service()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.Now()
	q.answered = true
	r.flying[q.kind]--
	r.count(q.kind, status)
	switch status {
	case http.StatusNotFound:
		if q.kind != KindFile {
			break
		}
		if _, known := r.missed[q.number]; !known && len(r.missed) >= waitingLimit {
			r.untracked++
			break
		}
		r.missed[q.number] = now
	case http.StatusForbidden:
		r.refused[service] = now
	case http.StatusTooManyRequests, statusErrorLimited:
		r.busy[service] = now
		if retryAfter > 0 {
			r.wait[q.kind.lane()] = now.Add(retryAfter)
		}
	}
}

// end counts that a request is over.
func (r *recorder) end(q *request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !q.answered {
		r.flying[q.kind]--
		r.count(q.kind, 0)
	}
	r.openAll.now--
	r.open[q.kind.Service()].now--
}

func (r *recorder) message() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages++
}

// count needs r.mu.
func (r *recorder) count(kind Kind, status int) {
	if r.requests[kind] == nil {
		r.requests[kind] = map[int]int64{}
	}
	r.requests[kind][status]++
}

// stats is a copy of the counts.
func (r *recorder) stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Stats{
		Since: r.since, Requests: map[Kind]map[int]int64{},
		Peak: r.rate.peak, PeakByKind: map[Kind]int{}, PeakByService: map[Service]int{},
		Concurrent: r.openAll.peak, ConcurrentByService: map[Service]int{},
		After404: r.after404, After403: r.after403, After429: r.after429, BeforeRetryAfter: r.early,
		NoUserAgent: r.nameless, NoContact: r.uncalled, SocketMessages: r.messages, Untracked: r.untracked,
	}
	for kind, m := range r.requests {
		s.Requests[kind] = maps.Clone(m)
	}
	for kind, n := range r.flying {
		if n > 0 {
			if s.Requests[kind] == nil {
				s.Requests[kind] = map[int]int64{}
			}
			s.Requests[kind][0] += n
		}
	}
	for kind, w := range r.rates {
		s.PeakByKind[kind] = w.peak
	}
	for service, w := range r.services {
		s.PeakByService[service] = w.peak
	}
	for service, l := range r.open {
		s.ConcurrentByService[service] = l.peak
	}
	return s
}

// of is the value of a key, made when it is not there yet.
func of[K comparable, V any](m map[K]*V, key K) *V {
	v := m[key]
	if v == nil {
		v = new(V)
		m[key] = v
	}
	return v
}
