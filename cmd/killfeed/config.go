package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"

	"killfeed"
	"killfeed/ingest/esi"
	"killfeed/ingest/r2z2"
)

// settings is everything that can be configured. A setting is a flag first: environment and file only fill flags that were
// not given, so the flags below are the whole list and hold the defaults. What belongs to one call only (poll --limit,
// --json) is a plain flag of its command and no setting.
type settings struct {
	config string

	listen         string
	data           string
	memory         bool
	retain         durationValue
	retainMax      durationValue
	maxBytes       sizeValue
	clientTTL      durationValue
	maxClients     int
	maxConns       int
	connRate       int
	origins        listValue
	readTokens     bool
	addressRate    int
	addressConns   int
	trustedProxies listValue
	tlsCert        string
	tlsKey         string
	adminListen    string

	drainTime durationValue
	cache     sizeValue
	logLevel  string
	logFormat string

	contact    string
	r2z2URL    string
	esiURL     string
	redisqURL  string
	zkillWSURL string
	followURL  string
	names      string
	images     bool

	dialects        listValue
	redisqTTL       durationValue
	redisqByAddress bool

	ledger         serversValue
	ledgerName     string
	node           string
	ledgerReplicas int
	ledgerCreds    string
	ledgerCA       string
	ledgerCert     string
	ledgerKey      string

	demo     bool
	demoRate float64

	server    string
	tokenFile string
}

// defaultConfigFile is read when it exists and no other file is named.
const defaultConfigFile = "killfeed.toml"

// logLevels are the levels of the log, the most talkative first.
var logLevels = []string{"debug", "info", "warn", "error"}

