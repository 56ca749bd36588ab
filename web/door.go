package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"killfeed/tokens"
	"killfeed/web/doors"
)

// This file decides who may call, before anything of a request is read but its head: by address, by token, by client name.

// scope says who may call an endpoint.
type scope uint8

const (
	// open is reading: everybody may, unless it was made to need a token; also other sites' pages.
	open scope = iota
	// public: everybody may, whatever reading needs. So are health, and what says nothing of the log. Sockets too: they have ways
	// of their own to bring a token, and see to it themselves.
	public
	// health: as public, and never refused: whoever asks it restarts a server that does not answer.
	health
	// plain: as public, but other sites' pages are not invited. Only OPTIONS of what always needs a token is so.
	plain
	// publish: who has a token to insert with.
	publish
	// admin: who has a token for everything.
	admin
)

// invites tells whether other sites' pages may call.
func (s scope) invites() bool { return s == open || s == public || s == health }

// needs are the tokens' scopes that a request needs, 0: none.
func (a *API) needs(s scope) tokens.Scopes {
	switch {
	case s == admin:
		return tokens.Admin
	case s == publish:
		return tokens.Publish
	case s == open && a.config.ReadTokens:
		return tokens.Read
	}
	return 0
}

// Reasons for which a request is refused here, for the metrics.
const (
	refusedAddress = "address_rate"
	refusedRate    = "token_rate"
	refusedNone    = "no_token"
	refusedWrong   = "wrong_token"
	refusedScope   = "scope"
	refusedClient  = "client"
	refusedURL     = "token_in_url"
	refusedSite    = "cross_site"
)

func newRefusals() *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "killfeed_http_refused_total", Help: "Requests that were refused before they were read, by reason.",
	}, []string{"reason"})
	for _, reason := range []string{
		refusedAddress, refusedRate, refusedNone, refusedWrong, refusedScope, refusedClient, refusedURL, refusedSite,
	} {
		v.WithLabelValues(reason)
	}
	return v
}

// turnAway makes a refusal and counts it.
func (a *API) turnAway(reason string, status int, format string, args ...any) *problem {
	a.refusals.WithLabelValues(reason).Inc()
	return refuse(status, format, args...)
}

// letIn decides whether a request may go on to its endpoint, and notes its token.
func (a *API) letIn(x *exchange, s scope, now time.Time) error {
	if s == health {
		return nil
	}
	if err := a.allowAddress(x.r, now); err != nil {
		return err
	}
	if err := a.tokenInURL(x.r, now); err != nil {
		return err
	}
	token, err := a.checkToken(x.r, a.needs(s), now)
	if err != nil {
		return err
	}
	x.token = token
	if s == admin || s == publish {
		return a.sameSite(x.r)
	}
	return nil
}

// allowAddress counts the request for its address.
func (a *API) allowAddress(r *http.Request, now time.Time) error {
	wait, ok := a.doors.Allow(a.doors.Caller(r).Key(), now)
	if ok {
		return nil
	}
	p := a.turnAway(refusedAddress, http.StatusTooManyRequests, "too many requests come from your address: ask less often, "+
		"with wait=30 in place of many polls, or use a stream")
	p.retryAfter = seconds(wait)
	return p
}

// seconds is a wait for Retry-After, rounded up.
func seconds(wait time.Duration) int { return int((wait + time.Second - 1) / time.Second) }

// bearerOf is the good token of a request, nil without one: whoever sends none, or one that is good no more, is a stranger.
func (a *API) bearerOf(r *http.Request) *tokens.Token {
	if r.Header["Authorization"] == nil {
		return nil
	}
	return a.keys.Load().find(bearer(r), time.Now())
}

// checkToken returns the request's token, nil without a good one, and an error when that is not enough, or it is used too often.
// Where no token is needed a wrong one is as none: tools send the token that they have to whatever they call.
func (a *API) checkToken(r *http.Request, needs tokens.Scopes, now time.Time) (*tokens.Token, error) {
	text := ""
	if r.Header["Authorization"] != nil {
		text = bearer(r)
	}
	if text == "" {
		if needs == 0 {
			return nil, nil
		}
		return nil, a.turnAway(refusedNone, http.StatusUnauthorized, "this needs %s, sent as 'Authorization: Bearer <token>'; %s",
			neededToken(needs), whereTokens(needs))
	}
	k := a.keys.Load()
	token := k.find(text, now)
	switch {
	case token == nil && needs == 0:
		return nil, nil
	case token == nil:
		return nil, a.turnAway(refusedWrong, http.StatusForbidden, "the token that was sent is not known here, or has expired, and this "+
			"needs %s; %s", neededToken(needs), whereTokens(needs))
	case needs != 0 && !token.Scopes.Has(needs):
		return nil, a.turnAway(refusedScope, http.StatusForbidden, "the token that was sent has the scope %s, and this needs %s; %s",
			token.Scopes, neededToken(needs), whereTokens(needs))
	}
	if wait, ok := k.spend(token, now); !ok {
		p := a.turnAway(refusedRate, http.StatusTooManyRequests, "the token that was sent is used too often: it may be %g times a second",
			token.Rate)
		p.retryAfter = seconds(wait)
		return nil, p
	}
	return token, nil
}

