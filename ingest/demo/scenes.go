package demo

import (
	"slices"
	"time"
)

// plots are what can happen. Of as many scenes as the last upTo says, each takes those from the upTo before it to its own.
var plots = [...]struct {
	upTo  int
	write func(*story)
}{
	{200, (*story).hunt},
	{325, (*story).roam},
	{415, (*story).camp},
	{605, (*story).rat},
	{657, (*story).abyssal},
	{767, (*story).duel},
	{842, (*story).hole},
	{952, (*story).litter},
	{964, (*story).awox},
	{976, (*story).war},
	{985, (*story).gank},
	{990, (*story).siege},
	{994, (*story).escalation},
	{1000, (*story).battle},
}

// What is flown for what, the commonest more than once.
var (
	prey = []uint32{heron, heron, imicus, venture, venture, shuttle, shuttle, ibis, velator, badger, iteron, tristan,
		vexor, vexor, caracal, caracal, retriever, slasher, astero, stabber, gnosis, drake, praxis, kestrel, merlin, catalyst, purifier,
		cormorant}
	hunters = []uint32{astero, hecate, hecate, loki, gila, stiletto, rifter, sabre, arazu, tornado, purifier, tristan, slasher}
	gang    = []uint32{caracal, stabber, thorax, hecate, sabre, stiletto, vexor, hurricane, cerberus, slasher, kestrel}
	campers = []uint32{sabre, thrasher, tornado, loki, hurricane, arazu, cerberus, gnosis}
	passing = []uint32{shuttle, shuttle, badger, iteron, ibis, velator, reaper, heron, imicus, kestrel, tristan, slasher,
		stiletto, astero, caracal, vexor}
	ratters  = []uint32{vexor, vexor, gila, ishtar, praxis, raven, gnosis, drake, caracal, retriever}
	students = []uint32{ibis, velator, reaper, venture, venture, heron, imicus, catalyst, cormorant, tristan, caracal, vexor}
	brawlers = []uint32{rifter, punisher, merlin, kestrel, tristan, slasher, hecate, catalyst, thrasher, cormorant, thorax}
	gamblers = []uint32{gila, caracal, vexor, ishtar, hecate, thorax}
	divers   = []uint32{loki, loki, gila, cerberus, ishtar, sabre, astero, stabber, gnosis, hurricane, thorax}
	diggers  = []uint32{caracal, vexor, drake, gila, retriever, venture, praxis, astero, heron}
	haulers  = []uint32{retriever, retriever, badger, iteron, venture, raven}
)

// spot picks a kind of space, then a system in it.
func (s *story) spot(odds ...int) int {
	total := 0
	for _, o := range odds {
		total += o
	}
	n := s.rng.IntN(total)
	for kind, o := range odds {
		if n < o {
			return one(s, s.space[kind])
		}
		n -= o
	}
	panic("unreachable")
}

func systemIndex(id uint32) int {
	return slices.IndexFunc(systems[:], func(s System) bool { return s.ID == id })
}

// holder is the alliance at home in a system, or -1.
func holder(system int) int {
	for a := range alliances {
		if slices.Contains(alliances[a].home, systems[system].ID) {
			return a
		}
	}
	return -1
}

// locals are the corporations that one meets in a system.
func (s *story) locals(system int) []int {
	switch spaceOf(&systems[system]) {
	case high:
		return slices.Concat(s.trade[carebear], s.trade[rookie])
	case low:
		return slices.Concat(s.trade[militia], []int{one(s, s.trade[rookie])})
	case wormhole, pochven:
		return s.trade[holer]
	}
	if a := holder(system); a >= 0 && s.chance(0.8) {
		return corporationsIn(a)
	}
	return slices.Concat(s.trade[bloc], s.trade[rookie])
}

