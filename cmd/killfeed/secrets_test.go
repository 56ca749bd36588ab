//go:build unix

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// TestSecretsStayOutOfTheLog sends a server that logs all it can its tokens in every way there is, right and wrong ones, from many
// sides at once: neither its log nor what it answers to anybody has one of them.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	s := serveIn(t, t.TempDir(), "--log-level", "debug", "--read-tokens")
	admin := s.secret(tokenFileName)
	var secrets []string
	for _, scopes := range []string{"read", "publish", "read,publish", "admin"} {
		text, err := s.run("token", "create", strings.ReplaceAll(scopes, ",", "-"), "--scope", scopes, "--data", s.dir)
		if err != nil {
			t.Fatal(err, text)
		}
		secrets = append(secrets, text)
	}
	rotated, err := s.run("token", "rotate", "read", "--data", s.dir)
	if err != nil {
		t.Fatal(err, rotated)
	}
	s.said("the tokens were read again", 1)
	secrets = append(secrets, admin, rotated, "kf_made-up-by-a-stranger", admin[:20])

	url := "http://" + s.addr
	requests := []struct{ method, path, body string }{
		{"GET", "/api/killfeed?client_id=me&topics=all", ""},
		{"GET", "/api/killfeed?client_id=me&topics=all&token=SECRET", ""},
		{"GET", "/api/killfeed?client_id=me&topics=all&access_token=SECRET", ""},
		{"GET", "/api/killfeed?client_id=SECRET&topics=nonsense", ""},
		{"POST", "/api/killmails", `{"killmail_id":1,"solar_system_id":30000142,"victim":{},"attackers":[]}`},
		{"POST", "/api/killmails", `nonsense`},
		{"POST", "/api/collect", ""},
		{"DELETE", "/api/clients/none", ""},
		{"GET", "/api/warnings", ""},
		{"GET", "/api/status", ""},
		{"GET", "/metrics", ""},
		{"GET", "/socket/longpoll?vsn=2.0.0&token=SECRET", ""},
		{"GET", "/listen.php?queueID=x&ttw=1&limit=0", ""},
		{"GET", "/nothing/SECRET", ""},
	}
	var all sync.WaitGroup
	for _, secret := range secrets {
		all.Go(func() {
			for _, q := range requests {
				path := strings.ReplaceAll(q.path, "SECRET", secret)
				for _, headers := range [][]string{
					{"Authorization", "Bearer " + secret}, {"X-Phoenix-AuthToken", secret}, {"Authorization", secret},
					{"Cookie", "token=" + secret},
				} {
					r, err := http.NewRequest(q.method, url+path, strings.NewReader(q.body))
					if err != nil {
						t.Error(err)
						return
					}
					r.Header.Set(headers[0], headers[1])
					res, err := http.DefaultClient.Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, _, err := websocket.Dial(ctx, "ws://"+s.addr+"/socket/websocket?vsn=2.0.0", &websocket.DialOptions{
				Subprotocols: []string{"phoenix", "base64url.bearer.phx." + base64.RawURLEncoding.EncodeToString([]byte(secret))},
			})
			if err == nil {
				conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `["1","1","all","phx_join",{"client_id":"%s"}]`, secret))
				conn.Read(ctx)
				conn.CloseNow()
			}
		})
	}
	all.Wait()
	if status, body := s.ask(http.DefaultClient, "POST", url+"/api/collect", "", "Authorization", "Bearer "+admin); status != 200 {
		t.Fatalf("the admin token is good no more: %d %s", status, body)
	}
	seen := []string{s.text()}
	for _, path := range []string{"/api/warnings", "/api/status", "/metrics"} {
		status, body := s.ask(http.DefaultClient, "GET", url+path, "", "Authorization", "Bearer "+admin)
		if status != 200 {
			t.Fatalf("%s: %d %s", path, status, body)
		}
		seen = append(seen, body)
	}
	for _, secret := range secrets {
		for _, form := range []string{secret, base64.RawURLEncoding.EncodeToString([]byte(secret))} {
			for i, text := range seen {
				if strings.Contains(text, form) {
					t.Errorf("a secret is told (%d): %.2000s", i, text)
				}
			}
		}
	}
	if !strings.Contains(seen[0], "serving") {
		t.Errorf("there is no log: %s", seen[0])
	}
}
