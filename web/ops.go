package web

import (
	_ "embed"
	"errors"
	"net/http"
	"time"

	"killfeed"
)

//go:embed openapi.json
var openapiJSON []byte

// openapi answers with the contract.
func (a *API) openapi(x *exchange) error {
	x.send(http.StatusOK, valueJSON, openapiJSON)
	return nil
}

// collect removes now what the retention lets go.
func (a *API) collect(x *exchange) error {
	// It may take longer than the server gives an answer.
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
	c, err := a.feed.Collect(x.r.Context())
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, struct {
		Removed uint64           `json:"removed"`
		First   killfeed.EventID `json:"first"`
		Head    killfeed.EventID `json:"head"`
	}{c.Removed, c.First, c.Head})
}

// pauseSource has a source do nothing, or go on.
func (a *API) pauseSource(paused bool) func(*exchange) error {
	return func(x *exchange) error {
		name := x.r.PathValue("id")
		if a.config.PauseSource != nil {
			if status, ok := a.config.PauseSource(name, paused); ok {
				return x.json(http.StatusOK, status)
			}
		}
		return refuse(http.StatusNotFound, "there is no source %s: /api/status lists those that there are", shorten(name))
	}
}

// warnings answers with what the log has warned of lately.
func (a *API) warnings(x *exchange) error {
	var list any = []struct{}{}
	if a.config.Warnings != nil {
		list = a.config.Warnings()
	}
	return x.json(http.StatusOK, struct {
		Warnings any `json:"warnings"`
	}{list})
}

var alive = []byte(`{"status":"ok"}`)

// livez: the process runs.
func (a *API) livez(x *exchange) error {
	x.send(http.StatusOK, valueJSON, alive)
	return nil
}

// readiness is the health of the feed in one word, and why it is no better.
type readiness struct {
	// Status is ready, degraded (reads work, but inserts do not at the moment, or a source brings nothing) or failed
	// (inserts will not work before a restart).
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
}

func (a *API) readiness() readiness {
	switch err := a.feed.Health(); {
	case err == nil:
		if a.config.Degraded != nil {
			if reason := a.config.Degraded(); reason != "" {
				return readiness{"degraded", reason}
			}
		}
		return readiness{Status: "ready"}
	case errors.Is(err, killfeed.ErrDiskFull):
		return readiness{"degraded", reasonFull}
	case errors.Is(err, killfeed.ErrUnavailable):
		return readiness{"degraded", reasonAlone}
	default:
		return readiness{"failed", reasonFailed}
	}
}

// readyz: send requests here. A full disk is no reason not to: it passes by itself, and until then reads are served, which
// nobody else could do. A failed one is: only a restart mends it.
func (a *API) readyz(x *exchange) error {
	r := a.readiness()
	if r.Status == "failed" {
		return refuse(http.StatusServiceUnavailable, "%s", r.Reason)
	}
	return x.json(http.StatusOK, r)
}

// status answers with what an operator wants to know at a glance.
func (a *API) status(x *exchange) error {
	type log struct {
		Epoch        killfeed.Epoch   `json:"epoch"`
		First        killfeed.EventID `json:"first"`
		Head         killfeed.EventID `json:"head"`
		MirrorSeq    uint64           `json:"mirror_seq"`
		Bytes        int64            `json:"bytes"`
		LastReceived string           `json:"last_received,omitempty"`
	}
	type retention struct {
		Retain    float64 `json:"retain_seconds"`
		Max       float64 `json:"retain_max_seconds"`
		MaxBytes  int64   `json:"max_bytes"`
		ClientTTL float64 `json:"client_ttl_seconds"`
	}
	type static struct {
		Build   int `json:"build"`
		Systems int `json:"systems"`
		Types   int `json:"types"`
	}
	st, stats, keep := a.feed.State(), a.feed.Stats(), a.config.Retention
	answer := struct {
		Version   string    `json:"version"`
		Started   string    `json:"started"`
		Uptime    int64     `json:"uptime_seconds"`
		Health    readiness `json:"health"`
		Log       log       `json:"log"`
		Clients   int       `json:"clients"`
		Waiting   int       `json:"waiting"`
		Conns     int       `json:"connections"`
		ByKind    any       `json:"connections_by_transport"`
		Subs      int       `json:"subscriptions"`
		Retention retention `json:"retention"`
		Static    *static   `json:"static_data,omitempty"`
		Services  any       `json:"services,omitempty"`
		Sources   any       `json:"sources,omitempty"`
		Names     any       `json:"names,omitempty"`
		Webhooks  any       `json:"webhooks,omitempty"`
		Cluster   any       `json:"cluster,omitempty"`
	}{
		Version: a.config.Version,
		Started: a.started.UTC().Format(timeLayout),
		Uptime:  int64(time.Since(a.started).Seconds()),
		Health:  a.readiness(),
		Log:     log{Epoch: st.Epoch, First: st.First, Head: st.Head, MirrorSeq: st.MirrorSeq, Bytes: st.Bytes},
		Clients: stats.Clients, Waiting: stats.Waiting, Conns: a.live.Len(), ByKind: a.connections.byTransport(), Subs: stats.Subscriptions,
		Retention: retention{keep.Retain.Seconds(), keep.Max.Seconds(), keep.MaxBytes, keep.ClientTTL.Seconds()},
	}
	if u := a.feed.Universe(); u != nil {
		answer.Static = &static{Build: u.Build()}
		answer.Static.Systems, answer.Static.Types = u.Counts()
	}
	if a.config.Services != nil {
		answer.Services = a.config.Services()
	}
	if a.config.Sources != nil {
		answer.Sources = a.config.Sources()
	}
	if a.config.Names != nil {
		answer.Names = a.config.Names.Status()
	}
	if a.config.Webhooks != nil {
		answer.Webhooks = a.config.Webhooks()
	}
	if a.config.Cluster != nil {
		answer.Cluster = a.config.Cluster()
	}
	if !st.LastReceived.IsZero() {
		answer.Log.LastReceived = st.LastReceived.UTC().Format(timeLayout)
	}
	return x.json(http.StatusOK, answer)
}

// showMetrics answers with the metrics in Prometheus' format. The handler writes the answer itself.
func (a *API) showMetrics(x *exchange) error {
	x.status = http.StatusOK
	a.metrics.ServeHTTP(x.w, x.r)
	return nil
}