func neededToken(needs tokens.Scopes) string {
	if needs == tokens.Admin {
		return "the admin token"
	}
	return "a token with the scope " + needs.String()
}

func whereTokens(needs tokens.Scopes) string {
	if needs == tokens.Admin {
		return "it is in the file admin.token of the server's data directory"
	}
	return "whoever runs the server makes one with 'killfeed token create', or uses that in the file admin.token of its data directory"
}

// tokenInURL refuses a request with a token in its address. An address is written into histories and logs by whatever it passes,
// so a token that came that way is not to be used at all. Other members of the query that nobody knows are passed over, so one
// called only token has to have what looks like one.
func (a *API) tokenInURL(r *http.Request, now time.Time) error {
	if !strings.Contains(r.URL.RawQuery, "token") {
		return nil
	}
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		if !strings.Contains(name, "token") || value == "" {
			continue
		}
		if name != "access_token" && name != "auth_token" && name != "admin_token" {
			text, err := url.QueryUnescape(value)
			if err != nil || !tokens.LooksLike(text) && a.keys.Load().find(text, now) == nil {
				continue
			}
		}
		p := a.turnAway(refusedURL, http.StatusBadRequest, "a token does not belong into an address, which ends up in logs and histories: "+
			"send it as 'Authorization: Bearer <token>'. Take the one that was sent for known by others, and change it")
		p.Parameter = shorten(name)
		return p
	}
	return nil
}

// sameSite refuses what another site's page has a browser do. No token is ever sent by a browser itself, so that such a page has
// none; but a proxy may add one for whoever comes through it, and then this is all that is in the way.
func (a *API) sameSite(r *http.Request) error {
	if err := a.sites.Check(r); err != nil {
		return a.turnAway(refusedSite, http.StatusForbidden, "this is not for pages of other sites")
	}
	return nil
}

// reservedPrefixes are what the names of the server's own clients begin with: its webhooks, and the queues of RedisQ. Who reads as
// one of them takes from it what it has not had.
var reservedPrefixes = [...]string{"webhook:", "redisq:"}

// mayUse tells whether a caller may read, commit and seek as a client.
func (a *API) mayUse(t *tokens.Token, client string) error {
	if t != nil && t.Scopes.Has(tokens.Admin) {
		return nil
	}
	for _, own := range reservedPrefixes {
		if !strings.HasPrefix(client, own) {
			continue
		}
		status := http.StatusForbidden
		if t == nil {
			status = http.StatusUnauthorized
		}
		p := a.turnAway(refusedClient, status, "clients whose names begin with %s are the server's own: only the admin token may use them",
			own)
		p.Parameter, p.Value = "client_id", shorten(client)
		return p
	}
	return a.mayUseOwn(t, client)
}

// mayUseOwn is mayUse without the reserved names.
func (a *API) mayUseOwn(t *tokens.Token, client string) error {
	if t == nil || t.Uses(client) {
		return nil
	}
	p := a.turnAway(refusedClient, http.StatusForbidden, "the token that was sent is for clients whose names begin with %q", t.ClientPrefix)
	p.Parameter, p.Value, p.Accepted = "client_id", shorten(client), "a name that begins with "+t.ClientPrefix
	return p
}

// CheckClient tells whether the caller of a dialect may use a client that is called so there, which is bound as client ids are.
// The error is answered by Refuse, or as Status says.
func (a *API) CheckClient(r *http.Request, name string) error {
	return a.mayUseOwn(a.bearerOf(r), name)
}

// Address is where a request comes from: behind proxies that are trusted, whom they forward for. It is the zero Addr when that
// cannot be told.
func (a *API) Address(r *http.Request) netip.Addr { return a.doors.Caller(r).Addr }

// Admin has a handler serve only those who have the admin token, and no pages of other sites.
func (a *API) Admin(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{w: w, r: r}
		if err := a.letIn(x, admin, time.Now()); err != nil {
			w.Header()["Cache-Control"] = valueNoStore
			problemOf(err).send(x)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// invited are the headers that other sites' pages may send. A page that was given a token may read with it; what always needs a
// token is for none of them.
func (a *API) invited() string {
	if a.config.ReadTokens {
		return "Authorization, Content-Type, Last-Event-ID"
	}
	return "Content-Type, Last-Event-ID"
}

func newKnownAddresses(d *doors.Doors) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "killfeed_addresses", Help: "Addresses that are remembered because requests came from them.",
	}, func() float64 { return float64(d.Known()) })
}

// newDoors are those of a configuration without any.
func newDoors(d *doors.Doors) *doors.Doors {
	if d == nil {
		return doors.New(doors.Options{})
	}
	return d
}
