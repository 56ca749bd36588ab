package sde

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/internal/sdesim"
)

// What is in an archive comes out of the index, names and places included.
func TestImport(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r, err := Import(t.Context(), Options{Dir: dir, members: few()}, archiveOf(t, build))
	if err != nil {
		t.Fatal(err)
	}
	if !r.Changed || r.Build != build || r.Latest != 0 {
		t.Errorf("%+v", r)
	}
	u, _ := mustLoad(t, dir)
	for _, c := range []struct {
		kind killfeed.TopicKind
		name string
		id   uint32
	}{
		{killfeed.KindSystem, "Jita", 30000142}, {killfeed.KindSystem, "thera", 31000005}, {killfeed.KindConstellation, "Kimotoro", 20000020},
		{killfeed.KindRegion, "the forge", 10000002}, {killfeed.KindShip, "rifter", 587}, {killfeed.KindGroup, "Frigate", 25},
		{killfeed.KindFaction, "Caldari State", 500001}, {killfeed.KindCorporation, "State War Academy", 1000167},
	} {
		if id, err := u.Find("name", c.kind, c.name); err != nil || id != c.id {
			t.Errorf("%s: %d, %v; want %d", c.name, id, err, c.id)
		}
	}
	if _, err := u.Find("name", killfeed.KindSystem, "Jta"); err == nil || !strings.Contains(err.Error(), "did you mean Jita (30000142)") {
		t.Errorf("a misspelt name: %v", err)
	}
	// Wormhole classes: of its own, of its constellation, of its region.
	for id, want := range map[uint32]killfeed.SolarSystem{
		31000005: {ID: 31000005, Name: "Thera", Constellation: 21000324, Region: 11000031, Security: -0.99, Class: 12},
		30003504: {ID: 30003504, Name: "Niarja", Constellation: 20000788, Region: killfeed.RegionPochven, Security: -1, Class: 25},
		30000142: {ID: 30000142, Name: "Jita", Constellation: 20000020, Region: 10000002, Security: 0.9459131, Class: 7},
	} {
		got, _ := u.System(id)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	if c, _ := u.Corporation(1000167); c.Ticker != "SWA" {
		t.Errorf("%+v", c)
	}
}

// Fields that are missing where they may be, and names in no language.
func TestLeniency(t *testing.T) {
	members := small()
	for _, name := range []string{"factions.jsonl", "npcCorporations.jsonl", "_sde.jsonl"} {
		delete(members, name)
	}
	replaceLine(members, "mapSolarSystems.jsonl", 0, `  {"_key":30000142,"name":"Jita\u001b[31m ","constellationID":20000020,"securityStatus":0.9,"new":[{"x":null}]}  `)
	replaceLine(members, "mapSolarSystems.jsonl", 1, "")
	replaceLine(members, "types.jsonl", 1, `{"_key":587,"name":{"de":"nur deutsch"},"groupID":25}`)
	dir := t.TempDir()
	// The build is in the file's name, then.
	r, err := Import(t.Context(), Options{Dir: dir, members: few()}, file(t, archiveName(77), pack(t, members)))
	if err != nil {
		t.Fatal(err)
	}
	if r.Build != 77 || r.Released != nil || r.Factions != 0 || r.Corporations != 0 {
		t.Errorf("%+v", r)
	}
	u, _ := mustLoad(t, dir)
	if s, ok := u.System(30000142); !ok || s.Name != "Jita [31m" || s.Region != 10000002 || s.Class != 7 {
		t.Errorf("%+v, %v", s, ok)
	}
	if x, ok := u.Type(587); !ok || x.Name != "" {
		t.Errorf("%+v, %v", x, ok)
	}
}

// replaceLine changes a line of a member.
func replaceLine(members map[string][]byte, name string, n int, line string) {
	lines := bytes.SplitAfter(members[name], []byte("\n"))
	lines[n] = []byte(line + "\n")
	members[name] = bytes.Join(lines, nil)
}

// An archive that is broken, in whatever way, leaves the index as it was, stays where it is, and the error says what is wrong.
func TestBroken(t *testing.T) {
	whole := pack(t, small())
	with := func(change func(members map[string][]byte)) []byte {
		members := small()
		change(members)
		return pack(t, members)
	}
	line := func(name string, n int, text string) []byte {
		return with(func(members map[string][]byte) { replaceLine(members, name, n, text) })
	}
	flipped := slices.Clone(whole)
	flipped[bytes.Index(whole, []byte("types.jsonl"))+40] ^= 0x40
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"cut", whole[:len(whole)*2/3], "not a valid zip file"},
		{"empty", nil, "not a valid zip file"},
		{"a page", []byte("<!DOCTYPE html>"), "not a valid zip file"},
		{"a flipped bit", flipped, "types.jsonl: "},
		{"without types", with(func(m map[string][]byte) { delete(m, "types.jsonl") }), "types.jsonl is not in it"},
		{"without regions", with(func(m map[string][]byte) { delete(m, "mapRegions.jsonl") }), "mapRegions.jsonl is not in it"},
		{"empty groups", with(func(m map[string][]byte) { m["groups.jsonl"] = nil }), "groups.jsonl: it is empty"},
		{"few systems", with(func(m map[string][]byte) { m["mapSolarSystems.jsonl"] = m["mapSolarSystems.jsonl"][:300] }), "mapSolarSystems.jsonl: line "},
		{"few groups", with(func(m map[string][]byte) {
			m["groups.jsonl"] = m["groups.jsonl"][:bytes.IndexByte(m["groups.jsonl"], '\n')]
		}),
			"groups.jsonl: of its 1 records 1 have a name, and there should be 2 at least"},
		{"names called otherwise", with(func(m map[string][]byte) {
			m["types.jsonl"] = bytes.ReplaceAll(m["types.jsonl"], []byte(`"name"`), []byte(`"typeName"`))
		}), "types.jsonl: of its 3 records 0 have a name"},
		{"no JSON", line("types.jsonl", 3, `{"_key":5,`), "types.jsonl: line 4: unexpected end of JSON input"},
		{"no object", line("types.jsonl", 3, `[1]`), "types.jsonl: line 4: json: cannot unmarshal array"},
		{"no key", line("types.jsonl", 3, `{"name":{"en":"x"},"groupID":1}`), `types.jsonl: line 4: its _key "" is no id`},
		{"a key that is no id", line("groups.jsonl", 3, `{"_key":2147483648,"name":{"en":"x"},"categoryID":1}`), `its _key "2147483648" is no id`},
		{"a key in quotes", line("groups.jsonl", 3, `{"_key":"7","name":{"en":"x"},"categoryID":1}`), `its _key "\"7\"" is no id`},
		{"no security", line("mapSolarSystems.jsonl", 3, `{"_key":30000143,"name":{"en":"x"},"constellationID":20000020,"regionID":1}`), "mapSolarSystems.jsonl: line 4: it has no securityStatus"},
		{"no constellation", line("mapSolarSystems.jsonl", 3, `{"_key":30000143,"name":{"en":"x"},"securityStatus":1}`), "it has no constellationID"},
		{"no region", line("mapConstellations.jsonl", 3, `{"_key":20000143,"name":{"en":"x"}}`), "it has no regionID"},
		{"no group", line("types.jsonl", 3, `{"_key":20000143,"name":{"en":"x"}}`), "it has no groupID"},
		{"no category", line("groups.jsonl", 3, `{"_key":20000143,"name":{"en":"x"}}`), "it has no categoryID"},
		{"a negative group", line("types.jsonl", 3, `{"_key":20000143,"name":{"en":"x"},"groupID":-1}`), "its groupID -1 is no id"},
		{"a class that makes no sense", line("mapRegions.jsonl", 3, `{"_key":10000003,"name":{"en":"x"},"wormholeClassID":256}`), "its wormholeClassID 256 makes no sense"},
		{"a long name", line("types.jsonl", 3, `{"_key":20000143,"name":{"en":"`+strings.Repeat("x", 600)+`"},"groupID":1}`), "has 600 bytes, more than 512"},
		{"an id twice", line("types.jsonl", 3, `{"_key":587,"name":{"en":"x"},"groupID":1}`), "type 587 is there twice"},
		{"a long line", line("types.jsonl", 3, strings.Repeat(" ", maxLine+1)), "types.jsonl: bufio.Scanner: token too long"},
		{"a bomb that says so", bomb(t, maxMember+1), "types.jsonl has 1073741825 bytes unpacked, more than 1073741824"},
		{"a bomb that does not", bomb(t, 1000), "types.jsonl: "},
		{"a member twice", twice(t), "types.jsonl is in it twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			before, err := encode(&killfeed.UniverseData{}, release{build: 1})
			if err != nil {
				t.Fatal(err)
			}
			o := Options{Dir: dir, members: few()}
			end, err := o.begin()
			if err != nil {
				t.Fatal(err)
			}
			end()
			if err := replace(indexFile(dir), before); err != nil {
				t.Fatal(err)
			}
			archive := file(t, "x.zip", c.data)
			_, err = Import(t.Context(), o, archive)
			if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), archive) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
			if _, info := mustLoad(t, dir); info.Build != 1 {
				t.Errorf("build %d is installed now", info.Build)
			}
			if got := entries(t, dir); !slices.Equal(got, []string{"universe"}) {
				t.Errorf("what is left: %v", got)
			}
			if _, err := os.Stat(archive); err != nil {
				t.Error(err)
			}
		})
	}
}

