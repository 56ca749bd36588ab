package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/esi"
	"killfeed/ingest/follow"
	"killfeed/ingest/r2z2"
	"killfeed/ingest/redisq"
	"killfeed/ingest/upstream"
	"killfeed/ingest/zkillws"
	"killfeed/names"
	"killfeed/supervise"
)

// off is the value of a URL setting that switches its source off.
const off = "off"

// noContact says why nothing is followed, where it is looked for: once when the server starts, and in /api/status.
const noContact = "no contact: upstream services want to know whom to write to, so none is followed; " +
	"give --contact you@example.com, or a URL"

// sources are the upstream services that the settings switch on, each with its intake.
type sources struct {
	intakes []*ingest.Intake
	idle    []ingest.Status // what is not followed, and why
	bodies  *esi.Client     // nil without a contact
	names   *names.Book     // nil when they are switched off
	tree    *supervise.Tree
	lead    leading
	close   []func()
}

// newSources makes the sources as services of the tree. In a cluster the node that leads follows them.
func (a *app) newSources(feed *killfeed.Feed, lead leading, tree *supervise.Tree, log *slog.Logger) (*sources, error) {
	s := &sources{tree: tree, lead: lead}
	set := &a.settings
	if set.contact == "" {
		s.idle = append(s.idle, ingest.Status{Name: "r2z2", State: ingest.Stopped, Detail: noContact, Since: time.Now().UTC()})
		return s, nil
	}
	add := func(name string, quiet bool, source ingest.Source) {
		in := ingest.NewIntake(feed, name, quiet, log)
		s.intakes = append(s.intakes, in)
		run := func(ctx context.Context) error {
			defer standBy(feed, in)
			return in.Run(ctx, source)
		}
		standBy(feed, in)
		tree.Add("source "+name, lead.only(run))
	}
	var err error
	if s.bodies, err = a.newESI(s, log); err != nil {
		return nil, err
	}
	if set.r2z2URL != off {
		client, err := a.upstream(s, upstream.Config{})
		if err != nil {
			return nil, err
		}
		add("r2z2", false, r2z2.New(r2z2.Config{
			Client: client, URL: set.r2z2URL, Body: s.bodies.Body,
			Known: func(id int64) (bool, error) { return feed.Knows(id) },
		}))
	}
	if set.redisqURL != "" {
		client, err := a.upstream(s, upstream.Config{Every: 500 * time.Millisecond, Timeout: time.Minute})
		if err != nil {
			return nil, err
		}
		source, err := redisq.New(client, s.bodies, redisq.Config{URL: set.redisqURL})
		if err != nil {
			return nil, usageError{fmt.Errorf("redisq-url: %w", err)}
		}
		add("redisq", false, source)
	}
	if set.zkillWSURL != "" {
		client, err := a.upstream(s, upstream.Config{})
		if err != nil {
			return nil, err
		}
		source, err := zkillws.New(s.bodies, zkillws.Config{URL: set.zkillWSURL, UserAgent: client.UserAgent()})
		if err != nil {
			return nil, usageError{fmt.Errorf("zkill-ws-url: %w", err)}
		}
		add("zkillws", false, source)
	}
	if set.followURL != "" {
		client, err := a.upstream(s, upstream.Config{Timeout: follow.Timeout})
		if err != nil {
			return nil, err
		}
		source, err := follow.New(client, follow.Config{URL: set.followURL, Self: feed.State().Epoch})
		if err != nil {
			return nil, usageError{fmt.Errorf("follow-url: %w", err)}
		}
		add("killfeed", true, source)
	}
	return s, nil
}

// upstream makes a polite client; what c leaves out is the program's own.
func (a *app) upstream(s *sources, c upstream.Config) (*upstream.Client, error) {
	c.Version, c.Contact = version(), a.settings.contact
	client, err := upstream.New(c)
	if err != nil {
		return nil, usageError{fmt.Errorf("contact %q: %w", a.settings.contact, err)}
	}
	if s != nil {
		s.close = append(s.close, client.Close)
	}
	return client, nil
}

