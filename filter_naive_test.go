package killfeed_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"killfeed"
)

// The language once more, as its description reads, without a thought of speed: what filters are compared with.

// naiveFilter is a rule, or a list.
type naiveFilter struct {
	not  bool
	join string // ";", "," or, of a rule, nothing
	list []*naiveFilter

	key, op string
	values  []string // names are not resolved
}

// naiveMail is a killmail decoded.
type naiveMail struct {
	system uint32
	root   naiveObject // with killID
}

type naiveObject []naiveMember

type naiveMember struct {
	name  string
	value any // naiveObject, []any, json.Number, string, bool, nil
}

func decodeNaive(t testing.TB, system uint32, text []byte) *naiveMail {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	root, ok := naiveValue(t, d).(naiveObject)
	if !ok {
		t.Fatalf("%s is no object", text)
	}
	for _, m := range slices.Clone(root) {
		if m.name == "killmail_id" {
			root = append(root, naiveMember{"killID", m.value})
		}
	}
	return &naiveMail{system, root}
}

func naiveValue(t testing.TB, d *json.Decoder) any {
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	switch token {
	case json.Delim('{'):
		o := naiveObject{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			o = append(o, naiveMember{name.(string), naiveValue(t, d)})
		}
		d.Token()
		return o
	case json.Delim('['):
		a := []any{}
		for d.More() {
			a = append(a, naiveValue(t, d))
		}
		d.Token()
		return a
	}
	return token
}

// last is the value of the last member of the name, nil when there is none.
func (o naiveObject) last(name string) (v any) {
	for _, m := range o {
		if m.name == name {
			v = m.value
		}
	}
	return v
}

// named are the scalars that are values of members of the name, at any depth of v.
func named(v any, name string) (found []any) {
	switch v := v.(type) {
	case naiveObject:
		for _, m := range v {
			if m.name == name {
				found = append(found, scalars(m.value)...)
			}
			found = append(found, named(m.value, name)...)
		}
	case []any:
		for _, e := range v {
			found = append(found, named(e, name)...)
		}
	}
	return found
}

func scalars(v any) []any {
	switch v := v.(type) {
	case naiveObject:
		return nil
	case []any:
		var all []any
		for _, e := range v {
			all = append(all, scalars(e)...)
		}
		return all
	}
	return []any{v}
}

func scalarText(v any) string {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	}
	return "null"
}

var (
	numberForm = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
	iskForm    = regexp.MustCompile(`^(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)([kKmMbBtT])$`)
)

// moneyKeys look at numbers alone.
var moneyKeys = []string{"isk", "value", "totalValue", "fittedValue", "droppedValue", "destroyedValue"}

func looksNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil && numberForm.MatchString(s) && len(s) <= 32
}

// compareNaive compares two texts as they look.
func compareNaive(a, b string) int {
	if !looksNumber(a) || !looksNumber(b) {
		return strings.Compare(a, b)
	}
	x, _ := strconv.ParseFloat(a, 64)
	y, _ := strconv.ParseFloat(b, 64)
	i, errI := strconv.ParseInt(a, 10, 64)
	j, errJ := strconv.ParseInt(b, 10, 64)
	if errI == nil && errJ == nil {
		return cmp.Compare(i, j)
	}
	return cmp.Compare(x, y)
}

func (f *naiveFilter) match(m *naiveMail, d *killfeed.UniverseData) bool {
	result := false
	switch f.join {
	case "":
		result = f.rule(m, d)
	case ";":
		result = !slices.ContainsFunc(f.list, func(part *naiveFilter) bool { return !part.match(m, d) })
	case ",":
		result = slices.ContainsFunc(f.list, func(part *naiveFilter) bool { return part.match(m, d) })
	}
	return result != f.not
}

func (f *naiveFilter) rule(m *naiveMail, d *killfeed.UniverseData) bool {
	var any bool
	for _, found := range f.look(m, d) {
		for _, v := range f.values {
			v = f.resolve(v, d)
			if f.bare() == "label" || f.bare() == "labels" {
				any = any || found == v
				continue
			}
			if money := slices.Contains(moneyKeys, f.key); money && !looksNumber(found) {
				continue
			}
			sign := compareNaive(found, v)
			switch f.op {
			case "=", "!=":
				any = any || sign == 0
			case "<":
				any = any || sign < 0
			case "<=":
				any = any || sign <= 0
			case ">":
				any = any || sign > 0
			case ">=":
				any = any || sign >= 0
			}
		}
	}
	return any != (f.op == "!=")
}

// bare is the key without what stands before the point.
func (f *naiveFilter) bare() string { return f.key[strings.IndexByte(f.key, '.')+1:] }

