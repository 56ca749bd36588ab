package demo

// System is a solar system as the game has it.
type System struct {
	ID              uint32
	Name            string
	ConstellationID uint32
	Constellation   string
	RegionID        uint32
	Region          string
	// Security is rounded to two decimals, or four where two would be shown as another one, -1 to 1. From 0.45 on it is high security.
	Security float64
}

// Type is something that is destroyed, dropped or shot with.
type Type struct {
	ID   uint32
	Name string
	// GroupID and what follows it to Category are given for what can be lost, and 0 and empty for modules, cargo and NPCs.
	GroupID    uint32
	Group      string
	CategoryID uint32
	Category   string
	// Price is in ISK, and no more than the right order of magnitude. NPCs have none.
	Price float64
}

// Systems are the solar systems in which the demo plays: the well-known places of every kind of space. They are real, and
// typed by hand. The result is the caller's.
func Systems() []System { return append([]System(nil), systems[:]...) }

// Types are all types that occur in the demo's killmails. They are real, and typed by hand. The result is the caller's.
func Types() []Type { return append([]Type(nil), types[:]...) }

// In ascending order of id.
var systems = [...]System{
	{30000142, "Jita", 20000020, "Kimotoro", 10000002, "The Forge", 0.9459},
	{30000144, "Perimeter", 20000020, "Kimotoro", 10000002, "The Forge", 0.95},
	{30000157, "Otela", 20000787, "Krai Perun", 10000070, "Pochven", -1},
	{30000240, "4-HWWF", 20000034, "I89-EP", 10000003, "Vale of the Silent", -0.47},
	{30000772, "C-J6MT", 20000113, "QA-P7J", 10000009, "Insmother", -0.29},
	{30000799, "0-VG7A", 20000117, "0-YMZM", 10000009, "Insmother", -0.43},
	{30000848, "M-OEE8", 20000124, "1P-VL2", 10000010, "Tribute", -0.22},
	{30001041, "G-0Q86", 20000152, "Hale", 10000012, "Curse", -0.02},
	{30001161, "HED-GP", 20000169, "UX3-N2", 10000014, "Catch", -0.1463},
	{30001192, "GJ0-OJ", 20000174, "XR9-LP", 10000014, "Catch", -0.0491},
	{30001389, "Isanamo", 20000203, "Makiriemi", 10000016, "Lonetrek", 0.64},
	{30001984, "EC-P8R", 20000292, "YS-GOP", 10000023, "Pure Blind", -0.4466},
	{30002053, "Hek", 20000302, "Barvigrard", 10000042, "Metropolis", 0.8},
	{30002157, "B-R5RB", 20000317, "Y46-EN", 10000025, "Immensea", -0.71},
	{30002187, "Amarr", 20000322, "Throne Worlds", 10000043, "Domain", 1},
	{30002537, "Amamake", 20000372, "Hed", 10000030, "Heimatar", 0.44},
	{30002659, "Dodixie", 20000389, "Coriault", 10000032, "Sinq Laison", 0.87},
	{30002718, "Rancer", 20000398, "Aeman", 10000032, "Sinq Laison", 0.36},
	{30002765, "Sivala", 20000405, "Caldari Border Zone", 10000033, "The Citadel", 0.55},
	{30002768, "Uedama", 20000406, "Kantanen", 10000033, "The Citadel", 0.51},
	{30002809, "Sujarento", 20000412, "Isoma", 10000033, "The Citadel", 0.31},
	{30002813, "Tama", 20000412, "Isoma", 10000033, "The Citadel", 0.28},
	{30002904, "VFK-IV", 20000426, "VW7-YN", 10000035, "Deklein", -0.8492},
	{30003067, "Huola", 20000448, "Sasen", 10000038, "The Bleak Lands", 0.37},
	{30003504, "Niarja", 20000788, "Krai Svarog", 10000070, "Pochven", -1},
	{30004711, "PR-8CA", 20000688, "XPJ1-6", 10000060, "Delve", -0.03},
	{30004735, "T5ZI-S", 20000692, "SPNZ-Z", 10000060, "Delve", -0.14},
	{30004759, "1DQ1-A", 20000696, "O-EIMK", 10000060, "Delve", -0.39},
	{30005000, "Old Man Star", 20000731, "Vieres", 10000064, "Essence", 0.34},
	{30005196, "Ahbazon", 20000760, "Nazdirer", 10000067, "Genesis", 0.42},
	{31000005, "Thera", 21000324, "G-C00324", 11000031, "G-R00031", -0.99},
	{31000007, "J105443", 21000311, "A-C00311", 11000001, "A-R00001", -0.99},
	{31001159, "J164104", 21000119, "C-C00119", 11000012, "C-R00012", -0.99},
	{31002238, "J115405", 21000280, "E-C00280", 11000028, "E-R00028", -0.99},
	{32000001, "AD001", 22000001, "ADC01", 12000001, "ADR01", -0.99},
}