// flags makes the flags of all settings, in the order in which they are shown.
func (s *settings) flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.StringVar(&s.config, "config", "", "read settings from this TOML `file` (default killfeed.toml, if there is one)")

	fs.StringVar(&s.listen, "listen", "127.0.0.1:4004",
		"`address` to listen on, host:port; :4004 listens on every interface, port 0 takes a free one")
	fs.StringVar(&s.data, "data", "killfeed-data", "`directory` of the log and of admin.token; made when missing")
	fs.BoolVar(&s.memory, "memory", false, "keep the log in memory and lose it at the end; --data then holds only the token")
	keep := killfeed.DefaultRetention()
	s.retain = durationValue(keep.Retain)
	fs.Var(&s.retain, "retain", "keep an event at least this long, even when every client has read it")
	s.retainMax = durationValue(keep.Max)
	fs.Var(&s.retainMax, "retain-max", "remove an event after this long, read or not; clients are told the gap; 0: never")
	fs.Var(&s.maxBytes, "max-bytes", "remove the oldest events beyond this `size`, read or not, as in 500MB or 10GiB; 0: no limit")
	s.clientTTL = durationValue(keep.ClientTTL)
	fs.Var(&s.clientTTL, "client-ttl", "a client unseen for this long holds no events back; its offsets stay; 0: it holds for ever")
	fs.IntVar(&s.maxClients, "max-clients", 100_000, "remember at most this `number` of clients")
	fs.IntVar(&s.maxConns, "max-connections", 50_000, "have at most this `number` of streams and sockets open; 0: no limit")
	fs.IntVar(&s.connRate, "connect-rate", 2000, "let at most this `number` of streams and sockets in a second; 0: no limit")
	fs.Var(&s.origins, "socket-origins",
		"pages that may open sockets, by `origin`, as in https://tools.example.com; several are separated by commas (default: all)")
	fs.BoolVar(&s.readTokens, "read-tokens", false, "reading too needs a token: one with the scope read (see 'killfeed token')")
	fs.IntVar(&s.addressRate, "address-rate", 500,
		"let one address make at most this `number` of requests a second, five times as many after a pause; 0: no limit")
	fs.IntVar(&s.addressConns, "address-connections", 1000,
		"let one address have at most this `number` of streams and sockets open; 0: no limit")
	fs.Var(&s.trustedProxies, "trusted-proxies",
		"`networks` of proxies that are believed whom they forward for, as in 10.0.0.0/8; several are separated by commas (default: none)")
	fs.StringVar(&s.tlsCert, "tls-cert", "", "serve over TLS with the certificate in this `file`; it is read again when it changes")
	fs.StringVar(&s.tlsKey, "tls-key", "", "`file` with the key of that certificate")
	fs.StringVar(&s.adminListen, "admin-listen", "",
		"serve profiles, the log's level and build information on this `address` of their own, as in 127.0.0.1:6060 (default: nowhere)")
	fs.Var(&s.dialects, "dialects", "older services to be a copy of: redisq, r2z2, zkillws, wanderer, evekill; off: none (default: all)")
	s.redisqTTL = durationValue(3 * time.Hour)
	fs.Var(&s.redisqTTL, "redisq-ttl", "remember a queue of RedisQ at most this long when nobody asks for it")
	fs.BoolVar(&s.redisqByAddress, "redisq-by-address", false, "RedisQ without a queueID: a queue by address and program, in place of a refusal")
	s.drainTime = durationValue(30 * time.Second)
	fs.Var(&s.drainTime, "drain-time", "when the server stops, end streams and sockets one after another over at most this long")
	s.cache = 64 << 20
	fs.Var(&s.cache, "cache", "memory for the store's block cache")
	fs.Var(choice(&s.logLevel, "info", logLevels...), "log-level", "least level to log")
	fs.Var(choice(&s.logFormat, "auto", "auto", "text", "json"), "log-format",
		"how to log to standard error; auto: text on a terminal, else json")

	fs.StringVar(&s.contact, "contact", "",
		"`mail or URL` of whoever runs this server, sent to upstream services; it switches on following R2Z2")
	fs.StringVar(&s.r2z2URL, "r2z2-url", r2z2.DefaultURL, "base `URL` of zKillboard's R2Z2 or a mirror; off: not followed")
	fs.StringVar(&s.esiURL, "esi-url", esi.DefaultURL, "base `URL` of ESI, for killmails that come as id and hash")
	fs.StringVar(&s.redisqURL, "redisq-url", "", "follow a service that speaks RedisQ, by the `URL` of its listen.php")
	fs.StringVar(&s.zkillWSURL, "zkill-ws-url", "", "follow a websocket that speaks as zKillboard's, by its `URL`")
	fs.StringVar(&s.followURL, "follow-url", "", "follow another killfeed, by its base `URL`")
	fs.Var(choice(&s.names, "auto", "auto", off), "names",
		"what characters, corporations and alliances are called; auto: asked of ESI when somebody wants names, and kept in --data; off: not at all")
	fs.BoolVar(&s.images, "images", true,
		"let the page show pictures of ships from CCP's image server; off (--images=false): browsers on it ask nobody but this server")
	fs.Var(&s.ledger, "ledger",
		"share the log with other nodes by way of these NATS `servers`, with commas between, as in nats://a:4222,nats://b:4222 (default: none, a feed of one node)")
	fs.StringVar(&s.ledgerName, "ledger-name", "killfeed", "`name` of the shared log on the servers")
	fs.StringVar(&s.node, "node", "", "`name` of this node, unlike that of any other (default: the machine's name)")
	fs.IntVar(&s.ledgerReplicas, "ledger-replicas", 3, "`number` of servers that keep the shared log: 3 or 5; 1 for a single server")
	fs.StringVar(&s.ledgerCreds, "ledger-creds", "", "`file` with the credentials for the servers: .creds, the seed of an nkey, or user:password")
	fs.StringVar(&s.ledgerCA, "ledger-ca", "", "`file` with the certificates that those of the servers must be signed by (default: the system's)")
	fs.StringVar(&s.ledgerCert, "ledger-cert", "", "`file` with this node's certificate, for servers that want one")
	fs.StringVar(&s.ledgerKey, "ledger-key", "", "`file` with the key of that certificate")
	fs.BoolVar(&s.demo, "demo", false, "make up killmails of invented pilots, without a network; --data is then killfeed-demo")
	fs.Float64Var(&s.demoRate, "demo-rate", 1, "speed of the demo: at `1` a real evening's pace, at 10 ten times as fast")

	fs.StringVar(&s.server, "server", "http://127.0.0.1:4004", "`URL` of the server to talk to")
	fs.StringVar(&s.tokenFile, "token-file", "",
		"`file` with the bearer token for the server (default <data>/admin.token, if readable and the server is on this machine)")
	return fs
}

const configHelp = `Every setting is a flag, an environment variable and a key of the configuration file. For --retain-max:

  flag         --retain-max 30d
  environment  KILLFEED_RETAIN_MAX=30d
  file         retain-max = "30d"       (retain_max works too)

The flag wins over the environment, the environment over the file, the file over the default. An empty variable counts as
not set. The file is the one named by --config or KILLFEED_CONFIG, or killfeed.toml in the working directory if there is
one. Relative paths are relative to the working directory, wherever the file is. Unknown keys and unknown KILLFEED_
variables are errors, so that a misspelt setting is never silently the default.

Durations are Go's (90s, 15m, 24h) with days (30d, 1d12h). Sizes are bytes, KB, MB, GB, TB (powers of 1000) or KiB, MiB,
GiB, TiB (powers of 1024).`

