package main

import (
	"context"
	_ "embed"
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

//go:embed nats.conf.tmpl
var natsConfigText string

// natsConfig is what a server's configuration is made of.
type natsConfig struct {
	Name   string   // of the server
	Dir    string   // for its files
	Routes []string // all servers, host:port; none for a single one
}

func (a *app) natsConfigCmd() *cobra.Command {
	var (
		number int
		hosts  []string
		dir    string
	)
	c := &cobra.Command{
		Use:   "nats-config --server N --of HOST,HOST,HOST",
		Short: "Print a configuration for a NATS server that keeps the shared log",
		Long: `Print the configuration of one of the NATS servers that keep the shared log, with everything that must be set: every
write on disk before it is acknowledged (sync_interval: always), messages as large as killmails get, an account of its own,
and leave for it to look at the servers' settings. It is for nats-server 2.12 or newer.

The password of the account is the server's environment variable NATS_PASSWORD. TLS is in the text, commented out.`,
		Example: `  killfeed cluster nats-config --server 1 --of nats1,nats2,nats3 > nats.conf
  NATS_PASSWORD=… nats-server -c nats.conf`,
		Args: cobra.NoArgs,
	}
	c.Flags().IntVar(&number, "server", 0, "the server's `number` in the list, counted from 1")
	c.Flags().StringSliceVar(&hosts, "of", nil, "`hosts` of all servers, by the names under which they reach each other")
	c.Flags().StringVar(&dir, "dir", "/var/lib/nats", "`directory` in which the server keeps the log")
	return a.command(c, nil, func(context.Context, []string) error {
		config, err := newNATSConfig(number, hosts, dir)
		if err != nil {
			return usageError{err}
		}
		return natsTemplate.Execute(a.stdout, config)
	})
}

var natsTemplate = template.Must(template.New("nats.conf").Parse(natsConfigText))

// routePort is where servers talk to each other.
const routePort = "6222"

func newNATSConfig(number int, hosts []string, dir string) (natsConfig, error) {
	var c natsConfig
	if len(hosts) != 1 && len(hosts) != 3 && len(hosts) != 5 {
		return c, fmt.Errorf("--of names %d servers: want 3 or 5, so that a majority of them is left when one is lost, or 1", len(hosts))
	}
	if number < 1 || number > len(hosts) {
		return c, fmt.Errorf("--server %d is none of the list: want 1 to %d", number, len(hosts))
	}
	if !path.IsAbs(dir) || strings.ContainsAny(dir, "\"\\\n") {
		return c, fmt.Errorf("--dir %q is not accepted: want an absolute path", dir)
	}
	for i, host := range hosts {
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			name, port = host, routePort
		}
		if name == "" || strings.ContainsAny(host, " \t\r\n\"'{}[](),;#/@\\") || slices.Contains(hosts[:i], host) {
			return c, fmt.Errorf("--of: %q is no host's name, or is named twice", host)
		}
		c.Routes = append(c.Routes, net.JoinHostPort(strings.Trim(name, "[]"), port))
	}
	c.Name, c.Dir = fmt.Sprintf("n%d", number), dir
	if len(hosts) == 1 {
		c.Routes = nil
	}
	return c, nil
}
