package sde

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/internal/sdesim"
)

// The first update, one with nothing to do, a newer build, and caches that tell of an older one.
func TestUpdate(t *testing.T) {
	first, second := archiveOf(t, build), archiveOf(t, build+10)
	dir := filepath.Join(t.TempDir(), "data")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, first)
		if _, _, err := Load(dir); !errors.Is(err, ErrNone) {
			t.Errorf("before: %v", err)
		}
		var told []Progress
		s.Progress = func(p Progress) { told = append(told, p) }
		r := s.update()
		size := fileSize(t, first)
		if !r.Changed || r.Previous != 0 || r.Build != build || r.Latest != build || r.Downloaded != size || r.Resumed != 0 {
			t.Errorf("the first update: %+v", r)
		}
		if r.Released == nil || !r.Released.Equal(sdesim.Released) {
			t.Errorf("released %v", r.Released)
		}
		if got := entries(t, dir); !slices.Equal(got, []string{"universe"}) {
			t.Errorf("what is left: %v", got)
		}
		u, info := mustLoad(t, dir)
		if u.Build() != build || info.Systems != 3 || info.Types != 3 || info.Groups != 3 || info.Factions != 2 || info.Corporations != 2 {
			t.Errorf("%d: %+v", u.Build(), info)
		}
		checkProgress(t, told, size)

		r = s.update()
		if r.Changed || r.Build != build || r.Previous != build || r.Downloaded != 0 {
			t.Errorf("the same build: %+v", r)
		}
		if n := s.Stats().Requests[standin.KindStatic][http.StatusOK]; n != 3 { // twice latest.jsonl, once the archive
			t.Errorf("%d requests", n)
		}
		if err := s.AddStaticData(second); err != nil {
			t.Fatal(err)
		}
		if r = s.update(); !r.Changed || r.Build != build+10 || r.Previous != build {
			t.Errorf("a newer build: %+v", r)
		}
		if err := s.SetFault(standin.Stale, standin.Strike{Next: 1}); err != nil {
			t.Fatal(err)
		}
		if r = s.update(); r.Changed || r.Build != build+10 || r.Latest != build {
			t.Errorf("an older build: %+v", r)
		}
		if st := s.Stats(); st.NoContact != 0 {
			t.Errorf("%d requests did not say who asks", st.NoContact)
		}
	})
}

