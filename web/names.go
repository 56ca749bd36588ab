package web

import (
	"bytes"
	"slices"
	"strconv"
	"unicode/utf8"

	"killfeed"
	"killfeed/names"
)

// mentioned are the ids that a killmail has, by what they are of.
type mentioned struct {
	ids     [names.Type + 1][]uint32
	missing []uint32
}

// categoryOf is what the members of a killmail with that name are ids of; 0: nothing that is called something.
func categoryOf(member []byte) names.Category {
	switch string(member) {
	case "character_id":
		return names.Character
	case "corporation_id":
		return names.Corporation
	case "alliance_id":
		return names.Alliance
	case "faction_id":
		return names.Faction
	case "ship_type_id", "weapon_type_id", "item_type_id":
		return names.Type
	}
	return 0
}

// read notes the ids in a JSON text without insignificant white space, wherever they are in it.
func (m *mentioned) read(text []byte) {
	for i := range m.ids {
		m.ids[i] = m.ids[i][:0]
	}
	m.missing = m.missing[:0]
	for i := 0; ; {
		quote := bytes.IndexByte(text[i:], '"')
		if quote < 0 {
			break
		}
		begin := i + quote
		if i = stringEnd(text, begin); i < 0 || i >= len(text) {
			break
		}
		if text[i] != ':' {
			continue
		}
		if of := categoryOf(text[begin+1 : i-1]); of != 0 {
			if id, ok := idAt(text[i+1:]); ok {
				m.ids[of] = append(m.ids[of], id)
			}
		}
	}
	for i, ids := range m.ids {
		slices.Sort(ids)
		m.ids[i] = slices.Compact(ids)
	}
}

// idAt is the id that text begins with.
func idAt(text []byte) (uint32, bool) {
	end := 0
	for end < len(text) && end <= 10 && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	if end < len(text) && (text[end] == '.' || text[end] == 'e' || text[end] == 'E') {
		return 0, false
	}
	return killfeed.ParseID(string(text[:end]))
}

// appendNames appends the object that says what is called what in a killmail's text, of which all or some is shown. What is not
// known yet is asked for, and nothing waits for the answer.
func (a *API) appendNames(b []byte, system uint32, killmail []byte) []byte {
	m := a.mentions.Get().(*mentioned)
	m.read(killmail)
	u := a.feed.Universe()
	b = append(b, '{')
	begin := len(b)
	place, state := a.place(u, system)
	if state == names.Known {
		b = place.append(append(b, `"system":`...))
	}
	m.note(system, state)
	for _, list := range namedLists {
		listed := false
		for _, id := range m.ids[list.of] {
			is, state := a.called(u, id, list.of)
			if state != names.Known {
				m.note(id, state)
				continue
			}
			if !listed {
				listed = true
				b = comma(b, begin)
				b = append(append(append(b, '"'), list.name...), `":{`...)
			} else {
				b = append(b, ',')
			}
			b = strconv.AppendUint(append(b, '"'), uint64(id), 10)
			b = append(is.append(append(b, `":{`...)), '}')
		}
		if listed {
			b = append(b, '}')
		}
	}
	if len(m.missing) > 0 {
		slices.Sort(m.missing)
		b = appendIDs(append(comma(b, begin), `"missing":`...), slices.Compact(m.missing))
	}
	const most = 4096 // ids: what a battle needed is not kept for the many small ones
	if cap(m.ids[names.Character]) <= most {
		a.mentions.Put(m)
	}
	return append(b, '}')
}

// namedLists are the members of names, in their order.
var namedLists = []struct {
	name string
	of   names.Category
}{
	{"types", names.Type}, {"characters", names.Character}, {"corporations", names.Corporation},
	{"alliances", names.Alliance}, {"factions", names.Faction},
}

func (m *mentioned) note(id uint32, s names.State) {
	if s == names.Pending {
		m.missing = append(m.missing, id)
	}
}

// comma appends one unless the object that begins behind begin is empty.
func comma(b []byte, begin int) []byte {
	if len(b) > begin {
		b = append(b, ',')
	}
	return b
}

