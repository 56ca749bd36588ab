package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"killfeed"
	"killfeed/names"
	"killfeed/web"
	"killfeed/webhook"
)

// webhookKey is the name of the tables of webhooks in the configuration file.
const webhookKey = "webhook"

// webhookEntry is a [[webhook]] of the configuration file. The files that it names are read when a server starts.
type webhookEntry struct {
	webhook.Config
	urlFile, secretFile string
}

// inFile puts the file's name before each line of an error.
func inFile(path string, err error) error {
	return errors.New(path + ": " + strings.ReplaceAll(err.Error(), "\n", "\n"+path+": "))
}

// readWebhooks reads the tables. No error shows a value of url: it is a secret.
func readWebhooks(value any) (entries []webhookEntry, err error) {
	tables, ok := value.([]any)
	if !ok {
		return nil, errors.New("webhook: want tables that begin with [[webhook]], in double brackets")
	}
	var faults []error
	for i, value := range tables {
		table, ok := value.(map[string]any)
		if !ok {
			return nil, errors.New("webhook: want tables that begin with [[webhook]], in double brackets")
		}
		e := webhookEntry{Config: webhook.Config{
			MaxAge: webhook.DefaultMaxAge, GiveUp: webhook.DefaultGiveUp, Start: killfeed.Latest,
		}}
		label := fmt.Sprintf("webhook number %d", i+1)
		if name, ok := table["name"].(string); ok && name != "" {
			label = fmt.Sprintf("webhook %q", name)
		}
		members := e.members()
		for _, key := range slices.Sorted(maps.Keys(table)) {
			name := strings.ReplaceAll(key, "-", "_")
			set := members[name]
			if set == nil {
				known := slices.Sorted(maps.Keys(members))
				faults = append(faults, fmt.Errorf("%s: unknown key %q%s", label, key, didYouMean(name, known)))
				continue
			}
			if err := set(table[key]); err != nil {
				faults = append(faults, fmt.Errorf("%s: %s: %w", label, key, err))
			}
		}
		if e.URL != "" && e.urlFile != "" {
			faults = append(faults, fmt.Errorf("%s: url and url_file are both there: want one of them", label))
		}
		entries = append(entries, e)
	}
	return entries, errors.Join(faults...)
}

// members are what a table may have, and how each is read.
func (e *webhookEntry) members() map[string]func(any) error {
	return map[string]func(any) error{
		"name":        textMember(func(s string) error { e.Name = s; return nil }),
		"url":         textMember(func(s string) error { e.URL = s; return nil }),
		"url_file":    textMember(func(s string) error { e.urlFile = s; return nil }),
		"secret_file": textMember(func(s string) error { e.secretFile = s; return nil }),
		"format":      textMember(func(s string) error { e.Format = webhook.Format(s); return nil }),
		"filter":      textMember(func(s string) error { e.Filter = s; return nil }),
		"max_age":     textMember(func(s string) (err error) { e.MaxAge, err = parseDuration(s); return err }),
		"give_up":     textMember(func(s string) (err error) { e.GiveUp, err = parseDuration(s); return err }),
		"start":       textMember(func(s string) (err error) { e.Start, err = killfeed.ParseStart("start", s); return err }),
		"backfill":    boolMember(&e.Backfill),
		"updates":     boolMember(&e.Updates),
		"names":       boolMember(&e.Names),
		"batch":       intMember(&e.Batch),
		"rate":        intMember(&e.Rate),
		"topics": func(v any) error {
			array, ok := v.([]any)
			if ok {
				e.Topics, ok = texts(array)
			}
			if !ok {
				return errors.New(`want strings in an array, as in ["system:Jita", "kill:corporation:98000001"]`)
			}
			return nil
		},
	}
}

func textMember(set func(string) error) func(any) error {
	return func(v any) error {
		s, ok := v.(string)
		if !ok {
			return errors.New("want a string")
		}
		return set(s)
	}
}

func boolMember(to *bool) func(any) error {
	return func(v any) error {
		var ok bool
		if *to, ok = v.(bool); !ok {
			return errors.New("want true or false")
		}
		return nil
	}
}

func intMember(to *int) func(any) error {
	return func(v any) error {
		n, ok := v.(int64)
		if !ok || n < 1 || n > 1<<20 {
			return errors.New("want a whole number from 1 on")
		}
		*to = int(n)
		return nil
	}
}

// complete reads the files that the entry names.
func (e *webhookEntry) complete() error {
	read := func(key, path string, to *string) error {
		if path == "" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("webhook %q: %s: %w", e.Name, key, err)
		}
		if *to = strings.TrimSpace(string(text)); *to == "" {
			return fmt.Errorf("webhook %q: %s: %s is empty", e.Name, key, path)
		}
		return nil
	}
	return errors.Join(read("url_file", e.urlFile, &e.URL), read("secret_file", e.secretFile, &e.Secret))
}

