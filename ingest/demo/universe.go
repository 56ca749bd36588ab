package demo

import "killfeed"

// Universe is what there is to know of the places and things of the demo, for a server that has no static data of the game. It has
// what Systems and Types have, and of NPCs the factions, CONCORD and the schools. Modules and cargo are in no group.
func Universe() (*killfeed.Universe, error) {
	var d killfeed.UniverseData
	seen := map[uint32]bool{0: true} // constellations, regions and groups; nothing is in group 0
	first := func(id uint32) bool {
		was := seen[id]
		seen[id] = true
		return !was
	}
	for i := range systems {
		s := &systems[i]
		d.Systems = append(d.Systems, killfeed.SolarSystem{
			ID: s.ID, Name: s.Name, Constellation: s.ConstellationID, Region: s.RegionID, Security: s.Security,
		})
		if first(s.ConstellationID) {
			d.Constellations = append(d.Constellations, killfeed.Constellation{ID: s.ConstellationID, Region: s.RegionID, Name: s.Constellation})
		}
		if first(s.RegionID) {
			d.Regions = append(d.Regions, killfeed.Region{ID: s.RegionID, Name: s.Region})
		}
	}
	for i := range types {
		t := &types[i]
		d.Types = append(d.Types, killfeed.Type{ID: t.ID, Group: t.GroupID, Name: t.Name})
		if first(t.GroupID) {
			d.Groups = append(d.Groups, killfeed.Group{ID: t.GroupID, Category: t.CategoryID, Name: t.Group})
		}
	}
	for id, name := range factions {
		d.Factions = append(d.Factions, killfeed.Faction{ID: id, Name: name})
	}
	d.Corporations = append(d.Corporations, killfeed.Corporation{ID: npcs[concord].corporation, Name: concordName})
	for i := range corporations {
		if c := &corporations[i]; c.npc != 0 {
			d.Corporations = append(d.Corporations, killfeed.Corporation{ID: c.npc, Name: c.name, Ticker: c.ticker})
		}
	}
	return killfeed.NewUniverse(d)
}
