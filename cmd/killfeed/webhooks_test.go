package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// receiver FILE URLFILE starts a webhook's other end, until the script ends. It appends each body that it takes to FILE, as a
// line, and writes its URL, which has a secret in it, into URLFILE. At /gone it is not there.
func receiver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: receiver file urlfile")
	}
	path := ts.MkAbs(args[0])
	var mu sync.Mutex // guards the file
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || strings.HasPrefix(r.URL.Path, "/gone") {
			http.Error(w, "there is nothing here", http.StatusGone)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
		if err == nil {
			_, err = fmt.Fprintf(f, "%s %s\n", r.Header.Get("Killfeed-Webhook"), body)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			http.Error(w, "no room", http.StatusInternalServerError)
		}
	}))
	ts.Defer(server.Close)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(server.URL+"/hooks/tOkEn\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1])+".gone", []byte(server.URL+"/gone/tOkEn\n"), 0o600))
}

// What a table of the configuration file may have, and what is said of what it may not.
func TestReadWebhooks(t *testing.T) {
	table := func(members ...any) []any {
		m := map[string]any{"name": "x"}
		for i := 0; i < len(members); i += 2 {
			m[members[i].(string)] = members[i+1]
		}
		return []any{m}
	}
	for name, c := range map[string]struct {
		value any
		wants string // in the error; empty: none
	}{
		"nothing":            {[]any{}, ""},
		"all there is":       {table("url", "http://a/", "format", "json", "topics", []any{"all"}, "filter", "isk>1", "secret_file", "s", "max_age", "2d", "give_up", "1h", "start", "earliest", "backfill", true, "updates", true, "names", true, "batch", int64(5), "rate", int64(60)), ""},
		"with dashes":        {table("url-file", "u", "max-age", "0"), ""},
		"one table":          {map[string]any{}, "in double brackets"},
		"a string":           {[]any{"http://a/tOkEn"}, "in double brackets"},
		"unknown":            {table("filtre", "x"), `webhook "x": unknown key "filtre" (did you mean "filter"?)`},
		"no name, unknown":   {[]any{map[string]any{}, map[string]any{"x": 1}}, `webhook number 2: unknown key "x"`},
		"no string":          {table("url", int64(1)), `webhook "x": url: want a string`},
		"no truth":           {table("names", "yes"), `webhook "x": names: want true or false`},
		"no number":          {table("batch", "5"), `webhook "x": batch: want a whole number`},
		"nothing at a time":  {table("batch", int64(0)), "want a whole number from 1 on"},
		"no list":            {table("topics", "all"), "want strings in an array"},
		"no list of strings": {table("topics", []any{int64(1)}), "want strings in an array"},
		"no duration":        {table("max_age", "1y"), `webhook "x": max_age: "1y" is no duration`},
		"no start":           {table("start", "soon"), `start "soon" is not accepted`},
		"two addresses":      {table("url", "http://a/tOkEn", "url_file", "u"), "want one of them"},
	} {
		_, err := readWebhooks(c.value)
		switch {
		case c.wants == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants)):
			t.Errorf("%s: %v, want it to say %s", name, err, c.wants)
		case err != nil && strings.Contains(err.Error(), "tOkEn"):
			t.Errorf("%s: it shows the address: %v", name, err)
		}
	}
}
