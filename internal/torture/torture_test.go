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
	violations, err := run(t.Context(), config{killfeed: binary, kills: 3, writers: 2, seed: 7, keep: t.TempDir()}, &out)
	if err != nil || violations > 0 {
		t.Errorf("%d promises broken, error %v:\n%s", violations, err, out.String())
	}
}
