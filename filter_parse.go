package killfeed

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// filterSpecial are the bytes that a value without quotes cannot have.
const filterSpecial = `=!<>()"|;,`

// filterParser reads a filter from front to back.
type filterParser struct {
	text   string
	pos    int
	u      *Universe
	values int // so far
	depth  int // open parentheses
}

func badFilter(value, want string) *InvalidError { return invalid("filter", value, want) }

func parseFilter(text string, u *Universe) (node, error) {
	switch {
	case len(text) > MaxFilter:
		return node{}, badFilter(text, "at most "+strconv.Itoa(MaxFilter)+" bytes")
	case !utf8.ValidString(text):
		return node{}, badFilter(strings.ToValidUTF8(text, "\uFFFD"), "valid UTF-8")
	case strings.TrimSpace(text) == "":
		return node{}, badFilter("", "a rule such as isk>=1b or region=The Forge, or several joined by ; or by ,")
	}
	p := filterParser{text: text, u: u}
	n, err := p.list()
	if err == nil && p.pos < len(text) {
		err = badFilter(p.rest(), "a ( before each ), and a value that has one in double quotes")
	}
	if err != nil {
		return node{}, err
	}
	n.sort()
	return n, nil
}

// list reads rules and lists in parentheses, joined, up to the end or a closing parenthesis.
func (p *filterParser) list() (node, error) {
	var (
		parts []node
		join  byte
		last  *rule // the rule read last, when values of its may follow
	)
	for {
		p.space()
		from := p.pos
		n, again, err := p.one(join, last)
		if err != nil {
			return node{}, err
		}
		last = nil
		if n.join == 0 && !n.not && n.rule.op == opEqual && p.text[from] != '(' && p.text[from] != '!' {
			last = n.rule
		}
		if !again {
			parts = append(parts, n)
		}
		p.space()
		c := p.peek()
		if c == 0 || c == ')' {
			break
		}
		if c != ';' && c != ',' {
			return node{}, badFilter(p.rest(), "; or , or nothing more behind "+strconv.Quote(p.text[from:p.pos]))
		}
		if join != 0 && c != join {
			return node{}, badFilter(p.text, "either ; (AND) or , (OR) between rules; to use both put parentheses around some of them, "+
				"as in isk>1b;(system=30000142,system=30002187), or | between values, as in system=30000142|30002187")
		}
		join = c
		p.pos++
	}
	return joined(join, parts), nil
}

// joined makes a node of the parts of a list. What is a list of the same kind becomes part of it, and in an OR list rules about the
// same thing, wherever they stand, become one at the place of the first that has the values of all.
func joined(join byte, parts []node) node {
	if len(parts) == 1 {
		return parts[0]
	}
	n := node{join: join}
	at := map[ruleSubject]int{} // in n.list
	for _, part := range parts {
		more := []node{part}
		if part.join == join && !part.not {
			more = part.list
		}
		for _, m := range more {
			if join == ',' && m.join == 0 && !m.not && m.rule.op == opEqual {
				about := ruleSubject{m.rule.role, m.rule.key}
				if i, known := at[about]; known {
					n.list[i].rule.add(m.rule)
					continue
				}
				at[about] = len(n.list)
			}
			n.list = append(n.list, m)
		}
	}
	if len(n.list) == 1 {
		return n.list[0]
	}
	return n
}

// ruleSubject is what a rule is about.
type ruleSubject struct {
	role filterRole
	key  string
}

// add gives r the values of another rule about the same thing.
func (r *rule) add(other *rule) {
	r.ids = append(r.ids, other.ids...)
	r.values.all = append(r.values.all, other.values.all...)
}

// sort makes the values of all rules ready to be looked for.
func (n *node) sort() {
	for i := range n.list {
		n.list[i].sort()
	}
	if r := n.rule; r != nil {
		slices.Sort(r.ids)
		r.ids = slices.Compact(r.ids)
		r.values.sort()
	}
}

