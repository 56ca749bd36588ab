package storetest_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// esi is what these tests read of a killmail.
type esi struct {
	ID        int64     `json:"killmail_id"`
	Time      time.Time `json:"killmail_time"`
	System    uint32    `json:"solar_system_id"`
	Victim    party     `json:"victim"`
	Attackers []party   `json:"attackers"`
	WarID     uint32    `json:"war_id"`
	ZKB       *struct {
		Hash   string   `json:"hash"`
		Labels []string `json:"labels"`
	} `json:"zkb"`
}

type party struct {
	Character   uint32            `json:"character_id"`
	Corporation uint32            `json:"corporation_id"`
	Alliance    uint32            `json:"alliance_id"`
	Faction     uint32            `json:"faction_id"`
	Ship        uint32            `json:"ship_type_id"`
	FinalBlow   bool              `json:"final_blow"`
	Done        uint32            `json:"damage_done"`
	Taken       uint32            `json:"damage_taken"`
	Items       []json.RawMessage `json:"items"`
}

func (p party) party() storetest.Party {
	return storetest.Party{
		Character: p.Character, Corporation: p.Corporation, Alliance: p.Alliance, Faction: p.Faction, Ship: p.Ship,
		Damage: p.Done + p.Taken, FinalBlow: p.FinalBlow,
	}
}

func (e *esi) mail() storetest.Mail {
	m := storetest.Mail{ID: e.ID, System: e.System, Time: e.Time, Victim: e.Victim.party(), WarID: e.WarID}
	for _, a := range e.Attackers {
		m.Attackers = append(m.Attackers, a.party())
	}
	m.Items = len(e.Victim.Items)
	return m
}

// What is made reads as what was asked for.
func TestMailIsTrue(t *testing.T) {
	for _, o := range []storetest.MakerOptions{{Seed: 1}, {Seed: 2, Bare: true}, {Seed: 3, Bytes: storetest.TypicalBytes}} {
		maker := storetest.NewMaker(o)
		for range 300 {
			mail := maker.NextMail()
			k := mail.Killmail()
			var got esi
			if err := json.Unmarshal(k.JSON, &got); err != nil {
				t.Fatalf("%v\n%s", err, k.JSON)
			}
			back := got.mail()
			if got.ZKB == nil || got.ZKB.Hash != k.Hash || k.Hash == "" {
				t.Fatalf("hash %q is not in zkb: %s", k.Hash, k.JSON)
			}
			back.ZKB, back.Labels, back.Seed = mail.ZKB, got.ZKB.Labels, mail.Seed
			if !reflect.DeepEqual(back, mail) {
				t.Fatalf("made %+v\nread %+v", mail, back)
			}
			if k.ID != mail.ID || k.SystemID != mail.System || !k.Time.Equal(mail.Time) {
				t.Fatalf("made %+v from %+v", k, mail)
			}
			if !slices.Contains(k.Topics, killfeed.System(mail.System)) {
				t.Fatalf("topics %v lack system %d", k.Topics, mail.System)
			}
		}
	}
}

// The parser of package killfeed reads it in the same way as Mail describes it.
func TestMailAsParsed(t *testing.T) {
	sorted := func(topics []killfeed.Topic) []string {
		var names []string
		for _, topic := range topics {
			names = append(names, topic.String())
		}
		slices.Sort(names)
		return names
	}
	for _, o := range []storetest.MakerOptions{{Seed: 1}, {Seed: 2, Bare: true}} {
		maker := storetest.NewMaker(o)
		for range 200 {
			mail := maker.NextMail()
			want := mail.Killmail()
			got, err := killfeed.NewKillmail(mail.System, want.JSON)
			if err != nil {
				t.Fatalf("%v\n%s", err, want.JSON)
			}
			if !slices.Equal(sorted(got.Topics), sorted(want.Topics)) {
				t.Fatalf("topics are %v, want %v", sorted(got.Topics), sorted(want.Topics))
			}
			got.Topics = want.Topics
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("parsed %+v\nmade %+v", got, want)
			}
		}
	}
}

