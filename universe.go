package killfeed

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Universe is what the game's static data tells of ids: where a solar system lies, which group a type belongs to, and what
// all of them are called. It never changes; its methods may be called concurrently, and also on a nil Universe, which knows
// nothing: then ids are all there is, and everything that needs no more works.
type Universe struct {
	build          int
	systems        []SolarSystem // these are sorted by id
	constellations []Constellation
	regions        []Region
	types          []Type
	groups         []Group
	factions       []Faction
	corporations   []Corporation

	inConstellation, inRegion map[uint32][]uint32 // solar systems
	inSpace                   [spaceCount][]uint32
	inGroup                   map[uint32][]uint32 // types

	index func() *nameIndex // made when a name is first looked up
}

// UniverseData is what a Universe is made of.
type UniverseData struct {
	// Build is the number of the game's build, 0 when it is not known.
	Build          int
	Systems        []SolarSystem
	Constellations []Constellation
	Regions        []Region
	Types          []Type
	Groups         []Group
	Factions       []Faction
	Corporations   []Corporation // those of NPCs
}

// SolarSystem is a solar system.
type SolarSystem struct {
	ID   uint32
	Name string
	// Constellation and Region are ids, 0 when not known.
	Constellation, Region uint32
	// Security is the security status, -1 to 1, not rounded: see ShownSecurity.
	Security float64
	// Class is the wormhole class: 1 to 6, 12 Thera, 13 shattered, 14 to 18 drifters', 25 Pochven; others are not told apart
	// here. 0 when not known.
	Class uint8
}

// Constellation is a constellation.
type Constellation struct {
	ID, Region uint32
	Name       string
}

// Region is a region.
type Region struct {
	ID   uint32
	Name string
}

// Type is a type of ship, module, charge, structure and so on.
type Type struct {
	ID, Group uint32
	Name      string
}

// Group is a group of types, such as Frigate. Category is the id of the category it is in: 6 are ships.
type Group struct {
	ID, Category uint32
	Name         string
}

// Faction is a faction of NPCs.
type Faction struct {
	ID   uint32
	Name string
}

// Corporation is a corporation of NPCs.
type Corporation struct {
	ID           uint32
	Name, Ticker string
}

// Space is a kind of space.
type Space uint8

// Kinds of space. Their numbers are stored: they never change meaning.
const (
	SpaceHigh     Space = 1 // 0.5 to 1.0, as shown
	SpaceLow      Space = 2 // 0.1 to 0.4
	SpaceNull     Space = 3 // 0.0 and below
	SpaceWormhole Space = 4 // Thera, the shattered ones and the drifters' among them
	SpacePochven  Space = 5
	SpaceAbyssal  Space = 6 // deadspace reached by filament
	spaceCount          = 7
)

var spaceNames = [spaceCount]string{
	SpaceHigh: "high", SpaceLow: "low", SpaceNull: "null", SpaceWormhole: "wormhole", SpacePochven: "pochven", SpaceAbyssal: "abyssal",
}

const spaceForms = "high, low, null, wormhole, pochven or abyssal"

// String is the name that ParseSpace reads.
func (s Space) String() string {
	if int(s) < len(spaceNames) && s > 0 {
		return spaceNames[s]
	}
	return "unknown"
}

// ParseSpace reads the name of a kind of space: "high", "highsec", "high-sec", "HS" and so on. The error is an *InvalidError for
// the parameter.
func ParseSpace(param, s string) (Space, error) {
	name := strings.ToLower(strings.TrimSpace(s))
	short := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "sec"), "-"), "-space")
	for i, n := range spaceNames {
		if i > 0 && (short == n || name == n) {
			return Space(i), nil
		}
	}
	switch name {
	case "hs", "hisec":
		return SpaceHigh, nil
	case "ls":
		return SpaceLow, nil
	case "ns", "nullspace", "0.0":
		return SpaceNull, nil
	case "wh", "w", "w-space", "wspace", "j-space", "wormholes":
		return SpaceWormhole, nil
	case "abyss":
		return SpaceAbyssal, nil
	}
	return 0, invalid(param, s, spaceForms)
}

// RegionPochven is the region that is a kind of space of its own.
const RegionPochven = 10000070

