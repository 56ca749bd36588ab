package web_test

import (
	"testing"
)

// What an operator may do is refused without the token, and does what it says with it.
func TestOperator(t *testing.T) {
	paused := map[string]bool{"r2z2": false}
	s := newServer(t, func(o *serverOptions) {
		o.config.PauseSource = func(name string, p bool) (any, bool) {
			if _, ok := paused[name]; !ok {
				return nil, false
			}
			paused[name] = p
			return map[string]any{"name": name, "paused": p}, true
		}
		o.config.Warnings = func() any {
			return []map[string]any{{"time": "2026-11-25T12:00:00Z", "level": "WARN", "message": "a warning"}}
		}
	})
	for _, c := range []struct{ method, path string }{
		{"POST", "/api/sources/r2z2/pause"}, {"POST", "/api/sources/r2z2/resume"}, {"GET", "/api/warnings"},
	} {
		s.do(c.method, c.path, "").problem(401)
		s.do(c.method, c.path, "", "Authorization", "Bearer wrong").problem(403)
	}
	if paused["r2z2"] {
		t.Error("a source was paused without a token")
	}
	says := func(a *answer, want string) {
		t.Helper()
		if a.want(200); string(a.body) != want {
			t.Errorf("%s: %s, want %s", a.what, a.body, want)
		}
	}
	admin := []string{"Authorization", "Bearer " + adminToken}
	says(s.do("POST", "/api/sources/r2z2/pause", "", admin...), `{"name":"r2z2","paused":true}`)
	says(s.do("POST", "/api/sources/r2z2/resume", "", admin...), `{"name":"r2z2","paused":false}`)
	s.do("POST", "/api/sources/none/pause", "", admin...).problem(404)
	says(s.do("GET", "/api/warnings", "", admin...), `{"warnings":[{"level":"WARN","message":"a warning","time":"2026-11-25T12:00:00Z"}]}`)

	none := newServer(t)
	none.do("POST", "/api/sources/r2z2/pause", "", admin...).problem(404)
	says(none.do("GET", "/api/warnings", "", admin...), `{"warnings":[]}`)
}
