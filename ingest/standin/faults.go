package standin

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Fault is one way to misbehave. Each strikes numbers, once and for all when they are published, or requests, or websockets.
type Fault string

// Faults that strike sequence numbers.
const (
	// Hole: the file of a number never appears. (History, RedisQ and the websocket have the killmail.)
	Hole Fault = "hole"
	// Late: the file of a number appears For later (20 s), while later ones are there already. As upstream, it is then
	// announced by sequence_updated in a newer file.
	Late Fault = "late"
	// Reupload: For after its publication (30 s) the file of a number is written again, with the label "ganked" and a new
	// uploaded_at. The next file at the head announces it by sequence_updated, one number a file.
	Reupload Fault = "reupload"
)

// Faults that strike requests instead of an answer. The first that strikes is the one. With For, everything asked of the
// same service, of the kinds it can strike, fares the same for so long.
const (
	// Hang: no answer for For (1 min) or until the client gives up, then the connection is cut.
	Hang Fault = "hang"
	// Forbidden is a 403.
	Forbidden Fault = "forbidden"
	// TooMany is a 429, with Retry-After when RetryAfter is set.
	TooMany Fault = "too_many"
	// ServerError is Status; 0 means one of 500, 502, 503 and 504.
	ServerError Fault = "server_error"
	// NotFound is a 404 for what is there. It strikes files and the pointer, and what else Kinds says.
	NotFound Fault = "not_found"
	// HTML is a page in HTML with the status 200.
	HTML Fault = "html"
)

// Faults that strike answers. Several may strike the same one, but only the first of the last five.
const (
	// Stale: the answer is what it was For ago (10 min): an old pointer, a file before it was written again, a 404 for what is
	// there by now. It strikes all of R2Z2. Static data is what it was before its latest build.
	Stale Fault = "stale"
	// Slow: the body comes in eight pieces, For apart (1 s). It strikes static data and ESI.
	Slow Fault = "slow"
	// Skew: the clock that writes the Date header and uploaded_at is wrong by For (5 min); negative is behind.
	Skew Fault = "skew"
	// WrongNames: names are answered with those of ids that nobody asked about, and with some that cannot be shown.
	WrongNames Fault = "wrong_names"
	// WrongSequence: a number is answered with the file of another one, or at least with another sequence_id.
	WrongSequence Fault = "wrong_sequence"
	// InvalidJSON: the body has a byte in it that makes it no JSON.
	InvalidJSON Fault = "invalid_json"
	// Truncated: the body lacks its last third, though HTTP says it is whole.
	Truncated Fault = "truncated"
	// Cut: the connection breaks in the middle of the body.
	Cut Fault = "cut"
)

// Faults that strike messages of the websocket.
const (
	// SocketDrop: the connection breaks instead of the message.
	SocketDrop Fault = "socket_drop"
	// SocketSilent: the connection stays open, and nothing comes on it for For; 0 means never again. What is published in that
	// time is lost to it.
	SocketSilent Fault = "socket_silent"
)

// refusals and damages are the order in which faults of these sorts are tried.
func refusals() []Fault { return []Fault{Hang, Forbidden, TooMany, ServerError, NotFound, HTML} }
func damages() []Fault  { return []Fault{WrongNames, WrongSequence, InvalidJSON, Truncated, Cut} }

// Faults are the faults that are switched on.
type Faults map[Fault]Strike

// Strike says when a fault strikes: when any of Chance, Next and Numbers says so. The zero value never does.
//
// In JSON durations are texts as in "1m30s".
type Strike struct {
	// Chance is the probability for each number, request or message, 0 to 1.
	Chance float64
	// Next is how many of the next numbers, requests or messages it strikes for sure.
	Next int
	// Numbers are sequence numbers that it always strikes, or whose requests.
	Numbers []int64
	// Kinds are the kinds of requests that it strikes; nil means all that the fault can.
	Kinds []Kind
	// For is a duration whose meaning depends on the fault; 0 means the default in brackets there.
	For time.Duration
	// RetryAfter is for TooMany, in whole seconds.
	RetryAfter time.Duration
	// Status is for ServerError, 500 to 599.
	Status int
}

