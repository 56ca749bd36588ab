package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
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