// loadConfig fills the flags that were not given on the command line from env and then from the file, and returns where each
// setting came from, and the webhooks, which only the file has. It reports all faults at once.
func loadConfig(flags *pflag.FlagSet, env []string) (origin map[string]string, hooks []webhookEntry, err error) {
	var (
		faults []error
		known  []string // names of settings
	)
	flags.VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })

	vars := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "KILLFEED_") || value == "" || injected(name) {
			continue
		}
		if !slices.ContainsFunc(known, func(k string) bool { return envName(k) == name }) {
			names := make([]string, len(known))
			for i, k := range known {
				names[i] = envName(k)
			}
			faults = append(faults, fmt.Errorf("environment: unknown variable %s%s", name, didYouMean(name, names)))
			continue
		}
		vars[name] = value
	}

	path := flags.Lookup("config")
	if v, ok := vars["KILLFEED_CONFIG"]; ok && !path.Changed {
		path.Value.Set(v)
	}
	file, keys, hooks, err := readConfigFile(path.Value.String(), known, func(name string) bool {
		return flags.Lookup(name).Value.Type() == new(listValue).Type()
	})
	if err != nil {
		faults = append(faults, err)
	}

	origin = map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) {
		variable, inEnv := vars[envName(f.Name)]
		key, inFile := keys[f.Name]
		var from, value string
		switch {
		case f.Changed:
			origin[f.Name] = "flag"
			return
		case inEnv:
			from, value = "env "+envName(f.Name), variable
		case inFile:
			from, value = "file:"+file, key
		default:
			origin[f.Name] = "default"
			return
		}
		origin[f.Name] = from
		// Set on the value, not on the flag set: Changed keeps meaning "given on the command line".
		if err := f.Value.Set(value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", from, f.Name, err))
		}
	})
	return origin, hooks, errors.Join(faults...)
}

// readConfigFile reads the settings' values as text, and the webhooks. An empty path means the default file, which need not
// exist. isList tells of which settings the value may be an array.
func readConfigFile(path string, known []string, isList func(name string) bool) (file string, values map[string]string,
	hooks []webhookEntry, err error) {
	optional := path == ""
	if optional {
		path = defaultConfigFile
	}
	text, err := os.ReadFile(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil, nil
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("reading the configuration file: %w", err)
	}
	var doc map[string]any
	if err := toml.Unmarshal(text, &doc); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			return "", nil, nil, fmt.Errorf("%s:%d:%d: %w", path, row, column, err)
		}
		return "", nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	var faults []error
	values = map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(doc)) {
		name := strings.ReplaceAll(key, "_", "-")
		if name == webhookKey {
			if hooks, err = readWebhooks(doc[key]); err != nil {
				faults = append(faults, inFile(path, err))
			}
			continue
		}
		if name == "config" || !slices.Contains(known, name) {
			faults = append(faults, fmt.Errorf("%s: unknown key %q%s", path, key, didYouMean(name, append(slices.Clone(known), webhookKey))))
			continue
		}
		if _, twice := values[name]; twice {
			faults = append(faults, fmt.Errorf("%s: %s is set twice, with a dash and with an underscore", path, name))
		}
		want := "a string, a number or true or false"
		switch v := doc[key].(type) {
		case string, bool, int64, float64:
			values[name] = fmt.Sprint(v)
			continue
		case []any:
			if texts, ok := texts(v); ok && isList(name) {
				values[name] = strings.Join(texts, ",")
				continue
			}
		}
		if isList(name) {
			want = "strings in an array, or one with commas between them"
		}
		faults = append(faults, fmt.Errorf("%s: %s: want %s", path, key, want))
	}
	return path, values, hooks, errors.Join(faults...)
}

// texts are the strings in an array that has nothing else.
func texts(array []any) ([]string, bool) {
	all := make([]string, len(array))
	for i := range array {
		text, ok := array[i].(string)
		if !ok {
			return nil, false
		}
		all[i] = text
	}
	return all, true
}

func envName(name string) string {
	return "KILLFEED_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// injected tells variables that Kubernetes sets in every container beside a service called "killfeed". They are nobody's
// misspelling, and refusing them would keep the program from starting there.
func injected(name string) bool {
	return name == "KILLFEED_PORT" || strings.HasPrefix(name, "KILLFEED_PORT_") ||
		name == "KILLFEED_SERVICE_HOST" || strings.HasPrefix(name, "KILLFEED_SERVICE_PORT")
}
