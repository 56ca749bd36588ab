package pack

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/storetest"
)

const (
	body = `"killmail_id":1,"killmail_time":"2026-11-23T18:00:00Z","solar_system_id":5,` +
		`"victim":{"ship_type_id":587,"zkb":{"in":"the victim"}},"attackers":[{"final_blow":true}]`
	hash = "8d94d8e5ae1bbf1a1a4ba6ad2e5f8ff8e0e4f2c1"
)

func TestOpen(t *testing.T) {
	computed, err := killfeed.KillmailHash([]byte("{" + body + "}"))
	if err != nil {
		t.Fatal(err)
	}
	href := "https://esi.evetech.net/killmails/1/" + computed + "/"
	link := `"href":"` + href + `"`
	hashed := `"hash":"` + computed + `"`
	odd := `"killmail_id":1,"solar_system_id":5`
	for _, c := range []struct{ name, text, esi, zkb, hash, href string }{
		{"zkb behind", `{` + body + `,"zkb":{` + hashed + `,"points":1.50}}`, body, `{` + hashed + `,"points":1.50,` + link + `}`, computed, href},
		{"zkb before", `{"zkb":{` + hashed + `},` + body + `}`, body, `{` + hashed + `,` + link + `}`, computed, href},
		{"zkb between", `{"a":[{}, 1],"zkb":{` + hashed + `},` + body + `}`, `"a":[{}, 1],` + body, `{` + hashed + `,` + link + `}`, computed, href},
		{"no zkb", `{` + body + `}`, body, `{` + hashed + `,` + link + `}`, computed, href},
		{"no hash in zkb", `{` + body + `,"zkb":{"points":1}}`, body, `{"points":1,` + hashed + `,` + link + `}`, computed, href},
		{"href of ESI's", `{` + body + `,"zkb":{` + hashed + `,"href":"https:\/\/esi.evetech.net\/v1\/killmails\/1\/x\/"}}`, body,
			`{` + hashed + `,"href":"https:\/\/esi.evetech.net\/v1\/killmails\/1\/x\/"}`, computed, "https://esi.evetech.net/v1/killmails/1/x/"},
		{"href elsewhere", `{` + body + `,"zkb":{` + hashed + `,"href":"https://example.com/"}}`, body,
			`{` + hashed + `,"href":"https://example.com/"}`, computed, href},
		{"href with a line end", `{` + body + `,"zkb":{` + hashed + `,"href":"https://esi.evetech.net/\r\n"}}`, body,
			`{` + hashed + `,"href":"https://esi.evetech.net/\r\n"}`, computed, href},
		{"href null", `{` + body + `,"zkb":{"href":null,` + hashed + `}}`, body, `{` + link + `,` + hashed + `}`, computed, href},
		{"href empty", `{` + body + `,"zkb":{` + hashed + `,"href":""}}`, body, `{` + hashed + `,` + link + `}`, computed, href},
		{"a brace in a string", `{` + odd + `,"x":"}{\"\\","zkb":{"hash":"` + hash + `"}}`, odd + `,"x":"}{\"\\"`,
			`{"hash":"` + hash + `","href":"https://esi.evetech.net/killmails/1/` + hash + `/"}`, hash, "https://esi.evetech.net/killmails/1/" + hash + "/"},
		{"no hash to be had", `{` + odd + `}`, odd, `{}`, "", ""},
		{"none, and zkb", `{` + odd + `,"zkb":{"points":1}}`, odd, `{"points":1}`, "", ""},
	} {
		m := Open(&killfeed.Event{ID: 9, KillmailID: 1, SystemID: 5, Killmail: []byte(c.text)})
		got := [4]string{string(m.ESI), string(m.ZKB), m.Hash, m.HREF}
		if want := [4]string{"{" + c.esi + "}", c.zkb, c.hash, c.href}; got != want {
			t.Errorf("%s:\n%s", c.name, cmp.Diff(want, got))
		}
		for _, text := range [][]byte{m.ESI, m.ZKB} {
			if !json.Valid(text) {
				t.Errorf("%s: %s is no JSON", c.name, text)
			}
		}
	}
	if m := Open(&killfeed.Event{ID: 9, SystemID: 5, Killmail: []byte(`{"solar_system_id":5}`)}); m != nil {
		t.Errorf("a killmail without an id is %+v, want nothing", m)
	}
}

