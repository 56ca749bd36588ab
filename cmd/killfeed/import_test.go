package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/archive"
	"killfeed/ingest/importer"
)

// An import that is interrupted says so, and repeating it brings the rest.
func TestInterruptedImport(t *testing.T) {
	dir := t.TempDir()
	var mails strings.Builder
	for id := 1; id <= 3000; id++ {
		mails.WriteString(madeUp(id) + "\n")
	}

	ctx, cancel := context.WithCancel(t.Context())
	endless, feeder := io.Pipe()
	fed := make(chan struct{})
	go func() { // what a pipe that never ends gives
		defer close(fed)
		io.WriteString(feeder, mails.String())
		cancel()
	}()
	var out, errs bytes.Buffer
	code := run(ctx, []string{"import", "--json", "--data", dir, "-"}, nil, endless, &out, &errs)
	endless.Close()
	<-fed
	if code != exitInterrupted {
		t.Errorf("exit code %d, want %d: %s", code, exitInterrupted, errs.String())
	}
	if want := "error: interrupted\nhint: repeat the command to go on: what is in the log already is skipped\n"; !strings.HasSuffix(errs.String(), want) {
		t.Errorf("stderr %q does not end with %q", errs.String(), want)
	}

	out.Reset()
	errs.Reset()
	code = run(t.Context(), []string{"import", "--json", "--data", dir, "-"}, nil, strings.NewReader(mails.String()), &out, &errs)
	var read, inserted, duplicates, bad int
	_, err := fmt.Sscanf(out.String(), `{"read":%d,"inserted":%d,"duplicates":%d,"bad":%d}`, &read, &inserted, &duplicates, &bad)
	if err != nil || code != exitOK || read != 3000 || inserted+duplicates != 3000 || bad != 0 {
		t.Errorf("exit code %d, %v: %s%s", code, err, out.String(), errs.String())
	}
	out.Reset()
	code = run(t.Context(), []string{"check", "--data", dir}, nil, strings.NewReader(""), &out, &errs)
	if code != exitOK || !strings.HasPrefix(out.String(), "checked 3000 events (1 to 3000), 3000 killmail ids") {
		t.Errorf("check: exit code %d: %s%s", code, out.String(), errs.String())
	}
}

func testProgress(terminal bool, total int64) string {
	var out bytes.Buffer
	begun := time.Now()
	p := &progress{
		out: &out, terminal: terminal, started: begun,
		counts: func() importer.Counts {
			n := int64(time.Since(begun) / time.Millisecond)
			return importer.Counts{Read: n, Inserted: n - 3, Duplicates: 2, Bad: 1}
		},
		files: func() archive.Progress {
			return archive.Progress{Bytes: int64(time.Since(begun) / time.Millisecond), Total: total}
		},
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	for i := range 20 {
		p.Bad(fmt.Sprint("m", i), errors.New("is no killmail"))
	}
	time.Sleep(11 * time.Second) // of the bubble's time
	stop()
	<-done
	return out.String()
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := `bad: m0: is no killmail
bad: m1: is no killmail
bad: m2: is no killmail
bad: m3: is no killmail
bad: m4: is no killmail
bad: m5: is no killmail
bad: m6: is no killmail
bad: m7: is no killmail
bad: m8: is no killmail
bad: m9: is no killmail
bad: further ones are only counted
importing: 12%, 35s left: 5000 read, 4997 inserted, 2 duplicates, 1 bad, 1000/s
importing: 25%, 30s left: 10000 read, 9997 inserted, 2 duplicates, 1 bad, 1000/s
`
		if got := testProgress(false, 40_000); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if got := testProgress(false, -1); !strings.Contains(got, "\nimporting: 5000 read, 4997 inserted, 2 duplicates, 1 bad, 1000/s\n") {
			t.Errorf("a pipe: got %s", got)
		}
	})
	for _, total := range []int64{40_000, 5000, 0, -1} {
		synctest.Test(t, func(t *testing.T) {
			got := testProgress(true, total)
			if !strings.Contains(got, "10000 read, 9997 inserted, 2 duplicates, 1 bad, 1000/s") || !strings.Contains(got, "bad: m9") {
				t.Errorf("a bar of %d: got %q", total, got)
			}
			if total == 40_000 && !strings.Contains(got, " 25% |") {
				t.Errorf("a bar of %d: no share in %q", total, got)
			}
			if !strings.HasSuffix(got, "\r") {
				t.Errorf("a bar of %d: the line is not cleared: %q", total, got[max(0, len(got)-200):])
			}
		})
	}
}