// Space is the kind of space that the system lies in, by its id, region and security.
func (s *SolarSystem) Space() Space {
	switch million := s.ID / 1_000_000; {
	case million == 31:
		return SpaceWormhole
	case million >= 32 && million <= 35: // the filaments' pockets, and what the game's data calls void
		return SpaceAbyssal
	case s.Region == RegionPochven || s.Class == 25:
		return SpacePochven
	}
	switch shown := s.ShownSecurity(); {
	case shown >= 0.5:
		return SpaceHigh
	case shown > 0:
		return SpaceLow
	}
	return SpaceNull
}

// ShownSecurity is the security status as the game shows it: rounded to one decimal, and 0.1 for what is just above 0.
func (s *SolarSystem) ShownSecurity() float64 {
	if s.Security > 0 && s.Security < 0.05 {
		return 0.1
	}
	return math.Round(s.Security*10)/10 + 0 // the 0 makes no -0 of small ones
}

// NewUniverse makes a Universe of the data, which it keeps and sorts. The error says which ids are out of range or there twice,
// or name what is not there.
func NewUniverse(d UniverseData) (*Universe, error) {
	u := &Universe{
		build: d.Build, systems: d.Systems, constellations: d.Constellations, regions: d.Regions,
		types: d.Types, groups: d.Groups, factions: d.Factions, corporations: d.Corporations,
		inConstellation: map[uint32][]uint32{}, inRegion: map[uint32][]uint32{}, inGroup: map[uint32][]uint32{},
	}
	u.index = sync.OnceValue(u.makeIndex)
	for _, err := range []error{
		order("solar system", u.systems, func(s *SolarSystem) uint32 { return s.ID }),
		order("constellation", u.constellations, func(c *Constellation) uint32 { return c.ID }),
		order("region", u.regions, func(r *Region) uint32 { return r.ID }),
		order("type", u.types, func(t *Type) uint32 { return t.ID }),
		order("group", u.groups, func(g *Group) uint32 { return g.ID }),
		order("faction", u.factions, func(f *Faction) uint32 { return f.ID }),
		order("corporation", u.corporations, func(c *Corporation) uint32 { return c.ID }),
	} {
		if err != nil {
			return nil, err
		}
	}
	for i := range u.systems {
		s := &u.systems[i]
		if c, ok := u.Constellation(s.Constellation); ok && s.Region == 0 {
			s.Region = c.Region
		}
		u.inConstellation[s.Constellation] = append(u.inConstellation[s.Constellation], s.ID)
		u.inRegion[s.Region] = append(u.inRegion[s.Region], s.ID)
		u.inSpace[s.Space()] = append(u.inSpace[s.Space()], s.ID)
	}
	for _, t := range u.types {
		u.inGroup[t.Group] = append(u.inGroup[t.Group], t.ID)
	}
	return u, nil
}

// order sorts by id and checks the ids.
func order[T any](what string, all []T, id func(*T) uint32) error {
	slices.SortFunc(all, func(a, b T) int { return cmp.Compare(id(&a), id(&b)) })
	for i := range all {
		switch n := id(&all[i]); {
		case n < 1 && what != "type" && what != "group" || n > MaxID: // the game has a type and a group 0
			return fmt.Errorf("static data: %s %d is out of range", what, n)
		case i > 0 && n == id(&all[i-1]):
			return fmt.Errorf("static data: %s %d is there twice", what, n)
		}
	}
	return nil
}

// at finds what has the id.
func at[T any](all []T, n uint32, id func(*T) uint32) (v T, ok bool) {
	from, to := 0, len(all)
	for from < to {
		if mid := int(uint(from+to) >> 1); id(&all[mid]) < n {
			from = mid + 1
		} else {
			to = mid
		}
	}
	if from == len(all) || id(&all[from]) != n {
		return v, false
	}
	return all[from], true
}

// Build is the number of the game's build that the data is of, 0 when there is none.
func (u *Universe) Build() int {
	if u == nil {
		return 0
	}
	return u.build
}

// System tells of a solar system.
func (u *Universe) System(id uint32) (SolarSystem, bool) {
	if u == nil {
		return SolarSystem{}, false
	}
	return at(u.systems, id, func(s *SolarSystem) uint32 { return s.ID })
}