// newWebhooks makes the webhooks of the configuration. A demo has none: invented killmails are nothing for anybody's channel.
func (a *app) newWebhooks(feed *killfeed.Feed, book *names.Book, show func([]byte, *killfeed.Event, bool) []byte,
	log *slog.Logger) (*webhook.Set, error) {
	if a.settings.demo && len(a.hooks) > 0 {
		log.Warn("webhooks are off: a demo's killmails are invented", "webhooks", len(a.hooks))
		return webhook.New(feed, webhook.Options{Logger: log}, nil)
	}
	var (
		configs []webhook.Config
		faults  []error
	)
	for _, e := range a.hooks {
		if err := e.complete(); err != nil {
			faults = append(faults, err)
			continue
		}
		configs = append(configs, e.Config)
	}
	if len(faults) > 0 {
		return nil, usageError{errors.Join(faults...)}
	}
	dir := filepath.Join(a.settings.data, "webhooks")
	if a.settings.memory || len(configs) == 0 {
		dir = ""
	}
	hooks, err := webhook.New(feed, webhook.Options{Show: show, Names: book, Version: version(), Dir: dir, Logger: log}, configs)
	if err != nil {
		return nil, usageError{err}
	}
	return hooks, nil
}

// webhookStatus is what /api/status, which everybody may see, shows of webhooks; nil when there are none.
func webhookStatus(hooks *webhook.Set) func() any {
	if len(hooks.Hooks()) == 0 {
		return nil
	}
	return func() any {
		all := statusOf(hooks)
		for i := range all {
			all[i] = all[i].Public()
		}
		return all
	}
}

func statusOf(hooks *webhook.Set) []webhook.Status {
	all := []webhook.Status{}
	for _, h := range hooks.Hooks() {
		all = append(all, h.Status())
	}
	return all
}

// mountWebhooks adds what an operator may do with webhooks to the API.
func mountWebhooks(api *web.API, hooks *webhook.Set) error {
	route := func(method, path string, serve func(r *http.Request, h *webhook.Hook) (any, error)) web.Route {
		return web.Route{Method: method, Path: "/api/webhooks/{id}/" + path, Admin: true, Serve: func(w http.ResponseWriter, r *http.Request) {
			h := hooks.Hook(r.PathValue("id"))
			if h == nil {
				answerProblem(w, http.StatusNotFound, "there is no webhook of that name: /api/webhooks lists those that there are")
				return
			}
			v, err := serve(r, h)
			if err != nil {
				answerProblem(w, http.StatusInternalServerError, "it could not be done")
				return
			}
			answerJSON(w, http.StatusOK, "application/json", v)
		}}
	}
	return api.Mount(
		web.Route{Method: "GET", Path: "/api/webhooks", Admin: true, Serve: func(w http.ResponseWriter, _ *http.Request) {
			answerJSON(w, http.StatusOK, "application/json", map[string]any{"webhooks": statusOf(hooks)})
		}},
		route("GET", "dead", func(_ *http.Request, h *webhook.Hook) (any, error) { return map[string]any{"dead": h.Dead()}, nil }),
		route("POST", "retry", func(_ *http.Request, h *webhook.Hook) (any, error) { return map[string]any{"dead": h.Retry()}, nil }),
		route("POST", "test", func(r *http.Request, h *webhook.Hook) (any, error) { return h.Test(r.Context()) }),
	)
}

// answerProblem answers with a problem document, as the API does.
func answerProblem(w http.ResponseWriter, status int, detail string) {
	answerJSON(w, status, "application/problem+json", map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail,
	})
}

func answerJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.Marshal(v)
	if err != nil { // not reached: all that is answered can be written
		status, body = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the caller left
}

// webhookMetrics shows how webhooks are doing at /metrics.
type webhookMetrics struct{ hooks *webhook.Set }

// Describe implements prometheus.Collector.
func (m webhookMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m webhookMetrics) Collect(ch chan<- prometheus.Metric) {
	const events = "Events of a webhook by what became of them: delivered, dead (its receiver does not take them) or expired (too old)."
	for _, s := range statusOf(m.hooks) {
		show := func(kind prometheus.ValueType, value float64, name, help string, result ...string) {
			labels := []string{"webhook", "result"}[:1+len(result)]
			desc := prometheus.NewDesc("killfeed_webhook_"+name, help, labels, nil)
			ch <- prometheus.MustNewConstMetric(desc, kind, value, append([]string{s.Name}, result...)...)
		}
		paused := 0.0
		if s.State == webhook.Paused {
			paused = 1
		}
		show(prometheus.CounterValue, float64(s.Delivered), "events_total", events, "delivered")
		show(prometheus.CounterValue, float64(s.Died), "events_total", events, "dead")
		show(prometheus.CounterValue, float64(s.Expired), "events_total", events, "expired")
		show(prometheus.CounterValue, float64(s.Failed), "failed_posts_total", "Posts that a receiver did not take.")
		show(prometheus.CounterValue, float64(s.Gaps), "gaps_total", "How often retention removed what was not posted.")
		show(prometheus.CounterValue, float64(s.Dropped), "dead_dropped_total", "Dead events that left their list because it was full.")
		show(prometheus.GaugeValue, float64(s.Dead), "dead", "Events on a webhook's list of dead ones.")
		show(prometheus.GaugeValue, s.Lag, "lag_seconds", "How long ago the oldest event that waits was received; 0: none waits.")
		show(prometheus.GaugeValue, paused, "paused", "1 when a webhook is paused, because its receiver refuses everything.")
	}
}
