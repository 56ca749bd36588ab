package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"killfeed"
	"killfeed/names"
)

// failer is a *testing.T or *rapid.T.
type failer interface {
	Helper()
	Errorf(format string, args ...any)
}

// checkMessage checks a message by Discord's own rules, and returns it.
func checkMessage(t failer, body []byte) (m message) {
	t.Helper()
	from := json.NewDecoder(bytes.NewReader(body))
	from.DisallowUnknownFields()
	if err := from.Decode(&m); err != nil {
		t.Errorf("no message: %v: %s", err, body)
		return m
	}
	length := func(s string) int { return len(utf16.Encode([]rune(s))) }
	total := 0
	within := func(what, s string, most int) {
		t.Helper()
		total += length(s)
		if n := length(s); n == 0 || n > most || strings.TrimSpace(s) == "" {
			t.Errorf("%s has %d characters, want 1 to %d: %q", what, n, most, s)
		}
	}
	link := func(what, s string) {
		t.Helper()
		u, err := url.Parse(s)
		if s != "" && (err != nil || u.Scheme != "https" || u.Host != "zkillboard.com" && u.Host != "images.evetech.net" || length(s) > 2048) {
			t.Errorf("%s is the URL %q", what, s)
		}
	}
	if len(m.Embeds) > 10 || m.Content == "" && len(m.Embeds) == 0 || length(m.Content) > 2000 {
		t.Errorf("%d embeds, %d characters of content", len(m.Embeds), length(m.Content))
	}
	if m.Mentions.Parse == nil || len(m.Mentions.Parse) != 0 {
		t.Errorf("mentions are allowed: %s", body)
	}
	for _, e := range m.Embeds {
		within("title", e.Title, 256)
		link("url", e.URL)
		if e.Colour < 0 || e.Colour > 0xffffff {
			t.Errorf("colour %x", e.Colour)
		}
		if e.Timestamp != "" {
			if _, err := time.Parse(time.RFC3339, e.Timestamp); err != nil {
				t.Errorf("timestamp: %v", err)
			}
		}
		if e.Author != nil {
			within("author", e.Author.Name, 256)
			link("author's url", e.Author.URL)
			link("author's icon", e.Author.Icon)
		}
		if e.Footer != nil {
			within("footer", e.Footer.Text, 2048)
		}
		if e.Thumbnail != nil {
			link("thumbnail", e.Thumbnail.URL)
		}
		if len(e.Fields) > 25 {
			t.Errorf("%d fields", len(e.Fields))
		}
		for _, f := range e.Fields {
			within("field's name", f.Name, 256)
			within("field "+f.Name, f.Value, 1024)
		}
	}
	if total > 6000 {
		t.Errorf("the embeds have %d characters together, want at most 6000", total)
	}
	return m
}

// lexiconOf knows some names.
func lexiconOf(t failer, known map[uint32]names.Entry, u *killfeed.Universe) lexicon {
	t.Helper()
	book, err := names.Open("", names.Options{})
	if err != nil {
		t.Errorf("%v", err)
	}
	book.Learn(known)
	return lexicon{u, book}
}

func someUniverse(t failer) *killfeed.Universe {
	t.Helper()
	u, err := killfeed.NewUniverse(killfeed.UniverseData{
		Systems:        []killfeed.SolarSystem{{ID: 30000142, Name: "Jita", Constellation: 20000020, Region: 10000002, Security: 0.9459}},
		Constellations: []killfeed.Constellation{{ID: 20000020, Region: 10000002, Name: "Kimotoro"}},
		Regions:        []killfeed.Region{{ID: 10000002, Name: "The Forge"}},
		Types:          []killfeed.Type{{ID: 587, Group: 25, Name: "Rifter"}, {ID: 33468, Group: 25, Name: "Astero"}},
		Groups:         []killfeed.Group{{ID: 25, Category: 6, Name: "Frigate"}},
	})
	if err != nil {
		t.Errorf("%v", err)
	}
	return u
}

