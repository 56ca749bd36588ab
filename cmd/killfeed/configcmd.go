package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (a *app) configCmd() *cobra.Command {
	return group(&cobra.Command{Use: "config", Short: "Look at the configuration", Long: configHelp}, a.configShowCmd())
}

func (a *app) configShowCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show",
		Short: "Print every setting, its value, and where it came from",
		Long: `Print every setting, the value that a command started here and now would use, and where it came from: flag,
env NAME, file:PATH or default. It takes all settings as flags, to see what they would do.`,
		Example: `  killfeed config show
  KILLFEED_RETAIN=2h killfeed config show --json | jq .retain`,
		Args: cobra.NoArgs,
	}
	var names []string
	a.flags.VisitAll(func(f *pflag.Flag) {
		if f.Name != "config" { // the root has it for all commands
			names = append(names, f.Name)
		}
	})
	c.Flags().BoolVar(&asJSON, "json", false, `print one JSON object, {"retain":{"value":"24h","from":"default"},…}`)
	return a.command(c, names, func(context.Context, []string) error {
		if !asJSON {
			w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SETTING\tVALUE\tFROM")
			for _, name := range names {
				fmt.Fprintf(w, "%s\t%s\t%s\n", name, a.flags.Lookup(name).Value, a.origin[name])
			}
			return w.Flush()
		}
		type shown struct {
			Value string `json:"value"`
			From  string `json:"from"`
		}
		all := map[string]shown{}
		for _, name := range names {
			all[name] = shown{a.flags.Lookup(name).Value.String(), a.origin[name]}
		}
		return writeJSON(a.stdout, all)
	})
}

// writeJSON writes v on a line of its own.
func writeJSON(w interface{ Write([]byte) (int, error) }, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
