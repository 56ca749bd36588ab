package demo

import (
	"crypto/sha1"
	"encoding/hex"
	"math"
	"strconv"
	"time"
)

// Categories and groups that zKillboard's rules name.
const (
	categoryShip = 6

	groupCapsule  = 29
	groupShuttle  = 31
	groupCorvette = 237
)

// zkb writes what zKillboard would say of the loss.
func (p *page) zkb(b []byte, s *story, l *loss, killer int16, died time.Time) []byte {
	victim := &s.ships[l.victim.ship]
	total := p.value.dropped + p.value.destroyed
	players, police := 0, false
	won := uint32(0) // the faction that shot at a member of another
	own := factionOf(l.victim)
	awox := false
	for i := range p.hits {
		h := &p.hits[i]
		if h.corp >= 0 {
			players++
			if h.final && h.corp == l.victim.corp && victim.group != groupCapsule && corporations[h.corp].npc == 0 {
				awox = true
			}
			if f := factionOf(h.actor); own != 0 && f != 0 && f != own {
				won = f
			}
		} else if h.ship == concord {
			police = true
		}
	}
	solo := players == 1 && victim.category == categoryShip && victim.group != groupCapsule && victim.group != groupShuttle &&
		victim.group != groupCorvette

	b = append(b, `,"zkb":{"hash":"`...)
	b = p.hash(b, l, victim, killer, died)
	b = append(b, `","fittedValue":`...)
	b = appendISK(b, p.value.fitted)
	b = append(b, `,"droppedValue":`...)
	b = appendISK(b, p.value.dropped)
	b = append(b, `,"destroyedValue":`...)
	b = appendISK(b, p.value.destroyed)
	b = append(b, `,"totalValue":`...)
	b = appendISK(b, total)
	b = append(b, `,"points":`...)
	b = strconv.AppendInt(b, int64(p.points(s, victim, players)), 10)
	b = append(b, `,"npc":`...)
	b = strconv.AppendBool(b, players == 0)
	b = append(b, `,"solo":`...)
	b = strconv.AppendBool(b, solo)
	b = append(b, `,"awox":`...)
	b = strconv.AppendBool(b, awox)

	b = append(b, `,"labels":["tz:`...)
	b = append(b, prime(died)...)
	b = append(b, `","cat:`...)
	b = strconv.AppendUint(b, uint64(victim.category), 10)
	label := func(when bool, name string) {
		if when {
			b = append(append(b, `","`...), name...)
		}
	}
	label(solo, "solo")
	label(!solo, crowd(len(p.hits)))
	label(players == 0, "npc")
	label(players > 0, "pvp")
	label(awox, "awox")
	label(police, "concord")
	b = append(append(b, `","loc:`...), places[spaceOf(&systems[l.system])]...)
	label(total >= 1e11, richness(total))
	label(victim.capital, "capital")
	if won != 0 {
		label(true, "fw:"+powers[won-500001])
		if own+won == 1000005 { // each of the two wars is between factions whose ids add up to that
			label(true, [...]string{"fw:calgal", "fw:amamin"}[min(own, won)-500001])
		}
	}
	b = append(b, `"],"attackerCount":`...)
	b = strconv.AppendInt(b, int64(len(p.hits)), 10)
	return append(b, `,"demo":true}`...)
}

// hash is the killmail's, by killfeed.KillmailHash's rule; the parser, to which each killmail goes, refuses a wrong one.
func (p *page) hash(b []byte, l *loss, victim *ship, killer int16, died time.Time) []byte {
	var room [80]byte
	text := room[:0]
	character := func(pilot int16) {
		if pilot < 0 {
			text = append(text, "None"...)
		} else {
			text = strconv.AppendUint(text, firstPilot+uint64(pilot), 10)
		}
	}
	character(l.victim.pilot)
	character(killer)
	text = strconv.AppendUint(text, uint64(victim.hull), 10)
	text = strconv.AppendInt(text, (died.Unix()+11644473600)*1e7, 10)
	sum := sha1.Sum(text)
	return hex.AppendEncode(b, sum[:])
}

// appendISK writes hundredths of an ISK the way PHP does: 10000, 10000.5, 10000.25.
func appendISK(b []byte, hundredths int64) []byte {
	b = strconv.AppendInt(b, hundredths/100, 10)
	if rest := hundredths % 100; rest != 0 {
		b = append(b, '.', '0'+byte(rest/10))
		if rest%10 != 0 {
			b = append(b, '0'+byte(rest%10))
		}
	}
	return b
}

// points are zKillboard's, or near: more for what could have fought back, fewer for many attackers and for large ones.
func (p *page) points(s *story, victim *ship, players int) int {
	if players == 0 {
		return 1
	}
	base := math.Pow(5, float64(victim.size))
	danger := float64(victim.danger)
	points := (base + danger) * max(0.01, min(1, danger/4))
	points /= max(1, float64(players)*max(1, float64(players)/2))
	size := 0.0
	for i := range p.hits {
		if p.hits[i].corp >= 0 {
			size += math.Pow(5, float64(s.ships[p.hits[i].ship].size))
		}
	}
	points *= min(1.2, max(0.5, base/max(1, size/float64(players))))
	return max(1, int(points))
}

// prime is the time zone that an hour of the day belongs to, for zKillboard.
func prime(t time.Time) string {
	switch h := t.UTC().Hour(); {
	case h < 4, h >= 22:
		return "use"
	case h < 8:
		return "usw"
	case h < 14:
		return "au"
	case h < 17:
		return "ru"
	}
	return "eu"
}

// crowd is the label for a number of attackers.
func crowd(n int) string {
	switch {
	case n < 2:
		return "#:1"
	case n < 5:
		return "#:2+"
	case n < 10:
		return "#:5+"
	case n < 25:
		return "#:10+"
	case n < 50:
		return "#:25+"
	case n < 100:
		return "#:50+"
	case n < 1000:
		return "#:100+"
	}
	return "#:1000+"
}

// richness is the label for a value of a billion ISK or more, given in hundredths.
func richness(total int64) string {
	switch billions := total / 1e11; {
	case billions < 5:
		return "isk:1b+"
	case billions < 10:
		return "isk:5b+"
	case billions < 100:
		return "isk:10b+"
	case billions < 1000:
		return "isk:100b+"
	}
	return "isk:1t+"
}

// places are the labels of kinds of space.
var places = [spaces]string{
	high: "highsec", low: "lowsec", null: "nullsec", wormhole: "w-space", abyss: "abyssal", pochven: "nullsec",
}

// powers are the four factions at war, in the order of their ids.
var powers = [...]string{"caldari", "minmatar", "amarr", "gallente"}