// Constellation tells of a constellation.
func (u *Universe) Constellation(id uint32) (Constellation, bool) {
	if u == nil {
		return Constellation{}, false
	}
	return at(u.constellations, id, func(c *Constellation) uint32 { return c.ID })
}

// Region tells of a region.
func (u *Universe) Region(id uint32) (Region, bool) {
	if u == nil {
		return Region{}, false
	}
	return at(u.regions, id, func(r *Region) uint32 { return r.ID })
}

// Type tells of a type.
func (u *Universe) Type(id uint32) (Type, bool) {
	if u == nil {
		return Type{}, false
	}
	return at(u.types, id, func(t *Type) uint32 { return t.ID })
}

// Group tells of a group of types.
func (u *Universe) Group(id uint32) (Group, bool) {
	if u == nil {
		return Group{}, false
	}
	return at(u.groups, id, func(g *Group) uint32 { return g.ID })
}

// Faction tells of a faction.
func (u *Universe) Faction(id uint32) (Faction, bool) {
	if u == nil {
		return Faction{}, false
	}
	return at(u.factions, id, func(f *Faction) uint32 { return f.ID })
}

// Corporation tells of a corporation of NPCs.
func (u *Universe) Corporation(id uint32) (Corporation, bool) {
	if u == nil {
		return Corporation{}, false
	}
	return at(u.corporations, id, func(c *Corporation) uint32 { return c.ID })
}

// Counts are how many solar systems and types are known.
func (u *Universe) Counts() (systems, types int) {
	if u == nil {
		return 0, 0
	}
	return len(u.systems), len(u.types)
}

// Systems are the ids of the solar systems of a topic of kind KindConstellation, KindRegion or KindSpace, ascending. The caller
// must not change them.
func (u *Universe) Systems(t Topic) []uint32 {
	if u == nil {
		return nil
	}
	switch t.Kind {
	case KindConstellation:
		return u.inConstellation[t.ID]
	case KindRegion:
		return u.inRegion[t.ID]
	case KindSpace:
		if t.ID < spaceCount {
			return u.inSpace[t.ID]
		}
	}
	return nil
}

// Types are the ids of the types in a group, ascending. The caller must not change them.
func (u *Universe) Types(group uint32) []uint32 {
	if u == nil {
		return nil
	}
	return u.inGroup[group]
}

// ParseTopic reads a topic's name, in which a system, constellation, region, ship or group may be named instead of numbered, in
// upper or lower case: "system:Jita", "region:the forge", "kill:ship:Rifter". The error is an *InvalidError; where a name is
// not known it says which are near. The number of a constellation, region or group must be known, or nothing could ever be on the
// topic; that of anything else need not be.
func (u *Universe) ParseTopic(s string) (Topic, error) {
	t, rest, err := cutTopic(s)
	if err != nil || rest == "" {
		return t, err
	}
	if t.Kind.placed() && u == nil {
		return Topic{}, invalid("topics", s, "another kind of topic: "+kindNames[t.Kind.Base()]+
			" topics need static data, which this server does not have (killfeed sde update gets it); without it there are "+storedForms+roleForms)
	}
	if t.Kind == KindSpace {
		space, err := ParseSpace("topics", rest)
		if err != nil {
			return Topic{}, invalid("topics", s, "space:"+strings.ReplaceAll(spaceForms, ", ", ", space:"))
		}
		t.ID = uint32(space)
		return t, nil
	}
	if id, ok := ParseID(rest); ok {
		if t.ID = id; t.Kind.placed() && !u.has(t) {
			return Topic{}, invalid("topics", s, "the id or name of a "+findable[t.Kind.Base()]+" that is in this server's static data, which has none "+rest)
		}
		return t, nil
	}
	if t.ID, err = u.Find("topics", t.Kind, rest); err != nil {
		return Topic{}, err
	}
	return t, nil
}

// has tells whether anything is known of a topic of kind KindConstellation, KindRegion or KindGroup.
func (u *Universe) has(t Topic) (ok bool) {
	switch t.Kind.Base() {
	case KindConstellation:
		_, ok = u.Constellation(t.ID)
	case KindRegion:
		_, ok = u.Region(t.ID)
	case KindGroup:
		_, ok = u.Group(t.ID)
	}
	return ok || u.size(t) > 0 // it may have systems or types, and no name
}

