package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// clientInfo is a client as the server describes it.
type clientInfo struct {
	ID       string            `json:"client_id"`
	Offsets  map[string]uint64 `json:"offsets"`
	Lag      int               `json:"lag"`
	LastSeen time.Time         `json:"last_seen"`
}

// lagText is the lag, with the mark that counting stopped.
func (c *clientInfo) lagText() string {
	if c.Lag >= 10_000 {
		return "10000+"
	}
	return strconv.Itoa(c.Lag)
}

func (a *app) clientsCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:   "clients",
		Short: "List clients, show, move and delete one",
		Long: `A client is a name that some reader chose, with an offset for each topic that it has read: the last event id it has
committed there. Its lag is the number of events on its topics that it has not had, counted to 10000.`,
	}, a.clientsListCmd(), a.clientsShowCmd(), a.clientsSeekCmd(), a.clientsRmCmd())
}

func (a *app) clientsListCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List all clients with their lag",
		Long:    "List all clients by name, with lag and when they last called. It needs the admin token.",
		Example: "  killfeed clients list\n  killfeed clients list --json | jq 'select(.lag > 1000).client_id'",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return a.command(c, clientSettings, func(ctx context.Context, _ []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		clients, err := server.allClients(ctx)
		if err != nil {
			return err
		}
		if asJSON {
			for _, one := range clients {
				if err := writeJSON(a.stdout, one); err != nil {
					return err
				}
			}
			return nil
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CLIENT\tTOPICS\tLAG\tLAST SEEN")
		for _, one := range clients {
			var info clientInfo
			if err := json.Unmarshal(one, &info); err != nil {
				return fmt.Errorf("reading the answer of %s: %w", server.base, err)
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", info.ID, len(info.Offsets), info.lagText(), seenText(info.LastSeen))
		}
		return w.Flush()
	})
}

// allClients gets all clients, page by page.
func (c *client) allClients(ctx context.Context) (clients []json.RawMessage, err error) {
	query := url.Values{}
	for {
		var page struct {
			Clients []json.RawMessage `json:"clients"`
			More    bool              `json:"more"`
		}
		if err := c.json(ctx, call{method: http.MethodGet, path: []string{"api", "clients"}, query: query}, &page); err != nil {
			return nil, err
		}
		clients = append(clients, page.Clients...)
		if !page.More || len(page.Clients) == 0 {
			return clients, nil
		}
		var last clientInfo
		if err := json.Unmarshal(page.Clients[len(page.Clients)-1], &last); err != nil {
			return nil, fmt.Errorf("reading the answer of %s: %w", c.base, err)
		}
		query.Set("after", last.ID)
	}
}

func (a *app) clientsShowCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "show CLIENT",
		Short:   "Show a client's lag and its offset on each topic",
		Example: "  killfeed clients show me",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return a.command(c, clientSettings, func(ctx context.Context, args []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		var answer json.RawMessage
		err = server.json(ctx, call{method: http.MethodGet, path: []string{"api", "clients", args[0]}}, &answer)
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(a.stdout, answer)
		}
		var info clientInfo
		if err := json.Unmarshal(answer, &info); err != nil {
			return fmt.Errorf("reading the answer of %s: %w", server.base, err)
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "client\t%s\nlag\t%s\nlast seen\t%s\n", info.ID, info.lagText(), seenText(info.LastSeen))
		for _, topic := range slices.Sorted(maps.Keys(info.Offsets)) {
			fmt.Fprintf(w, "%s\t%d\n", topic, info.Offsets[topic])
		}
		return w.Flush()
	})
}

func seenText(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func (a *app) clientsSeekCmd() *cobra.Command {
	var (
		to              string
		systems, topics []string
	)
	c := &cobra.Command{
		Use:   "seek CLIENT --to WHERE",
		Short: "Move a client to another place in the log",
		Long: `Move a client, back or forth, so that WHERE is the first event it gets:

  earliest               everything that is kept
  latest                 nothing of what is there now
  an event id            that event; past the end of the log it means latest
  an RFC 3339 time       the first event that the log took at that time or later

Without --system or --topic all topics of the client move. A client or topic that is not known is made.`,
		Example: `  killfeed clients seek me --to earliest
  killfeed clients seek me --to 2026-11-22T18:00:00Z --system 30000142`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().StringVar(&to, "to", "", "`where`: earliest, latest, an event id, or an RFC 3339 time")
	topicFlags(c.Flags(), &systems, &topics)
	return a.command(c, clientSettings, func(ctx context.Context, args []string) error {
		if to == "" {
			return usagef("seek needs --to: earliest, latest, an event id or an RFC 3339 time")
		}
		names, err := topicNames(systems, topics)
		if err != nil {
			return err
		}
		server, err := a.newClient()
		if err != nil {
			return err
		}
		body := struct {
			To     string   `json:"to"`
			Topics []string `json:"topics,omitempty"`
		}{to, names}
		var answer clientInfo
		err = server.json(ctx, call{method: http.MethodPost, path: []string{"api", "clients", args[0], "seek"}, body: body}, &answer)
		if err != nil {
			return err
		}
		for _, topic := range slices.Sorted(maps.Keys(answer.Offsets)) {
			fmt.Fprintf(a.stdout, "%s: the next event is after %d\n", topic, answer.Offsets[topic])
		}
		return nil
	})
}

func (a *app) clientsRmCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "rm CLIENT...",
		Short: "Delete clients and their offsets",
		Long: `Delete clients and their offsets for good. They no longer hold events back; one that calls again begins as new. It
needs the admin token.`,
		Example: "  killfeed clients rm me old-bot",
		Args:    cobra.MinimumNArgs(1),
	}
	return a.command(c, clientSettings, func(ctx context.Context, args []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		for _, id := range args {
			if err := server.json(ctx, call{method: http.MethodDelete, path: []string{"api", "clients", id}}, nil); err != nil {
				return fmt.Errorf("deleting client %q: %w", id, err)
			}
			fmt.Fprintf(a.stdout, "deleted client %s\n", id)
		}
		return nil
	})
}
