package killfeed

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// leaves are the values in one killmail that a filter can ask for, found in one pass over its text, so that many filters can
// be evaluated over them. The zero leaves is ready for read. They may be read concurrently once read has returned.
//
// Text stays where it is: leaves hold on to the event's killmail, and are good for as long as that is.
type leaves struct {
	text   []byte // the killmail
	extra  []byte // names and strings that had escapes, decoded
	system uint32

	// parties[0] is the victim, the others are the attackers in their order. An attacker that is no object is there too,
	// without ids.
	parties []party
	// labels are the strings in zkb.labels.
	labels []leafText
	// all are the other values. What is looked for at one place only, ids of parties and labels, is not among them.
	all []leaf
	// first is for each member the leaf that was found last, and leaf.next the one before it: indices in all, plus 1.
	first [memberCount]uint32
	depth int
}

// party is the victim or an attacker.
type party struct {
	ids   [KindShip - KindCharacter + 1]uint32 // as topics have them, 0 where there is none
	final bool                                 // final_blow is true
}

// leaf is a value that is neither object nor array. It is packed: a large killmail has thousands.
type leaf struct {
	num            int64  // with leafInteger: the value
	from, to       uint32 // the value's text; of a string, its inside
	named, nameEnd uint32 // the member's name, with memberOther
	next           uint32
	form           leafForm
}

// leafForm is what a leaf is: one of the first four, and perhaps flags.
type leafForm uint8

const (
	leafWord    leafForm = iota // true, false or null
	leafString                  // perhaps one that looks like a number
	leafNumber                  // a number
	leafInteger                 // a number that num holds

	leafExtra      leafForm = 0x40 // from and to are in leaves.extra
	leafNamedExtra leafForm = 0x80 // named and nameEnd are in leaves.extra
)

// leafText is a piece of leaves.text or, where it had escapes, of leaves.extra.
type leafText struct {
	from, to uint32
	extra    bool
}

// noParty is the index of no party.
const noParty = -1

// place is where a member's object is.
type place uint8

const (
	placeTop   place = iota // the killmail itself
	placeParty              // the victim or an attacker
	placeZKB
	placeOther
)

// read finds the leaves of e. It uses the memory of those it found before.
//
// A killmail in the log is valid JSON. Of anything else it finds what there is before the mistake.
func (l *leaves) read(e *Event) {
	l.text, l.system, l.extra, l.depth = e.Killmail, e.SystemID, l.extra[:0], 0
	l.parties = append(l.parties[:0], party{})
	l.labels, l.all = l.labels[:0], l.all[:0]
	clear(l.first[:])
	if len(l.text) > 0 && l.text[0] == '{' {
		l.object(0, placeTop, noParty)
	}
}

// forget lets go of the event, and of memory that was needed for a very large one.
func (l *leaves) forget() {
	const most = 1 << 14
	l.text = nil
	if cap(l.all) > most || cap(l.extra) > 32*most {
		*l = leaves{}
	}
}

func (l *leaves) bytes(t leafText) []byte {
	if t.extra {
		return l.extra[t.from:t.to]
	}
	return l.text[t.from:t.to]
}

// leafText is the text of a leaf.
func (l *leaves) leafText(x *leaf) []byte {
	return l.bytes(leafText{x.from, x.to, x.form&leafExtra != 0})
}

// leafName is the name of a leaf of memberOther.
func (l *leaves) leafName(x *leaf) []byte {
	return l.bytes(leafText{x.named, x.nameEnd, x.form&leafNamedExtra != 0})
}

// attackers is how many attackers the killmail lists.
func (l *leaves) attackers() int { return len(l.parties) - 1 }

