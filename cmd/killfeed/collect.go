package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

func (a *app) collectCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "collect",
		Short: "Make a server remove now what its retention lets go",
		Long: `Make a server run its collection now, to the end, instead of at the next full minute. It removes what every client
has read and --retain no longer keeps, and what is beyond --retain-max or --max-bytes. It needs the admin token.`,
		Example: "  killfeed collect",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the server's answer")
	return a.command(c, clientSettings, func(ctx context.Context, _ []string) error {
		server, err := a.newClient()
		if err != nil {
			return err
		}
		var answer json.RawMessage
		if err := server.json(ctx, call{method: http.MethodPost, path: []string{"api", "collect"}}, &answer); err != nil {
			return err
		}
		if asJSON {
			return writeJSON(a.stdout, answer)
		}
		var result struct {
			Removed uint64 `json:"removed"`
			First   uint64 `json:"first"`
			Head    uint64 `json:"head"`
		}
		if err := json.Unmarshal(answer, &result); err != nil {
			return fmt.Errorf("reading the answer of %s: %w", server.base, err)
		}
		kept := "none are kept"
		if result.First <= result.Head {
			kept = fmt.Sprintf("kept are %d to %d", result.First, result.Head)
		}
		fmt.Fprintf(a.stdout, "removed %d events, %s\n", result.Removed, kept)
		return nil
	})
}
