package doors_test

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"killfeed/web/doors"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func networks(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func request(peer string, headers ...string) *http.Request {
	r := &http.Request{RemoteAddr: peer, Header: http.Header{}}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// TestCaller: what a header says counts as far as trusted proxies have added it, from the right, and no further.
func TestCaller(t *testing.T) {
	const xff, fwd = "X-Forwarded-For", "Forwarded"
	trusted := networks("10.0.0.0/8", "127.0.0.1/32", "2001:db8:ffff::/48")
	for _, c := range []struct {
		name    string
		trusted []netip.Prefix
		request *http.Request
		addr    string // empty: none
		bounded bool
	}{
		{"nobody is trusted", nil, request("10.0.0.1:1", xff, "192.0.2.1"), "10.0.0.1", true},
		{"this machine", nil, request("127.0.0.1:1"), "127.0.0.1", false},
		{"this machine by IPv6", nil, request("[::1]:1"), "::1", false},
		{"this machine, which nobody trusts", nil, request("127.0.0.1:1", xff, "192.0.2.1"), "127.0.0.1", false},
		{"IPv4 in IPv6", nil, request("[::ffff:192.0.2.1]:1"), "192.0.2.1", true},
		{"this machine by IPv4 in IPv6", nil, request("[::ffff:127.0.0.1]:1"), "127.0.0.1", false},
		{"with a zone", nil, request("[fe80::1%eth0]:1"), "fe80::1", true},
		{"no address", nil, request("memory"), "", true},
		{"nothing", nil, request(""), "", true},

		{"a stranger who says something", trusted, request("192.0.2.9:1", xff, "192.0.2.1"), "192.0.2.9", true},
		{"a stranger who says that he is this machine", trusted, request("192.0.2.9:1", xff, "127.0.0.1"), "192.0.2.9", true},
		{"a proxy that says nothing", trusted, request("10.0.0.1:1"), "10.0.0.1", true},
		{"a proxy", trusted, request("10.0.0.1:1", xff, "192.0.2.1"), "192.0.2.1", true},
		{"a proxy and what a stranger said", trusted, request("10.0.0.1:1", xff, "198.51.100.1, 192.0.2.1"), "192.0.2.1", true},
		{"a stranger in two headers", trusted, request("10.0.0.1:1", xff, "198.51.100.1", xff, "192.0.2.1"), "192.0.2.1", true},
		{"a stranger who says that he is a proxy", trusted, request("10.0.0.1:1", xff, "198.51.100.1, 10.0.0.7, 192.0.2.1"), "192.0.2.1", true},
		{"two proxies", trusted, request("10.0.0.1:1", xff, "198.51.100.1, 192.0.2.1,10.0.0.2"), "192.0.2.1", true},
		{"proxies alone", trusted, request("10.0.0.1:1", xff, "10.0.0.3, 10.0.0.2"), "10.0.0.3", true},
		{"a proxy on this machine", trusted, request("127.0.0.1:1", xff, "192.0.2.1"), "192.0.2.1", true},
		{"a proxy on this machine that says nothing", trusted, request("127.0.0.1:1"), "127.0.0.1", false},
		{"a proxy for this machine", trusted, request("127.0.0.1:1", xff, "127.0.0.1"), "127.0.0.1", true},
		{"with a port", trusted, request("10.0.0.1:1", xff, "192.0.2.1:4711"), "192.0.2.1", true},
		{"IPv6 with a port", trusted, request("10.0.0.1:1", xff, "[2001:db8::1]:4711"), "2001:db8::1", true},
		{"a proxy of IPv6", trusted, request("[2001:db8:ffff::5]:1", xff, "2001:db8::1"), "2001:db8::1", true},
		{"nonsense at the right", trusted, request("10.0.0.1:1", xff, "192.0.2.1, unknown"), "10.0.0.1", true},
		{"nonsense on this machine", trusted, request("127.0.0.1:1", xff, "unknown"), "127.0.0.1", true},
		{"an empty header", trusted, request("10.0.0.1:1", xff, ""), "10.0.0.1", true},
		{"commas", trusted, request("10.0.0.1:1", xff, "192.0.2.1,,"), "10.0.0.1", true},

		{"Forwarded", trusted, request("10.0.0.1:1", fwd, `for=192.0.2.1;proto=https;by=10.0.0.1`), "192.0.2.1", true},
		{"Forwarded of IPv6", trusted, request("10.0.0.1:1", fwd, `proto=https; For="[2001:db8::1]:4711"`), "2001:db8::1", true},
		{"Forwarded twice", trusted, request("10.0.0.1:1", fwd, `for=198.51.100.1, for=192.0.2.1`, fwd, "for=10.0.0.4"), "192.0.2.1", true},
		{"Forwarded by nobody", trusted, request("10.0.0.1:1", fwd, `for=_hidden`), "10.0.0.1", true},
		{"Forwarded without for", trusted, request("10.0.0.1:1", fwd, `by=192.0.2.1`), "10.0.0.1", true},
		{"a comma in quotes", trusted, request("10.0.0.1:1", fwd, `for=192.0.2.1;x="a,for=198.51.100.1"`), "198.51.100.1", true},
		{"both", trusted, request("10.0.0.1:1", fwd, `for=198.51.100.1`, xff, "192.0.2.1"), "192.0.2.1", true},
	} {
		got := doors.New(doors.Options{Trusted: c.trusted}).Caller(c.request)
		text := ""
		if got.Addr.IsValid() {
			text = got.Addr.String()
		}
		if text != c.addr || got.Bounded != c.bounded {
			t.Errorf("%s: %s, bounded %v; want %s, %v", c.name, text, got.Bounded, c.addr, c.bounded)
		}
		if key := got.Key(); key.IsValid() != c.bounded {
			t.Errorf("%s: the key is %v, bounded %v", c.name, key, c.bounded)
		}
	}
}

// TestForgery: whatever a stranger writes before what the proxy adds, he is who the proxy says.
func TestForgery(t *testing.T) {
	d := doors.New(doors.Options{Trusted: networks("10.0.0.0/8")})
	rapid.Check(t, func(t *rapid.T) {
		said := rapid.SliceOf(rapid.OneOf(
			rapid.SampledFrom([]string{"10.0.0.1", "127.0.0.1", "192.0.2.7", "unknown", "", ",", `"`, "[", "::1", "for=10.0.0.1"}),
			rapid.String(),
		)).Draw(t, "said")
		r := request("10.0.0.1:1")
		for _, value := range said {
			r.Header.Add("X-Forwarded-For", value)
		}
		if rapid.Bool().Draw(t, "one line") {
			r.Header.Set("X-Forwarded-For", strings.Join(append(said, "192.0.2.1"), ", "))
		} else {
			r.Header.Add("X-Forwarded-For", "192.0.2.1")
		}
		if got := d.Caller(r); got.Addr.String() != "192.0.2.1" || !got.Bounded {
			t.Fatalf("he is %v", got)
		}
	})
}

// TestHops: a header of thousands of trusted addresses is not followed for ever.
func TestHops(t *testing.T) {
	d := doors.New(doors.Options{Trusted: networks("10.0.0.0/8")})
	r := request("10.0.0.1:1", "X-Forwarded-For", "192.0.2.1"+strings.Repeat(",10.0.0.2", 5000))
	if got := d.Caller(r).Addr.String(); got != "10.0.0.2" {
		t.Errorf("it is %s", got)
	}
}

// TestKey: one network of IPv6 is one caller, and neighbours of IPv4 are two.
func TestKey(t *testing.T) {
	d := doors.New(doors.Options{})
	key := func(peer string) netip.Addr { return d.Caller(request(peer)).Key() }
	if a, b := key("[2001:db8:1:2::1]:1"), key("[2001:db8:1:2:ffff::9]:7"); a != b {
		t.Errorf("%v and %v are two", a, b)
	}
	for _, c := range [][2]string{
		{"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1"}, {"192.0.2.1:1", "192.0.2.2:1"}, {"192.0.2.1:1", "nowhere"},
	} {
		if key(c[0]) == key(c[1]) {
			t.Errorf("%s and %s are one", c[0], c[1])
		}
	}
	if key("192.0.2.1:1") != key("[::ffff:192.0.2.1]:2") {
		t.Error("the same address of IPv4 is two")
	}
	if key("nowhere") != key("memory") || !key("nowhere").IsValid() {
		t.Error("who has no address is not bounded with his like")
	}
}

func TestAllow(t *testing.T) {
	d := doors.New(doors.Options{Rate: 10, Burst: 3})
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	at := now
	allow := func(key netip.Addr, want time.Duration) {
		t.Helper()
		if wait, ok := d.Allow(key, at); ok != (want == 0) || wait != want {
			t.Fatalf("at %v: wait %v, %v; want %v", at.Sub(now), wait, ok, want)
		}
	}
	for range 3 {
		allow(one, 0)
	}
	allow(one, 100*time.Millisecond)
	allow(one, 100*time.Millisecond) // who is refused does not wait longer for that
	allow(other, 0)
	for range 100 {
		allow(netip.Addr{}, 0) // who is not bounded
	}
	at = at.Add(60 * time.Millisecond)
	allow(one, 40*time.Millisecond)
	at = at.Add(40 * time.Millisecond)
	allow(one, 0)
	allow(one, 100*time.Millisecond)
	at = at.Add(time.Hour) // no more than the burst gathers
	for range 3 {
		allow(one, 0)
	}
	allow(one, 100*time.Millisecond)
	at = at.Add(-2 * time.Hour) // a clock that is set back locks nobody out
	allow(one, 0)
	if d.Known() != 2 {
		t.Errorf("%d are known", d.Known())
	}
}

// TestRateHolds: in any time no more are allowed than the rate and the burst say, and no fewer when enough ask.
func TestRateHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate, burst := rapid.IntRange(1, 1000).Draw(t, "rate"), rapid.IntRange(1, 50).Draw(t, "burst")
		limit := doors.NewLimit(float64(rate), burst)
		var b doors.Bucket
		at, allowed := now, 0
		for range rapid.IntRange(1, 300).Draw(t, "asked") {
			at = at.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "µs")) * time.Microsecond)
			wait, ok := b.Allow(limit, at)
			if ok {
				allowed++
			} else if again := b; true {
				if _, ok := again.Allow(limit, at.Add(wait-1)); ok {
					t.Fatalf("he is told to wait %v, and less is enough", wait)
				}
				if _, ok := again.Allow(limit, at.Add(wait)); !ok {
					t.Fatalf("he is told to wait %v, and that is not enough", wait)
				}
			}
			if most := burst + int(at.Sub(now).Seconds()*float64(rate)*1.001) + 1; allowed > most {
				t.Fatalf("%d within %v, want at most %d", allowed, at.Sub(now), most)
			}
		}
	})
}

