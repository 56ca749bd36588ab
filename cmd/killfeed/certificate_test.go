//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// writeCertificate writes a new certificate for 127.0.0.1 and its key, and returns a pool that trusts it.
func writeCertificate(t *testing.T, dir string, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) {
		temp := filepath.Join(dir, name+".new")
		if err := os.WriteFile(temp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("key.pem", "PRIVATE KEY", private)
	write("cert.pem", "CERTIFICATE", der)
	pool := x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return pool
}

// TestTLS: over TLS there are HTTP/1.1, HTTP/2 and WebSockets, no older version than 1.2, and a new certificate without a restart.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	pool := writeCertificate(t, dir, 1)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	s := serveIn(t, dir, "--tls-cert", cert, "--tls-key", key)
	url := "https://" + s.addr
	if got := field(t, s.said(`"msg":"serving"`, 1), "url"); got != url {
		t.Errorf("it says that it serves on %s, want %s", got, url)
	}
	with := func(pool *x509.CertPool, newest uint16, http2 bool) *http.Client {
		return &http.Client{Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: newest}, ForceAttemptHTTP2: http2, DisableKeepAlives: true,
		}}
	}
	for proto, client := range map[string]*http.Client{"HTTP/1.1": with(pool, 0, false), "HTTP/2.0": with(pool, tls.VersionTLS12, true)} {
		res, err := client.Get(url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 || res.Proto != proto {
			t.Errorf("%s %d, want %s 200", res.Proto, res.StatusCode, proto)
		}
	}
	if _, err := with(pool, tls.VersionTLS11, false).Get(url + "/readyz"); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "wss://"+s.addr+"/socket/websocket?vsn=2.0.0", &websocket.DialOptions{HTTPClient: with(pool, 0, false)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte(`["1","1","all","phx_join",{}]`)); err != nil {
		t.Fatal(err)
	}
	if _, text, err := conn.Read(ctx); err != nil || !strings.Contains(string(text), `"status":"ok"`) {
		t.Fatalf("the join is answered %s, %v", text, err)
	}
	admin := "Bearer " + s.secret(tokenFileName)
	mail := `{"killmail_id":1,"solar_system_id":30000142,"victim":{"ship_type_id":670},"attackers":[],"x":"` + strings.Repeat("x", 100_000) + `"}`
	if status, body := s.ask(with(pool, 0, false), "POST", url+"/api/killmails", mail, "Authorization", admin); status != 201 {
		t.Fatalf("inserting: %d %s", status, body)
	}
	conn.SetReadLimit(1 << 20)
	if _, text, err := conn.Read(ctx); err != nil || !strings.Contains(string(text), mail[:40]) || len(text) < len(mail) {
		t.Fatalf("there came %.200s, %v", text, err)
	}
	if out, err := s.run("healthcheck", "--listen", s.addr, "--tls-cert", cert); err != nil || out != "ready" {
		t.Errorf("healthcheck says %s, %v", out, err)
	}
	if status, body := s.ask(http.DefaultClient, "GET", "http://"+s.addr+"/readyz", ""); status != 400 || !strings.Contains(body, "HTTPS") {
		t.Errorf("without TLS: %d %s", status, body)
	}

	next := writeCertificate(t, dir, 2) // it is taken up by itself
	s.said("the TLS certificate was read again", 1)
	if status, _ := s.ask(with(next, 0, false), "GET", url+"/readyz", ""); status != 200 {
		t.Errorf("with the new one: %d", status)
	}
	if _, err := with(pool, 0, false).Get(url + "/readyz"); err == nil {
		t.Error("the old certificate is shown")
	}
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil { // what cannot be read changes nothing
		t.Fatal(err)
	}
	s.said("the TLS certificate could not be read again", 1)
	if status, _ := s.ask(with(next, 0, false), "GET", url+"/readyz", ""); status != 200 {
		t.Errorf("after one that cannot be read: %d", status)
	}
	if err := conn.Ping(conn.CloseRead(ctx)); err != nil {
		t.Errorf("the socket ended with the old certificate: %v", err)
	}
}

// TestTLSSettings: half a pair, and files that are none, are told before anything is opened.
func TestTLSSettings(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir, 1)
	cert, key, none := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "none.pem")
	for _, c := range []struct {
		cert, key, want string
		code            int
	}{
		{cert, "", "tls-cert and tls-key go together", exitUsage},
		{"", key, "tls-cert and tls-key go together", exitUsage},
		{none, key, "reading the TLS certificate", exitFailure},
		{key, cert, "reading the TLS certificate", exitFailure},
	} {
		var out, errs strings.Builder
		code := run(t.Context(), []string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--tls-cert", c.cert, "--tls-key", c.key}, nil,
			strings.NewReader(""), &out, &errs)
		if code != c.code || !strings.Contains(errs.String(), c.want) {
			t.Errorf("with %s and %s: %d, %s; want %d, %s", c.cert, c.key, code, errs.String(), c.code, c.want)
		}
	}
}
