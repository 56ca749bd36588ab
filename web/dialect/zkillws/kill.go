package zkillws

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"killfeed"
)

// kill is a killmail as all connections share it: what it is on, and its messages.
type kill struct {
	id       killfeed.EventID
	universe *killfeed.Universe // that it was made with

	once sync.Once // for the next three
	// channels are those that it is on, ascending, but for killstream and those of its value.
	channels []string
	value    float64
	// little is the message littlekill up to the channel's name.
	little []byte

	streamed sync.Once
	stream   []byte // the message of killstream, without its last brace
}

const (
	// shelfSlots is how many killmails are kept as connections share them: some minutes of a busy evening.
	shelfSlots = 128
	// maxShelved bounds each of them. What is larger is made for each reader.
	maxShelved = 64 << 10
	// maxLabels bounds the labels of a killmail that are looked at.
	maxLabels = 256
)

// shelf keeps the newest killmails. It may forget any of them at any time: an event has one slot, and who finds another one
// there takes its place.
type shelf [shelfSlots]atomic.Pointer[kill]

// take returns the event as a kill, which take may have given to others.
func (s *shelf) take(e *killfeed.Event, u *killfeed.Universe) *kill {
	if len(e.Killmail) > maxShelved {
		return (&kill{id: e.ID, universe: u}).read(e)
	}
	slot := &s[e.ID%shelfSlots]
	for {
		at := slot.Load()
		if at == nil || at.id != e.ID || at.universe != u {
			mine := &kill{id: e.ID, universe: u}
			if !slot.CompareAndSwap(at, mine) {
				continue
			}
			at = mine
		}
		return at.read(e)
	}
}

// party is the victim or an attacker. What is no number reads as 0, which is none.
type party struct {
	Character   int64 `json:"character_id"`
	Corporation int64 `json:"corporation_id"`
	Alliance    int64 `json:"alliance_id"`
	Faction     int64 `json:"faction_id"`
	Ship        int64 `json:"ship_type_id"`
}

// read finds out what the killmail is on.
func (k *kill) read(e *killfeed.Event) *kill {
	k.once.Do(func() {
		var mail struct {
			Victim    party   `json:"victim"`
			Attackers []party `json:"attackers"`
			ZKB       struct {
				Location int64    `json:"locationID"`
				Value    float64  `json:"totalValue"`
				Hash     string   `json:"hash"`
				Labels   []string `json:"labels"`
			} `json:"zkb"`
		}
		// Any object may be a killmail here. Where a member is of another type than it should be the others are read all the same.
		_ = json.Unmarshal(e.Killmail, &mail)
		k.value = mail.ZKB.Value
		group := k.group(mail.Victim.Ship)
		k.little = appendLittle(nil, e, &mail.Victim, group, hashOf(mail.ZKB.Hash, e))

		on := newCollector()
		on.add("system", int64(e.SystemID))
		if s, ok := k.universe.System(e.SystemID); ok {
			on.add("constellation", int64(s.Constellation))
			on.add("region", int64(s.Region))
		}
		on.add("location", mail.ZKB.Location)
		k.take(on, &mail.Victim)
		for i := range mail.Attackers {
			k.take(on, &mail.Attackers[i])
		}
		for _, label := range mail.ZKB.Labels[:min(len(mail.ZKB.Labels), maxLabels)] {
			on.name("label:" + label)
		}
		for _, name := range []string{"all:*", "none:*", "label:all"} {
			on.name(name)
		}
		k.channels = on.sorted()
	})
	return k
}

// take adds the channels of one who took part.
func (k *kill) take(on *collector, p *party) {
	on.add("character", p.Character)
	on.add("corporation", p.Corporation)
	on.add("alliance", p.Alliance)
	on.add("faction", p.Faction)
	on.add("ship", p.Ship)
	if group := k.group(p.Ship); group > 0 || p.Ship == 0 {
		on.add("group", group)
	}
}

// group is that of a ship, 0 when it is not known.
func (k *kill) group(ship int64) int64 {
	if ship < 1 || ship > killfeed.MaxID {
		return 0
	}
	t, _ := k.universe.Type(uint32(ship))
	return int64(t.Group)
}

// collector collects channels, each once: a thousand attackers are of a few alliances.
type collector struct {
	seen map[key]struct{}
	all  []string
}

// key is a channel with a number, as it is compared before its name is made.
type key struct {
	kind string
	id   int64
}

func newCollector() *collector { return &collector{seen: map[key]struct{}{}} }

