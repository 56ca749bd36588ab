// Package sdesim makes archives of static data in the layout in which CCP publishes them, of data that is made up or given. It is
// for tests and for trying things out without a network.
//
// The archives have what killfeed reads, what it passes over, and about the right number of everything; they are the same for the
// same data, byte for byte.
package sdesim

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"killfeed"
)

// Released is when CCP released the builds that are made up here.
var Released = time.Date(2026, 10, 2, 11, 8, 57, 0, time.UTC)

// Data is what an archive is made of.
type Data struct {
	killfeed.UniverseData
	// RegionClasses and ConstellationClasses are wormhole classes that systems inherit. The Class of a system is its own.
	RegionClasses, ConstellationClasses map[uint32]uint8
}

// MadeUp makes up a world of the size of the game's: systems in constellations in regions, and types in groups. Its ids are in the
// game's ranges, and a few things have their real ids and names: Jita, Thera, the Rifter and others.
func MadeUp(build int) *Data {
	d := Small(build)
	d.fill()
	return d
}

// Small is MadeUp with nothing but what has real ids and names: a few of everything.
func Small(build int) *Data {
	d := &Data{RegionClasses: map[uint32]uint8{}, ConstellationClasses: map[uint32]uint8{}}
	d.Build = build
	d.Regions = []killfeed.Region{{ID: 10000002, Name: "The Forge"}, {ID: killfeed.RegionPochven, Name: "Pochven"}, {ID: 11000031, Name: "G-R00031"}}
	d.Constellations = []killfeed.Constellation{
		{ID: 20000020, Region: 10000002, Name: "Kimotoro"}, {ID: 20000788, Region: killfeed.RegionPochven, Name: "Krai Svarog"},
		{ID: 21000324, Region: 11000031, Name: "G-C00324"},
	}
	d.Systems = []killfeed.SolarSystem{
		{ID: 30000142, Name: "Jita", Constellation: 20000020, Region: 10000002, Security: 0.9459131},
		{ID: 30003504, Name: "Niarja", Constellation: 20000788, Region: killfeed.RegionPochven, Security: -1},
		{ID: 31000005, Name: "Thera", Constellation: 21000324, Region: 11000031, Security: -0.99, Class: 12},
	}
	d.RegionClasses[10000002], d.RegionClasses[11000031], d.ConstellationClasses[20000788] = 7, 13, 25
	d.Groups = []killfeed.Group{{ID: 0, Category: 0, Name: "#System"}, {ID: 25, Category: 6, Name: "Frigate"}, {ID: 30, Category: 6, Name: "Titan"}}
	d.Types = []killfeed.Type{{ID: 0, Group: 0, Name: "#System"}, {ID: 587, Group: 25, Name: "Rifter"}, {ID: 11567, Group: 30, Name: "Avatar"}}
	d.Factions = []killfeed.Faction{{ID: 500001, Name: "Caldari State"}, {ID: 500010, Name: "Guristas Pirates"}}
	d.Corporations = []killfeed.Corporation{{ID: 1000125, Name: "CONCORD", Ticker: "CONCO"}, {ID: 1000167, Name: "State War Academy", Ticker: "SWA"}}
	return d
}

// fill makes up the rest.
func (d *Data) fill() {
	for i := range uint32(110) {
		region := 10000100 + i
		d.Regions = append(d.Regions, killfeed.Region{ID: region, Name: invent(uint64(region))})
		d.RegionClasses[region] = uint8(7 + i%3)
		for j := range uint32(11) {
			constellation := 20001000 + 11*i + j
			d.Constellations = append(d.Constellations, killfeed.Constellation{ID: constellation, Region: region, Name: invent(uint64(constellation))})
			for k := range uint32(7) {
				system := 30010000 + 7*(11*i+j) + k
				d.Systems = append(d.Systems, killfeed.SolarSystem{
					ID: system, Name: invent(uint64(system)), Constellation: constellation, Region: region,
					Security: float64(mix(uint64(system))%2_000_000)/1_000_000 - 1,
				})
			}
		}
	}
	for i := range uint32(1600) {
		d.Groups = append(d.Groups, killfeed.Group{ID: 5000 + i, Category: 4 + i%60, Name: invent(uint64(i)) + " Group"})
		for j := range uint32(33) {
			id := 100_000 + 33*i + j
			d.Types = append(d.Types, killfeed.Type{ID: id, Group: 5000 + i, Name: invent(uint64(i)) + " " + invent(uint64(id)) + " " + grade(id)})
		}
	}
	for i := range uint32(270) {
		d.Corporations = append(d.Corporations, killfeed.Corporation{ID: 1001000 + i, Name: invent(uint64(i)) + " Corporation", Ticker: strconv.Itoa(int(i))})
	}
}

