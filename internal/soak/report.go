//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// memoryLog is the server's memory over time.
type memoryLog struct {
	mu      sync.Mutex // guards the rest
	samples []memorySample
	peak    int64 // bytes
}

type memorySample struct {
	at, age time.Duration // since the beginning, and of the process
	life    int64
	rss     int64 // bytes
	bad     bool  // the bad subscribers were there
}

const (
	sampleEvery = time.Second
	// Processes are compared at the same age, from warm to three times that. When there is only one, it is compared with itself
	// after it has filled its caches, its memory tables and its tail of the newest events, which it does at the load's pace.
	warm, filled = 20 * time.Second, 5 * time.Minute
	// grows is by which factor, and at least how many bytes, memory may grow from the first half of the run to the second.
	grows, growsLeast = 1.25, 48 << 20
)

// add notes the memory of a process of the server's.
func (l *memoryLog) add(pid int, life int64, bad bool) {
	rss, peak := memory(pid)
	if rss == 0 {
		return
	}
	at := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.peak = max(l.peak, peak)
	first := at
	for i := len(l.samples) - 1; i >= 0 && l.samples[i].life == life; i-- {
		first = l.samples[i].at
	}
	l.samples = append(l.samples, memorySample{at, at - first, life, rss, bad})
}

// figures of the memory, in MiB.
type memoryFigures struct {
	Peak        float64      `json:"peak"`
	Without     [2]float64   `json:"without_bad_by_half"` // medians of processes of the same age, by half of the run; 0: too few
	With        [2]float64   `json:"with_bad_by_half"`
	SlopePerMin float64      `json:"slope_per_minute"` // of processes older than a minute, median of those that got old enough
	Lives       int          `json:"lives_for_slope"`
	Points      [][2]float64 `json:"points"` // seconds, MiB
}

// halves gives the medians of both, or zeros when there is too little of one to compare.
func halves(of [2][]float64) [2]float64 {
	const enough = 15
	if len(of[0]) < enough || len(of[1]) < enough {
		return [2]float64{}
	}
	return [2]float64{median(of[0]), median(of[1])}
}

func (l *memoryLog) figures() memoryFigures {
	const mib = 1 << 20
	l.mu.Lock()
	defer l.mu.Unlock()
	f := memoryFigures{Peak: float64(l.peak) / mib}
	if len(l.samples) == 0 {
		return f
	}
	var half [2][2][]float64 // by whether the bad ones were there, and by half of the run
	lives := map[int64][2][]float64{}
	middle := l.samples[len(l.samples)-1].at / 2
	from, until := warm, 3*warm
	if l.samples[0].life == l.samples[len(l.samples)-1].life {
		from, until = filled, math.MaxInt64
		middle = (middle*2 + filled) / 2
	}
	for _, s := range l.samples {
		rss := float64(s.rss) / mib
		if s.age >= from && s.age < until {
			which, part := 0, 0
			if s.bad {
				which = 1
			}
			if s.at >= middle {
				part = 1
			}
			half[which][part] = append(half[which][part], rss)
		}
		if s.age >= 3*warm {
			life := lives[s.life]
			lives[s.life] = [2][]float64{append(life[0], s.at.Minutes()), append(life[1], rss)}
		}
	}
	f.Without, f.With = halves(half[0]), halves(half[1])
	var slopes []float64
	for _, life := range lives {
		if len(life[0]) >= 20 { // seconds, more or less
			slopes = append(slopes, slope(life[0], life[1]))
		}
	}
	f.SlopePerMin, f.Lives = median(slopes), len(slopes)
	const points = 12
	for i := range points {
		s := l.samples[i*(len(l.samples)-1)/(points-1)]
		f.Points = append(f.Points, [2]float64{s.at.Seconds(), float64(s.rss) / mib})
	}
	return f
}

