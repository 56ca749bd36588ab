package killfeed

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Match is something that has a name.
type Match struct {
	// Kind is KindSystem, KindConstellation, KindRegion, KindShip (any type), KindGroup, KindFaction or KindCorporation.
	Kind TopicKind
	ID   uint32
	Name string
}

// Search returns up to limit things of the kinds whose names begin with text, in upper or lower case, then those that have it
// anywhere, then, if there are none, those that are near. It looks at all names: some 10 ms.
func (u *Universe) Search(text string, limit int, kinds ...TopicKind) []Match {
	if u == nil || limit <= 0 {
		return nil
	}
	text = fold(text)
	if text == "" {
		return nil
	}
	x := u.index()
	var begin, within []Match
	for _, kind := range kinds {
		for _, n := range x.sorted[kind.Base()] {
			switch i := strings.Index(n.folded, text); {
			case i == 0:
				begin = append(begin, n.Match)
			case i > 0 && len(within) < limit:
				within = append(within, n.Match)
			}
		}
	}
	slices.SortStableFunc(begin, func(a, b Match) int { return cmp.Compare(len(a.Name), len(b.Name)) })
	found := append(begin, within...)
	if len(found) == 0 {
		found = x.near(text, limit, kinds...)
	}
	return found[:min(len(found), limit)]
}

// Near returns up to limit things of the kinds whose names are nearly text, the nearest first: for asking whether one of them was
// meant. It looks at all names: some 50 ms.
func (u *Universe) Near(text string, limit int, kinds ...TopicKind) []Match {
	if u == nil {
		return nil
	}
	return u.index().near(text, limit, kinds...)
}

// nameIndex finds ids by name.
type nameIndex struct {
	ids    map[TopicKind]map[string]uint32
	sorted map[TopicKind][]named // by folded name
}

type named struct {
	Match
	folded string
}

func fold(name string) string { return strings.ToLower(strings.Join(strings.Fields(name), " ")) }

func (u *Universe) makeIndex() *nameIndex {
	x := &nameIndex{ids: map[TopicKind]map[string]uint32{}, sorted: map[TopicKind][]named{}}
	index(x, KindSystem, u.systems, func(s *SolarSystem) (uint32, string) { return s.ID, s.Name })
	index(x, KindConstellation, u.constellations, func(c *Constellation) (uint32, string) { return c.ID, c.Name })
	index(x, KindRegion, u.regions, func(r *Region) (uint32, string) { return r.ID, r.Name })
	index(x, KindShip, u.types, func(t *Type) (uint32, string) { return t.ID, t.Name })
	index(x, KindGroup, u.groups, func(g *Group) (uint32, string) { return g.ID, g.Name })
	index(x, KindFaction, u.factions, func(f *Faction) (uint32, string) { return f.ID, f.Name })
	index(x, KindCorporation, u.corporations, func(c *Corporation) (uint32, string) { return c.ID, c.Name })
	return x
}

func index[T any](x *nameIndex, kind TopicKind, all []T, of func(*T) (uint32, string)) {
	ids, sorted := make(map[string]uint32, len(all)), make([]named, 0, len(all))
	for i := range all {
		id, name := of(&all[i])
		folded := fold(name)
		if folded == "" || id == 0 {
			continue
		}
		if _, taken := ids[folded]; !taken { // of several with one name, the oldest
			ids[folded] = id
		}
		sorted = append(sorted, named{Match{kind, id, name}, folded})
	}
	slices.SortFunc(sorted, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.folded, b.folded), cmp.Compare(a.ID, b.ID))
	})
	x.ids[kind], x.sorted[kind] = ids, sorted
}

func (x *nameIndex) find(kind TopicKind, name string) (uint32, bool) {
	id, ok := x.ids[kind][fold(name)]
	return id, ok
}

// near returns the names that differ from name in the fewest letters, at most two, and one in names of up to three; then those
// that begin with it; then those that have it anywhere.
func (x *nameIndex) near(name string, limit int, kinds ...TopicKind) []Match {
	name = fold(name)
	if len(name) > 100 || name == "" {
		return nil
	}
	most := 2
	if utf8.RuneCountInString(name) < 4 {
		most = 1
	}
	type scored struct {
		named
		score int
	}
	var found []scored
	for _, kind := range kinds {
		for _, n := range x.sorted[kind.Base()] {
			if d := distance(name, n.folded, most); d <= most {
				found = append(found, scored{n, d})
			} else if strings.HasPrefix(n.folded, name) && len(name) >= 2 {
				found = append(found, scored{n, most + 1})
			} else if strings.Contains(n.folded, name) && len(name) >= 3 {
				found = append(found, scored{n, most + 2})
			}
		}
	}
	slices.SortStableFunc(found, func(a, b scored) int { return cmp.Compare(a.score, b.score) })
	matches := []Match{}
	for _, f := range found[:min(len(found), limit)] {
		matches = append(matches, f.Match)
	}
	return matches
}

// distance is how many letters have to be put in, taken out, changed or swapped with their neighbour to make b of a; more than
// most: most + 1.
func distance(a, b string, most int) int {
	if d := len(a) - len(b); d > 4*most || -d > 4*most { // a letter has at most four bytes
		return most + 1
	}
	x, y := []rune(a), []rune(b)
	if d := len(x) - len(y); d > most || -d > most {
		return most + 1
	}
	before, last, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(x); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > most {
			return most + 1
		}
		before, last, row = last, row, before
	}
	return min(last[len(y)], most+1)
}
