package zkillws

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web/socket"
)

// event makes an event of a killmail, as a log has it.
func event(t interface{ Fatal(...any) }, id killfeed.EventID, mail []byte) *killfeed.Event {
	k, err := killfeed.NewKillmail(30000142, mail)
	if err != nil {
		t.Fatal(err)
	}
	return &killfeed.Event{ID: id, SystemID: k.SystemID, Killmail: k.JSON, KillmailID: k.ID}
}

// TestStream: how zkb is completed, wherever it stands.
func TestStream(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	const esi = `"esi":"https://esi.evetech.net/latest/killmails/7/` + hash + `/"`
	const url = `"url":"https://zkillboard.com/kill/7/"`
	for _, c := range []struct{ mail, want string }{
		{`{"killmail_id":7}`, `{"killmail_id":7,"zkb":{` + url + `}}`},
		{`{"killmail_id":7,"zkb":{}}`, `{"killmail_id":7,"zkb":{` + url + `}}`},
		{`{"zkb":{"points":1},"killmail_id":7}`, `{"zkb":{"points":1,` + url + `},"killmail_id":7}`},
		{`{"killmail_id":7,"a":{"zkb":{"b":[]}},"zkb":{"hash":"` + hash + `","c":[{"zkb":{}}]},"d":"zkb"}`,
			`{"killmail_id":7,"a":{"zkb":{"b":[]}},"zkb":{"hash":"` + hash + `","c":[{"zkb":{}}],` + esi + `,` + url + `},"d":"zkb"}`},
		{`{"killmail_id":7,"zkb":{"hash":"` + hash + `","url":"mine","esi":null}}`, `{"killmail_id":7,"zkb":{"hash":"` + hash + `","url":"mine","esi":null}}`},
		{`{"killmail_id":7,"killmail_time":"2026-11-20T18:00:00Z","victim":{"ship_type_id":587},"attackers":[{"final_blow":true}]}`,
			`{"killmail_id":7,"killmail_time":"2026-11-20T18:00:00Z","victim":{"ship_type_id":587},"attackers":[{"final_blow":true}],"zkb":{"hash":"HASH",` +
				`"esi":"https://esi.evetech.net/latest/killmails/7/HASH/",` + url + `}}`},
	} {
		e := event(t, 1, []byte(c.mail))
		if computed, err := killfeed.KillmailHash(e.Killmail); err == nil {
			c.want = strings.ReplaceAll(c.want, "HASH", computed)
		}
		if got := string(appendStream(nil, e)) + "}"; got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.mail, got, c.want)
		}
	}
}

// TestOddKillmails: members of other types than they should have are none.
func TestOddKillmails(t *testing.T) {
	var s shelf
	for i, mail := range []string{
		`{"killmail_id":7}`,
		`{"killmail_id":7,"victim":[],"attackers":{"a":1},"zkb":{"labels":"x","totalValue":"1","locationID":1.5}}`,
		`{"killmail_id":7,"victim":{"character_id":"5","ship_type_id":1e3},"attackers":[1,null,{"ship_type_id":-1}],"zkb":{"labels":[1,"ok",null]}}`,
		`{"killmail_id":7,"victim":{"ship_type_id":99999999999999999999}}`,
	} {
		k := s.take(event(t, killfeed.EventID(i+1), []byte(mail)), storetest.Universe())
		for _, want := range []string{"all:*", "system:30000142", "region:10000002", "character:0"} {
			if !slices.Contains(k.channels, want) {
				t.Errorf("%s is on %q, without %s", mail, k.channels, want)
			}
		}
		if text := string(k.little) + `"x"}`; !json.Valid([]byte(text)) {
			t.Errorf("%s is told as %s", mail, text)
		}
	}
}

// TestShelf: what is shared is made once, also among events that want one slot, and anew when the static data has changed.
func TestShelf(t *testing.T) {
	var s shelf
	u := storetest.Universe()
	mail := []byte(`{"killmail_id":7,"victim":{"ship_type_id":587}}`)
	first := s.take(event(t, 1, mail), u)
	if s.take(event(t, 1, mail), u) != first {
		t.Error("it was made twice")
	}
	other := s.take(event(t, 1+shelfSlots, mail), u)
	if other == first || other.id != 1+shelfSlots {
		t.Error("another event was taken for it")
	}
	if s.take(event(t, 1, mail), u) == first {
		t.Error("it was kept beside the one that took its place")
	}
	if plain := s.take(event(t, 1, mail), nil); slices.Contains(plain.channels, "group:25") {
		t.Error("static data of the past is told")
	}
	large := []byte(`{"killmail_id":7,"pad":"` + strings.Repeat("x", maxShelved) + `"}`)
	if again := s.take(event(t, 2, large), u); s.take(event(t, 2, large), u) == again {
		t.Error("a large one is kept")
	}
}