// checkProgress: what is told never goes back, and ends at the whole.
func checkProgress(t *testing.T, told []Progress, size int64) {
	t.Helper()
	last := Progress{Stage: Downloading}
	for _, p := range told {
		if p.Stage == last.Stage && p.Done < last.Done || p.Total > 0 && p.Done > p.Total {
			t.Fatalf("%+v comes after %+v", p, last)
		}
		if last.Stage == Downloading && p.Stage == Reading && (last.Done != size || last.Total != size) {
			t.Errorf("the download ends at %+v of %d", last, size)
		}
		last = p
	}
	if last.Stage != Reading || last.Done != last.Total {
		t.Errorf("it ends at %+v", last)
	}
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// An update that is interrupted, wherever, goes on there, and next to nothing is sent twice.
func TestInterrupted(t *testing.T) {
	archive := archiveOf(t, build)
	size := fileSize(t, archive)
	dirs := t.TempDir()
	for _, at := range [][]int64{{1}, {size / 3}, {size - 1}, {100, 200, size / 2, 1}, {0, 70_000}} {
		synctest.Test(t, func(t *testing.T) {
			dir := filepath.Join(dirs, strconv.Itoa(int(at[0])))
			s := open(t, dir, archive)
			var have int64
			for _, more := range at {
				ctx, cancel := context.WithCancel(t.Context())
				s.wire.cut(more, cancel)
				if _, err := Update(ctx, s.Options); !errors.Is(err, context.Canceled) {
					t.Fatalf("cut after %d more bytes: %v", more, err)
				}
				have += more
				if p, ok := Interrupted(dir); !ok || p.Build != build || p.Bytes != have {
					t.Errorf("cut after %d bytes in all: %+v, %v", have, p, ok)
				}
			}
			r := s.update()
			if r.Resumed != have || r.Downloaded != size-have {
				t.Errorf("cut at %v: %+v", at, r)
			}
			synctest.Wait() // for the server to have seen that clients left
			const readAhead = 16 << 10
			if sent, most := s.Stats().StaticBytes, size+int64(len(at))*readAhead+1000; sent < size || sent > most {
				t.Errorf("cut at %v: %d bytes were sent of %d; want at most %d", at, sent, size, most)
			}
			if _, ok := Interrupted(dir); ok {
				t.Error("a part is left")
			}
		})
	}
}

// Connections that break or stall are no reason to begin anew, nor to give up.
func TestPatience(t *testing.T) {
	archive := archiveOf(t, build)
	size := fileSize(t, archive)
	for _, c := range []struct {
		fault  standin.Fault
		strike standin.Strike
	}{
		{standin.Cut, standin.Strike{Next: 4, Kinds: []standin.Kind{standin.KindStatic}}}, // latest.jsonl has one of them
		{standin.Slow, standin.Strike{Next: 3, For: time.Minute}},
		{standin.Slow, standin.Strike{Chance: 1, For: 2 * time.Second}},
		{standin.Hang, standin.Strike{Next: 2}},
		{standin.ServerError, standin.Strike{Next: 3}},
		{standin.TooMany, standin.Strike{Next: 1, RetryAfter: 40 * time.Second}},
		{standin.HTML, standin.Strike{Next: 1}},
		{standin.InvalidJSON, standin.Strike{Next: 1}},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := open(t, dir, archive)
				if err := s.SetFault(c.fault, c.strike); err != nil {
					t.Fatal(err)
				}
				failed := 0
				s.Failed = func(err error, wait time.Duration) {
					if failed++; err == nil || wait < c.strike.RetryAfter || wait < leastWait {
						t.Errorf("told of %v, and to wait %v", err, wait)
					}
				}
				if r := s.update(); !r.Changed || r.Downloaded != size {
					t.Errorf("%+v", r)
				}
				if bad := c.strike.Next > 0; bad != (failed > 0) {
					t.Errorf("%d tries failed", failed)
				}
				if st := s.Stats(); st.Faults[c.fault] == 0 || st.BeforeRetryAfter != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// What does not pass ends the update, after a bounded number of tries, and changes nothing.
func TestRefused(t *testing.T) {
	archive, newer := archiveOf(t, build), archiveOf(t, build+1)
	for _, c := range []struct {
		fault  standin.Fault
		strike standin.Strike
		class  error
		most   int64
	}{
		{standin.NotFound, standin.Strike{Chance: 1, Kinds: []standin.Kind{standin.KindStatic}}, upstream.ErrNotFound, 1},
		{standin.Forbidden, standin.Strike{Chance: 1}, upstream.ErrForbidden, 1},
		{standin.ServerError, standin.Strike{Chance: 1}, upstream.ErrServer, maxTries},
		{standin.HTML, standin.Strike{Chance: 1}, upstream.ErrNotJSON, maxTries},
		{standin.TooMany, standin.Strike{Chance: 1, RetryAfter: time.Hour}, upstream.ErrTooMany, 1},
		{standin.Cut, standin.Strike{Chance: 1}, upstream.ErrNetwork, maxTries},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := open(t, dir, archive)
				s.update()
				if err := s.AddStaticData(newer); err != nil {
					t.Fatal(err)
				}
				s.ResetStats()
				if err := s.SetFault(c.fault, c.strike); err != nil {
					t.Fatal(err)
				}
				if _, err := Update(t.Context(), s.Options); !errors.Is(err, c.class) {
					t.Errorf("got %v, want %v", err, c.class)
				}
				if n := s.Stats().Faults[c.fault]; n > c.most {
					t.Errorf("asked %d times, want at most %d", n, c.most)
				}
				if _, info := mustLoad(t, dir); info.Build != build {
					t.Errorf("build %d is installed now", info.Build)
				}
			})
		})
	}
}

