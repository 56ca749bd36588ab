// Package pack takes killmails apart as R2Z2 and RedisQ show them: ESI's body, and zKillboard's part beside it.
//
// # What it guarantees
//
// The bytes of both are those that were received; none is encoded again. What an envelope needs and zkb lacks, the hash and the
// address at ESI, is added to zkb, and so is the only thing that may differ.
//
// # What callers owe
//
// Event.Killmail is canonical: an object without insignificant white space, as every Feed has it. What is returned is shared and
// must not be modified.
package pack

import (
	"bytes"
	"strconv"
	"strings"
	"sync/atomic"

	"killfeed"
)

// Mail is a killmail taken apart. It never changes.
type Mail struct {
	// ID is the killmail id.
	ID int64
	// Hash is 40 lower-case hex digits; empty when it is not known and cannot be computed.
	Hash string
	// ESI is the body as ESI gives it, ZKB zKillboard's part, an object at least. With a Hash it has hash and href.
	ESI, ZKB []byte
	// HREF is where ESI has the killmail, empty without a Hash. It always is ESI's: what zkb says is in the hands of whoever
	// sent it, and nobody shall be redirected to a place of his choice.
	HREF string
}

const esi = "https://esi.evetech.net/"

// Open takes an event's killmail apart; nil when it has no id, because then no envelope can show it.
func Open(e *killfeed.Event) *Mail {
	if e.KillmailID == 0 {
		return nil
	}
	m := &Mail{ID: e.KillmailID}
	text := e.Killmail
	zkb, ok := find(text, "zkb")
	hash := ""
	if ok {
		hash = hashIn(text[zkb.value:zkb.end])
	}
	if hash == "" {
		// It finds no more than there is: a hash that was known is in zkb since the killmail was inserted.
		k := killfeed.Killmail{JSON: text}
		if k.AddHash() == nil {
			hash, text = k.Hash, k.JSON
			zkb, ok = find(text, "zkb")
		}
	}
	m.Hash = hash
	m.ESI, m.ZKB = text, []byte("{}")
	if ok {
		m.ESI = without(text, zkb)
		m.ZKB = text[zkb.value:zkb.end:zkb.end]
	}
	if hash != "" {
		m.HREF = esi + "killmails/" + strconv.FormatInt(m.ID, 10) + "/" + hash + "/"
		m.link()
	}
	return m
}

// link sees to it that zkb says where ESI has the killmail, and takes over what it says, if that is ESI's.
func (m *Mail) link() {
	href, ok := find(m.ZKB, "href")
	if !ok {
		more := `,"href":"`
		if len(m.ZKB) == len("{}") {
			more = more[1:]
		}
		b := append(make([]byte, 0, len(m.ZKB)+len(more)+len(m.HREF)+2), m.ZKB[:len(m.ZKB)-1]...)
		m.ZKB = append(append(append(b, more...), m.HREF...), `"}`...)
		return
	}
	said := m.ZKB[href.value:href.end]
	if given := string(bytes.ReplaceAll(bytes.Trim(said, `"`), []byte(`\/`), []byte("/"))); plain(given) && strings.HasPrefix(given, esi) {
		m.HREF = given
	}
	if said[0] != '"' || len(said) == len(`""`) {
		b := append(make([]byte, 0, len(m.ZKB)+len(m.HREF)+2), m.ZKB[:href.value]...)
		b = append(append(append(b, '"'), m.HREF...), '"')
		m.ZKB = append(b, m.ZKB[href.end:]...)
	}
}

// plain tells whether text is what can be in an address without being escaped.
func plain(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

// hashIn is the hash that zkb has, empty when it has none.
func hashIn(zkb []byte) string {
	m, ok := find(zkb, "hash")
	if !ok || m.end-m.value != len(`""`)+40 || zkb[m.value] != '"' {
		return ""
	}
	hash := strings.ToLower(string(zkb[m.value+1 : m.end-1]))
	if strings.Trim(hash, "0123456789abcdef") != "" {
		return ""
	}
	return hash
}

// member is where a member of an object is in the object's text: from its name to the end of its value.
type member struct{ name, value, end int }

// find finds the member of an object by its name, the last one of that name, which is the one that readers of JSON take. It is
// false when text is no object.
func find(text []byte, name string) (found member, ok bool) {
	if len(text) == 0 || text[0] != '{' {
		return found, false
	}
	for i := 1; i < len(text) && text[i] != '}'; {
		if text[i] == ',' {
			i++
		}
		m := member{name: i}
		m.value = pastString(text, i) + 1 // the colon
		m.end = pastValue(text, m.value)
		if string(text[m.name+1:m.value-2]) == name {
			found, ok = m, true
		}
		i = m.end
	}
	return found, ok
}

// without is the object without a member.
func without(text []byte, m member) []byte {
	out := make([]byte, 0, len(text)-(m.end-m.name))
	from, to := m.name, m.end
	if text[to] == ',' { // the first of some
		to++
	} else if text[from-1] == ',' {
		from--
	}
	return append(append(out, text[:from]...), text[to:]...)
}

// pastString returns where the string that begins at i ends.
func pastString(text []byte, i int) int {
	for i++; text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// pastValue returns where the value that begins at i ends.
func pastValue(text []byte, i int) int {
	depth := 0
	for i < len(text) {
		switch text[i] {
		case '"':
			i = pastString(text, i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			} else if depth < 0 {
				return i // of the object around it
			}
		case ',':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}

// Shelf holds the newest killmails taken apart, so that each is once for all who read it. It is a cache that may forget anything
// at any time. It may be used concurrently.
type Shelf struct {
	slots [512]atomic.Pointer[shelved]
}

// maxShelved bounds a killmail on the shelf, in bytes: the few that are larger are taken apart for each reader.
const maxShelved = 64 << 10

type shelved struct {
	id   killfeed.EventID
	mail *Mail
}

// Open is the package's, remembered. All events of a Shelf are of one log.
func (s *Shelf) Open(e *killfeed.Event) *Mail {
	slot := &s.slots[e.ID%killfeed.EventID(len(s.slots))]
	if at := slot.Load(); at != nil && at.id == e.ID {
		return at.mail
	}
	m := Open(e)
	if len(e.Killmail) <= maxShelved {
		slot.Store(&shelved{e.ID, m}) // two who do it at once do it twice, with the same result
	}
	return m
}
