package socket_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/web/socket"
)

// certificate is one that nobody has signed.
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// openTLS connects over TLS, on a pipe that holds nothing.
func openTLS(t *testing.T, o socket.Options, h *handler) *peer {
	t.Helper()
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	here := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	// Without session tickets, which the server would write when nobody reads.
	there := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true})
	done := make(chan error, 1)
	go func() { done <- there.Handshake() }()
	if err := here.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return openOn(t, o, h, "", here, there)
}

// TestTLS: over TLS come the same messages in the same order, also those of many records.
func TestTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := openTLS(t, socket.Options{}, &handler{}).listen()
		long := strings.Repeat("c", 100_000)
		p.handler.push("a", long, "b")
		p.hears("text a", "text "+long, "text b")
		p.handles("pulled 3", "written")
		p.send(frame(fin|opText, "hello"))
		p.handles("text hello")
		p.send(frame(fin|opClose, closing(1000, "")))
		p.hears("close 1000")
	})
}

// TestTLSSlow: who takes nothing for a minute over TLS is cut off then, and not looked at without an end. Were the server to try
// again at once, after a deadline that ends a connection over TLS for good, time would not pass in this bubble, and the test would
// not end.
func TestTLSSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := openTLS(t, socket.Options{}, &handler{})
		p.handler.push(strings.Repeat("b", 100_000))
		for p.set.Len() > 0 {
			if time.Since(p.opened) > 2*time.Minute {
				t.Fatal("it is open after two minutes")
			}
			time.Sleep(time.Second)
			p.send(frame(fin|opPong, ""))
		}
		if took := time.Since(p.opened); took < socket.DefaultSlow || took > socket.DefaultSlow+10*time.Second {
			t.Errorf("it was cut off after %v, want a minute and what closing takes", took)
		}
		p.handles("pulled 1", "ended 1006")
	})
}

// TestTLSSlowButTaking: who takes 16 KiB within a minute stays, however long all of it takes.
func TestTLSSlowButTaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := openTLS(t, socket.Options{}, &handler{})
		long := strings.Repeat("b", 100_000)
		p.handler.push(long)
		head := make([]byte, 10+len(long))
		for got := 0; got < len(head); {
			time.Sleep(50 * time.Second)
			p.send(frame(fin|opPong, ""))
			n, err := io.ReadFull(p.in, head[got:min(got+20_000, len(head))])
			if err != nil {
				t.Fatalf("after %v and %d bytes: %v", time.Since(p.opened), got, err)
			}
			got += n
		}
		if want := header(fin|opText, uint64(len(long)), false) + long; string(head) != want {
			t.Error("what came is not what was sent")
		}
		p.listen()
		p.handler.push("after")
		p.hears("text after")
		io.WriteString(p.conn, frame(fin|opClose, closing(1000, "")))
		p.hears("close 1000")
	})
}
