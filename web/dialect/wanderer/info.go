package wanderer

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"time"
)

func (d *dialect) ping(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "pong")
}

// health answers as load balancers want it: 503 when nothing can be stored any more. A server whose sources bring nothing is still
// worth asking, and says so.
func (d *dialect) health(w http.ResponseWriter, _ *http.Request) {
	status, reason := d.api.Readiness()
	code, word := http.StatusOK, map[string]string{"ready": "healthy", "degraded": "degraded"}[status]
	if word == "" {
		code, word = http.StatusServiceUnavailable, "unhealthy"
	}
	sendJSON(w, code, struct {
		Healthy   bool   `json:"healthy"`
		Status    string `json:"status"`
		Reason    string `json:"reason,omitempty"`
		Version   string `json:"version"`
		Timestamp string `json:"timestamp"`
	}{code == http.StatusOK, word, reason, d.api.Version(), moment(time.Now())})
}

func moment(t time.Time) string { return t.UTC().Format(momentLayout) }

// sockets is what is open.
type sockets struct {
	Active   int   `json:"connections_active"`
	Channels int64 `json:"channels_active"`
	Streams  int64 `json:"sse_active"`
}

func (d *dialect) sockets() sockets {
	open := d.api.Connections()
	return sockets{open["websocket"] + open["longpoll"], d.lobbies.Load(), d.streams.Load()}
}

// figures are what /status and /metrics tell.
type figures struct {
	Processing struct {
		Received     uint64 `json:"killmails_received"`
		Stored       uint64 `json:"killmails_stored"`
		Duplicates   uint64 `json:"duplicates"`
		LastAgo      int64  `json:"last_killmail_ago_seconds"`
		LastReceived string `json:"last_killmail_received,omitempty"`
	} `json:"processing"`
	Websocket sockets `json:"websocket"`
	Storage   struct {
		First uint64 `json:"first_event_id"`
		Head  uint64 `json:"last_event_id"`
		Bytes int64  `json:"bytes"`
	} `json:"storage"`
	System struct {
		Memory     uint64 `json:"memory_bytes"`
		Goroutines int    `json:"goroutines"`
		Uptime     int64  `json:"uptime_seconds"`
	} `json:"system"`
}

func (d *dialect) figures() (f figures) {
	st, stats := d.feed.State(), d.feed.Stats()
	f.Processing.Received, f.Processing.Duplicates = stats.Inserted+stats.Duplicates, stats.Duplicates
	if st.Head >= st.First {
		f.Processing.Stored = uint64(st.Head - st.First + 1)
	}
	if !st.LastReceived.IsZero() {
		f.Processing.LastReceived = moment(st.LastReceived)
		f.Processing.LastAgo = int64(time.Since(st.LastReceived).Seconds())
	}
	f.Websocket = d.sockets()
	f.Storage.First, f.Storage.Head, f.Storage.Bytes = uint64(st.First), uint64(st.Head), st.Bytes
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.System.Memory, f.System.Goroutines = m.Sys-m.HeapReleased, runtime.NumGoroutine()
	f.System.Uptime = int64(time.Since(d.api.Started()).Seconds())
	return f
}

func (d *dialect) status(w http.ResponseWriter, _ *http.Request) {
	type summary struct {
		Subscriptions int64   `json:"active_subscriptions"`
		Stored        uint64  `json:"killmails_stored"`
		Memory        float64 `json:"memory_usage_mb"`
		Uptime        float64 `json:"uptime_hours"`
		Lag           int64   `json:"processing_lag_seconds"`
	}
	f := d.figures()
	sendJSON(w, http.StatusOK, struct {
		Metrics   figures `json:"metrics"`
		Summary   summary `json:"summary"`
		Timestamp string  `json:"timestamp"`
	}{f, summary{
		f.Websocket.Channels, f.Processing.Stored, float64(f.System.Memory>>10) / 1024, float64(f.System.Uptime) / 3600, f.Processing.LastAgo,
	}, moment(time.Now())})
}

// wantsJSON tells whether a request asks for metrics as the service has them, and not as Prometheus does. Libraries that want JSON
// often take plain text too.
func wantsJSON(r *http.Request) bool {
	accept := strings.Join(r.Header["Accept"], ",")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "openmetrics")
}

func (d *dialect) metrics(w http.ResponseWriter, _ *http.Request) {
	sendJSON(w, http.StatusOK, struct {
		figures
		Timestamp string `json:"timestamp"`
	}{d.figures(), moment(time.Now())})
}

// aboutSocket tells who comes without a WebSocket how to open one.
func (d *dialect) aboutSocket(w http.ResponseWriter, r *http.Request) {
	type channel struct {
		Topic  string   `json:"topic"`
		Events []string `json:"events"`
		Pushes []string `json:"pushes"`
	}
	sendJSON(w, http.StatusOK, struct {
		URL      string         `json:"websocket_url"`
		LongPoll string         `json:"longpoll_url"`
		Versions []string       `json:"protocol_versions"`
		Channels []channel      `json:"channels"`
		Limits   map[string]int `json:"limits"`
		Status   string         `json:"status"`
	}{
		"/socket/websocket", "/socket/longpoll", []string{"1.0.0", "2.0.0"},
		[]channel{{lobbyTopic,
			[]string{"subscribe_systems", "unsubscribe_systems", "subscribe_characters", "unsubscribe_characters", "update_subscriptions", "get_status"},
			[]string{"killmail_update", "kill_count_update", "preload_status", "preload_complete", "gap"}}},
		map[string]int{"max_systems": maxSystems, "max_characters": maxCharacters}, "available",
	})
}

func (d *dialect) socketStatus(w http.ResponseWriter, _ *http.Request) {
	sendJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
		sockets
		Timestamp string `json:"timestamp"`
	}{"operational", d.sockets(), moment(time.Now())})
}
