//go:build linux

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A small run in every test run, with two restarts or more; ./scripts/soak live does a large one.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("runs and kills a real server for some seconds; left out with -short")
	}
	binary := filepath.Join(t.TempDir(), "killfeed")
	if out, err := exec.Command("go", "build", "-o", binary, "killfeed/cmd/killfeed").CombinedOutput(); err != nil {
		t.Fatalf("building killfeed: %v: %s", err, out)
	}
	var progress strings.Builder
	r, err := soak(t.Context(), config{
		killfeed: binary, time: 4 * time.Second, phase: 2 * time.Second, subscribers: 80, stalled: 10, slow: 10, rate: 50, burst: 50,
		burstEvery: time.Second, killEvery: 1500 * time.Millisecond, seed: 7, progress: &progress,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	if r.Delivered == 0 || len(r.Restarts) < 2 || r.Durable.Auto == 0 || r.Durable.Manual == 0 {
		t.Errorf("too little happened: %+v", r)
	}
	if !r.Pass {
		t.Errorf("broken: %q\n%s", r.Reasons, &progress)
	}
}
