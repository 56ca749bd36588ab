package demo

import (
	"compress/gzip"
	"encoding/csv"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
)

// readTable reads a table of the game's static data, by its first column, when there is one to compare with.
func readTable(t *testing.T, name string) map[string][]string {
	f, err := os.Open("../../../shared/data/" + name)
	if err != nil {
		t.Skipf("no static data to compare with: %v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(z).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][]string{}
	for _, row := range rows[1:] {
		table[row[0]] = row
	}
	return table
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func TestSystemsAreReal(t *testing.T) {
	table := readTable(t, "systems.csv.gz")
	for _, s := range systems {
		row := table[id(s.ID)]
		if row == nil {
			t.Errorf("%s: there is no system %d", s.Name, s.ID)
			continue
		}
		want := []string{id(s.ID), s.Name, id(s.ConstellationID), s.Constellation, id(s.RegionID), s.Region}
		if !slices.Equal(row[:6], want) {
			t.Errorf("%s is %q, want %q", s.Name, want, row[:6])
		}
		if security, _ := strconv.ParseFloat(row[6], 64); math.Abs(security-s.Security) > 0.00501 {
			t.Errorf("%s has security %v, want %v", s.Name, s.Security, security)
		}
	}
}

// TestTypesAreReal compares what can be lost; modules and cargo are not in the table.
func TestTypesAreReal(t *testing.T) {
	table := readTable(t, "types-small.csv.gz")
	for _, typ := range types {
		row := table[id(typ.ID)]
		want := []string{id(typ.ID), typ.Name, id(typ.GroupID), typ.Group, id(typ.CategoryID), typ.Category}
		switch {
		case row == nil && typ.CategoryID != 0:
			t.Errorf("%s: there is no type %d", typ.Name, typ.ID)
		case row != nil && typ.CategoryID != 0 && !slices.Equal(row, want):
			t.Errorf("%s is %q, want %q", typ.Name, want, row)
		case row != nil && row[1] != typ.Name:
			t.Errorf("%d is %q, want %q", typ.ID, typ.Name, row[1])
		}
	}
}

func TestFixture(t *testing.T) {
	if !slices.IsSortedFunc(systems[:], func(a, b System) int { return int(a.ID) - int(b.ID) }) {
		t.Error("systems are not in the order of their ids")
	}
	if !slices.IsSortedFunc(types[:], func(a, b Type) int { return int(a.ID) - int(b.ID) }) {
		t.Error("types are not in the order of their ids")
	}
	npc := map[uint32]bool{}
	for _, n := range npcs {
		npc[n.ship] = true
		if typeOf(n.ship).Name == "" || (n.faction == 0) == (n.corporation == 0) || n.faction != 0 && factions[n.faction] == "" {
			t.Errorf("NPC %+v is not known, or of not one faction or corporation", n)
		}
	}
	names := map[string]bool{}
	for _, typ := range types {
		if names[typ.Name] || typ.Name == "" {
			t.Errorf("%d has no name of its own: %q", typ.ID, typ.Name)
		}
		names[typ.Name] = true
		if (typ.Price <= 0) != npc[typ.ID] {
			t.Errorf("%s costs %v", typ.Name, typ.Price)
		}
	}
	for _, a := range alliances {
		for _, home := range a.home {
			if !slices.ContainsFunc(systems[:], func(s System) bool { return s.ID == home }) {
				t.Errorf("%s lives in %d, where nothing happens", a.name, home)
			}
		}
	}
	for kind, list := range newStory(nil, nil).space {
		if len(list) == 0 {
			t.Errorf("there is no space of kind %d", kind)
		}
	}
}

func TestFits(t *testing.T) {
	ships, byHull := fleet()
	if len(byHull) != len(fits) {
		t.Errorf("%d fits of %d types, want one of each", len(fits), len(byHull))
	}
	for _, s := range ships {
		name := typeOf(s.hull).Name
		if name == "" || s.category == 0 || s.hp <= 0 || s.price <= 0 {
			t.Errorf("%d %q cannot be lost: %+v", s.hull, name, s)
		}
		if s.category == categoryShip && (s.size < 1 || s.size > 4) {
			t.Errorf("%s has size %d", name, s.size)
		}
		for rack, n := range map[string]int{"high": s.guns + len(s.high), "medium": len(s.mid), "low": len(s.low)} {
			if n > 8 {
				t.Errorf("%s has %d %s slots", name, n, rack)
			}
		}
		if len(s.rig) > 3 {
			t.Errorf("%s has %d rigs", name, len(s.rig))
		}
		if s.guns > 0 && s.ammo == 0 {
			t.Errorf("%s has nothing to shoot with", name)
		}
		for _, it := range s.items {
			if it.price <= 0 || it.n <= 0 {
				t.Errorf("%s has %+v in it, which is nothing", name, it)
			}
		}
	}
}

func TestISK(t *testing.T) {
	for hundredths, want := range map[int64]string{0: "0", 1: "0.01", 10: "0.1", 10000_00: "10000", 3922577720: "39225777.2",
		123456: "1234.56", 100000000000001: "1000000000000.01"} {
		if got := string(appendISK(nil, hundredths)); got != want {
			t.Errorf("%d hundredths are %q, want %q", hundredths, got, want)
		}
	}
}
