//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

var long = flag.Bool("long", false, "build a release in TestRelease")

// TestRelease: what is released runs, says its version, and is what its sums say.
func TestRelease(t *testing.T) {
	if !*long {
		t.Skip("it builds the program anew, which takes minutes: go test ./cmd/killfeed -run TestRelease -args -long")
	}
	out := filepath.Join(t.TempDir(), "dist")
	release := func(args ...string) (string, error) {
		text, err := exec.Command("../../scripts/release", args...).CombinedOutput()
		return string(text), err
	}
	if text, err := release("1.2"); err == nil || !strings.Contains(text, "usage: ") {
		t.Errorf("the version 1.2: %v\n%s", err, text)
	}
	name := "killfeed-v1.2.3-test-linux-" + runtime.GOARCH
	if text, err := release("v1.2.3-test", "--out", out, "linux/"+runtime.GOARCH); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	sums, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(sums), "\n"); n != 3 {
		t.Errorf("there are %d sums, want 3:\n%s", n, sums)
	}
	for line := range strings.Lines(string(sums)) {
		want, file, _ := strings.Cut(strings.TrimSpace(line), "  ")
		content, err := os.ReadFile(filepath.Join(out, file))
		if sum := sha256.Sum256(content); err != nil || hex.EncodeToString(sum[:]) != want {
			t.Errorf("%s has not the sum %s: %v", file, want, err)
		}
	}
	if text, err := exec.Command("tar", "-C", out, "-xzf", filepath.Join(out, name+".tar.gz")).CombinedOutput(); err != nil {
		t.Fatalf("unpacking: %v\n%s", err, text)
	}
	said, err := exec.Command(filepath.Join(out, name, "killfeed"), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(said), "killfeed v1.2.3-test\n") {
		t.Errorf("it says %q, %v", said, err)
	}
	modules, err := os.ReadFile(filepath.Join(out, "modules.txt"))
	if err != nil || !bytes.Contains(modules, []byte("github.com/cockroachdb/pebble/v2 v2.")) {
		t.Errorf("the list of modules lacks the engine: %v", err)
	}
	licences, err := os.ReadFile(filepath.Join(out, "LICENSES.txt"))
	if err != nil || bytes.Count(licences, []byte("==== ")) < bytes.Count(modules, []byte("\n")) {
		t.Errorf("some modules have no licence in the list: %v", err)
	}
	for _, file := range []string{"LICENSE", "killfeed.service", "killfeed.socket", "prometheus/alerts.yaml", "grafana/killfeed.json"} {
		if _, err := os.Stat(filepath.Join(out, name, file)); err != nil {
			t.Error(err)
		}
	}
	if text, err := release("v1.2.3", "--out", out, "linux/"+runtime.GOARCH); err == nil || !strings.Contains(text, "is not empty") {
		t.Errorf("into a directory with another release: %v\n%s", err, text)
	}
}
