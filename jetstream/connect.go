package jetstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"killfeed"
)

// Config says where the servers are, and who asks.
type Config struct {
	// URLs are servers, as in nats://host:4222, tls://host:4222, or a bare host. One suffices to find the others; several let a node
	// start while one is away. A user and password, or a token, may be in them, the same in all that have one.
	URLs []string
	// Node is this node's name, which the servers show.
	Node string
	// Credentials is a file with what proves who asks: a .creds file, the seed of an nkey, or one line with user:password. It is read
	// again at each reconnect, except for user:password.
	Credentials string
	// CA is a file with the certificates that servers' certificates must be signed by, in PEM; the system's are not asked then.
	CA string
	// Cert and Key are files with this node's own certificate, for servers that want one.
	Cert, Key string
	// Logger is told when the connection goes and comes; nil stands for slog.Default().
	Logger *slog.Logger
}

// ErrRefused: the servers were reached, and it is no use to try again before somebody has changed something: the credentials, a
// certificate, a setting.
var ErrRefused = errors.New("refused")

// Connect connects to one of the servers. The connection is made again by itself whenever it breaks, for ever; while it is away nothing
// is kept to be sent later, so that whoever sends knows that nothing was sent.
//
// The error is killfeed.ErrUnavailable, wrapped, when no server can be reached, and ErrRefused when it is no use to try again. No error
// and no line of the log has a password, a token or a seed in it.
func Connect(ctx context.Context, c Config) (*nats.Conn, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	servers, options, err := c.options()
	if err != nil {
		return nil, err
	}
	first := dialer{ctx: ctx}
	nc, err := nats.Connect(strings.Join(servers, ","), append(options, nats.SetCustomDialer(&first))...)
	first.connected.Store(true)
	switch {
	case err == nil:
		return nc, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("connecting to %s: %w", strings.Join(servers, ", "), context.Cause(ctx))
	}
	return nil, c.explain(servers, err)
}

// connectTime is how long one server may take.
const connectTime = 5 * time.Second

// dialer ends dials with ctx while the first connection is made, for the library takes no context. Later ones are the library's own.
type dialer struct {
	ctx       context.Context
	connected atomic.Bool
}

// Dial is nats.CustomDialer's.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	ctx := d.ctx
	if d.connected.Load() {
		ctx = context.Background()
	}
	dial := net.Dialer{Timeout: connectTime}
	return dial.DialContext(ctx, network, address)
}

// options are the library's, and the servers without anything secret.
func (c *Config) options() (servers []string, options []nats.Option, err error) {
	servers, who, err := c.servers()
	if err != nil {
		return nil, nil, err
	}
	log := c.Logger
	options = []nats.Option{
		nats.Name("killfeed " + c.Node),
		nats.Timeout(connectTime),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.IgnoreAuthErrorAbort(),        // credentials that expired are put in place again without a restart
		nats.ReconnectBufSize(-1),          // nothing is kept to be sent later: an append would count after its caller gave up
		nats.PingInterval(5 * time.Second), // a dead connection is noticed within 10 to 15 s; requests notice by their own
		nats.MaxPingsOutstanding(2),        // time-outs before that
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("the ledger's server complains", "err", err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil: it was closed
				log.Warn("the connection to the ledger broke and is made again", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("connected to the ledger again", "server", nc.ConnectedServerName()) }),
	}
	switch {
	case who != nil && c.Credentials != "":
		return nil, nil, fmt.Errorf("there are credentials in a server's URL and in %s: leave one of them out", c.Credentials)
	case who != nil:
		if password, ok := who.Password(); ok {
			options = append(options, nats.UserInfo(who.Username(), password))
		} else {
			options = append(options, nats.Token(who.Username()))
		}
	case c.Credentials != "":
		option, err := credentials(c.Credentials)
		if err != nil {
			return nil, nil, err
		}
		options = append(options, option)
	}
	secure, err := c.tls(servers)
	if err != nil {
		return nil, nil, err
	}
	if secure != nil {
		options = append(options, nats.Secure(secure))
	}
	return servers, options, nil
}