// bomb is an archive with types that unpack to 16 MB of spaces, whatever the directory says.
func bomb(t *testing.T, says uint64) []byte {
	t.Helper()
	members := small()
	delete(members, "types.jsonl")
	var packed bytes.Buffer
	z := zip.NewWriter(&packed)
	f, err := z.Create("types.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	spaces := append(bytes.Repeat([]byte(" "), 1023), '\n')
	for range 1 << 14 {
		f.Write(spaces)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return join(t, pack(t, members), packed.Bytes(), func(h *zip.FileHeader) { h.UncompressedSize64 = says })
}

// twice is an archive with types in two directories.
func twice(t *testing.T) []byte {
	t.Helper()
	return join(t, pack(t, small()), pack(t, map[string][]byte{"types.jsonl": small()["types.jsonl"]}),
		func(h *zip.FileHeader) { h.Name = "more/types.jsonl" })
}

// join copies the members of two archives into one, those of the second with a changed header.
func join(t *testing.T, first, second []byte, change func(*zip.FileHeader)) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, data := range [][]byte{first, second} {
		from, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range from.File {
			h := f.FileHeader
			raw, err := f.OpenRaw()
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				change(&h)
			}
			w, err := z.CreateRaw(&h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(w, raw); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An import that is interrupted changes nothing.
func TestInterruptedImport(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Dir: dir, members: few(), Progress: func(p Progress) {
		if p.Done > p.Total/2 {
			cancel()
		}
	}}
	if _, err := Import(ctx, o, archiveOf(t, build)); !errors.Is(err, context.Canceled) || errors.Is(err, ErrBroken) {
		t.Errorf("%v", err)
	}
	if got := entries(t, dir); len(got) > 0 {
		t.Errorf("what is left: %v", got)
	}
}

// The index of the whole game has less than 5 MB: of a world that was made up, in which nothing is as alike as in the game, and
// of the game's own systems and ships, where they can be had.
func TestSize(t *testing.T) {
	const most = 5_000_000
	check := func(t *testing.T, d *sdesim.Data) {
		data, err := d.Archive()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		r, err := Import(t.Context(), Options{Dir: dir}, file(t, archiveName(d.Build), data))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d systems, %d types: %d bytes", r.Systems, r.Types, r.Bytes)
		if r.Bytes >= most || r.Systems < 8000 || r.Types < 50_000 {
			t.Errorf("%d systems, %d types: %d bytes, want less than %d", r.Systems, r.Types, r.Bytes, most)
		}
	}
	t.Run("made up", func(t *testing.T) { check(t, sdesim.MadeUp(build)) })
	t.Run("tables", func(t *testing.T) {
		d, err := sdesim.Tables(filepath.Join("..", "..", "shared", "data"), build)
		if errors.Is(err, os.ErrNotExist) {
			t.Skipf("the game's tables are not here: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		check(t, d)
	})
}

// FuzzRecord: no line of an archive, in whichever member, does anything but be taken or refused, and what was taken can be
// written and read.
func FuzzRecord(f *testing.F) {
	for name, data := range small() {
		line, _, _ := bytes.Cut(data, []byte("\n"))
		f.Add(name, line)
	}
	f.Add("types.jsonl", []byte(`{"_key":1e3,"name":null,"groupID":1}`))
	f.Add("types.jsonl", []byte(`{"_key":5,"name":"\ud800\u0000","groupID":2147483647}`))
	f.Fuzz(func(t *testing.T, name string, line []byte) {
		for _, m := range members() {
			if m.name+".jsonl" != name {
				continue
			}
			x := &extract{classes: map[uint32]uint32{}, inRegion: map[uint32]uint32{}}
			var r record
			if json.Unmarshal(line, &r) != nil || x.add(&r, m) != nil {
				return
			}
			x.inherit()
			if _, err := killfeed.NewUniverse(x.data); err != nil {
				return // an id that is 0
			}
			data, err := encode(&x.data, x.release)
			if err != nil {
				t.Fatal(err)
			}
			x.data.Build = x.release.build
			d, rel, err := decode(data)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fmt.Sprint(x.data, x.release), fmt.Sprint(d, rel)); diff != "" {
				t.Errorf("(-written +read)\n%s", diff)
			}
		}
	})
}

// The real bounds refuse an archive in which there are a few of everything.
func TestTooFew(t *testing.T) {
	_, err := Import(t.Context(), Options{Dir: t.TempDir()}, file(t, "x.zip", pack(t, small())))
	if !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "mapRegions.jsonl: of its 3 records 3 have a name, and there should be 60 at least") {
		t.Errorf("got %v", err)
	}
}

// A checksum of the standard library, to be sure which it is.
func TestChecksum(t *testing.T) {
	file := append([]byte(magic+"\x00\x01????"), "123456789"...)
	whole := append([]byte(magic+"\x00\x01"), "123456789"...)
	if got, want := checksum(file), crc32.Checksum(whole, crc32.MakeTable(crc32.Castagnoli)); got != want {
		t.Errorf("%x, want %x", got, want)
	}
}
