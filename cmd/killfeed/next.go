package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"killfeed"
)

func (a *app) nextCmd() *cobra.Command {
	var r reading
	c := &cobra.Command{
		Use:   "next --client NAME (--system ID | --topic TOPIC)...",
		Short: "Print the one event that comes next for a client",
		Long: `Ask a server for the oldest event that a client has not had on the topics, print it, and commit it. It is
GET /api/killfeed/next for people. When there is nothing new it prints nothing and succeeds. Events are printed as by
'killfeed poll'.`,
		Example: `  killfeed next --client me --topic all
  killfeed next --client me --system 30000142 --wait 60s --text`,
		Args: cobra.NoArgs,
	}
	r.addFlags(c.Flags())
	return a.command(c, clientSettings, func(ctx context.Context, _ []string) error { return a.next(ctx, &r) })
}

func (a *app) next(ctx context.Context, r *reading) error {
	show, err := a.newPrinter(r.output)
	if err != nil {
		return err
	}
	q, err := r.request(show)
	if err != nil {
		return err
	}
	if r.client == "" {
		return usageError{hint(fmt.Errorf("nobody to read for"), "add --client NAME (any name)")}
	}
	server, err := a.newClient()
	if err != nil {
		return err
	}
	res, err := server.do(ctx, call{method: http.MethodPost, path: []string{"api", "killfeed", "next"}, body: q})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		if gap := res.Header.Get("Killfeed-Gap"); gap != "" {
			fmt.Fprintln(a.stderr, "gap:", gap)
		}
		if res.Header.Get("Killfeed-More") != "" {
			fmt.Fprintln(a.stderr, "more: the search ended early; repeat the command to go on")
		}
		return nil
	}
	event, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", server.base, err)
	}
	var told struct {
		Gap *killfeed.Gap `json:"gap"`
	}
	if err := json.Unmarshal(event, &told); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", server.base, err)
	}
	if told.Gap != nil {
		a.tellGap(told.Gap)
	}
	_, err = show.print(bytes.TrimSpace(event))
	return err
}
