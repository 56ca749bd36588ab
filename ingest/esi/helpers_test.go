package esi_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"killfeed/ingest/esi"
	"killfeed/ingest/upstream"
)

// clientOf makes a client whose requests are answered by f.
func clientOf(t *testing.T, f roundTripper) *upstream.Client {
	t.Helper()
	c, err := upstream.New(upstream.Config{
		Version: "test", Contact: "test@example.com", Every: time.Millisecond, Header: esi.Header(), Transport: f,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// recorder is an answer to be.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *recorder) response(r *http.Request) *http.Response {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	return &http.Response{StatusCode: status, Header: w.header, Body: io.NopCloser(&w.body), Request: r}
}
