package archive

import (
	"bytes"
	"io"
	"strconv"
)

// splitter takes a stream of JSON apart into documents. It holds one document at a time, also of an array or object that is
// much larger.
type splitter struct {
	in   *window
	name string // of the file or member
	max  int    // bytes of one document
	// yield takes an item; its error ends the splitting.
	yield func(Item) error

	scanner scanner
	// line is the number of the line that the window stands on, from 1, and indent the white space it begins with. fresh
	// tells that nothing else has been seen on the line.
	line   int
	indent int
	fresh  bool
	items  int
}

// Errors of a stream as a whole.
const (
	errCutShort = damage("file is truncated: it ends inside a JSON value")
	errUnclosed = damage("file is truncated: it ends before the closing bracket")
)

var (
	errHashes = misfit{"the file holds ids and hashes of killmails but not the killmails",
		"take zKillboard's history/raw/<day>.json or EVE Ref's day archive of the same day"}
	errCounts = misfit{"the file holds counts of killmails but no killmails", "leave it out"}
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// run reads the stream to its end. Its error is one of yield, one of the window's stream, a damage or a misfit.
func (s *splitter) run() error {
	s.line, s.indent, s.fresh, s.items = 1, 0, true, 0
	if bytes.HasPrefix(s.in.want(len(byteOrderMark)), byteOrderMark) {
		s.in.skip(len(byteOrderMark))
	}
	for {
		c, err := s.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case c == '[':
			err = s.array()
		case c == '{':
			err = s.object()
		default:
			err = s.badLine(s.atLine())
		}
		if err != nil {
			return err
		}
	}
}

// array reads the elements of an array that the window stands on.
func (s *splitter) array() error {
	s.advance(1)
	for i := 0; ; {
		c, err := s.next()
		switch {
		case err == io.EOF:
			return errUnclosed
		case err != nil:
			return err
		case c == ']':
			s.advance(1)
			return nil
		case c == ',':
			s.advance(1)
		default:
			if err := s.value(func() string { return s.name + "[" + strconv.Itoa(i) + "]" }, false); err != nil {
				return err
			}
			i++
		}
	}
}

// object reads an object that the window stands on: a killmail, or killmails by id.
func (s *splitter) object() error {
	from := 1
	for ; ; from++ { // over white space, to the first name
		b := s.in.want(from + 1)
		if len(b) <= from || from > maxHead || !isSpace(b[from]) {
			break
		}
	}
	_, n := s.member(from)
	if n <= 0 {
		return s.value(s.atLine, false)
	}
	switch c := s.in.bytes()[from+n]; {
	case c == '{':
	case c == '"' && s.items == 0:
		return errHashes
	case c >= '0' && c <= '9' && s.items == 0:
		return errCounts
	default:
		return s.value(s.atLine, false)
	}

	s.advance(1)
	for {
		c, err := s.next()
		switch {
		case err == io.EOF:
			return errUnclosed
		case err != nil:
			return err
		case c == '}':
			s.advance(1)
			return nil
		case c == ',':
			s.advance(1)
			continue
		case c != '"':
			return nil // the object is broken off; what follows stands for itself
		}
		id, n := s.member(0)
		if n < 0 && s.in.err == io.EOF {
			return errUnclosed
		}
		if n < 0 {
			return s.in.err
		}
		if n == 0 {
			if err := s.badLine(s.atLine()); err != nil {
				return err
			}
			continue
		}
		s.advance(n)
		if err := s.value(func() string { return s.name + "/" + id }, true); err != nil {
			return err
		}
	}
}

// maxHead bounds how far member looks: names that are ids, and any sane white space, fit.
const maxHead = 4096

// member tells whether, at the given place of the window, a member of an object stands whose name is all digits. If so it
// returns the name and the distance from there to the first byte of the value; if not, 0; if the stream ends before it can
// be told, -1.
func (s *splitter) member(at int) (id string, n int) {
	i := at
	peek := func() byte { // 0 where there is nothing, which never fits
		b := s.in.want(i + 1)
		if len(b) <= i {
			n = -1
			return 0
		}
		if i-at > maxHead {
			return 0
		}
		return b[i]
	}
	space := func() {
		for isSpace(peek()) {
			i++
		}
	}
	if peek() != '"' {
		return "", n
	}
	i++
	from := i
	for c := peek(); c >= '0' && c <= '9'; c = peek() {
		i++
	}
	to := i
	if to == from || to-from > 20 || peek() != '"' {
		return "", n
	}
	i++
	space()
	if peek() != ':' {
		return "", n
	}
	i++
	space()
	if peek() == 0 {
		return "", n
	}
	return string(s.in.bytes()[from:to]), i - at
}

// value reads the value that the window stands on and hands it out. keyed tells that it is a member of an object.
func (s *splitter) value(name func() string, keyed bool) error {
	s.scanner.reset()
	for n := 0; ; {
		b := s.in.bytes()
		m, verdict := s.scanner.scan(b[n:])
		n += m
		switch {
		case n > s.max:
			return s.tooLarge(name(), n, verdict)
		case verdict == complete:
			return s.emit(name(), n)
		case verdict == broken:
			return s.bad(name(), keyed)
		}
		if s.in.more() {
			continue
		}
		switch {
		case s.in.err != io.EOF:
			return s.in.err // what came before it is out, and this is not whole
		case s.scanner.finished():
			return s.emit(name(), n)
		}
		return s.bad(name(), keyed)
	}
}

