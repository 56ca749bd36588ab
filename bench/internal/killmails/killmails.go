// Package killmails makes what the benchmarks store and send: made-up killmails of the usual size, and logs of them that are
// kept between runs.
package killmails

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"killfeed"
	"killfeed/bench/internal/suite"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// Systems is how many solar systems the logs have, the n-th busiest with a share of 1/n.
const Systems = 8000

// New makes the killmails of the logs: always the same ones.
func New() *storetest.Maker {
	return storetest.NewMaker(storetest.MakerOptions{Seed: 1, Systems: Systems, Bytes: storetest.TypicalBytes})
}

// Fresh makes killmails that no log has yet.
func Fresh() *storetest.Maker { return FreshOf(time.Now()) }

// FreshOf makes killmails that no log has which was not given them by a maker of the same begin: two of those make the same ones.
func FreshOf(begin time.Time) *storetest.Maker {
	return storetest.NewMaker(storetest.MakerOptions{
		Seed: uint64(begin.UnixNano()), Systems: Systems, Bytes: storetest.TypicalBytes, FirstID: begin.UnixMicro(),
	})
}

// Maker makes killmails for servers to take.
type Maker struct{ m *storetest.Maker }

// Typical makes killmails that are all of the typical size, and that no server has that was not given them by a Maker of the
// same begin: two of those make the same ones.
func Typical(begin time.Time) *Maker {
	return &Maker{storetest.NewMaker(storetest.MakerOptions{
		Seed: uint64(begin.UnixNano()), FirstID: begin.UnixMicro(), Attackers: 4, Bytes: storetest.TypicalBytes,
	})}
}

// Lines makes n killmails of a system, one a line. Their ids rise by 1.
func (m *Maker) Lines(n int, system uint32) []byte {
	b := make([]byte, 0, n*(storetest.TypicalBytes+200))
	for range n {
		mail := m.m.NextMail()
		mail.System = system
		b = append(mail.AppendJSON(b), '\n')
	}
	return b
}

// Dir is where the log of n events is.
func Dir(work string, n int) string { return filepath.Join(work, fmt.Sprintf("log-%d", n)) }

// made is what the file says that tells that a log is whole. Another text has it made anew.
const made = "2"

// Log returns the directory of a log with n events of 2.5 KB, making it when it is not there. It was closed cleanly. It is for
// reading: what writes to a log takes a Clone.
func Log(ctx context.Context, work string, n int) (string, error) {
	dir := Dir(work, n)
	if b, err := os.ReadFile(filepath.Join(dir, "made")); err == nil && string(b) == made {
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return "", err
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		return "", err
	}
	m := New()
	for done := 0; done < n; {
		ks := make([]*killfeed.Killmail, min(1000, n-done))
		for i := range ks {
			ks[i] = m.Next()
		}
		if _, err := feed.InsertAll(ctx, ks, 0); err != nil {
			feed.Close()
			return "", err
		}
		if done += len(ks); done%100_000 == 0 {
			suite.Progress("   making a log of %d events: %d", n, done)
		}
	}
	if err := feed.Close(); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "made"), []byte(made), 0o600)
}

// Token is what a server with this data directory wants to see from those who insert. The server makes it at its first start.
func Token(data string) (string, error) {
	b, err := os.ReadFile(filepath.Join(data, "admin.token"))
	return strings.TrimSpace(string(b)), err
}
