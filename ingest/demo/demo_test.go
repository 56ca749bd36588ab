package demo_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/ingest/demo"
)

// evening is a time at which much happens.
var evening = time.Date(2026, time.November, 23, 19, 0, 0, 0, time.UTC)

func at(t time.Time) func() time.Time { return func() time.Time { return t } }

// mail is a killmail with all the members that ESI and zKillboard have and a demo uses, and no other.
type mail struct {
	Attackers []struct {
		AllianceID    uint32  `json:"alliance_id"`
		CharacterID   uint32  `json:"character_id"`
		CorporationID uint32  `json:"corporation_id"`
		DamageDone    int64   `json:"damage_done"`
		FactionID     uint32  `json:"faction_id"`
		FinalBlow     *bool   `json:"final_blow"`
		Security      float64 `json:"security_status"`
		ShipTypeID    uint32  `json:"ship_type_id"`
		WeaponTypeID  uint32  `json:"weapon_type_id"`
	} `json:"attackers"`
	KillmailID    int64     `json:"killmail_id"`
	KillmailTime  time.Time `json:"killmail_time"`
	SolarSystemID uint32    `json:"solar_system_id"`
	Victim        struct {
		AllianceID    uint32                      `json:"alliance_id"`
		CharacterID   uint32                      `json:"character_id"`
		CorporationID uint32                      `json:"corporation_id"`
		DamageTaken   int64                       `json:"damage_taken"`
		FactionID     uint32                      `json:"faction_id"`
		Items         []thing                     `json:"items"`
		Position      *struct{ X, Y, Z *float64 } `json:"position"`
		ShipTypeID    uint32                      `json:"ship_type_id"`
	} `json:"victim"`
	WarID uint32 `json:"war_id"`
	ZKB   struct {
		Hash           string   `json:"hash"`
		FittedValue    float64  `json:"fittedValue"`
		DroppedValue   float64  `json:"droppedValue"`
		DestroyedValue float64  `json:"destroyedValue"`
		TotalValue     float64  `json:"totalValue"`
		Points         int      `json:"points"`
		NPC            bool     `json:"npc"`
		Solo           bool     `json:"solo"`
		Awox           bool     `json:"awox"`
		Labels         []string `json:"labels"`
		AttackerCount  int      `json:"attackerCount"`
		Demo           bool     `json:"demo"`
	} `json:"zkb"`
}

type thing struct {
	Flag      int     `json:"flag"`
	TypeID    uint32  `json:"item_type_id"`
	Items     []thing `json:"items"`
	Destroyed int64   `json:"quantity_destroyed"`
	Dropped   int64   `json:"quantity_dropped"`
	Singleton *int    `json:"singleton"`
}

func decode(t *testing.T, k *killfeed.Killmail) *mail {
	t.Helper()
	var m mail
	d := json.NewDecoder(bytes.NewReader(k.JSON))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		t.Fatalf("%s: %v", k.JSON, err)
	}
	return &m
}

// world is what the test knows of the places and names, by id.
type world struct {
	systems  map[uint32]demo.System
	types    map[uint32]demo.Type
	entities map[uint32]demo.Entity
}

func newWorld() *world {
	w := &world{map[uint32]demo.System{}, map[uint32]demo.Type{}, map[uint32]demo.Entity{}}
	for _, s := range demo.Systems() {
		w.systems[s.ID] = s
	}
	for _, t := range demo.Types() {
		w.types[t.ID] = t
	}
	for _, e := range demo.Names() {
		w.entities[e.ID] = e
	}
	return w
}

func TestKillmails(t *testing.T) {
	w := newWorld()
	for seed := range uint64(3) {
		g := demo.New(demo.Options{Seed: seed, Now: at(evening)})
		lastID, lastAt := int64(0), time.Time{}
		died := map[uint32]*mail{}
		for range 2500 {
			k, published := g.Next()
			m := decode(t, k)
			if err := w.check(k, m, died); err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, k.JSON)
			}
			if k.ID <= lastID || k.ID > lastID+30 && lastID > 0 {
				t.Errorf("seed %d: id %d follows %d, want a small step upwards", seed, k.ID, lastID)
			}
			if published.Before(lastAt) {
				t.Errorf("seed %d: killmail %d is published at %v, the one before it at %v", seed, k.ID, published, lastAt)
			}
			if age := published.Sub(k.Time); age < 0 || age > 45*time.Minute {
				t.Errorf("seed %d: killmail %d is %v old when it is published", seed, k.ID, age)
			}
			lastID, lastAt = k.ID, published
			if v := w.types[m.Victim.ShipTypeID]; v.Category == "Ship" && v.Group != "Capsule" {
				died[m.Victim.CharacterID] = m
			}
		}
	}
}

