package main

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// durationValue is a flag that takes Go's durations and days: "90m", "30d", "1d12h". Negative ones are refused: no setting
// has a use for them, and a forgotten sign must not delete a log.
type durationValue time.Duration

func (v *durationValue) String() string { return formatDuration(time.Duration(*v)) }
func (v *durationValue) Type() string   { return "duration" }
func (v *durationValue) Set(s string) error {
	d, err := parseDuration(s)
	if err == nil {
		*v = durationValue(d)
	}
	return err
}

// listValue is a flag that takes several values with commas between, or is given several times. Unlike pflag's own it shows
// itself as it was given.
type listValue []string

func (v *listValue) String() string { return strings.Join(*v, ",") }
func (v *listValue) Type() string   { return "list" }
func (v *listValue) Set(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		if one = strings.TrimSpace(one); one != "" {
			*v = append(*v, one)
		}
	}
	return nil
}

func parseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no duration: want 90s, 15m, 24h, 30d or 1d12h, and not a negative one", s)
	if s == "" || strings.ContainsAny(s, "+-") {
		return 0, bad
	}
	var total time.Duration
	if days, rest, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16) // 65,535 days fit into a Duration, and 106,752 do not
		if err != nil {
			return 0, bad
		}
		total = time.Duration(n) * day
		if s = rest; s == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || total+d < 0 {
		return 0, bad
	}
	return total + d, nil
}

// formatDuration writes what parseDuration reads: days from two on, and no zero units behind ("24h", "30d", "2d12h").
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	var days string
	if d >= 2*day {
		days = strconv.FormatInt(int64(d/day), 10) + "d"
		if d %= day; d == 0 {
			return days
		}
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return days + s
}

// sizeValue is a flag that takes a number of bytes: "500MB" (10^6), "10GiB" (2^30), "1048576". A bare K, M or G is refused,
// because people mean both by it.
type sizeValue int64

func (v *sizeValue) String() string { return formatSize(int64(*v)) }
func (v *sizeValue) Type() string   { return "size" }
func (v *sizeValue) Set(s string) error {
	n, err := parseSize(s)
	if err == nil {
		*v = sizeValue(n)
	}
	return err
}

type sizeUnit struct {
	name  string
	bytes int64
}

// sizeUnits has the longest unit of each size first, for reading; GiB before GB, for writing.
var sizeUnits = []sizeUnit{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

func parseSize(s string) (int64, error) {
	bad := fmt.Errorf("%q is no size: want a number of bytes, as in 500MB, 10GiB or 1048576", s)
	number, unit := strings.TrimSpace(s), int64(1)
	for _, u := range sizeUnits {
		if n := len(number) - len(u.name); n >= 0 && strings.EqualFold(number[n:], u.name) {
			number, unit = strings.TrimSpace(number[:n]), u.bytes
			break
		}
	}
	if whole, err := strconv.ParseUint(number, 10, 63); err == nil {
		hi, lo := bits.Mul64(whole, uint64(unit))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, bad
		}
		return int64(lo), nil
	}
	if unit == 1 || strings.Trim(number, "0123456789.") != "" { // no exponents, signs, Inf or NaN
		return 0, bad
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*float64(unit) >= math.MaxInt64 {
		return 0, bad
	}
	return int64(f * float64(unit)), nil
}

// formatSize writes the size exactly, in the largest unit that divides it.
func formatSize(n int64) string {
	if n == 0 {
		return "0"
	}
	for _, u := range sizeUnits {
		if u.bytes > 1 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// choiceValue is a flag that takes one of a few words.
type choiceValue struct {
	value   *string
	choices []string
}

func choice(p *string, def string, choices ...string) *choiceValue {
	*p = def
	return &choiceValue{p, choices}
}

func (v *choiceValue) String() string { return *v.value }
func (v *choiceValue) Type() string   { return strings.Join(v.choices, "|") }
func (v *choiceValue) Set(s string) error {
	if !slices.Contains(v.choices, s) {
		return fmt.Errorf("%q is none of %s%s", s, strings.Join(v.choices, ", "), didYouMean(s, v.choices))
	}
	*v.value = s
	return nil
}

// didYouMean is ` (did you mean "retain"?)` for the nearest of the known words, or nothing when none is near.
func didYouMean(word string, known []string) string {
	best, least := "", len(word)/3+2
	for _, k := range known {
		if d := editDistance(word, k); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// editDistance is Levenshtein's, over bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
