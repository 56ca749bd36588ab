//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHangup: on SIGHUP a running server reads its admin token again. The old one is good for nothing any more; when the new one
// cannot be had, the old one holds.
func TestHangup(t *testing.T) {
	bin, err := exec.LookPath("killfeed") // the real main, as in the scripts
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, addrFile := filepath.Join(dir, tokenFileName), filepath.Join(dir, "addr")
	server := exec.Command(bin, "serve", "--memory", "--data", dir, "--listen", "127.0.0.1:0", "--addr-file", addrFile, "--log-format", "json")
	out, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { server.Process.Kill() }) // it ends the reading, and with that the test
	defer limit.Stop()
	lines := bufio.NewScanner(out)
	// said waits for a message in the log.
	said := func(message string) (line struct{ Msg, Err string }) {
		t.Helper()
		for lines.Scan() {
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatalf("%v in %s", err, lines.Bytes())
			}
			if strings.HasPrefix(line.Msg, message) {
				return line
			}
		}
		t.Fatalf("the server does not say %q", message)
		return line
	}
	read := func(path string) string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := server.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	said("serving")
	var url string
	status := func(token string, want int) {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, url+"/api/collect", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("status %d, want %d", res.StatusCode, want)
		}
	}
	first := read(file)
	const second = "correct-horse-battery-staple"
	write(second)
	said("the admin token was read again")
	url = "http://" + read(addrFile) // it was written before that
	status(first, http.StatusForbidden)
	status(second, http.StatusOK)

	write("short")
	if line := said("the admin token could not be read again"); !strings.Contains(line.Err, "only 5 characters") {
		t.Errorf("the cause is %q", line.Err)
	}
	status("short", http.StatusForbidden)
	status(second, http.StatusOK)

	if err := os.Remove(file); err != nil { // then a new one is made
		t.Fatal(err)
	}
	if err := server.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	said("the admin token was read again")
	status(second, http.StatusForbidden)
	status(read(file), http.StatusOK)

	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	said("stopped")
	if err := server.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
