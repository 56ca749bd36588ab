package storetest

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"

	"killfeed"
)

// Mail describes a killmail to be made up. The JSON has the shape, the member order and the number texts of ESI's killmails,
// with zKillboard's part behind; the hash in it is valid.
//
// Killmail derives id, topics and digest by this package's own reading of the rules, not by package killfeed's parser, so
// that each can be checked against the other.
type Mail struct {
	// ID is the killmail id; 0 leaves it out.
	ID int64
	// System is the solar system.
	System uint32
	// Time is the killmail's own time, whole seconds UTC; zero leaves it out.
	Time time.Time
	// Victim and Attackers take part. A zero number is left out, as in real killmails of structures and NPCs.
	Victim    Party
	Attackers []Party
	// Items is the number of items that the victim carried, about 70 bytes each. Seed varies them.
	Items int
	Seed  uint64
	// WarID is left out when 0.
	WarID uint32
	// NoHash leaves the hash out of zkb. (It is zkb that carries it: ESI's body does not.)
	NoHash bool
	// ZKB adds what zKillboard says beside the hash; Labels are in it and imply it.
	ZKB    bool
	Labels []string
}

// Party is one who took part in a killmail. Zero ids are left out.
type Party struct {
	Character, Corporation, Alliance, Faction, Ship uint32
	// Damage was done by an attacker, or taken by the victim.
	Damage uint32
	// FinalBlow is for attackers.
	FinalBlow bool
}

// Killmail makes the killmail.
func (m *Mail) Killmail() *killfeed.Killmail {
	k := &killfeed.Killmail{
		ID: m.ID, SystemID: m.System, Time: m.Time, JSON: m.AppendJSON(make([]byte, 0, m.sizeHint())),
		Topics: m.Topics(), Digest: m.digest(),
	}
	if !m.NoHash {
		k.Hash = m.Hash()
	}
	return k
}

// sizeHint is a little more than the size of the JSON, so that it is allocated once.
func (m *Mail) sizeHint() int { return 900 + 190*len(m.Attackers) + 75*m.Items + 24*len(m.Labels) }

// Hash is the killmail's hash: SHA-1, in hex, of the decimal texts, joined with nothing between, of the victim's character id
// (or None), the final blow's character id (or None), the victim's ship, and the time as FILETIME.
func (m *Mail) Hash() string {
	var b []byte
	character := func(id uint32) {
		if id == 0 {
			b = append(b, "None"...)
			return
		}
		b = strconv.AppendUint(b, uint64(id), 10)
	}
	character(m.Victim.Character)
	final := uint32(0)
	for _, a := range m.Attackers {
		if a.FinalBlow {
			final = a.Character
			break
		}
	}
	character(final)
	b = strconv.AppendUint(b, uint64(m.Victim.Ship), 10)
	b = strconv.AppendInt(b, (m.Time.Unix()+11_644_473_600)*10_000_000, 10)
	sum := sha1.Sum(b)
	return hex.EncodeToString(sum[:])
}

// Topics are the topics that the killmail is stored under: its system, who and what was lost and who and what killed, its
// labels. Each is there once. Readers find it on more: on All, and on those of who took part without a role.
func (m *Mail) Topics() []killfeed.Topic {
	topics := make([]killfeed.Topic, 0, 6+5*len(m.Attackers)+len(m.Labels))
	topics = append(topics, killfeed.System(m.System))
	topics = m.Victim.appendTopics(topics, killfeed.RoleLoss)
	for i := range m.Attackers {
		topics = m.Attackers[i].appendTopics(topics, killfeed.RoleKill)
	}
	for _, l := range m.Labels {
		if len(l) > 0 && len(l) <= killfeed.MaxLabel {
			topics = append(topics, killfeed.Label(l))
		}
	}
	slices.SortFunc(topics, func(a, b killfeed.Topic) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), strings.Compare(a.Label, b.Label))
	})
	return slices.Compact(topics)
}

func (p *Party) appendTopics(dst []killfeed.Topic, role killfeed.TopicKind) []killfeed.Topic {
	for i, id := range [...]uint32{p.Character, p.Corporation, p.Alliance, p.Faction, p.Ship} {
		if id != 0 {
			dst = append(dst, killfeed.Topic{Kind: killfeed.KindCharacter + killfeed.TopicKind(i) | role, ID: id})
		}
	}
	return dst
}

// castagnoli is the polynomial of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digest is killfeed.Digest as its comment draws it.
func (m *Mail) digest() killfeed.Digest {
	var d killfeed.Digest
	if !m.NoHash {
		d |= 1 << 63
	}
	if m.ZKB || len(m.Labels) > 0 {
		d |= 1 << 62
	}
	if len(m.Labels) > 0 {
		labels := slices.Compact(slices.Sorted(slices.Values(m.Labels)))
		d |= 1<<61 | killfeed.Digest(crc32.Checksum([]byte(strings.Join(labels, "\x00")), castagnoli))
	}
	return d
}