// look returns all that the rule looks at, as text.
func (f *naiveFilter) look(m *naiveMail, d *killfeed.UniverseData) (found []string) {
	who := func(member string) {
		ids := func(v any) {
			if o, ok := v.(naiveObject); ok {
				if n, ok := o.last(member).(json.Number); ok {
					if id, err := strconv.ParseUint(n.String(), 10, 31); err == nil && id > 0 {
						found = append(found, n.String())
					}
				}
			}
		}
		victims, attackers, finals := true, true, false
		if prefix, _, ok := strings.Cut(f.key, "."); ok {
			victims, attackers, finals = prefix == "victim" || prefix == "loss", prefix != "victim" && prefix != "loss", prefix == "final"
		}
		if victims {
			ids(m.root.last("victim"))
		}
		list, _ := m.root.last("attackers").([]any)
		for _, a := range list {
			if o, ok := a.(naiveObject); ok && attackers && (!finals || o.last("final_blow") == true) {
				ids(a)
			}
		}
	}
	systems := slices.IndexFunc(d.Systems, func(s killfeed.SolarSystem) bool { return s.ID == m.system })
	switch key := f.bare(); key {
	case "character", "corporation", "alliance", "faction":
		who(key + "_id")
	case "character_id", "corporation_id", "alliance_id", "faction_id", "ship_type_id":
		who(key)
	case "ship":
		who("ship_type_id")
	case "group":
		who("ship_type_id")
		var groups []string
		for _, ship := range found {
			for _, t := range d.Types {
				if strconv.Itoa(int(t.ID)) == ship {
					groups = append(groups, strconv.Itoa(int(t.Group)))
				}
			}
		}
		found = groups
	case "system", "solar_system_id":
		found = append(found, strconv.Itoa(int(m.system)))
	case "constellation":
		if systems >= 0 {
			found = append(found, strconv.Itoa(int(d.Systems[systems].Constellation)))
		}
	case "region":
		if systems >= 0 {
			found = append(found, strconv.Itoa(int(d.Systems[systems].Region)))
		}
	case "space":
		if systems >= 0 {
			found = append(found, d.Systems[systems].Space().String())
		}
	case "label", "labels":
		if zkb, ok := m.root.last("zkb").(naiveObject); ok {
			list, _ := zkb.last("labels").([]any)
			for _, v := range list {
				if label, ok := v.(string); ok {
					found = append(found, label)
				}
			}
		}
	case "attackers":
		list, _ := m.root.last("attackers").([]any)
		found = append(found, strconv.Itoa(len(list)))
	default:
		key = map[string]string{"isk": "totalValue", "value": "totalValue", "weapon": "weapon_type_id", "item": "item_type_id"}[key]
		if key == "" {
			key = f.bare()
		}
		for _, v := range named(m.root, key) {
			found = append(found, scalarText(v))
		}
	}
	return found
}

// resolve is what the value means: an id for a name, a number for 1.5b.
func (f *naiveFilter) resolve(v string, d *killfeed.UniverseData) string {
	var id uint32
	switch f.bare() {
	case "system", "solar_system_id":
		for _, s := range d.Systems {
			if strings.EqualFold(s.Name, v) {
				id = s.ID
			}
		}
	case "constellation":
		for _, c := range d.Constellations {
			if strings.EqualFold(c.Name, v) {
				id = c.ID
			}
		}
	case "region":
		for _, r := range d.Regions {
			if strings.EqualFold(r.Name, v) {
				id = r.ID
			}
		}
	case "ship", "ship_type_id", "weapon", "item":
		for _, t := range d.Types {
			if strings.EqualFold(t.Name, v) {
				id = t.ID
			}
		}
	case "group":
		for _, g := range d.Groups {
			if strings.EqualFold(g.Name, v) {
				id = g.ID
			}
		}
	case moneyKeys[0], moneyKeys[1], moneyKeys[2], moneyKeys[3], moneyKeys[4], moneyKeys[5]:
		if m := iskForm.FindStringSubmatch(v); m != nil {
			zeros := map[string]string{"k": "000", "m": "000000", "b": "000000000", "t": "000000000000"}[strings.ToLower(m[2])]
			x, _ := new(big.Rat).SetString(m[1])
			factor, _ := new(big.Rat).SetString("1" + zeros)
			n, _ := x.Mul(x, factor).Float64()
			return strconv.FormatFloat(n, 'e', -1, 64)
		}
	case "npc", "solo", "awox", "final_blow":
		if word := map[string]string{"1": "true", "yes": "true", "0": "false", "no": "false"}[v]; word != "" {
			return word
		}
	}
	if id != 0 {
		return strconv.Itoa(int(id))
	}
	return v
}
