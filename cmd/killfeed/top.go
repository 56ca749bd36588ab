package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// topStatus is what top shows of /api/status.
type topStatus struct {
	Version string `json:"version"`
	Uptime  int64  `json:"uptime_seconds"`
	Health  struct {
		Status string `json:"status"`
		Reason string `json:"reason"`
	} `json:"health"`
	Log struct {
		First        uint64    `json:"first"`
		Head         uint64    `json:"head"`
		Bytes        int64     `json:"bytes"`
		LastReceived time.Time `json:"last_received"`
	} `json:"log"`
	Clients     int            `json:"clients"`
	Waiting     int            `json:"waiting"`
	ByTransport map[string]int `json:"connections_by_transport"`
	Services    []struct {
		Name      string `json:"name"`
		State     string `json:"state"`
		Restarts  int    `json:"restarts"`
		LastError string `json:"last_error"`
	} `json:"services"`
	Sources []struct {
		Name       string  `json:"name"`
		State      string  `json:"state"`
		Detail     string  `json:"detail"`
		Lag        float64 `json:"lag_seconds"`
		Behind     int64   `json:"behind"`
		Inserted   uint64  `json:"inserted"`
		Duplicates uint64  `json:"duplicates"`
		Bad        uint64  `json:"bad"`
	} `json:"sources"`
}

// topClients bounds the clients that are shown, those that are furthest behind.
const topClients = 10

func (a *app) topCmd() *cobra.Command {
	var (
		every durationValue
		once  bool
	)
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch a server: its log, sources, connections and clients",
		Long: `Show how a server is doing, drawn anew every few seconds on a terminal; elsewhere a line each time. It is /api/status for
people. With the admin token it also shows the clients that are furthest behind.

When the server does not answer, top says so and goes on asking. Ctrl-C ends it.`,
		Example: "  killfeed top\n  killfeed top --every 10s\n  killfeed top --once",
		Args:    cobra.NoArgs,
	}
	every = durationValue(2 * time.Second)
	c.Flags().Var(&every, "every", "how often to look, from 1s on")
	c.Flags().BoolVar(&once, "once", false, "show all of it once, and end")
	return a.command(c, clientSettings, func(ctx context.Context, _ []string) error {
		if time.Duration(every) < time.Second {
			return usagef("every %v is not accepted: want a duration from 1s on", time.Duration(every))
		}
		server, err := a.newClient()
		if err != nil {
			return err
		}
		t := &top{server: server, out: a.stdout, terminal: isTerminal(a.stdout)}
		if once {
			text, err := t.look(ctx)
			if err == nil {
				_, err = io.WriteString(t.out, text)
			}
			return err
		}
		return t.run(ctx, time.Duration(every))
	})
}

// top is one run of the command.
type top struct {
	server   *client
	out      io.Writer
	terminal bool

	// Of the last look, for rates:
	at       time.Time
	head     uint64
	inserted map[string]uint64
	line     string // what is printed where there is no terminal
}

