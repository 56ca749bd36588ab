package names

// possible tells whether there can be a name of interest to the id: CCP gives ids out by range. What cannot be is not asked: one
// such id would have ESI refuse all that it is asked with.
func possible(id uint32) bool {
	switch {
	case id < 1:
		return false
	case id < 500_000: // types
		return true
	case id < 600_000: // factions
		return true
	case id < 1_000_000:
		return false
	case id < 2_000_000: // corporations of NPCs
		return true
	case id >= 3_000_000 && id < 4_000_000: // characters of NPCs
		return true
	case id < 10_000_000:
		return false
	case id < 40_000_000: // regions, constellations and solar systems, ten million each
		return true
	case id < 90_000_000: // planets, moons, stargates, stations and what is in them
		return false
	}
	// Characters from 90 million, corporations from 98, alliances from 99, all of them mixed from 100 million to 2,100 million,
	// and above that characters.
	return id <= 1<<31-1
}
