package demo

import (
	"slices"
	"strconv"
	"time"
)

// page is what losses are written on. It is used again and again.
type page struct {
	text  []byte
	hits  []hit
	value value
}

// hit is what one attacker did.
type hit struct {
	actor
	damage int32
	final  bool
}

// value is a loss in hundredths of an ISK. Dropped and destroyed together are the total; the hull is destroyed.
type value struct{ fitted, dropped, destroyed int64 }

// write makes a loss the canonical text of a killmail: ESI's members in ESI's order, then zkb as zKillboard writes it. It is
// good until the next call.
func (p *page) write(s *story, l *loss, id int64, died time.Time) []byte {
	victim := &s.ships[l.victim.ship]
	damage := int32(float64(victim.hp) * (0.9 + 0.3*s.rng.Float64()))
	p.share(s, l.attackers, damage)

	b := append(p.text[:0], `{"attackers":[`...)
	killer := int16(-1)
	for i := range p.hits {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.attacker(b, s, &p.hits[i])
		if p.hits[i].final {
			killer = p.hits[i].pilot
		}
	}
	b = append(b, `],"killmail_id":`...)
	b = strconv.AppendInt(b, id, 10)
	b = append(b, `,"killmail_time":"`...)
	b = died.AppendFormat(b, time.RFC3339)
	b = append(b, `","solar_system_id":`...)
	b = strconv.AppendUint(b, uint64(systems[l.system].ID), 10)

	b = append(b, `,"victim":{`...)
	b = p.who(b, l.victim)
	b = append(b, `,"damage_taken":`...)
	b = strconv.AppendInt(b, int64(damage), 10)
	faction := factionOf(l.victim)
	if faction != 0 {
		b = append(b, `,"faction_id":`...)
		b = strconv.AppendUint(b, uint64(faction), 10)
	}
	b = append(b, `,"items":[`...)
	b = p.items(b, s, l)
	b = append(b, `],"position":{"x":`...)
	for i, axis := range [...]string{"", `,"y":`, `,"z":`} {
		b = append(b, axis...)
		b = strconv.AppendFloat(b, l.spot[i]+(s.rng.Float64()-0.5)*8e4, 'f', -1, 64)
	}
	b = append(b, `},"ship_type_id":`...)
	b = strconv.AppendUint(b, uint64(victim.hull), 10)
	b = append(b, '}')
	if l.war != 0 {
		b = append(b, `,"war_id":`...)
		b = strconv.AppendUint(b, uint64(l.war), 10)
	}
	b = p.zkb(b, s, l, killer, died)
	p.text = append(b, '}')
	return p.text
}

// share divides the damage among the attackers, most first, as ESI does, and gives one of them the final blow.
func (p *page) share(s *story, attackers []actor, damage int32) {
	p.hits = p.hits[:0]
	total := 0.0
	for i, a := range attackers {
		weight := 0.05 + s.rng.Float64()
		if i > 0 && s.rng.IntN(12) == 0 {
			weight = 0 // only held it, or came too late
		}
		total += weight
		p.hits = append(p.hits, hit{actor: a, damage: int32(weight * 1e6)})
	}
	left := damage
	for i := range p.hits {
		h := &p.hits[i]
		h.damage = int32(float64(h.damage) / 1e6 / total * float64(damage))
		left -= h.damage
	}
	p.hits[0].damage += left
	final := s.rng.IntN(len(p.hits))
	if p.hits[final].damage == 0 {
		final = 0 // who never has none
	}
	p.hits[final].final = true
	slices.SortStableFunc(p.hits, func(a, b hit) int { return int(b.damage) - int(a.damage) })
}

// who writes the ids of a participant that come first in the alphabet.
func (p *page) who(b []byte, a actor) []byte {
	if a.corp < 0 {
		return b
	}
	corp := &corporations[a.corp]
	if corp.alliance >= 0 {
		b = append(b, `"alliance_id":`...)
		b = strconv.AppendUint(b, firstAlliance+uint64(corp.alliance), 10)
		b = append(b, ',')
	}
	if a.pilot >= 0 {
		b = append(b, `"character_id":`...)
		b = strconv.AppendUint(b, firstPilot+uint64(a.pilot), 10)
		b = append(b, ',')
	}
	b = append(b, `"corporation_id":`...)
	return strconv.AppendUint(b, uint64(corporationID(int(a.corp))), 10)
}

func factionOf(a actor) uint32 {
	if a.corp < 0 {
		return npcs[a.ship].faction
	}
	return corporations[a.corp].faction
}