// TestTableIsBounded: a flood from many addresses is no more memory than was said, and whoever goes on asking is not forgotten.
func TestTableIsBounded(t *testing.T) {
	const most = 1024
	d := doors.New(doors.Options{Rate: 1, Burst: 1, Most: most})
	regular := netip.MustParseAddr("192.0.2.1")
	d.Allow(regular, now)
	for i := range 20 * most {
		flood := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if _, ok := d.Allow(flood, now); !ok {
			t.Fatalf("%v is refused at once", flood)
		}
		if i%16 == 0 {
			if _, ok := d.Allow(regular, now); ok {
				t.Fatalf("after %d others he is forgotten", i)
			}
		}
	}
	if n := d.Known(); n > most {
		t.Errorf("%d are known, want at most %d", n, most)
	}
}

// TestTableIsAList: whatever comes in whatever order, those are known that were heard of last.
func TestTableIsAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := doors.New(doors.Options{Rate: 1, Burst: 1, Most: 16 * 3})
		var order []netip.Addr // of one shard, the newest last
		for range rapid.IntRange(1, 60).Draw(t, "asked") {
			key := netip.AddrFrom4([4]byte{192, 0, 0, byte(16 * rapid.IntRange(0, 7).Draw(t, "key"))})
			key = netip.AddrFrom4([4]byte{192, 0, key.As4()[3], key.As4()[3]}) // all in one shard
			at := -1
			for i, k := range order {
				if k == key {
					at = i
				}
			}
			if _, fresh := d.Allow(key, now); fresh != (at < 0) {
				t.Fatalf("%v of %v is new: %v", key, order, fresh)
			}
			if at >= 0 {
				order = append(order[:at:at], order[at+1:]...)
			}
			if order = append(order, key); len(order) > 3 {
				order = order[1:]
			}
			if d.Known() != len(order) {
				t.Fatalf("%d are known, want %v", d.Known(), order)
			}
		}
	})
}