// object reads the object at i, which is at the place, and is parties[of] if it is a party. It returns the position behind it,
// or -1 when the text is broken.
func (l *leaves) object(i int, at place, of int) int {
	b := l.text
	if l.depth++; l.depth > maxDepth {
		return -1
	}
	i++
	if i < len(b) && b[i] == '}' {
		l.depth--
		return i + 1
	}
	for i >= 0 && i < len(b) && b[i] == '"' {
		name, next := l.string(i)
		if next < 0 || next+1 >= len(b) || b[next] != ':' {
			return -1
		}
		m := memberOf(l.bytes(name))
		i = next + 1
		switch {
		case m >= memberCount: // looked for at one place only
			i = l.placed(i, m, at, of)
		case m == memberKillmailID && at == placeTop:
			l.value(i, memberKillID, name)
			i = l.value(i, m, name)
		case m == memberVictim && at == placeTop:
			l.parties[0] = party{} // of two the last counts, as for topics
			if b[i] == '{' {
				i = l.object(i, placeParty, 0)
			} else {
				i = l.value(i, m, name)
			}
		case m == memberZKB && at == placeTop:
			l.labels = l.labels[:0]
			if b[i] == '{' {
				i = l.object(i, placeZKB, noParty)
			} else {
				i = l.value(i, m, name)
			}
		case m == memberFinalBlow && at == placeParty:
			l.parties[of].final = b[i] == 't'
			i = l.value(i, m, name)
		default:
			i = l.value(i, m, name)
		}
		if i < 0 || i >= len(b) {
			return -1
		}
		if b[i] == '}' {
			l.depth--
			return i + 1
		}
		i++ // a comma
	}
	return -1
}

// placed reads the value at i of a member that is looked for at one place only.
func (l *leaves) placed(i int, m member, at place, of int) int {
	b := l.text
	switch {
	case m < memberSystem && at == placeParty:
		id := &l.parties[of].ids[m-memberCharacter]
		*id = 0
		if b[i]-'0' > 9 {
			break // null, or no id
		}
		to := pastScalar(b, i)
		if n, ok := integer(b[i:to]); ok && n <= MaxID {
			*id = uint32(n)
		}
		return to
	case m == memberAttackers && at == placeTop:
		l.parties = l.parties[:1]
		if b[i] != '[' {
			break
		}
		return l.elements(i, func(i int) int {
			l.parties = append(l.parties, party{})
			if b[i] == '{' {
				return l.object(i, placeParty, l.attackers())
			}
			return l.value(i, memberNone, leafText{})
		})
	case m == memberLabels && at == placeZKB:
		l.labels = l.labels[:0]
		if b[i] != '[' {
			break
		}
		return l.elements(i, func(i int) int {
			if b[i] != '"' {
				return l.value(i, memberNone, leafText{})
			}
			text, next := l.string(i)
			if next >= 0 {
				l.labels = append(l.labels, text)
			}
			return next
		})
	}
	return l.value(i, memberNone, leafText{})
}

// elements calls read for each element of the array at i, for it to return the position behind the element.
func (l *leaves) elements(i int, read func(int) int) int {
	b := l.text
	if l.depth++; l.depth > maxDepth {
		return -1
	}
	i++
	if i < len(b) && b[i] == ']' {
		l.depth--
		return i + 1
	}
	for i < len(b) {
		if i = read(i); i < 0 || i >= len(b) {
			return -1
		}
		if b[i] == ']' {
			l.depth--
			return i + 1
		}
		i++ // a comma
	}
	return -1
}

// value reads the value at i of a member: a leaf, or all that is in it. An array's elements are values of the member itself.
func (l *leaves) value(i int, m member, name leafText) int {
	switch l.text[i] {
	case '{':
		return l.object(i, placeOther, noParty)
	case '[':
		return l.elements(i, func(i int) int { return l.value(i, m, name) })
	}
	if m == memberNone {
		var x leaf
		return l.scalar(i, &x)
	}
	n := len(l.all)
	if n == cap(l.all) {
		l.all = append(l.all, leaf{})
	} else {
		l.all = l.all[:n+1]
	}
	x := &l.all[n]
	i = l.scalar(i, x)
	x.named, x.nameEnd, x.next = name.from, name.to, l.first[m]
	if name.extra {
		x.form |= leafNamedExtra
	}
	l.first[m] = uint32(n + 1)
	return i
}

