package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"unicode/utf8"
)

// Bodies are taken apart by hand, on text that encoding/json found valid: decoding into a struct would match names in any
// case, take the last of two values for one name in silence, and lose how a number was written.

// object checks that text is one JSON object in valid UTF-8. The error says where it is not.
func object(text []byte) error {
	if !utf8.Valid(text) {
		return badBody("one JSON object in UTF-8")
	}
	if !json.Valid(text) {
		var raw json.RawMessage
		fault := json.Unmarshal(text, &raw)
		if at, ok := fault.(*json.SyntaxError); ok {
			return badBody(fmt.Sprintf("one JSON object, and at byte %d there is an %v", at.Offset, at))
		}
		return badBody("one JSON object")
	}
	if bytes.TrimLeft(text, jsonSpace)[0] != '{' {
		return badBody("one JSON object")
	}
	return nil
}

// badBody refuses a body. It does not show it: bodies are long, and their beginning rarely says what is wrong.
func badBody(want string) error {
	return &problem{Status: http.StatusBadRequest, Parameter: "body", Accepted: want,
		Detail: "the body is not accepted: want " + want}
}

const jsonSpace = " \t\r\n"

// eachMember calls f with every member of the valid JSON object text.
func eachMember(text []byte, f func(name string, value []byte) error) error {
	i := pastSpace(text, bytes.IndexByte(text, '{')+1)
	for text[i] != '}' {
		end := valueEnd(text, i)
		name := unquote(text[i:end])
		i = pastSpace(text, pastSpace(text, end)+1) // the colon
		end = valueEnd(text, i)
		if err := f(name, text[i:end]); err != nil {
			return err
		}
		if i = pastSpace(text, end); text[i] == ',' {
			i = pastSpace(text, i+1)
		}
	}
	return nil
}

// eachElement calls f with every element of the valid JSON array text.
func eachElement(text []byte, f func(value []byte) error) error {
	i := pastSpace(text, 1)
	for text[i] != ']' {
		end := valueEnd(text, i)
		if err := f(text[i:end]); err != nil {
			return err
		}
		if i = pastSpace(text, end); text[i] == ',' {
			i = pastSpace(text, i+1)
		}
	}
	return nil
}

// scalar is the text of a string, number or boolean. null, objects and arrays are none.
func scalar(value []byte) (string, bool) {
	switch value[0] {
	case '"':
		return unquote(value), true
	case '{', '[', 'n':
		return "", false
	}
	return string(value), true
}

func isNull(value []byte) bool { return value[0] == 'n' }

// unquote decodes a valid JSON string.
func unquote(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return string(quoted) // not reached
	}
	return s
}

func pastSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n') {
		i++
	}
	return i
}

// valueEnd is the index behind the value that begins at text[i], found by brackets and quotes alone; -1 when it has none.
// text need not be valid.
func valueEnd(text []byte, i int) int {
	depth := 0
	for ; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			if i = stringEnd(text, i); i < 0 {
				return -1
			}
			if depth == 0 {
				return i
			}
			i--
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				if depth < 0 {
					return i // of a scalar
				}
				return i + 1
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	if depth == 0 {
		return i
	}
	return -1
}

// stringEnd is the index behind the string whose opening quote is text[i]; -1 when it has none on its line.
func stringEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		case '\n':
			return -1
		}
	}
	return -1
}
