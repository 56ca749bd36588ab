package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answerWith runs a command against a server that answers with f.
func answerWith(t *testing.T, f http.HandlerFunc, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	var out, errs bytes.Buffer
	code = run(t.Context(), append(args, "--server", s.URL), nil, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestRefusals(t *testing.T) {
	problem := func(status int, header, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if name, value, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(name, value)
			}
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(status)
			io.WriteString(w, text)
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		code    int
		stderr  []string
	}{
		{"a problem document", problem(400, "", `{"title":"Bad Request","status":400,"detail":"start \"x\" is not accepted"}`),
			exitFailure, []string{`error: the server refused: start "x" is not accepted (400)`}},
		{"no document", problem(502, "", `<html>Bad gateway`), exitFailure, []string{`error: the server refused: bad gateway (502)`}},
		{"no token", problem(401, "", `{"detail":"this needs the admin token"}`), exitFailure,
			[]string{"error: the server refused: this needs the admin token (401)\nhint: ", "--token-file"}},
		{"wrong token", problem(403, "", `{"detail":"not this server's"}`), exitFailure, []string{"hint: ", "--token-file"}},
		{"opening", problem(503, "Retry-After: 1", `{"detail":"the log is being opened"}`), exitUnreachable,
			[]string{"the log is being opened (503)", "hint: try again in 1 s"}},
		{"failed", problem(503, "", `{"detail":"a write failed"}`), exitFailure, []string{"a write failed (503)"}},
		{"redirect", problem(307, "Location: https://elsewhere/", ""), exitFailure, []string{"redirects to https://elsewhere/", "hint: "}},
		{"no JSON", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }, exitFailure, []string{"reading the answer"}},
		{"cut off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"clients":[`)
		}, exitFailure, []string{"reading the answer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := answerWith(t, c.handler, "clients", "list", "--data", t.TempDir())
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, part := range c.stderr {
				if !strings.Contains(stderr, part) {
					t.Errorf("stderr %q lacks %q", stderr, part)
				}
			}
		})
	}
}

// A client may be called anything; its name is one element of the path.
func TestClientNamesInPaths(t *testing.T) {
	for _, name := range []string{"me", "a/b", "..", ".", "50%", "a b?c#d", "Ünï"} {
		var got string
		code, _, stderr := answerWith(t, func(w http.ResponseWriter, r *http.Request) {
			// As a router sees it that decodes each element by itself.
			element := strings.TrimPrefix(r.URL.EscapedPath(), "/api/clients/")
			if strings.Contains(element, "/") || element == "." || element == ".." {
				t.Errorf("%q: path %q", name, r.URL.EscapedPath())
			}
			got = strings.TrimPrefix(r.URL.Path, "/api/clients/")
			io.WriteString(w, `{}`)
		}, "clients", "show", name)
		if code != exitOK || got != name {
			t.Errorf("%q arrived as %q, exit code %d, %s", name, got, code, stderr)
		}
	}
}

// The token of the local log is sent to this machine's server only, unless its file was named.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, tokenFileName)
	if err := os.WriteFile(file, []byte("secret-of-this-log\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, server, tokenFile string
		want                    string
	}{
		{"local", "http://127.0.0.1:4004", "", "secret-of-this-log"},
		{"local by name", "http://localhost:4004", "", "secret-of-this-log"},
		{"local, IPv6", "http://[::1]:4004", "", "secret-of-this-log"},
		{"elsewhere", "http://feed.example:4004", "", ""},
		{"disguised", "http://127.0.0.1.example:4004", "", ""},
		{"elsewhere, named", "https://feed.example", file, "secret-of-this-log"},
	} {
		a := &app{}
		a.settings.flags()
		a.settings.server, a.settings.data, a.settings.tokenFile = c.server, dir, c.tokenFile
		server, err := a.newClient()
		if err != nil || server.token != c.want {
			t.Errorf("%s: token %q, %v, want %q", c.name, server.token, err, c.want)
		}
	}
	a := &app{}
	a.settings.flags()
	a.settings.data = t.TempDir()
	if server, err := a.newClient(); err != nil || server.token != "" {
		t.Errorf("without a file: %v, want no token and no error", err)
	}
	a.settings.tokenFile = filepath.Join(dir, "missing")
	if _, err := a.newClient(); err == nil {
		t.Error("a token file that was named and is missing is no error")
	}
}

func TestDescribeEvent(t *testing.T) {
	for _, c := range []struct{ event, want string }{
		{`{"event_id":17,"system_id":30000142,"received_at":"2026-11-23T12:00:00.123Z","backfill":true,"killmail":` + madeUp(5) + `}`,
			"     17  2026-11-23 12:00:00  killed 2026-11-22 18:00:00  system 30000142  ship 670  character 9105  " +
				"corporation 98000002  by 1  https://zkillboard.com/kill/5/  backfill"},
		{`{"event_id":1,"system_id":2,"received_at":"2026-11-23T12:00:00.000Z","killmail":{}}`, "      1  2026-11-23 12:00:00  system 2"},
		{`{"event_id":1,"system_id":2,"received_at":"2026-11-23T12:00:00.000Z","killmail":{"victim":[],"attackers":3,"killmail_id":"x"}}`,
			"      1  2026-11-23 12:00:00  system 2"},
		{`{"event_id":17,"system_id":30000142,"received_at":"2026-11-23T12:00:00.123Z","killmail":` + madeUp(5) + `,"names":{` +
			`"system":{"id":30000142,"name":"Jita","region":{"id":10000002,"name":"The Forge"}},"types":{"670":{"name":"Capsule"}},` +
			`"characters":{"9105":{"name":"Ann\u001b[31m\n"}},"corporations":{"98000002":{"name":"Anns","ticker":"ANN"}}}}`,
			"     17  2026-11-23 12:00:00  killed 2026-11-22 18:00:00  Jita (The Forge)  Capsule  Ann?[31m?  Anns [ANN]  by 1  " +
				"https://zkillboard.com/kill/5/"},
		{`{"event_id":1,"system_id":2,"received_at":"2026-11-23T12:00:00.000Z","killmail":{"victim":{"ship_type_id":3}},"names":{"system":7}}`,
			"      1  2026-11-23 12:00:00  system 2  ship 3"},
	} {
		if got := string(describeEvent([]byte(c.event), false)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestInterruptedPoll(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	defer s.Close()
	var out, errs bytes.Buffer
	args := []string{"next", "--client", "me", "--topic", "all", "--wait", "60s", "--server", s.URL}
	if code := run(ctx, args, nil, strings.NewReader(""), &out, &errs); code != exitInterrupted {
		t.Errorf("exit code %d, %s", code, errs.String())
	}
}