// foes are those of corps that an actor may shoot at: neither its own corporation nor its alliance.
func foes(corps []int, a actor) []int {
	own := &corporations[a.corp]
	return slices.DeleteFunc(slices.Clone(corps), func(c int) bool {
		return c == int(a.corp) || own.alliance >= 0 && corporations[c].alliance == own.alliance
	})
}

// strangers are the corporations, of one alliance or just one, that come to a system to kill.
func (s *story) strangers(system int) []int {
	switch spaceOf(&systems[system]) {
	case low:
		return friends(one(s, slices.Concat(s.trade[pirate], s.trade[nomad])))
	case wormhole, pochven:
		return friends(one(s, slices.Concat(s.trade[holer], s.trade[nomad])))
	}
	if s.chance(0.5) {
		return friends(one(s, s.trade[nomad]))
	}
	return corporationsIn(s.rival(holder(system)))
}

// friends are a corporation and those of its alliance.
func friends(corp int) []int {
	if a := corporations[corp].alliance; a >= 0 {
		return corporationsIn(int(a))
	}
	return []int{corp}
}

// rival is an alliance that has a grudge against another: the same few most of the time.
func (s *story) rival(a int) int {
	if a < 0 || a >= blocs {
		return s.rng.IntN(blocs)
	}
	if s.chance(0.7) {
		return (a + 1 + 2*s.rng.IntN(2)) % blocs
	}
	return (a + 1 + s.rng.IntN(blocs-1)) % blocs
}

// podded is how likely a pod goes after its ship.
func podded(system int) float64 {
	switch spaceOf(&systems[system]) {
	case high:
		return 0.15
	case low:
		return 0.33
	case wormhole:
		return 0.4
	}
	return 0.55
}

// hunt: one hunter, sometimes with a friend, and who did not look at the scanner.
func (s *story) hunt() {
	c := s.open(s.spot(3, 32, 45, 14, 0, 6))
	hulls, from := hunters, c.strangers(c.system)
	if spaceOf(&systems[c.system]) == high { // no law forbids to shoot at criminals, or in a duel
		hulls, from = brawlers, friends(one(s, s.trade[carebear]))
	}
	n := 1
	if s.chance(0.3) {
		n = 2
	}
	pack := c.crew(n, hulls, from...)
	if len(pack) == 0 {
		return
	}
	for range c.between(1, 3) {
		for _, v := range c.crew(1, prey, foes(c.locals(c.system), pack[0])...) {
			c.pod(c.dies(v, pack...), podded(c.system))
		}
		c.wait(4 * time.Minute)
		c.move()
	}
}

// roam: a small gang passes through, and sometimes finds that it was expected.
func (s *story) roam() {
	c := s.open(s.spot(0, 15, 70, 10, 0, 5))
	pack := c.crew(c.between(3, 15), gang, c.strangers(c.system)...)
	if len(pack) < 3 {
		return
	}
	locals := foes(c.locals(c.system), pack[0])
	for range c.between(1, 4) {
		for _, v := range c.crew(1, prey, locals...) {
			c.pod(c.dies(v, c.most(pack)...), podded(c.system))
		}
		c.wait(2 * time.Minute)
		c.move()
	}
	if !s.chance(0.3) {
		return
	}
	posse := c.crew(len(pack)+c.between(2, 12), gang, locals...)
	for range min(c.between(1, 5), len(pack)) {
		if len(posse) < 3 {
			return
		}
		v := pack[len(pack)-1]
		pack = pack[:len(pack)-1]
		c.pod(c.dies(v, c.most(posse)...), podded(c.system))
		c.wait(20 * time.Second)
	}
}