func TestEmbed(t *testing.T) {
	u := someUniverse(t)
	l := lexiconOf(t, map[uint32]names.Entry{
		2100000001: {Category: names.Character, Name: "A_Pilot*"}, 98000001: {Category: names.Corporation, Name: "His Corp"},
		2100000002: {Category: names.Character, Name: "Killer"}, 98000002: {Category: names.Corporation, Name: "Her [Corp]"},
		99000002: {Category: names.Alliance, Name: "Her_Alliance"},
	}, u)
	event := killfeed.Event{ID: 7, SystemID: 30000142, KillmailID: 900000001, KilledAt: time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC), Killmail: []byte(
		`{"killmail_id":900000001,"victim":{"character_id":2100000001,"corporation_id":98000001,"ship_type_id":587},"attackers":[` +
			`{"character_id":2100000003},{"character_id":2100000002,"corporation_id":98000002,"alliance_id":99000002,"ship_type_id":33468,"final_blow":true}],` +
			`"zkb":{"totalValue":1234567890.12}}`)}
	m, n := embeds(l, []killfeed.Topic{{Kind: killfeed.KindCorporation | killfeed.RoleKill, ID: 98000002}}, []killfeed.Event{event})
	body, err := encodeMessage(&m)
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	checkMessage(t, body)
	want := embed{
		Title: `A\_Pilot\* lost a Rifter in Jita (The Forge)`, URL: "https://zkillboard.com/kill/900000001/", Colour: colourKill,
		Timestamp: "2026-11-23T18:00:00Z",
		Author: &author{Name: "Her_Alliance", URL: "https://zkillboard.com/alliance/99000002/",
			Icon: "https://images.evetech.net/alliances/99000002/logo?size=64"},
		Thumbnail: &image{"https://images.evetech.net/types/587/render?size=128"},
		Fields: []field{
			{"Final blow", `[Killer](https://zkillboard.com/character/2100000002/) ([Her \[Corp\]](https://zkillboard.com/corporation/98000002/)) in an Astero`, true},
			{"Value", "1.23b ISK", true},
			{"System", "[Jita](https://zkillboard.com/system/30000142/) 0.9", true},
			{"Attackers", "2", true},
		},
		Footer: &footer{"killmail 900000001"},
	}
	if diff := cmp.Diff(want, m.Embeds[0]); diff != "" {
		t.Errorf("the embed (+) is not what is wanted (-):\n%s", diff)
	}
	bare := lexicon{}
	m, _ = embeds(bare, nil, []killfeed.Event{event})
	if got := m.Embeds[0].Title; got != "character 2100000001 lost a type 587 in system 30000142" || m.Embeds[0].Colour != colourOther {
		t.Errorf("without names: %+v", m.Embeds[0])
	}
}

func TestColour(t *testing.T) {
	u := someUniverse(t)
	k := readKillmail([]byte(`{"victim":{"corporation_id":1,"alliance_id":2,"ship_type_id":587},"attackers":[{"corporation_id":3},{"corporation_id":4,"ship_type_id":33468}]}`))
	for topics, want := range map[string]int{
		"all": colourOther, "system:30000142": colourOther, "loss:corporation:1": colourLoss, "kill:corporation:1": colourOther,
		"corporation:1": colourLoss, "alliance:2": colourLoss, "corporation:4": colourKill, "kill:corporation:4": colourKill,
		"loss:corporation:4": colourOther, "kill:corporation:3,loss:corporation:1": colourLoss, "kill:corporation:3,loss:corporation:9": colourKill,
		"loss:group:25": colourLoss, "kill:group:25": colourKill, "ship:587": colourOther, "kill:ship:33468": colourKill, "loss:ship:587": colourLoss,
	} {
		var all []killfeed.Topic
		for name := range strings.SplitSeq(topics, ",") {
			topic, err := u.ParseTopic(name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, topic)
		}
		if got := colour(&k, all, u); got != want {
			t.Errorf("%s: %06x, want %06x", topics, got, want)
		}
	}
}

func TestISK(t *testing.T) {
	for v, want := range map[float64]string{
		1: "1", 999: "999", 1000: "1.00k", 999_990: "999.99k", 999_999: "1.00m", 1.5e6: "1.50m", 1.2345e9: "1.23b", 2e12: "2.00t",
		4.5e15: "4500.00t", math.MaxFloat64: "1.80e+308",
	} {
		if got := isk(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// special are the characters that must not stand in a text without a backslash; written again, so that none is forgotten.
const special = "\\*_~`|>#[]<:@"

// unescape is what Discord shows of a text, if nothing in it means anything.
func unescape(t failer, text string) string {
	var b strings.Builder
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		if runes[i] == '\\' {
			if i++; i == len(runes) {
				t.Errorf("a backslash ends %q", text)
				break
			}
		} else if strings.ContainsRune(special, runes[i]) || i == 0 && (runes[i] == '-' || runes[i] == '+') {
			t.Errorf("%q is not escaped in %q", runes[i], text)
		}
		b.WriteRune(runes[i])
	}
	return b.String()
}

func TestEscape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("ab \\*_~`|>#[]()<:@-+/.é😀"))).Draw(t, "text")
		if got := unescape(t, escape(text)); got != text {
			t.Errorf("%q is shown as %q", text, got)
		}
	})
}

