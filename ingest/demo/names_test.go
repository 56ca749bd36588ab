package demo_test

import (
	"regexp"
	"testing"

	"killfeed"
	"killfeed/ingest/demo"
)

func TestNames(t *testing.T) {
	all := demo.Names()
	names, tickers, count := map[string]uint32{}, map[string]uint32{}, map[string]int{}
	ticker := regexp.MustCompile(`^[A-Z0-9.-]{1,5}$`)
	byID := map[uint32]demo.Entity{}
	for i, e := range all {
		if i > 0 && e.ID <= all[i-1].ID {
			t.Errorf("%d follows %d", e.ID, all[i-1].ID)
		}
		if name, ok := demo.Name(e.ID); !ok || name != e.Name {
			t.Errorf("Name(%d) is %q, %v, want %q", e.ID, name, ok, e.Name)
		}
		if e.ID > killfeed.MaxID {
			t.Errorf("%s has id %d, which is too large for a topic", e.Name, e.ID)
		}
		count[e.Category]++
		byID[e.ID] = e
		switch e.Category {
		case "character", "corporation", "alliance":
		default:
			continue
		}
		if other, ok := names[e.Name]; ok {
			t.Errorf("%d and %d are both %q", e.ID, other, e.Name)
		}
		names[e.Name] = e.ID
		if len(e.Name) > 37 || len(e.Name) < 3 {
			t.Errorf("%q is not of 3 to 37 bytes", e.Name)
		}
		if e.Category == "character" || e.Name == "CONCORD" {
			continue
		}
		if other, ok := tickers[e.Ticker]; ok || !ticker.MatchString(e.Ticker) {
			t.Errorf("ticker %q of %d is that of %d too, or is none", e.Ticker, e.ID, other)
		}
		tickers[e.Ticker] = e.ID
	}
	for _, e := range all {
		if e.CorporationID != 0 && byID[e.CorporationID].Category != "corporation" {
			t.Errorf("%s is in corporation %d, which is none", e.Name, e.CorporationID)
		}
		if e.AllianceID != 0 && byID[e.AllianceID].Category != "alliance" {
			t.Errorf("%s is in alliance %d, which is none", e.Name, e.AllianceID)
		}
	}
	for category, least := range map[string]int{"character": 3000, "corporation": 50, "alliance": 8, "faction": 9,
		"inventory_type": 150, "solar_system": 30, "constellation": 20, "region": 15} {
		if count[category] < least {
			t.Errorf("%d names of category %s, want %d or more", count[category], category, least)
		}
	}
	for _, id := range []uint32{0, 1, 30000001, 2_119_000_000, 2_147_459_999, 2_147_469_999, 2_147_479_999, killfeed.MaxID} {
		if name, ok := demo.Name(id); ok || name != "" {
			t.Errorf("Name(%d) is %q, want none", id, name)
		}
	}
}
