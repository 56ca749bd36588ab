package killfeed

import (
	"bytes"
	"slices"
)

// parser reads a killmail and its envelopes. First everything is scanned, and what may be of use is noted; what it means is
// told afterwards, because the shape may show only at the end.
type parser struct {
	scanner
	// top is the item. pack is the package in it. body is the killmail that one of the two wraps.
	top, pack, body object
}

// object is what is noted of a JSON object that may be a killmail or an envelope. Of members given twice the last counts, as
// in encoding/json.
type object struct {
	at span
	// The values of members; none when they are not there.
	killmailID, killID, systemID, solarSystemID, time, hash, killmailHash span
	zkb                                                                   zkb

	victim participant
	// attackers are the ids of all attackers, each with its kind in the upper half.
	attackers []uint64
	// finalBlows counts the attackers with final_blow; killer is the character of the last of them, as participant has it.
	finalBlows int
	killer     int64

	// wraps are the names of wrappers that are members; inner is the value of the last one.
	wraps wrapper
	inner span
	// drop are members that are not canonical, with their names, without commas.
	drop []span
}

// zkb is what is noted of a zkb object.
type zkb struct {
	// at is the value, member the whole member.
	at, member span
	// hash and labels are values of members.
	hash, labels span
	// more: there are members beside hash.
	more bool
}

// participant is a victim or an attacker.
type participant struct {
	// ids are of the kinds KindCharacter to KindShip: 0 where there is none, -1 for what is no id. EVE-KILL writes 0 for
	// none, ESI leaves it out.
	ids       [KindShip - KindCharacter + 1]int64
	finalBlow bool
}

type wrapper uint8

const (
	wrapKillmail wrapper = 1 << iota
	wrapESI
	wrapPackage
)

var wrapperNames = [...]string{wrapKillmail: "killmail", wrapESI: "esi", wrapPackage: "package"}

// read scans data, an object, into o.
func (p *parser) read(o *object, data []byte) error {
	p.load(data)
	p.space()
	if p.buf[p.pos] != '{' {
		p.skip()
	} else {
		p.object(o)
	}
	if !p.finish() {
		return p.err("killmail", data)
	}
	if o.at.none() {
		return invalid("killmail", p.show(span{0, p.end}), "a JSON object")
	}
	return nil
}

// object scans the object at pos into o.
func (p *parser) object(o *object) {
	from := p.at()
	p.open()
	for n := 0; p.member(n); n++ {
		member := p.keyAt
		switch string(p.name()) {
		case "killmail_id":
			o.killmailID = p.value()
		case "killID":
			o.killID = p.value()
		case "solar_system_id":
			o.solarSystemID = p.value()
		case "system_id":
			o.systemID = p.value()
		case "killmail_time":
			o.time = p.value()
		case "hash":
			o.hash = p.value()
		case "killmail_hash":
			o.killmailHash = p.value()
			o.drop = append(o.drop, span{member, p.at()})
		case "http_last_modified":
			p.skip()
			o.drop = append(o.drop, span{member, p.at()})
		case "zkb":
			if !o.zkb.at.none() {
				o.drop = append(o.drop, o.zkb.member) // nobody shall take the first for the one that was looked at
			}
			o.zkb = p.zkb()
			o.zkb.member = span{member, p.at()}
		case "victim":
			o.victim = p.participant()
		case "attackers":
			p.attackers(o)
		case "killmail":
			p.inner(o, wrapKillmail)
		case "esi":
			p.inner(o, wrapESI)
		case "package":
			p.inner(o, wrapPackage)
		default:
			p.skip()
		}
	}
	o.at = span{from, p.at()}
}

// inner scans a member of o that may wrap the killmail.
func (p *parser) inner(o *object, w wrapper) {
	child := &p.body
	if w == wrapPackage {
		child = &p.pack
	}
	if o == &p.body || o == child {
		p.skip() // a member of the killmail itself that happens to have such a name
		return
	}
	o.wraps |= w
	p.space()
	if p.buf[p.pos] != '{' {
		o.inner = p.value()
		return
	}
	*child = object{}
	p.object(child)
	o.inner = child.at
}

func (p *parser) zkb() (z zkb) {
	p.space()
	from := p.at()
	if p.buf[p.pos] != '{' {
		z.at = p.value()
		return z
	}
	p.open()
	for n := 0; p.member(n); n++ {
		switch string(p.name()) {
		case "hash":
			z.hash = p.value()
		case "labels":
			z.labels = p.value()
			z.more = true
		default:
			p.skip()
			z.more = true
		}
	}
	z.at = span{from, p.at()}
	return z
}

// attackers scans the attackers of o. Anything but an array of objects has no topics: a killmail may be any object.
func (p *parser) attackers(o *object) {
	o.attackers, o.finalBlows, o.killer = o.attackers[:0], 0, 0
	p.space()
	if p.buf[p.pos] != '[' {
		p.skip()
		return
	}
	o.attackers = slices.Grow(o.attackers, 32) // half of all killmails have one or two attackers, of five ids each
	p.open()
	for n := 0; p.element(n); n++ {
		a := p.participant()
		o.attackers = a.appendTo(o.attackers)
		if a.finalBlow {
			o.finalBlows++
			o.killer = a.ids[0]
		}
	}
}

