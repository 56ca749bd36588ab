package killfeed

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// rule compares what a killmail has of one kind with values.
type rule struct {
	key     string // as it is written, without the role
	subject subject
	role    filterRole
	party   TopicKind // with subjectParty: KindCharacter to KindShip
	member  member    // with subjectMember
	name    string    // with memberOther
	takes   takes

	op     filterOp
	ids    []uint32 // "=" of what has ids: ascending
	values values   // "=" of all else
	bound  operand  // the value of all other operators; in values.all too
}

// subject is what a rule looks at.
type subject uint8

const (
	subjectMember subject = iota // members of one name
	subjectParty                 // ids of the victim and the attackers
	subjectGroup                 // groups of their ships
	subjectSystem                // this and the next three: where the event's solar system is
	subjectConstellation
	subjectRegion
	subjectSpace
	subjectLabel     // zkb.labels
	subjectAttackers // how many there are
)

// takes is what values a key takes, where not every text will do.
type takes uint8

const (
	takesAny    takes = iota
	takesNumber       // a number
	takesISK          // a number, perhaps with k, m, b or t behind it
	takesBool         // true or false, or words for it
	takesType         // a number, or a type's name
)

// filterRole says who is looked at.
type filterRole uint8

const (
	roleAnyone filterRole = iota
	roleVictim
	roleAttacker
	roleFinal // the attackers with final_blow
)

var roleNames = [...]string{roleAnyone: "", roleVictim: "victim.", roleAttacker: "attacker.", roleFinal: "final."}

// written is how the role is written before a key.
func (r filterRole) written() string { return roleNames[r] }

// topic is the role of a topic that has at least those whom r takes in.
func (r filterRole) topic() TopicKind {
	switch r {
	case roleVictim:
		return RoleLoss
	case roleAttacker, roleFinal:
		return RoleKill
	}
	return 0
}

type filterOp uint8

const (
	opEqual filterOp = iota // with node.not: "!="
	opLess
	opAtMost
	opMore
	opAtLeast
)

var opNames = [...]string{opEqual: "=", opLess: "<", opAtMost: "<=", opMore: ">", opAtLeast: ">="}

// holds tells whether "a op b" is true when a compares with b as sign says.
func (op filterOp) holds(sign int) bool {
	switch op {
	case opLess:
		return sign < 0
	case opAtMost:
		return sign <= 0
	case opMore:
		return sign > 0
	case opAtLeast:
		return sign >= 0
	}
	return sign == 0
}

// operand is a value of a filter.
type operand struct {
	text string
	num  number // where it looks like one
	ok   bool   // it does
}

// number is an integer of 64 bits, or else a float.
type number struct {
	integer bool
	i       int64
	f       float64 // of an integer too
}

func integral(i int64) number { return number{true, i, float64(i)} }

func (n number) compare(m number) int {
	if n.integer && m.integer {
		return cmp.Compare(n.i, m.i)
	}
	return cmp.Compare(n.f, m.f)
}

// parseNumber reads a text that looks like a number: as JSON writes numbers, not too long and not too great.
func parseNumber(text []byte) (number, bool) {
	const longest = 32 // a hash of decimal digits is no number, however it looks
	if len(text) == 0 || len(text) > longest || text[0] != '-' && text[0]-'0' > 9 {
		return number{}, false
	}
	var room [longest + scanPad]byte
	copy(room[:], text)
	if pastNumber(room[:], 0) != len(text) {
		return number{}, false
	}
	if !bytes.ContainsAny(text, ".eE") { // an error would be allocated
		if i, err := strconv.ParseInt(string(text), 10, 64); err == nil {
			return integral(i), true
		}
	}
	f, err := strconv.ParseFloat(string(text), 64)
	return number{f: f}, err == nil
}

// values are the values of a rule with "=", by what they look like.
type values struct {
	all      []operand // by text, for the rule to be written
	integers []int64   // these are ascending
	floats   []float64 // the numbers that are no integers
	texts    []string  // those that are no numbers
}

