package web

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"killfeed"
)

// metrics are what /metrics shows. They have a registry of their own, so that two APIs in one process do not meet.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(feed *killfeed.Feed, c Config) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "killfeed_http_requests_total",
			Help: "Requests answered, by route and status; 499: the caller left before the answer.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "killfeed_http_request_duration_seconds",
			Help:    "Time to answer a request, by route and status, without those that asked to wait for an event.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "code"}),
	}
	registry := prometheus.NewRegistry()
	all := append([]prometheus.Collector{
		runtimeMetrics{collectors.NewGoCollector()},
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newFeedCollector(feed),
		m.requests, m.seconds,
	}, c.Collectors...)
	for _, one := range all {
		if err := registry.Register(one); err != nil {
			return nil, err
		}
	}
	options := promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, DisableCompression: true}
	if c.Logger != nil {
		options.ErrorLog = slog.NewLogLogger(c.Logger.Handler(), slog.LevelError)
	}
	m.handler = promhttp.HandlerFor(registry, options)
	return m, nil
}

// runtimeMetrics are those of the Go runtime without go_info, which tells whoever asks which release of Go this was built with, and
// with that which faults of it are known.
type runtimeMetrics struct{ all prometheus.Collector }

// Describe implements prometheus.Collector.
func (c runtimeMetrics) Describe(to chan<- *prometheus.Desc) { passOn(to, c.all.Describe, isGoInfo) }

// Collect implements prometheus.Collector.
func (c runtimeMetrics) Collect(to chan<- prometheus.Metric) {
	passOn(to, c.all.Collect, func(m prometheus.Metric) bool { return isGoInfo(m.Desc()) })
}

func isGoInfo(d *prometheus.Desc) bool { return strings.Contains(d.String(), `"go_info"`) }

// passOn passes on what a collector sends, but for what is not wanted.
func passOn[T any](to chan<- T, collect func(chan<- T), unwanted func(T) bool) {
	all := make(chan T)
	go func() { // ends with what it sends, which is waited for here
		defer close(all)
		collect(all)
	}()
	for one := range all {
		if !unwanted(one) {
			to <- one
		}
	}
}

// instruments count one route. Series are looked up once for each status, then found without a lock: the vectors' own look-up
// would cost an idle poll as much as its answer.
type instruments struct {
	route   string
	metrics *metrics
	known   atomic.Pointer[[]instrument] // a handful; replaced as a whole
}

type instrument struct {
	status   int
	requests prometheus.Counter
	seconds  prometheus.Observer
}

func (m *metrics) instruments(route string) *instruments {
	in := &instruments{route: route, metrics: m}
	in.known.Store(new([]instrument))
	return in
}

func (in *instruments) observe(status int, begun time.Time, waited bool) {
	one := in.find(status)
	one.requests.Inc()
	if !waited {
		one.seconds.Observe(time.Since(begun).Seconds())
	}
}

func (in *instruments) find(status int) instrument {
	for {
		known := in.known.Load()
		for _, one := range *known {
			if one.status == status {
				return one
			}
		}
		code := strconv.Itoa(status)
		more := append((*known)[:len(*known):len(*known)], instrument{
			status:   status,
			requests: in.metrics.requests.WithLabelValues(in.route, code),
			seconds:  in.metrics.seconds.WithLabelValues(in.route, code),
		})
		in.known.CompareAndSwap(known, &more) // another may have been faster, with the same series
	}
}

// feedCollector shows what the feed counts, read when it is asked for.
type feedCollector struct {
	feed    *killfeed.Feed
	metrics []feedMetric
}

type feedMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*reading) float64
}

// reading is one look at the feed.
type reading struct {
	killfeed.State
	killfeed.Stats
	healthy bool
}

func newFeedCollector(feed *killfeed.Feed) *feedCollector {
	c := &feedCollector{feed: feed}
	add := func(kind prometheus.ValueType, name, help string, value func(*reading) float64) {
		c.metrics = append(c.metrics, feedMetric{prometheus.NewDesc("killfeed_"+name, help, nil, nil), kind, value})
	}
	gauge := func(name, help string, value func(*reading) float64) { add(prometheus.GaugeValue, name, help, value) }
	total := func(name, help string, value func(*reading) uint64) {
		add(prometheus.CounterValue, name+"_total", help, func(r *reading) float64 { return float64(value(r)) })
	}
	gauge("log_head", "Last event id given out.", func(r *reading) float64 { return float64(r.Head) })
	gauge("log_first", "First event kept.", func(r *reading) float64 { return float64(r.First) })
	gauge("log_bytes", "Size of the kept events before compression.", func(r *reading) float64 { return float64(r.Bytes) })
	gauge("log_mirror_sequence", "Killmails that came first-time and without the backfill mark.",
		func(r *reading) float64 { return float64(r.MirrorSeq) })
	gauge("log_last_received_timestamp_seconds", "When the newest event was taken; 0 when there is none.",
		func(r *reading) float64 {
			if r.LastReceived.IsZero() {
				return 0
			}
			return float64(r.LastReceived.UnixMilli()) / 1000
		})
	gauge("log_writable", "1 when inserts work, 0 when the disk is full or has failed.", func(r *reading) float64 {
		if r.healthy {
			return 1
		}
		return 0
	})
	total("events_inserted", "Killmails inserted for the first time.", func(r *reading) uint64 { return r.Inserted })
	total("events_updated", "Update events: richer versions of killmails that were there.", func(r *reading) uint64 { return r.Updates })
	total("duplicates", "Killmails that were there already.", func(r *reading) uint64 { return r.Duplicates })
	total("group_commits", "Group commits: one fsync each.", func(r *reading) uint64 { return r.Groups })
	total("grouped_requests", "Inserts, commits and seeks in group commits.", func(r *reading) uint64 { return r.Grouped })
	total("reads", "Polls and nexts, also stateless ones, and batches that streams and channels read.", func(r *reading) uint64 { return r.Fetches })
	total("events_delivered", "Events in the answers to reads, and in streams and channels.", func(r *reading) uint64 { return r.Delivered })
	total("gaps_told", "Gaps told to readers.", func(r *reading) uint64 { return r.Gaps })
	total("damaged_reads", "Stored records found damaged when they were to be read.", func(r *reading) uint64 { return r.Damaged })
	total("collections", "Collections run to their end.", func(r *reading) uint64 { return r.Collections })
	total("events_removed", "Events removed by collections.", func(r *reading) uint64 { return r.Removed })
	gauge("clients", "Clients remembered.", func(r *reading) float64 { return float64(r.Clients) })
	gauge("subscriptions", "Subscriptions that are open: one for each stream and each joined channel.",
		func(r *reading) float64 { return float64(r.Subscriptions) })
	gauge("waiting_reads", "Long polls that wait for an event.", func(r *reading) float64 { return float64(r.Waiting) })
	return c
}

func (c *feedCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		to <- m.desc
	}
}

func (c *feedCollector) Collect(to chan<- prometheus.Metric) {
	r := &reading{State: c.feed.State(), Stats: c.feed.Stats(), healthy: c.feed.Health() == nil}
	for _, m := range c.metrics {
		to <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(r))
	}
}
