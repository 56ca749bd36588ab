package killfeed

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// scanner reads one JSON text from front to back, once. On the way it checks the grammar, takes out insignificant white
// space, and lets its caller note where the values are that it wants.
//
// It accepts what json.Valid accepts and compacts as json.Compact does (the fuzz test holds it to both), except that it
// refuses invalid UTF-8: such bytes would make every WebSocket text frame that carries them close its connection.
//
// A caller walks an object with member and an array with element, and must read each value, with skip, scalar or by walking
// it. After a failure every reading method fails too, so that only finish has to be checked.
type scanner struct {
	// buf is a private copy of the text, compacted in place, and then scanPad zero bytes: the grammar has no use for a
	// zero byte, so the end of the text stops the loops without being looked for.
	buf []byte
	// size is the length of the text as given.
	size int
	// pos is the next byte to read.
	pos int
	// buf[:end] is compact text; buf[kept:pos] was read, follows it, and is moved there when the next white space is
	// found. In a text without white space nothing ever moves.
	kept, end int
	// depth counts the open objects and arrays.
	depth int
	// buf[key:keyEnd] is the name, as written, of the member that member stopped at. keyAt is where in the compact text
	// that member begins.
	key, keyEnd, keyAt int
	// escaped: the string read last has a backslash in it.
	escaped bool
	// want says what should have been at failed; empty while all is well.
	want   string
	failed int
}

// span is a piece of the compact text. The zero span is none: nothing that is noted begins at 0 and is empty.
type span struct{ from, to int }

func (p span) none() bool { return p.to == 0 }

const (
	// scanPad lets pastString read eight bytes at once at any position of the text.
	scanPad = 8
	// maxDepth is that of encoding/json: readers of the feed that use it could not decode more.
	maxDepth = 10000
)

