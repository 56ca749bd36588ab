package killfeed

import (
	"strconv"
	"strings"
	"sync"
)

// MaxFilter is the greatest length of a filter's text, in bytes.
const MaxFilter = 64 << 10

const (
	// maxFilterValues bounds the values of one filter, and so what evaluating it costs.
	maxFilterValues = 2000
	// maxFilterDepth bounds how deep parentheses are nested.
	maxFilterDepth = 16
	// maxFilterTopics bounds the topics of a plan: each is a place to look in the index.
	maxFilterTopics = 1000
)

// Filter is a compiled filter. It never changes and may be used concurrently.
//
// Its language is that of RedisQ, and more:
//
//	filter  = one | one *( ";" one ) | one *( "," one )    ; is AND, "," is OR; both take parentheses
//	one     = rule | "(" filter ")" | "!" "(" filter ")"
//	rule    = key op value *( "|" value )                  one of the values; with "!=" none of them
//	op      = "=" | "!=" | "<" | "<=" | ">" | ">="         the last four take one value
//	value   = text without any of = ! < > ( ) " | ; ,      or in double quotes, with \" and \\ inside
//
// In an OR list a part without an operator goes on with the values of the part before: alliance_id=1,2,3.
//
// A key is the name of a member, which is looked for at any depth of the killmail and its zkb; killID stands for killmail_id
// too. A rule is true if any such member satisfies it. An array counts by its elements, an object by nothing. "!=" is true if
// and only if "=" is not, so it is true where there is no such member; all else is false there. Where both sides look like
// numbers (as JSON writes them, at most 32 characters) numbers are compared, exactly when both are integers of 64 bits; else
// texts, byte by byte, true, false and null being texts. isk and the other values in ISK are compared with numbers alone.
//
// What topics are made of is looked for where topics look for it, so that the index can answer for it: character_id,
// corporation_id, alliance_id, faction_id and ship_type_id are the ids, 1 to 2^31-1, that the victim and the attackers have,
// solar_system_id is the system of the event, and labels are the strings in zkb.labels. A few killmails have more participants
// or labels than are topics (25,005 ids, 256 labels); a reader that the index serves does not find those by what is beyond.
//
// These keys are words of the language's own, and no members: system, constellation, region, space; character, corporation,
// alliance, faction, ship, group; victim., attacker. and final. with one of those six; weapon, item, label, attackers, isk
// and value; system_id, constellation_id, region_id and group_id too.
type Filter struct {
	root node
	text string
	u    *Universe
	plan plan
	// weight is about what the filter takes of memory, in topics that are waited on: see Options.MaxWaiting.
	weight int
	room   sync.Pool // of *leaves, for Match
}

// node is a rule, or a list of nodes joined by ';' or ','.
type node struct {
	not  bool
	join byte  // ';' or ',', 0 of a rule
	rule *rule // of a rule
	list []node
}

// ParseFilter compiles a filter. Names are those that u knows; regions, constellations, groups and kinds of space need u. The error
// is an *InvalidError for the parameter "filter".
func ParseFilter(text string, u *Universe) (*Filter, error) {
	root, err := parseFilter(text, u)
	if err != nil {
		return nil, err
	}
	f := &Filter{root: root, u: u, plan: root.plan(false)}
	f.text, f.weight = string(root.append(nil, false)), root.weight()
	return f, nil
}

// weight is the Filter's, of a part of it.
func (n *node) weight() int {
	if n.rule != nil {
		const ofRule = 8
		return ofRule + len(n.rule.ids) + len(n.rule.values.all)
	}
	sum := 0
	for i := range n.list {
		sum += n.list[i].weight()
	}
	return sum
}

// load is the weight of a filter, or of none.
func (f *Filter) load() int {
	if f == nil {
		return 0
	}
	return f.weight
}

// String is a text that parses to an equal filter, if it is not longer than MaxFilter: names are replaced by ids, keys by the
// shortest of their spellings, and spaces and parentheses that mean nothing are left out. Filters with the same text are equal when
// they were made with the same static data.
func (f *Filter) String() string { return f.text }

// Match tells whether the event passes. It looks at the killmail and the system alone. Where systems lie, and which groups types
// belong to, is asked of the static data that the filter was made with; the reads of a Feed ask the feed's of the moment.
func (f *Filter) Match(e *Event) bool {
	l, ok := f.room.Get().(*leaves)
	if !ok {
		l = new(leaves)
	}
	l.read(e)
	matches, _ := f.matchLeaves(l, f.u)
	l.forget()
	f.room.Put(l)
	return matches
}

// topics returns a plan for the index: when ok, every event that matches is on one of the topics, which are of any kinds that
// Universe.expand takes. The caller must not change them.
func (f *Filter) topics() (topics []Topic, ok bool) { return f.plan.topics, f.plan.ok }

// append appends the node as it is written; inside tells whether it is part of a list.
func (n *node) append(dst []byte, inside bool) []byte {
	if n.join == 0 {
		if n.not && n.rule.op != opEqual {
			return append(n.rule.append(append(dst, "!("...), false), ')')
		}
		return n.rule.append(dst, n.not)
	}
	if n.not {
		dst = append(dst, '!')
	}
	if n.not || inside {
		dst = append(dst, '(')
	}
	for i := range n.list {
		if i > 0 {
			dst = append(dst, n.join)
		}
		dst = n.list[i].append(dst, true)
	}
	if n.not || inside {
		dst = append(dst, ')')
	}
	return dst
}

// append appends the rule as it is written.
func (r *rule) append(dst []byte, not bool) []byte {
	dst = append(append(dst, r.role.written()...), r.key...)
	if not {
		dst = append(dst, '!')
	}
	dst = append(dst, opNames[r.op]...)
	n := 0
	bar := func() {
		if n++; n > 1 {
			dst = append(dst, '|')
		}
	}
	for _, id := range r.ids {
		bar()
		if r.subject == subjectSpace {
			dst = append(dst, Space(id).String()...)
		} else {
			dst = strconv.AppendUint(dst, uint64(id), 10)
		}
	}
	for i := range r.values.all {
		bar()
		dst = appendFilterValue(dst, r.values.all[i].text)
	}
	return dst
}

// appendFilterValue appends a value, in quotes where they are needed.
func appendFilterValue(dst []byte, text string) []byte {
	if text != "" && !strings.ContainsAny(text, filterSpecial) && strings.TrimSpace(text) == text {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for i := range len(text) {
		if c := text[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, text[i])
	}
	return append(dst, '"')
}
