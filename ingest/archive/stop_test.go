package archive_test

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"go.uber.org/goleak"

	"killfeed/ingest/archive"
)

// TestStop: however reading ends, nothing keeps running.
func TestStop(t *testing.T) {
	docs := mails(5000) // far more than is read ahead
	for name, data := range map[string]string{
		"lines": lines(docs), "gzip": gz(lines(docs)), "array": array(docs), "history": history(docs),
		"tar": day(docs), "tar, gzip": gz(day(docs)),
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			dir := write(t, map[string]string{"1.json": data, "2.json": data})

			r, err := archive.New(t.Context(), []string{dir}, archive.Options{})
			if err != nil {
				t.Fatal(err)
			}
			enough := errors.New("enough")
			n := 0
			err = r.Read(t.Context(), func(archive.Item) error {
				if n++; n == 10 {
					return enough
				}
				return nil
			})
			if err != enough || n != 10 {
				t.Errorf("yield's error after 10: read %d items, error %v", n, err)
			}

			r, err = archive.New(t.Context(), []string{dir}, archive.Options{})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			n = 0
			err = r.Read(ctx, func(archive.Item) error {
				if n++; n == 10 {
					cancel(enough)
				}
				return nil
			})
			if err != enough || n != 10 {
				t.Errorf("context cancelled at 10: read %d items, error %v", n, err)
			}
		})
	}
}

func TestStopBefore(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := archive.New(ctx, []string{write(t, map[string]string{"1.json": mail(1)})}, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	err = r.Read(ctx, func(archive.Item) error { t.Error("got an item"); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestStopWaitingForInput: the end of the context is seen while standard input is silent.
func TestStopWaitingForInput(t *testing.T) {
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	blind, blindEnd := io.Pipe()
	for name, c := range map[string]struct {
		in  io.Reader
		out io.WriteCloser
	}{
		"that can be interrupted":    {pr, pw},
		"that cannot be interrupted": {blind, blindEnd},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			ctx, cancel := context.WithCancel(t.Context())
			r, err := archive.New(ctx, []string{"-"}, archive.Options{Stdin: c.in})
			if err != nil {
				t.Fatal(err)
			}
			written := make(chan struct{})
			go func() {
				defer close(written)
				io.WriteString(c.out, lines(mails(100)))
			}()
			n := 0
			err = r.Read(ctx, func(archive.Item) error {
				if n++; n == 100 {
					cancel() // everything written is read: the next read waits
				}
				return nil
			})
			if !errors.Is(err, context.Canceled) || n != 100 {
				t.Errorf("read %d items, error %v", n, err)
			}
			<-written
			c.out.Close() // lets go of a goroutine that was left behind
		})
	}
}

// TestLiveInput: what comes through a pipe is handed out when it comes, not when a buffer is full.
func TestLiveInput(t *testing.T) {
	pr, pw := io.Pipe()
	r, err := archive.New(t.Context(), []string{"-"}, archive.Options{Stdin: pr})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan struct{})
	go func() {
		defer pw.Close()
		pad := make([]byte, 512) // the kind of file is told by its first 512 bytes
		for i := range pad {
			pad[i] = ' '
		}
		pw.Write(pad)
		for i := range 10 {
			io.WriteString(pw, mail(i))
			<-seen
		}
	}()
	n := 0
	if err := r.Read(t.Context(), func(archive.Item) error { n++; seen <- struct{}{}; return nil }); err != nil || n != 10 {
		t.Errorf("read %d items, error %v", n, err)
	}
}
