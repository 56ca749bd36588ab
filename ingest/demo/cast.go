package demo

import "slices"

// Ids of the cast. Since 2016 the game gives new characters ids from 2,112,000,000 upwards, about a million a year; it will
// need until about 2045 to come near these. They are as large as ids of characters get: below 2^31, so that they are topics
// and fit wherever the game's own do, and far from the ids of NPCs, so that no tool takes the cast for NPCs.
const (
	firstPilot       = 2_147_400_000
	firstCorporation = 2_147_460_000
	firstAlliance    = 2_147_470_000
	firstWar         = 2_147_480_000
)

// trade is what a corporation lives on, which decides where its pilots fly, what, and how they die.
type trade uint8

const (
	bloc      trade = iota // holds sovereignty in null security, and fights for it in fleets
	nomad                  // roams null security in small gangs
	pirate                 // camps gates in low security
	holer                  // lives in a wormhole
	ganker                 // breaks the law of high security for profit
	militia                // fights in the war of two factions
	carebear               // mines, hauls and runs missions in high security
	mercenary              // declares war on carebears
	rookie                 // is in a corporation of NPCs
)

type alliance struct {
	name, ticker string
	// home are the systems that it holds, the capital first.
	home []uint32
	// line are the ships that its fleets are made of.
	line []uint32
}

type corporation struct {
	name, ticker string
	trade        trade
	alliance     int8 // index, or -1
	pilots       int
	faction      uint32 // that it fights for, or 0
	npc          uint32 // its real id when NPCs run it, or 0
}

// blocs is how many of alliances, the first ones, hold null security.
const blocs = 7

var alliances = [...]alliance{
	{"Coalition of the Mildly Willing", "MEH", []uint32{30004759, 30004735, 30004711}, []uint32{muninn, cerberus}},
	{"Undock In Five Minutes", "5MIN", []uint32{30001161, 30001192}, []uint32{ferox, cerberus}},
	{"The Bubble Wrap Accord", "POP", []uint32{30000848}, []uint32{machariel, muninn}},
	{"Federation of Toroidal Bakers", "TORUS", []uint32{30002904, 30001984}, []uint32{ishtar, hurricane}},
	{"Asset Safety Enjoyers", "SAFE", []uint32{30002157}, []uint32{cerberus, ferox}},
	{"Ten Percent Time Society", "SLOMO", []uint32{30000772, 30000799}, []uint32{ferox, muninn}},
	{"Landlords of Empty Space", "RENT", []uint32{30000240}, []uint32{caracal, ishtar}},
	{"Cloaked But Friendly", "AFK", []uint32{30001041}, []uint32{stabber, hecate}},
	{"Gentlemen of Low Standing", "-10.0", []uint32{30002537, 30002718, 30005196}, []uint32{hurricane, thorax}},
	{"Hole Lot Of Trouble", "J000", []uint32{31002238}, []uint32{loki, gila}},
}