// emit hands out the first n bytes of the window.
func (s *splitter) emit(name string, n int) error {
	data := bytes.Clone(trim(s.in.bytes()[:n]))
	s.advance(n)
	return s.item(Item{Name: name, Data: data})
}

func (s *splitter) item(item Item) error {
	s.items++
	return s.yield(item)
}

// tooLarge reads over the rest of a value of which n bytes have been scanned.
func (s *splitter) tooLarge(name string, n int, v verdict) error {
	for {
		s.advance(n)
		if v == complete || v == broken || !s.in.more() {
			break
		}
		n, v = s.scanner.scan(s.in.bytes())
	}
	if v == broken {
		s.restOfLine()
	}
	if err := s.item(Item{Name: name, Err: tooLarge(s.max)}); err != nil {
		return err
	}
	switch {
	case v != unfinished:
		return nil
	case s.in.err != io.EOF:
		return s.in.err
	case !s.scanner.finished():
		return errCutShort
	}
	return nil
}

// bad hands out what is no JSON value, for the parser to refuse: all lines that seem to belong to it. So a corrupt line of
// JSONL costs one item, and so does a corrupt killmail that is printed over a hundred lines.
func (s *splitter) bad(name string, keyed bool) error {
	indent := s.indent
	for n := 0; ; {
		end, found := s.lineEnd(n)
		if end > s.max {
			s.restOfLine()
			return s.item(Item{Name: name, Err: tooLarge(s.max)})
		}
		if !found {
			if s.in.err == io.EOF {
				// Nothing follows: the last line is corrupt, or the file is cut off.
				if s.cutShort(end) {
					return errCutShort
				}
				return s.emit(name, end)
			}
			return s.in.err
		}
		if n = end; !s.continues(n, indent, keyed) {
			return s.emit(name, n)
		}
	}
}

// cutShort tells whether the last n bytes of the stream look like the beginning of a value. One whole line does not: more of
// its value cannot have followed.
func (s *splitter) cutShort(n int) bool {
	b := s.in.bytes()[:n]
	if i := bytes.IndexByte(b, '\n'); i >= 0 && len(trim(b[i:])) == 0 {
		return false
	}
	s.scanner.reset()
	_, v := s.scanner.scan(b)
	return v == unfinished
}

// trim takes off what JSON calls white space, and nothing else that Unicode calls so.
func trim(b []byte) []byte { return bytes.Trim(b, " \t\r\n") }

// badLine hands out the rest of the line, which cannot be JSON.
func (s *splitter) badLine(name string) error {
	end, found := s.lineEnd(0)
	switch {
	case end > s.max:
		s.restOfLine()
		return s.item(Item{Name: name, Err: tooLarge(s.max)})
	case !found && s.in.err != io.EOF:
		return s.in.err
	}
	return s.emit(name, end)
}

// lineEnd finds the end of the line that stands at the given place of the window, the line feed included. Not found: the
// stream ends without one, or it is out of bounds.
func (s *splitter) lineEnd(at int) (end int, found bool) {
	for seen := at; ; {
		b := s.in.bytes()
		if i := bytes.IndexByte(b[seen:], '\n'); i >= 0 {
			return seen + i + 1, true
		}
		seen = len(b)
		if seen > s.max || !s.in.more() {
			return seen, false
		}
	}
}

// continues tells whether the line at the given place of the window belongs to a broken value that began on a line with the
// given indent, rather than being the next value.
func (s *splitter) continues(at, indent int, keyed bool) bool {
	for i := at; ; i++ {
		b := s.in.want(i + 1)
		if len(b) <= i || i-at > s.max {
			return true // lineEnd says what there is
		}
		switch c := b[i]; {
		case c == '\n':
			return true
		case isSpace(c):
			continue
		case i-at != indent:
			return i-at > indent
		case c == '"':
			return !keyed // the next member, or a member of the broken value in a file printed without indents
		default:
			return c == '}' || c == ']' || c == ',' || c == ':'
		}
	}
}

// restOfLine forgets everything up to the next line.
func (s *splitter) restOfLine() {
	for {
		b := s.in.bytes()
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			s.advance(i + 1)
			return
		}
		s.advance(len(b))
		if !s.in.more() {
			return
		}
	}
}

// next goes to the next byte that is not white space, and returns it without taking it.
func (s *splitter) next() (byte, error) {
	for {
		b := s.in.bytes()
		for i, c := range b {
			switch c {
			case '\n':
				s.line++
				s.indent, s.fresh = 0, true
			case ' ', '\t', '\r':
				if s.fresh {
					s.indent++
				}
			default:
				s.fresh = false
				s.in.skip(i)
				return c, nil
			}
		}
		s.in.skip(len(b))
		if !s.in.more() {
			return 0, s.in.err
		}
	}
}

// advance takes n bytes of the window.
func (s *splitter) advance(n int) {
	b := s.in.bytes()[:n]
	if lines := bytes.Count(b, []byte{'\n'}); lines > 0 {
		s.line += lines
		s.fresh = b[n-1] == '\n'
		if s.fresh {
			s.indent = 0
		}
	}
	s.in.skip(n)
}

// atLine names what the window stands on by its line.
func (s *splitter) atLine() string { return s.name + ":" + strconv.Itoa(s.line) }