// scalar reads the string, number or word at i into x.
func (l *leaves) scalar(i int, x *leaf) int {
	b := l.text
	from := i
	switch c := b[i]; {
	case c == '"':
		text, next := l.string(i)
		x.from, x.to, x.form = text.from, text.to, leafString
		if text.extra {
			x.form |= leafExtra
		}
		return next
	case c >= 'a':
		i, x.form = pastScalar(b, i), leafWord
	default:
		x.num, x.form, i = leafDigits(b, i)
	}
	x.from, x.to = uint32(from), uint32(i)
	if i == from {
		return -1
	}
	return i
}

// leafDigits reads the number at i.
func leafDigits(b []byte, i int) (n int64, form leafForm, next int) {
	from := i
	negative := b[i] == '-'
	if negative {
		i++
	}
	digits := i
	for i < len(b) && b[i]-'0' <= 9 {
		n = n*10 + int64(b[i]-'0')
		i++
	}
	if i < len(b) && (b[i] == '.' || b[i]|0x20 == 'e') {
		return 0, leafNumber, pastScalar(b, from)
	}
	if i-digits > 18 { // it may not have fitted
		n, err := strconv.ParseInt(string(b[from:i]), 10, 64)
		if err != nil {
			return 0, leafNumber, i
		}
		return n, leafInteger, i
	}
	if negative {
		n = -n
	}
	return n, leafInteger, i
}

// pastScalar is the position behind a number or word at i.
func pastScalar(b []byte, i int) int {
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}

// string reads the string at i. next is the position behind it, or -1 when it has no end.
func (l *leaves) string(i int) (t leafText, next int) {
	from := i + 1
	to, escaped := closingQuote(l.text, from)
	if to < 0 {
		return leafText{}, -1
	}
	if !escaped {
		return leafText{from: uint32(from), to: uint32(to)}, to + 1
	}
	t = leafText{from: uint32(len(l.extra)), extra: true}
	l.extra = appendUnescaped(l.extra, l.text[from:to])
	t.to = uint32(len(l.extra))
	return t, to + 1
}

// closingQuote is where the string ends whose inside begins at i, or -1; and whether there is a backslash in it. It is pastString
// for text that is known to be good and has no pad behind it.
func closingQuote(b []byte, i int) (end int, escaped bool) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		stop := ((quote-ones)&^quote | (slash-ones)&^slash) & highs
		if stop == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(stop) / 8
		if b[i] == '"' {
			return i, escaped
		}
		escaped = true
		i += 2
	}
	for ; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i, escaped
		case '\\':
			escaped = true
			i++
		}
	}
	return -1, escaped
}

// appendUnescaped appends the inside of a string with its escapes decoded, as unescape decodes them, without allocating: many
// writers escape the slashes of every link.
func appendUnescaped(dst, inside []byte) []byte {
	for i := 0; i < len(inside); i++ {
		c := inside[i]
		if c != '\\' || i+1 == len(inside) {
			dst = append(dst, c)
			continue
		}
		i++
		switch c = inside[i]; c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hexRune(inside[i+1:])
			i += 4
			if utf16.IsSurrogate(r) {
				second := rune(-1)
				if rest := inside[min(i+1, len(inside)):]; len(rest) >= 6 && rest[0] == '\\' && rest[1] == 'u' {
					second = hexRune(rest[2:])
				}
				if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// hexRune reads four hex digits.
func hexRune(b []byte) rune {
	if len(b) < 4 {
		return utf8.RuneError
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c <= '9':
			c -= '0'
		default:
			c = c | 0x20 - 'a' + 10
		}
		r = r<<4 | rune(c)
	}
	return r
}