var corporations = [...]corporation{
	{"Standing Fleet Sitting Down", "SITS", bloc, 0, 140, 0, 0},
	{"Department of Redundant Scouts", "DRS-D", bloc, 0, 120, 0, 0},
	{"Ministry of Acceptable Losses", "SRP", bloc, 0, 120, 0, 0},
	{"Mildly Willing Miners", "MINER", bloc, 0, 90, 0, 0},

	{"Bio Break Brigade", "BIO", bloc, 1, 120, 0, 0},
	{"Still Fitting Ships", "FIT", bloc, 1, 110, 0, 0},
	{"Who Is In Command Tonight", "WHO", bloc, 1, 120, 0, 0},
	{"Heroes of the Ignored Ping", "PING", bloc, 1, 100, 0, 0},

	{"Anchored And Confused", "ANCHR", bloc, 2, 120, 0, 0},
	{"Drag Bubble Tourist Board", "DRAG", bloc, 2, 110, 0, 0},
	{"Wrong Side Of The Gate", "WRONG", bloc, 2, 110, 0, 0},
	{"Scattered Like Marbles", "MRBL", bloc, 2, 90, 0, 0},

	{"Everyone Is Blue Today", "BLUE", bloc, 3, 110, 0, 0},
	{"Glazed And Confused", "GLAZE", bloc, 3, 110, 0, 0},
	{"Non-Aggression Pastries", "NAP", bloc, 3, 100, 0, 0},
	{"Proof And Rise Industries", "RISE", bloc, 3, 80, 0, 0},

	{"Twenty Days To Delivery", "20D", bloc, 4, 100, 0, 0},
	{"Please Contract It To Me", "PLS", bloc, 4, 100, 0, 0},
	{"Evacuation Rehearsal", "EVAC", bloc, 4, 90, 0, 0},
	{"Fire Sale Holdings", "FIRE", bloc, 4, 80, 0, 0},

	{"Slow Motion Heroics", "SLOW", bloc, 5, 110, 0, 0},
	{"My Module Is Still Cycling", "CYCLE", bloc, 5, 110, 0, 0},
	{"Socket Closed", "SOCK", bloc, 5, 90, 0, 0},
	{"Reinforced Node Hopefuls", "NODE", bloc, 5, 90, 0, 0},

	{"Overdue Rent Collection", "DUE", bloc, 6, 90, 0, 0},
	{"Ratting Through Dinner", "DINE", bloc, 6, 100, 0, 0},
	{"Local Is Clear Probably", "CLEAR", bloc, 6, 90, 0, 0},
	{"Carrier Insurance Test Group", "CITG", bloc, 6, 70, 0, 0},

	{"Nano And Regret", "NANO", nomad, 7, 80, 0, 0},
	{"Three Jumps Out", "3JMP", nomad, 7, 70, 0, 0},
	{"Kiting Club Of Curse", "KITE", nomad, 7, 70, 0, 0},
	{"Left My Mobile Depot There", "DEPOT", nomad, -1, 60, 0, 0},

	{"Tea And Larceny", "TEA", pirate, 8, 60, 0, 0},
	{"Gate Gun Tan Lines", "TAN", pirate, 8, 50, 0, 0},
	{"Honourable Toll Booth", "TOLL", pirate, 8, 50, 0, 0},
	{"The Ransom Was Not Honoured", "OOPS", pirate, -1, 50, 0, 0},

	{"Rolled Out By Accident", "ROLL", holer, 9, 80, 0, 0},
	{"Widows of the Probe Scanner", "SCAN", holer, 9, 70, 0, 0},
	{"Lost On The Way To Thera", "LOST", holer, -1, 70, 0, 0},
	{"Static Cling", "CLING", holer, -1, 70, 0, 0},
	{"Sleeper Retirement Home", "ZZZ", holer, -1, 60, 0, 0},

	{"Unlicensed Mining Inspectors", "UMI", ganker, -1, 80, 0, 0},
	{"Freight Lightening Services", "LIGHT", ganker, -1, 70, 0, 0},

	{"State Overtime Committee", "OVER", militia, -1, 80, 500001, 0},
	{"Rust Appreciation Tribe", "RUST", militia, -1, 80, 500002, 0},
	{"Penitent Laser Choir", "CHOIR", militia, -1, 80, 500003, 0},
	{"Croissants For The Federation", "CROI", militia, -1, 80, 500004, 0},

	{"Veldspar And Chill", "VELD", carebear, -1, 70, 0, 0},
	{"Lonely Boosters Support Group", "BOOST", carebear, -1, 50, 0, 0},
	{"Sensible Haulage Limited", "HAUL", carebear, -1, 50, 0, 0},
	{"Twelve Accounts One Human", "12-1", carebear, -1, 50, 0, 0},
	{"Level Four Mission Bureau", "LVL4", carebear, -1, 60, 0, 0},
	{"Planetary Clicking Union", "CLICK", carebear, -1, 50, 0, 0},

	{"Three Wars For The Price Of Two", "3-FOR", mercenary, -1, 60, 0, 0},

	{"State War Academy", "SWA", rookie, -1, 100, 0, 1000167},
	{"Federal Navy Academy", "FNA", rookie, -1, 100, 0, 1000168},
	{"Center for Advanced Studies", "CAS", rookie, -1, 100, 0, 1000169},
	{"Republic Military School", "RMS", rookie, -1, 100, 0, 1000170},
}

// npc is a shooter that nobody flies.
type npc struct {
	ship                 uint32
	faction, corporation uint32 // killmails give one of them
}

// NPCs, as indices of npcs.
const (
	concord = iota
	unstableDepths
	amarrGun
	caldariGun
	gallenteGun
	minmatarGun
	firstRat
)

