package sde

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"killfeed"
)

// drawData draws any valid data.
func drawData(t *rapid.T) (killfeed.UniverseData, release) {
	var d killfeed.UniverseData
	name := rapid.StringN(0, -1, maxName)
	id := rapid.Uint32Range(1, killfeed.MaxID)
	ref := rapid.Uint32Range(0, killfeed.MaxID)
	ids := func(label string, from uint32) []uint32 {
		return rapid.SliceOfNDistinct(rapid.Uint32Range(from, killfeed.MaxID), 0, 20, rapid.ID[uint32]).Draw(t, label)
	}
	for _, n := range ids("systems", 1) {
		d.Systems = append(d.Systems, killfeed.SolarSystem{ID: n, Name: name.Draw(t, "name"), Constellation: id.Draw(t, "constellation"),
			Region: id.Draw(t, "region"), Security: rapid.Float64Range(-1, 1).Draw(t, "security"), Class: rapid.Uint8().Draw(t, "class")})
	}
	for _, n := range ids("constellations", 1) {
		d.Constellations = append(d.Constellations, killfeed.Constellation{ID: n, Name: name.Draw(t, "name"), Region: ref.Draw(t, "region")})
	}
	for _, n := range ids("regions", 1) {
		d.Regions = append(d.Regions, killfeed.Region{ID: n, Name: name.Draw(t, "name")})
	}
	for _, n := range ids("types", 0) {
		d.Types = append(d.Types, killfeed.Type{ID: n, Name: name.Draw(t, "name"), Group: ref.Draw(t, "group")})
	}
	for _, n := range ids("groups", 0) {
		d.Groups = append(d.Groups, killfeed.Group{ID: n, Name: name.Draw(t, "name"), Category: ref.Draw(t, "category")})
	}
	for _, n := range ids("factions", 1) {
		d.Factions = append(d.Factions, killfeed.Faction{ID: n, Name: name.Draw(t, "name")})
	}
	for _, n := range ids("corporations", 1) {
		d.Corporations = append(d.Corporations, killfeed.Corporation{ID: n, Name: name.Draw(t, "name"), Ticker: name.Draw(t, "ticker")})
	}
	r := release{build: rapid.IntRange(0, 1<<31-1).Draw(t, "build")}
	if seconds := rapid.Int64Range(0, 1<<33).Draw(t, "released"); seconds > 0 {
		r.at = time.Unix(seconds, 0).UTC()
	}
	d.Build = r.build
	return d, r
}

// What is written is what is read.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, r := drawData(t)
		if _, err := killfeed.NewUniverse(d); err != nil { // it sorts
			t.Fatal(err)
		}
		file, err := encode(&d, r)
		if err != nil {
			t.Fatal(err)
		}
		gotData, gotRelease, err := decode(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, gotData, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-written +read)\n%s", diff)
		}
		if gotRelease != r {
			t.Errorf("read %v, wrote %v", gotRelease, r)
		}
	})
}

