package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// token is the admin token. Only its sum is kept, so that no dump of this struct tells it, and sums are compared, so that
// neither its content nor its length shows in the time that takes.
type token struct {
	sum [sha256.Size]byte
	set bool
}

func newToken(text string) token {
	return token{sum: sha256.Sum256([]byte(text)), set: text != ""}
}

// check returns nil when the caller may do everything.
func (t token) check(x *exchange) error {
	scheme, sent, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
	sent = strings.TrimSpace(sent)
	if !strings.EqualFold(scheme, "Bearer") || sent == "" {
		x.w.Header().Set("WWW-Authenticate", `Bearer realm="killfeed"`)
		return refuse(http.StatusUnauthorized, "this needs the admin token, sent as 'Authorization: Bearer <token>'; "+
			"it is in the file admin.token of the server's data directory")
	}
	if !t.is(sent) {
		return refuse(http.StatusForbidden, "the token that was sent is not this server's admin token; "+
			"it is in the file admin.token of the server's data directory")
	}
	return nil
}

// is tells whether text is the token.
func (t token) is(text string) bool {
	sum := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1 && t.set
}

// decodeToken undoes the base64 of a token in a subprotocol. Clients call it base64url and use the standard alphabet; both are
// taken, with and without padding. What is neither is no token.
func decodeToken(text string) string {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return string(b)
}

// SetAdminToken changes the admin token; empty: none is accepted any more. Connections that the one before let in are closed:
// WebSockets with 1008, long polls with 403. It returns how many. The same token again changes nothing.
func (a *API) SetAdminToken(text string) (closed int) {
	next := newToken(text)
	g := &a.guests
	g.mu.Lock()
	if *a.token.Load() == next {
		g.mu.Unlock()
		return 0
	}
	a.token.Store(&next)
	ends := slices.Collect(maps.Values(g.ends))
	g.mu.Unlock()
	for _, end := range ends {
		end()
	}
	return len(ends)
}

// guests are the connections that the admin token let in. Those without a token may stay whatever it is.
type guests struct {
	mu   sync.Mutex // guards the rest, talk.gone, and changes of API.token; held for one map operation or a copy
	ends map[*talk]func()
}

// welcome notes who was let in by a token, and how to end its connection, which must not block. It is ended at once when the
// token has changed meanwhile.
func (a *API) welcome(t *talk, end func()) {
	if t.token == nil {
		return
	}
	g := &a.guests
	g.mu.Lock()
	valid := a.token.Load() == t.token
	if valid && !t.gone {
		if g.ends == nil {
			g.ends = map[*talk]func(){}
		}
		g.ends[t] = end
	}
	g.mu.Unlock()
	if !valid {
		end()
	}
}

// remove forgets a connection that has ended.
func (g *guests) remove(t *talk) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.gone = true
	delete(g.ends, t)
}