var npcs = [...]npc{
	concord:        {concordCaptain, 0, 1000125},
	unstableDepths: {abyssalDepths, 500021, 0},
	amarrGun:       {amarrSentry, 500003, 0},
	caldariGun:     {caldariSentry, 500001, 0},
	gallenteGun:    {gallenteSentry, 500004, 0},
	minmatarGun:    {minmatarSentry, 500002, 0},
	firstRat:       {pithatisRevolter, guristas, 0},
	{gistatisLegatus, angels, 0},
	{corpatisBishop, bloodRaiders, 0},
	{centatisBehemoth, sansha, 0},
	{corelatisCaptain, serpentis, 0},
	{guristasInvader, guristas, 0},
	{guristasImputor, guristas, 0},
	{angelRogue, angels, 0},
	{serpentisInitiate, serpentis, 0},
}

// rats are the NPCs that one meets in a system, as an index of npcs: large ones in null security, else small ones if there are.
func rats(s *System) int {
	faction := uint32(guristas)
	switch s.Region {
	case "Curse", "Insmother", "Immensea", "Heimatar", "Metropolis":
		faction = angels
	case "Delve", "The Bleak Lands", "Genesis":
		faction = bloodRaiders
	case "Catch", "Domain":
		faction = sansha
	case "Sinq Laison", "Essence":
		faction = serpentis
	}
	found := firstRat
	for i := firstRat; i < len(npcs); i++ {
		if npcs[i].faction == faction {
			found = i
			if spaceOf(s) == null {
				break
			}
		}
	}
	return found
}

// sentry are the guns at the gates of a system in low security, as an index of npcs.
func sentry(s *System) int {
	switch s.Region {
	case "The Citadel":
		return caldariGun
	case "Heimatar":
		return minmatarGun
	case "Sinq Laison", "Essence":
		return gallenteGun
	}
	return amarrGun
}

// Factions of pirates.
const guristas, angels, bloodRaiders, sansha, serpentis = 500010, 500011, 500012, 500019, 500020

var factions = map[uint32]string{
	500001: "Caldari State", 500002: "Minmatar Republic", 500003: "Amarr Empire", 500004: "Gallente Federation",
	guristas: "Guristas Pirates", angels: "Angel Cartel", bloodRaiders: "Blood Raider Covenant", sansha: "Sansha's Nation",
	serpentis: "Serpentis", 500021: "Unknown",
}

// pilot is a member of the cast. Who is who is the same in every demo, whatever the seed.
type pilot struct {
	corp     int16
	security int8  // status, in tenths
	implants uint8 // how many of implantSet's
	set      uint8 // index of implantSets
}

// implantSets are what is in a head, in the order in which it is bought.
var implantSets = [...][]uint32{
	{memoryStd, neuralStd, ocularStd, cyberneticStd, socialStd},
	{snakeAlpha, snakeBeta, snakeGamma, snakeDelta, snakeEpsilon, snakeOmega},
}

// cast is everyone.
type cast struct {
	pilots []pilot
	// first[c] is the first pilot of corporation c; the last entry is the number of pilots.
	first []int16
}

func newCast() *cast {
	c := &cast{}
	for i := range corporations {
		c.first = append(c.first, int16(len(c.pilots)))
		for range corporations[i].pilots {
			h := spread(uint32(len(c.pilots)))
			p := pilot{corp: int16(i)}
			switch extra := int8(h % 40); corporations[i].trade {
			case pirate, ganker:
				p.security = -100 + extra // -10.0 to -6.1
			case nomad, holer:
				p.security = -20 + extra
			case rookie:
				p.security = extra / 10
			default:
				p.security = 10 + extra
			}
			switch luxury := h >> 8 % 100; {
			case luxury < 4 && corporations[i].trade != rookie:
				p.set, p.implants = 1, uint8(1+h>>16%6)
			case luxury < 40:
				p.implants = uint8(1 + h>>16%5)
			}
			c.pilots = append(c.pilots, p)
		}
	}
	c.first = append(c.first, int16(len(c.pilots)))
	return c
}

// spread is a hash of x that makes neighbours differ.
func spread(x uint32) uint32 {
	x = (x ^ x>>16) * 0x7feb352d
	x = (x ^ x>>15) * 0x846ca68b
	return x ^ x>>16
}

func corporationID(c int) uint32 {
	if id := corporations[c].npc; id != 0 {
		return id
	}
	return firstCorporation + uint32(c)
}

// corporationsOf are those with a trade, by index.
func corporationsOf(trades ...trade) (list []int) {
	for c := range corporations {
		if slices.Contains(trades, corporations[c].trade) {
			list = append(list, c)
		}
	}
	return list
}

// corporationsIn are those of an alliance, by index.
func corporationsIn(alliance int) (list []int) {
	for c := range corporations {
		if int(corporations[c].alliance) == alliance {
			list = append(list, c)
		}
	}
	return list
}