// AppendJSON appends the canonical JSON: ESI's members at top level, in ESI's order, and zkb when there is anything in it.
func (m *Mail) AppendJSON(dst []byte) []byte {
	dst = m.appendESI(dst)
	zkb := m.ZKB || len(m.Labels) > 0
	if m.NoHash && !zkb {
		return dst
	}
	dst = append(dst[:len(dst)-1], `,"zkb":{`...)
	if zkb {
		dst = number(dst, `"locationID":`, 40_000_000+m.Seed%500_000)
	}
	if !m.NoHash {
		if zkb {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, `"hash":"`...), m.Hash()...), '"')
	}
	if zkb {
		value := 100_000 + m.Seed%1_000_000_000
		dst = append(number(dst, `,"fittedValue":`, value), ".25"...)
		dst = append(number(dst, `,"droppedValue":`, value/3), ".5"...)
		dst = append(number(dst, `,"destroyedValue":`, value-value/3), ".01"...)
		dst = append(number(dst, `,"totalValue":`, value), ".51"...)
		dst = number(dst, `,"points":`, 1+m.Seed%40)
		dst = append(dst, `,"npc":false,"solo":`...)
		dst = strconv.AppendBool(dst, len(m.Attackers) == 1)
		dst = append(dst, `,"awox":false,"labels":[`...)
		for i, l := range m.Labels {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = quote(dst, l)
		}
		dst = number(dst, `],"attackerCount":`, uint64(len(m.Attackers)))
	}
	return append(dst, "}}"...)
}

// appendESI appends the body as ESI gives it.
func (m *Mail) appendESI(dst []byte) []byte {
	dst = append(dst, `{"attackers":[`...)
	for i := range m.Attackers {
		a := &m.Attackers[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		dst = optional(dst, `"alliance_id":`, a.Alliance)
		dst = optional(dst, `"character_id":`, a.Character)
		dst = optional(dst, `"corporation_id":`, a.Corporation)
		dst = number(dst, `"damage_done":`, uint64(a.Damage))
		dst = append(dst, ',')
		dst = optional(dst, `"faction_id":`, a.Faction)
		dst = append(dst, `"final_blow":`...)
		dst = strconv.AppendBool(dst, a.FinalBlow)
		dst = append(dst, `,"security_status":`...)
		dst = strconv.AppendInt(dst, int64(a.Character%16)-10, 10)
		dst = append(dst, `.3,`...)
		dst = optional(dst, `"ship_type_id":`, a.Ship)
		dst = number(dst, `"weapon_type_id":`, 2000+uint64(a.Damage%3000))
		dst = append(dst, '}')
	}
	dst = append(dst, `],`...)
	if m.ID != 0 {
		dst = append(dst, `"killmail_id":`...)
		dst = append(strconv.AppendInt(dst, m.ID, 10), ',')
	}
	if !m.Time.IsZero() {
		dst = append(dst, `"killmail_time":"`...)
		dst = append(m.Time.UTC().AppendFormat(dst, time.RFC3339), `",`...)
	}
	dst = number(dst, `"solar_system_id":`, uint64(m.System))
	dst = append(dst, `,"victim":{`...)
	dst = optional(dst, `"alliance_id":`, m.Victim.Alliance)
	dst = optional(dst, `"character_id":`, m.Victim.Character)
	dst = optional(dst, `"corporation_id":`, m.Victim.Corporation)
	dst = number(dst, `"damage_taken":`, uint64(m.Victim.Damage))
	dst = append(dst, ',')
	dst = optional(dst, `"faction_id":`, m.Victim.Faction)
	dst = append(dst, `"items":[`...)
	n := m.Seed
	for i := range m.Items {
		if i > 0 {
			dst = append(dst, ',')
		}
		n = n*6_364_136_223_846_793_005 + 1_442_695_040_888_963_407 // so that items differ and hardly compress
		dst = number(dst, `{"flag":`, 5+n>>60*6)
		dst = number(dst, `,"item_type_id":`, 200+n>>40%50_000)
		if n>>33&1 == 0 {
			dst = append(dst, `,"quantity_destroyed":`...)
		} else {
			dst = append(dst, `,"quantity_dropped":`...)
		}
		dst = strconv.AppendUint(dst, 1+n>>50%200, 10)
		dst = append(dst, `,"singleton":0}`...)
	}
	dst = append(dst, `],"position":{"x":-`...)
	dst = number(dst, "", 1_000_000_000+n%400_000_000_000)
	dst = number(dst, `.39795,"y":`, 1_000_000+n>>20%90_000_000_000)
	dst = number(dst, `.577148,"z":-`, 1_000_000_000+n>>10%400_000_000_000)
	dst = number(dst, `.5885},"ship_type_id":`, uint64(m.Victim.Ship))
	dst = append(dst, '}')
	if m.WarID != 0 {
		dst = number(dst, `,"war_id":`, uint64(m.WarID))
	}
	return append(dst, '}')
}

func number(dst []byte, name string, n uint64) []byte {
	return strconv.AppendUint(append(dst, name...), n, 10)
}

// optional appends a member and a comma unless id is 0.
func optional(dst []byte, name string, id uint32) []byte {
	if id == 0 {
		return dst
	}
	return append(number(dst, name, uint64(id)), ',')
}

// quote appends a JSON string.
func quote(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x80 {
			text, _ := json.Marshal(s) // never fails for a string
			return append(dst, text...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
