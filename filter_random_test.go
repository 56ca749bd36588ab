package killfeed_test

import (
	"fmt"
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"killfeed"
)

// chooser draws a number from 0 to n-1.
type chooser func(n int) int

func (c chooser) one(of ...string) string { return of[c(len(of))] }

func drawn(t *rapid.T) chooser {
	return func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
}

// pool is what random filters are made of: keys, and for each the values that killmails have.
type pool struct {
	keys   []string
	values map[string][]string
}

func (p *pool) add(key, value string) {
	if p.values == nil {
		p.values = map[string][]string{}
	}
	if p.values[key] == nil {
		p.keys = append(p.keys, key)
	}
	p.values[key] = append(p.values[key], value)
}

// addMail adds all that there is in a killmail.
func (p *pool) addMail(m *naiveMail) {
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case naiveObject:
			for _, member := range v {
				for _, x := range scalars(member.value) {
					p.add(member.name, scalarText(x))
				}
				walk(member.value)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(m.root)
}

// idKeys are the keys that take ids, with the members that have them.
var idKeys = map[string]string{
	"character": "character_id", "corporation": "corporation_id", "alliance": "alliance_id", "faction": "faction_id", "ship": "ship_type_id",
	"character_id": "character_id", "corporation_id": "corporation_id", "alliance_id": "alliance_id", "faction_id": "faction_id",
	"ship_type_id": "ship_type_id", "system": "solar_system_id", "solar_system_id": "solar_system_id", "weapon": "weapon_type_id", "item": "item_type_id",
}

// rule makes a rule that often matches a killmail that went into the pool.
func (p *pool) rule(c chooser) *naiveFilter {
	f := &naiveFilter{op: c.one("=", "=", "=", "=", "!=", "<", "<=", ">", ">=")}
	var value func() string
	from := func(member string) string {
		if v := p.values[member]; len(v) > 0 {
			return v[c(len(v))]
		}
		return strconv.Itoa(c(1000))
	}
	equal := func() { f.op = c.one("=", "=", "!=") }
	what := c(10)
	if what < 4 && c(2) == 0 {
		f.op = "="
	}
	switch what {
	case 0, 1, 2: // who and what
		f.key = c.one("character", "corporation_id", "alliance", "alliance_id", "faction", "ship", "ship_type_id", "ship", "group")
		value = func() string {
			id := from(idKeys[f.key])
			if n, err := strconv.ParseUint(id, 10, 31); err != nil || n == 0 {
				id = "1"
			}
			if f.key == "ship" && f.op == "=" && c(4) == 0 {
				id = c.one("Rifter", "CAPSULE", "drake", "Astrahus")
			}
			return id
		}
		if f.key == "group" {
			equal()
			value = func() string {
				return c.one("Frigate", "25", "29", "capsule", "Cruiser", "Citadel", "419", "Destroyer")
			}
		}
		bare := f.key
		f.key = c.one("", "", "victim.", "loss.", "attacker.", "kill.", "final.") + bare
		if f.op != "=" && f.op != "!=" {
			value = func() string { return from(idKeys[bare]) }
		}
	case 3: // where
		f.key = c.one("system", "solar_system_id", "constellation", "region", "space")
		switch f.key {
		case "constellation":
			equal()
			value = func() string { return c.one("Kimotoro", "20000322", "Krai Svarog", "isoma") }
		case "region":
			equal()
			value = func() string { return c.one("The Forge", "10000043", "delve", "Sinq Laison") }
		case "space":
			equal()
			value = func() string { return c.one("high", "low", "null", "wormhole", "pochven", "abyssal") }
		default:
			value = func() string {
				id := from("solar_system_id")
				if n, err := strconv.ParseUint(id, 10, 31); err != nil || n == 0 {
					id = "30000142"
				}
				if f.op == "=" && c(4) == 0 {
					id = c.one("Jita", "amarr", "J100001")
				}
				return id
			}
		}
	case 4:
		f.key = c.one("label", "labels")
		equal()
		value = func() string { return from("labels") }
	case 5:
		f.key = "attackers"
		value = func() string { return c.one("0", "1", "2", "3", "5", "1e1", "2.5", "50") }
	case 6:
		f.key = c.one("isk", "value", "totalValue", "fittedValue", "droppedValue", "destroyedValue")
		value = func() string {
			if v := from("totalValue"); c(2) == 0 && looksNumber(v) {
				return v
			}
			return c.one("1k", "10m", "0.5b", "1.5B", "250M", "1t", "0", "123456.5", "-1k")
		}
	case 7:
		f.key = c.one("npc", "solo", "awox", "final_blow")
		equal()
		value = func() string { return c.one("true", "false", "1", "0", "yes", "no") }
	default:
		for i := 0; f.key == "" && i < 20; i++ {
			if k := p.keys[c(len(p.keys))]; plainKey(k) {
				f.key = k
			}
		}
		if f.key == "" {
			f.key = "war_id"
		}
		value = func() string {
			v := from(f.key)
			switch c(8) {
			case 0:
				v = from(p.keys[c(len(p.keys))])
			case 1:
				v += c.one(".0", "e0", "0", "x", " ")
			case 2:
				v = v[:len(v)/2]
			}
			if typed := f.key == "weapon_type_id" || f.key == "item_type_id"; typed && !looksNumber(v) {
				v = "587" // what is no number is the name of a type there
			}
			return strings.ToValidUTF8(v, "")
		}
	}
	n := 1
	if f.op == "=" || f.op == "!=" {
		n += c(4) * c(2)
	}
	for range n {
		v := value()
		if f.op != "=" && f.op != "!=" && idKeys[f.bare()] != "" && !looksNumber(v) {
			v = "95000000"
		}
		f.values = append(f.values, v)
	}
	return f
}

// plainKey tells whether a member's name means that member, and nothing of the language's own.
func plainKey(key string) bool {
	switch key {
	case "character_id", "corporation_id", "alliance_id", "faction_id", "ship_type_id", "solar_system_id", "system_id", "labels",
		"attackers", "totalValue", "fittedValue", "droppedValue", "destroyedValue", "npc", "solo", "awox", "final_blow", "value", "label":
		return false
	}
	return key != "" && strings.TrimSpace(key) == key && !strings.ContainsAny(key, `=!<>()"|;,.`)
}

// found makes a filter that the index can answer for, mostly, one way or another.
func (p *pool) found(c chooser) *naiveFilter {
	f := &naiveFilter{join: c.one(";", ",", ",")}
	for range 1 + c(3) {
		r := p.rule(c)
		for i := 0; i < 10 && !(r.op == "=" && (idKeys[r.bare()] != "" || r.bare() == "group" || strings.HasPrefix(r.bare(), "label"))); i++ {
			r = p.rule(c)
		}
		if r.op == "=" && c(4) == 0 {
			r = &naiveFilter{not: true, list: []*naiveFilter{r}, join: ";"}
			r.list[0].op = "!="
		}
		f.list = append(f.list, r)
	}
	if c(2) == 0 {
		return &naiveFilter{join: ";", list: []*naiveFilter{f, p.filter(c, 1)}}
	}
	return f
}

// filter makes a filter.
func (p *pool) filter(c chooser, depth int) *naiveFilter {
	var f *naiveFilter
	if depth == 0 || c(3) == 0 {
		f = p.rule(c)
	} else {
		f = &naiveFilter{join: c.one(";", ",")}
		for range 1 + c(3) {
			f.list = append(f.list, p.filter(c, depth-1))
		}
	}
	f.not = c(6) == 0
	return f
}

// write writes the filter in one of the ways in which it can be written.
func (f *naiveFilter) write(b *strings.Builder, c chooser, inside bool) {
	space := func() { b.WriteString(c.one("", "", "", " ")) }
	parentheses := f.not || f.join != "" && inside || c(10) == 0
	if f.not {
		b.WriteByte('!')
		space()
	}
	if parentheses {
		b.WriteByte('(')
	}
	space()
	for i, part := range f.list {
		if i > 0 {
			b.WriteString(f.join)
		}
		before := len(b.String())
		if i > 0 && f.join == "," && f.list[i-1].continues(part) && !strings.HasSuffix(b.String()[:before-1], ")") {
			part.writeValues(b, c)
			continue
		}
		part.write(b, c, true)
	}
	if f.join == "" {
		b.WriteString(f.key)
		space()
		b.WriteString(f.op)
		f.writeValues(b, c)
	}
	space()
	if parentheses {
		b.WriteByte(')')
	}
}

// continues tells whether next may be written without key and operator behind f.
func (f *naiveFilter) continues(next *naiveFilter) bool {
	return f.join == "" && next.join == "" && !f.not && !next.not && f.op == "=" && next.op == "=" && f.key == next.key
}

func (f *naiveFilter) writeValues(b *strings.Builder, c chooser) {
	for i, v := range f.values {
		if i > 0 {
			b.WriteByte('|')
		}
		b.WriteString(c.one("", " "))
		if v == "" || c(8) == 0 || strings.TrimSpace(v) != v || strings.ContainsAny(v, `=!<>()"|;,`) {
			v = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
		}
		b.WriteString(v)
	}
}

// oddText is a JSON text of a value such as no killmail has, but any object that is inserted may have.
func oddText(c chooser, depth int) string {
	if depth > 0 {
		switch c(4) {
		case 0:
			var b strings.Builder
			for i := range c(4) {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(oddText(c, depth-1))
			}
			return "[" + b.String() + "]"
		case 1:
			return oddObject(c, depth-1, "")
		}
	}
	return c.one(
		"null", "true", "false", "0", "1", "-1", "1.0", "1e0", "1E+2", "100", "0.5", "-0", "-0.0", "587", "670", "30000142", "90000001", "2147483647",
		"2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "9223372036854775806.0", "1e400", "-250.25",
		"12345678901234567890123456789012345", `""`, `"1"`, `"1.0"`, `"true"`, `"null"`, `"solo"`, `"a,b"`, `"a\/b"`, `"\u0061"`,
		`"\ud83d\ude00"`, `"\ud83d"`, `"\ud83d\u0041"`, `"\udc00x"`, `"q\"q\\"`, `" x "`, `"\b\f\n\r\t"`, `"ä€"`, `"0123456789012345678901234567890123456789"`,
	)
}

func oddObject(c chooser, depth int, members string) string {
	var b strings.Builder
	b.WriteString("{" + members)
	for i := range c(6) {
		if i > 0 || members != "" {
			b.WriteByte(',')
		}
		b.WriteString(c.one(
			`"victim"`, `"attackers"`, `"character_id"`, `"corporation_id"`, `"alliance_id"`, `"faction_id"`, `"ship_type_id"`, `"final_blow"`,
			`"labels"`, `"totalValue"`, `"npc"`, `"damage_done"`, `"items"`, `"flag"`, `"odd"`, `"x"`, `"od\u0064"`, `"ship_type\u005fid"`, `"q\"q"`,
			`"solo"`, `"killID"`, `"item_type_id"`, `"weapon_type_id"`, `"ä"`, `""`, `"points"`, `"war_id"`,
		))
		b.WriteByte(':')
		b.WriteString(oddText(c, depth))
	}
	return b.String() + "}"
}

// oddKillmail makes a killmail out of what a killmail has, put together wrongly.
func oddKillmail(t rapid.TB, c chooser) *killfeed.Killmail {
	system := []uint32{30000142, 30002187, 30002718, 31000007, 30003504, 32000001, 1}[c(7)]
	members := c.one(`"killmail_id":7`, `"killmail_time":"2026-01-31T12:34:56Z"`, fmt.Sprintf(`"solar_system_id":%d`, system))
	if c(2) == 0 {
		members += `,"victim":` + oddObject(c, 2, "")
	}
	if c(2) == 0 {
		members += `,"attackers":[` + oddObject(c, 2, `"final_blow":true`) + `,` + oddText(c, 2) + `]`
	}
	if c(2) == 0 {
		members += `,"zkb":` + oddObject(c, 2, `"labels":["solo",`+oddText(c, 2)+`]`)
	}
	text := oddObject(c, 3, members)
	k, err := killfeed.NewKillmail(system, []byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return k
}
