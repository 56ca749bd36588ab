package demo

import (
	"math"
	"slices"
)

// stack is a number of things of one type.
type stack struct {
	id uint32
	n  int32
}

// fit is a way to fly a type of ship, or what is in a structure. Modules are named by type, in the order of their slots.
type fit struct {
	hull uint32
	// size is the class of its rigs, 1 small to 4 capital, as zKillboard's points count it.
	size int
	// hp is about what it takes to destroy it.
	hp int32
	// guns times weapon are in the first high slots, each loaded with ammo.
	weapon uint32
	guns   int
	ammo   uint32
	// kills is what the killmails of its victims name as the weapon: a turret itself, but a launcher's missile, and drones.
	kills uint32

	high, mid, low, rig, sub, service []uint32
	drones, fighters, cargo, ore      []stack
}

// The places in which a killmail finds items. Racks of slots have eight flags each, from the one named here on.
const (
	flagCargo    = 5
	flagLow      = 11
	flagMid      = 19
	flagHigh     = 27
	flagDrones   = 87
	flagImplant  = 89
	flagRig      = 92
	flagSub      = 125
	flagOre      = 134
	flagFighters = 158
	flagService  = 164
	flagFuel     = 172
	flagCore     = 180
)

func times(n int, id uint32) []uint32 { return slices.Repeat([]uint32{id}, n) }