func TestConcurrently(t *testing.T) {
	const rate, each, callers = 1000, 200, 8
	d := doors.New(doors.Options{Rate: rate, Burst: rate, Most: 64})
	var (
		all     sync.WaitGroup
		mu      sync.Mutex
		allowed int
	)
	for range callers {
		all.Go(func() {
			n := 0
			for range each {
				if _, ok := d.Allow(netip.MustParseAddr("192.0.2.1"), now); ok {
					n++
				}
				d.Known()
			}
			mu.Lock()
			allowed += n
			mu.Unlock()
		})
	}
	all.Wait()
	if allowed != rate {
		t.Errorf("%d were allowed, want %d", allowed, rate)
	}
}

func TestNoLimit(t *testing.T) {
	d := doors.New(doors.Options{})
	for range 10_000 {
		if wait, ok := d.Allow(netip.MustParseAddr("192.0.2.1"), now); !ok || wait != 0 {
			t.Fatal("bounded without a bound")
		}
	}
	if d.Known() != 0 {
		t.Errorf("%d are known for nothing", d.Known())
	}
}

// TestTinyRates: rates below one a second hold too, and none is so small that it overflows.
func TestTinyRates(t *testing.T) {
	for rate, want := range map[float64]time.Duration{0.5: 2 * time.Second, 1.0 / 60: time.Minute, 1e-12: 24 * time.Hour} {
		limit := doors.NewLimit(rate, 1)
		var b doors.Bucket
		b.Allow(limit, now)
		if wait, ok := b.Allow(limit, now); ok || (wait-want).Abs() > time.Microsecond {
			t.Errorf("%v a second: wait %v, want %v", rate, wait, want)
		}
	}
}

func FuzzCaller(f *testing.F) {
	f.Add("10.0.0.1:1", "192.0.2.1, 10.0.0.2", `for="[2001:db8::1]:1", for=_x;by=y`)
	d := doors.New(doors.Options{Trusted: networks("10.0.0.0/8", "fd00::/8")})
	f.Fuzz(func(t *testing.T, peer, xff, forwarded string) {
		r := request(peer, "Forwarded", forwarded)
		if xff != "" {
			r.Header.Set("X-Forwarded-For", xff)
		}
		c := d.Caller(r)
		if c.Addr.Is4In6() || c.Addr.Zone() != "" {
			t.Errorf("%v is one address in two forms", c.Addr)
		}
		c.Key()
	})
}

func BenchmarkAllow(b *testing.B) {
	d := doors.New(doors.Options{Rate: 1 << 20})
	r := request("192.0.2.1:4711")
	b.ReportAllocs()
	for b.Loop() {
		d.Allow(d.Caller(r).Key(), now)
	}
}