func (a *app) newESI(s *sources, log *slog.Logger) (*esi.Client, error) {
	client, err := a.upstream(s, upstream.Config{Header: esi.Header()})
	if err != nil {
		return nil, err
	}
	bodies, err := esi.New(client, esi.Config{URL: a.settings.esiURL, Logger: log})
	if err != nil {
		return nil, usageError{fmt.Errorf("esi-url: %w", err)}
	}
	return bodies, nil
}

// complete fetches what an inserted item only names; nil without a contact.
func (s *sources) complete() func(ctx context.Context, item []byte) (*killfeed.Killmail, error) {
	if s.bodies == nil {
		return nil
	}
	return func(ctx context.Context, item []byte) (*killfeed.Killmail, error) {
		it, err := esi.ReadItem(item)
		if err != nil {
			return nil, err
		}
		return s.bodies.Fill(ctx, it)
	}
}

// stop closes the connections. The services have ended.
func (s *sources) stop() {
	for _, f := range s.close {
		f()
	}
}

// standBy notes who follows the source when this node does not.
func standBy(feed *killfeed.Feed, in *ingest.Intake) {
	if err := feed.Leads(); err != nil {
		in.Is(ingest.StandingBy, err.Error())
	}
}

// status is what /api/status shows of the sources.
func (s *sources) status() []ingest.Status {
	all := append([]ingest.Status{}, s.idle...)
	for _, in := range s.intakes {
		all = append(all, in.Status())
	}
	return all
}

// pause has a source do nothing, or go on.
func (s *sources) pause(name string, paused bool) (status any, ok bool) {
	for _, in := range s.intakes {
		if st := in.Status(); st.Name != name {
			continue
		}
		if paused {
			in.Pause()
		} else {
			in.Resume()
		}
		return in.Status(), true
	}
	return nil, false
}

// degraded names the sources that should yield and do not, and since when.
func (s *sources) degraded() string {
	var parts []string
	for _, st := range s.status() {
		if st.Degraded != nil {
			parts = append(parts, fmt.Sprintf("source %s since %s: %s", st.Name, st.Degraded.Since.Format(time.RFC3339), st.Degraded.Reason))
		}
	}
	return strings.Join(parts, "; ")
}

// Describe implements prometheus.Collector.
func (s *sources) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *sources) Collect(ch chan<- prometheus.Metric) {
	killmails := prometheus.NewDesc("killfeed_source_killmails_total",
		"Killmails of a source by what became of them; inserted are those that it was first to bring.", []string{"source", "result"}, nil)
	lag := prometheus.NewDesc("killfeed_source_lag_seconds", "Time from an upstream's publishing to the log.", []string{"source"}, nil)
	behind := prometheus.NewDesc("killfeed_source_behind", "Killmails known to be upstream that were not taken yet.", []string{"source"}, nil)
	degraded := prometheus.NewDesc("killfeed_source_degraded", "1 when a source should yield and does not.", []string{"source"}, nil)
	for _, st := range s.status() {
		for _, r := range []struct {
			name  string
			count uint64
		}{{"inserted", st.Inserted}, {"duplicate", st.Duplicates}, {"update", st.Updates}, {"bad", st.Bad}, {"repaired", st.Repaired}} {
			ch <- prometheus.MustNewConstMetric(killmails, prometheus.CounterValue, float64(r.count), st.Name, r.name)
		}
		ch <- prometheus.MustNewConstMetric(lag, prometheus.GaugeValue, st.Lag, st.Name)
		ch <- prometheus.MustNewConstMetric(behind, prometheus.GaugeValue, float64(st.Behind), st.Name)
		is := 0.0
		if st.Degraded != nil {
			is = 1
		}
		ch <- prometheus.MustNewConstMetric(degraded, prometheus.GaugeValue, is, st.Name)
	}
	restarts := prometheus.NewDesc("killfeed_supervisor_restarts_total", "How often a service was started again.", []string{"service"}, nil)
	for _, st := range s.tree.Status() {
		ch <- prometheus.MustNewConstMetric(restarts, prometheus.CounterValue, float64(st.Restarts), st.Name)
	}
}

// errMixed: a demo's killmails and real ones must not share a log.
var errMixed = errors.New("demo and real killmails must not share a log")