// check tells what is wrong with a killmail. died has the last ship that each pilot lost.
func (w *world) check(k *killfeed.Killmail, m *mail, died map[uint32]*mail) error {
	switch parsed, err := killfeed.ParseItem(k.JSON); {
	case err != nil:
		return fmt.Errorf("does not parse: %w", err)
	case !reflect.DeepEqual(k, parsed):
		return fmt.Errorf("differs when parsed again: %s", cmp.Diff(k, parsed))
	}
	if hash, err := killfeed.KillmailHash(k.JSON); err != nil || hash != k.Hash || hash != m.ZKB.Hash {
		return fmt.Errorf("has hash %q and %q, want %q (%v)", k.Hash, m.ZKB.Hash, hash, err)
	}
	if !demo.IsDemo(k) || !m.ZKB.Demo || k.ID != m.KillmailID || k.ID > 1<<31-1 {
		return fmt.Errorf("is not marked as a demo's, or its id %d is too large", k.ID)
	}
	for _, word := range []string{`"href"`, `"locationID"`, `":null`, "e+"} {
		if bytes.Contains(k.JSON, []byte(word)) {
			return fmt.Errorf("has %q in it", word)
		}
	}
	if _, ok := w.systems[k.SystemID]; !ok {
		return fmt.Errorf("is in unknown system %d", k.SystemID)
	}
	if p := m.Victim.Position; p == nil || p.X == nil || p.Y == nil || p.Z == nil || math.Abs(*p.X) > 2e13 || *p.X == 0 {
		return fmt.Errorf("is at an implausible position")
	}
	for _, err := range []error{w.people(k, m, died), w.damage(m), w.values(m), w.labels(m)} {
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *world) people(k *killfeed.Killmail, m *mail, died map[uint32]*mail) error {
	member := func(character, corporation, alliance uint32) error {
		if e := w.entities[character]; e.Category != "character" || e.CorporationID != corporation || e.AllianceID != alliance {
			return fmt.Errorf("pilot %d is in %d and %d, want %+v", character, corporation, alliance, e)
		}
		return nil
	}
	v := &m.Victim
	hull := w.types[v.ShipTypeID]
	if hull.CategoryID == 0 {
		return fmt.Errorf("victim is a %d %q, which cannot be lost", v.ShipTypeID, hull.Name)
	}
	want := []killfeed.Topic{killfeed.System(m.SolarSystemID), {Kind: killfeed.KindShip | killfeed.RoleLoss, ID: v.ShipTypeID},
		{Kind: killfeed.KindCorporation | killfeed.RoleLoss, ID: v.CorporationID}}
	if v.CharacterID != 0 {
		if err := member(v.CharacterID, v.CorporationID, v.AllianceID); err != nil {
			return err
		}
		want = append(want, killfeed.Topic{Kind: killfeed.KindCharacter | killfeed.RoleLoss, ID: v.CharacterID})
	} else if hull.CategoryID == 6 {
		return fmt.Errorf("a ship is lost without a pilot")
	}
	if corp := w.entities[v.CorporationID]; corp.Category != "corporation" || corp.AllianceID != v.AllianceID {
		return fmt.Errorf("victim is of %d and %d, want %+v", v.CorporationID, v.AllianceID, corp)
	}
	seen := map[uint32]bool{v.CharacterID: true}
	for _, a := range m.Attackers {
		if _, ok := w.types[a.ShipTypeID]; !ok {
			return fmt.Errorf("attacker flies unknown %d", a.ShipTypeID)
		}
		want = append(want, killfeed.Topic{Kind: killfeed.KindShip | killfeed.RoleKill, ID: a.ShipTypeID})
		if a.CharacterID == 0 {
			if (a.FactionID == 0) == (a.CorporationID == 0) || a.Security != 0 || a.WeaponTypeID != 0 {
				return fmt.Errorf("NPC %+v has not one of faction and corporation", a)
			}
			continue
		}
		if seen[a.CharacterID] {
			return fmt.Errorf("pilot %d is in it twice", a.CharacterID)
		}
		seen[a.CharacterID] = true
		if err := member(a.CharacterID, a.CorporationID, a.AllianceID); err != nil {
			return err
		}
		if a.Security < -10 || a.Security > 5.1 || a.Security*10 != math.Round(a.Security*10) {
			return fmt.Errorf("pilot %d has security status %v", a.CharacterID, a.Security)
		}
		if _, ok := w.types[a.WeaponTypeID]; !ok {
			return fmt.Errorf("weapon is unknown %d", a.WeaponTypeID)
		}
		if !m.ZKB.Awox && a.AllianceID != 0 && a.AllianceID == v.AllianceID && v.ShipTypeID != 670 {
			return fmt.Errorf("pilot %d shoots at a friend", a.CharacterID)
		}
		if d := died[a.CharacterID]; d != nil && d.SolarSystemID == m.SolarSystemID &&
			m.KillmailTime.After(d.KillmailTime) && m.KillmailTime.Before(d.KillmailTime.Add(time.Minute)) {
			return fmt.Errorf("pilot %d attacks and has died in killmail %d", a.CharacterID, d.KillmailID)
		}
		want = append(want, killfeed.Topic{Kind: killfeed.KindCharacter | killfeed.RoleKill, ID: a.CharacterID})
	}
	if v.ShipTypeID == 670 { // a pod comes out of a ship
		d := died[v.CharacterID]
		if d == nil {
			return nil // it was lost before the test began
		}
		if d.SolarSystemID != m.SolarSystemID || d.KillmailTime.After(m.KillmailTime) {
			return fmt.Errorf("the pod's ship was lost elsewhere, or later: killmail %d", d.KillmailID)
		}
	}
	for _, topic := range want {
		if !slices.Contains(k.Topics, topic) {
			return fmt.Errorf("lacks the topic %v", topic)
		}
	}
	if m.WarID != 0 && m.WarID < 2_147_480_000 {
		return fmt.Errorf("has war id %d, which may be real", m.WarID)
	}
	return nil
}

func (w *world) damage(m *mail) error {
	sum, final, last := int64(0), 0, int64(math.MaxInt64)
	for _, a := range m.Attackers {
		if a.DamageDone < 0 || a.DamageDone > last || a.FinalBlow == nil {
			return fmt.Errorf("attackers are not in the order of damage, or say nothing of the final blow")
		}
		last = a.DamageDone
		sum += a.DamageDone
		if *a.FinalBlow {
			final++
			if a.DamageDone == 0 {
				return fmt.Errorf("the final blow did nothing")
			}
		}
	}
	if sum != m.Victim.DamageTaken || sum <= 0 || final != 1 {
		return fmt.Errorf("%d damage done, %d taken, %d final blows", sum, m.Victim.DamageTaken, final)
	}
	return nil
}

func (w *world) values(m *mail) error {
	z := &m.ZKB
	if d := z.DroppedValue + z.DestroyedValue - z.TotalValue; math.Abs(d) > 0.01+z.TotalValue*1e-12 {
		return fmt.Errorf("dropped and destroyed are off the total by %v", d)
	}
	// What the same type costs must be the same in all killmails; the least that can be said here is its magnitude.
	var destroyed, dropped float64
	hull := w.types[m.Victim.ShipTypeID].Price
	destroyed = hull
	var count func(things []thing, nested bool) error
	count = func(things []thing, nested bool) error {
		for _, i := range things {
			item, ok := w.types[i.TypeID]
			switch {
			case !ok:
				return fmt.Errorf("has an unknown item %d", i.TypeID)
			case i.Singleton == nil || (i.Destroyed > 0) == (i.Dropped > 0) || i.Destroyed < 0 || i.Dropped < 0:
				return fmt.Errorf("item %+v is not either destroyed or dropped", i)
			case nested && (i.Items != nil || i.Flag != 0):
				return fmt.Errorf("item %+v is nested too deep", i)
			case i.Flag >= 92 && i.Flag < 100 && i.Dropped > 0, i.Flag == 89 && i.Dropped > 0:
				return fmt.Errorf("%s was dropped", item.Name)
			}
			destroyed += item.Price * float64(i.Destroyed)
			dropped += item.Price * float64(i.Dropped)
			if err := count(i.Items, true); err != nil {
				return err
			}
		}
		return nil
	}
	if err := count(m.Victim.Items, false); err != nil {
		return err
	}
	near := func(got, want float64) bool { return got >= want*0.96 && got <= want*1.04 }
	if !near(z.DestroyedValue, destroyed) || !near(z.DroppedValue, dropped) {
		return fmt.Errorf("items are worth about %.0f destroyed and %.0f dropped", destroyed, dropped)
	}
	if z.FittedValue < hull*0.96 || z.FittedValue > z.TotalValue+0.01 || z.Points < 1 {
		return fmt.Errorf("fitted value %v or points %d cannot be", z.FittedValue, z.Points)
	}
	return nil
}

// labels checks zkb's words against the killmail itself.
func (w *world) labels(m *mail) error {
	hull, sys := w.types[m.Victim.ShipTypeID], w.systems[m.SolarSystemID]
	players, awox, concord := 0, false, false
	for _, a := range m.Attackers {
		if a.CharacterID != 0 {
			players++
		}
		concord = concord || a.CorporationID == 1000125
		awox = awox || *a.FinalBlow && a.CorporationID == m.Victim.CorporationID && a.CorporationID > 2_000_000
	}
	awox = awox && hull.Group != "Capsule"
	npc := players == 0
	solo := players == 1 && hull.Category == "Ship" && !slices.Contains([]string{"Capsule", "Shuttle", "Corvette"}, hull.Group)
	z := &m.ZKB
	if z.NPC != npc || z.Solo != solo || z.Awox != awox || z.AttackerCount != len(m.Attackers) {
		return fmt.Errorf("npc, solo, awox, attackerCount: want %v, %v, %v, %d", npc, solo, awox, len(m.Attackers))
	}
	count := "#:1"
	for _, c := range []int{2, 5, 10, 25, 50, 100, 1000} {
		if len(m.Attackers) >= c {
			count = fmt.Sprintf("#:%d+", c)
		}
	}
	place := "nullsec"
	switch {
	case strings.HasPrefix(sys.Region, "ADR"):
		place = "abyssal"
	case sys.RegionID/1_000_000 == 11:
		place = "w-space"
	case sys.Security >= 0.45:
		place = "highsec"
	case sys.Security > 0:
		place = "lowsec"
	}
	want := []string{"cat:" + fmt.Sprint(hull.CategoryID), "loc:" + place}
	add := func(when bool, label string) {
		if when {
			want = append(want, label)
		}
	}
	add(solo, "solo")
	add(!solo, count)
	add(npc, "npc")
	add(!npc, "pvp")
	add(awox, "awox")
	add(concord, "concord")
	add(slices.Contains([]string{"Carrier", "Dreadnought", "Capital Industrial Ship"}, hull.Group), "capital")
	for _, r := range []struct {
		from, to float64
		label    string
	}{{1e9, 5e9, "isk:1b+"}, {5e9, 1e10, "isk:5b+"}, {1e10, 1e11, "isk:10b+"}, {1e11, 1e12, "isk:100b+"}} {
		add(z.TotalValue >= r.from && z.TotalValue < r.to, r.label)
	}
	hours := map[string][]int{"use": {22, 23, 0, 1, 2, 3}, "usw": {4, 5, 6, 7}, "au": {8, 9, 10, 11, 12, 13}, "ru": {14, 15, 16},
		"eu": {17, 18, 19, 20, 21}}
	for zone, list := range hours {
		add(slices.Contains(list, m.KillmailTime.Hour()), "tz:"+zone)
	}
	powers := map[uint32]string{500001: "caldari", 500002: "minmatar", 500003: "amarr", 500004: "gallente"}
	enemy := map[uint32]uint32{500001: 500004, 500004: 500001, 500002: 500003, 500003: 500002}
	for _, a := range m.Attackers {
		if f := a.FactionID; a.CharacterID != 0 && f != 0 && m.Victim.FactionID != 0 && f != m.Victim.FactionID {
			if enemy[f] != m.Victim.FactionID {
				return fmt.Errorf("faction %d shoots at faction %d", f, m.Victim.FactionID)
			}
			add(true, "fw:"+powers[f])
			add(f == 500001 || f == 500004, "fw:calgal")
			add(f == 500002 || f == 500003, "fw:amamin")
			break
		}
	}
	got := slices.Clone(z.Labels)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("labels (-want +got):\n%s", diff)
	}
	return nil
}
