package main

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

// yardstick serves what the ratios are taken against, on the loopback interface, until it is told to end:
//
//	/bare    answers 204
//	/query   reads the query by r.URL.Query() and answers 204
//	/body    answers the same bytes that the file body.json beside the address file has
//
// There is no router: each is the whole handler of a server of its own, chosen by the environment, so that nothing but the
// named work is measured.
func yardstick(addrFile string) error {
	var handler http.Handler
	switch kind := os.Getenv("YARDSTICK"); kind {
	case "bare":
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	case "query":
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(r.URL.Query()) == 0 {
				http.Error(w, "no query", http.StatusBadRequest)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
	case "body":
		body, err := os.ReadFile(os.Getenv("YARDSTICK_BODY"))
		if err != nil {
			return err
		}
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", "application/json")
			h.Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body)
		})
	case "import":
		return decompress(addrFile)
	default:
		return fmt.Errorf("unknown yardstick %q", kind)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	go func() { // ends with the process
		<-stop
		srv.Close()
	}()
	if err := os.WriteFile(addrFile, []byte(l.Addr().String()), 0o600); err != nil {
		return err
	}
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// decompress reads a day archive and validates its members, with nothing behind.
func decompress(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	t := tar.NewReader(bzip2.NewReader(f))
	var buf bytes.Buffer
	n := 0
	for {
		h, err := t.Next()
		if err == io.EOF {
			fmt.Println(n)
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		buf.Reset()
		if _, err := buf.ReadFrom(t); err != nil {
			return err
		}
		if !json.Valid(buf.Bytes()) {
			return fmt.Errorf("%s is not JSON", h.Name)
		}
		n++
	}
}