func (p *parser) participant() (x participant) {
	p.space()
	if p.buf[p.pos] != '{' {
		p.skip()
		return x
	}
	p.open()
	for n := 0; p.member(n); n++ {
		switch string(p.name()) {
		case "character_id":
			x.ids[0] = p.id()
		case "corporation_id":
			x.ids[KindCorporation-KindCharacter] = p.id()
		case "alliance_id":
			x.ids[KindAlliance-KindCharacter] = p.id()
		case "faction_id":
			x.ids[KindFaction-KindCharacter] = p.id()
		case "ship_type_id":
			x.ids[KindShip-KindCharacter] = p.id()
		case "final_blow":
			x.finalBlow = string(p.scalar()) == "true"
		default:
			p.skip()
		}
	}
	return x
}

// id reads an id of a participant: 0 when it is null, -1 when it is no integer from 0 on.
func (p *parser) id() int64 {
	text := p.scalar()
	if n, ok := integer(text); ok {
		return n
	}
	if string(text) == "null" {
		return 0
	}
	return -1
}

// appendTo appends the ids of x that are topics.
func (x *participant) appendTo(ids []uint64) []uint64 {
	for i, id := range x.ids {
		if id >= 1 && id <= MaxID {
			ids = append(ids, uint64(KindCharacter+TopicKind(i))<<32|uint64(id))
		}
	}
	return ids
}

// assemble is the canonical text: body without what is to be dropped, with outer, when it is not nil, as its zkb, and with
// hash, when it is not empty and zkb has none, in zkb.
func (p *parser) assemble(body *object, outer *zkb, hash string) []byte {
	z := &body.zkb
	if outer != nil {
		z = outer
	}
	hashed := hash == "" || !p.absent(z.hash)
	if hashed && outer == nil && len(body.drop) == 0 {
		text := p.text(body.at)
		if len(p.buf) > 2*len(text)+1024 {
			text = bytes.Clone(text) // a killmail may be kept for long: it must not hold a large envelope in memory
		}
		return text
	}

	out := make([]byte, 0, body.at.to-body.at.from+(z.at.to-z.at.from)+len(`,"zkb":{"hash":""}`)+len(hash))
	out = append(out, '{')
	next := func() {
		if len(out) > 1 {
			out = append(out, ',')
		}
	}
	copyZKB := func() {
		switch {
		case hashed:
			out = append(out, p.text(z.at)...)
		case !z.hash.none(): // null
			out = append(out, p.text(span{z.at.from, z.hash.from})...)
			out = append(append(append(out, '"'), hash...), '"')
			out = append(out, p.text(span{z.hash.to, z.at.to})...)
		default:
			out = append(out, p.text(span{z.at.from, z.at.to - 1})...)
			if out[len(out)-1] != '{' {
				out = append(out, ',')
			}
			out = append(append(append(out, `"hash":"`...), hash...), `"}`...)
		}
	}
	// What stays is what lies between the dropped members, each piece freed of the commas around it.
	slices.SortFunc(body.drop, func(a, b span) int { return a.from - b.from })
	from := body.at.from + 1
	for i := range len(body.drop) + 1 {
		to, resume := body.at.to-1, 0
		if i < len(body.drop) {
			to, resume = body.drop[i].from, body.drop[i].to
		}
		if to > from && p.buf[to-1] == ',' {
			to--
		}
		if to > from && p.buf[from] == ',' {
			from++
		}
		if to > from {
			next()
			if outer == nil && from <= z.at.from && z.at.from < to {
				out = append(out, p.text(span{from, z.at.from})...)
				copyZKB()
				from = z.at.to
			}
			out = append(out, p.text(span{from, to})...)
		}
		from = resume
	}
	switch {
	case outer != nil:
		next()
		out = append(out, `"zkb":`...)
		copyZKB()
	case z.at.none() && hash != "":
		next()
		out = append(append(append(out, `"zkb":{"hash":"`...), hash...), `"}`...)
	}
	return append(out, '}')
}

// isObject tells whether v is an object.
func (p *parser) isObject(v span) bool { return !v.none() && p.buf[v.from] == '{' }

// absent tells whether v is null or not there at all.
func (p *parser) absent(v span) bool { return v.none() || p.buf[v.from] == 'n' }

// str is the content of v, a string.
func (p *parser) str(v span) (text []byte, ok bool) {
	if v.none() || p.buf[v.from] != '"' {
		return nil, false
	}
	text = p.text(span{v.from + 1, v.to - 1})
	if bytes.IndexByte(text, '\\') >= 0 {
		text = unescape(text)
	}
	return text, true
}

// integer is the value of v, 1 to limit, or 0 when it is absent.
func (p *parser) integer(v span, param string, limit int64, want string) (int64, error) {
	if p.absent(v) {
		return 0, nil
	}
	n, ok := integer(p.text(v))
	if !ok || n < 1 || n > limit {
		return 0, invalid(param, p.show(v), want)
	}
	return n, nil
}

// show is the beginning of v, for an error.
func (p *parser) show(v span) string { return string(p.text(span{v.from, min(v.to, v.from+80)})) }

// integer reads plain decimal digits, 0 to 2^63-1.
func integer(text []byte) (n int64, ok bool) {
	if len(text) == 0 || len(text) > 19 { // 19 digits always fit into 64 bits without a sign
		return 0, false
	}
	var u uint64
	for _, c := range text {
		if c -= '0'; c > 9 {
			return 0, false
		}
		u = u*10 + uint64(c)
	}
	return int64(u), u <= 1<<63-1
}
