package web

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"killfeed"
)

// eachPair calls f with every name=value pair of a raw query, in order. It takes what url.ParseQuery takes (the fuzz test
// holds it to that) and, beyond it, a semicolon as any other character, as browsers do. What is not text in UTF-8 is refused.
//
// url.ParseQuery itself makes a map and a slice for each name, which is most of what an idle poll would cost.
func eachPair(raw string, f func(name, value string) error) error {
	plain := strings.IndexByte(raw, '%') < 0 && strings.IndexByte(raw, '+') < 0 && utf8.ValidString(raw)
	for raw != "" {
		part := raw
		if end := strings.IndexByte(raw, '&'); end >= 0 {
			part, raw = raw[:end], raw[end+1:]
		} else {
			raw = ""
		}
		if part == "" {
			continue
		}
		name, value := part, ""
		if equals := strings.IndexByte(part, '='); equals >= 0 {
			name, value = part[:equals], part[equals+1:]
		}
		if !plain {
			var err error
			if name, err = decodeName(name); err != nil {
				return err
			}
			if value, err = decode(name, value); err != nil {
				return err
			}
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	return nil
}

// decodeName is decode for names. The two that most HTTP libraries send encoded, once for each system, cost nothing.
func decodeName(s string) (string, error) {
	switch s {
	case "systems%5B%5D":
		return "systems[]", nil
	case "topics%5B%5D":
		return "topics[]", nil
	}
	return decode(s, s)
}

// decode undoes the percent-encoding of a parameter's name or value.
func decode(name, s string) (string, error) {
	plain := s
	if strings.IndexByte(s, '%') >= 0 || strings.IndexByte(s, '+') >= 0 {
		var err error
		if plain, err = url.QueryUnescape(s); err != nil {
			return "", killfeed.Invalid(shorten(name), s, "percent-encoding: each % followed by two hex digits, and %25 for a % itself")
		}
	}
	if !utf8.ValidString(plain) {
		return "", killfeed.Invalid(shorten(name), s, "text in UTF-8")
	}
	return plain, nil
}