func (p *page) attacker(b []byte, s *story, h *hit) []byte {
	b = append(b, '{')
	var shipType, weapon uint32
	security := int8(0)
	if h.corp < 0 {
		n := &npcs[h.ship]
		shipType = n.ship
		if n.corporation != 0 {
			b = append(b, `"corporation_id":`...)
			b = strconv.AppendUint(b, uint64(n.corporation), 10)
			b = append(b, ',')
		}
	} else {
		b = append(p.who(b, h.actor), ',')
		shipType, weapon = s.ships[h.ship].hull, s.ships[h.ship].kills
		if weapon == 0 {
			weapon = shipType
		}
		security = s.cast.pilots[h.pilot].security
	}
	b = append(b, `"damage_done":`...)
	b = strconv.AppendInt(b, int64(h.damage), 10)
	if f := factionOf(h.actor); f != 0 {
		b = append(b, `,"faction_id":`...)
		b = strconv.AppendUint(b, uint64(f), 10)
	}
	if h.final {
		b = append(b, `,"final_blow":true,"security_status":`...)
	} else {
		b = append(b, `,"final_blow":false,"security_status":`...)
	}
	b = strconv.AppendFloat(b, float64(security)/10, 'f', -1, 64)
	b = append(b, `,"ship_type_id":`...)
	b = strconv.AppendUint(b, uint64(shipType), 10)
	if weapon != 0 {
		b = append(b, `,"weapon_type_id":`...)
		b = strconv.AppendUint(b, uint64(weapon), 10)
	}
	return append(b, '}')
}

// items writes what was in the ship, and what became of it.
func (p *page) items(b []byte, s *story, l *loss) []byte {
	ship := &s.ships[l.victim.ship]
	p.value = value{fitted: ship.price, destroyed: ship.price}
	first := true
	add := func(flag uint8, id uint32, price int64, destroyed, dropped int32, fitted bool) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = p.item(b, flag, id, price, destroyed, dropped)
		if fitted {
			p.value.fitted += price * int64(destroyed+dropped)
		}
	}
	if ship.hull == capsule {
		pilot := &s.cast.pilots[l.victim.pilot]
		for _, id := range implantSets[pilot.set][:pilot.implants] {
			add(flagImplant, id, price(id), 1, 0, false)
		}
		return b
	}
	for i := range ship.items {
		it := &ship.items[i]
		switch {
		case !it.loose:
			if it.breaks || s.rng.IntN(100) < 55 {
				add(it.flag, it.id, it.price, it.n, 0, it.fitted)
			} else {
				add(it.flag, it.id, it.price, 0, it.n, it.fitted)
			}
			continue
		case s.rng.IntN(100) < 15:
			continue
		}
		n := it.n
		if n > 8 || it.flag == flagCargo {
			n = max(1, int32(float64(n)*l.riches*(0.3+0.7*s.rng.Float64())))
		}
		if it.id == plasticWrap {
			if l.wrapped {
				for range min(n, 6) {
					if !first {
						b = append(b, ',')
					}
					first = false
					b = p.wrap(b, s, it.price)
				}
			}
			continue
		}
		// The game destroys or drops whole piles; two lines are two piles of the same.
		switch half := n / 2; {
		case half > 0 && s.rng.IntN(4) == 0:
			add(it.flag, it.id, it.price, half, 0, false)
			add(it.flag, it.id, it.price, 0, n-half, false)
		case s.rng.IntN(2) == 0:
			add(it.flag, it.id, it.price, n, 0, false)
		default:
			add(it.flag, it.id, it.price, 0, n, false)
		}
	}
	return b
}

// item writes one line and counts its value.
func (p *page) item(b []byte, flag uint8, id uint32, price int64, destroyed, dropped int32) []byte {
	b = append(b, `{"flag":`...)
	b = strconv.AppendUint(b, uint64(flag), 10)
	b = append(b, `,"item_type_id":`...)
	b = strconv.AppendUint(b, uint64(id), 10)
	if destroyed > 0 {
		b = append(b, `,"quantity_destroyed":`...)
		b = strconv.AppendInt(b, int64(destroyed), 10)
	}
	if dropped > 0 {
		b = append(b, `,"quantity_dropped":`...)
		b = strconv.AppendInt(b, int64(dropped), 10)
	}
	p.value.destroyed += price * int64(destroyed)
	p.value.dropped += price * int64(dropped)
	return append(b, `,"singleton":0}`...)
}

// wrap writes a courier's package with what was in it: either all of it burns, or all of it drops.
func (p *page) wrap(b []byte, s *story, wrapPrice int64) []byte {
	destroyed, dropped := int32(1), int32(0)
	if s.rng.IntN(2) == 0 {
		destroyed, dropped = 0, 1
	}
	b = append(b, `{"flag":5,"item_type_id":`...)
	b = strconv.AppendUint(b, plasticWrap, 10)
	b = append(b, `,"items":[`...)
	for i := range 1 + s.rng.IntN(4) {
		if i > 0 {
			b = append(b, ',')
		}
		id := one(s, wares[:])
		n, each := 1+int32(s.rng.IntN(40)), price(id)
		if each > 10_000_000_00 {
			n = 1 + n/20
		}
		b = p.item(b, 0, id, each, n*destroyed, n*dropped)
	}
	if destroyed > 0 {
		b = append(b, `],"quantity_destroyed":1`...)
	} else {
		b = append(b, `],"quantity_dropped":1`...)
	}
	p.value.destroyed += wrapPrice * int64(destroyed)
	p.value.dropped += wrapPrice * int64(dropped)
	return append(b, `,"singleton":0}`...)
}

// wares are what is sent in packages.
var wares = [...]uint32{muninn, cerberus, caracal, shieldTransfer, repeating800, ogre, hammerhead, nanite, skillInjector,
	damageControl}