// run looks and shows until ctx ends.
func (t *top) run(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	if t.terminal {
		io.WriteString(t.out, "\x1b[?25l") // the cursor would jump about
		defer io.WriteString(t.out, "\x1b[?25h")
	}
	for {
		text, err := t.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var refused *problemError
		if errors.As(err, &refused) && !refused.later {
			return err
		}
		if err != nil {
			text = err.Error() + "\nasked again every " + every.String() + "\n"
			t.line = text
			t.at = time.Time{}
		}
		if t.terminal {
			// Home, then each line with what is behind it deleted, then what is below: nothing flickers.
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
		} else {
			text = strings.TrimSuffix(strings.ReplaceAll(t.line, "\n", "; "), "; ") + "\n"
		}
		if _, err := io.WriteString(t.out, text); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks the server and returns all that there is to show.
func (t *top) look(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var st topStatus
	if err := t.server.json(ctx, call{method: http.MethodGet, path: []string{"api", "status"}}, &st); err != nil {
		return "", err
	}
	now := time.Now()
	rate := func(n, before uint64) string {
		if t.at.IsZero() || n < before {
			return "-"
		}
		return fmt.Sprintf("%.1f", float64(n-before)/now.Sub(t.at).Seconds())
	}
	received := "none yet"
	if !st.Log.LastReceived.IsZero() {
		received = ageText(now.Sub(st.Log.LastReceived)) + " ago"
	}
	health := st.Health.Status
	if st.Health.Reason != "" {
		health += ": " + st.Health.Reason
	}
	connections, parts := 0, []string{}
	for _, name := range slices.Sorted(maps.Keys(st.ByTransport)) {
		if n := st.ByTransport[name]; n > 0 {
			connections += n
			parts = append(parts, fmt.Sprintf("%s %d", name, n))
		}
	}
	eventRate := rate(st.Log.Head, t.head)
	t.line = fmt.Sprintf("%s; events %d to %d, %s/s, last %s; %d clients, %d connections", health, st.Log.First, st.Log.Head, eventRate,
		received, st.Clients, connections)

	var b strings.Builder
	fmt.Fprintf(&b, "killfeed %s at %s, up %s\n%s\n\n", st.Version, t.server.base, ageText(time.Duration(st.Uptime)*time.Second), health)
	fmt.Fprintf(&b, "log          events %d to %d, %s a second, %.1f MB, the last came %s\n", st.Log.First, st.Log.Head, eventRate,
		float64(st.Log.Bytes)/1e6, received)
	fmt.Fprintf(&b, "connections  %d open", connections)
	if len(parts) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(parts, ", "))
	}
	fmt.Fprintf(&b, ", %d long polls wait\n\n", st.Waiting)

	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if len(st.Sources) > 0 {
		fmt.Fprintln(w, "SOURCE\tSTATE\tLAG\tBEHIND\tNEW\tNEW/S\tDUPLICATES\tBAD\t")
	}
	inserted := map[string]uint64{}
	for _, s := range st.Sources {
		inserted[s.Name] = s.Inserted
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%d\t%d\t%s\n", s.Name, s.State, ageText(time.Duration(s.Lag*float64(time.Second))), s.Behind,
			s.Inserted, rate(s.Inserted, t.inserted[s.Name]), s.Duplicates, s.Bad, cut(s.Detail, 60))
	}
	if len(st.Sources) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "SERVICE\tSTATE\tRESTARTS\t")
	for _, s := range st.Services {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", s.Name, s.State, s.Restarts, cut(s.LastError, 60))
	}
	if err := t.behind(ctx, w, st.Clients); err != nil {
		return "", err
	}
	if err := w.Flush(); err != nil {
		return "", err
	}
	t.at, t.head, t.inserted = now, st.Log.Head, inserted
	return b.String(), nil
}

// behind shows the clients that are furthest behind, with a token, and as long as they are few enough to be asked for every time.
func (t *top) behind(ctx context.Context, w io.Writer, clients int) error {
	const most = 1000
	if t.server.token == "" || clients == 0 || clients > most {
		return nil
	}
	raw, err := t.server.allClients(ctx)
	if err != nil {
		return err
	}
	all := make([]clientInfo, len(raw))
	for i := range raw {
		if err := json.Unmarshal(raw[i], &all[i]); err != nil {
			return fmt.Errorf("reading the answer of %s: %w", t.server.base, err)
		}
	}
	slices.SortStableFunc(all, func(a, b clientInfo) int { return b.Lag - a.Lag })
	fmt.Fprintln(w)
	fmt.Fprintln(w, "CLIENT\tLAG\tTOPICS\tLAST SEEN\t")
	for _, c := range all[:min(len(all), topClients)] {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t\n", cut(c.ID, 40), c.lagText(), len(c.Offsets), seenText(c.LastSeen))
	}
	if more := len(all) - topClients; more > 0 {
		fmt.Fprintf(w, "and %s more\t\t\t\t\n", strconv.Itoa(more))
	}
	return nil
}

// cut shortens a text to n characters.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// ageText is a length of time in the unit that suits it.
func ageText(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
