package webhook

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"

	"killfeed"
	"killfeed/names"
)

// nameTime is how long a message waits for names that are asked of ESI. It cannot be written anew when they come.
const nameTime = 5 * time.Second

// killmail is what a message tells of one. What is missing, or not as ESI has it, is zero.
type killmail struct {
	Victim    party   `json:"victim"`
	Attackers []party `json:"attackers"`
	ZKB       struct {
		Value float64 `json:"totalValue"`
		NPC   bool    `json:"npc"`
		Solo  bool    `json:"solo"`
	} `json:"zkb"`
}

// party is the victim or an attacker.
type party struct {
	Character   id   `json:"character_id"`
	Corporation id   `json:"corporation_id"`
	Alliance    id   `json:"alliance_id"`
	Faction     id   `json:"faction_id"`
	Ship        id   `json:"ship_type_id"`
	FinalBlow   bool `json:"final_blow"`
}

// id is an id of the game; 0 for what is none.
type id uint32

// UnmarshalJSON implements json.Unmarshaler. It never fails: a killmail may say anything.
func (i *id) UnmarshalJSON(text []byte) error {
	n, ok := killfeed.ParseID(string(text))
	if *i = 0; ok {
		*i = id(n)
	}
	return nil
}

// readKillmail reads what there is.
func readKillmail(text []byte) (k killmail) {
	_ = json.Unmarshal(text, &k) // a member of another type is left out, and the others are read
	return k
}

// finalBlow is who did it; nil: nobody is said to have.
func (k *killmail) finalBlow() *party {
	for i := range k.Attackers {
		if k.Attackers[i].FinalBlow {
			return &k.Attackers[i]
		}
	}
	if len(k.Attackers) == 1 {
		return &k.Attackers[0]
	}
	return nil
}

// has tells whether the party is what the topic, of any role, is about.
func (p *party) has(t killfeed.Topic, u *killfeed.Universe) bool {
	of := id(0)
	switch t.Kind.Base() {
	case killfeed.KindCharacter:
		of = p.Character
	case killfeed.KindCorporation:
		of = p.Corporation
	case killfeed.KindAlliance:
		of = p.Alliance
	case killfeed.KindFaction:
		of = p.Faction
	case killfeed.KindShip:
		of = p.Ship
	case killfeed.KindGroup:
		typ, _ := u.Type(uint32(p.Ship))
		of = id(typ.Group)
	}
	return of != 0 && uint32(of) == t.ID
}

// lexicon tells what ids are called: static data first, it is here.
type lexicon struct {
	universe *killfeed.Universe
	book     *names.Book
}

// look returns the name of an id of the category, empty when it is not known or cannot be shown.
func (l lexicon) look(of names.Category, n id) (name string, state names.State) {
	if n == 0 {
		return "", names.Unknown
	}
	u := uint32(n)
	switch of {
	case names.Type:
		t, _ := l.universe.Type(u)
		name = t.Name
	case names.System:
		s, _ := l.universe.System(u)
		name = s.Name
	case names.Region:
		r, _ := l.universe.Region(u)
		name = r.Name
	case names.Faction:
		f, _ := l.universe.Faction(u)
		name = f.Name
	case names.Corporation:
		c, _ := l.universe.Corporation(u)
		name = c.Name
	}
	if name = printable(name); name != "" {
		return name, names.Known
	}
	e, state := l.book.Get(u)
	if state == names.Known && e.Category == of { // a killmail may say anything
		return printable(e.Name), state
	}
	if state == names.Known {
		state = names.Unknown
	}
	return "", state
}

// printable is a text without what is no letter at all, such as line ends and marks that turn its direction.
func printable(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
}

// call is the name of an id, or else what it is and its number; empty without an id.
func (l lexicon) call(of names.Category, n id) string {
	if n == 0 {
		return ""
	}
	if name, _ := l.look(of, n); name != "" {
		return name
	}
	return of.String() + " " + strconv.FormatUint(uint64(n), 10)
}

// place is where a system lies, as far as it is known.
func (l lexicon) place(system uint32) (region string, security float64, known bool) {
	s, ok := l.universe.System(system)
	if !ok {
		e, state := l.book.Get(system)
		if state != names.Known || e.Category != names.System || e.Constellation == 0 {
			return "", 0, false
		}
		s = killfeed.SolarSystem{ID: system, Security: e.Security}
		if c, found := l.universe.Constellation(e.Constellation); found {
			s.Region = c.Region
		} else if c, state := l.book.Get(e.Constellation); state == names.Known {
			s.Region = c.Region
		}
	}
	region, _ = l.look(names.Region, id(s.Region))
	return region, s.ShownSecurity(), true
}

// await waits until the names of the events are known, or will not be soon. all: of everybody in them, not just of those that a
// message names.
func (l lexicon) await(ctx context.Context, events []killfeed.Event, all bool) {
	if l.book == nil {
		return
	}
	var pending []uint32
	want := func(of names.Category, n id) {
		if _, state := l.look(of, n); state == names.Pending {
			pending = append(pending, uint32(n))
		}
	}
	party := func(p *party) {
		want(names.Character, p.Character)
		want(names.Corporation, p.Corporation)
		want(names.Alliance, p.Alliance)
		want(names.Faction, p.Faction)
		want(names.Type, p.Ship)
	}
	for i := range events {
		k := readKillmail(events[i].Killmail)
		want(names.System, id(events[i].SystemID))
		party(&k.Victim)
		if by := k.finalBlow(); by != nil && !all {
			party(by)
		}
		for j := range k.Attackers {
			if all {
				party(&k.Attackers[j])
			}
		}
	}
	if len(pending) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nameTime)
	defer cancel()
	_ = l.book.Await(ctx, pending) // what has not come by then is told by its id
}