// one reads a rule or a list in parentheses. In an OR list it may also find values for the last rule: then it puts them there and
// returns that rule again.
func (p *filterParser) one(join byte, last *rule) (n node, again bool, err error) {
	from := p.pos
	switch c := p.peek(); c {
	case '(':
		n, err = p.group()
		return n, false, err
	case '!':
		p.pos++
		if p.space(); p.peek() != '(' {
			return n, false, badFilter(p.text[from:], "!( before what must not be, with a ) behind it, or != in a rule")
		}
		if n, err = p.group(); err != nil {
			return n, false, err
		}
		n.not = !n.not
		return n, false, nil
	case 0, ';', ',', ')', '|':
		return n, false, badFilter(p.rest(), "a rule, such as isk>=1b, before and behind each ; , and |, and in parentheses")
	}
	for p.pos < len(p.text) && strings.IndexByte(filterSpecial, p.text[p.pos]) < 0 {
		p.pos++
	}
	key := strings.TrimSpace(p.text[from:p.pos])
	op, not, ok := p.op()
	if !ok {
		if join == ',' && last != nil {
			p.pos = from
			return node{rule: last}, true, p.operands(last, last.role.written()+last.key)
		}
		want := "a key, an operator (= != < <= > >=) and a value, such as isk>=1b"
		if join == ',' {
			want += "; only behind a rule with = a part may be a value alone: none of several values is key!=a|b"
		}
		for p.pos < len(p.text) && strings.IndexByte(";,)", p.text[p.pos]) < 0 {
			p.pos++
		}
		return n, false, badFilter(p.text[from:p.pos], want)
	}
	if key == "" {
		return n, false, badFilter(p.text[from:], "a key before the operator, such as in isk>=1b")
	}
	r, err := subjectOf(key)
	if err != nil {
		return n, false, err
	}
	r.op = op
	if op != opEqual && !r.ordered() {
		return n, false, badFilter(p.text[from:p.pos], key+" with = or !=")
	}
	if r.needsUniverse() && p.u == nil {
		return n, false, badFilter(key, "another key: "+key+
			" needs static data, which this server does not have (killfeed sde update gets it)")
	}
	if err := p.operands(r, key); err != nil {
		return n, false, err
	}
	return node{not: not, rule: r}, false, nil
}

// group reads a list in parentheses.
func (p *filterParser) group() (node, error) {
	from := p.pos
	if p.depth++; p.depth > maxFilterDepth {
		return node{}, badFilter(p.rest(), "parentheses at most "+strconv.Itoa(maxFilterDepth)+" deep")
	}
	p.pos++
	n, err := p.list()
	if err != nil {
		return n, err
	}
	if p.peek() != ')' {
		return n, badFilter(p.text[from:], "a ) for each (")
	}
	p.pos++
	p.depth--
	return n, nil
}

// op reads an operator, if there is one.
func (p *filterParser) op() (op filterOp, not, ok bool) {
	for _, o := range [...]struct {
		text string
		op   filterOp
	}{{"!=", opEqual}, {"<=", opAtMost}, {">=", opAtLeast}, {"=", opEqual}, {"<", opLess}, {">", opMore}} {
		if strings.HasPrefix(p.text[p.pos:], o.text) {
			p.pos += len(o.text)
			return o.op, o.text == "!=", true
		}
	}
	return 0, false, false
}

// operands reads the values of r, which is written with the key, and adds them.
func (p *filterParser) operands(r *rule, key string) error {
	for {
		text, err := p.operand(key)
		if err != nil {
			return err
		}
		if p.values++; p.values > maxFilterValues {
			return badFilter(p.text, "at most "+strconv.Itoa(maxFilterValues)+" values")
		}
		if err := p.put(r, key, text); err != nil {
			return err
		}
		if p.space(); p.peek() != '|' {
			return nil
		}
		if r.op != opEqual {
			return badFilter(p.rest(), "one value behind "+key+opNames[r.op])
		}
		p.pos++
	}
}

// operand reads one value.
func (p *filterParser) operand(key string) (string, error) {
	p.space()
	from := p.pos
	if p.peek() == '"' {
		return p.quoted()
	}
	for p.pos < len(p.text) && strings.IndexByte(";,|)", p.text[p.pos]) < 0 {
		if strings.IndexByte(filterSpecial, p.text[p.pos]) >= 0 {
			end := p.pos
			for end < len(p.text) && p.text[end] != ';' && p.text[end] != ',' {
				end++
			}
			want := `a value in double quotes when it has any of ` + filterSpecial + ` in it, as in ` + key + `="…"`
			if strings.IndexByte("=<>!", p.text[p.pos]) >= 0 {
				if p.pos == from { // isk=>1b
					want = "one of the operators = != < <= > >= behind " + key + "; " + want
				} else { // isk>1b and npc=0
					want = "; (AND) or , (OR) between rules; " + want
				}
			}
			return "", badFilter(p.text[from:end], want)
		}
		p.pos++
	}
	text := strings.TrimSpace(p.text[from:p.pos])
	if text == "" {
		return "", badFilter(p.text[:p.pos], `a value behind each operator and each |; an empty text is ""`)
	}
	return text, nil
}

