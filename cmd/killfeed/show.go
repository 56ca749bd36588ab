package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

// showing holds the flags of show.
type showing struct {
	selection
	output
}

func (a *app) showCmd() *cobra.Command {
	var s showing
	c := &cobra.Command{
		Use:   "show KILLMAIL-ID",
		Short: "Print one killmail",
		Long: `Ask a server for the newest version of a killmail that it keeps, by the killmail's own id, and print its event. It is
GET /api/killmails/{id} for people. Events are printed as by 'killfeed poll'.`,
		Example: `  killfeed show 123456789 --names
  killfeed show 123456789 --json | jq .killmail.zkb`,
		Args: cobra.ExactArgs(1),
	}
	s.addShapeFlags(c.Flags())
	s.output.addFlags(c.Flags())
	return a.command(c, clientSettings, func(ctx context.Context, args []string) error { return a.show(ctx, args[0], &s) })
}

func (a *app) show(ctx context.Context, id string, s *showing) error {
	if n, err := strconv.ParseInt(id, 10, 64); err != nil || n < 1 {
		return usagef("%q is no killmail's id: want decimal digits, from 1 on", id)
	}
	show, err := a.newPrinter(s.output)
	if err != nil {
		return err
	}
	server, err := a.newClient()
	if err != nil {
		return err
	}
	query := url.Values{}
	if s.names || show.names {
		query.Set("names", "1")
	}
	if s.fields != "" {
		query.Set("fields", s.fields)
	}
	res, err := server.do(ctx, call{method: http.MethodGet, path: []string{"api", "killmails", id}, query: query})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	event, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", server.base, err)
	}
	_, err = show.print(bytes.TrimSpace(event))
	return err
}