// Ids of types, by what they are.
const (
	// Ships
	slasher, rifter, reaper, tristan, punisher, ibis          = 585, 587, 588, 593, 597, 601
	kestrel, merlin, heron, velator, imicus, caracal          = 602, 603, 605, 606, 607, 621
	stabber, vexor, thorax, raven, badger, iteron             = 622, 626, 627, 638, 648, 657
	capsule, shuttle, gnosis, tornado, stiletto, arazu        = 670, 672, 3756, 4310, 11198, 11969
	scimitar, cerberus, ishtar, muninn, purifier, ferox       = 11978, 11993, 12005, 12015, 12038, 16227
	cormorant, catalyst, thrasher, retriever, gila, machariel = 16238, 16240, 16242, 17478, 17715, 17738
	revelation, naglfar, charon, obelisk, sabre, thanatos     = 19720, 19722, 20185, 20187, 22456, 23911
	drake, hurricane, rorqual, loki, venture, astero          = 24698, 24702, 28352, 29990, 32880, 33468
	hecate, praxis                                            = 35683, 47466

	// What does not fly
	customsOffice, smallBubble, mobileDepot = 2233, 12198, 33474
	tractorUnit, raitaru, astrahus          = 33475, 35825, 35832
	athanor                                 = 35835

	// High slots
	miner2, rapidLauncher, lightLauncher             = 482, 1877, 2404
	heavyLauncher, torpedoLauncher, autocannon125    = 2410, 2420, 2873
	autocannon200, vulcan220, autocannon425          = 2889, 2897, 2913
	repeating800, howitzer1400, howitzer720          = 2929, 2961, 2969
	rail150, rail250, heavyNeutron                   = 3074, 3082, 3146
	lightNeutron, shieldTransfer, rocketLauncher     = 3178, 3608, 10631
	protoCloak, covertCloak, stripMiner              = 11370, 11578, 17482
	probeLauncher, cruiseLauncher, siege             = 17938, 19739, 20280
	cyno, sphereLauncher, droneLink, assaultLauncher = 21096, 22782, 23527, 25715

	// Medium slots
	extenderS, ab1, mwd5, scrambler, web, sensorBooster           = 380, 438, 440, 448, 527, 1952
	capRecharger, hardener, disruptor, extenderM, extenderL, ab10 = 2032, 2281, 3244, 3831, 3841, 12058
	mwd50, mwd500, dataAnalyzer, relicAnalyzer                    = 12076, 12084, 22175, 22177

	// Low slots
	gyro, repairerS, cargohold, bulkhead, inertial, capRelay           = 519, 1183, 1319, 1335, 1405, 1447
	damageControl, heatSink, nanofiber, repairerM, repairerL, droneAmp = 2048, 2364, 2605, 3530, 3540, 4405
	magstab, membrane, plate1600, ballistic, miningUpgrade             = 10190, 11269, 20353, 22291, 22542

	// Rigs
	trimarkL, coreShieldL, trimarkS, trimarkM, cargoRigS, cargoRigM = 25894, 26088, 30987, 31055, 31117, 31119
	coreShieldS, coreShieldM, bulkheadS, bulkheadM                  = 31788, 31790, 33890, 33892

	// Subsystems
	lokiDefensive, lokiOffensive, lokiPropulsion, lokiCore = 45595, 45608, 45621, 45633

	// Service modules and cores of structures
	manufacturing, cloning, reprocessing, astrahusCore, raitaruCore = 35878, 35894, 35899, 56201, 56203

	// Charges
	empS, empM, empL, cruise, heavyMissile, lightMissile          = 185, 193, 201, 203, 209, 210
	antimatterS, antimatterM, rocket, torpedo, rage, disruptProbe = 222, 230, 266, 267, 2679, 22778
	coreProbe                                                     = 30013

	// Drones
	hammerhead, acolyte, ogre, hobgoblin, warrior, ecDrone = 2185, 2205, 2446, 2456, 2488, 23707

	// Fighters
	templar, firbolg = 23055, 23059

	// Cargo
	tritanium, pyerite, megacyte, veldspar, plasticWrap, quafe = 34, 35, 40, 1230, 3468, 3699
	oxygenBlock, metalScraps, liquidOzone                      = 4312, 15331, 16273
	strontium, nanite, skillInjector                           = 16275, 28668, 40520

	// Implants
	memoryStd, neuralStd, ocularStd                             = 10208, 10212, 10216
	cyberneticStd, socialStd, snakeAlpha                        = 10221, 10225, 19540
	snakeBeta, snakeGamma, snakeDelta, snakeEpsilon, snakeOmega = 19551, 19553, 19554, 19555, 19556

	// NPCs
	amarrSentry, serpentisInitiate, angelRogue        = 1194, 2370, 2372
	guristasInvader, guristasImputor, caldariSentry   = 2383, 2384, 3740
	gallenteSentry, minmatarSentry, concordCaptain    = 3742, 3743, 3885
	corpatisBishop, gistatisLegatus, pithatisRevolter = 24000, 24008, 24018
	centatisBehemoth, corelatisCaptain, abyssalDepths = 24023, 24028, 47465
)

