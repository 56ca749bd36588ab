package names

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadNames(t *testing.T) {
	ids := []uint32{587, 95_465_499, 30_000_142, 60_003_760}
	for _, test := range []struct {
		name, body string
		want       map[uint32]Entry
		wrong      int
		bad        bool
	}{
		{"as documented", `[{"category":"character","id":95465499,"name":"CCP Bartender"},{"category":"solar_system","id":30000142,"name":"Jita"}]`,
			map[uint32]Entry{95_465_499: {Category: Character, Name: "CCP Bartender"}, 30_000_142: {Category: System, Name: "Jita"}}, 0, false},
		{"more members", `[{"x":[1],"name":"Rifter","id":587,"category":"inventory_type"}]`, map[uint32]Entry{587: {Category: Type, Name: "Rifter"}}, 0, false},
		{"a category of no interest", `[{"category":"station","id":60003760,"name":"Jita IV"}]`, map[uint32]Entry{60_003_760: {}}, 0, false},
		{"none", `[]`, map[uint32]Entry{}, 0, false},
		{"not asked for", `[{"category":"character","id":1,"name":"x"},{"category":"character","id":-587,"name":"x"},{"name":"x"}]`, map[uint32]Entry{}, 3, false},
		{"twice", `[{"category":"inventory_type","id":587,"name":"a"},{"category":"inventory_type","id":587,"name":"b"}]`,
			map[uint32]Entry{587: {Category: Type, Name: "a"}}, 1, false},
		{"cannot be shown", `[{"category":"inventory_type","id":587,"name":"a\u0007"},{"category":"character","id":95465499,"name":""},
			{"category":"solar_system","id":30000142,"name":"` + strings.Repeat("x", 201) + `"}]`,
			map[uint32]Entry{587: {}, 95_465_499: {}, 30_000_142: {}}, 3, false},
		{"long, but not too long", `[{"category":"inventory_type","id":587,"name":"` + strings.Repeat("ж", 100) + `"}]`,
			map[uint32]Entry{587: {Category: Type, Name: strings.Repeat("ж", 100)}}, 0, false},
		{"null", `null`, nil, 0, true},
		{"an object", `{"error":"x"}`, nil, 0, true},
		{"cut", `[{"category":"inventory_type"`, nil, 0, true},
		{"a fraction", `[{"category":"inventory_type","id":587.5,"name":"a"}]`, map[uint32]Entry{}, 1, false},
		{"another type", `[{"category":"inventory_type","id":587,"name":7}]`, nil, 0, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, wrong, err := readNames([]byte(test.body), ids)
			if diff := cmp.Diff(test.want, got); diff != "" || wrong != test.wrong || (err != nil) != test.bad {
				t.Errorf("%d wrong, %v\n%s", wrong, err, diff)
			}
		})
	}
}

func TestReadDetails(t *testing.T) {
	for _, test := range []struct {
		category   Category
		body, want string
	}{
		{Corporation, `{"name":"x","ticker":"-10.0","ceo_id":1}`, "-10.0 0 0 0"},
		{Alliance, `{"ticker":"BNI"}`, "BNI 0 0 0"},
		{System, `{"constellation_id":20000020,"security_status":0.9459,"ticker":"no"}`, " 20000020 0 0.9459"},
		{Constellation, `{"region_id":10000002,"constellation_id":20000020}`, " 0 10000002 0"},
		{Corporation, `{}`, ""},
		{Corporation, `{"ticker":"` + strings.Repeat("x", 33) + `"}`, ""},
		{Alliance, `[]`, ""},
		{System, `{"security_status":0.9}`, ""},
		{System, `{"constellation_id":20000020,"security_status":1.5}`, ""},
		{System, `{"constellation_id":4294987316,"security_status":1}`, ""},
		{Constellation, `{"region_id":-1}`, ""},
		{Character, `{"ticker":"x"}`, ""},
	} {
		e, err := readDetails([]byte(test.body), Entry{Category: test.category, Name: "n"})
		got := ""
		if err == nil {
			got = fmt.Sprint(e.Ticker, " ", e.Constellation, " ", e.Region, " ", e.Security)
		}
		if got != test.want || e.Name != "n" {
			t.Errorf("%s of a %s: %q (%v), want %q", test.body, test.category, got, err, test.want)
		}
	}
}

func FuzzReadNames(f *testing.F) {
	f.Add([]byte(`[{"category":"character","id":90000001,"name":"CCP Bartender"}]`))
	f.Add([]byte(`[{"category":"thing","id":90000002,"name":""},{"id":-1},{"id":1e3},null]`))
	f.Add([]byte(`null`))
	ids := span(90_000_000, 3)
	f.Fuzz(func(t *testing.T, body []byte) {
		names, wrong, err := readNames(body, ids)
		if err != nil && (names != nil || wrong != 0) {
			t.Errorf("%q: %v, %d with %v", body, names, wrong, err)
		}
		for id, e := range names {
			if id < 90_000_000 || id > 90_000_002 || e.Category == 0 && e != (Entry{}) || e.Category != 0 && !shown(e.Name, maxName) ||
				int(e.Category) >= len(categories) {
				t.Errorf("%q: %d is %+v", body, id, e)
			}
		}
	})
}

func FuzzReadDetails(f *testing.F) {
	f.Add([]byte(`{"name":"x","ticker":"BNI"}`), uint8(Corporation))
	f.Add([]byte(`{"constellation_id":20000020,"security_status":0.9459}`), uint8(System))
	f.Add([]byte(`{"region_id":1e9}`), uint8(Constellation))
	f.Fuzz(func(t *testing.T, body []byte, category uint8) {
		before := Entry{Category: Category(category % uint8(len(categories))), Name: "n"}
		e, err := readDetails(body, before)
		if e.Name != "n" || e.Category != before.Category || err != nil {
			return
		}
		ok := false
		switch e.Category {
		case Corporation, Alliance:
			ok = shown(e.Ticker, maxTicker) && e.Constellation == 0 && e.Region == 0
		case System:
			ok = e.Constellation >= 1 && e.Constellation <= math.MaxInt32 && math.Abs(e.Security) <= 1
		case Constellation:
			ok = e.Region >= 1 && e.Region <= math.MaxInt32
		}
		if !ok {
			t.Errorf("%q became %+v", body, e)
		}
	})
}
