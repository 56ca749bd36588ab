package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"killfeed"
)

// TestFields: what stays is the killmail's own text, in its own order.
func TestFields(t *testing.T) {
	const mail = `{"attackers":[{"character_id":1,"x":{"y":[1,2]}},{"ship_type_id":2},7,[{"character_id":3}]],` +
		`"killmail_id":17,"n":1.50e3,"victim":{"character_id":9,"items":[{"items":[{"flag":5,"k":1}]}]},"zkb":{"hash":"a,b}\"","npc":false},` +
		`"esc\u0061ped":null,"zkb":1,"empty":[]}`
	for _, c := range []struct{ fields, want string }{
		{"killmail_id", `{"killmail_id":17}`},
		{"n,killmail_id", `{"killmail_id":17,"n":1.50e3}`},
		{" n , killmail_id ", `{"killmail_id":17,"n":1.50e3}`},
		{"zkb.hash", `{"zkb":{"hash":"a,b}\""}}`},
		{"zkb", `{"zkb":{"hash":"a,b}\"","npc":false},"zkb":1}`},
		{"zkb.hash,zkb", `{"zkb":{"hash":"a,b}\"","npc":false},"zkb":1}`},
		{"zkb,zkb.hash", `{"zkb":{"hash":"a,b}\"","npc":false},"zkb":1}`},
		{"zkb.none", `{"zkb":{}}`},
		{"attackers.character_id", `{"attackers":[{"character_id":1},{},[{"character_id":3}]]}`},
		{"attackers.x.y", `{"attackers":[{"x":{"y":[1,2]}},{},[{}]]}`},
		{"attackers.x.y.z", `{"attackers":[{"x":{"y":[]}},{},[{}]]}`},
		{"victim.items.items.flag", `{"victim":{"items":[{"items":[{"flag":5}]}]}}`},
		{"escaped", `{"esc\u0061ped":null}`},
		{"killmail_id.x", `{}`},
		{"none,nor.this", `{}`},
		{"empty.x", `{"empty":[]}`},
	} {
		f, err := parseFields(c.fields)
		if err != nil {
			t.Errorf("%s: %v", c.fields, err)
			continue
		}
		if got := string(f.appendTo([]byte("x"), []byte(mail))); got != "x"+c.want {
			t.Errorf("%s: %s, want %s", c.fields, got[1:], c.want)
		}
	}
	same := ""
	for _, text := range []string{"a.b,c", "c,a.b", "c, a.b ,c", "a.b,a.b,c"} {
		f, err := parseFields(text)
		if err != nil || same != "" && f.text != same {
			t.Errorf("%q is known as %q (%v), want %q", text, f.text, err, same)
		}
		same = f.text
	}
}

// naiveFields is what fields show, by encoding/json.
func naiveFields(v any, paths [][]string) (any, bool) {
	switch v := v.(type) {
	case map[string]any:
		shown := map[string]any{}
		for name, value := range v {
			var below [][]string
			whole := false
			for _, p := range paths {
				if p[0] == name {
					whole = whole || len(p) == 1
					below = append(below, p[1:])
				}
			}
			if whole {
				shown[name] = value
			} else if part, ok := naiveFields(value, below); ok && len(below) > 0 {
				shown[name] = part
			}
		}
		return shown, true
	case []any:
		shown := []any{}
		for _, value := range v {
			if part, ok := naiveFields(value, paths); ok {
				shown = append(shown, part)
			}
		}
		return shown, true
	}
	return nil, false
}

