package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"killfeed/webhook"
)

func (a *app) webhooksCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:   "webhooks",
		Short: "List a server's webhooks, test one, see and resend what it could not post",
		Long: `A webhook posts killmails to Discord or to a program of yours. Webhooks are in the configuration file, as [[webhook]];
what is there is taken up when the server starts. All of this needs the admin token.`,
	}, a.webhooksListCmd(), a.webhooksTestCmd(), a.webhooksDeadCmd(), a.webhooksRetryCmd())
}

func (a *app) webhooksListCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List webhooks, with how far behind each is and what it could not post",
		Example: "  killfeed webhooks list\n  killfeed webhooks list --json | jq 'select(.state != \"running\")'",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return a.command(c, clientSettings, func(ctx context.Context, _ []string) error {
		var answer struct {
			Webhooks []json.RawMessage `json:"webhooks"`
		}
		if err := a.webhooks(ctx, http.MethodGet, &answer); err != nil {
			return err
		}
		return printAll(a.stdout, answer.Webhooks, asJSON, "WEBHOOK\tFORMAT\tHOST\tSTATE\tDELIVERED\tEXPIRED\tDEAD\tLAG\tREASON", func(s *webhook.Status) string {
			lag := (time.Duration(s.Lag) * time.Second).String()
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s", s.Name, s.Format, s.Host, s.State, s.Delivered, s.Expired, s.Dead, lag, s.Reason)
		})
	})
}

func (a *app) webhooksTestCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "test NAME",
		Short:   "Have a webhook post a message that says that it is a test",
		Example: "  killfeed webhooks test losses",
		Args:    cobra.ExactArgs(1),
	}
	return a.command(c, clientSettings, func(ctx context.Context, args []string) error {
		var tested webhook.Tested
		if err := a.webhooks(ctx, http.MethodPost, &tested, args[0], "test"); err != nil {
			return err
		}
		if !tested.Taken {
			text := tested.Reason
			if tested.Answer != "" {
				text += ": " + tested.Answer
			}
			return errors.New(text)
		}
		fmt.Fprintf(a.stdout, "the receiver took it, with status %d\n", tested.Status)
		return nil
	})
}

func (a *app) webhooksDeadCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "dead NAME",
		Short: "List the events that a webhook could not post",
		Long: `List the events that a webhook could not post: its receiver refused them, or failed for longer than give_up. At most
1000 are kept, the newest; 'killfeed webhooks retry' sends them again.`,
		Example: "  killfeed webhooks dead losses",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return a.command(c, clientSettings, func(ctx context.Context, args []string) error {
		var answer struct {
			Dead []json.RawMessage `json:"dead"`
		}
		if err := a.webhooks(ctx, http.MethodGet, &answer, args[0], "dead"); err != nil {
			return err
		}
		return printAll(a.stdout, answer.Dead, asJSON, "EVENT\tKILLMAIL\tAT\tREASON\tANSWER", func(d *webhook.Dead) string {
			return fmt.Sprintf("%d\t%d\t%s\t%s\t%s", d.EventID, d.KillmailID, seenText(d.At), d.Reason, d.Answer)
		})
	})
}

func (a *app) webhooksRetryCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "retry NAME",
		Short: "Have a webhook post its dead events again, and go on if it was paused",
		Long: `Have a webhook post its dead events again, one by one and whatever their age is, until one does not work, and then
what is new, also when it was paused or waited for its next attempt. It does not wait for that: see 'killfeed webhooks list'.`,
		Example: "  killfeed webhooks retry losses",
		Args:    cobra.ExactArgs(1),
	}
	return a.command(c, clientSettings, func(ctx context.Context, args []string) error {
		var answer struct {
			Dead int `json:"dead"`
		}
		if err := a.webhooks(ctx, http.MethodPost, &answer, args[0], "retry"); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "dead events that are posted again: %d\n", answer.Dead)
		return nil
	})
}

// webhooks asks the server something about webhooks.
func (a *app) webhooks(ctx context.Context, method string, out any, path ...string) error {
	server, err := a.newClient()
	if err != nil {
		return err
	}
	return server.json(ctx, call{method: method, path: append([]string{"api", "webhooks"}, path...)}, out)
}

// printAll prints a table with a row for each of all, or all as they are.
func printAll[T any](to io.Writer, all []json.RawMessage, asJSON bool, head string, row func(*T) string) error {
	if asJSON {
		for _, one := range all {
			if err := writeJSON(to, one); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	for _, one := range all {
		var v T
		if err := json.Unmarshal(one, &v); err != nil {
			return fmt.Errorf("reading the server's answer: %w", err)
		}
		fmt.Fprintln(w, row(&v))
	}
	return w.Flush()
}