// report tells of the progress until ctx ends.
func (w *world) report(ctx context.Context) {
	const every = 10 // seconds
	out := w.config.progress
	last := int64(0)
	for n := 1; pause(ctx, sampleEvery); n++ {
		if pid := w.server.pid(); pid != 0 {
			w.memory.add(pid, w.gate.lifeNow(), w.badNow.Load())
		}
		if n%every != 0 {
			continue
		}
		total := w.delivered()
		recent := w.lately.take()
		latency := "not measured"
		if recent.count() > 0 {
			latency = fmt.Sprintf("p50 %s p99 %s", ms(recent.quantile(0.5)), ms(recent.quantile(0.99)))
		}
		joined, _ := w.gate.there()
		rss := 0.0
		if pid := w.server.pid(); pid != 0 {
			now, _ := memory(pid)
			rss = float64(now) / (1 << 20)
		}
		bad := "without bad"
		if w.badNow.Load() {
			bad = fmt.Sprintf("with bad, %d napping", w.napping.Load())
		}
		fmt.Fprintf(out, "%5.0fs  life %d, %d/%d joined, %s; %d inserted, %d delivered (%d/s); %s; rss %.0f MiB; %d violations\n",
			time.Since(began).Seconds(), w.gate.lifeNow(), joined, w.healthy, bad, w.oracle.made.Load(), total, (total-last)/every,
			latency, rss, w.oracle.broken())
		last = total
	}
}

func (w *world) delivered() (n int64) {
	for _, s := range w.subscribers {
		n += s.delivered.Load()
	}
	return n
}

// ms shows a latency.
func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// result is what came of a run.
type result struct {
	Pass        bool                      `json:"pass"`
	Reasons     []string                  `json:"reasons,omitempty"` // why not
	Seed        uint64                    `json:"seed"`
	Seconds     float64                   `json:"seconds"`
	Subscribers map[string]map[string]int `json:"subscribers"` // by manner and transport
	Inserted    int64                     `json:"inserted"`
	Delivered   int64                     `json:"delivered"`
	Updates     int64                     `json:"updates"`
	Violations  map[string]int            `json:"violations"`
	Durable     durableFigures            `json:"durable"`
	Latency     map[string]latencyFigures `json:"latency_ms"`
	Phases      []phaseFigures            `json:"phases"`
	Restarts    []restartFigures          `json:"restarts"`
	Ends        map[string]map[string]int `json:"session_ends"` // by manner and end
	Memory      memoryFigures             `json:"memory_mib"`
	ServerCPU   float64                   `json:"server_cpu_seconds"`
	ClientCPU   float64                   `json:"client_cpu_seconds"`
}

type durableFigures struct {
	Auto     int `json:"auto"`     // feeds
	Repeated int `json:"repeated"` // events that came again after a kill
	Skipped  int `json:"skipped"`  // events that were on their way when a connection was cut
	Manual   int `json:"manual"`
	Again    int `json:"again"` // events that came again, not being committed
}

// latencyFigures are medians over phases, in milliseconds.
type latencyFigures struct {
	P50With    float64 `json:"p50_with_bad"`
	P50Without float64 `json:"p50_without_bad"`
	P99With    float64 `json:"p99_with_bad"`
	P99Without float64 `json:"p99_without_bad"`
	Ratio      float64 `json:"p99_ratio"`
}

