package demo

import (
	"cmp"
	"slices"
)

// Entity is something with a name in the demo.
type Entity struct {
	ID uint32
	// Category is the game's word: character, corporation, alliance, faction, inventory_type, solar_system, constellation or
	// region.
	Category string
	Name     string
	// Ticker is the short name of a corporation or alliance, up to five characters; empty for the rest and for CONCORD.
	Ticker string
	// CorporationID and AllianceID are where a character belongs, AllianceID also where a corporation does; else 0.
	CorporationID, AllianceID uint32
}

// Name is the name of whatever has that id in the demo's killmails, and of the constellations and regions of its systems.
func Name(id uint32) (name string, ok bool) {
	if id >= firstPilot && id < firstCorporation {
		pilots := 0
		for c := range corporations {
			pilots += corporations[c].pilots
		}
		if i := int(id - firstPilot); i < pilots {
			return pilotName(i), true
		}
		return "", false
	}
	if id >= firstAlliance && id < firstAlliance+uint32(len(alliances)) {
		return alliances[id-firstAlliance].name, true
	}
	for c := range corporations {
		if corporationID(c) == id {
			return corporations[c].name, true
		}
	}
	for i := range systems {
		switch s := &systems[i]; id {
		case s.ID:
			return s.Name, true
		case s.ConstellationID:
			return s.Constellation, true
		case s.RegionID:
			return s.Region, true
		}
	}
	if id == npcs[concord].corporation {
		return concordName, true
	}
	if name, ok = factions[id]; ok {
		return name, true
	}
	name = typeOf(id).Name
	return name, name != ""
}

const concordName = "CONCORD"

// Names is everything that Name knows, in ascending order of id. It is the same in every demo, and made anew by each call:
// who asks often keeps it. Pilots, corporations and alliances are invented, but for CONCORD and the four schools of the game
// that rookies are in; the rest is the game's.
func Names() []Entity {
	var all []Entity
	add := func(id uint32, category, name string) {
		all = append(all, Entity{ID: id, Category: category, Name: name})
	}
	for i := range types {
		add(types[i].ID, "inventory_type", types[i].Name)
	}
	for i := range systems {
		s := &systems[i]
		add(s.ID, "solar_system", s.Name)
		add(s.ConstellationID, "constellation", s.Constellation)
		add(s.RegionID, "region", s.Region)
	}
	for id, name := range factions {
		add(id, "faction", name)
	}
	all = append(all, Entity{ID: npcs[concord].corporation, Category: "corporation", Name: concordName})
	for a := range alliances {
		all = append(all, Entity{ID: firstAlliance + uint32(a), Category: "alliance", Name: alliances[a].name,
			Ticker: alliances[a].ticker})
	}
	id := uint32(firstPilot)
	for c := range corporations {
		e := Entity{ID: corporationID(c), Category: "corporation", Name: corporations[c].name, Ticker: corporations[c].ticker}
		if a := corporations[c].alliance; a >= 0 {
			e.AllianceID = firstAlliance + uint32(a)
		}
		all = append(all, e)
		for range corporations[c].pilots {
			all = append(all, Entity{ID: id, Category: "character", Name: pilotName(int(id - firstPilot)),
				CorporationID: e.ID, AllianceID: e.AllianceID})
			id++
		}
	}
	slices.SortFunc(all, func(a, b Entity) int { return cmp.Compare(a.ID, b.ID) })
	return slices.CompactFunc(all, func(a, b Entity) bool { return a.ID == b.ID }) // systems share constellations
}

// pilotName is the name of the i-th pilot, which is nobody else's: the step visits every pair of names before it repeats.
// After that come the alts.
func pilotName(i int) string {
	const pairs, step = len(givenNames) * len(familyNames), 1597 // a prime that divides neither
	n := (i*step + 421) % pairs
	name := givenNames[n/len(familyNames)] + " " + familyNames[n%len(familyNames)]
	if i >= pairs {
		name += " II"
	}
	return name
}

var givenNames = [...]string{
	"Agnes", "Alva", "Anouk", "Barnaby", "Basil", "Beatrix", "Bellamy", "Benno", "Briony", "Cedric", "Clementine", "Cosima",
	"Dagmar", "Delphine", "Doris", "Edda", "Egbert", "Elfrida", "Esther", "Fabian", "Fenella", "Floki", "Frieda", "Gideon",
	"Greta", "Gunnar", "Hazel", "Hedwig", "Horatio", "Ignatz", "Ingrid", "Isolde", "Jolanda", "Kaspar", "Klara", "Leopold",
	"Linnea", "Lothar", "Mabel", "Magnus", "Mildred", "Mortimer", "Nadja", "Nestor", "Odette", "Olaf", "Ottilie", "Percival",
	"Petra", "Quentin", "Ragna", "Rosalind", "Rufus", "Sigrid", "Solveig", "Tabitha", "Thaddeus", "Ulrike", "Vesper", "Wanda",
	"Wilbur", "Xenia", "Yorick", "Zebulon",
}

var familyNames = [...]string{
	"Afterburn", "Almostdocked", "Backdoor", "Baitship", "Blinkyred", "Bookmark", "Bubblesworth", "Burnback", "Capstable",
	"Cargoscan", "Cloakson", "Coldwarp", "Cynowhen", "Deadspace", "Driftwood", "Dronebay", "Emptyclip", "Falloff", "Flashpoint",
	"Freighterson", "Gatecrash", "Halfstop", "Highslot", "Holefinder", "Jumpfatigue", "Keepsafe", "Killrights", "Lagspike",
	"Loggoff", "Lootfairy", "Lowslot", "Misclick", "Moongoo", "Nanofiber", "Noscram", "Nullsworth", "Offgrid", "Orbitson",
	"Overheat", "Panicwarp", "Podexpress", "Polarized", "Quickdock", "Rangefinder", "Reshipper", "Salvager", "Shieldgap",
	"Slowlock", "Smartbomb", "Stationwood", "Straggler", "Tankless", "Taxhaven", "Tidewell", "Undockson", "Unfitted", "Wardeck",
	"Warpzero", "Webbington", "Wrongsystem", "Yellowbox", "Zerozero", "Zeropoint",
}