// anyJSON draws a JSON value of few names, so that paths meet them.
func anyJSON(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		if depth == 0 {
			kind %= 4
		}
		switch kind {
		case 0:
			return nil
		case 1:
			return rapid.Float64Range(-1e9, 1e9).Draw(t, "number")
		case 2:
			return rapid.SampledFrom([]string{"", "a", `"`, `\`, "},]", "é\u2028", "\n"}).Draw(t, "text")
		case 3:
			return rapid.Bool().Draw(t, "bool")
		case 4:
			return rapid.SliceOfN(anyJSON(depth-1), 0, 4).Draw(t, "array")
		}
		return anyObject(depth-1).Draw(t, "object")
	})
}

var fieldNames = []string{"a", "b", "c", "d\"", "é"}

func anyObject(depth int) *rapid.Generator[any] {
	return rapid.Map(rapid.MapOfN(rapid.SampledFrom(fieldNames), anyJSON(depth), 0, 4), func(m map[string]any) any { return m })
}

// TestFieldsAreThoseOfJSON: projections are those that encoding/json would make, of any object and any paths.
func TestFieldsAreThoseOfJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyObject(4).Draw(t, "killmail")
		paths := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom(fieldNames), 1, 4), 1, 5).Draw(t, "paths")
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, p := range paths {
			all = append(all, strings.Join(p, "."))
		}
		f, err := parseFields(strings.Join(all, ","))
		if err != nil {
			t.Fatal(err)
		}
		shown := f.appendTo(nil, text)
		var got any
		if err := json.Unmarshal(shown, &got); err != nil {
			t.Fatalf("%s of %s: %v in %s", all, text, err, shown)
		}
		var whole any
		if err := json.Unmarshal(text, &whole); err != nil {
			t.Fatal(err)
		}
		want, _ := naiveFields(whole, paths)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s of %s (-want +got):\n%s", all, text, diff)
		}
		if again := f.appendTo(nil, shown); !bytes.Equal(again, shown) {
			t.Fatalf("%s of %s is %s, and of that %s", all, text, shown, again)
		}
	})
}

// FuzzFields: any text is a projection that works, and whose canonical text is itself, or a refusal that can be shown.
func FuzzFields(f *testing.F) {
	for _, seed := range []string{"a", "a.b", "a,b.c", "", ",", ".", "a.", "a. b", "\x00", "a,a.b", strings.Repeat("a,", 70), strings.Repeat("a.", 9) + "a", "é", "\xff"} {
		f.Add(seed, `{"a":{"b":[{"c":1},2]},"b":{"c":""}}`)
	}
	f.Fuzz(func(t *testing.T, text, killmail string) {
		fields, err := parseFields(text)
		var bad *killfeed.InvalidError
		if err != nil {
			if !errors.As(err, &bad) || bad.Param != "fields" {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := parseFields(fields.text)
		if err != nil || again.text != fields.text {
			t.Errorf("%q: %q becomes %v (%v)", text, fields.text, again, err)
		}
		var compact bytes.Buffer
		if !strings.HasPrefix(killmail, "{") || json.Compact(&compact, []byte(killmail)) != nil {
			return
		}
		if shown := fields.appendTo(nil, compact.Bytes()); !json.Valid(shown) {
			t.Errorf("%q of %s is %s", text, &compact, shown)
		}
	})
}

// TestMentioned: ids are found wherever they are, and only where they are.
func TestMentioned(t *testing.T) {
	m := &mentioned{}
	m.read([]byte(`{"victim":{"character_id":5,"ship_type_id":587,"items":[{"item_type_id":34,"items":[{"item_type_id":35}]}]},` +
		`"attackers":[{"character_id":5,"weapon_type_id":587},{"character_id":4,"corporation_id":98},{"alliance_id":0},{"faction_id":500001}],` +
		`"label":"character_id","x\"character_id":7,"text":"\"character_id\":8","character_id":9999999999,"character_id":12.5,"character_id":1e3,` +
		`"corporation_id":"99","alliance_id":-3,"alliance_id":null,"moon_id":40000001}`))
	want := [][]uint32{nil, {4, 5}, {98}, nil, {500001}, {34, 35, 587}}
	for of, ids := range m.ids {
		if !slices.Equal(ids, want[of]) {
			t.Errorf("category %d: %v, want %v", of, ids, want[of])
		}
	}
}

// TestShelves: live readers of one shape share its texts, a shape that nobody reads is forgotten, and there are not more than may be.
func TestShelves(t *testing.T) {
	parse := func(text string) *fields {
		f, err := parseFields(text)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a := &API{}
	a.shelves.api, a.shelves.plain = a, newShelf(a, shape{}, shelfSlots)
	e := &killfeed.Event{ID: 7, SystemID: 1, Killmail: []byte(`{"a":1,"b":2}`)}
	one, other := a.shelves.take(shape{fields: parse("a,b.c")}), a.shelves.take(shape{fields: parse("b.c,a")})
	if one != other || &one.text(e)[0] != &other.text(e)[0] {
		t.Error("the same fields in another order are encoded twice")
	}
	if plain := a.shelves.take(shape{}); plain == one || plain != a.shelves.plain {
		t.Error("the plain shape has another shelf than its own")
	}
	a.shelves.give(one)
	if a.shelves.take(shape{fields: parse("a,b.c")}) != other {
		t.Error("a shelf is forgotten that somebody reads")
	}
	a.shelves.give(other)
	a.shelves.give(other)
	if n := len(a.shelves.open); n != 0 {
		t.Errorf("%d shelves are kept for nobody", n)
	}
	var taken []*shelf
	for i := range maxShelves + 3 {
		taken = append(taken, a.shelves.take(shape{fields: parse(strings.Repeat("x", i+1))}))
	}
	if n := len(a.shelves.open); n != maxShelves {
		t.Errorf("%d shelves, want at most %d", n, maxShelves)
	}
	last := taken[len(taken)-1]
	if first := last.text(e); &first[0] == &last.text(e)[0] || !bytes.Equal(first, last.text(e)) {
		t.Error("beyond the bound an event is kept")
	}
	for _, s := range taken {
		a.shelves.give(s)
	}
	if n := len(a.shelves.open); n != 0 {
		t.Errorf("%d shelves are kept for nobody", n)
	}
}

// TestCompiledFilters: a text is compiled once for each static data, and not more of them are kept than may be.
func TestCompiledFilters(t *testing.T) {
	var f filters
	compile := func(text string, u *killfeed.Universe) *killfeed.Filter {
		filter, err := f.compile(text, u)
		if err != nil {
			t.Fatal(err)
		}
		return filter
	}
	first := compile("isk>1b", nil)
	if compile("isk>1b", nil) != first {
		t.Error("a filter is compiled again")
	}
	u, err := killfeed.NewUniverse(killfeed.UniverseData{Regions: []killfeed.Region{{ID: 10000060, Name: "Delve"}}})
	if err != nil {
		t.Fatal(err)
	}
	if compile("isk>1b", u) == first || len(f.byText) != 1 {
		t.Error("a filter is kept from other static data")
	}
	compile("region=Delve", u)
	if _, err := f.compile("region=Delve", nil); err == nil {
		t.Error("without static data there is a region")
	}
	for i := range 2 * keptFilters {
		compile("isk>"+strings.Repeat("1", i%9+1)+";killmail_id="+strings.Repeat("2", i/9%18+1), u)
	}
	if n := len(f.byText); n > keptFilters {
		t.Errorf("%d filters are kept, want at most %d", n, keptFilters)
	}
	long := "killmail_id=1" + strings.Repeat("|1", 1000) + strings.Repeat(" ", maxKeptFilter)
	if compile(long, u); f.byText[long] != nil {
		t.Error("a long filter is kept")
	}
	if _, err := (*filters)(nil).compile("isk>1", nil); err != nil {
		t.Error(err)
	}
}
