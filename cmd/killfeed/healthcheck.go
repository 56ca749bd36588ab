package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) healthcheckCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the server on this machine whether it is ready",
		Long: `Ask /readyz of the server that listens on --listen. Exit code 0: it is ready, or degraded but serving; 1: it is not
ready; 4: there is no answer. It is for containers without a shell.`,
		Args: cobra.NoArgs,
	}
	return a.command(c, []string{"listen", "tls-cert"}, func(ctx context.Context, _ []string) error {
		host, port, err := net.SplitHostPort(a.settings.listen)
		if err != nil {
			return usagef("listen %q is not accepted: want host:port", a.settings.listen)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.urlScheme()+net.JoinHostPort(host, port)+"/readyz", nil)
		if err != nil {
			return err
		}
		client := &http.Client{Transport: &http.Transport{
			// The certificate is for the server's name, not for this machine's address, and nothing secret is sent or believed.
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		}}
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("%w: %w", errUnreachable, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the server is not ready: /readyz answers %s", resp.Status)
		}
		fmt.Fprintln(a.stdout, "ready")
		return nil
	})
}
