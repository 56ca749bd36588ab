package wanderer

import (
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"killfeed"
)

// Killmails in the log are valid JSON without insignificant white space, so that brackets and quotes are enough to find what is
// where, and every value can be copied as it is written.

// members calls f with each member of an object, as it is written; a value that is no object has none.
func members(object []byte, f func(name, value []byte)) {
	if len(object) == 0 || object[0] != '{' {
		return
	}
	for i := 1; i < len(object) && object[i] != '}'; {
		if object[i] == ',' {
			i++
		}
		name, end := i+1, pastString(object, i)-1
		value := end + 2 // behind the quote and the colon
		i = pastValue(object, value)
		f(object[name:end], object[value:i])
	}
}

// elements calls f with each element of an array; a value that is no array has none.
func elements(array []byte, f func(value []byte)) {
	if len(array) == 0 || array[0] != '[' {
		return
	}
	for i := 1; i < len(array) && array[i] != ']'; {
		if array[i] == ',' {
			i++
		}
		end := pastValue(array, i)
		f(array[i:end])
		i = end
	}
}

// pastString is where the string that begins at i ends.
func pastString(text []byte, i int) int {
	for i++; i < len(text) && text[i] != '"'; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(text))
}

// pastValue is where the value that begins at i ends.
func pastValue(text []byte, i int) int {
	depth := 0
	for i < len(text) {
		switch text[i] {
		case '"':
			if i = pastString(text, i); depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of what is around
			}
			if depth--; depth == 0 {
				return i + 1
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

// idOf is the id that a value is, 0 when it is none.
func idOf(value []byte) uint32 {
	if len(value) > 10 {
		return 0
	}
	id, _ := killfeed.ParseID(string(value))
	return id
}

// appendString appends a string in quotes.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text, err := json.Marshal(s)
			if err != nil { // not reached: every string can be written
				return append(b, `""`...)
			}
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func appendIDs(b []byte, ids []uint32) []byte {
	b = append(b, '[')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	return append(b, ']')
}