func (c *collector) add(kind string, id int64) {
	if _, double := c.seen[key{kind, id}]; !double {
		c.seen[key{kind, id}] = struct{}{}
		c.name(kind + ":" + strconv.FormatInt(id, 10))
	}
}

func (c *collector) name(name string) { c.all = append(c.all, name) }

func (c *collector) sorted() []string {
	slices.Sort(c.all)
	return slices.Clip(slices.Compact(c.all))
}

// hashOf is the hash that is given, or can be computed; empty when neither.
func hashOf(given string, e *killfeed.Event) string {
	if given != "" {
		return given
	}
	hash, _ := killfeed.KillmailHash(e.Killmail) // one without is told without
	return hash
}

// appendLittle appends the message littlekill up to the channel's name.
func appendLittle(b []byte, e *killfeed.Event, victim *party, group int64, hash string) []byte {
	b = strconv.AppendInt(append(b, `{"action":"littlekill","killID":`...), e.KillmailID, 10)
	if hash != "" {
		b = appendText(append(b, `,"hash":`...), hash)
	}
	b = strconv.AppendInt(append(b, `,"character_id":`...), victim.Character, 10)
	b = strconv.AppendInt(append(b, `,"corporation_id":`...), victim.Corporation, 10)
	b = strconv.AppendInt(append(b, `,"alliance_id":`...), victim.Alliance, 10)
	b = strconv.AppendInt(append(b, `,"ship_type_id":`...), victim.Ship, 10)
	b = strconv.AppendInt(append(b, `,"group_id":`...), group, 10)
	b = appendURL(append(b, `,"url":`...), e.KillmailID)
	return append(b, `,"channel":`...)
}

// appendURL appends zKillboard's page of the killmail, as JSON.
func appendURL(b []byte, id int64) []byte {
	b = append(b, `"https://zkillboard.com/kill/`...)
	return append(strconv.AppendInt(b, id, 10), `/"`...)
}

// appendText appends a string as JSON.
func appendText(b []byte, s string) []byte {
	text, _ := json.Marshal(s) // never fails for strings
	return append(b, text...)
}

// streamOf makes the message of killstream, without its last brace, when the first asks for it: the killmail as it is kept, and in
// its zkb what this dialect has there.
func (k *kill) streamOf(e *killfeed.Event) {
	k.streamed.Do(func() { k.stream = appendStream(make([]byte, 0, len(e.Killmail)+256), e) })
}

func appendStream(b []byte, e *killfeed.Event) []byte {
	mail := e.Killmail
	end, zkb := findZKB(mail)
	var known map[string]json.RawMessage
	if json.Unmarshal(zkb, &known) != nil || known == nil {
		end = 0 // there is none, or it is no object
	}
	var given string
	_ = json.Unmarshal(known["hash"], &given) // what is no text is none
	hash := hashOf(given, e)
	if end > 0 {
		b = append(b, mail[:end-1]...)
	} else {
		b = append(b, mail[:len(mail)-1]...)
		b = append(append(comma(b), `"zkb":`...), '{')
	}
	add := func(name string, value func([]byte) []byte) {
		if _, there := known[name]; !there {
			b = value(append(append(append(comma(b), '"'), name...), `":`...))
		}
	}
	if hash != "" {
		add("hash", func(b []byte) []byte { return appendText(b, hash) })
		add("esi", func(b []byte) []byte {
			b = strconv.AppendInt(append(b, `"https://esi.evetech.net/latest/killmails/`...), e.KillmailID, 10)
			return append(append(append(b, '/'), hash...), `/"`...)
		})
	}
	add("url", func(b []byte) []byte { return appendURL(b, e.KillmailID) })
	b = append(b, '}')
	if end > 0 {
		b = append(b, mail[end:len(mail)-1]...)
	}
	return b
}

// comma appends a comma where a member stands before.
func comma(b []byte) []byte {
	if len(b) > 0 && b[len(b)-1] != '{' {
		return append(b, ',')
	}
	return b
}

// findZKB finds the killmail's member zkb, and where it ends; 0 when there is none.
func findZKB(mail []byte) (end int, zkb []byte) {
	dec := json.NewDecoder(bytes.NewReader(mail))
	if _, err := dec.Token(); err != nil {
		return 0, nil
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return 0, nil
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return 0, nil
		}
		if name == "zkb" {
			end, zkb = int(dec.InputOffset()), value
		}
	}
	return end, zkb
}