func appendIDs(b []byte, ids []uint32) []byte {
	b = append(b, '[')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	return append(b, ']')
}

// known is what an id is called.
type known struct {
	name, ticker string
	group        killfeed.Group // of a type; no id: none is known
}

// called tells what an id of the category is called: static data comes first, it is here.
func (a *API) called(u *killfeed.Universe, id uint32, of names.Category) (known, names.State) {
	switch of {
	case names.Type:
		if t, ok := u.Type(id); ok {
			group, _ := u.Group(t.Group)
			return known{name: t.Name, group: group}, names.Known
		}
	case names.Corporation:
		if c, ok := u.Corporation(id); ok {
			return known{name: c.Name, ticker: c.Ticker}, names.Known
		}
	case names.Constellation:
		if c, ok := u.Constellation(id); ok {
			return known{name: c.Name}, names.Known
		}
	case names.Region:
		if r, ok := u.Region(id); ok {
			return known{name: r.Name}, names.Known
		}
	case names.Faction:
		if f, ok := u.Faction(id); ok {
			return known{name: f.Name}, names.Known
		}
	}
	e, state := a.config.Names.Get(id)
	if state == names.Known && e.Category != of { // a killmail may say anything
		return known{}, names.Unknown
	}
	return known{name: e.Name, ticker: e.Ticker}, state
}

// append appends the members.
func (k *known) append(b []byte) []byte {
	b = appendString(append(b, `"name":`...), k.name)
	if k.ticker != "" {
		b = appendString(append(b, `,"ticker":`...), k.ticker)
	}
	if k.group.ID != 0 {
		b = append(appendPart(append(b, `,"group":{`...), k.group.ID, k.group.Name), '}')
	}
	return b
}

// appendPart appends the members of what has an id and perhaps a name.
func appendPart(b []byte, id uint32, name string) []byte {
	b = strconv.AppendUint(append(b, `"id":`...), uint64(id), 10)
	if name != "" {
		b = appendString(append(b, `,"name":`...), name)
	}
	return b
}

// appendString appends a string in quotes.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text, err := marshal(s)
			if err != nil { // not reached: every string can be written
				return append(b, `""`...)
			}
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// place is where a solar system lies.
type place struct {
	killfeed.SolarSystem
	// placed: more than the name is known.
	placed                    bool
	constellation, regionName string
}

// place tells of a solar system what static data does, or else the book.
func (a *API) place(u *killfeed.Universe, id uint32) (p place, state names.State) {
	s, ok := u.System(id)
	if !ok {
		e, state := a.config.Names.Get(id)
		switch {
		case state != names.Known:
			return place{}, state
		case e.Category != names.System:
			return place{}, names.Unknown
		}
		s = killfeed.SolarSystem{ID: id, Name: e.Name, Security: e.Security, Constellation: e.Constellation}
		if ok = e.Constellation != 0; ok {
			c, known := u.Constellation(e.Constellation)
			if s.Region = c.Region; !known {
				c, _ := a.config.Names.Get(e.Constellation)
				s.Region = c.Region
			}
		}
	}
	p = place{SolarSystem: s, placed: ok}
	if s.Constellation != 0 {
		c, _ := a.called(u, s.Constellation, names.Constellation)
		p.constellation = c.name
	}
	if s.Region != 0 {
		r, _ := a.called(u, s.Region, names.Region)
		p.regionName = r.name
	}
	return p, names.Known
}

// append appends the place as an object.
func (p *place) append(b []byte) []byte {
	b = appendPart(append(b, '{'), p.ID, p.Name)
	if p.placed {
		b = strconv.AppendFloat(append(b, `,"security":`...), p.ShownSecurity(), 'f', 1, 64)
		b = append(append(append(b, `,"space":"`...), p.Space().String()...), '"')
	}
	if p.Constellation != 0 {
		b = append(appendPart(append(b, `,"constellation":{`...), p.Constellation, p.constellation), '}')
	}
	if p.Region != 0 {
		b = append(appendPart(append(b, `,"region":{`...), p.Region, p.regionName), '}')
	}
	return append(b, '}')
}
