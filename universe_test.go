package killfeed_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"killfeed"
)

// smallUniverse has two regions: 1 with the constellations 11 (A, B) and 12 (C), 2 with 21 (the system 21000).
func smallUniverse(t testing.TB) *killfeed.Universe {
	t.Helper()
	u, err := killfeed.NewUniverse(killfeed.UniverseData{
		Build: 7,
		Systems: []killfeed.SolarSystem{
			{ID: A, Name: "Jita", Constellation: 11, Region: 1, Security: 0.945913},
			{ID: B, Name: "Amarr", Constellation: 11, Security: 0.04},
			{ID: C, Name: "Perimeter", Constellation: 12, Region: 1, Security: -0.38},
			{ID: 31000005, Name: "Thera", Constellation: 21, Region: 2, Security: -0.99, Class: 12},
		},
		Constellations: []killfeed.Constellation{{ID: 12, Region: 1, Name: "O-EIMK"}, {ID: 11, Region: 1, Name: "Kimotoro"}, {ID: 21, Region: 2, Name: "G-C00324"}},
		Regions:        []killfeed.Region{{ID: 1, Name: "The Forge"}, {ID: 2, Name: "G-R00031"}},
		Types:          []killfeed.Type{{ID: 587, Group: 25, Name: "Rifter"}, {ID: 670, Group: 29, Name: "Capsule"}, {ID: 585, Group: 25, Name: "Slasher"}},
		Groups:         []killfeed.Group{{ID: 25, Category: 6, Name: "Frigate"}, {ID: 29, Category: 6, Name: "Capsule"}},
		Factions:       []killfeed.Faction{{ID: 500001, Name: "Caldari State"}},
		Corporations:   []killfeed.Corporation{{ID: 1000125, Name: "CONCORD", Ticker: "CONCORD"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUniverseParseTopic(t *testing.T) {
	u := smallUniverse(t)
	for _, c := range []struct{ text, want string }{
		{"all", "all"},
		{"system:Jita", "system:30000142"},
		{"system:jita", "system:30000142"},
		{"system: JITA ", "system:30000142"},
		{"system:30000142", "system:30000142"},
		{"system:31999999", "system:31999999"}, // a number need not be known
		{"region:the  forge", "region:1"},
		{"constellation:Kimotoro", "constellation:11"},
		{"space:wormhole", "space:wormhole"},
		{"space:HighSec", "space:high"},
		{"space:w-space", "space:wormhole"},
		{"space:low-sec", "space:low"},
		{"ship:rifter", "ship:587"},
		{"kill:ship:Rifter", "kill:ship:587"},
		{"loss:group:frigate", "loss:group:25"},
		{"group:Capsule", "group:29"},
		{"faction:Caldari State", "faction:500001"},
		{"corporation:concord", "corporation:1000125"},
		{"kill:corporation:98000001", "kill:corporation:98000001"},
		{"label:solo", "label:solo"},
	} {
		topic, err := u.ParseTopic(c.text)
		if err != nil || topic.String() != c.want {
			t.Errorf("ParseTopic(%q) = %v, %v; want %s", c.text, topic, err, c.want)
		}
		if again, err := killfeed.ParseTopic(topic.String()); err != nil || again != topic {
			t.Errorf("ParseTopic(%q) = %v, %v", topic, again, err)
		}
		if !killfeed.IsTopic(c.text) {
			t.Errorf("IsTopic(%q) is false", c.text)
		}
	}
	for _, c := range []struct{ text, says string }{
		{"system:Jta", "did you mean Jita (30000142)?"},
		{"system:Jtia", "did you mean Jita (30000142)?"},
		{"system:Peri", "did you mean Perimeter (30000144)?"},
		{"ship:Rifer", "did you mean Rifter (587)?"},
		{"system:Nowhere at all", "the id or name of a solar system"},
		{"character:Somebody", "the id of a character"},
		{"space:outer", "space:high"},
		{"kill:system:30000142", "kill:<topic>"},
		{"kill:label:solo", "kill:<topic>"},
		{"loss:", "loss:<topic>"},
		{"kill:kill:ship:587", "kill:<topic>"},
		{"region:", "region:<id>"},
		{"region:99", "the id or name of a region that is in this server's static data, which has none 99"},
		{"constellation:99", "a constellation that is in this server's static data"},
		{"group:99", "a group of types that is in this server's static data"},
		{"kill:group:99", "a group of types that is in this server's static data"},
	} {
		_, err := u.ParseTopic(c.text)
		var invalid *killfeed.InvalidError
		if !errors.As(err, &invalid) || invalid.Param != "topics" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("ParseTopic(%q): %v; want it to say %q", c.text, err, c.says)
		}
	}
}

// Without static data ids are all there is.
func TestNoUniverse(t *testing.T) {
	var u *killfeed.Universe
	for _, text := range []string{"all", "system:30000142", "kill:ship:587", "label:solo", "loss:alliance:99000001"} {
		if topic, err := u.ParseTopic(text); err != nil || topic.String() != text {
			t.Errorf("ParseTopic(%q) = %v, %v", text, topic, err)
		}
	}
	for _, text := range []string{"region:10000002", "constellation:20000020", "space:high", "group:25", "kill:group:25", "system:Jita", "ship:Rifter"} {
		if topic, err := u.ParseTopic(text); err == nil || !strings.Contains(err.Error(), "need static data, which this server does not have") ||
			strings.Contains(err.Error(), "region:<id>") && strings.HasPrefix(text, "region") { // what is refused is not offered
			t.Errorf("ParseTopic(%q) = %v, %v", text, topic, err)
		}
	}
	if _, ok := u.System(A); ok || u.Build() != 0 || u.Search("jita", 3, killfeed.KindSystem) != nil {
		t.Error("a nil Universe knows something")
	}
}

func TestUniverseSearch(t *testing.T) {
	u := smallUniverse(t)
	all := []killfeed.TopicKind{killfeed.KindSystem, killfeed.KindRegion, killfeed.KindShip, killfeed.KindGroup}
	for _, c := range []struct {
		text string
		want []string
	}{
		{"ji", []string{"Jita"}},
		{"er", []string{"Perimeter", "Thera", "Rifter", "Slasher"}},
		{"capsule", []string{"Capsule", "Capsule"}},
		{"jtia", []string{"Jita"}},
		{"", nil},
		{"  THE ", []string{"Thera", "The Forge"}},
	} {
		var got []string
		for _, m := range u.Search(c.text, 10, all...) {
			got = append(got, m.Name)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("Search(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

func TestShownSecurity(t *testing.T) {
	for _, c := range []struct {
		security, shown float64
		space           killfeed.Space
	}{
		{1, 1, killfeed.SpaceHigh}, {0.45, 0.5, killfeed.SpaceHigh}, {0.449, 0.4, killfeed.SpaceLow}, {0.05, 0.1, killfeed.SpaceLow},
		{0.049, 0.1, killfeed.SpaceLow}, {0.00001, 0.1, killfeed.SpaceLow}, {0, 0, killfeed.SpaceNull}, {-0.00001, 0, killfeed.SpaceNull},
		{-0.04, 0, killfeed.SpaceNull}, {-1, -1, killfeed.SpaceNull},
	} {
		s := killfeed.SolarSystem{ID: A, Security: c.security}
		if s.ShownSecurity() != c.shown || s.Space() != c.space {
			t.Errorf("%v is shown as %v in %v space, want %v in %v", c.security, s.ShownSecurity(), s.Space(), c.shown, c.space)
		}
	}
}

func TestNewUniverseRefuses(t *testing.T) {
	for name, d := range map[string]killfeed.UniverseData{
		"solar system 5 is there twice":      {Systems: []killfeed.SolarSystem{{ID: 5}, {ID: 6}, {ID: 5}}},
		"region 0 is out of range":           {Regions: []killfeed.Region{{}}},
		"type 4294967295 is out of range":    {Types: []killfeed.Type{{ID: 1<<32 - 1}}},
		"constellation 4000000000 is out of": {Constellations: []killfeed.Constellation{{ID: 4000000000}}},
	} {
		if _, err := killfeed.NewUniverse(d); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v; want %q", err, name)
		}
	}
}

// What a topic stands for and what topics an event is on are two views of one thing.
func TestExpandIsTheInverseOfWiden(t *testing.T) {
	u := smallUniverse(t)
	stored := []killfeed.Topic{killfeed.System(A), killfeed.System(B), killfeed.System(C), killfeed.System(31000005), killfeed.System(5), killfeed.Label("x")}
	for _, role := range []killfeed.TopicKind{killfeed.RoleKill, killfeed.RoleLoss} {
		for kind := killfeed.KindCharacter; kind <= killfeed.KindShip; kind++ {
			for _, id := range []uint32{587, 585, 670, 1} {
				stored = append(stored, killfeed.Topic{Kind: kind | role, ID: id})
			}
		}
	}
	topics := slices.Clone(stored)
	for _, s := range stored {
		for _, w := range u.Widen(s) {
			if !slices.Contains(topics, w) {
				topics = append(topics, w)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		topic, s := rapid.SampledFrom(topics).Draw(t, "topic"), rapid.SampledFrom(stored).Draw(t, "stored")
		stands := slices.Contains(u.Expand(topic), s)
		if on := topic == s || slices.Contains(u.Widen(s), topic); on != stands {
			t.Errorf("%v stands for %v: %v; an event on the latter is on the former: %v", topic, s, stands, on)
		}
	})
}