// Find returns the id of what is called name, or has it as its number, in upper or lower case. kind is one of KindSystem,
// KindConstellation, KindRegion, KindShip (any type) and KindGroup; of others, only numbers are known, but for the NPCs' among
// factions and corporations. The error is an *InvalidError for the parameter; it says which names are near.
func (u *Universe) Find(param string, kind TopicKind, name string) (uint32, error) {
	if id, ok := ParseID(name); ok {
		return id, nil
	}
	what := findable[kind.Base()]
	if what == "" {
		return 0, invalid(param, name, "the id of "+article(kindNames[kind.Base()])+": decimal digits, 1 to 2147483647")
	}
	if u == nil {
		return 0, invalid(param, name, "the id of a "+what+
			", 1 to 2147483647 in decimal digits: names need static data, which this server does not have (killfeed sde update gets it)")
	}
	x := u.index()
	if id, ok := x.find(kind.Base(), name); ok {
		return id, nil
	}
	want := "the id or name of a " + what
	if near := x.near(name, 3, kind); len(near) > 0 {
		for i, m := range near {
			switch {
			case i == 0:
				want += "; did you mean "
			case i == len(near)-1:
				want += " or "
			default:
				want += ", "
			}
			want += m.Name + " (" + strconv.FormatUint(uint64(m.ID), 10) + ")"
		}
		want += "?"
	}
	return 0, invalid(param, name, want)
}

func article(noun string) string {
	if strings.IndexByte("aeiou", noun[0]) >= 0 {
		return "an " + noun
	}
	return "a " + noun
}

// findable is what the kinds are called that are found by name.
var findable = [...]string{
	KindSystem: "solar system", KindConstellation: "constellation", KindRegion: "region", KindShip: "type",
	KindGroup: "group of types", KindFaction: "faction", KindCorporation: "corporation",
}

// expand appends the stored topics that t stands for: those of its systems or types, and kills and losses for what does not
// tell them apart.
func (u *Universe) expand(dst []Topic, t Topic) []Topic {
	switch base := t.Kind.Base(); base {
	case KindConstellation, KindRegion, KindSpace:
		for _, id := range u.Systems(t) {
			dst = append(dst, System(id))
		}
	case KindGroup:
		for _, id := range u.Types(t.ID) {
			dst = bothRoles(dst, Topic{Kind: KindShip | t.Kind.Role(), ID: id})
		}
	default:
		dst = bothRoles(dst, t)
	}
	return dst
}

// size is how many stored topics a topic stands for, without regard to roles.
func (u *Universe) size(t Topic) int {
	if t.Kind.Base() == KindGroup {
		return len(u.Types(t.ID))
	}
	return len(u.Systems(t))
}

// bothRoles appends t, or the two that it is the union of.
func bothRoles(dst []Topic, t Topic) []Topic {
	if t.Kind < KindCharacter || t.Kind > KindShip {
		return append(dst, t)
	}
	return append(dst, Topic{Kind: t.Kind | RoleLoss, ID: t.ID}, Topic{Kind: t.Kind | RoleKill, ID: t.ID})
}

// widen appends the topics beside its own that an event on the stored topic t is on.
func (u *Universe) widen(dst []Topic, t Topic) []Topic {
	switch base := t.Kind.Base(); {
	case base == KindSystem:
		s, ok := u.System(t.ID)
		if !ok {
			return dst
		}
		dst = append(dst, Topic{Kind: KindSpace, ID: uint32(s.Space())})
		if s.Constellation != 0 {
			dst = append(dst, Topic{Kind: KindConstellation, ID: s.Constellation})
		}
		if s.Region != 0 {
			dst = append(dst, Topic{Kind: KindRegion, ID: s.Region})
		}
	case t.Kind.Role() != 0:
		dst = append(dst, Topic{Kind: base, ID: t.ID})
		if base != KindShip {
			return dst
		}
		if typ, ok := u.Type(t.ID); ok && typ.Group != 0 {
			dst = append(dst, Topic{Kind: KindGroup, ID: typ.Group}, Topic{Kind: KindGroup | t.Kind.Role(), ID: typ.Group})
		}
	}
	return dst
}
