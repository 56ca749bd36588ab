package doctest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// expectation is what a block shall print.
type expectation struct {
	whole, begin *regexp.Regexp
	json         bool
}

// expect reads the block with the expected output.
func expect(b *block) (*expectation, error) {
	e := &expectation{json: b.lang == "json"}
	pattern := ""
	if e.json {
		parts := strings.Split(compact(b.text), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern = strings.Join(parts, `.*?`)
	} else {
		var lines []string
		for line := range strings.SplitSeq(clean(b.text), "\n") {
			if line == "…" {
				lines = append(lines, `(?s:.*?)`)
				continue
			}
			parts := strings.Split(line, "…")
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			lines = append(lines, strings.Join(parts, `[^\n]*?`))
		}
		pattern = strings.Join(lines, `\n`)
	}
	var err error
	if e.whole, err = regexp.Compile(`^` + pattern + `$`); err != nil {
		return nil, err
	}
	e.begin, err = regexp.Compile(`^` + pattern + `(\n|$)`)
	return e, err
}

func (e *expectation) normal(got string) string {
	if e.json {
		return compact(got)
	}
	return clean(got)
}

// check returns an error when got is not what is expected.
func (e *expectation) check(got string) error {
	if got = e.normal(got); !e.whole.MatchString(got) {
		return fmt.Errorf("it printed\n%s\n\nwhich does not match\n%s", got, e.whole)
	}
	return nil
}

// begun tells whether got begins with what is expected.
func (e *expectation) begun(got string) bool { return e.begin.MatchString(e.normal(got)) }

// clean takes out what does not show: spaces at line ends, and empty lines around.
func clean(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t\r")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// compact takes white space outside strings out of JSON, or of several JSON texts, whole or not.
func compact(s string) string {
	var b strings.Builder
	inside, escaped := false, false
	for i := range len(s) {
		c := s[i]
		if !inside && (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
			continue
		}
		switch {
		case escaped:
			escaped = false
		case inside && c == '\\':
			escaped = true
		case c == '"':
			inside = !inside
		}
		b.WriteByte(c)
	}
	return b.String()
}

// validJSON tells whether s is one or several JSON texts, with … in place of a value, of members or of text.
func validJSON(s string) error {
	s = strings.NewReplacer(`{…}`, `{}`, `[…]`, `[]`, `,…}`, `}`, `,…]`, `]`, `:…`, `:0`).Replace(compact(s))
	d := json.NewDecoder(strings.NewReader(s))
	for d.More() {
		var any json.RawMessage
		if err := d.Decode(&any); err != nil {
			return fmt.Errorf("%w in %s", err, s)
		}
	}
	return nil
}

func TestExpectation(t *testing.T) {
	for _, test := range []struct {
		lang, want, got string
		ok, begun       bool
	}{
		{"text", "a …\nc\n", "a b\nc\n", true, true},
		{"text", "a …\nc\n", "a b\nx\nc", false, false},
		{"text", "a\n…\nc\n", "a\nb\nx\nc", true, true},
		{"text", "a", "a\nb", false, true},
		{"text", "a", "ab", false, false},
		{"text", "200", "200 \r\n", true, true},
		{"json", `{"a": {…}, "t": "…"}`, `{"a":{"b":[1,2]},"t":"now"}`, true, true},
		{"json", "{\"a\":1}\n{\"b\":2}", `{"a":1}{"b":2}`, true, true},
		{"json", `{"a":"b c"}`, `{"a":"bc"}`, false, false},
		{"json", `{"a":1}`, `{"a":1,"b":2}`, false, false},
	} {
		e, err := expect(&block{lang: test.lang, text: test.want})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.check(test.got); (err == nil) != test.ok {
			t.Errorf("%q against %q: %v, want ok %v", test.got, test.want, err, test.ok)
		}
		if got := e.begun(test.got); got != test.begun {
			t.Errorf("%q begins with %q: %v, want %v", test.got, test.want, got, test.begun)
		}
	}
	if err := validJSON(`{"a":{…},"b":…,"c":["…",…],…}{}`); err != nil {
		t.Error(err)
	}
	if validJSON(`{"a":}`) == nil {
		t.Error("bad JSON was accepted")
	}
}
