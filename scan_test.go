package killfeed

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// compactText is the whole work of a scanner: what it makes of a text, or its error.
func compactText(text []byte) ([]byte, error) {
	var s scanner
	s.load(text)
	s.skip()
	if !s.finish() {
		return nil, s.err("killmail", text)
	}
	return s.text(span{0, s.end}), nil
}

// checkScan compares the scanner with encoding/json.
func checkScan(t rapid.TB, text []byte) {
	t.Helper()
	given := bytes.Clone(text)
	got, err := compactText(text)
	if !bytes.Equal(given, text) {
		t.Fatalf("the scanner changed its input %q to %q", given, text)
	}
	if want := json.Valid(text) && utf8.Valid(text); want != (err == nil) {
		t.Fatalf("scan of %q: error %v, want accepted: %v", text, err, want)
	}
	if err != nil {
		return
	}
	var want bytes.Buffer
	if err := json.Compact(&want, text); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Fatalf("scan of %q gives %q, json.Compact %q", text, got, want.Bytes())
	}
}

// scanSeeds are texts at the borders of the grammar. Each is also tried cut off, and wrapped in white space.
var scanSeeds = []string{
	``, ` `, `{}`, `[]`, `null`, `true`, `false`, `nul`, `nulll`, `truefalse`, `tru`, "\x00", "{}\x00", "\x00{}", "\ufeff{}",
	`0`, `-0`, `-`, `01`, `-01`, `1.`, `.5`, `0.0`, `1.50`, `1e5`, `1E+05`, `1e-`, `1e`, `1.e1`, `0e0`, `00`, `+1`, `0x10`, `1_0`,
	`123456789012345678901234567890.123456789e-1234567890`, `Infinity`, `NaN`, `1 2`, `1,2`,
	`""`, `"a`, `"`, `"\`, `"\"`, `"\\"`, `"\/\b\f\n\r\t\""`, `"\x"`, `"\'"`, `"\u"`, `"\u00"`, `"\u00e"`, `"\u00eG"`, `"\u00e9"`,
	`"\uD83D\uDE00"`, `"\ud800"`, "\"a\nb\"", "\"a\x1fb\"", "\"a\x7fb\"", "\"a\x00b\"", "\"\xff\"", "\"caf\xc3\xa9\"", "\"caf\xc3\"",
	"\"\xed\xa0\x80\"", "\"\u2028\u2029\"", "\"seven77\"", "\"eight888\"", "\"nine99999\"", "\"sixteen 16 bytes\"", "\"1234567\\n\"",
	"\"\u0080\u00a2\u00dc\"", "\"\x21\x20\x22", "\"<>&\"",
	`{"a":1}`, `{"a":1,}`, `{,}`, `{"a"}`, `{"a":}`, `{"a",1}`, `{a:1}`, `{'a':1}`, `{"a":1 "b":2}`, `{"a":1,,"b":2}`, `{"a":1`, `{"a":`,
	`{"a"`, `{"`, `{`, `}`, `{]`, `{"a":1]`, `{"a":{"a":{}}}`, `{"a":1,"a":2}`, `{"":""}`, `{1:2}`, `{null:1}`,
	`[1,2]`, `[1,]`, `[,1]`, `[1 2]`, `[1`, `[`, `]`, `[}`, `[1}`, `[[],[[]],{}]`, `[1,[2,[3,{"a":[4]}]]]`, `[1]]`, `{}{}`, `[] []`,
	" { \"a\" : [ 1 , { \"b c\" : \" d  e \" } , [ ] ] , \"f\"\t:\r\nnull } \n", "[\n  1,\n  2\n]", "\t[\v1]", "[1\u00a0]", "[1,\f2]",
	"{\"a\" :1,\"b\" :2}", "{ \"long name of a member\"      :       \"value\" }", "      {\"a\":1}", "{\"a\":1}      ", "\"a\" ", " 1 ",
}

func TestScan(t *testing.T) {
	for _, seed := range scanSeeds {
		checkScan(t, []byte(seed))
		checkScan(t, []byte(" \n"+seed+"\t\r"))
		for i := range seed {
			checkScan(t, []byte(seed[:i]))
		}
	}
	for _, depth := range []int{1, 9999, 10000, 10001, 20000} {
		checkScan(t, []byte(strings.Repeat("[", depth)+strings.Repeat("]", depth)))
		checkScan(t, []byte(strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth)))
		checkScan(t, []byte(strings.Repeat("[", depth)))
	}
}

// Every byte at every place of a string is looked at in a word of eight: none may hide behind its neighbours.
func TestScanString(t *testing.T) {
	for c := range 256 {
		for at := range 20 {
			for _, fill := range []byte{'x', '!', '#', 0x7f, '['} {
				inside := bytes.Repeat([]byte{fill}, 20)
				inside[at] = byte(c)
				checkScan(t, append(append([]byte{'"'}, inside...), '"'))
			}
		}
	}
}

func TestScanError(t *testing.T) {
	tests := []struct{ text, want string }{
		{``, `killmail is missing or empty: want JSON with a value at byte 0`},
		{`{"a":1`, `killmail "{\"a\":1" is not accepted: want JSON with a comma or } at byte 6`},
		{`{"a":1 x`, `killmail "{\"a\":1 x" is not accepted: want JSON with a comma or } at byte 7`},
		{`[1,]`, `killmail "[1,]" is not accepted: want JSON with a value at byte 3`},
		{`{} {}`, `killmail "{} {}" is not accepted: want JSON with nothing more at byte 3`},
		{"[\"\xff\"]", `killmail "[\"\xff\"]" is not accepted: want JSON with valid UTF-8 at byte 2`},
		{`["` + strings.Repeat("a", 100) + "\n", `killmail "aaaaaaaaaaaaaaaaaaaaaaaa\n" is not accepted: want JSON with ` +
			`no control character at byte 102`},
		{`["abc`, `killmail "[\"abc" is not accepted: want JSON with the end of a string at byte 5`},
	}
	for _, test := range tests {
		if _, err := compactText([]byte(test.text)); err == nil || err.Error() != test.want {
			t.Errorf("scan of %q:\n got %v\nwant %s", test.text, err, test.want)
		}
	}
}

func FuzzScan(f *testing.F) {
	for _, seed := range scanSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) { checkScan(t, text) })
}
