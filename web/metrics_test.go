package web_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"killfeed/web"
)

// TestMetrics: what a dashboard needs is there, under names that stay.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "killfeed_store_disk_bytes", Help: "x"}, func() float64 { return 4096 })
		s := newServer(t, func(o *serverOptions) { o.config.Collectors = []prometheus.Collector{disk} })
		s.insert(jita, jita, hek)
		s.get("/api/killfeed?client_id=a&systems=30000142").want(200)
		s.get("/api/killfeed/next?client_id=a&systems=30000142").want(204)
		s.get("/api/killfeed/next?client_id=a&systems=30000142&wait=1").want(204)
		s.get("/api/killfeed").want(400)
		s.get("/nothing/" + strings.Repeat("x", 10)).want(404)
		s.do("PUT", "/api/killfeed", "").want(405)
		s.do("OPTIONS", "/api/killfeed", "").want(204)
		s.get("/api/clients/a").want(200)
		s.get("/api/clients/b").want(404)
		a := s.get("/metrics").want(200)
		if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
			t.Errorf("Content-Type %q", got)
		}
		text := "\n" + string(a.body)
		for _, want := range []string{
			"killfeed_log_head 3", "killfeed_log_first 1", "killfeed_log_mirror_sequence 3", "killfeed_log_writable 1",
			"killfeed_events_inserted_total 3", "killfeed_events_updated_total 0", "killfeed_duplicates_total 0",
			"killfeed_events_delivered_total 2", "killfeed_reads_total 3", "killfeed_gaps_told_total 0",
			"killfeed_damaged_reads_total 0", "killfeed_collections_total 0", "killfeed_events_removed_total 0",
			"killfeed_clients 1", "killfeed_waiting_reads 0", "killfeed_store_disk_bytes 4096",
			`killfeed_http_requests_total{code="200",route="GET /api/killfeed"} 1`,
			`killfeed_http_requests_total{code="400",route="GET /api/killfeed"} 1`,
			`killfeed_http_requests_total{code="204",route="GET /api/killfeed/next"} 2`,
			`killfeed_http_requests_total{code="404",route="unknown"} 1`,
			`killfeed_http_requests_total{code="405",route="other /api/killfeed"} 1`,
			`killfeed_http_requests_total{code="204",route="OPTIONS /api/killfeed"} 1`,
			`killfeed_http_requests_total{code="200",route="GET /api/clients/{id}"} 1`,
			`killfeed_http_requests_total{code="404",route="GET /api/clients/{id}"} 1`,
			// The one that waited is not in it.
			`killfeed_http_request_duration_seconds_count{code="204",route="GET /api/killfeed/next"} 1`,
		} {
			if !strings.Contains(text, "\n"+want+"\n") {
				t.Errorf("no %s", want)
			}
		}
		for _, family := range []string{"killfeed_log_bytes", "killfeed_log_last_received_timestamp_seconds", "killfeed_group_commits_total",
			"killfeed_grouped_requests_total", "go_goroutines", "process_cpu_seconds_total"} {
			if !strings.Contains(text, "\n"+family+" ") {
				t.Errorf("no %s", family)
			}
		}
	})
}

// TestMetricsThatClash are an error, not a panic.
func TestMetricsThatClash(t *testing.T) {
	s := newServer(t)
	clash := prometheus.NewGauge(prometheus.GaugeOpts{Name: "killfeed_log_head", Help: "another"})
	if _, err := web.New(s.feed, web.Config{Collectors: []prometheus.Collector{clash}}); err == nil {
		t.Error("a second killfeed_log_head was taken")
	}
	if _, err := web.New(s.feed, web.Config{}); err != nil {
		t.Errorf("a second API of the same feed: %v", err)
	}
}