// fits are what the cast flies, and what it puts into space.
var fits = [...]fit{
	{hull: capsule, size: 1, hp: 458},
	{hull: shuttle, size: 1, hp: 470},
	{hull: ibis, size: 1, hp: 600, weapon: lightNeutron, guns: 1, ammo: antimatterS, kills: lightNeutron},
	{hull: velator, size: 1, hp: 650, drones: []stack{{hobgoblin, 2}}, kills: hobgoblin},
	{hull: reaper, size: 1, hp: 580, mid: []uint32{mwd5}},

	// Frigates
	{hull: heron, size: 1, hp: 920, high: []uint32{probeLauncher, protoCloak},
		mid: []uint32{mwd5, dataAnalyzer, relicAnalyzer},
		low: times(2, nanofiber), rig: []uint32{cargoRigS}, cargo: []stack{{coreProbe, 16}, {metalScraps, 60}}},
	{hull: imicus, size: 1, hp: 980, high: []uint32{probeLauncher}, mid: []uint32{mwd5, dataAnalyzer, relicAnalyzer},
		low: []uint32{inertial, nanofiber}, cargo: []stack{{coreProbe, 8}, {metalScraps, 40}}},
	{hull: venture, size: 1, hp: 710, high: times(2, miner2), mid: []uint32{ab1, extenderM},
		low:    []uint32{miningUpgrade},
		drones: []stack{{hobgoblin, 2}}, ore: []stack{{veldspar, 38000}}},
	{hull: slasher, size: 1, hp: 2000, weapon: autocannon125, guns: 3, ammo: empS, kills: autocannon125,
		mid: []uint32{mwd5, scrambler, extenderM}, low: []uint32{gyro, damageControl}, rig: times(3, coreShieldS),
		cargo: []stack{{nanite, 12}}},
	{hull: rifter, size: 1, hp: 2500, weapon: autocannon200, guns: 3, ammo: empS, kills: autocannon200,
		mid: []uint32{mwd5, scrambler, web}, low: []uint32{gyro, repairerS, damageControl}, rig: times(2, trimarkS),
		cargo: []stack{{empS, 800}, {nanite, 15}}},
	{hull: tristan, size: 1, hp: 2700, weapon: rail150, guns: 2, ammo: antimatterS, kills: hobgoblin,
		mid: []uint32{mwd5, scrambler, extenderM}, low: []uint32{droneAmp, nanofiber, damageControl},
		rig:    times(3, coreShieldS),
		drones: []stack{{hobgoblin, 5}, {warrior, 3}}, cargo: []stack{{antimatterS, 600}, {nanite, 20}}},
	{hull: punisher, size: 1, hp: 4100, weapon: autocannon200, guns: 4, ammo: empS, kills: autocannon200,
		mid: []uint32{ab1, web},
		low: []uint32{repairerS, damageControl, membrane, heatSink}, rig: times(3, trimarkS),
		cargo: []stack{{empS, 1000}}},
	{hull: kestrel, size: 1, hp: 3000, weapon: rocketLauncher, guns: 4, ammo: rocket, kills: rocket,
		mid: []uint32{ab1, scrambler, web, extenderM}, low: []uint32{ballistic, damageControl},
		rig:   times(3, coreShieldS),
		cargo: []stack{{rocket, 1200}, {nanite, 25}}},
	{hull: merlin, size: 1, hp: 2300, weapon: lightNeutron, guns: 3, ammo: antimatterS, kills: lightNeutron,
		mid: []uint32{mwd5, scrambler, web, extenderM}, low: []uint32{magstab, damageControl},
		rig:   times(3, coreShieldS),
		cargo: []stack{{antimatterS, 900}}},
	{hull: astero, size: 1, hp: 2100, high: []uint32{covertCloak, probeLauncher},
		mid: []uint32{mwd5, scrambler, relicAnalyzer, dataAnalyzer},
		low: []uint32{repairerS, damageControl, droneAmp, membrane}, rig: times(2, trimarkS),
		drones: []stack{{hobgoblin, 5}, {warrior, 5}}, kills: hobgoblin,
		cargo: []stack{{coreProbe, 16}, {nanite, 30}}},
	{hull: stiletto, size: 1, hp: 2700, weapon: autocannon125, guns: 2, ammo: empS, kills: disruptor,
		mid: []uint32{mwd5, disruptor, scrambler, extenderM}, low: []uint32{nanofiber, damageControl},
		rig: times(2, coreShieldS)},
	{hull: purifier, size: 1, hp: 2500, weapon: torpedoLauncher, guns: 3, ammo: torpedo, kills: torpedo,
		high: []uint32{covertCloak},
		mid:  []uint32{mwd5, sensorBooster}, low: []uint32{ballistic, ballistic, nanofiber},
		rig:   times(2, coreShieldS),
		cargo: []stack{{torpedo, 120}}},

	// Destroyers
	{hull: catalyst, size: 1, hp: 3000, weapon: lightNeutron, guns: 8, ammo: antimatterS, kills: lightNeutron,
		mid: []uint32{mwd5, scrambler}, low: times(3, magstab), rig: []uint32{trimarkS}},
	{hull: thrasher, size: 1, hp: 3050, weapon: autocannon200, guns: 7, ammo: empS, kills: autocannon200,
		mid: []uint32{mwd5, scrambler, extenderM}, low: []uint32{gyro, damageControl}, rig: times(3, coreShieldS),
		cargo: []stack{{empS, 1400}}},
	{hull: cormorant, size: 1, hp: 2900, weapon: rail150, guns: 7, ammo: antimatterS, kills: rail150,
		mid: []uint32{mwd5, sensorBooster, extenderM, disruptor}, low: []uint32{magstab, magstab},
		rig: times(3, coreShieldS), cargo: []stack{{antimatterS, 1600}}},
	{hull: hecate, size: 1, hp: 4150, weapon: lightNeutron, guns: 5, ammo: antimatterS, kills: lightNeutron,
		mid: []uint32{mwd5, scrambler, web}, low: []uint32{repairerS, damageControl, magstab, membrane},
		rig:   times(3, trimarkS),
		cargo: []stack{{antimatterS, 2000}, {nanite, 60}}},
	{hull: sabre, size: 1, hp: 5300, weapon: autocannon125, guns: 7, ammo: empS, kills: autocannon125,
		high: []uint32{sphereLauncher},
		mid:  []uint32{mwd5, scrambler, extenderM, extenderM}, low: []uint32{damageControl, nanofiber},
		rig:   times(2, coreShieldS),
		cargo: []stack{{disruptProbe, 40}, {empS, 1200}, {nanite, 20}}},

	// Cruisers
	{hull: caracal, size: 2, hp: 11300, weapon: rapidLauncher, guns: 5, ammo: lightMissile, kills: lightMissile,
		mid: []uint32{mwd50, extenderL, extenderL, hardener, disruptor},
		low: []uint32{ballistic, ballistic, damageControl, nanofiber},
		rig: times(3, coreShieldM), drones: []stack{{warrior, 2}},
		cargo: []stack{{lightMissile, 1400}, {nanite, 40}}},
	{hull: stabber, size: 2, hp: 12200, weapon: vulcan220, guns: 4, ammo: empM, kills: vulcan220,
		high: []uint32{heavyLauncher},
		mid:  []uint32{mwd50, extenderL, scrambler, web}, low: []uint32{gyro, gyro, nanofiber, damageControl},
		rig:    times(3, coreShieldM),
		drones: []stack{{warrior, 5}}, cargo: []stack{{empM, 1100}}},
	{hull: vexor, size: 2, hp: 12300, weapon: rail250, guns: 4, ammo: antimatterM, kills: hammerhead,
		mid: []uint32{ab10, capRecharger, capRecharger, sensorBooster},
		low: []uint32{droneAmp, droneAmp, repairerM, damageControl, membrane},
		rig: times(3, trimarkM), drones: []stack{{hammerhead, 5}, {hobgoblin, 5}},
		cargo: []stack{{antimatterM, 900}}},
	{hull: thorax, size: 2, hp: 9500, weapon: heavyNeutron, guns: 5, ammo: antimatterM, kills: heavyNeutron,
		mid: []uint32{mwd50, scrambler, web, extenderL},
		low: []uint32{magstab, magstab, damageControl, membrane, nanofiber},
		rig: times(3, trimarkM), drones: []stack{{hammerhead, 5}}, cargo: []stack{{antimatterM, 1300}, {nanite, 30}}},
	{hull: gila, size: 2, hp: 28000, weapon: rapidLauncher, guns: 5, ammo: lightMissile, kills: hammerhead,
		high: []uint32{droneLink},
		mid:  []uint32{ab10, extenderL, extenderL, hardener, hardener, capRecharger},
		low:  []uint32{droneAmp, droneAmp, droneAmp},
		rig:  times(3, coreShieldM), drones: []stack{{hammerhead, 2}, {ogre, 1}, {warrior, 2}},
		cargo: []stack{{lightMissile, 2200}, {nanite, 100}}},
	{hull: cerberus, size: 2, hp: 17000, weapon: heavyLauncher, guns: 6, ammo: heavyMissile, kills: heavyMissile,
		mid: []uint32{mwd50, extenderL, extenderL, hardener, sensorBooster},
		low: []uint32{ballistic, ballistic, ballistic, damageControl},
		rig: times(2, coreShieldM), drones: []stack{{warrior, 3}},
		cargo: []stack{{heavyMissile, 2600}, {nanite, 120}}},
	{hull: ishtar, size: 2, hp: 26000, weapon: rail250, guns: 3, ammo: antimatterM, kills: ogre,
		high: []uint32{droneLink},
		mid:  []uint32{ab10, extenderL, extenderL, hardener, hardener},
		low:  []uint32{droneAmp, droneAmp, droneAmp, capRelay, capRelay},
		rig:  times(2, coreShieldM), drones: []stack{{ogre, 5}, {hammerhead, 5}, {hobgoblin, 5}},
		cargo: []stack{{antimatterM, 800}}},
	{hull: muninn, size: 2, hp: 20400, weapon: howitzer720, guns: 5, ammo: empM, kills: howitzer720,
		mid: []uint32{mwd50, extenderL, hardener, sensorBooster},
		low: []uint32{gyro, gyro, gyro, damageControl, nanofiber},
		rig: times(2, coreShieldM), drones: []stack{{warrior, 5}}, cargo: []stack{{empM, 1800}, {nanite, 150}}},
	{hull: scimitar, size: 2, hp: 19500, high: times(4, shieldTransfer), kills: warrior,
		mid: []uint32{mwd50, extenderL, hardener, hardener, sensorBooster},
		low: []uint32{damageControl, nanofiber, capRelay, capRelay},
		rig: times(2, coreShieldM), drones: []stack{{warrior, 5}}, cargo: []stack{{nanite, 180}}},
	{hull: arazu, size: 2, hp: 15800, weapon: heavyNeutron, guns: 2, ammo: antimatterM, kills: disruptor,
		high: []uint32{covertCloak, cyno},
		mid:  []uint32{mwd50, disruptor, disruptor, scrambler, extenderL, sensorBooster},
		low:  []uint32{damageControl, nanofiber, inertial, membrane},
		rig:  times(2, coreShieldM), cargo: []stack{{liquidOzone, 450}, {nanite, 60}}},
	{hull: loki, size: 2, hp: 21500, weapon: assaultLauncher, guns: 5, ammo: rage, kills: rage,
		high: []uint32{covertCloak},
		mid:  []uint32{mwd50, scrambler, web, extenderL, extenderL, hardener},
		low:  []uint32{ballistic, ballistic, damageControl},
		rig:  times(3, coreShieldM), sub: []uint32{lokiCore, lokiDefensive, lokiOffensive, lokiPropulsion},
		cargo: []stack{{rage, 3000}, {nanite, 200}}},

	// Battlecruisers and battleships
	{hull: hurricane, size: 2, hp: 21400, weapon: autocannon425, guns: 6, ammo: empM, kills: autocannon425,
		mid: []uint32{mwd50, extenderL, extenderL, scrambler},
		low: []uint32{gyro, gyro, damageControl, nanofiber, capRelay, membrane},
		rig: times(3, coreShieldM), drones: []stack{{hobgoblin, 5}}, cargo: []stack{{empM, 2400}, {nanite, 50}}},
	{hull: ferox, size: 2, hp: 28400, weapon: rail250, guns: 6, ammo: antimatterM, kills: rail250,
		mid: []uint32{mwd50, extenderL, extenderL, hardener, sensorBooster},
		low: []uint32{magstab, magstab, damageControl, nanofiber},
		rig: times(3, coreShieldM), cargo: []stack{{antimatterM, 3600}, {nanite, 80}}},
	{hull: drake, size: 2, hp: 27300, weapon: heavyLauncher, guns: 6, ammo: heavyMissile, kills: heavyMissile,
		mid: []uint32{ab10, extenderL, extenderL, hardener, hardener, capRecharger},
		low: []uint32{ballistic, ballistic, damageControl, capRelay},
		rig: times(3, coreShieldM), drones: []stack{{hobgoblin, 5}}, cargo: []stack{{heavyMissile, 3200}}},
	{hull: gnosis, size: 2, hp: 27000, weapon: heavyLauncher, guns: 5, ammo: heavyMissile, kills: heavyMissile,
		high: []uint32{probeLauncher},
		mid:  []uint32{mwd50, extenderL, extenderL, hardener, scrambler, web},
		low:  []uint32{droneAmp, droneAmp, ballistic, damageControl, nanofiber, nanofiber},
		rig:  times(3, coreShieldM), drones: []stack{{hammerhead, 5}},
		cargo: []stack{{heavyMissile, 1500}, {coreProbe, 8}}},
	{hull: tornado, size: 2, hp: 6900, weapon: howitzer1400, guns: 8, ammo: empL, kills: howitzer1400,
		mid: []uint32{mwd50, sensorBooster, sensorBooster}, low: []uint32{gyro, gyro, gyro, nanofiber, damageControl},
		rig:   times(3, trimarkM),
		cargo: []stack{{empL, 400}}},
	{hull: raven, size: 3, hp: 41400, weapon: cruiseLauncher, guns: 6, ammo: cruise, kills: cruise,
		high: []uint32{droneLink},
		mid:  []uint32{mwd500, extenderL, extenderL, hardener, hardener, capRecharger, sensorBooster},
		low:  []uint32{ballistic, ballistic, ballistic, damageControl, capRelay}, rig: times(3, coreShieldL),
		drones: []stack{{hobgoblin, 5}, {hammerhead, 5}}, cargo: []stack{{cruise, 4000}, {metalScraps, 30}}},
	{hull: praxis, size: 3, hp: 51100, weapon: cruiseLauncher, guns: 5, ammo: cruise, kills: ogre,
		mid:    []uint32{mwd500, extenderL, extenderL, hardener, hardener, capRecharger},
		low:    []uint32{droneAmp, droneAmp, droneAmp, ballistic, damageControl, capRelay, repairerL},
		rig:    times(3, coreShieldL),
		drones: []stack{{ogre, 5}, {hobgoblin, 5}}, cargo: []stack{{cruise, 2500}}},
	{hull: machariel, size: 3, hp: 55000, weapon: repeating800, guns: 7, ammo: empL, kills: repeating800,
		mid: []uint32{mwd500, scrambler, web, sensorBooster, hardener},
		low: []uint32{gyro, gyro, plate1600, plate1600, damageControl, membrane, membrane}, rig: times(3, trimarkL),
		drones: []stack{{warrior, 5}, {ogre, 3}}, cargo: []stack{{empL, 3000}, {nanite, 300}}},

	// Industry
	{hull: retriever, size: 2, hp: 7200, high: times(2, stripMiner), mid: []uint32{extenderM},
		low: times(3, miningUpgrade), rig: times(2, coreShieldM),
		drones: []stack{{hobgoblin, 5}}, ore: []stack{{veldspar, 260000}}},
	{hull: badger, size: 2, hp: 3900, mid: []uint32{mwd50, extenderL, hardener}, low: times(4, cargohold),
		rig:   times(3, cargoRigM),
		cargo: []stack{{quafe, 900}, {tritanium, 180000}, {metalScraps, 200}}},
	{hull: iteron, size: 2, hp: 4800, high: []uint32{protoCloak}, mid: []uint32{mwd50, extenderM},
		low: append(times(4, cargohold), bulkhead),
		rig: times(3, bulkheadM), cargo: []stack{{pyerite, 320000}, {nanite, 400}, {heavyMissile, 30000}}},
	{hull: charon, size: 4, hp: 232000, low: times(3, bulkhead),
		cargo: []stack{{tritanium, 40_000_000}, {megacyte, 240_000}, {plasticWrap, 4}}},
	{hull: obelisk, size: 4, hp: 251000, low: times(3, cargohold),
		cargo: []stack{{pyerite, 22_000_000}, {oxygenBlock, 90_000}, {plasticWrap, 6}}},

	// Capital ships
	{hull: rorqual, size: 4, hp: 2_900_000, high: []uint32{droneLink, cyno},
		mid: append(times(4, extenderL), hardener, hardener),
		low: []uint32{damageControl, damageControl, capRelay}, drones: []stack{{ogre, 10}, {hobgoblin, 20}},
		kills: ogre,
		ore:   []stack{{veldspar, 3_000_000}}, cargo: []stack{{liquidOzone, 4000}, {oxygenBlock, 2000}}},
	{hull: thanatos, size: 4, hp: 1_450_000, high: []uint32{droneLink, cyno},
		mid: []uint32{sensorBooster, sensorBooster, capRecharger, mwd500},
		low: []uint32{damageControl, membrane, membrane, plate1600, repairerL}, kills: firbolg,
		fighters: []stack{{firbolg, 27}, {templar, 9}},
		cargo:    []stack{{liquidOzone, 600}, {strontium, 800}, {nanite, 500}}},
	{hull: naglfar, size: 4, hp: 1_250_000, high: []uint32{siege, cyno},
		mid: []uint32{sensorBooster, capRecharger, hardener, hardener},
		low: []uint32{gyro, gyro, damageControl, membrane}, kills: naglfar,
		cargo: []stack{{strontium, 2500}, {empL, 900}, {nanite, 600}}},
	{hull: revelation, size: 4, hp: 1_620_000, high: []uint32{siege},
		mid: []uint32{sensorBooster, capRecharger, capRecharger},
		low: []uint32{heatSink, heatSink, damageControl, membrane, membrane, plate1600}, kills: revelation,
		cargo: []stack{{strontium, 2500}, {nanite, 800}}},

	// Structures and what is left in space
	{hull: tractorUnit, hp: 48000,
		cargo: []stack{{metalScraps, 240}, {heavyMissile, 900}, {hobgoblin, 3}, {nanite, 40}}},
	{hull: mobileDepot, hp: 12500, cargo: []stack{{coreProbe, 8}, {nanofiber, 2}, {nanite, 60}}},
	{hull: smallBubble, hp: 11500},
	{hull: customsOffice, hp: 4_400_000},
	{hull: raitaru, hp: 7_100_000, service: []uint32{manufacturing}},
	{hull: athanor, hp: 9_800_000, service: []uint32{reprocessing}},
	{hull: astrahus, hp: 7_100_000, service: []uint32{cloning, reprocessing}},
}

