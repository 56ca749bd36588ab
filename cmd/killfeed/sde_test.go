//go:build unix

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/internal/sdesim"
	"killfeed/sde"
)

// TestStaticDataTakenUp: a server that runs takes up static data that is installed beside it, on SIGHUP at once.
func TestStaticDataTakenUp(t *testing.T) {
	bin, err := exec.LookPath("killfeed") // the real main, as in the scripts
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	server := exec.Command(bin, "serve", "--memory", "--data", dir, "--listen", "127.0.0.1:0", "--log-format", "json")
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
	said := func(message string) (line struct {
		Msg   string
		Build int
	}) {
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
	said("serving")
	install := func(build int) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "archive.zip")
		var errs bytes.Buffer
		data, err := sdesim.MadeUp(build).Archive()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if code := run(t.Context(), []string{"sde", "update", "--data", dir, "--from", file}, nil, strings.NewReader(""), io.Discard, &errs); code != exitOK {
			t.Fatalf("exit code %d: %s", code, &errs)
		}
		if err := server.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if line := said("static data is in use"); line.Build != build {
			t.Errorf("it says %+v, want build %d", line, build)
		}
	}
	install(1)
	install(2)
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	said("stopped")
	if err := server.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// The progress of an update: lines, or a bar that is gone in the end.
func TestUpdateProgress(t *testing.T) {
	for _, c := range []struct {
		terminal bool
		total    int64
		want     string
	}{
		{false, 90_000_000, "downloading: 33%, 30.0 MB of 90.0 MB, 10s left\ndownloading: 66%, 60.0 MB of 90.0 MB, 5s left\n"},
		{false, 0, "downloading: 30.0 MB\ndownloading: 60.0 MB\n"},
		{true, 90_000_000, "downloading"},
		{true, 0, "downloading"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			show := &sdeShow{out: &out, terminal: c.terminal}
			for i := range int64(14) {
				show.update(sde.Progress{Stage: sde.Downloading, Done: i * 6_000_000, Total: c.total})
				time.Sleep(time.Second) // of the bubble's time
			}
			show.update(sde.Progress{Stage: sde.Reading, Done: 1, Total: 2})
			show.end()
			switch got := out.String(); {
			case !c.terminal && got != c.want:
				t.Errorf("got %q\nwant %q", got, c.want)
			case c.terminal && (!strings.Contains(got, c.want) || !strings.Contains(got, "reading") || !strings.HasSuffix(got, "\r")):
				t.Errorf("a bar of %d: %q", c.total, got)
			}
		})
	}
}
