//go:build unix

package interop

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"killfeed/storetest"
)

// hour is the real hour, where it is.
const hour = "../../../shared/data/killmails-hour.jsonl.gz"

// Four servers follow one another: R2Z2 from the stand-in, R2Z2 from the first one's mirror, RedisQ from the second, the websocket
// from the third. Each ends up with the killmails of the first, byte for byte.
//
// With -long they are those of a real hour, where there are such; else a few.
func TestChain(t *testing.T) {
	t.Parallel()
	bin, err := buildServer()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	killmails, rate, limit := 24, "20", 4*time.Minute
	file := filepath.Join(dir, "some.jsonl")
	if _, err := os.Stat(hour); *long && !errors.Is(err, fs.ErrNotExist) {
		file, killmails, rate, limit = hour, 1226, "2", 30*time.Minute // our source asks RedisQ once a second
	} else {
		writeSome(t, file, killmails)
	}
	simAddr := filepath.Join(dir, "sim")
	standin := start(t, bin, "upstream-sim", "--listen", "127.0.0.1:0", "--addr-file", simAddr, "--rate", rate, file)
	sim := "http://" + awaitFile(t, standin, simAddr)

	link := func(name string, flags ...string) *server {
		s := &server{bin: bin, data: filepath.Join(dir, name), addr: "127.0.0.1:0",
			flags: append([]string{"--contact", "chain@example.com", "--esi-url", sim}, flags...)}
		s.start(t)
		return s
	}
	a := link("a", "--r2z2-url", sim)
	b := link("b", "--r2z2-url", "http://"+a.addr)
	c := link("c", "--r2z2-url", "off", "--redisq-url", "http://"+b.addr+"/listen.php?queueID=chain")
	d := link("d", "--r2z2-url", "off", "--zkill-ws-url", "ws://"+c.addr+"/websocket/")

	want := map[int64]string{}
	first := map[int64]time.Time{}
	deadline := time.Now().Add(limit)
	chain := []*server{a, b, c, d}
	hops := make([][]time.Duration, len(chain))
	// The first one may have begun a little late: what it has is what the others are to have. It pauses for some seconds when it
	// is told that there is nothing yet.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for steady, last := 0, -1; last < killmails && (steady < 300 || last < killmails/2); <-tick.C {
		n := len(a.log(t))
		if steady++; n != last {
			steady, last = 0, n
		}
		if time.Now().After(deadline) {
			t.Fatalf("the first server has %d killmails of %d", n, killmails)
		}
	}
	for _, e := range a.log(t) {
		id, body := esiPart(t, e.Killmail)
		want[id], first[id] = body, e.ReceivedAt
	}
	for i, s := range chain[1:] {
		name := []string{"R2Z2 mirror", "RedisQ", "websocket"}[i]
		for {
			got := s.log(t)
			if len(got) >= len(want) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("behind the %s there are %d killmails, want %d", name, len(got), len(want))
			}
			<-tick.C
		}
		got := s.log(t)
		if len(got) != len(want) {
			t.Errorf("behind the %s there are %d killmails, want %d", name, len(got), len(want))
		}
		for _, e := range got {
			id, body := esiPart(t, e.Killmail)
			if want[id] != body {
				t.Errorf("behind the %s killmail %d is\n%.300s\nwant\n%.300s", name, id, body, want[id])
			}
			hops[i+1] = append(hops[i+1], e.ReceivedAt.Sub(first[id]))
			first[id] = e.ReceivedAt
		}
	}
	for i, name := range []string{"", "R2Z2 mirror", "RedisQ", "websocket"} {
		if i > 0 && len(hops[i]) > 0 {
			slices.SortFunc(hops[i], func(a, b time.Duration) int { return cmp.Compare(a, b) })
			t.Logf("%s: %d killmails, later by %v in the median, %v at most", name, len(hops[i]), hops[i][len(hops[i])/2], hops[i][len(hops[i])-1])
		}
	}
}

// writeSome makes up killmails, as a file that import and the stand-in read.
func writeSome(t *testing.T, file string, n int) {
	t.Helper()
	maker := storetest.NewMaker(storetest.MakerOptions{Seed: 7})
	var text []byte
	for range n {
		mail := maker.NextMail()
		text = append(mail.AppendJSON(text), '\n')
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitFile waits for what a program writes into a file.
func awaitFile(t *testing.T, p *process, file string) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond) // another process has no better way to tell
	defer tick.Stop()
	limit := time.After(patience)
	for {
		if text, err := os.ReadFile(file); err == nil {
			return strings.TrimSpace(string(text))
		}
		select {
		case <-tick.C:
		case <-p.ended:
			t.Fatalf("it has ended: %v\n%s", p.err, p.said())
		case <-limit:
			t.Fatalf("nothing was written to %s\n%s", file, p.said())
		}
	}
}

// esiPart is a killmail without what zKillboard says of it.
func esiPart(t *testing.T, killmail json.RawMessage) (id int64, body string) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(killmail, &members); err != nil {
		t.Fatal(err)
	}
	delete(members, "zkb")
	if err := json.Unmarshal(members["killmail_id"], &id); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s=%s\n", name, members[name])
	}
	return id, b.String()
}