// camp: a gate, a bubble where there are no sentry guns, and whoever comes through.
func (s *story) camp() {
	c := s.open(s.spot(0, 45, 55))
	from := friends(one(s, s.trade[pirate]))
	if spaceOf(&systems[c.system]) == null {
		from = c.strangers(c.system)
	}
	pack := c.crew(c.between(2, 8), campers, from...)
	if len(pack) < 2 {
		return
	}
	travellers := foes(slices.Concat(s.trade[rookie], c.locals(c.system)), pack[0])
	for range c.between(2, 5) {
		for _, v := range c.crew(1, passing, travellers...) {
			c.pod(c.dies(v, c.most(pack)...), podded(c.system))
		}
		c.wait(2 * time.Minute)
	}
	if spaceOf(&systems[c.system]) == low && s.chance(0.1) { // somebody forgot the sentry guns
		c.dies(pack[0], shooter(sentry(&systems[c.system])))
	}
}

// rat: the pirates of NPCs win for once.
func (s *story) rat() {
	c := s.open(s.spot(42, 18, 40))
	hulls := ratters
	if spaceOf(&systems[c.system]) != null {
		hulls = students
	}
	for _, v := range c.crew(1, hulls, c.locals(c.system)...) {
		l := c.dies(v, slices.Repeat([]actor{shooter(rats(&systems[c.system]))}, c.between(1, 4))...)
		c.pod(l, 0.04)
	}
}

// abyssal: the twenty minutes are over.
func (s *story) abyssal() {
	c := s.open(one(s, s.space[abyss]))
	for _, v := range c.crew(1, gamblers, slices.Concat(s.trade[carebear], s.trade[bloc])...) {
		c.pod(c.dies(v, shooter(unstableDepths)), 0.9)
	}
}

// duel: a few from each of two militias, in frigates.
func (s *story) duel() {
	us := s.rng.IntN(4)
	them := 3 - us                                            // Caldari and Gallente, Minmatar and Amarr
	front := []uint32{30002813, 30002813, 30002809, 30005000} // Tama, Sujarento, Old Man Star
	if us == 1 || us == 2 {
		front = []uint32{30002537, 30002537, 30003067} // Amamake, Huola
	}
	c := s.open(systemIndex(one(s, front)))
	a := c.crew(c.between(1, 5), brawlers, s.trade[militia][us])
	b := c.crew(c.between(1, 4), brawlers, s.trade[militia][them])
	if len(a) == 0 || len(b) == 0 {
		return
	}
	lost := 1 + c.rng.IntN(len(b))
	for _, v := range b[:lost] {
		c.pod(c.dies(v, c.some(a, 1, len(a))...), 0.25)
		c.wait(30 * time.Second)
	}
	if lost < len(b) && s.chance(0.5) {
		c.pod(c.dies(a[0], c.some(b[lost:], 1, len(b))...), 0.25)
	}
}

// hole: somebody rolled a wormhole into somebody.
func (s *story) hole() {
	c := s.open(s.spot(0, 0, 0, 80, 0, 20))
	a := c.crew(c.between(2, 16), divers, one(s, s.trade[holer]))
	if len(a) == 0 {
		return
	}
	hulls := divers
	if s.chance(0.5) {
		hulls = diggers
	}
	b := c.crew(c.between(1, 7), hulls, one(s, foes(s.trade[holer], a[0])))
	if len(b) > 2 && len(a) > 1 && s.chance(0.5) {
		c.dies(a[0], c.some(b, 1, len(b))...)
		c.wait(25 * time.Second)
		a = a[1:]
	}
	for i, v := range b {
		if i == 0 || s.chance(0.6) {
			c.pod(c.dies(v, c.most(a)...), podded(c.system))
			c.wait(25 * time.Second)
		}
	}
}

