package zkillws

import (
	"fmt"
	"strconv"
	"strings"

	"killfeed"
)

const (
	// maxName bounds a channel's name, in bytes.
	maxName = 128

	killstream   = "killstream"
	channelForms = "killstream, all:*, character:<id>, corporation:<id>, alliance:<id>, faction:<id>, ship:<id>, group:<id>, label:<label>, " +
		"label:all, system:<id>, constellation:<id>, region:<id>, location:<id> and total_value:<n>b+"
)

// interest is what a channel asks for.
type interest struct {
	// topic is where all that is on the channel can be found; All when there is none narrower.
	topic killfeed.Topic
	// least is the value from which on a killmail is on a channel total_value, 0 for others.
	least float64
	// silent: it is a channel of the original's, on which nothing comes here.
	silent bool
}

// parseChannel reads a channel's name. Names are compared as they are, so that there is one way to write each.
func parseChannel(name string) (interest, error) {
	all := interest{topic: killfeed.All()}
	kind, rest, named := strings.Cut(name, ":")
	switch {
	case len(name) > maxName:
		return interest{}, fmt.Errorf("a channel's name has %d bytes: at most %d are accepted", len(name), maxName)
	case name == killstream, name == "all:*", name == "none:*", name == "label:all":
		return all, nil
	case name == "public", name == "ztop", named && (kind == "tracker" || kind == "stats"):
		return interest{silent: true}, nil
	case named && kind == "total_value":
		if least, ok := parseValue(rest); ok {
			all.least = least
			return all, nil
		}
	case named && kind == "location":
		if isNumber(rest) {
			return all, nil
		}
	case named && kind == "label":
		if t, err := killfeed.ParseTopic(name); err == nil {
			return interest{topic: t}, nil
		}
	case named && numbered[kind]:
		if rest == "0" { // the original's way to say that there is none
			return all, nil
		}
		if t, err := killfeed.ParseTopic(name); err == nil && isNumber(rest) {
			return interest{topic: t}, nil
		}
	}
	return interest{}, fmt.Errorf("channel %s is not known: want %s", shown(name), channelForms)
}

// numbered are the kinds of channels that are topics of the same name.
var numbered = map[string]bool{
	"character": true, "corporation": true, "alliance": true, "faction": true, "ship": true, "group": true,
	"system": true, "constellation": true, "region": true,
}

// isNumber tells whether s is a number as programs write one: without a zero before it.
func isNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 63)
	return err == nil && strconv.FormatUint(n, 10) == s
}

// parseValue reads a value as in 10b+ or 2.5m+: the letters are thousand, million, billion and trillion.
func parseValue(s string) (float64, bool) {
	s, plus := strings.CutSuffix(s, "+")
	unit := 1.0
	if s != "" {
		if i := strings.IndexByte("kmbt", s[len(s)-1]); i >= 0 {
			s = s[:len(s)-1]
			unit = [...]float64{1e3, 1e6, 1e9, 1e12}[i]
		}
	}
	whole, part, dotted := strings.Cut(s, ".")
	if !plus || !digits(whole) || dotted && !digits(part) {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n * unit, err == nil && n > 0
}

// digits tells whether s is one to 15 decimal digits.
func digits(s string) bool {
	return s != "" && len(s) <= 15 && strings.Trim(s, "0123456789") == ""
}

// shown is what a client sent, as a message shows it.
func shown(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:61], "") + "..."
	}
	return strconv.Quote(s)
}
