package webhook

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"killfeed"
	"killfeed/names"
)

// Options are what all webhooks of a feed share.
type Options struct {
	// Show appends an event as live streams tell it, with names when they are wanted. It is needed when a webhook posts JSON.
	Show func(dst []byte, e *killfeed.Event, names bool) []byte
	// Names are what static data lacks; nil: that is not known.
	Names *names.Book
	// Version is the program's, for User-Agent.
	Version string
	// Dir is where the lists of dead events are; it is made when missing. Empty: they are kept in memory, and lost at the end.
	Dir string
	// Transport posts; nil: one that times out and goes through the proxy that the environment names.
	Transport http.RoundTripper
	// Logger is told what goes wrong; nil discards.
	Logger *slog.Logger
}

// Set is the webhooks of a feed.
type Set struct {
	feed    *killfeed.Feed
	show    func(dst []byte, e *killfeed.Event, names bool) []byte
	names   *names.Book
	version string
	client  *http.Client
	log     *slog.Logger
	hooks   []*Hook

	mu sync.Mutex // guards globally; held for a map operation
	// globally is until when nobody posts to a host: Discord has a limit that all webhooks share.
	globally map[string]time.Time
}

// New makes webhooks. It checks all of them before it opens anything; the error has a line for each that is wrong, with its name.
func New(feed *killfeed.Feed, o Options, configs []Config) (*Set, error) {
	s := &Set{feed: feed, show: o.Show, names: o.Names, version: o.Version, log: o.Logger, globally: map[string]time.Time{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
	s.client = &http.Client{
		Transport: o.Transport,
		// What is posted, and its signature, are for the address that was configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var faults []error
	seen := map[string]bool{}
	for i, c := range configs {
		h, err := s.newHook(c)
		if err == nil && seen[c.Name] {
			err = errors.New("there are two of that name: want each once")
		}
		seen[c.Name] = true
		if err != nil {
			faults = append(faults, fmt.Errorf("webhook %s: %w", label(c.Name, i), err))
			continue
		}
		s.hooks = append(s.hooks, h)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for _, h := range s.hooks {
		path := ""
		if o.Dir != "" {
			path = filepath.Join(o.Dir, h.config.Name+".dead.jsonl")
		}
		var err error
		if h.dead, err = openDead(path); err != nil {
			return nil, fmt.Errorf("webhook %q: %w", h.config.Name, err)
		}
	}
	return s, nil
}

// label is how an entry is told apart: by its name, or without one by its number.
func label(name string, i int) string {
	if name == "" {
		return fmt.Sprintf("number %d", i+1)
	}
	return fmt.Sprintf("%q", name)
}

func (s *Set) newHook(c Config) (*Hook, error) {
	target, err := c.check()
	if err != nil {
		return nil, err
	}
	if _, _, err := c.what(s.feed.Universe()); err != nil {
		return nil, err
	}
	secrets := secretsOf(target, c.Secret)
	if c.Format == Discord { // it then answers when the message is there, and says so when it is not
		q := target.Query()
		q.Set("wait", "true")
		target.RawQuery = q.Encode()
	} else if s.show == nil {
		return nil, errors.New("format \"json\" cannot be posted: nothing shows events")
	}
	h := &Hook{set: s, config: c, target: target, secrets: secrets, kick: make(chan struct{}, 1)}
	h.limit = rate.NewLimiter(rate.Inf, 1)
	if c.Rate > 0 { // a few at once after a pause, as Discord allows
		h.limit = rate.NewLimiter(rate.Limit(float64(c.Rate)/60), min(c.Rate, 5))
	}
	h.status = Status{Name: c.Name, Format: c.Format, Host: target.Host, State: Running, Since: time.Now().UTC()}
	return h, nil
}

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
}

// Hooks are the webhooks, as they were configured. The caller must not change the slice.
func (s *Set) Hooks() []*Hook {
	if s == nil {
		return nil
	}
	return s.hooks
}

// Hook returns the webhook of that name, nil when there is none.
func (s *Set) Hook(name string) *Hook {
	for _, h := range s.Hooks() {
		if h.config.Name == name {
			return h
		}
	}
	return nil
}

// Close closes idle connections. All Run have ended.
func (s *Set) Close() {
	if s != nil {
		s.client.CloseIdleConnections()
	}
}

// blocked is how long nobody may post to the host.
func (s *Set) blocked(host string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.globally[host])
}

// block has nobody post to the host for a while. There are no more hosts than webhooks.
func (s *Set) block(host string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if until := time.Now().Add(d); until.After(s.globally[host]) {
		s.globally[host] = until
	}
}
