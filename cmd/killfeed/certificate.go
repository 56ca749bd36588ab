package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"sync/atomic"
)

// certificate is the server's own, as it is in the files at the moment. Its methods but get are for one goroutine.
type certificate struct {
	certFile, keyFile string
	watches           [2]*fileWatch
	current           atomic.Pointer[tls.Certificate]
}

// certificate reads the certificate of the settings, nil when there is none.
func (a *app) certificate() (*certificate, error) {
	c := &certificate{certFile: a.settings.tlsCert, keyFile: a.settings.tlsKey}
	switch {
	case c.certFile == "" && c.keyFile == "":
		return nil, nil
	case c.certFile == "" || c.keyFile == "":
		return nil, usagef("tls-cert and tls-key go together: one of them is not set")
	}
	for i, file := range []string{c.certFile, c.keyFile} {
		var err error
		if c.watches[i], err = watchFile(file); err != nil {
			return nil, fmt.Errorf("reading the TLS certificate: %w", err)
		}
	}
	return c, c.load()
}

// load takes up what is in the files. After an error the one before holds.
func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return hint(fmt.Errorf("reading the TLS certificate from %s and %s: %w", c.certFile, c.keyFile, err),
			"want PEM: the certificate first, then those between it and a root, and its key")
	}
	c.current.Store(&pair)
	return nil
}

// changed tells whether the files are others than when it was last asked.
func (c *certificate) changed() (bool, error) {
	if c == nil {
		return false, nil
	}
	any := false
	for _, w := range c.watches {
		changed, err := w.changed()
		if err != nil {
			return false, err
		}
		any = any || changed
	}
	return any, nil
}

// secure has a server speak TLS: 1.2 and newer, which is what Go does by itself, and says so here should that ever change.
func (c *certificate) secure(server *http.Server) {
	server.TLSConfig = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