// litter: what was left in space, and a customs office now and then.
func (s *story) litter() {
	c := s.open(s.spot(8, 17, 55, 15, 0, 5))
	owners := c.locals(c.system)
	if spaceOf(&systems[c.system]) == high {
		owners = s.trade[carebear]
	}
	what := one(s, []uint32{tractorUnit, tractorUnit, tractorUnit, tractorUnit, smallBubble, mobileDepot, customsOffice})
	n := c.between(1, 5)
	if what == customsOffice {
		n += 3
	}
	pack := c.crew(n, hunters, c.strangers(c.system)...)
	if len(pack) == 0 {
		return
	}
	owners = foes(owners, pack[0])
	if what == customsOffice {
		owners = slices.DeleteFunc(owners, func(c int) bool { return corporations[c].npc != 0 })
	}
	if len(owners) == 0 {
		return
	}
	owner := one(s, owners)
	v := c.owned(owner, what)
	if what != customsOffice { // what is deployed belongs to a pilot
		v.pilot = c.cast.first[owner] + int16(s.rng.IntN(corporations[owner].pilots))
	}
	c.dies(v, pack...)
}

// awox: one of them was not one of them.
func (s *story) awox() {
	c := s.open(s.spot(3, 2, 5, 2))
	corp := one(s, s.trade[one(s, []trade{bloc, bloc, carebear, holer})])
	villain := c.crew(1, hunters, corp)
	if victim := c.crew(1, prey, corp); len(victim)*len(villain) == 1 {
		c.pod(c.dies(victim[0], villain...), 0.3)
	}
}

// war: declared against those who never shot at anyone, and lawful.
func (s *story) war() {
	c := s.open(one(s, s.space[high]))
	mercenaries := one(s, s.trade[mercenary])
	against := one(s, s.trade[carebear])
	c.war = firstWar + uint32(mercenaries*len(corporations)+against)
	pack := c.crew(c.between(1, 5), []uint32{loki, machariel, cerberus, hecate, thrasher}, mercenaries)
	for range c.between(1, 3) {
		if v := c.crew(1, slices.Concat(haulers, []uint32{praxis, gila}), against); len(pack)*len(v) > 0 {
			c.pod(c.dies(v[0], pack...), 0.4)
		}
		c.wait(3 * time.Minute)
	}
}

// gank: destroyers against a freighter, before CONCORD comes; and then CONCORD comes.
func (s *story) gank() {
	at := []uint32{30002768, 30002768, 30002765, 30000142, 30000144} // Uedama, Sivala, Jita, Perimeter
	c := s.open(systemIndex(one(s, at)))
	hulls, n := []uint32{charon, obelisk}, c.between(14, 28)
	if s.chance(0.5) {
		hulls, n = haulers, c.between(1, 6)
	}
	pack := c.crew(n, []uint32{catalyst, catalyst, catalyst, thrasher}, s.trade[ganker]...)
	victim := c.crew(1, hulls, s.trade[carebear]...)
	if len(pack)*len(victim) == 0 {
		return
	}
	l := c.dies(victim[0], pack...)
	l.riches = 0.3 + c.rng.ExpFloat64()
	l.wrapped = c.ships[l.victim.ship].group == 513
	c.pod(l, 0.3)
	for _, v := range pack {
		c.clock += time.Second / 2
		c.dies(v, shooter(concord))
	}
}

// siege: a structure whose owners did not come, or too few.
func (s *story) siege() {
	c := s.open(s.spot(0, 20, 55, 25))
	us := c.rng.IntN(blocs)
	pack := c.crew(c.between(12, 70), slices.Concat(alliances[us].line, []uint32{tornado, stiletto}), corporationsIn(us)...)
	if len(pack) < 5 {
		return
	}
	owner := one(s, corporationsIn(c.rival(us)))
	if s.chance(0.4) {
		owner = one(s, s.trade[carebear])
	}
	for _, v := range c.crew(c.between(0, 6), gang, owner) {
		c.pod(c.dies(v, c.some(pack, 3, 25)...), podded(c.system))
		c.wait(30 * time.Second)
	}
	c.wait(2 * time.Minute)
	c.dies(c.owned(owner, one(s, []uint32{astrahus, raitaru, athanor})), pack...)
}

