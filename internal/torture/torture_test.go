package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A few kills in every test run; ./scripts/torture does many.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("kills a real server for some seconds; left out with -short")
	}
	binary := filepath.Join(t.TempDir(), "killfeed")
	if out, err := exec.Command("go", "build", "-o", binary, "killfeed/cmd/killfeed").CombinedOutput(); err != nil {
		t.Fatalf("building killfeed: %v: %s", err, out)
	}
	var out strings.Builder
	c := config{killfeed: binary, kills: 4, writers: 2, seed: 7, work: t.TempDir(), part: 1}
	for part := 0; ; part++ {
		violations, err := run(t.Context(), c, &out)
		if err != nil || violations > 0 {
			t.Fatalf("%d promises broken, error %v:\n%s", violations, err, out.String())
		}
		if strings.Contains(out.String(), "clean stop") {
			break
		}
		if part > 2 {
			t.Fatalf("after %d parts it has come to no end:\n%s", part, out.String())
		}
		c.resume, c.part = true, 0
	}
}

// The short forms of what takes minutes by ./scripts/torture: every kind of failure, at fewer places.
func TestShort(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds; left out with -short")
	}
	for _, tt := range []struct {
		name string
		run  func(out *strings.Builder) (int, error)
		want string // is in the output of a run that did anything
	}{
		{"power", func(out *strings.Builder) (int, error) { return cutPowerOften(t.Context(), 5, 2, 20, out) }, "acknowledged inserts lost"},
		{"disk-full", func(out *strings.Builder) (int, error) { return failDisk(t.Context(), 37, out) }, "to a caller"},
		{"bitflip", func(out *strings.Builder) (int, error) { return flipBits(t.Context(), 5, 40, out) }, "tables"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if violations, err := tt.run(&out); err != nil || violations > 0 || !strings.Contains(out.String(), tt.want) {
				t.Errorf("%d promises broken, error %v:\n%s", violations, err, out.String())
			}
		})
	}
}