// servers takes who asks out of the URLs. What is left can be shown.
func (c *Config) servers() (servers []string, who *url.Userinfo, err error) {
	if len(c.URLs) == 0 {
		return nil, nil, errors.New("no server of the ledger is named: want one or more, as in nats://host:4222")
	}
	for i, text := range c.URLs {
		// The text of a URL that cannot be read is not shown: nobody knows where the password is in it.
		bad := fmt.Errorf("server %d of the ledger is no URL: want one as in nats://host:4222, with special characters in a password "+
			"percent-encoded", i+1)
		if !strings.Contains(text, "://") {
			text = "nats://" + text
		}
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, nil, bad
		}
		if !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return nil, nil, fmt.Errorf("server %d of the ledger: scheme %q is not accepted: want nats, tls, ws or wss", i+1, u.Scheme)
		}
		if u.User != nil {
			if who != nil && who.String() != u.User.String() {
				return nil, nil, errors.New("the servers of the ledger have different credentials in their URLs: want the same in all")
			}
			who = u.User
		}
		servers = append(servers, u.Scheme+"://"+u.Host)
	}
	return servers, who, nil
}

// credentials finds out what kind the file is of by its content.
func credentials(file string) (nats.Option, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger's credentials: %w", err)
	}
	text = bytes.TrimSpace(text)
	switch {
	case bytes.Contains(text, []byte("-----BEGIN NATS USER JWT-----")):
		return nats.UserCredentials(file), nil
	case bytes.HasPrefix(text, []byte("SU")) && !bytes.ContainsAny(text, ":\n"),
		bytes.Contains(text, []byte("-----BEGIN USER NKEY SEED-----")):
		option, err := nats.NkeyOptionFromSeed(file)
		if err != nil {
			return nil, fmt.Errorf("%s holds no seed of a user's nkey that can be used", file)
		}
		return option, nil
	}
	user, password, ok := strings.Cut(string(text), ":")
	if !ok || user == "" || password == "" || strings.ContainsAny(string(text), "\r\n") {
		return nil, fmt.Errorf("%s holds no credentials: want a .creds file, the seed of an nkey, or one line with user:password", file)
	}
	return nats.UserInfo(user, password), nil
}

// tls is nil when nothing asks for it; servers that want it are followed all the same.
func (c *Config) tls(servers []string) (*tls.Config, error) {
	scheme := slices.ContainsFunc(servers, func(s string) bool { return strings.HasPrefix(s, "tls://") || strings.HasPrefix(s, "wss://") })
	if c.CA == "" && c.Cert == "" && c.Key == "" && !scheme {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("reading the ledger's CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s holds no certificate: want PEM", c.CA)
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("a certificate for the ledger needs its key, and a key its certificate: one of the two files is not named")
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate for the ledger, %s with %s: %w", c.Cert, c.Key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// explain says what an error of the first connection means, and what to do.
func (c *Config) explain(servers []string, err error) error {
	at := "connecting to " + strings.Join(servers, ", ")
	var (
		untrusted *tls.CertificateVerificationError
		path      *fs.PathError
		remote    *net.OpError
	)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired):
		given := "none were given"
		if c.Credentials != "" {
			given = "those in " + c.Credentials + " are not accepted"
		} else if slices.ContainsFunc(c.URLs, func(u string) bool { return strings.Contains(u, "@") }) {
			given = "those in the URL are not accepted"
		}
		return fmt.Errorf("%s: %w: the servers want credentials, and %s (%w)", at, ErrRefused, given, err)
	case errors.As(err, &untrusted):
		return fmt.Errorf("%s: %w: the server's certificate is not trusted; name the CA that has signed it, and the server as the "+
			"certificate does (%w)", at, ErrRefused, err)
	case errors.As(err, &remote) && remote.Op == "remote error", errors.Is(err, nats.ErrTLS): // the server ended it in or behind the handshake
		return fmt.Errorf("%s: %w: the server does not take this node's certificate, or wants one and has got none (%w)", at, ErrRefused, err)
	case errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrSecureConnRequired):
		return fmt.Errorf("%s: %w: TLS is wanted and the server does not offer it, or the other way round (%w)", at, ErrRefused, err)
	case errors.As(err, &path):
		return fmt.Errorf("%s: %w: %w", at, ErrRefused, err)
	}
	return fmt.Errorf("%s: no server can be reached; are they running, and is the port open? %w (%w)", at, killfeed.ErrUnavailable, err)
}
