package phoenix

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Frames are taken apart by hand, on text that encoding/json found valid. Decoding into a slice of raw values would cost
// memory for every element that a sender cares to append (12 bytes for each byte of "0,0,0,…"), decoding into a struct would
// match names in any case, and into interfaces it would lose how a ref was written.

// values goes through what stands directly inside a JSON array or object: its elements, or its names and values in turn.
type values struct {
	rest []byte // from behind the opening bracket, valid up to the closing one
}

// inside returns the values of the array or object text, which is valid JSON and begins with its bracket.
func inside(text []byte) values { return values{text[1:]} }

// next returns the next value, as it is written, and nil behind the last.
func (v *values) next() []byte {
	i := 0
	for isSpace(v.rest[i]) || v.rest[i] == ',' || v.rest[i] == ':' {
		i++
	}
	if v.rest[i] == ']' || v.rest[i] == '}' {
		v.rest = v.rest[i:]
		return nil
	}
	end := i + valueLen(v.rest[i:])
	value := v.rest[i:end:end] // appending to it must not write into the frame
	v.rest = v.rest[end:]
	return value
}

// valueLen is how long the value is that text begins with, from inside an array or object, so that something follows. It
// finds the end by brackets and quotes alone.
func valueLen(text []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch text[i] {
		case '"':
			i += stringLen(text[i:]) - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // behind a number or a name such as null
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
}

// stringLen is how long the string is that text, valid JSON, begins with, its quotes included.
func stringLen(text []byte) int {
	i := 1
	for text[i] != '"' {
		if text[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func isNull(value []byte) bool { return value[0] == 'n' }

// unquote returns what the valid JSON string quoted says. Half a surrogate pair is read as U+FFFD, as encoding/json does.
func unquote(quoted []byte) []byte {
	plain := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(plain, '\\') < 0 {
		return plain
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // a valid string cannot fail
	return []byte(s)
}

// appendString appends s as a JSON string, escaping as little as JSON allows, which is what Phoenix does. So what came in as
// a topic never goes out longer than it was. Bytes that are not UTF-8 become U+FFFD: a frame has to be UTF-8, or the client
// drops the connection.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	dst = append(dst, '"')
	for from, i := 0, 0; ; i++ {
		if i == len(s) {
			return append(append(dst, s[from:]...), '"')
		}
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
}