// Tables reads the tables systems.csv.gz and types-small.csv.gz in a directory, and makes up what they lack for an archive: more
// types.
func Tables(dir string, build int) (*Data, error) {
	d := MadeUp(build)
	systems, err := rows(filepath.Join(dir, "systems.csv.gz"), 8)
	if err != nil {
		return nil, err
	}
	types, err := rows(filepath.Join(dir, "types-small.csv.gz"), 6)
	if err != nil {
		return nil, err
	}
	d.Systems, d.Constellations, d.Regions, d.RegionClasses, d.ConstellationClasses = nil, nil, nil, nil, nil
	seen := map[uint32]bool{}
	for _, r := range systems {
		s := killfeed.SolarSystem{ID: number(r[0]), Name: r[1], Constellation: number(r[2]), Region: number(r[4]), Class: uint8(number(r[7]))}
		if s.Security, err = strconv.ParseFloat(r[6], 64); err != nil {
			return nil, err
		}
		d.Systems = append(d.Systems, s)
		if !seen[s.Constellation] {
			seen[s.Constellation] = true
			d.Constellations = append(d.Constellations, killfeed.Constellation{ID: s.Constellation, Region: s.Region, Name: r[3]})
		}
		if !seen[s.Region] {
			seen[s.Region] = true
			d.Regions = append(d.Regions, killfeed.Region{ID: s.Region, Name: r[5]})
		}
	}
	const firstMadeUp = 100_000 // the table's larger ids give way to those that were made up
	known, groups := map[uint32]bool{}, map[uint32]bool{}
	for _, t := range d.Types {
		known[t.ID] = true
	}
	for _, g := range d.Groups {
		groups[g.ID] = true
	}
	for _, r := range types {
		t := killfeed.Type{ID: number(r[0]), Name: r[1], Group: number(r[2])}
		if !known[t.ID] && t.ID < firstMadeUp {
			d.Types = append(d.Types, t)
		}
		if !groups[t.Group] {
			groups[t.Group] = true
			d.Groups = append(d.Groups, killfeed.Group{ID: t.Group, Category: number(r[4]), Name: r[3]})
		}
	}
	return d, nil
}

func rows(name string, columns int) ([][]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	all, err := csv.NewReader(z).ReadAll()
	if err != nil || len(all) < 2 || len(all[0]) < columns {
		return nil, fmt.Errorf("%s is no table of %d columns (%v)", name, columns, err)
	}
	return all[1:], nil
}

// number reads an id; what is none is 0.
func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

// Members are the files of an archive by name, each a JSON object a line.
func (d *Data) Members() map[string][]byte {
	all := map[string][]byte{}
	add := func(file string, id any, fields map[string]any) {
		fields["_key"] = id
		line, err := json.Marshal(fields)
		if err != nil { // there is nothing in it that could not be written
			panic(err)
		}
		all[file+".jsonl"] = append(append(all[file+".jsonl"], line...), '\n')
	}
	place := map[string]any{"x": 1.5e17, "y": -2.25e16, "z": 3}
	class := func(fields map[string]any, n uint8) map[string]any {
		if n > 0 {
			fields["wormholeClassID"] = n
		}
		return fields
	}
	add("_sde", "sde", map[string]any{"buildNumber": d.Build, "releaseDate": Released.Format(time.RFC3339)})
	for _, r := range d.Regions {
		add("mapRegions", r.ID, class(map[string]any{"name": languages(r.Name), "position": place, "nebulaID": 11799}, d.RegionClasses[r.ID]))
	}
	for _, c := range d.Constellations {
		add("mapConstellations", c.ID, class(map[string]any{"name": languages(c.Name), "regionID": c.Region, "position": place},
			d.ConstellationClasses[c.ID]))
	}
	for _, s := range d.Systems {
		add("mapSolarSystems", s.ID, class(map[string]any{"name": languages(s.Name), "constellationID": s.Constellation, "regionID": s.Region,
			"securityStatus": s.Security, "position": place, "radius": 1e12, "planetIDs": []int{40000001, 40000002}}, s.Class))
	}
	for _, g := range d.Groups {
		add("groups", g.ID, map[string]any{"name": languages(g.Name), "categoryID": g.Category, "published": g.ID > 0, "useBasePrice": false})
	}
	for _, t := range d.Types {
		add("types", t.ID, map[string]any{"name": languages(t.Name), "groupID": t.Group, "published": t.ID%2 == 1, "portionSize": 1,
			"description": map[string]string{"en": "Unsinkable. <br>\"Quoted\"", "zh": "船"}})
	}
	for _, f := range d.Factions {
		add("factions", f.ID, map[string]any{"name": languages(f.Name), "memberRaces": []int{1}})
	}
	for _, c := range d.Corporations {
		add("npcCorporations", c.ID, map[string]any{"name": languages(c.Name), "tickerName": c.Ticker, "deleted": false})
	}
	all["mapMoons.jsonl"] = []byte(`{"_key": 40000004, "celestialIndex": 1}` + "\n") // and much more like it
	return all
}

// languages is a name as archives have it.
func languages(name string) map[string]string {
	return map[string]string{"de": name + " (de)", "en": name, "zh": "名字"}
}

// Zip packs members, in an order that does not change.
func Zip(w io.Writer, members map[string][]byte) error {
	z := zip.NewWriter(w)
	for _, name := range []string{
		"_sde.jsonl", "factions.jsonl", "groups.jsonl", "mapConstellations.jsonl", "mapMoons.jsonl", "mapRegions.jsonl",
		"mapSolarSystems.jsonl", "npcCorporations.jsonl", "types.jsonl",
	} {
		data, ok := members[name]
		if !ok {
			continue
		}
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: Released})
		if err != nil {
			return err
		}
		if _, err := f.Write(data); err != nil {
			return err
		}
	}
	return z.Close()
}

// Archive is the archive of the data.
func (d *Data) Archive() ([]byte, error) {
	var b bytes.Buffer
	err := Zip(&b, d.Members())
	return b.Bytes(), err
}

// invent makes up a name of two or three syllables.
func invent(n uint64) string {
	syllables := [...]string{"ka", "ro", "mi", "tel", "an", "vor", "us", "eth", "da", "lo", "shi", "ra", "nok", "ul", "per", "zy"}
	x := mix(n)
	name := syllables[x%16] + syllables[x>>4%16]
	if x>>8%2 == 0 {
		name += syllables[x>>9%16]
	}
	return string(name[0]-'a'+'A') + name[1:] + "-" + strconv.FormatUint(n%1000, 36)
}

func grade(n uint32) string {
	return [...]string{"I", "II", "Blueprint", "Enduring", "SKIN (permanent)"}[n%5]
}

// mix is the finalizer of splitmix64: what is near becomes far.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
