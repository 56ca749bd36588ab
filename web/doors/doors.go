// Package doors tells callers apart by their addresses, and bounds how often each may call.
//
// # What it guarantees
//
// The address of a request is the connection's, unless that is a proxy that the operator trusts: only then is anything believed
// that a header says, and of that only what trusted proxies have added. A stranger can say of himself what he wants, and it
// changes nothing.
//
// Addresses of IPv6 count by their first 64 bits, because that is what one customer is given: he could have a new address for
// each request. Those that IPv6 wraps around one of IPv4 are that.
//
// The table of addresses is bounded. Who was not heard of for longest is forgotten first, which makes him as good as new; a flood
// from very many addresses therefore costs memory that is known beforehand.
//
// A connection from the machine itself is not bounded: what runs there may use up the machine anyway, and a proxy on it that is
// not trusted would have all of its callers share one bound. What such a connection forwards for somebody else, when it is
// trusted, is bounded as that somebody.
//
// # What callers owe
//
// Options.Trusted are proxies that add the address of who is connected to them to X-Forwarded-For or Forwarded, as all common ones
// do, and do not pass on both when they write only one.
package doors

import (
	"math"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Options bound callers. The zero value bounds nobody and trusts nobody.
type Options struct {
	// Trusted are the networks whose proxies are believed.
	Trusted []netip.Prefix
	// Rate is how many requests a second one address may make in the long run, and Burst how many at once after a pause; a
	// Burst of 0 is five seconds' worth. Rate 0: no limit.
	Rate, Burst int
	// Most is how many addresses are remembered; 0: DefaultMost.
	Most int
}

// DefaultMost is some 8 MB.
const DefaultMost = 1 << 16

// Doors know callers. All methods may be called concurrently.
type Doors struct {
	trusted []netip.Prefix
	limit   Limit
	shards  [16]shard
}

// New makes Doors.
func New(o Options) *Doors {
	if o.Burst == 0 {
		o.Burst = 5 * o.Rate
	}
	if o.Most == 0 {
		o.Most = DefaultMost
	}
	d := &Doors{trusted: o.Trusted, limit: NewLimit(float64(o.Rate), o.Burst)}
	for i := range d.shards {
		d.shards[i].most = max(1, o.Most/len(d.shards))
		d.shards[i].known = map[netip.Addr]*known{}
	}
	return d
}

// Caller is who a request is from, as far as addresses tell.
type Caller struct {
	// Addr is the address, without an IPv6 zone; invalid when the connection has none that could be read.
	Addr netip.Addr
	// Bounded tells whether the bounds hold for it.
	Bounded bool
}

// Key is what the caller is counted under: the address, or its network. It is the zero value for who is not bounded.
func (c Caller) Key() netip.Addr {
	switch {
	case !c.Bounded:
		return netip.Addr{}
	case !c.Addr.IsValid(): // all of them together: they must not be a way around
		return netip.IPv6Unspecified()
	case c.Addr.Is6():
		net, err := c.Addr.Prefix(64)
		if err != nil { // not reached: 64 bits are there
			return c.Addr
		}
		return net.Addr()
	}
	return c.Addr
}

// Caller tells who a request is from.
func (d *Doors) Caller(r *http.Request) Caller {
	peer, _ := parse(r.RemoteAddr)
	if len(d.trusted) == 0 || !d.trusts(peer) {
		return Caller{peer, !peer.IsLoopback()}
	}
	addr, forwarded := d.walk(peer, r.Header)
	return Caller{addr, forwarded || !peer.IsLoopback()}
}

func (d *Doors) trusts(a netip.Addr) bool {
	for _, p := range d.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// maxHops bounds how many proxies one request is followed through.
const maxHops = 32

// walk goes back from hop to hop, as far as those are trusted: each has added who was connected to it, at the right. Whatever
// stands further left was said by somebody who is not trusted. forwarded: a header said something.
func (d *Doors) walk(peer netip.Addr, h http.Header) (_ netip.Addr, forwarded bool) {
	next := fromRight(h["X-Forwarded-For"])
	read := parse
	if len(h["X-Forwarded-For"]) == 0 {
		next, read = fromRight(h["Forwarded"]), parseForwarded
	}
	for range maxHops {
		text, ok := next()
		if !ok {
			return peer, forwarded
		}
		hop, ok := read(text)
		if !ok { // "unknown", or nonsense: the last one that is known counts
			return peer, true
		}
		if peer, forwarded = hop, true; !d.trusts(hop) {
			return hop, true
		}
	}
	return peer, forwarded
}

// fromRight returns the elements of a header that is a list, the last one first.
func fromRight(values []string) func() (element string, ok bool) {
	i := len(values) - 1
	rest := ""
	if i >= 0 {
		rest = values[i]
	}
	return func() (string, bool) {
		if i < 0 {
			return "", false
		}
		comma := strings.LastIndexByte(rest, ',')
		element := strings.TrimSpace(rest[comma+1:])
		if comma >= 0 {
			rest = rest[:comma]
		} else if i--; i >= 0 {
			rest = values[i]
		}
		return element, true
	}
}

// parse reads an address with or without a port.
func parse(text string) (netip.Addr, bool) {
	at, err := netip.ParseAddrPort(text)
	addr := at.Addr()
	if err != nil {
		if addr, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err != nil {
			return netip.Addr{}, false
		}
	}
	return addr.Unmap().WithZone(""), true
}

// parseForwarded finds the address in an element of Forwarded (RFC 7239), as in for="[2001:db8::1]:4711";proto=https. A quoted
// value with a comma in it is cut in two before it comes here; neither half has an address then, and the search ends.
func parseForwarded(element string) (netip.Addr, bool) {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			return parse(strings.Trim(value, `"`))
		}
	}
	return netip.Addr{}, false
}