// item is one line of what is in a ship: up to n of a type in one place.
type item struct {
	id    uint32
	price int64 // of one, in hundredths of an ISK, so that sums are exact
	n     int32
	flag  uint8
	// breaks: always destroyed, never dropped, as rigs and implants.
	breaks bool
	// fitted: counts for fittedValue.
	fitted bool
	// loose: there may be less of it, or none at all, and a part may drop while the rest is destroyed.
	loose bool
}

// ship is a fit with all that killmails tell of it looked up.
type ship struct {
	*fit
	group, category uint32
	price           int64 // of the hull, in hundredths of an ISK
	capital         bool
	danger          int // as zKillboard's points count modules that fight
	items           []item
}

// fleet is every fit, made ready. prices are in hundredths of an ISK.
func fleet() (ships []ship, byHull map[uint32]uint8) {
	byHull = make(map[uint32]uint8, len(fits))
	for i := range fits {
		f := &fits[i]
		t := typeOf(f.hull)
		s := ship{fit: f, group: t.GroupID, category: t.CategoryID, price: price(f.hull)}
		switch t.GroupID {
		case 485, 547, 883: // dreadnoughts, carriers, the Rorqual
			s.capital = true
		}
		if f.kills != 0 && t.CategoryID == 6 {
			s.danger = 2 * (f.guns + len(f.mid))
		}
		add := func(flag uint8, id uint32, n int32, is item) {
			is.id, is.price, is.n, is.flag = id, price(id), n, flag
			s.items = append(s.items, is)
		}
		row := func(flag uint8, ids []uint32, is item) {
			for slot, id := range ids {
				add(flag+uint8(slot), id, 1, is)
			}
		}
		for slot := range f.guns {
			add(flagHigh+uint8(slot), f.weapon, 1, item{fitted: true})
			if f.ammo != 0 {
				add(flagHigh+uint8(slot), f.ammo, 40, item{loose: true})
			}
		}
		row(flagHigh+uint8(f.guns), f.high, item{fitted: true})
		row(flagMid, f.mid, item{fitted: true})
		row(flagLow, f.low, item{fitted: true})
		row(flagRig, f.rig, item{fitted: true, breaks: true})
		row(flagSub, f.sub, item{fitted: true})
		row(flagService, f.service, item{fitted: true, breaks: true})
		switch f.hull {
		case astrahus:
			add(flagCore, astrahusCore, 1, item{})
		case raitaru:
			add(flagCore, raitaruCore, 1, item{})
		}
		if t.CategoryID == 65 {
			add(flagFuel, oxygenBlock, 9000, item{loose: true})
		}
		stacks := func(flag uint8, list []stack) {
			for _, st := range list {
				add(flag, st.id, st.n, item{loose: true})
			}
		}
		stacks(flagDrones, f.drones)
		stacks(flagFighters, f.fighters)
		stacks(flagOre, f.ore)
		stacks(flagCargo, f.cargo)
		byHull[f.hull] = uint8(len(ships))
		ships = append(ships, s)
	}
	return ships, byHull
}

// typeOf is the type with an id that the fixture has.
func typeOf(id uint32) *Type {
	i, ok := slices.BinarySearchFunc(types[:], id, func(t Type, id uint32) int { return int(t.ID) - int(id) })
	if !ok {
		return &Type{ID: id}
	}
	return &types[i]
}

// price is a type's price in hundredths of an ISK. The fixture's round figures get a tail of their own, since prices come
// from a market.
func price(id uint32) int64 {
	p := typeOf(id).Price
	if id == capsule {
		return 10_000_00 // zKillboard gives every capsule this price
	}
	h := id * 2654435761 // Knuth's multiplicative hash: any spread will do
	return int64(math.Round(p * (97 + float64(h>>16%600)/100)))
}