// The longest names of all, which all have to be escaped: each text fits, and so do as many embeds as are in a message.
func TestLongNames(t *testing.T) {
	for _, letter := range []string{"x", "*", "😀", "<"} {
		long := strings.Repeat(letter, 200)
		l := lexiconOf(t, map[uint32]names.Entry{
			11: {Category: names.Character, Name: long}, 12: {Category: names.Corporation, Name: long}, 13: {Category: names.Alliance, Name: long},
			15: {Category: names.Type, Name: long}, 16: {Category: names.System, Name: long, Constellation: 17}, 17: {Category: names.Constellation, Name: long, Region: 18},
			18: {Category: names.Region, Name: long},
		}, nil)
		e := killfeed.Event{ID: 1, SystemID: 16, KillmailID: math.MaxInt64, Killmail: []byte(`{"victim":{"character_id":11,"ship_type_id":15},` +
			`"attackers":[{"character_id":11,"corporation_id":12,"alliance_id":13,"ship_type_id":15}],"zkb":{"totalValue":1e300}}`)}
		events := make([]killfeed.Event, 30)
		for i := range events {
			events[i] = e
		}
		messages := 0
		for len(events) > 0 {
			m, n := embeds(l, nil, events)
			body, err := encodeMessage(&m)
			if err != nil {
				t.Fatal(err)
			}
			checkMessage(t, body)
			if title := m.Embeds[0].Title; strings.Count(title, letter) < 10 || !strings.Contains(title, "…") {
				t.Errorf("not much is left of the names: %s", title)
			}
			events = events[n:]
			messages++
		}
		if messages < 4 || messages > 10 {
			t.Errorf("%s: 30 killmails in %d messages", letter, messages)
		}
	}
}

// No killmail makes a message that Discord refuses, and no name means anything in it.
func TestEmbedsAreDiscords(t *testing.T) {
	name := rapid.OneOf(
		rapid.StringOfN(rapid.RuneFrom([]rune("aA *_[](`~|\\<@:>#-é😀")), 1, 200, 200),
		rapid.SampledFrom([]string{"@everyone", "<@&1>", "[x](http://evil.example)", "# big", "```", "\u202eevil", "\n\n", strings.Repeat("😀", 50)}),
	)
	value := rapid.OneOf(
		rapid.SampledFrom([]string{"null", "true", `"x"`, "[]", "{}", "-1", "0", "1.5", "1e300", "99999999999999999999", "587", "33468"}),
		rapid.Map(rapid.IntRange(1, math.MaxInt32), func(n int) string { return fmt.Sprint(n) }),
		rapid.SampledFrom([]string{"11", "12", "13", "14", "15", "16", "17", "18"}),
	)
	party := rapid.Custom(func(t *rapid.T) string {
		var members []string
		for _, key := range []string{"character_id", "corporation_id", "alliance_id", "faction_id", "ship_type_id", "final_blow"} {
			if rapid.Bool().Draw(t, "has "+key) {
				members = append(members, fmt.Sprintf("%q:%s", key, value.Draw(t, key)))
			}
		}
		return "{" + strings.Join(members, ",") + "}"
	})
	odd := rapid.OneOf(party, value)
	u := someUniverse(t)
	rapid.Check(t, func(t *rapid.T) {
		known := map[uint32]names.Entry{}
		for i := range uint32(8) {
			known[11+i] = names.Entry{Category: names.Category(1 + i), Name: name.Draw(t, "name")}
		}
		known[16] = names.Entry{Category: names.System, Name: name.Draw(t, "system"), Constellation: 17, Region: 18, Security: 0.5}
		l := lexiconOf(t, known, u)
		var events []killfeed.Event
		for i := range rapid.IntRange(1, 15).Draw(t, "events") {
			attackers := rapid.OneOf(value, rapid.Map(rapid.SliceOfN(odd, 0, 5), func(all []string) string { return "[" + strings.Join(all, ",") + "]" }))
			text := fmt.Sprintf(`{"victim":%s,"attackers":%s,"zkb":{"totalValue":%s,"npc":%s}}`, odd.Draw(t, "victim"),
				attackers.Draw(t, "attackers"), value.Draw(t, "value"), value.Draw(t, "npc"))
			if !json.Valid([]byte(text)) {
				t.Fatalf("%s is no JSON", text)
			}
			events = append(events, killfeed.Event{
				ID: killfeed.EventID(i + 1), SystemID: rapid.SampledFrom([]uint32{16, 30000142, 31000005}).Draw(t, "system"), Killmail: []byte(text),
				KillmailID: rapid.Int64Range(0, math.MaxInt64).Draw(t, "id"),
				KilledAt:   time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "time"), 0),
			})
		}
		for len(events) > 0 {
			m, n := embeds(l, nil, events)
			body, err := encodeMessage(&m)
			if err != nil || n < 1 || n != len(m.Embeds) {
				t.Fatalf("%d of %d events, %d embeds, %v", n, len(events), len(m.Embeds), err)
			}
			checkMessage(t, body)
			for _, e := range m.Embeds {
				if strings.ContainsAny(e.Title, "\n\r\u202e") {
					t.Errorf("the title is %q", e.Title)
				}
				unescape(t, e.Title)
			}
			events = events[n:]
		}
	})
}