func TestMakerRepeatsItself(t *testing.T) {
	a, b := storetest.NewMaker(storetest.MakerOptions{Seed: 7}), storetest.NewMaker(storetest.MakerOptions{Seed: 7})
	for range 50 {
		if k, l := a.Next(), b.Next(); !reflect.DeepEqual(k, l) {
			t.Fatalf("the same seed made\n%s\n%s", k.JSON, l.JSON)
		}
	}
	if c := storetest.NewMaker(storetest.MakerOptions{Seed: 8}).Next(); reflect.DeepEqual(c, storetest.NewMaker(
		storetest.MakerOptions{Seed: 7}).Next()) {
		t.Fatal("another seed made the same")
	}
}

// Sizes, crowds and systems are roughly those of real killmails.
func TestMakerIsTypical(t *testing.T) {
	const n = 2000
	var sizes, bare, attackers, typical []int
	systems := map[uint32]int{}
	real := storetest.NewMaker(storetest.MakerOptions{})
	plain := storetest.NewMaker(storetest.MakerOptions{Bare: true})
	fixed := storetest.NewMaker(storetest.MakerOptions{Bytes: storetest.TypicalBytes, Attackers: 3})
	for range n {
		m := real.NextMail()
		sizes = append(sizes, len(m.AppendJSON(nil)))
		attackers = append(attackers, len(m.Attackers))
		systems[m.System]++
		bare = append(bare, len(plain.Next().JSON))
		typical = append(typical, len(fixed.Next().JSON))
	}
	for _, s := range [][]int{sizes, bare, attackers, typical} {
		slices.Sort(s)
	}
	check := func(what string, got, low, high int) {
		if got < low || got > high {
			t.Errorf("%s is %d, want %d to %d", what, got, low, high)
		}
	}
	check("median size of ESI's part", bare[n/2], 1300, 2300)
	check("99th percentile of size", sizes[n*99/100], 9_000, 22_000)
	check("median number of attackers", attackers[n/2], 2, 4)
	check("99th percentile of attackers", attackers[n*99/100], 40, 90)
	check("smallest typical size", typical[0], 2300, 2600)
	check("greatest typical size", typical[n-1], 2400, 2700)
	check("the busiest system's share in per mille", systems[real.System(0)]*1000/n, 60, 200)
	check("number of systems", len(systems), 500, 2000)
}

// Real killmails have the hash that the rule gives, and what is made has their very form: the same members in the same order.
func TestLikeRealKillmails(t *testing.T) {
	const name = "../../shared/data/killmails-hour.jsonl.gz"
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not here", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(z)
	for range 200 {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var real struct {
			Hash string
			ESI  json.RawMessage
		}
		var e esi
		if err := errors.Join(json.Unmarshal(line, &real), json.Unmarshal(real.ESI, &e)); err != nil {
			t.Fatal(err)
		}
		m := e.mail()
		if m.Hash() != real.Hash {
			t.Errorf("killmail %d: hash %s, published is %s", e.ID, m.Hash(), real.Hash)
		}
		m.NoHash = true
		if made, want := shape(t, m.AppendJSON(nil)), shape(t, real.ESI); !slices.Equal(made, want) {
			t.Fatalf("made %v\nreal %v", made, want)
		}
	}
}

// shape is the names of the members at top level, of the victim and of what it carried, in order.
func shape(t *testing.T, text []byte) []string {
	t.Helper()
	var names []string
	dec := json.NewDecoder(bytes.NewReader(text))
	var walk func(path string)
	walk = func(path string) {
		tok, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		switch tok {
		case json.Delim('{'):
			for dec.More() {
				key, _ := dec.Token()
				name := path + "." + key.(string)
				if !slices.Contains(names, name) && key != "weapon_type_id" && key != "quantity_dropped" &&
					key != "quantity_destroyed" && key != "items" && path != ".attackers" &&
					!strings.HasPrefix(path, ".victim.items.items") {
					names = append(names, name)
				}
				walk(name)
			}
			_, _ = dec.Token()
		case json.Delim('['):
			for dec.More() {
				walk(path)
			}
			_, _ = dec.Token()
		}
	}
	walk("")
	return names
}

func BenchmarkMaker(b *testing.B) {
	maker := storetest.NewMaker(storetest.MakerOptions{Bytes: storetest.TypicalBytes})
	for b.Loop() {
		maker.Next()
	}
}
