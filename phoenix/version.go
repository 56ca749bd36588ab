package phoenix

import (
	"fmt"
	"strings"
)

// Version is a serializer of the protocol: how frames are written. The zero Version stands for V1, as a missing vsn does.
type Version uint8

const (
	// V1 writes objects with the members topic, event, payload and ref. It knows no join_ref on the way to the client.
	V1 Version = 1
	// V2 writes arrays [join_ref, ref, topic, event, payload].
	V2 Version = 2
)

// ParseVersion reads the vsn parameter of a connection: a semantic version, or "" for 1.0.0. V1 serves 1.0.x, V2 serves
// 2.0.x; everything else is an error, which transports answer with 403. Its text may be shown.
func ParseVersion(vsn string) (Version, error) {
	if vsn == "" {
		return V1, nil
	}
	if major, ok := majorServed(vsn); ok {
		return major, nil
	}
	const most = 32 // bytes: enough for any version, and no room for somebody's essay in a log
	if len(vsn) > most {
		vsn = vsn[:most] + "…"
	}
	return 0, fmt.Errorf("vsn %q is not served here: want 2.0.0 or 1.0.0", vsn)
}

// majorServed is what the requirements "~> 1.0.0" and "~> 2.0.0" mean to Elixir: a complete semantic version with that major
// number and the minor number 0, and not before the first release of it.
func majorServed(vsn string) (Version, bool) {
	vsn, build, hasBuild := strings.Cut(vsn, "+")
	vsn, pre, hasPre := strings.Cut(vsn, "-")
	major, rest, _ := strings.Cut(vsn, ".")
	minor, patch, _ := strings.Cut(rest, ".")
	switch {
	case minor != "0", !isNumber(patch):
		return 0, false
	case hasPre && (patch == "0" || !areIdentifiers(pre, true)), hasBuild && !areIdentifiers(build, false):
		return 0, false
	case major == "1":
		return V1, true
	case major == "2":
		return V2, true
	}
	return 0, false
}

// areIdentifiers tells whether s is what may follow a "-" or "+" in a semantic version. In a pre-release a number must not
// begin with a zero.
func areIdentifiers(s string, preRelease bool) bool {
	for id := range strings.SplitSeq(s, ".") {
		numeric := id != ""
		for _, c := range []byte(id) {
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-'
			if !letter && !isDigit(c) {
				return false
			}
			numeric = numeric && !letter
		}
		if id == "" || preRelease && numeric && !isNumber(id) {
			return false
		}
	}
	return true
}

// isNumber tells whether s is a decimal number as semantic versions write it.
func isNumber(s string) bool {
	for _, c := range []byte(s) {
		if !isDigit(c) {
			return false
		}
	}
	return s == "0" || s != "" && s[0] != '0'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
