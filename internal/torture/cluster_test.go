package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A little of what ./scripts/torture --cluster does for a quarter of an hour, in every test run.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("tortures a real cluster for most of a minute; left out with -short")
	}
	dir := t.TempDir()
	c := config{
		killfeed: filepath.Join(dir, "killfeed"), self: filepath.Join(dir, "torture"), work: filepath.Join(dir, "work"), seed: 7,
		time: 10 * time.Second,
	}
	for binary, from := range map[string]string{c.killfeed: "killfeed/cmd/killfeed", c.self: "killfeed/internal/torture"} {
		if out, err := exec.Command("go", "build", "-o", binary, from).CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v: %s", from, err, out)
		}
	}
	var out strings.Builder
	violations, err := runCluster(t.Context(), c, &out)
	if err != nil || violations > 0 {
		t.Errorf("%d promises broken, error %v:\n%s", violations, err, out.String())
	} else {
		t.Log(out.String())
	}
}