// escalation: something large was bait, or alone.
func (s *story) escalation() {
	c := s.open(s.spot(0, 30, 60, 10))
	us := c.rng.IntN(blocs)
	them := c.rival(us)
	if a := holder(c.system); a >= 0 && a < blocs {
		them = a
		us = c.rival(a)
	}
	prize := c.crew(1, []uint32{rorqual, thanatos, thanatos, naglfar, revelation}, corporationsIn(them)...)
	pack := c.crew(c.between(8, 45), slices.Concat([]uint32{sabre, arazu}, alliances[us].line), corporationsIn(us)...)
	heavy := c.crew(c.between(0, 9), []uint32{naglfar, revelation}, corporationsIn(us)...)
	if len(prize) == 0 || len(pack) < 3 {
		return
	}
	help := c.crew(c.between(0, 20), alliances[them].line, corporationsIn(them)...)
	survivors := pack
	for range min(len(help)/2, len(pack)-1) {
		c.pod(c.dies(survivors[0], c.some(help, 1, len(help))...), 0.5)
		c.wait(15 * time.Second)
		survivors = survivors[1:]
	}
	c.wait(time.Minute)
	c.pod(c.dies(prize[0], slices.Concat(heavy, survivors)...), 0.7)
	for _, v := range help {
		if s.chance(0.6) {
			c.wait(10 * time.Second)
			c.pod(c.dies(v, c.some(survivors, 1, 25)...), 0.5)
		}
	}
}

// battle: two alliances, each with friends, in one system.
func (s *story) battle() {
	us := s.rng.IntN(blocs)
	them := s.rival(us)
	c := s.open(systemIndex(one(s, alliances[them].home)))
	c.batch = 8 * time.Second
	size := s.between(18, 130)
	if s.chance(0.06) {
		size = 200 + s.rng.IntN(120)
	}
	sides := [2][]actor{c.muster(size, us, them), c.muster(size*(60+s.rng.IntN(60))/100, them, us)}
	if len(sides[0]) < 10 || len(sides[1]) < 10 {
		return
	}
	// The first side wins: it loses little.
	toll := [2]int{len(sides[0]) * (4 + s.rng.IntN(15)) / 100, len(sides[1]) * (15 + s.rng.IntN(40)) / 100}
	pace := 11 * time.Minute / time.Duration(1+toll[0]+toll[1])
	for toll[0]+toll[1] > 0 {
		side := 0
		if s.rng.IntN(toll[0]+toll[1]) >= toll[0] {
			side = 1
		}
		toll[side]--
		alive := sides[side]
		i := s.rng.IntN(len(alive))
		v := alive[i]
		alive[i] = alive[len(alive)-1]
		sides[side] = alive[:len(alive)-1]
		c.pod(c.dies(v, c.some(sides[1-side], 4, len(sides[1-side]))...), 0.5)
		c.clock += time.Duration(s.rng.ExpFloat64() * float64(pace))
	}
}

// muster is an alliance's fleet: the line, with logistics and tackle, and an ally when it is a large one.
func (c *scene) muster(n, a, against int) []actor {
	line := alliances[a].line
	hulls := []uint32{line[0], line[0], line[0], line[0], line[0], line[0], line[1], line[1], scimitar, sabre, stiletto}
	corps := corporationsIn(a)
	if ally := (a + 2) % blocs; n > 100 && ally != against {
		corps = append(corps, corporationsIn(ally)...)
	}
	return c.crew(n, hulls, corps...)
}

// most are half of a crew or more.
func (c *scene) most(crew []actor) []actor {
	return crew[:len(crew)-c.rng.IntN(len(crew)/2+1)]
}

// some are at least from and at most to of a crew, in a slice of their own; a few more often than many.
func (c *scene) some(crew []actor, from, to int) []actor {
	n := min(c.between(min(from, to), to), len(crew))
	first := c.rng.IntN(len(crew))
	part := make([]actor, 0, n)
	for i := range n {
		part = append(part, crew[(first+i)%len(crew)])
	}
	return part
}