// What was downloaded of another version of the file, or is longer than the file, is of no use.
func TestOtherVersion(t *testing.T) {
	archive := archiveOf(t, build)
	members := small()
	members["mapMoons.jsonl"] = []byte("{}\n")
	other := file(t, archiveName(build), pack(t, members))
	size := fileSize(t, other)
	t.Run("another version", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s := open(t, dir, archive)
			ctx, cancel := context.WithCancel(t.Context())
			s.wire.cut(5000, cancel)
			if _, err := Update(ctx, s.Options); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if err := s.AddStaticData(other); err != nil {
				t.Fatal(err)
			}
			if r := s.update(); r.Resumed != 0 || r.Downloaded != size {
				t.Errorf("%+v", r)
			}
			if want := []string{"", "bytes=5000-"}; !slices.Equal(s.wire.ranges, want) {
				t.Errorf("asked for %q, want %q", s.wire.ranges, want)
			}
		})
	})
	for name, surplus := range map[string]int64{"complete": 0, "too long": 1} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := open(t, dir, other)
				ctx, cancel := context.WithCancel(t.Context())
				s.wire.cut(size-1, cancel)
				if _, err := Update(ctx, s.Options); !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				whole, err := os.ReadFile(other)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(s.download(build).part, append(whole, make([]byte, surplus)...), 0o644); err != nil {
					t.Fatal(err)
				}
				if r := s.update(); r.Resumed != size*(1-surplus) || r.Downloaded != size*surplus {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

// Parts of builds that are not asked for any more are removed, and what a crash has left of an index does no harm.
func TestOldPart(t *testing.T) {
	first, second := archiveOf(t, build), archiveOf(t, build+1)
	dir := t.TempDir()
	if err := os.Mkdir(staticDir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(indexFile(dir)+".new", make([]byte, 10_000_000), 0o644); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, first)
		ctx, cancel := context.WithCancel(t.Context())
		s.wire.cut(5000, cancel)
		if _, err := Update(ctx, s.Options); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := s.AddStaticData(second); err != nil {
			t.Fatal(err)
		}
		if r := s.update(); r.Build != build+1 || r.Resumed != 0 {
			t.Errorf("%+v", r)
		}
		if got := entries(t, dir); !slices.Equal(got, []string{"universe"}) {
			t.Errorf("what is left: %v", got)
		}
	})
}

// A broken archive from upstream leaves the index as it was, and is removed, so that the next update begins anew.
func TestBrokenDownload(t *testing.T) {
	archive := archiveOf(t, build)
	data, err := os.ReadFile(archiveOf(t, build+1))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, dir, archive)
		s.update()
		if err := s.AddStaticData(file(t, archiveName(build+1), data)); err != nil {
			t.Fatal(err)
		}
		for _, fault := range []standin.Fault{standin.Truncated, standin.InvalidJSON} {
			s.wire.before = func() {
				if err := s.SetFault(fault, standin.Strike{Next: 1}); err != nil {
					t.Error(err)
				}
			}
			_, err := Update(t.Context(), s.Options)
			if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "repeat the update") {
				t.Errorf("%s: %v", fault, err)
			}
			if got := entries(t, dir); !slices.Equal(got, []string{"universe"}) {
				t.Errorf("%s: what is left: %v", fault, got)
			}
			if _, info := mustLoad(t, dir); info.Build != build {
				t.Errorf("%s: build %d is installed now", fault, info.Build)
			}
		}
		s.wire.before = nil
		if r := s.update(); r.Build != build+1 || r.Resumed != 0 {
			t.Errorf("the next one: %+v", r)
		}
	})
}

// One update at a time.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, members: few()}
	end, err := o.begin()
	if err != nil {
		t.Fatal(err)
	}
	archive := archiveOf(t, build)
	if _, err := Import(t.Context(), o, archive); !errors.Is(err, killfeed.ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	end()
	if _, err := Import(t.Context(), o, archive); err != nil {
		t.Errorf("after the first one: %v", err)
	}
}