// quoted reads a value in quotes.
func (p *filterParser) quoted() (string, error) {
	from := p.pos
	var text []byte
	for p.pos++; p.pos < len(p.text); p.pos++ {
		c := p.text[p.pos]
		if c == '"' {
			p.pos++
			return string(text), nil
		}
		if c == '\\' {
			if p.pos++; p.pos == len(p.text) || p.text[p.pos] != '"' && p.text[p.pos] != '\\' {
				return "", badFilter(p.text[from:min(p.pos+1, len(p.text))], `in double quotes \" for a quote and \\ for a backslash`)
			}
			c = p.text[p.pos]
		}
		text = append(text, c)
	}
	return "", badFilter(p.text[from:], "a second double quote, where the value ends")
}

// put gives r a value.
func (p *filterParser) put(r *rule, key, text string) error {
	if r.op == opEqual && r.hasIDs() {
		id, err := r.find(text, p.u)
		if err != nil {
			return err
		}
		r.ids = append(r.ids, id)
		return nil
	}
	v := operand{text: text}
	if r.subject != subjectLabel {
		v.num, v.ok = parseNumber([]byte(text))
	}
	switch takes := r.takes; {
	case v.ok && takes != takesBool:
	case takes == takesISK:
		var ok bool
		if v.num, ok = parseISK(text); !ok {
			return badFilter(text, key+" to be a number, perhaps with k, m, b or t behind it: 250m, 1.5b")
		}
		v.ok = true
	case takes == takesNumber, r.hasIDs():
		return badFilter(text, key+opNames[r.op]+" with a number")
	case takes == takesBool:
		switch strings.ToLower(text) {
		case "true", "1", "yes":
			v = operand{text: "true"}
		case "false", "0", "no":
			v = operand{text: "false"}
		default:
			return badFilter(text, key+" to be true or false (1 or 0, yes or no)")
		}
	case takes == takesType:
		id, err := p.u.Find("filter", KindShip, text)
		if err != nil {
			return err
		}
		v = operand{strconv.FormatUint(uint64(id), 10), integral(int64(id)), true}
	}
	r.values.all = append(r.values.all, v)
	r.bound = v
	return nil
}

// find returns the id that is called text.
func (r *rule) find(text string, u *Universe) (uint32, error) {
	if r.subject == subjectSpace {
		space, err := ParseSpace("filter", text)
		return uint32(space), err
	}
	id, err := u.Find("filter", r.kind(), text)
	if bad := (*InvalidError)(nil); errors.As(err, &bad) && r.ordered() {
		if _, ok := parseNumber([]byte(text)); ok {
			bad.Want += "; whether there is any says " + r.role.written() + r.key + ">0"
		}
	}
	return id, err
}

// parseISK reads a number with a suffix.
func parseISK(text string) (number, bool) {
	if text == "" {
		return number{}, false
	}
	end := len(text) - 1
	exponent := ""
	switch text[end] | 0x20 {
	case 'k':
		exponent = "e3"
	case 'm':
		exponent = "e6"
	case 'b':
		exponent = "e9"
	case 't':
		exponent = "e12"
	default:
		return number{}, false
	}
	if strings.ContainsAny(text[:end], "eE") {
		return number{}, false
	}
	return parseNumber([]byte(text[:end] + exponent))
}

// space passes over spaces.
func (p *filterParser) space() {
	for p.pos < len(p.text) && (p.text[p.pos] == ' ' || p.text[p.pos]-'\t' <= '\r'-'\t') {
		p.pos++
	}
}

// peek is the next byte, 0 at the end.
func (p *filterParser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// rest is what has not been read, for an error; or all when that is nothing.
func (p *filterParser) rest() string {
	if p.pos < len(p.text) {
		return p.text[p.pos:]
	}
	return p.text
}