// In ascending order of id.
var types = [...]Type{
	{ID: tritanium, Name: "Tritanium", Price: 4.1},
	{ID: pyerite, Name: "Pyerite", Price: 11.6},
	{ID: megacyte, Name: "Megacyte", Price: 1_840},
	{ID: empS, Name: "EMP S", Price: 14},
	{ID: empM, Name: "EMP M", Price: 32},
	{ID: empL, Name: "EMP L", Price: 78},
	{ID: cruise, Name: "Scourge Cruise Missile", Price: 410},
	{ID: heavyMissile, Name: "Scourge Heavy Missile", Price: 260},
	{ID: lightMissile, Name: "Scourge Light Missile", Price: 95},
	{ID: antimatterS, Name: "Antimatter Charge S", Price: 16},
	{ID: antimatterM, Name: "Antimatter Charge M", Price: 37},
	{ID: rocket, Name: "Scourge Rocket", Price: 22},
	{ID: torpedo, Name: "Scourge Torpedo", Price: 540},
	{ID: extenderS, Name: "Small Shield Extender II", Price: 390_000},
	{ID: ab1, Name: "1MN Afterburner II", Price: 720_000},
	{ID: mwd5, Name: "5MN Microwarpdrive II", Price: 1_600_000},
	{ID: scrambler, Name: "Warp Scrambler II", Price: 1_100_000},
	{ID: miner2, Name: "Miner II", Price: 410_000},
	{ID: gyro, Name: "Gyrostabilizer II", Price: 790_000},
	{ID: web, Name: "Stasis Webifier II", Price: 820_000},
	{slasher, "Slasher", 25, "Frigate", 6, "Ship", 450_000},
	{rifter, "Rifter", 25, "Frigate", 6, "Ship", 520_000},
	{reaper, "Reaper", 237, "Corvette", 6, "Ship", 12_500},
	{tristan, "Tristan", 25, "Frigate", 6, "Ship", 560_000},
	{punisher, "Punisher", 25, "Frigate", 6, "Ship", 480_000},
	{ibis, "Ibis", 237, "Corvette", 6, "Ship", 12_500},
	{kestrel, "Kestrel", 25, "Frigate", 6, "Ship", 510_000},
	{merlin, "Merlin", 25, "Frigate", 6, "Ship", 500_000},
	{heron, "Heron", 25, "Frigate", 6, "Ship", 420_000},
	{velator, "Velator", 237, "Corvette", 6, "Ship", 12_500},
	{imicus, "Imicus", 25, "Frigate", 6, "Ship", 400_000},
	{caracal, "Caracal", 26, "Cruiser", 6, "Ship", 13_200_000},
	{stabber, "Stabber", 26, "Cruiser", 6, "Ship", 11_800_000},
	{vexor, "Vexor", 26, "Cruiser", 6, "Ship", 13_900_000},
	{thorax, "Thorax", 26, "Cruiser", 6, "Ship", 12_600_000},
	{raven, "Raven", 27, "Battleship", 6, "Ship", 212_000_000},
	{badger, "Badger", 28, "Hauler", 6, "Ship", 1_600_000},
	{iteron, "Iteron Mark V", 28, "Hauler", 6, "Ship", 3_400_000},
	{capsule, "Capsule", 29, "Capsule", 6, "Ship", 10_000},
	{shuttle, "Caldari Shuttle", 31, "Shuttle", 6, "Ship", 17_800},
	{ID: repairerS, Name: "Small Armor Repairer II", Price: 430_000},
	{ID: amarrSentry, Name: "Amarr Sentry Gun"},
	{ID: veldspar, Name: "Veldspar", Price: 15.2},
	{ID: cargohold, Name: "Expanded Cargohold II", Price: 520_000},
	{ID: bulkhead, Name: "Reinforced Bulkheads II", Price: 870_000},
	{ID: inertial, Name: "Inertial Stabilizers II", Price: 610_000},
	{ID: capRelay, Name: "Capacitor Power Relay II", Price: 540_000},
	{ID: rapidLauncher, Name: "Rapid Light Missile Launcher II", Price: 1_900_000},
	{ID: sensorBooster, Name: "Sensor Booster II", Price: 640_000},
	{ID: capRecharger, Name: "Cap Recharger II", Price: 460_000},
	{ID: damageControl, Name: "Damage Control II", Price: 510_000},
	{ID: hammerhead, Name: "Hammerhead II", Price: 740_000},
	{ID: acolyte, Name: "Acolyte II", Price: 390_000},
	{customsOffice, "Customs Office", 1025, "Orbital Infrastructure", 46, "Orbitals", 104_000_000},
	{ID: hardener, Name: "Multispectrum Shield Hardener II", Price: 1_900_000},
	{ID: heatSink, Name: "Heat Sink II", Price: 930_000},
	{ID: serpentisInitiate, Name: "Serpentis Initiate"},
	{ID: angelRogue, Name: "Angel Rogue"},
	{ID: guristasInvader, Name: "Guristas Invader"},
	{ID: guristasImputor, Name: "Guristas Imputor"},
	{ID: lightLauncher, Name: "Light Missile Launcher II", Price: 760_000},
	{ID: heavyLauncher, Name: "Heavy Missile Launcher II", Price: 2_100_000},
	{ID: torpedoLauncher, Name: "Torpedo Launcher II", Price: 2_400_000},
	{ID: ogre, Name: "Ogre II", Price: 1_300_000},
	{ID: hobgoblin, Name: "Hobgoblin II", Price: 350_000},
	{ID: warrior, Name: "Warrior II", Price: 410_000},
	{ID: nanofiber, Name: "Nanofiber Internal Structure II", Price: 880_000},
	{ID: rage, Name: "Scourge Rage Heavy Assault Missile", Price: 610},
	{ID: autocannon125, Name: "125mm Gatling AutoCannon II", Price: 620_000},
	{ID: autocannon200, Name: "200mm AutoCannon II", Price: 840_000},
	{ID: vulcan220, Name: "220mm Vulcan AutoCannon II", Price: 1_500_000},
	{ID: autocannon425, Name: "425mm AutoCannon II", Price: 2_200_000},
	{ID: repeating800, Name: "800mm Repeating Cannon II", Price: 3_900_000},
	{ID: howitzer1400, Name: "1400mm Howitzer Artillery II", Price: 4_400_000},
	{ID: howitzer720, Name: "720mm Howitzer Artillery II", Price: 2_600_000},
	{ID: rail150, Name: "150mm Railgun II", Price: 890_000},
	{ID: rail250, Name: "250mm Railgun II", Price: 2_300_000},
	{ID: heavyNeutron, Name: "Heavy Neutron Blaster II", Price: 2_000_000},
	{ID: lightNeutron, Name: "Light Neutron Blaster II", Price: 780_000},
	{ID: disruptor, Name: "Warp Disruptor II", Price: 1_000_000},
	{ID: plasticWrap, Name: "Plastic Wrap", Price: 9_500},
	{ID: repairerM, Name: "Medium Armor Repairer II", Price: 1_200_000},
	{ID: repairerL, Name: "Large Armor Repairer II", Price: 2_300_000},
	{ID: shieldTransfer, Name: "Large Remote Shield Booster II", Price: 3_100_000},
	{ID: quafe, Name: "Quafe", Price: 1_180},
	{ID: caldariSentry, Name: "Caldari Sentry Gun I"},
	{ID: gallenteSentry, Name: "Gallente Sentry Gun"},
	{ID: minmatarSentry, Name: "Minmatar Sentry Gun"},
	{gnosis, "Gnosis", 419, "Combat Battlecruiser", 6, "Ship", 74_000_000},
	{ID: extenderM, Name: "Medium Shield Extender II", Price: 560_000},
	{ID: extenderL, Name: "Large Shield Extender II", Price: 890_000},
	{ID: concordCaptain, Name: "CONCORD Police Captain"},
	{tornado, "Tornado", 1201, "Attack Battlecruiser", 6, "Ship", 78_000_000},
	{ID: oxygenBlock, Name: "Oxygen Fuel Block", Price: 17_400},
	{ID: droneAmp, Name: "Drone Damage Amplifier II", Price: 1_600_000},
	{ID: magstab, Name: "Magnetic Field Stabilizer II", Price: 1_100_000},
	{ID: memoryStd, Name: "Memory Augmentation - Standard", Price: 18_200_000},
	{ID: neuralStd, Name: "Neural Boost - Standard", Price: 17_400_000},
	{ID: ocularStd, Name: "Ocular Filter - Standard", Price: 18_800_000},
	{ID: cyberneticStd, Name: "Cybernetic Subprocessor - Standard", Price: 17_900_000},
	{ID: socialStd, Name: "Social Adaptation Chip - Standard", Price: 9_600_000},
	{ID: rocketLauncher, Name: "Rocket Launcher II", Price: 640_000},
	{stiletto, "Stiletto", 831, "Interceptor", 6, "Ship", 29_000_000},
	{ID: membrane, Name: "Multispectrum Energized Membrane II", Price: 1_400_000},
	{ID: protoCloak, Name: "Prototype Cloaking Device I", Price: 1_100_000},
	{ID: covertCloak, Name: "Covert Ops Cloaking Device II", Price: 5_400_000},
	{arazu, "Arazu", 833, "Force Recon Ship", 6, "Ship", 248_000_000},
	{scimitar, "Scimitar", 832, "Logistics", 6, "Ship", 214_000_000},
	{cerberus, "Cerberus", 358, "Heavy Assault Cruiser", 6, "Ship", 231_000_000},
	{ishtar, "Ishtar", 358, "Heavy Assault Cruiser", 6, "Ship", 238_000_000},
	{muninn, "Muninn", 358, "Heavy Assault Cruiser", 6, "Ship", 219_000_000},
	{purifier, "Purifier", 834, "Stealth Bomber", 6, "Ship", 33_000_000},
	{ID: ab10, Name: "10MN Afterburner II", Price: 1_400_000},
	{ID: mwd50, Name: "50MN Microwarpdrive II", Price: 3_400_000},
	{ID: mwd500, Name: "500MN Microwarpdrive II", Price: 4_800_000},
	{smallBubble, "Mobile Small Warp Disruptor I", 361, "Mobile Warp Disruptor", 22, "Deployable", 6_400_000},
	{ID: metalScraps, Name: "Metal Scraps", Price: 9_200},
	{ferox, "Ferox", 419, "Combat Battlecruiser", 6, "Ship", 58_000_000},
	{cormorant, "Cormorant", 420, "Destroyer", 6, "Ship", 1_500_000},
	{catalyst, "Catalyst", 420, "Destroyer", 6, "Ship", 1_600_000},
	{thrasher, "Thrasher", 420, "Destroyer", 6, "Ship", 1_550_000},
	{ID: liquidOzone, Name: "Liquid Ozone", Price: 86},
	{ID: strontium, Name: "Strontium Clathrates", Price: 1_420},
	{retriever, "Retriever", 463, "Mining Barge", 6, "Ship", 34_000_000},
	{ID: stripMiner, Name: "Strip Miner I", Price: 3_600_000},
	{gila, "Gila", 26, "Cruiser", 6, "Ship", 236_000_000},
	{machariel, "Machariel", 27, "Battleship", 6, "Ship", 498_000_000},
	{ID: probeLauncher, Name: "Core Probe Launcher I", Price: 31_000},
	{ID: snakeAlpha, Name: "High-grade Snake Alpha", Price: 128_000_000},
	{ID: snakeBeta, Name: "High-grade Snake Beta", Price: 214_000_000},
	{ID: snakeGamma, Name: "High-grade Snake Gamma", Price: 262_000_000},
	{ID: snakeDelta, Name: "High-grade Snake Delta", Price: 331_000_000},
	{ID: snakeEpsilon, Name: "High-grade Snake Epsilon", Price: 438_000_000},
	{ID: snakeOmega, Name: "High-grade Snake Omega", Price: 702_000_000},
	{revelation, "Revelation", 485, "Dreadnought", 6, "Ship", 3_600_000_000},
	{naglfar, "Naglfar", 485, "Dreadnought", 6, "Ship", 3_400_000_000},
	{ID: cruiseLauncher, Name: "Cruise Missile Launcher II", Price: 3_200_000},
	{charon, "Charon", 513, "Freighter", 6, "Ship", 1_620_000_000},
	{obelisk, "Obelisk", 513, "Freighter", 6, "Ship", 1_580_000_000},
	{ID: siege, Name: "Siege Module I", Price: 29_000_000},
	{ID: plate1600, Name: "1600mm Steel Plates II", Price: 2_600_000},
	{ID: cyno, Name: "Cynosural Field Generator I", Price: 1_700_000},
	{ID: dataAnalyzer, Name: "Data Analyzer I", Price: 40_000},
	{ID: relicAnalyzer, Name: "Relic Analyzer I", Price: 36_000},
	{ID: ballistic, Name: "Ballistic Control System II", Price: 1_300_000},
	{sabre, "Sabre", 541, "Interdictor", 6, "Ship", 61_000_000},
	{ID: miningUpgrade, Name: "Mining Laser Upgrade I", Price: 190_000},
	{ID: disruptProbe, Name: "Warp Disrupt Probe", Price: 92_000},
	{ID: sphereLauncher, Name: "Interdiction Sphere Launcher I", Price: 1_300_000},
	{templar, "Templar I", 1652, "Light Fighter", 87, "Fighter", 9_800_000},
	{firbolg, "Firbolg I", 1652, "Light Fighter", 87, "Fighter", 8_700_000},
	{ID: droneLink, Name: "Drone Link Augmentor I", Price: 480_000},
	{ID: ecDrone, Name: "Hornet EC-300", Price: 260_000},
	{thanatos, "Thanatos", 547, "Carrier", 6, "Ship", 1_900_000_000},
	{ID: corpatisBishop, Name: "Corpatis Bishop"},
	{ID: gistatisLegatus, Name: "Gistatis Legatus"},
	{ID: pithatisRevolter, Name: "Pithatis Revolter"},
	{ID: centatisBehemoth, Name: "Centatis Behemoth"},
	{ID: corelatisCaptain, Name: "Corelatis High Captain"},
	{drake, "Drake", 419, "Combat Battlecruiser", 6, "Ship", 62_000_000},
	{hurricane, "Hurricane", 419, "Combat Battlecruiser", 6, "Ship", 60_000_000},
	{ID: assaultLauncher, Name: "Heavy Assault Missile Launcher II", Price: 2_200_000},
	{ID: trimarkL, Name: "Large Trimark Armor Pump I", Price: 5_200_000},
	{ID: coreShieldL, Name: "Large Core Defense Field Extender I", Price: 6_800_000},
	{rorqual, "Rorqual", 883, "Capital Industrial Ship", 6, "Ship", 4_100_000_000},
	{ID: nanite, Name: "Nanite Repair Paste", Price: 31_500},
	{loki, "Loki", 963, "Strategic Cruiser", 6, "Ship", 208_000_000},
	{ID: coreProbe, Name: "Core Scanner Probe I", Price: 21_000},
	{ID: trimarkS, Name: "Small Trimark Armor Pump I", Price: 210_000},
	{ID: trimarkM, Name: "Medium Trimark Armor Pump I", Price: 1_300_000},
	{ID: cargoRigS, Name: "Small Cargohold Optimization I", Price: 160_000},
	{ID: cargoRigM, Name: "Medium Cargohold Optimization I", Price: 720_000},
	{ID: coreShieldS, Name: "Small Core Defense Field Extender I", Price: 330_000},
	{ID: coreShieldM, Name: "Medium Core Defense Field Extender I", Price: 1_900_000},
	{venture, "Venture", 25, "Frigate", 6, "Ship", 1_100_000},
	{astero, "Astero", 25, "Frigate", 6, "Ship", 84_000_000},
	{mobileDepot, "Mobile Depot", 1246, "Mobile Depot", 22, "Deployable", 1_200_000},
	{tractorUnit, "Mobile Tractor Unit", 1250, "Mobile Tractor Unit", 22, "Deployable", 11_600_000},
	{ID: bulkheadS, Name: "Small Transverse Bulkhead I", Price: 420_000},
	{ID: bulkheadM, Name: "Medium Transverse Bulkhead I", Price: 2_400_000},
	{hecate, "Hecate", 1305, "Tactical Destroyer", 6, "Ship", 47_000_000},
	{raitaru, "Raitaru", 1404, "Engineering Complex", 65, "Structure", 702_000_000},
	{astrahus, "Astrahus", 1657, "Citadel", 65, "Structure", 1_340_000_000},
	{athanor, "Athanor", 1406, "Refinery", 65, "Structure", 812_000_000},
	{ID: manufacturing, Name: "Standup Manufacturing Plant I", Price: 92_000_000},
	{ID: cloning, Name: "Standup Cloning Center I", Price: 98_000_000},
	{ID: reprocessing, Name: "Standup Reprocessing Facility I", Price: 88_000_000},
	{ID: skillInjector, Name: "Large Skill Injector", Price: 812_000_000},
	{ID: lokiDefensive, Name: "Loki Defensive - Covert Reconfiguration", Price: 62_000_000},
	{ID: lokiOffensive, Name: "Loki Offensive - Launcher Efficiency Configuration", Price: 48_000_000},
	{ID: lokiPropulsion, Name: "Loki Propulsion - Wake Limiter", Price: 41_000_000},
	{ID: lokiCore, Name: "Loki Core - Immobility Drivers", Price: 71_000_000},
	{ID: abyssalDepths, Name: "Unstable Abyssal Depths"},
	{praxis, "Praxis", 27, "Battleship", 6, "Ship", 224_000_000},
	{ID: astrahusCore, Name: "Astrahus Upwell Quantum Core", Price: 612_000_000},
	{ID: raitaruCore, Name: "Raitaru Upwell Quantum Core", Price: 508_000_000},
}
