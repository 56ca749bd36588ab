package main

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	good := map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "24h": day, "1d": day, "30d": 30 * day, "1d12h": 36 * time.Hour,
		"0d5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "1d0s": day, "1.5h": 90 * time.Minute,
	}
	for s, want := range good {
		if got, err := parseDuration(s); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "30", "30 d", "-1d", "-5m", "1d-5m", "1.5d", "5m1d", "1d2d", "1w", "70000d", "9999999h", "forever"} {
		if got, err := parseDuration(s); err == nil {
			t.Errorf("%q is accepted as %v", s, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	good := map[string]int64{
		"0": 0, "1048576": 1 << 20, "500MB": 5e8, "10GiB": 10 << 30, "10gib": 10 << 30, "1.5GB": 15e8, "1 GiB": 1 << 30,
		"7B": 7, "2TiB": 2 << 40, "0.5KiB": 512,
	}
	for s, want := range good {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "GB", "10G", "10k", "-5MB", "+5", "1e3MB", "0x10", "1_000", "1.5", "NaNMB", "InfGB", "9000000TiB",
		"99999999.5TB", "20000000000000000000"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("%q is accepted as %v", s, got)
		}
	}
}

func TestListValue(t *testing.T) {
	for s, want := range map[string]string{"": "", " , ": "", "a": "a", "a, b,,c ": "a,b,c", "https://a.example": "https://a.example"} {
		var v, again listValue
		if err := v.Set(s); err != nil || v.String() != want {
			t.Errorf("%q is read %q, %v; want %q", s, v.String(), err, want)
		}
		if again.Set(v.String()); again.String() != want {
			t.Errorf("%q is written %q and read %q", s, v.String(), again.String())
		}
	}
	var v listValue
	if v.Set("a"); v.Set("b,c") != nil || v.String() != "a,b,c" {
		t.Errorf("given twice it is %q", v.String())
	}
}

// What config show prints can be given back.
func TestFormatsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(65000*day)).Draw(t, "duration"))
		if rapid.Bool().Draw(t, "whole seconds") {
			d = d.Truncate(time.Second)
		}
		if got, err := parseDuration(formatDuration(d)); err != nil || got != d {
			t.Fatalf("%v is written %q and read %v, %v", int64(d), formatDuration(d), got, err)
		}
		n := rapid.Int64Min(0).Draw(t, "size")
		if got, err := parseSize(formatSize(n)); err != nil || got != n {
			t.Fatalf("%d is written %q and read %d, %v", n, formatSize(n), got, err)
		}
	})
	for d, want := range map[time.Duration]string{0: "0", day: "24h", 30 * day: "30d", 60 * time.Hour: "2d12h", 90 * time.Second: "1m30s",
		time.Hour: "1h", 10 * time.Minute: "10m", 49*time.Hour + time.Second: "2d1h0m1s"} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 64 << 20: "64MiB", 5e8: "500MB", 1000: "1KB", 1001: "1001"} {
		if got := formatSize(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"retain", "retain-max", "data", "listen"}
	for word, want := range map[string]string{"retian": "retain", "retainmax": "retain-max", "date": "data", "lisen": "listen", "colour": ""} {
		if want != "" {
			want = ` (did you mean "` + want + `"?)`
		}
		if got := didYouMean(word, known); got != want {
			t.Errorf("%s: %q, want %q", word, got, want)
		}
	}
}

func FuzzValues(f *testing.F) {
	for _, s := range []string{"1d12h", "10GiB", "1.5KB", "0", "d", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := parseDuration(s); err == nil {
			if again, err := parseDuration(formatDuration(d)); err != nil || again != d || d < 0 {
				t.Errorf("%q is %v, written and read again %v, %v", s, d, again, err)
			}
		}
		if n, err := parseSize(s); err == nil {
			if again, err := parseSize(formatSize(n)); err != nil || again != n || n < 0 {
				t.Errorf("%q is %d, written and read again %d, %v", s, n, again, err)
			}
		}
	})
}
