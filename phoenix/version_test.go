package phoenix_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"killfeed/phoenix"
)

// Case 4, and 1 to 3 as far as they are about the parameter.
func TestParseVersion(t *testing.T) {
	for _, tt := range []struct {
		vsn  string
		want phoenix.Version // 0: refused
	}{
		{"", phoenix.V1},
		{"1.0.0", phoenix.V1},
		{"1.0.7", phoenix.V1},
		{"2.0.0", phoenix.V2},
		{"2.0.1", phoenix.V2},
		{"2.0.10", phoenix.V2},
		{"2.0.99999999999999999999999", phoenix.V2},
		{"2.0.0+build.007", phoenix.V2},
		{"2.0.1-rc.1", phoenix.V2},
		{"2.0.1-rc-1.x+a-b", phoenix.V2},
		{"2.0.1-0", phoenix.V2},
		{"2.1.0", 0},
		{"2.5.0", 0},
		{"1.1.0", 0},
		{"3.0.0", 0},
		{"0.9.0", 0},
		{"123.1.1", 0},
		{"20.0.0", 0},
		{"2", 0},
		{"2.0", 0},
		{"2.0.", 0},
		{"2..0", 0},
		{".0.0", 0},
		{"2.0.0.0", 0},
		{"2.0.x", 0},
		{"2.0.01", 0},
		{"2.00.0", 0},
		{"02.0.0", 0},
		{"2.0.-1", 0},
		{"+2.0.0", 0},
		{"v2.0.0", 0},
		{" 2.0.0", 0},
		{"2.0.0 ", 0},
		{"2.0.0-rc.1", 0}, // comes before 2.0.0
		{"2.0.1-", 0},
		{"2.0.1-a..b", 0},
		{"2.0.1-01", 0},
		{"2.0.1-é", 0},
		{"2.0.0+", 0},
		{"2.0.0+a_b", 0},
		{"2.0.0+a+b", 0},
		{"abc", 0},
		{"\x00\xff", 0},
		{"２.0.0", 0},
		{strings.Repeat("2", 100_000), 0},
	} {
		got, err := phoenix.ParseVersion(tt.vsn)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("ParseVersion(%.40q) = %d, %v; want %d", tt.vsn, got, err, tt.want)
		}
		if err != nil && (len(err.Error()) > 300 || !utf8.ValidString(err.Error()) || !strings.Contains(err.Error(), "want 2.0.0")) {
			t.Errorf("ParseVersion(%.40q) is refused with %q", tt.vsn, err)
		}
	}
}