// Any change of any bit is found out, and so is a file that is cut.
func TestDamage(t *testing.T) {
	d := rapid.Custom(func(t *rapid.T) killfeed.UniverseData { d, _ := drawData(t); return d }).Example(1)
	if _, err := killfeed.NewUniverse(d); err != nil {
		t.Fatal(err)
	}
	file, err := encode(&d, release{build: d.Build, at: time.Unix(1e9, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range file {
		for bit := range 8 {
			damaged := bytes.Clone(file)
			damaged[i] ^= 1 << bit
			if _, _, err := decode(damaged); err == nil {
				t.Fatalf("bit %d of byte %d of %d was changed, and nothing is wrong", bit, i, len(file))
			}
		}
		if _, _, err := decode(file[:i]); err == nil {
			t.Fatalf("cut to %d bytes of %d, and nothing is wrong", i, len(file))
		}
	}
}

// Errors about an index say what to do.
func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Load(dir); !errors.Is(err, ErrNone) {
		t.Errorf("without one: %v", err)
	}
	if err := os.Mkdir(staticDir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	whole, err := encode(&killfeed.UniverseData{}, release{build: 1})
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Clone(whole)
	newer[len(magic)+1]++
	for want, data := range map[string][]byte{
		"no index of static data": []byte("x"),
		"checksum":                append(bytes.Clone(whole), 0),
		"format 2, and this version of killfeed reads format 1": newer,
	} {
		if err := os.WriteFile(indexFile(dir), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "killfeed sde update") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	// A damaged one is no hindrance.
	if r, err := Import(t.Context(), Options{Dir: dir, members: few()}, archiveOf(t, build)); err != nil || r.Build != build || r.Previous != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// FuzzIndex: nothing that is in an index does harm, and what can be read is read as it would be written.
func FuzzIndex(f *testing.F) {
	add := func(d killfeed.UniverseData) {
		file, err := encode(&d, release{build: 7, at: time.Unix(1e9, 0).UTC()})
		if err != nil {
			f.Fatal(err)
		}
		body, err := unpack(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	add(killfeed.UniverseData{})
	add(killfeed.UniverseData{
		Systems:        []killfeed.SolarSystem{{ID: 30000142, Name: "Jita", Constellation: 20000020, Region: 10000002, Security: 0.9, Class: 7}, {ID: 31000005}},
		Constellations: []killfeed.Constellation{{ID: 20000020, Region: 10000002, Name: "Kimotoro"}},
		Regions:        []killfeed.Region{{ID: 10000002, Name: "The Forge"}},
		Types:          []killfeed.Type{{ID: 0}, {ID: 587, Group: 25, Name: "Rifter"}},
		Groups:         []killfeed.Group{{ID: 25, Category: 6, Name: "Frigate"}},
		Factions:       []killfeed.Faction{{ID: 500001, Name: "Caldari State"}},
		Corporations:   []killfeed.Corporation{{ID: 1000125, Name: "CONCORD", Ticker: "CONCO"}},
	})
	f.Fuzz(func(t *testing.T, body []byte) {
		d, r, err := decodeBody(body)
		if err != nil {
			return
		}
		if _, err := killfeed.NewUniverse(d); err != nil {
			return
		}
		file, err := encode(&d, r)
		if err != nil {
			t.Fatal(err)
		}
		again, r2, err := decode(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(d, again, cmpopts.EquateEmpty()); diff != "" || r != r2 {
			t.Errorf("%v, %v (-read +read again)\n%s", r, r2, diff)
		}
	})
}

// install puts an index of a build in its place.
func install(t *testing.T, dir string, number int) {
	t.Helper()
	data, err := encode(&killfeed.UniverseData{}, release{build: number})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(staticDir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := replace(indexFile(dir), data); err != nil {
		t.Fatal(err)
	}
}

// warnings counts what is logged as a warning.
type warnings struct {
	slog.Handler
	count atomic.Int64
}

func (w *warnings) Enabled(context.Context, slog.Level) bool { return true }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		w.count.Add(1)
	}
	return nil
}

// A server takes up each new index within 30 seconds, or at once when it is told to, and goes on with what it has when that is
// damaged or gone.
func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards builds
		var builds []int
		var log warnings
		w := NewWatch(dir, func(u *killfeed.Universe) {
			mu.Lock()
			defer mu.Unlock()
			builds = append(builds, u.Build())
		}, slog.New(&log))
		want := func(what string, number ...int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff(number, builds, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s (-want +got)\n%s", what, diff)
			}
		}
		if w.Look() {
			t.Error("there is none")
		}
		install(t, dir, 1)
		if !w.Look() || w.Look() {
			t.Error("the first one is to be used, once")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- w.Run(ctx) }()
		want("at the beginning", 1)
		time.Sleep(time.Hour)
		want("nothing new", 1)
		install(t, dir, 2)
		want("not looked for", 1)
		time.Sleep(watchEvery)
		want("a new one", 1, 2)
		install(t, dir, 3)
		w.Reload()
		want("told to look", 1, 2, 3)

		if err := replace(indexFile(dir), []byte("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		want("a damaged one", 1, 2, 3)
		if n := log.count.Load(); n != 1 {
			t.Errorf("told %d times", n)
		}
		if err := os.Remove(indexFile(dir)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		want("none", 1, 2, 3)
		install(t, dir, 4)
		time.Sleep(watchEvery)
		want("one again", 1, 2, 3, 4)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
