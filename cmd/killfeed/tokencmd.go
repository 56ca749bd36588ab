package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"killfeed/tokens"
)

func (a *app) tokenCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:   "token",
		Short: "Create, list, rotate and revoke tokens",
		Long: `A token lets its holder do some of what the admin token does:

  read      poll and stream, where the server is started with --read-tokens; else everybody may
  publish   insert killmails
  admin     everything

It may be bound to client names that begin with a prefix, to a number of requests a second, and to a time. The tokens are in
<data>/tokens.json, which holds none of their texts, only what tells whether one is right. These commands change that file, so
they run on the server's machine; a running server follows within seconds, and closes the connections of tokens that are no
more.`,
	}, a.tokenCreateCmd(), a.tokenListCmd(), a.tokenRotateCmd(), a.tokenRevokeCmd())
}

// tokensFile is the file in the data directory, which has to be there: a misspelt one would be a token that no server knows.
func (a *app) tokensFile() (string, error) {
	info, err := os.Stat(a.settings.data)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.IsDir():
		return "", hint(fmt.Errorf("there is no data directory %s", a.settings.data),
			"name the server's with --data; 'killfeed serve' makes it at its first start")
	case err != nil:
		return "", fmt.Errorf("looking for the data directory: %w", err)
	}
	return filepath.Join(a.settings.data, tokens.FileName), nil
}

func (a *app) tokenCreateCmd() *cobra.Command {
	var (
		scopes  listValue
		prefix  string
		rate    float64
		expires durationValue
	)
	c := &cobra.Command{
		Use:   "create NAME --scope SCOPES",
		Short: "Make a token and print its text",
		Long:  "Make a token and print its text, once: nobody can read it from the server afterwards.",
		Example: `  killfeed token create fleet-bot --scope read --client-prefix fleet-bot. --rate 5
  killfeed token create importer --scope publish --expires 90d > importer.token`,
		Args: cobra.ExactArgs(1),
	}
	c.Flags().Var(&scopes, "scope", "what it allows: some of `read,publish,admin`")
	c.Flags().StringVar(&prefix, "client-prefix", "", "it may use clients only whose names begin with this `text`")
	c.Flags().Float64Var(&rate, "rate", 0, "it may make this `number` of requests a second, five seconds' worth at once; 0: no limit of its own")
	c.Flags().Var(&expires, "expires", "it ends after this long, as in 90d; 0: never")
	return a.command(c, []string{"data"}, func(_ context.Context, args []string) error {
		allowed, err := tokens.ParseScopes(scopes)
		if err != nil {
			return usageError{err}
		}
		path, err := a.tokensFile()
		if err != nil {
			return err
		}
		now := time.Now()
		t := tokens.Token{Name: args[0], Scopes: allowed, ClientPrefix: prefix, Rate: rate}
		if expires > 0 {
			t.Expires = now.Add(time.Duration(expires))
		}
		text, err := tokens.Create(path, t, now)
		if err != nil {
			return err
		}
		a.printToken(text)
		return nil
	})
}

// printToken prints the text where a script finds it alone, and for people what it is.
func (a *app) printToken(text string) {
	fmt.Fprintln(a.stdout, text)
	if isTerminal(a.stdout) {
		fmt.Fprintln(a.stderr, "This is the only time that it is shown. It is sent as 'Authorization: Bearer <token>', never in an address.")
	}
}

func (a *app) tokenListCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens, without their texts",
		Long:    "List the tokens and what each allows. One that was rotated with an overlap is there twice until that is over.",
		Example: "  killfeed token list\n  killfeed token list --json",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return a.command(c, []string{"data"}, func(context.Context, []string) error {
		path, err := a.tokensFile()
		if err != nil {
			return err
		}
		set, err := tokens.Load(path)
		if err != nil {
			return err
		}
		now := time.Now()
		if asJSON {
			return a.listTokensJSON(set)
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TOKEN\tSCOPES\tCLIENTS\tRATE\tCREATED\tEXPIRES")
		for _, t := range set.All() {
			clients, rate, ends := "all", "–", "never"
			if t.ClientPrefix != "" {
				clients = t.ClientPrefix + "*"
			}
			if t.Rate > 0 {
				rate = strconv.FormatFloat(t.Rate, 'g', -1, 64) + "/s"
			}
			if !t.Expires.IsZero() {
				ends = seenText(t.Expires)
			}
			if t.Expired(now) {
				ends += " (expired)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, t.Scopes, clients, rate, seenText(t.Created), ends)
		}
		return w.Flush()
	})
}

func (a *app) listTokensJSON(set *tokens.Set) error {
	for _, t := range set.All() {
		shown := struct {
			Name         string     `json:"name"`
			Scopes       []string   `json:"scopes"`
			ClientPrefix string     `json:"client_prefix,omitempty"`
			Rate         float64    `json:"rate,omitempty"`
			Created      time.Time  `json:"created"`
			Expires      *time.Time `json:"expires,omitempty"`
		}{Name: t.Name, Scopes: t.Scopes.Names(), ClientPrefix: t.ClientPrefix, Rate: t.Rate, Created: t.Created}
		if !t.Expires.IsZero() {
			shown.Expires = &t.Expires
		}
		if err := writeJSON(a.stdout, shown); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) tokenRotateCmd() *cobra.Command {
	var overlap durationValue
	c := &cobra.Command{
		Use:   "rotate NAME",
		Short: "Give a token another text and print it",
		Long: `Give a token another text and print that. What it allows stays, and when it expires. The text before is good no more, or for
the time of --overlap, in which its holder can change over.`,
		Example: "  killfeed token rotate fleet-bot --overlap 1h",
		Args:    cobra.ExactArgs(1),
	}
	c.Flags().Var(&overlap, "overlap", "the text before is good for so long yet")
	return a.command(c, []string{"data"}, func(_ context.Context, args []string) error {
		path, err := a.tokensFile()
		if err != nil {
			return err
		}
		text, err := tokens.Rotate(path, args[0], time.Duration(overlap), time.Now())
		if err != nil {
			return a.unknownToken(path, err)
		}
		a.printToken(text)
		return nil
	})
}

func (a *app) tokenRevokeCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "revoke NAME...",
		Short:   "Take tokens back",
		Long:    "Take tokens back for good. A running server follows within seconds, and closes the connections that they let in.",
		Example: "  killfeed token revoke fleet-bot",
		Args:    cobra.MinimumNArgs(1),
	}
	return a.command(c, []string{"data"}, func(_ context.Context, args []string) error {
		path, err := a.tokensFile()
		if err != nil {
			return err
		}
		for _, name := range args {
			if err := tokens.Revoke(path, name); err != nil {
				return a.unknownToken(path, err)
			}
			fmt.Fprintf(a.stdout, "revoked token %s\n", name)
		}
		return nil
	})
}

// unknownToken tells which names there are.
func (a *app) unknownToken(path string, err error) error {
	if !errors.Is(err, tokens.ErrUnknown) {
		return err
	}
	set, loading := tokens.Load(path)
	if loading != nil || len(set.All()) == 0 {
		return hint(err, "there are none in %s", path)
	}
	var names []string
	for _, t := range set.All() {
		names = append(names, t.Name)
	}
	return hint(err, "there are: %s", strings.Join(names, ", "))
}