// shard is a part of the table, so that callers do not wait for each other.
type shard struct {
	most int

	mu    sync.Mutex // guards the rest; held for a map operation or two
	known map[netip.Addr]*known
	// newest and oldest are the ends of a list of what is known, by when it was heard of last.
	newest, oldest *known
}

type known struct {
	addr         netip.Addr
	bucket       Bucket
	newer, older *known
}

// Allow counts a request of a caller, or says how long he has to wait for the next. Those that are refused do not count.
func (d *Doors) Allow(key netip.Addr, now time.Time) (wait time.Duration, ok bool) {
	if d.limit.unlimited() || !key.IsValid() {
		return 0, true
	}
	s := d.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[key]
	if k == nil {
		if k = new(known); len(s.known) >= s.most {
			k = s.oldest
			s.unlink(k)
			delete(s.known, k.addr)
			*k = known{}
		}
		k.addr = key
		s.known[key] = k
		s.link(k)
	} else if s.newest != k {
		s.unlink(k)
		s.link(k)
	}
	return k.bucket.Allow(d.limit, now)
}

// Known is how many addresses are remembered.
func (d *Doors) Known() (n int) {
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		n += len(s.known)
		s.mu.Unlock()
	}
	return n
}

// shard spreads addresses by their last bits and, of a network, its last.
func (d *Doors) shard(key netip.Addr) *shard {
	b := key.As16()
	sum := b[7] ^ b[6] ^ b[13] ^ b[14] ^ b[15]
	return &d.shards[(sum^sum>>4)%byte(len(d.shards))]
}

func (s *shard) link(k *known) {
	k.older, k.newer = s.newest, nil
	if s.newest != nil {
		s.newest.newer = k
	} else {
		s.oldest = k
	}
	s.newest = k
}

func (s *shard) unlink(k *known) {
	if k.newer != nil {
		k.newer.older = k.older
	} else {
		s.newest = k.older
	}
	if k.older != nil {
		k.older.newer = k.newer
	} else {
		s.oldest = k.newer
	}
}

// Limit is how often something may be done. The zero value is no limit.
type Limit struct {
	every time.Duration // between two, in the long run
	ahead time.Duration // how far the count may be ahead of the clock
}

// NewLimit is a limit of so many a second, burst of them at once after a pause. A rate of 0 is no limit.
func NewLimit(rate float64, burst int) Limit {
	if rate <= 0 {
		return Limit{}
	}
	every := time.Duration(math.Min(float64(time.Second)/rate, float64(24*time.Hour)))
	every = max(every, 1)
	return Limit{every: every, ahead: every * time.Duration(max(burst, 1)-1)}
}

func (l Limit) unlimited() bool { return l.every == 0 }

// Bucket counts what is done under a Limit. It is one number, the time at which it is empty: a token bucket that is filled by
// reckoning. The zero value is a full one. It has no lock.
type Bucket struct{ empty int64 }

// Allow counts, or says how long to wait.
func (b *Bucket) Allow(l Limit, now time.Time) (wait time.Duration, ok bool) {
	if l.unlimited() {
		return 0, true
	}
	at := now.UnixNano()
	empty := max(b.empty, at)
	switch wait := time.Duration(empty-at) - l.ahead; {
	case wait > l.every: // more than there can be: the clock was set back
		empty = at
	case wait > 0:
		return wait, false
	}
	b.empty = empty + int64(l.every)
	return 0, true
}
