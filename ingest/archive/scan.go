package archive

// maxDepth bounds the nesting of a document; killmails have six levels. Without it a hostile file could make the splitter
// look at the same bytes without end: after a bad value it goes back to the line behind the one where that began. A line
// that leaves no bracket open is left behind at once, so no byte is looked at more than maxDepth times.
const maxDepth = 128

// scanner finds the end of a JSON value that may come in pieces. It checks how brackets, strings, commas and colons follow
// each other, so that a value cut short is seen where the next one begins. What stands inside numbers, words and escapes is
// for the parser of killmails to judge.
//
// It is not encoding/json's scanner because that is several times slower, and has no end of a value to ask for; and not a
// mere count of brackets because one lost bracket would then swallow the lines that follow.
type scanner struct {
	state state
	// key tells that the string being read is the name of a member.
	key bool
	// depth brackets are open; bit i of object tells whether the one at depth i is a brace.
	depth  int
	object [maxDepth / 64]uint64
}

type state uint8

const (
	wantValue     state = iota // at the start, after a colon, after a comma in an array
	wantFirst                  // after '[': a value or ']'
	wantFirstName              // after '{': a name or '}'
	wantName                   // after a comma in an object
	wantColon
	wantNext // after a value in a container: a comma or the closing bracket
	inString
	inEscape
	inWord // a number, true, false, null
)

// verdict is what scan says of the bytes so far.
type verdict uint8

const (
	unfinished verdict = iota
	complete
	broken
)

func (s *scanner) reset() { s.state, s.key, s.depth = wantValue, false, 0 }

// finished tells whether the value may end where the input ends.
func (s *scanner) finished() bool { return s.state == inWord && s.depth == 0 }

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.'
}

// scan goes on with b. It returns how many bytes belong to the value so far: with complete, up to its end; with broken, up
// to the byte that cannot stand there; with unfinished, all.
func (s *scanner) scan(b []byte) (int, verdict) {
	for i := 0; i < len(b); {
		c := b[i]
		switch s.state {
		case inString:
			for c >= 0x20 && c != '"' && c != '\\' {
				if i++; i == len(b) {
					return i, unfinished
				}
				c = b[i]
			}
			switch c {
			case '"':
				i++
				switch {
				case s.key:
					s.key, s.state = false, wantColon
				case s.depth == 0:
					return i, complete
				default:
					s.state = wantNext
				}
			case '\\':
				i++
				s.state = inEscape
			default: // a raw line end, above all
				return i, broken
			}
			continue
		case inEscape:
			if c < 0x20 {
				return i, broken
			}
			i++
			s.state = inString
			continue
		case inWord:
			if isWord(c) {
				i++
				continue
			}
			if s.depth == 0 {
				return i, complete
			}
			s.state = wantNext
		}

		if isSpace(c) {
			i++
			continue
		}
		switch s.state {
		case wantFirst, wantValue:
			switch {
			case c == '{':
				if !s.open(1) {
					return i, broken
				}
				s.state = wantFirstName
			case c == '[':
				if !s.open(0) {
					return i, broken
				}
				s.state = wantFirst
			case c == '"':
				s.state = inString
			case c == ']' && s.state == wantFirst:
				if s.close() {
					return i + 1, complete
				}
			case isWord(c):
				s.state = inWord
			default:
				return i, broken
			}
		case wantNext:
			object := s.object[(s.depth-1)/64]>>((s.depth-1)%64)&1 == 1
			switch {
			case c == ',' && object:
				s.state = wantName
			case c == ',':
				s.state = wantValue
			case c == '}' && object, c == ']' && !object:
				if s.close() {
					return i + 1, complete
				}
			default:
				return i, broken
			}
		case wantColon:
			if c != ':' {
				return i, broken
			}
			s.state = wantValue
		case wantFirstName, wantName:
			switch {
			case c == '"':
				s.state, s.key = inString, true
			case c == '}' && s.state == wantFirstName:
				if s.close() {
					return i + 1, complete
				}
			default:
				return i, broken
			}
		}
		i++
	}
	return len(b), unfinished
}

// open enters a container. False: too deep.
func (s *scanner) open(object uint64) bool {
	if s.depth == maxDepth {
		return false
	}
	word, bit := s.depth/64, s.depth%64
	s.object[word] = s.object[word]&^(1<<bit) | object<<bit
	s.depth++
	return true
}

// close leaves a container. True: it was the value itself.
func (s *scanner) close() bool {
	s.depth--
	s.state = wantNext
	return s.depth == 0
}