// Whatever the feed takes can be taken apart, and is whole again when put together.
func FuzzOpen(f *testing.F) {
	maker := storetest.NewMaker(storetest.MakerOptions{Attackers: 2, Bytes: 900})
	for range 4 {
		f.Add(maker.Next().JSON)
	}
	f.Add([]byte(`{"killmail_id":1,"solar_system_id":5,"zkb":{"hash":null,"href":7},"zkb2":"\"zkb\":{}"}`))
	f.Add([]byte(`{"zkb":null,"killmail_id":1,"solar_system_id":5}`))
	f.Add([]byte(`{"killmail_id":1,"solar_system_id":5,"zkb":{"a":1},"zkb":{"b":2}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := killfeed.ParseItem(data)
		if err != nil || k.ID == 0 {
			t.Skip()
		}
		m := Open(&killfeed.Event{ID: 1, SystemID: k.SystemID, KillmailID: k.ID, Killmail: k.JSON})
		var whole, esi, zkb map[string]json.RawMessage
		for text, to := range map[*[]byte]*map[string]json.RawMessage{&k.JSON: &whole, &m.ESI: &esi, &m.ZKB: &zkb} {
			if err := json.Unmarshal(*text, to); err != nil {
				t.Fatalf("%s is no object: %v", *text, err)
			}
		}
		if strings.Count(string(k.JSON), `"zkb"`) > 1 || bytes.Contains(k.JSON, []byte(`\u`)) {
			return // of two of one name readers see one; which of them, and its other spellings, are not compared here
		}
		delete(whole, "zkb")
		if diff := cmp.Diff(whole, esi); diff != "" {
			t.Errorf("ESI's part of %s:\n%s", k.JSON, diff)
		}
		if k.Hash != "" && m.Hash != k.Hash {
			t.Errorf("hash %q of %s, want %q", m.Hash, k.JSON, k.Hash)
		}
		if m.Hash != "" && (zkb["hash"] == nil || zkb["href"] == nil) {
			t.Errorf("zkb of %s is %s, without hash or href", k.JSON, m.ZKB)
		}
	})
}

func TestShelf(t *testing.T) {
	var s Shelf
	maker := storetest.NewMaker(storetest.MakerOptions{Attackers: 1})
	event := func(id killfeed.EventID) *killfeed.Event {
		k := maker.Next()
		return &killfeed.Event{ID: id, SystemID: k.SystemID, KillmailID: k.ID, Killmail: k.JSON}
	}
	one, other := event(7), event(7+killfeed.EventID(len(s.slots)))
	if first := s.Open(one); s.Open(one) != first {
		t.Error("a killmail is taken apart twice")
	}
	if m := s.Open(other); m.ID != other.KillmailID {
		t.Errorf("killmail %d, want %d", m.ID, other.KillmailID)
	}
	if m := s.Open(one); m.ID != one.KillmailID {
		t.Errorf("killmail %d, want %d", m.ID, one.KillmailID)
	}
	large := event(8)
	large.Killmail = append(append([]byte(`{"pad":"`), bytes.Repeat([]byte("x"), maxShelved)...), `"}`...)
	if first := s.Open(large); s.Open(large) == first {
		t.Error("a large killmail is kept in memory")
	}
}

func BenchmarkOpen(b *testing.B) {
	k := storetest.NewMaker(storetest.MakerOptions{Bytes: storetest.TypicalBytes}).Next()
	e := &killfeed.Event{ID: 1, SystemID: k.SystemID, KillmailID: k.ID, Killmail: k.JSON}
	b.SetBytes(int64(len(k.JSON)))
	for b.Loop() {
		Open(e)
	}
}