type phaseFigures struct {
	Bad      bool    `json:"bad"`
	Measured float64 `json:"measured_seconds"`
	Count    uint64  `json:"deliveries"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Steady   float64 `json:"p99_ms_beside_bursts"`
	Bursts   float64 `json:"p99_ms_around_bursts"`
}

type restartFigures struct {
	At      float64 `json:"at_seconds"`
	Signal  string  `json:"signal"`
	Stopped float64 `json:"stopped_seconds"`
	Serving float64 `json:"serving_seconds"`
	Back    float64 `json:"all_back_seconds"`
	Refused int     `json:"refused"`
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// compared gives the figures over the phases. what picks the histogram of one.
func compared(phases []*phase, what func(*phase) *histogram) latencyFigures {
	var p50, p99 [2][]float64
	for _, p := range phases {
		h, i := what(p), 0
		if h.count() == 0 {
			continue
		}
		if p.bad {
			i = 1
		}
		p50[i] = append(p50[i], millis(h.quantile(0.5)))
		p99[i] = append(p99[i], millis(h.quantile(0.99)))
	}
	f := latencyFigures{P50With: median(p50[1]), P50Without: median(p50[0]), P99With: median(p99[1]), P99Without: median(p99[0])}
	if f.P99Without > 0 {
		f.Ratio = f.P99With / f.P99Without
	}
	return f
}

// ownCPU is the processor time that this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// whole is all latencies of a phase.
func (p *phase) whole() *histogram {
	var h histogram
	h.add(&p.latency[0])
	h.add(&p.latency[1])
	return &h
}

// result sums up, and judges what needs the whole run.
func (w *world) result() *result {
	o := w.oracle
	r := &result{
		Seed: w.config.seed, Seconds: time.Since(began).Seconds(), Inserted: o.made.Load(), Delivered: w.delivered(),
		Updates: w.updates.Load(), Memory: w.memory.figures(), ServerCPU: w.server.cpu().Seconds(), ClientCPU: ownCPU().Seconds(),
		Subscribers: map[string]map[string]int{}, Ends: map[string]map[string]int{},
		Latency: map[string]latencyFigures{
			"all":           compared(w.phases, (*phase).whole),
			"beside_bursts": compared(w.phases, func(p *phase) *histogram { return &p.latency[0] }),
			"around_bursts": compared(w.phases, func(p *phase) *histogram { return &p.latency[1] }),
		},
	}
	for _, m := range mannerNames {
		r.Subscribers[m], r.Ends[m] = map[string]int{}, w.ends.byFirst(m)
	}
	for _, s := range w.subscribers {
		r.Subscribers[mannerNames[s.manner]][transportNames[s.transport]]++
		for _, f := range s.feeds {
			switch l := f.ledger.(type) {
			case *auto:
				r.Durable.Auto++
				r.Durable.Repeated += l.repeated
				r.Durable.Skipped += l.skipped
			case *manual:
				r.Durable.Manual++
				r.Durable.Again += l.repeated
			}
		}
	}
	measured := 0
	for _, p := range w.phases {
		h := p.whole()
		if p.measured >= w.config.phase/4 {
			measured++
		}
		r.Phases = append(r.Phases, phaseFigures{
			p.bad, p.measured.Seconds(), h.count(), millis(h.quantile(0.5)), millis(h.quantile(0.99)),
			millis(p.latency[0].quantile(0.99)), millis(p.latency[1].quantile(0.99)),
		})
	}
	for _, s := range w.storms {
		r.Restarts = append(r.Restarts, restartFigures{
			s.at.Seconds(), s.signal, s.stopped.Seconds(), s.serving.Seconds(), s.back.Seconds(), s.refused,
		})
	}
	judged := [][2]float64{r.Memory.Without}
	if len(r.Restarts) == 0 { // else it depends on how far behind the slow ones were at the restart
		judged = append(judged, r.Memory.With)
	}
	for _, half := range judged {
		if half[1] > half[0]*grows && (half[1]-half[0])*(1<<20) > growsLeast {
			o.violate(promiseMemory, "%.0f MiB in the first half of the run, %.0f in the second", half[0], half[1])
		}
	}
	if slower := r.Latency["all"].Ratio; w.config.slower > 0 && measured == len(w.phases) && slower > 1+w.config.slower/100 {
		o.violate(promiseLatency, "p99 with them is %.2f times that without", slower)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	r.Violations = maps.Clone(o.violations)
	for _, p := range promises {
		if n := o.violations[p]; n > 0 {
			r.Reasons = append(r.Reasons, fmt.Sprintf("%s: %d", p, n))
		}
	}
	r.Pass = len(r.Reasons) == 0
	return r
}

// print prints the result, as a table or as JSON.
func (r *result) print(out io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	}
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-52s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("seed, length", "%d, %.0f s", r.Seed, r.Seconds)
	for _, m := range mannerNames {
		row(m+" subscribers", "%s", counts(r.Subscribers[m]))
	}
	row("killmails inserted", "%d", r.Inserted)
	row("events delivered", "%d (%.0f/s)", r.Delivered, float64(r.Delivered)/r.Seconds)
	row("topics changed at run time", "%d", r.Updates)
	row("processor time of the server, of this", "%.0f s, %.0f s", r.ServerCPU, r.ClientCPU)
	fmt.Fprintf(&b, "\nlatency from insert to read, healthy subscribers; medians over phases; ratio of the p99, wanted: up to 1.10\n")
	fmt.Fprintf(&b, "%-20s %12s %12s %12s %12s %8s\n", "ms", "p50 without", "p50 with bad", "p99 without", "p99 with bad", "ratio")
	for _, name := range []string{"all", "beside_bursts", "around_bursts"} {
		l := r.Latency[name]
		fmt.Fprintf(&b, "%-20s %12.2f %12.2f %12.2f %12.2f %8.2f\n", strings.ReplaceAll(name, "_", " "),
			l.P50Without, l.P50With, l.P99Without, l.P99With, l.Ratio)
	}
	fmt.Fprintf(&b, "\n%-12s %10s %12s %10s %10s %14s %14s\n",
		"phase", "measured", "deliveries", "p50 ms", "p99 ms", "beside bursts", "around bursts")
	for i, p := range r.Phases {
		name := fmt.Sprintf("%d without", i+1)
		if p.Bad {
			name = fmt.Sprintf("%d with bad", i+1)
		}
		fmt.Fprintf(&b, "%-12s %8.0f s %12d %10.2f %10.2f %14.2f %14.2f\n",
			name, p.Measured, p.Count, p.P50, p.P99, p.Steady, p.Bursts)
	}
	fmt.Fprintf(&b, "\n%-12s %8s %14s %14s %14s %10s\n",
		"restart at", "signal", "stopped in", "serving in", "all back in", "refused")
	for _, s := range r.Restarts {
		fmt.Fprintf(&b, "%10.0f s %8s %12.2f s %12.2f s %12.2f s %10d\n", s.At, s.Signal, s.Stopped, s.Serving, s.Back, s.Refused)
	}
	fmt.Fprintln(&b)
	for _, m := range mannerNames {
		row("ends of sessions, "+m, "%s", counts(r.Ends[m]))
	}
	m := &r.Memory
	row("server memory, peak", "%.0f MiB", m.Peak)
	row("  median in either half, without bad subscribers", "%.0f, %.0f MiB", m.Without[0], m.Without[1])
	row("  median in either half, with them", "%.0f, %.0f MiB", m.With[0], m.With[1])
	row("  slope of a process older than a minute", "%+.1f MiB/min (median of %d)", m.SlopePerMin, m.Lives)
	var points []string
	for _, p := range m.Points {
		points = append(points, fmt.Sprintf("%.0fs:%.0f", p[0], p[1]))
	}
	row("  over time, MiB", "%s", strings.Join(points, " "))
	row("durable, automatic: repeated after a kill", "%d events, %d feeds", r.Durable.Repeated, r.Durable.Auto)
	row("durable, automatic: on their way at a cut", "%d events", r.Durable.Skipped)
	row("durable, manual: again, not being committed", "%d events, %d feeds", r.Durable.Again, r.Durable.Manual)
	fmt.Fprintln(&b)
	for _, p := range promises {
		row(p, "%d", r.Violations[p])
	}
	if r.Pass {
		fmt.Fprintf(&b, "\nsoak: PASS\n")
	} else {
		fmt.Fprintf(&b, "\nsoak: FAIL: %s\n", strings.Join(r.Reasons, "; "))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// counts shows counts by name.
func counts(of map[string]int) string {
	var parts []string
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, of[name]))
		sum += of[name]
	}
	if len(parts) == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", sum, strings.Join(parts, ", "))
}