// strikeJSON is Strike in JSON.
type strikeJSON struct {
	Chance     float64 `json:"chance,omitempty"`
	Next       int     `json:"next,omitempty"`
	Numbers    []int64 `json:"numbers,omitempty"`
	Kinds      []Kind  `json:"kinds,omitempty"`
	For        string  `json:"for,omitempty"`
	RetryAfter string  `json:"retry_after,omitempty"`
	Status     int     `json:"status,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (s Strike) MarshalJSON() ([]byte, error) {
	j := strikeJSON{Chance: s.Chance, Next: s.Next, Numbers: s.Numbers, Kinds: s.Kinds, Status: s.Status}
	if s.For != 0 {
		j.For = s.For.String()
	}
	if s.RetryAfter != 0 {
		j.RetryAfter = s.RetryAfter.String()
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements json.Unmarshaler. Unknown members are errors.
func (s *Strike) UnmarshalJSON(data []byte) (err error) {
	var j strikeJSON
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return err
	}
	*s = Strike{Chance: j.Chance, Next: j.Next, Numbers: j.Numbers, Kinds: j.Kinds, Status: j.Status}
	if j.For != "" {
		if s.For, err = time.ParseDuration(j.For); err != nil {
			return err
		}
	}
	if j.RetryAfter != "" {
		s.RetryAfter, err = time.ParseDuration(j.RetryAfter)
	}
	return err
}

// armed is s with defaults for the fault.
func (s Strike) armed(fault Fault) (Strike, error) {
	var kinds []Kind
	var during time.Duration
	switch fault {
	case Hole:
	case Late:
		during = 20 * time.Second
	case Reupload:
		during = 30 * time.Second
	case Hang:
		kinds, during = allKinds(), time.Minute
	case Forbidden, TooMany, ServerError, HTML:
		kinds = allKinds()
	case NotFound:
		kinds = []Kind{KindFile, KindPointer}
	case Stale:
		kinds, during = []Kind{KindFile, KindPointer, KindHistory, KindTotals, KindStatic}, 10*time.Minute
	case Slow:
		kinds, during = []Kind{KindStatic, KindESI, KindNames, KindDetails}, time.Second
	case Skew:
		kinds, during = allKinds(), 5*time.Minute
	case WrongNames:
		kinds = []Kind{KindNames}
	case WrongSequence:
		kinds = []Kind{KindFile}
	case InvalidJSON, Truncated, Cut:
		kinds = slices.DeleteFunc(allKinds(), func(k Kind) bool { return k == KindSocket })
	case SocketDrop, SocketSilent:
		kinds = []Kind{KindSocket}
	default:
		return s, fmt.Errorf("fault %.40q is not known", fault)
	}
	if !(s.Chance >= 0 && s.Chance <= 1) {
		return s, fmt.Errorf("fault %s: chance %v is not accepted: want 0 to 1", fault, s.Chance)
	}
	if s.Next < 0 || s.For < 0 && fault != Skew {
		return s, fmt.Errorf("fault %s: next %d and for %v are not accepted: want 0 or more", fault, s.Next, s.For)
	}
	if s.RetryAfter < 0 || s.RetryAfter%time.Second != 0 {
		return s, fmt.Errorf("fault %s: retry after %v is not accepted: want whole seconds", fault, s.RetryAfter)
	}
	if s.Status != 0 && (s.Status < 500 || s.Status > 599) {
		return s, fmt.Errorf("fault %s: status %d is not accepted: want 500 to 599", fault, s.Status)
	}
	if len(s.Kinds) > 0 {
		for _, k := range s.Kinds {
			if !slices.Contains(allKinds(), k) || kinds != nil && fault != NotFound && !slices.Contains(kinds, k) {
				return s, fmt.Errorf("fault %s: it does not strike requests of kind %.40q", fault, k)
			}
		}
		kinds = s.Kinds
	}
	s.Kinds = kinds
	if s.For == 0 {
		s.For = during
	}
	s.Numbers = slices.Clone(s.Numbers)
	return s, nil
}

// switchboard holds the faults and decides when they strike.
type switchboard struct {
	seed uint64

	mu sync.Mutex // guards the rest
	on map[Fault]*Strike
	// storms are the faults that go on for a while, and until when.
	storms map[storm]time.Time
	// tries counts the requests for each path, by its hash.
	tries map[uint64]uint64
	// struck counts how often each fault has.
	struck map[Fault]int64
}

type storm struct {
	fault   Fault
	service Service
}

// maxTries bounds the paths that are counted. Further ones count as asked for the first time.
const maxTries = 1 << 20

func newSwitchboard(seed uint64, faults Faults) *switchboard {
	b := &switchboard{
		seed: seed, on: map[Fault]*Strike{}, storms: map[storm]time.Time{}, tries: map[uint64]uint64{}, struck: map[Fault]int64{},
	}
	for fault, strike := range faults {
		s, _ := strike.armed(fault) // Config.validate has looked at it
		b.on[fault] = &s
	}
	return b
}

// set switches faults on or, where the strike is nil, off. It changes all or, with an error, none.
func (b *switchboard) set(changes map[Fault]*Strike) error {
	armed := map[Fault]*Strike{}
	for fault, strike := range changes {
		if strike == nil {
			strike = &Strike{}
		}
		s, err := strike.armed(fault)
		if err != nil {
			return err
		}
		if strike.Chance > 0 || strike.Next > 0 || len(strike.Numbers) > 0 {
			armed[fault] = &s
		} else {
			armed[fault] = nil
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for fault, strike := range armed {
		if strike == nil {
			delete(b.on, fault)
		} else {
			b.on[fault] = strike
		}
		maps.DeleteFunc(b.storms, func(s storm, _ time.Time) bool { return s.fault == fault })
	}
	return nil
}

func (b *switchboard) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.on)
	clear(b.storms)
}

func (b *switchboard) faults() Faults {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := Faults{}
	for fault, s := range b.on {
		strike := *s
		strike.Numbers, strike.Kinds = slices.Clone(s.Numbers), slices.Clone(s.Kinds)
		all[fault] = strike
	}
	return all
}

// counts returns how often each fault has struck.
func (b *switchboard) counts() map[Fault]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.struck)
}

func (b *switchboard) resetCounts() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.struck)
}

// number decides whether a fault strikes a number that is being published.
func (b *switchboard) number(fault Fault, number int64) (Strike, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.decide(fault, "", number, hashText("number"), uint64(number))
}

// message decides whether a fault strikes the n-th message of a connection.
func (b *switchboard) message(fault Fault, connection, n uint64) (Strike, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.decide(fault, KindSocket, 0, mix(connection)^hashText("message"), n)
}

// verdict is how a request fares.
type verdict struct {
	refuse      Fault // empty: not
	strike      Strike
	stale, skew time.Duration
	slow        time.Duration // between pieces
	draw        uint64        // for choices of the fault's own
	key, try    uint64        // the path and how many requests it has had before
}

// request decides how a request for a path fares.
func (b *switchboard) request(kind Kind, path string, number int64, now time.Time) (v verdict) {
	key := hashText(path)
	b.mu.Lock()
	defer b.mu.Unlock()
	try, known := b.tries[key]
	if known || len(b.tries) < maxTries {
		b.tries[key] = try + 1
	}
	v.key, v.try, v.draw = key, try, mix(b.seed^key^mix(try))
	for _, fault := range refusals() {
		if s := b.on[fault]; s != nil && slices.Contains(s.Kinds, kind) &&
			now.Before(b.storms[storm{fault, kind.Service()}]) {
			b.struck[fault]++
			v.refuse, v.strike = fault, *s
			return v
		}
	}
	for _, fault := range refusals() {
		if s, ok := b.decide(fault, kind, number, key, try); ok {
			if s.For > 0 && fault != Hang {
				b.storms[storm{fault, kind.Service()}] = now.Add(s.For)
			}
			v.refuse, v.strike = fault, s
			return v
		}
	}
	if s, ok := b.decide(Stale, kind, number, key, try); ok {
		v.stale = s.For
	}
	if s, ok := b.decide(Skew, kind, number, key, try); ok {
		v.skew = s.For
	}
	if s, ok := b.decide(Slow, kind, number, key, try); ok {
		v.slow = s.For
	}
	return v
}

// damage decides whether a good answer is spoilt; empty: it is not. It is asked when there is something to spoil, so that no
// strike is wasted.
func (b *switchboard) damage(kind Kind, number int64, v verdict) Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fault := range damages() {
		if _, ok := b.decide(fault, kind, number, v.key, v.try); ok {
			return fault
		}
	}
	return ""
}

// decide draws for one fault and counts. An empty kind is that of numbers. The caller holds b.mu.
func (b *switchboard) decide(fault Fault, kind Kind, number int64, key, n uint64) (Strike, bool) {
	s := b.on[fault]
	if s == nil || kind != "" && !slices.Contains(s.Kinds, kind) {
		return Strike{}, false
	}
	const unit = 1 << 53 // what a float64 tells apart
	switch {
	case number != 0 && slices.Contains(s.Numbers, number):
	case s.Next > 0:
		s.Next--
	case float64(mix(b.seed^hashText(string(fault))^mix(key^mix(n)))>>11) < s.Chance*unit:
	default:
		return Strike{}, false
	}
	b.struck[fault]++
	return *s, true
}

// mix is the finalizer of splitmix64: every bit of the result depends on every bit of x.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func hashText(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}
