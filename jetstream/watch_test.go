package jetstream

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"killfeed"
)

// TestWatchNeverGoesBack: whatever replica serves the watch, however far that is behind, and however often the watch begins anew, a
// client is never told as it was before what the node knew already; and in the end it is told as it is.
func TestWatchNeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClients(&bucket{log: slog.New(slog.DiscardHandler)}, func() killfeed.EventID { return 0 }, func() {})
		names := []string{"a", "b", "c"}
		var truth []revision // in the order of the bucket: the revision is the index + 1
		newest := func(name string) (e revision) {
			for _, r := range slices.Backward(truth) {
				if r.key == keyOf(keyClient, name) {
					return r
				}
			}
			return revision{gone: true}
		}
		add := func(name string, gone bool) revision {
			e := revision{key: keyOf(keyClient, name), rev: uint64(len(truth) + 1), gone: gone}
			if !gone {
				k := cached{record: record{Seen: int64(e.rev)}}
				e.value, _ = k.encode(name)
			}
			truth = append(truth, e)
			return e
		}
		// The watch: what is still to come, of a replica that has the first n writes.
		var coming []revision
		n := 0
		begin := func(at int) {
			n, coming = at, nil
			for i, e := range truth[:n] {
				if !slices.ContainsFunc(truth[i+1:n], func(later revision) bool { return later.key == e.key }) {
					coming = append(coming, e)
				}
			}
			c.begin()
		}
		see := func() {
			if len(coming) == 0 {
				c.mu.Lock()
				c.present = nil // whole, and nothing missing that the bucket's leader would know of
				c.mu.Unlock()
				for ; n < len(truth) && len(coming) == 0; n++ {
					coming = append(coming, truth[n])
				}
			}
			if len(coming) > 0 {
				c.see(coming[0])
				coming = coming[1:]
			}
		}
		known := map[string]uint64{} // the newest revision that the feed knows of, or that was gone before it knew
		tell := func(name string, gone bool, seen int64) {
			is := uint64(seen)
			if gone { // some deletion, behind what was known
				i := slices.IndexFunc(truth, func(e revision) bool { return e.gone && e.rev > known[name] && e.key == keyOf(keyClient, name) })
				if i < 0 {
					t.Fatalf("client %s is told to be gone, behind revision %d: %v", name, known[name], truth)
				}
				is = truth[i].rev
			}
			if is <= known[name] {
				t.Fatalf("client %s is told as of revision %d, behind revision %d: %v", name, is, known[name], truth)
			}
			known[name] = is
		}
		take := func(limit int) (more bool) {
			list, more := c.news(limit)
			for _, s := range list {
				tell(s.Client, s.Gone, s.At.UnixMilli())
			}
			return more
		}
		own := func(name string, gone bool) { // what agree does when a write was stored
			base := c.cache[name]
			if e := newest(name); e.rev != base.rev && (!e.gone || !base.absent()) || gone && base.absent() {
				return // a conflict, or nothing to do
			}
			e := add(name, gone)
			c.mu.Lock()
			k := c.parse(name, e)
			c.know(name, k)
			c.mu.Unlock()
			known[name] = e.rev
		}
		begin(0)
		t.Repeat(map[string]func(*rapid.T){
			"other": func(t *rapid.T) { add(rapid.SampledFrom(names).Draw(t, "name"), rapid.Bool().Draw(t, "gone")) },
			"own":   func(t *rapid.T) { own(rapid.SampledFrom(names).Draw(t, "name"), rapid.Bool().Draw(t, "gone")) },
			"see":   func(*rapid.T) { see() },
			"take":  func(t *rapid.T) { take(rapid.IntRange(1, 3).Draw(t, "limit")) },
			"begin": func(t *rapid.T) { begin(rapid.IntRange(0, len(truth)).Draw(t, "replica")) },
		})
		for n < len(truth) || len(coming) > 0 {
			see()
		}
		for take(2) {
		}
		for _, name := range names {
			is, e := c.cache[name], newest(name)
			if is.absent() != e.gone || !e.gone && is.rev != e.rev {
				t.Fatalf("client %s is known as %+v, and is %+v", name, is, e)
			}
		}
		if len(c.inbox) > 0 || len(c.gone) > len(names) {
			t.Fatal(fmt.Sprint("left are ", c.inbox, c.gone))
		}
	})
}