// sort makes the values ready to be looked for.
func (v *values) sort() {
	slices.SortFunc(v.all, func(a, b operand) int { return strings.Compare(a.text, b.text) })
	v.all = slices.CompactFunc(v.all, func(a, b operand) bool { return a.text == b.text })
	v.integers, v.floats, v.texts = nil, nil, nil
	for _, x := range v.all {
		switch {
		case !x.ok:
			v.texts = append(v.texts, x.text)
		case x.num.integer:
			v.integers = append(v.integers, x.num.i)
		default:
			v.floats = append(v.floats, x.num.f)
		}
	}
	slices.Sort(v.integers)
	slices.Sort(v.floats)
}

func (v *values) hasNumber(n number) bool {
	if len(v.floats) > 0 {
		if _, ok := slices.BinarySearch(v.floats, n.f); ok {
			return true
		}
	}
	if n.integer {
		_, ok := slices.BinarySearch(v.integers, n.i)
		return ok
	}
	i := sort.Search(len(v.integers), func(i int) bool { return float64(v.integers[i]) >= n.f })
	return i < len(v.integers) && float64(v.integers[i]) == n.f
}

func (v *values) hasText(text []byte) bool {
	switch len(v.texts) {
	case 0:
		return false
	case 1:
		return string(text) == v.texts[0]
	}
	i := sort.Search(len(v.texts), func(i int) bool { return v.texts[i] >= string(text) })
	return i < len(v.texts) && v.texts[i] == string(text)
}

// sight is one filter looking at one killmail.
type sight struct {
	*leaves
	u *Universe
	// steps counts the values that were looked at, which is what it costs: a rule about what is in a cargo hold a thousand times
	// has a thousand, and a filter may have two thousand rules.
	steps int
}

// matchLeaves tells whether the killmail passes that l was read from, and how many steps it took to tell.
func (f *Filter) matchLeaves(l *leaves, u *Universe) (matches bool, steps int) {
	s := sight{leaves: l, u: u}
	matches = f.root.match(&s)
	return matches, s.steps
}

func (n *node) match(l *sight) bool {
	if n.join == 0 {
		return n.rule.match(l) != n.not
	}
	either := n.join == ','
	for i := range n.list {
		if n.list[i].match(l) == either {
			return either != n.not
		}
	}
	return either == n.not
}

func (r *rule) match(l *sight) bool {
	l.steps++
	switch r.subject {
	case subjectParty:
		return r.anyParty(l, func(p *party) bool { return r.matchID(p.ids[r.party-KindCharacter]) })
	case subjectGroup:
		return r.anyParty(l, func(p *party) bool { return r.matchGroup(p, l.u) })
	case subjectSystem:
		return r.matchID(l.system)
	case subjectConstellation, subjectRegion, subjectSpace:
		return r.matchPlace(l.system, l.u)
	case subjectLabel:
		for _, label := range l.labels {
			l.steps++
			if r.values.hasText(l.bytes(label)) {
				return true
			}
		}
		return false
	case subjectAttackers:
		return r.matchNumber(integral(int64(l.attackers())))
	}
	for i := l.first[r.member]; i > 0; i = l.all[i-1].next {
		l.steps++
		x := &l.all[i-1]
		if (r.member != memberOther || string(l.leafName(x)) == r.name) && r.matchLeaf(l.leaves, x) {
			return true
		}
	}
	return false
}

func (r *rule) anyParty(l *sight, is func(*party) bool) bool {
	from, to := 0, len(l.parties)
	switch r.role {
	case roleVictim:
		to = 1
	case roleAttacker, roleFinal:
		from = 1
	}
	for i := from; i < to; i++ {
		l.steps++
		if p := &l.parties[i]; (p.final || r.role != roleFinal) && is(p) {
			return true
		}
	}
	return false
}

// hasID tells whether id, 0 being none, is one of the rule's.
func (r *rule) hasID(id uint32) bool {
	if len(r.ids) == 1 {
		return id == r.ids[0]
	}
	_, ok := slices.BinarySearch(r.ids, id)
	return ok
}

func (r *rule) matchID(id uint32) bool {
	if r.op == opEqual {
		return r.hasID(id)
	}
	return id != 0 && r.matchNumber(integral(int64(id)))
}

func (r *rule) matchGroup(p *party, u *Universe) bool {
	ship := p.ids[KindShip-KindCharacter]
	if ship == 0 {
		return false
	}
	t, ok := u.Type(ship)
	return ok && r.hasID(t.Group)
}

