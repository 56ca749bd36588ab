package web

import (
	"encoding/base64"
	"maps"
	"math"
	"net/http"
	"strings"
	"sync"
	"time"

	"killfeed/tokens"
	"killfeed/web/doors"
)

// keys are the tokens that are accepted. They never change, but for what they count: another set takes their place.
type keys struct {
	admin   *tokens.Set // the admin token alone
	named   *tokens.Set
	spent   map[string]*spent // by name, of the tokens that have a rate
	hasNone bool              // no token is accepted at all
}

// spent counts the requests of one token, whichever texts it has.
type spent struct {
	rate  float64
	limit doors.Limit

	mu     sync.Mutex // guards bucket
	bucket doors.Bucket
}

// adminName is what the admin token is called.
const adminName = "admin.token"

func newKeys(admin *tokens.Set, named *tokens.Set, before *keys) *keys {
	k := &keys{admin: admin, named: named, spent: map[string]*spent{}}
	k.hasNone = len(admin.All())+len(named.All()) == 0
	for _, t := range named.All() {
		switch {
		case t.Rate == 0 || k.spent[t.Name] != nil:
		case before != nil && before.spent[t.Name] != nil && before.spent[t.Name].rate == t.Rate:
			k.spent[t.Name] = before.spent[t.Name] // or a change of another token would be a fresh start for all
		default:
			burst := int(min(math.Ceil(5*t.Rate), math.MaxInt32))
			k.spent[t.Name] = &spent{rate: t.Rate, limit: doors.NewLimit(t.Rate, burst)}
		}
	}
	return k
}

// adminSet is a set of the admin token, none when it is empty.
func adminSet(text string) *tokens.Set {
	if text == "" {
		return nil
	}
	return tokens.NewSet([]tokens.Token{{Name: adminName, Sum: tokens.SumOf(text), Scopes: tokens.Admin}})
}

// find returns the token with the text, nil when there is none that is good.
func (k *keys) find(text string, now time.Time) *tokens.Token {
	if k.hasNone || text == "" {
		return nil
	}
	admin, named := k.admin.Find(text, now), k.named.Find(text, now)
	if admin != nil {
		return admin
	}
	return named
}

// stillGood tells whether a token that was found before may do now what it might then.
func (k *keys) stillGood(t *tokens.Token, now time.Time) bool {
	is := k.admin.Current(t.Sum, now)
	if is == nil {
		is = k.named.Current(t.Sum, now)
	}
	return is != nil && is.AllowsAs(t)
}

// spend counts a request of a token, or says how long it has to wait.
func (k *keys) spend(t *tokens.Token, now time.Time) (wait time.Duration, ok bool) {
	s := k.spent[t.Name]
	if s == nil {
		return 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bucket.Allow(s.limit, now)
}

// bearer is the token in a request's Authorization header, empty without one. Other schemes are somebody else's, such as a proxy's.
func bearer(r *http.Request) string {
	scheme, sent, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(sent)
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
// WebSockets with 1008, long polls with 403, streams without a word. It returns how many. The same token again changes nothing.
func (a *API) SetAdminToken(text string) (closed int) {
	return a.setKeys(func(k *keys) *keys { return newKeys(adminSet(text), k.named, k) })
}

// SetTokens changes the tokens beside the admin token. Connections that one let in which is there no more, or may do something
// else now, are closed as SetAdminToken closes them. It returns how many.
func (a *API) SetTokens(named *tokens.Set) (closed int) {
	return a.setKeys(func(k *keys) *keys { return newKeys(k.admin, named, k) })
}

func (a *API) setKeys(change func(*keys) *keys) (closed int) {
	a.visits.mu.Lock()
	a.keys.Store(change(a.keys.Load()))
	a.visits.mu.Unlock()
	return a.recheck(time.Now())
}

// visit is a connection that a token let in. Those without a token may stay whatever happens to tokens.
type visit struct {
	token *tokens.Token
	gone  bool   // it has ended; guarded by visits.mu
	end   func() // ends it, and must not block; guarded by visits.mu, nil until welcome
}

// newVisit is nil without a token.
func newVisit(t *tokens.Token) *visit {
	if t == nil {
		return nil
	}
	return &visit{token: t}
}

// visits are all of them.
type visits struct {
	mu   sync.Mutex // guards the rest, what visits say they guard by it, and changes of API.keys; held for a map operation or a copy
	open map[*visit]struct{}
}

// welcome notes how to end a connection. It is ended at once when its token is good no more by now.
func (a *API) welcome(v *visit, end func()) {
	if v == nil {
		return
	}
	s := &a.visits
	s.mu.Lock()
	good := a.keys.Load().stillGood(v.token, time.Now())
	if good && !v.gone {
		if s.open == nil {
			s.open = map[*visit]struct{}{}
		}
		v.end = end
		s.open[v] = struct{}{}
	}
	s.mu.Unlock()
	if !good {
		end()
	}
}

// leave forgets a connection that has ended.
func (a *API) leave(v *visit) {
	if v == nil {
		return
	}
	a.visits.mu.Lock()
	defer a.visits.mu.Unlock()
	v.gone = true
	delete(a.visits.open, v)
}

// recheck ends the connections whose tokens are good no more, and returns how many.
func (a *API) recheck(now time.Time) int {
	s := &a.visits
	s.mu.Lock()
	if len(s.open) == 0 {
		s.mu.Unlock()
		return 0
	}
	k := a.keys.Load()
	var ends []func()
	for v := range maps.Keys(s.open) {
		if !k.stillGood(v.token, now) {
			ends = append(ends, v.end)
			delete(s.open, v)
		}
	}
	s.mu.Unlock()
	for _, end := range ends {
		end()
	}
	return len(ends)
}

// expire ends connections whose tokens have expired. It is called every second.
func (a *API) expire(now time.Time) {
	if n := a.recheck(now); n > 0 {
		a.log.Info("connections were closed because their tokens have expired", "connections", n)
	}
}
