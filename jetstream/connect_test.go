package jetstream

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"killfeed"
)

func written(t *testing.T, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	a := &authority{cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "made for a test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	a.file, _, a.key = a.sign(t, a.cert)
	return a
}

// sign returns the files of a certificate and its key. One's own is signed with its own key.
func (a *authority) sign(t *testing.T, c *x509.Certificate) (cert, keyFile string, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := a.key
	if with == nil {
		with = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, with)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return written(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		written(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), key
}

func leaf(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
}

const secret = "s3cr3t/ of:mine"

// refusedPlainly: the error is permanent, and has no secret in it.
func refusedPlainly(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), words) {
		t.Errorf("%v; want %v and %q", err, ErrRefused, words)
	}
	if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "mine")) {
		t.Errorf("the error has the password: %v", err)
	}
}

func TestConnectTLS(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	serverCert, serverKey, _ := ca.sign(t, leaf("n1"))
	cert, key, _ := ca.sign(t, leaf("node"))
	strangeCert, strangeKey, _ := stranger.sign(t, leaf("stranger"))
	s := startServer(t, fmt.Sprintf("server_name: n1\ntls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n"+
		"authorization { user: feed, password: %q }", serverCert, serverKey, ca.file, secret))
	url := strings.Replace(s.ClientURL(), "nats://", "tls://", 1)
	good := Config{URLs: []string{url}, CA: ca.file, Cert: cert, Key: key, Credentials: written(t, "creds", []byte("feed:"+secret+"\n"))}
	nc := connected(t, good)
	if state, err := nc.TLSConnectionState(); err != nil || !state.HandshakeComplete || nc.ConnectedServerName() != "n1" {
		t.Errorf("TLS: %v, %v with %s", state.HandshakeComplete, err, nc.ConnectedServerName())
	}
	plain := good
	plain.URLs = []string{strings.Replace(url, "tls://", "nats://", 1)}
	connected(t, plain) // the server wants TLS, and gets it

	untrusted, nobody, strange := good, good, good
	untrusted.CA = stranger.file
	nobody.Cert, nobody.Key = "", ""
	strange.Cert, strange.Key = strangeCert, strangeKey
	for words, c := range map[string]Config{"is not trusted": untrusted, "wants one and has got none": nobody, "does not take this node's": strange} {
		_, err := Connect(t.Context(), c)
		refusedPlainly(t, err, words)
	}
	for words, change := range map[string]func(c *Config){
		"needs its key":           func(c *Config) { c.Key = "" },
		"holds no certificate":    func(c *Config) { c.CA = key },
		"reading the ledger's CA": func(c *Config) { c.CA = filepath.Join(t.TempDir(), "none") },
		"reading the certificate": func(c *Config) { c.Key = serverKey },
	} {
		c := good
		change(&c)
		if _, err := Connect(t.Context(), c); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want %q", err, words)
		}
	}
	// TLS where there is none.
	without := startServer(t, "")
	c := good
	c.URLs = []string{strings.Replace(without.ClientURL(), "nats://", "tls://", 1)}
	_, err := Connect(t.Context(), c)
	refusedPlainly(t, err, "TLS is wanted")
}

