package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"killfeed"
	"killfeed/ingest/demo"
	"killfeed/ingest/esi"
	"killfeed/names"
	"killfeed/supervise"
)

// newNames opens the names that the settings want, nil for none, and has them asked for by services of the tree. Without a
// contact there is nobody to ask, and what is known from before is all. A demo's names are its own.
func (a *app) newNames(feed *killfeed.Feed, client *esi.Client, tree *supervise.Tree, log *slog.Logger) (*names.Book, error) {
	if a.settings.names == off {
		return nil, nil
	}
	dir := a.settings.data
	if a.settings.memory || a.settings.demo {
		dir = ""
	}
	book, err := names.Open(dir, names.Options{ESI: client, Logger: log})
	if errors.Is(err, killfeed.ErrLocked) {
		return nil, hint(err, "another killfeed uses this directory; stop it, or choose another directory with --data")
	}
	if err != nil {
		return nil, hint(err, "--names off serves without them")
	}
	if a.settings.demo {
		book.Learn(demoNames())
	}
	if client != nil {
		tree.Add("names", book.Run)
		tree.Add("names of new killmails", func(ctx context.Context) error { return book.Follow(ctx, feed) })
	}
	return book, nil
}

// demoNames are the names of the demo's pilots, their corporations and alliances. Places and types are its Universe's.
func demoNames() map[uint32]names.Entry {
	all := map[uint32]names.Entry{}
	for _, e := range demo.Names() {
		switch e.Category {
		case "character":
			all[e.ID] = names.Entry{Category: names.Character, Name: e.Name}
		case "corporation":
			all[e.ID] = names.Entry{Category: names.Corporation, Name: e.Name, Ticker: e.Ticker}
		case "alliance":
			all[e.ID] = names.Entry{Category: names.Alliance, Name: e.Name, Ticker: e.Ticker}
		case "faction":
			all[e.ID] = names.Entry{Category: names.Faction, Name: e.Name}
		}
	}
	return all
}

// nameMetrics shows how a Book is doing at /metrics.
type nameMetrics struct{ book *names.Book }

// Describe implements prometheus.Collector.
func (m nameMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m nameMetrics) Collect(ch chan<- prometheus.Metric) {
	st := m.book.Status()
	show := func(kind prometheus.ValueType, value float64, name, help string, label ...string) {
		var labels []string
		if len(label) > 0 {
			labels = []string{"result"}
		}
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, labels, nil), kind, value, label...)
	}
	const requests = "Requests to ESI about names, tickers and places, by how they ended; refused: there is no such id."
	answered := st.Requests - min(st.Requests, st.Failures+st.Refused)
	show(prometheus.GaugeValue, float64(st.Known), "killfeed_names_known", "Ids whose names are known, or of which it is known that there are none.")
	show(prometheus.GaugeValue, float64(st.Pending), "killfeed_names_pending", "Names that are being asked for, or wait for that.")
	show(prometheus.GaugeValue, float64(st.Details), "killfeed_names_details_pending", "Tickers and places that wait to be asked for.")
	show(prometheus.CounterValue, float64(answered), "killfeed_names_requests_total", requests, "answered")
	show(prometheus.CounterValue, float64(st.Refused), "killfeed_names_requests_total", requests, "refused")
	show(prometheus.CounterValue, float64(st.Failures), "killfeed_names_requests_total", requests, "failed")
	show(prometheus.CounterValue, float64(st.Fetched), "killfeed_names_fetched_total", "Names that ESI told.")
	show(prometheus.CounterValue, float64(st.Unknown), "killfeed_names_unknown_total", "Ids of which ESI said that there are none.")
	show(prometheus.CounterValue, float64(st.Invalid), "killfeed_names_invalid_total", "Answers of ESI about names, or parts of them, that were stepped over.")
	show(prometheus.CounterValue, float64(st.Dropped), "killfeed_names_dropped_total", "Ids that were not asked for because too many waited.")
}