// load makes s ready to read text, which it copies.
func (s *scanner) load(text []byte) {
	*s = scanner{buf: append(make([]byte, 0, len(text)+scanPad), text...), size: len(text)}
	s.buf = s.buf[:len(text)+scanPad]
	if !utf8.Valid(text) {
		for s.pos < len(text) {
			r, n := utf8.DecodeRune(text[s.pos:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			s.pos += n
		}
		s.fail("valid UTF-8")
	}
}

// finish checks that nothing but white space follows. Then all spans can be had with text.
func (s *scanner) finish() bool {
	if s.want != "" {
		return false
	}
	s.space()
	if s.pos != s.size {
		return s.fail("nothing more")
	}
	s.move()
	return true
}

// text is the compact text of p, once finish has returned true.
func (s *scanner) text(p span) []byte { return s.buf[p.from:p.to:p.to] }

// at is where in the compact text the next byte will be.
func (s *scanner) at() int { return s.end + s.pos - s.kept }

// fail notes what should have been at pos. Then it goes to the end of the text, where nothing can be read any more. It
// returns false, for its callers to return.
func (s *scanner) fail(want string) bool {
	if s.want == "" {
		s.want, s.failed = want, s.pos
	}
	s.pos = s.size
	return false
}

func (s *scanner) failAt(pos int, want string) bool {
	s.pos = pos
	return s.fail(want)
}

// badString fails with what is wrong in a string at pos.
func (s *scanner) badString(pos int) bool {
	switch {
	case s.buf[pos] == '\\':
		return s.failAt(pos, "an escape that JSON knows")
	case pos == s.size:
		return s.failAt(pos, "the end of a string")
	}
	return s.failAt(pos, "no control character")
}

// err describes the failure; text is what was loaded.
func (s *scanner) err(param string, text []byte) error {
	from, to := max(s.failed-24, 0), min(s.failed+24, len(text))
	return invalid(param, string(text[from:to]), fmt.Sprintf("JSON with %s at byte %d", s.want, s.failed))
}

// space passes over white space. It is small enough to be inlined.
func (s *scanner) space() {
	if s.buf[s.pos] <= ' ' {
		s.squeeze(s.pos)
	}
}

// squeeze takes the white space at i, to which everything was read, out of the text. It returns the new pos.
func (s *scanner) squeeze(i int) int {
	s.pos = i
	for c := s.buf[i]; c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = s.buf[i] {
		i++
	}
	if i > s.pos {
		s.move()
		s.pos, s.kept = i, i
	}
	return i
}

// move closes the hole that white space has left before kept.
func (s *scanner) move() {
	if s.end != s.kept {
		copy(s.buf[s.end:], s.buf[s.kept:s.pos])
	}
	s.end += s.pos - s.kept
	s.kept = s.pos
}

// open enters the object or array whose bracket is at pos.
func (s *scanner) open() bool {
	if s.depth == maxDepth {
		return s.fail("at most 10000 levels")
	}
	s.depth++
	s.pos++
	return true
}

// member goes to the value of the next member of an object, of which n have been read, for the caller to read, and to ask for
// its name. It returns false behind the last one.
func (s *scanner) member(n int) bool {
	b, i := s.buf, s.pos
	if b[i] <= ' ' {
		i = s.squeeze(i)
	}
	if b[i] == '}' {
		s.depth--
		s.pos = i + 1
		return false
	}
	if n > 0 {
		if b[i] != ',' {
			return s.failAt(i, "a comma or }")
		}
		if i++; b[i] <= ' ' {
			i = s.squeeze(i)
		}
	}
	if b[i] != '"' {
		return s.failAt(i, "a member name in double quotes")
	}
	s.key, s.keyAt = i+1, s.end+i-s.kept
	if i, s.escaped = pastString(b, i+1); i < 0 {
		return s.badString(^i)
	}
	s.keyEnd = i - 1
	if b[i] <= ' ' {
		i = s.squeeze(i)
	}
	if b[i] != ':' {
		return s.failAt(i, "a colon")
	}
	s.pos = i + 1
	return true
}

// name is the name of the member that member stopped at, with its escapes decoded: "solar\u005fsystem_id" is a system id to
// every reader, and must not get past us.
func (s *scanner) name() []byte {
	name := s.buf[s.key:s.keyEnd]
	if s.end > s.keyAt { // white space before the colon: it was moved
		name = s.buf[s.keyAt+1:][:len(name)]
	}
	if s.escaped {
		name = unescape(name)
	}
	return name
}

// element goes to the next element of an array, of which n have been read. It returns false behind the last one.
func (s *scanner) element(n int) bool {
	s.space()
	c := s.buf[s.pos]
	if c == ']' {
		s.depth--
		s.pos++
		return false
	}
	if n > 0 {
		if c != ',' {
			return s.fail("a comma or ]")
		}
		s.pos++
	}
	return s.want == ""
}

// value reads over a value of any kind and returns where it is.
func (s *scanner) value() span {
	s.space()
	from := s.at()
	if !s.skip() {
		return span{}
	}
	return span{from, s.at()}
}

// scalar reads over a value and returns its text, which is only good until the next read; for an object or array: nil.
func (s *scanner) scalar() []byte {
	s.space()
	from := s.pos
	if c := s.buf[from]; !s.skip() || c == '{' || c == '[' {
		return nil
	}
	return s.buf[from:s.pos]
}

// skip reads over a value of any kind. Much of a killmail is only skipped, so members have a loop of their own with everything
// in local variables: with member and skip in turns a killmail took half as long again.
func (s *scanner) skip() bool {
	s.space()
	b, i := s.buf, s.pos
	switch c := b[i]; c {
	case '"':
		if i, s.escaped = pastString(b, i+1); i < 0 {
			return s.badString(^i)
		}
		s.pos = i
		return true
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if i = pastNumber(b, i); i < 0 {
			return s.failAt(^i, "a digit")
		}
		s.pos = i
		return true
	case '{':
		return s.open() && s.skipMembers()
	case '[':
		if s.open() {
			for n := 0; s.element(n) && s.skip(); n++ {
			}
		}
		return s.want == ""
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	return s.fail("a value")
}

// skipMembers reads over the rest of an object that was opened.
func (s *scanner) skipMembers() bool {
	b, i := s.buf, s.pos
	for n := 0; ; n++ {
		if b[i] <= ' ' {
			i = s.squeeze(i)
		}
		if b[i] == '}' {
			s.depth--
			s.pos = i + 1
			return true
		}
		if n > 0 {
			if b[i] != ',' {
				return s.failAt(i, "a comma or }")
			}
			if i++; b[i] <= ' ' {
				i = s.squeeze(i)
			}
		}
		if b[i] != '"' {
			return s.failAt(i, "a member name in double quotes")
		}
		if i, _ = pastString(b, i+1); i < 0 {
			return s.badString(^i)
		}
		if b[i] <= ' ' {
			i = s.squeeze(i)
		}
		if b[i] != ':' {
			return s.failAt(i, "a colon")
		}
		i++
		if b[i]-'0' <= 9 {
			if i = pastNumber(b, i); i < 0 {
				return s.failAt(^i, "a digit")
			}
			continue
		}
		s.pos = i
		if !s.skip() {
			return false
		}
		i = s.pos
	}
}

func (s *scanner) literal(word string) bool {
	if string(s.buf[s.pos:s.pos+len(word)]) != word { // scanPad is longer than any word
		return s.fail(word)
	}
	s.pos += len(word)
	return true
}

// pastNumber is the position behind the number at i, or ^p when there should have been a digit at p. What follows is not
// looked at: of 01 it takes 0, and leaves 1 to be refused.
func pastNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	from := i
	if i = pastDigits(b, i); i == from {
		return ^i
	}
	if b[from] == '0' {
		i = from + 1
	}
	if b[i] == '.' {
		from = i + 1
		if i = pastDigits(b, from); i == from {
			return ^i
		}
	}
	if b[i]|0x20 == 'e' {
		if i++; b[i] == '+' || b[i] == '-' {
			i++
		}
		from = i
		if i = pastDigits(b, from); i == from {
			return ^i
		}
	}
	return i
}

// pastDigits is the first position from i on that has no digit.
func pastDigits(b []byte, i int) int {
	for b[i]-'0' <= 9 {
		i++
	}
	return i
}

// pastString is the position behind the string whose inside begins at i, or ^p when the string goes wrong at p; and whether
// there is a backslash in it. It goes eight bytes at a time between the bytes that matter.
func pastString(b []byte, i int) (next int, escaped bool) {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for {
		// A byte's high bit becomes set where the byte is below a space, a quote or a backslash. Borrows can set it in
		// bytes above such a byte too, never below: the lowest one is right.
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^(ones*'"'), x^(ones*'\\')
		stop := ((x-ones*' ')&^x | (quote-ones)&^quote | (slash-ones)&^slash) & highs
		if stop == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(stop) / 8
		if b[i] == '"' {
			return i + 1, escaped
		}
		n := 0
		if b[i] == '\\' {
			n = escapeLen(b[i+1:])
		}
		if n == 0 {
			return ^i, false
		}
		escaped = true
		i += 1 + n
	}
}

// escapeLen is the length of the escape that b begins with, without its backslash; 0 if it is none.
func escapeLen(b []byte) int {
	switch b[0] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 1
	case 'u':
		for _, c := range b[1:5] { // at most 4 bytes into the pad
			if c-'0' > 9 && c|0x20-'a' > 5 {
				return 0
			}
		}
		return 5
	}
	return 0
}

// unescape decodes the inside of a valid JSON string. Escapes are rare in names, ids and labels, so this may be slow; lone
// surrogates become U+FFFD, as in encoding/json.
func unescape(inside []byte) []byte {
	quoted := append(append([]byte{'"'}, inside...), '"')
	var out string
	if err := json.Unmarshal(quoted, &out); err != nil {
		return inside
	}
	return []byte(out)
}