func TestConnectCredentials(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, fmt.Sprintf("authorization { users: [{user: feed, password: %q}, {nkey: %s}] }", secret, public))
	file := written(t, "password", []byte("feed:"+secret))
	in := func(userinfo string) string {
		return strings.Replace(s.ClientURL(), "nats://", "nats://"+userinfo+"@", 1)
	}
	for what, c := range map[string]Config{
		"user and password in a file":  {URLs: []string{s.ClientURL()}, Credentials: file},
		"user and password in the URL": {URLs: []string{in("feed:s3cr3t%2F%20of%3Amine"), "127.0.0.1:1"}},
		"seed":                         {URLs: []string{s.ClientURL()}, Credentials: written(t, "seed", append(seed, '\n'))},
		"no scheme":                    {URLs: []string{strings.TrimPrefix(in("feed:s3cr3t%2F%20of%3Amine"), "nats://")}},
	} {
		t.Run(what, func(t *testing.T) {
			nc := connected(t, c)
			if strings.Contains(nc.ConnectedUrl(), "mine") {
				t.Errorf("the connection's URL has the password: %s", nc.ConnectedUrl())
			}
		})
	}
	wrong := written(t, "wrong", []byte("feed:not s3cr3t"))
	for words, c := range map[string]Config{
		"none were given":    {URLs: []string{s.ClientURL()}},
		"are not accepted":   {URLs: []string{s.ClientURL()}, Credentials: wrong},
		"in the URL are not": {URLs: []string{in("feed:no-mine")}},
	} {
		_, err := Connect(t.Context(), c)
		refusedPlainly(t, err, words)
	}
	for words, c := range map[string]Config{
		"is no URL":             {URLs: []string{"nats://feed:s3cr3t mine%zz@host"}},
		"scheme":                {URLs: []string{"http://feed:s3cr3t@host"}},
		"different credentials": {URLs: []string{"nats://feed:s3cr3t@a", "nats://feed:mine@b"}},
		"leave one of them out": {URLs: []string{in("feed:s3cr3t")}, Credentials: file},
		"no server":             {},
		"holds no credentials":  {URLs: []string{s.ClientURL()}, Credentials: written(t, "odd", []byte("s3cr3t"))},
		"reading the ledger's":  {URLs: []string{s.ClientURL()}, Credentials: filepath.Join(t.TempDir(), "none")},
		"holds no seed":         {URLs: []string{s.ClientURL()}, Credentials: written(t, "bad", []byte("SUs3cr3t"))},
	} {
		if _, err := Connect(t.Context(), c); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "s3cr3t") ||
			strings.Contains(err.Error(), "mine") {
			t.Errorf("%v; want %q and no secret", err, words)
		}
	}
}

// A user of an account that an operator has signed, in a file as the tools of NATS write it.
func TestConnectSigned(t *testing.T) {
	operator, account, user := must(nkeys.CreateOperator())(t), must(nkeys.CreateAccount())(t), must(nkeys.CreateUser())(t)
	public := func(k nkeys.KeyPair) string { return must(k.PublicKey())(t) }
	oc, ac, uc := jwt.NewOperatorClaims(public(operator)), jwt.NewAccountClaims(public(account)), jwt.NewUserClaims(public(user))
	uc.IssuerAccount = public(account)
	creds := must(jwt.FormatUserConfig(must(uc.Encode(account))(t), must(user.Seed())(t)))(t)
	s := startServer(t, fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload: { %s: %s }",
		written(t, "operator.jwt", []byte(must(oc.Encode(operator))(t))), public(account), must(ac.Encode(operator))(t)))
	connected(t, Config{URLs: []string{s.ClientURL()}, Credentials: written(t, "feed.creds", creds)})
	_, err := Connect(t.Context(), Config{URLs: []string{s.ClientURL()}})
	refusedPlainly(t, err, "none were given")
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Nobody there passes by itself; a caller who gives up is not kept.
func TestConnectNobody(t *testing.T) {
	c := Config{URLs: []string{"nats://feed:s3cr3t@127.0.0.1:1", "127.0.0.1:2"}}
	_, err := Connect(t.Context(), c)
	if !errors.Is(err, killfeed.ErrUnavailable) || errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("%v, want %v", err, killfeed.ErrUnavailable)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

// guarded is a buffer for the library's goroutines, which tell of a connection also when it was closed a moment ago.
type guarded struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (g *guarded) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

func (g *guarded) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

// The connection survives its server, with the same secrets kept out of the log, and keeps nothing to be sent later.
func TestReconnect(t *testing.T) {
	s := startServer(t, fmt.Sprintf("authorization { user: feed, password: %q }", secret))
	port := s.Addr().(*net.TCPAddr).Port
	var log guarded
	nc := connected(t, Config{
		URLs: []string{s.ClientURL()}, Credentials: written(t, "creds", []byte("feed:"+secret)), Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	changed := nc.StatusChanged()
	s.Shutdown()
	s.WaitForShutdown()
	for status := range changed {
		if status.String() == "RECONNECTING" {
			break
		}
	}
	if err := nc.Publish("x", []byte("kept?")); err == nil {
		t.Error("what is sent without a connection is kept")
	}
	startServer(t, fmt.Sprintf("listen: 127.0.0.1:%d\nauthorization { user: feed, password: %q }", port, secret))
	for status := range changed {
		if status.String() == "CONNECTED" {
			break
		}
	}
	nc.Close()
	if text := log.String(); strings.Contains(text, "s3cr3t") {
		t.Errorf("the log has the password:\n%s", text)
	}
}