// TestMatch: whichever of the two is looked for in the other, the messages are those of every channel that the killmail is on.
func TestMatch(t *testing.T) {
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	u := storetest.Universe()
	maker := storetest.NewMaker(storetest.MakerOptions{})
	rapid.Check(t, func(t *rapid.T) {
		mail := maker.NextMail()
		mail.ZKB, mail.System = true, 30000142
		mail.Attackers = mail.Attackers[:min(len(mail.Attackers), rapid.IntRange(1, 50).Draw(t, "attackers"))]
		d := &dialect{feed: feed, most: 1 << 30}
		k := d.shelf.take(event(t, killfeed.EventID(mail.ID), mail.AppendJSON(nil)), u)
		c := d.client(func() {}, func(*socket.CloseError) {}, false)
		var want []string
		add := func(name string, on bool) {
			if _, there := c.channels[name]; there {
				return
			}
			if err := c.add(name); err != nil {
				t.Fatal(err)
			}
			if _, there := c.channels[name]; !there {
				t.Fatalf("%s is refused: %s", name, c.answers)
			}
			if on {
				want = append(want, name)
			}
		}
		for _, name := range k.channels {
			if rapid.IntRange(0, 3).Draw(t, "on") == 0 {
				add(name, true)
			}
		}
		for range rapid.SampledFrom([]int{0, 3, 1000}).Draw(t, "others") {
			name := fmt.Sprintf("character:%d", rapid.IntRange(1, 1<<30).Draw(t, "other"))
			add(name, slices.Contains(k.channels, name))
		}
		for _, n := range []string{"1", "1k", "1m", "20m", "1b", "10b"} {
			least, _ := parseValue(n + "+")
			add("total_value:"+n+"+", least <= k.value)
		}
		c.match(k, false)
		var got []string
		for _, m := range c.queue {
			got = append(got, m.channel)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
		for name := range maps.Clone(c.channels) {
			if strings.HasPrefix(name, "total_value:") {
				c.remove(name)
			}
		}
		c.queue = nil
		if c.match(k, false); len(c.queue) > len(got) || slices.ContainsFunc(c.queue, func(m message) bool {
			_, there := c.channels[m.channel]
			return !there
		}) {
			t.Fatalf("channels that were given up bring %d messages", len(c.queue))
		}
	})
}

// FuzzChannel: a name that is accepted is bounded, and stands for a topic or for the whole log.
func FuzzChannel(f *testing.F) {
	for _, s := range []string{"killstream", "all:*", "label:all", "label:#:5+", "character:1", "character:0", "region:10000002", "location:60003760",
		"total_value:10b+", "total_value:2.5m+", "tracker:x", "public", ":", "character:", "ship:2147483648", "total_value:+", "total_value:.+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		want, err := parseChannel(name)
		if err != nil {
			if len(err.Error()) > 1024 {
				t.Errorf("the error of %q has %d bytes", name, len(err.Error()))
			}
			return
		}
		switch {
		case len(name) > maxName:
			t.Errorf("a name of %d bytes is accepted", len(name))
		case want.silent:
		case want.topic != killfeed.All() && want.topic.String() != name:
			t.Errorf("%q stands for %s", name, want.topic)
		case want.least < 0 || want.least > 1e28:
			t.Errorf("%q stands for a value of %g", name, want.least)
		}
	})
}

// FuzzMessage: whatever a client says it is answered in the dialect's form, what is kept of it is bounded, and a good message
// behind it works.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{`{"action":"sub","channel":"killstream"}`, `{"action":"unsub","channels":["all:*"]}`, `{`, `null`, `[]`, `"`,
		`{"action":"sub","channels":["system:1","system:2"],"after":"1-00000000","cursor":1}`, `{"action":"sub","channel":"a","after":{}}`} {
		f.Add([]byte(s))
	}
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { feed.Close() })
	if _, err := feed.Insert(context.Background(), 30000142, []byte(`{"killmail_id":1}`)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		d := &dialect{feed: feed, most: 1_000_000}
		c := d.client(func() {}, func(e *socket.CloseError) { t.Errorf("closed: %v", e) }, false)
		for range 2 {
			if err := c.Message(true, frame); err != nil {
				t.Fatalf("it ends the connection: %v", err)
			}
			for _, text := range c.answers {
				var m struct{ Action, Message string }
				if err := json.Unmarshal(text, &m); err != nil || m.Action != "error" && m.Action != "gap" || len(text) > 4096 {
					t.Fatalf("the answer is %s", text)
				}
			}
			c.answers = nil
		}
		if err := c.Message(true, []byte(`{"action":"sub","channel":"killstream"}`)); err != nil {
			t.Fatal(err)
		}
		if len(c.answers) > 0 || c.sub == nil || int(d.channels.Load()) != len(c.channels) {
			t.Fatalf("behind it the answer is %s; %d channels are counted, and there are %d", c.answers, d.channels.Load(), len(c.channels))
		}
		c.Ended(1000)
		if d.channels.Load() != 0 || c.sub != nil {
			t.Fatalf("%d channels are left", d.channels.Load())
		}
	})
}

// FuzzStream: whatever object is inserted goes out as JSON with a zkb, and its other members as they were.
func FuzzStream(f *testing.F) {
	for _, s := range []string{`{"killmail_id":7}`, `{"killmail_id":7,"zkb":{}}`, `{"zkb":{"hash":"0123456789abcdef0123456789abcdef01234567"},"killmail_id":7}`,
		`{"killmail_id":7,"zkb":null}`, `{"killmail_id":7,"\u007akb":{"a":1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, mail []byte) {
		k, err := killfeed.NewKillmail(30000142, mail)
		if err != nil || k.ID == 0 {
			return
		}
		e := &killfeed.Event{ID: 1, SystemID: k.SystemID, Killmail: k.JSON, KillmailID: k.ID}
		var before, after map[string]json.RawMessage
		text := append(appendStream(nil, e), '}')
		if err := json.Unmarshal(text, &after); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if err := json.Unmarshal(k.JSON, &before); err != nil {
			t.Skip() // deeper than the standard library reads
		}
		var zkb struct{ URL any }
		if err := json.Unmarshal(after["zkb"], &zkb); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		delete(before, "zkb")
		delete(after, "zkb")
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Fatalf("got %s of %s", text, k.JSON)
		}
		new(shelf).take(e, nil)
	})
}