func (r *rule) matchPlace(system uint32, u *Universe) bool {
	s, ok := u.System(system)
	if !ok {
		return false
	}
	switch r.subject {
	case subjectConstellation:
		return r.hasID(s.Constellation)
	case subjectRegion:
		return r.hasID(s.Region)
	}
	return r.hasID(uint32(s.Space()))
}

func (r *rule) matchNumber(n number) bool {
	if r.op == opEqual {
		return r.values.hasNumber(n)
	}
	return r.bound.ok && r.op.holds(n.compare(r.bound.num))
}

func (r *rule) matchLeaf(l *leaves, x *leaf) bool {
	text := l.leafText(x)
	if r.op == opEqual && len(r.values.texts) == len(r.values.all) {
		return r.values.hasText(text) // what looks like a number equals none of them
	}
	if r.op == opEqual || r.bound.ok {
		if n, ok := x.number(text); ok {
			return r.matchNumber(n)
		}
	}
	if r.takes == takesISK {
		return false // 1b is no text to compare with
	}
	if r.op == opEqual {
		return r.values.hasText(text)
	}
	return r.op.holds(compareText(text, r.bound.text))
}

// number is what the leaf, whose text is given, looks like.
func (x *leaf) number(text []byte) (number, bool) {
	switch x.form &^ (leafExtra | leafNamedExtra) {
	case leafWord:
		return number{}, false
	case leafInteger:
		return integral(x.num), true
	}
	return parseNumber(text)
}

func compareText(a []byte, b string) int {
	switch {
	case string(a) < b:
		return -1
	case string(a) > b:
		return 1
	}
	return 0
}

// plan is what Filter.topics returns.
type plan struct {
	topics []Topic
	ok     bool
	// cost is about how many of a million killmails are on the topics.
	cost float64
}

// share is about how many of a million killmails are on a topic of the kind. Labels are on many: each says one of a few things
// of every killmail.
var share = [...]float64{
	KindCharacter: 5, KindCorporation: 50, KindAlliance: 500, KindSystem: 300, KindConstellation: 1500, KindShip: 3000,
	KindFaction: 10_000, KindRegion: 15_000, KindGroup: 40_000, KindLabel: 200_000, KindSpace: 250_000,
}

// plan makes a plan for the node, or for its contrary.
func (n *node) plan(contrary bool) plan {
	contrary = contrary != n.not
	if n.join == 0 {
		if contrary {
			return plan{} // nearly everything is something else
		}
		return n.rule.plan()
	}
	if (n.join == ';') == contrary { // the contrary of AND is OR of the contraries
		return n.planEither(contrary)
	}
	best := plan{cost: math.Inf(1)}
	for i := range n.list {
		if p := n.list[i].plan(contrary); p.ok && p.cost < best.cost {
			best = p
		}
	}
	return best
}

// planEither is the plan for what is on the topics of any of the parts.
func (n *node) planEither(contrary bool) plan {
	var all plan
	for i := range n.list {
		p := n.list[i].plan(contrary)
		if !p.ok {
			return plan{}
		}
		all.topics = append(all.topics, p.topics...)
		all.cost += p.cost
	}
	slices.SortFunc(all.topics, func(a, b Topic) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), strings.Compare(a.Label, b.Label))
	})
	all.topics = slices.Compact(all.topics)
	if len(all.topics) > maxFilterTopics {
		return plan{}
	}
	all.ok = true
	return all
}

func (r *rule) plan() plan {
	if r.op != opEqual || len(r.ids)+len(r.values.all) > maxFilterTopics {
		return plan{}
	}
	kind := r.kind()
	if kind == 0 {
		return plan{}
	}
	kind |= r.role.topic()
	var p plan
	for _, id := range r.ids {
		p.topics = append(p.topics, Topic{Kind: kind, ID: id})
	}
	for _, v := range r.values.all {
		if !isLabel(v.text) {
			return plan{}
		}
		p.topics = append(p.topics, Label(v.text))
	}
	p.ok, p.cost = true, share[kind.Base()]*float64(len(p.topics))
	return p
}

// isLabel tells whether a label can be a topic.
func isLabel(label string) bool {
	return label != "" && len(label) <= MaxLabel && !strings.ContainsFunc(label, unprintable)
}
