package web_test

import (
	"strings"
	"testing"
)

func TestToken(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct {
		name, header string
		status       int
	}{
		{"none", "", 401},
		{"another scheme", "Basic Zm9vOmJhcg==", 401},
		{"a scheme alone", "Bearer", 401},
		{"an empty token", "Bearer  ", 401},
		{"the token without a scheme", adminToken, 401},
		{"a wrong token", "Bearer wrong", 403},
		{"half of it", "Bearer " + adminToken[:10], 403},
		{"more than it", "Bearer " + adminToken + "x", 403},
		{"in capitals", "Bearer " + strings.ToUpper(adminToken), 403},
		{"the token", "Bearer " + adminToken, 200},
		{"the scheme in small letters", "bearer " + adminToken, 200},
		{"with spaces around", "Bearer  " + adminToken + " ", 200},
	} {
		var headers []string
		if c.header != "" {
			headers = []string{"Authorization", c.header}
		}
		a := s.do("GET", "/api/clients", "", headers...)
		if a.status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, a.status, c.status)
			continue
		}
		if c.status == 200 {
			continue
		}
		if p := a.problem(c.status); !strings.Contains(p.Detail, "admin.token") {
			t.Errorf("%s: detail %q, want where the token is", c.name, p.Detail)
		}
		if got := a.header.Get("WWW-Authenticate"); (got != "") != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q with status %d", c.name, got, c.status)
		}
		if strings.Contains(string(a.body), "wrong") || strings.Contains(s.log.String(), "wrong") {
			t.Errorf("%s: the token that was sent is told: %s, log %s", c.name, a.body, s.log)
		}
	}
}

// TestNoTokenConfigured: then nobody may, not even with an empty one.
func TestNoTokenConfigured(t *testing.T) {
	s := newServer(t, func(o *serverOptions) { o.config.AdminToken = "" })
	s.get("/api/clients").problem(401)
	s.do("GET", "/api/clients", "", "Authorization", "Bearer ").problem(401)
	s.do("GET", "/api/clients", "", "Authorization", "Bearer x").problem(403)
}

// TestTokenComesFirst: nothing is read of a body that its sender may not send.
func TestTokenComesFirst(t *testing.T) {
	s := newServer(t)
	for _, target := range []string{"/api/killmails", "/api/collect"} {
		s.do("POST", target, "{nonsense").problem(401)
	}
	if head := s.feed.State().Head; head != 0 {
		t.Errorf("the head is %d", head)
	}
}
