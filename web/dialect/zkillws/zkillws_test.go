package zkillws_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
	"killfeed/web/dialect/zkillws"
)

// The one message that all clients of killstream send.
const subKillstream = `{"action":"sub","channel":"killstream"}`

// TestKillstreamClients: what each known client sends, and how it reads what comes.
func TestKillstreamClients(t *testing.T) {
	s := serve(t, options{universe: storetest.Universe()})
	type reading struct {
		name, path string
		header     []string
		binary     bool
		check      func(m message, raw map[string]any) bool
	}
	all := []reading{
		{"Pathfinder", "/websocket/", nil, false, func(m message, raw map[string]any) bool { // keeps it when it has these
			_, hash := raw["zkb"].(map[string]any)["hash"].(string)
			return hash && m.KillmailID > 0 && m.SolarSystemID > 0 && raw["killmail_time"] != "" && raw["victim"] != nil
		}},
		{"Vintel and Spyglass", "/websocket/", []string{"User-Agent", "Spyglass/1.0"}, false, func(m message, raw map[string]any) bool {
			return raw["action"] == nil && m.Victim.Ship > 0 && raw["attackers"].([]any)[0].(map[string]any)["final_blow"] != nil
		}},
		{"KillboardSubscriber", "/websocket/", []string{"Origin", "https://tools.example.com"}, false, func(m message, raw map[string]any) bool {
			return m.ZKB.URL == fmt.Sprintf("https://zkillboard.com/kill/%d/", m.KillmailID) && m.ZKB.TotalValue > 0
		}},
		{"websocket-client of Python", "/websocket/", nil, true, func(m message, raw map[string]any) bool {
			return m.ZKB.ESI == fmt.Sprintf("https://esi.evetech.net/latest/killmails/%d/%s/", m.KillmailID, m.ZKB.Hash)
		}},
		{"a bot that leaves the slash out", "/websocket", []string{"Origin", "https://zkillboard.com"}, false, func(m message, raw map[string]any) bool {
			return len(m.Attackers) > 0 && !m.KillmailTime.IsZero()
		}},
	}
	clients := make([]*client, len(all))
	for i, r := range all {
		clients[i] = s.dial(r.path, r.header...)
		if r.binary {
			clients[i].send(websocket.MessageBinary, subKillstream)
			clients[i].say()
		} else {
			clients[i].say(subKillstream)
		}
	}
	m := s.mail(jita)
	m.ZKB = true
	s.insert(0, m.AppendJSON(nil))
	var texts []string
	for i, r := range all {
		text := clients[i].next()
		var raw map[string]any
		if err := json.Unmarshal([]byte(text), &raw); err != nil {
			t.Fatal(err)
		}
		if got := clients[i].parse(text); got.KillmailID != m.ID || !r.check(got, raw) {
			t.Errorf("%s cannot read %s", r.name, text)
		}
		texts = append(texts, text)
	}
	if len(slices.Compact(texts)) != 1 {
		t.Error("they got different texts")
	}
}

// TestCaptures: what the original sent goes out as it was, whatever way the killmail came.
func TestCaptures(t *testing.T) {
	s := serve(t, options{})
	c := s.dial("").sub("killstream")
	for _, name := range []string{"ws_killstream_2022.json", "ws_killstream_2023.json"} {
		capture, err := os.ReadFile(captures + "wire/" + name)
		if err != nil {
			t.Skip("the captures are not here")
		}
		s.insert(0, capture)
		if got := c.next(); got != strings.TrimSpace(string(capture)) {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, capture)
		}
	}
	files, err := os.ReadFile(captures + "wire/r2z2_ephemeral_50.jsonl")
	if err != nil {
		t.Skip("the captures are not here")
	}
	for line := range strings.Lines(string(files)) {
		var file struct {
			ID   int64 `json:"killmail_id"`
			Hash string
			ESI  json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &file); err != nil {
			t.Fatal(err)
		}
		s.insert(0, []byte(line))
		text := c.next()
		m := c.parse(text)
		if m.KillmailID != file.ID || m.ZKB.Hash != file.Hash || m.ZKB.URL != fmt.Sprintf("https://zkillboard.com/kill/%d/", file.ID) ||
			m.ZKB.ESI != fmt.Sprintf("https://esi.evetech.net/latest/killmails/%d/%s/", file.ID, file.Hash) {
			t.Fatalf("got %s\nfor %s", text, line)
		}
		if diff := cmp.Diff(members(t, file.ESI), members(t, []byte(text))); diff != "" {
			t.Fatal(diff)
		}
	}
}

// battle is a killmail on many channels.
const battle = `{"attackers":[{"alliance_id":99000001,"character_id":90000001,"corporation_id":98000001,"damage_done":10,"final_blow":true,` +
	`"security_status":1.5,"ship_type_id":587,"weapon_type_id":1},{"damage_done":1,"faction_id":500010,"final_blow":false,` +
	`"security_status":0,"ship_type_id":670}],"killmail_id":120000001,"killmail_time":"2026-11-20T18:00:00Z","solar_system_id":30000142,` +
	`"victim":{"character_id":90000002,"corporation_id":98000002,"damage_taken":11,"ship_type_id":587},` +
	`"zkb":{"locationID":60003760,"hash":"0123456789abcdef0123456789abcdef01234567","totalValue":12000000000.5,"labels":["cat:6","#:2+","loc:highsec"]}}`

// little is what is sent of it on a channel. Its hash cannot be right: it is taken out of the killmail, and computed, in the tests
// that insert it.
func little(hash string, group int, channel string) string {
	return fmt.Sprintf(`{"action":"littlekill","killID":120000001,"hash":"%s","character_id":90000002,"corporation_id":98000002,`+
		`"alliance_id":0,"ship_type_id":587,"group_id":%d,"url":"https://zkillboard.com/kill/120000001/","channel":"%s"}`, hash, group, channel)
}

func rightHash(t *testing.T, mail string) (string, string) {
	t.Helper()
	hash, err := killfeed.KillmailHash([]byte(mail))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(mail, "0123456789abcdef0123456789abcdef01234567", hash), hash
}

// TestChannels: each channel, and whether the killmail is on it.
func TestChannels(t *testing.T) {
	s := serve(t, options{universe: storetest.Universe()})
	mail, hash := rightHash(t, battle)
	system, _ := s.feed.Universe().System(jita)
	rifter, ok := s.feed.Universe().Type(587)
	if !ok || system.Region == 0 || system.Constellation == 0 {
		t.Fatal("the static data of tests lacks what this needs")
	}
	on := []string{
		"all:*", "none:*", "label:all", "character:90000001", "character:90000002", "character:0", "corporation:98000001",
		"corporation:98000002", "corporation:0", "alliance:99000001", "alliance:0", "faction:500010", "faction:0", "ship:587", "ship:670",
		fmt.Sprintf("group:%d", rifter.Group), "label:cat:6", "label:#:2+", "label:loc:highsec", "system:30000142",
		fmt.Sprintf("constellation:%d", system.Constellation), fmt.Sprintf("region:%d", system.Region), "location:60003760",
		"total_value:10b+", "total_value:12b+", "total_value:12000000000.5+", "total_value:1k+", "total_value:0.012t+", "total_value:1m+",
	}
	off := []string{
		"character:90000003", "corporation:98000003", "alliance:99000002", "faction:500001", "ship:588", "ship:0", "group:1", "label:cat:22",
		"label:npc", "system:30000144", "constellation:20000001", "region:10000001", "location:60003761", "total_value:100b+",
		"total_value:12000000001+", "public", "ztop", "tracker:all", "stats:character:1",
	}
	// Each alone, then all at once, then one that is on few of many.
	for _, ch := range on {
		c := s.dial("").sub(ch)
		defer c.conn.CloseNow()
		defer func() {
			if got, want := c.next(), little(hash, int(rifter.Group), ch); got != want {
				t.Errorf("alone on %s:\ngot  %s\nwant %s", ch, got, want)
			}
		}()
	}
	quiet := s.dial("").sub("system:31000001").sub(off...)
	many := s.dial("").sub("system:31000001", "killstream").sub(append(slices.Clone(on), off...)...)
	few := s.dial("").sub("system:31000001", "ship:670", "ship:588", "location:60003760")
	s.insert(0, []byte(mail))
	s.kill(marker)
	if got := quiet.until("system:31000001"); len(got) > 0 {
		t.Errorf("there came %s", got)
	}
	got := slices.DeleteFunc(many.until("system:31000001"), func(text string) bool { return !strings.Contains(text, "120000001") })
	want := append([]string{"killstream"}, on...)
	slices.Sort(want)
	if diff := cmp.Diff(want, quiet.channels(got)); diff != "" {
		t.Error(diff)
	}
	if got := few.channels(few.until("system:31000001")); !slices.Equal(got, []string{"location:60003760", "ship:670"}) {
		t.Errorf("there came %s", got)
	}
}

// TestOldChannelsWithoutStaticData: what needs none works, the others are silent until there is some.
func TestChannelsWithoutStaticData(t *testing.T) {
	s := serve(t, options{})
	mail, hash := rightHash(t, battle)
	c := s.dial("").sub("system:31000001", "region:10000002", "group:25", "group:0", "ship:670")
	s.insert(0, []byte(mail))
	if got := s.mark(c); !slices.Equal(got, []string{little(hash, 0, "ship:670")}) {
		t.Errorf("there came %s", got)
	}
	s.feed.SetUniverse(storetest.Universe())
	s.kill(jita)
	if got := c.channels(s.mark(c)); !slices.Contains(got, "region:10000002") {
		t.Errorf("with static data there came %s", got)
	}
}

// TestLittlekillCapture: the documented message has no more and no other members, but for the channel and what was added since.
func TestLittlekillCapture(t *testing.T) {
	capture, err := os.ReadFile(captures + "wire/ws_littlekill.json")
	if err != nil {
		t.Skip("the captures are not here")
	}
	var want, got map[string]any
	if err := json.Unmarshal(capture, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(little("", 1, "all:*")), &got); err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if fmt.Sprintf("%T", want[name]) != fmt.Sprintf("%T", got[name]) {
			t.Errorf("%s is %T, want %T", name, got[name], want[name])
		}
	}
}

// TestSubAndUnsub: channels come and go, also all of them, and a second sub of one is no second message.
func TestSubAndUnsub(t *testing.T) {
	s := serve(t, options{})
	c := s.dial("")
	step := func(say string, want ...string) {
		t.Helper()
		c.say(say)
		s.kill(jita, hek)
		slices.Sort(want)
		if got := c.channels(s.mark(c)); !slices.Equal(got, want) {
			t.Errorf("behind %s there came %q, want %q", say, got, want)
		}
	}
	c.sub("system:31000001")
	step(`{"action":"sub","channel":"system:30000142"}`, "system:30000142")
	step(`{"action":"sub","channel":"system:30000142"}`, "system:30000142")
	step(`{"action":"sub","channels":["system:30002053","all:*"],"channel":"none:*"}`,
		"system:30000142", "system:30002053", "all:*", "all:*", "all:*", "none:*", "none:*", "none:*")
	step(`{"action":"unsub","channels":["all:*","none:*"]}`, "system:30000142", "system:30002053")
	step(`{"action":"unsub","channel":"system:30000142"}`, "system:30002053")
	step(`{"action":"unsub","channel":"system:30000142"}`, "system:30002053")
	c.say(`{"action":"unsub","channels":["system:31000001","system:30002053"]}`)
	s.kill(jita, hek, marker)
	c.sub("system:31000001") // what came meanwhile is gone, as with the original
	step(`{"action":"sub","channel":"killstream"}`, "killstream", "killstream", "killstream")
}

// TestRefusals: what cannot be understood is answered, and costs nothing else.
func TestRefusals(t *testing.T) {
	s := serve(t, options{})
	c := s.dial("").sub("system:31000001", "system:30000142")
	for _, x := range []struct{ say, want string }{
		{`{"action":`, "this is not JSON as expected"},
		{`null`, "action \"\" is not known: want sub or unsub"},
		{`[]`, "this is not JSON as expected"},
		{`ping`, "this is not JSON as expected"},
		{`{"action":"subscribe","channel":"killstream"}`, `action "subscribe" is not known: want sub or unsub`},
		{`{"action":"sub"}`, "no channel is named"},
		{`{"action":"unsub","channels":[]}`, "no channel is named"},
		{`{"action":"sub","channel":5}`, "this is not JSON as expected"},
		{`{"action":"sub","channel":"killstreams"}`, `channel "killstreams" is not known: want killstream, `},
		{`{"action":"sub","channel":"character:01"}`, `channel "character:01" is not known`},
		{`{"action":"sub","channel":"character:2147483648"}`, `channel "character:2147483648" is not known`},
		{`{"action":"sub","channel":"system:Jita"}`, `channel "system:Jita" is not known`},
		{`{"action":"sub","channel":"total_value:b+"}`, `channel "total_value:b+" is not known`},
		{`{"action":"sub","channel":"label:"}`, `channel "label:" is not known`},
		{`{"action":"sub","channel":"label:` + strings.Repeat("x", 65) + `"}`, `is not known`},
		{`{"action":"sub","channel":"` + strings.Repeat("x", 129) + `"}`, `a channel's name has 129 bytes: at most 128 are accepted`},
		{`{"action":"sub","channel":"killstream","after":"x"}`, `after "x" is not accepted`},
		{`{"action":"sub","channel":"killstream","after":"1-00000000"}`, `after is for the first channels of a connection`},
	} {
		m := c.parse(c.say(x.say).next())
		if m.Action != "error" || !strings.Contains(m.Message, x.want) {
			t.Errorf("%.80s is answered with %+v, want %s", x.say, m, x.want)
		}
	}
	s.kill(jita)
	if got := c.channels(s.mark(c)); !slices.Equal(got, []string{"system:30000142"}) {
		t.Errorf("behind all that there came %q", got)
	}
}

// TestManyChannels: ten thousand, each in a message of its own; more are refused, and those there are do not suffer.
func TestManyChannels(t *testing.T) {
	s := serve(t, options{})
	c := s.dial("").sub("system:31000001")
	subs := make([]string, 0, 10_000)
	for i := range 10_000 - 2 {
		subs = append(subs, fmt.Sprintf(`{"action":"sub","channel":"character:%d"}`, i+1))
	}
	c.say(subs...).sub("system:30000142")
	if m := c.parse(c.sub("system:30002053").next()); m.Action != "error" || m.Message != "a connection has at most 10000 channels" {
		t.Errorf("one more is answered with %+v", m)
	}
	s.kill(jita, hek)
	if got := c.channels(s.mark(c)); !slices.Equal(got, []string{"system:30000142"}) {
		t.Errorf("there came %q", got)
	}
	all, err := json.Marshal(map[string]any{"action": "unsub", "channels": names(10_000 - 2)})
	if err != nil {
		t.Fatal(err)
	}
	c.say(string(all)).sub("system:30002053")
	s.kill(jita, hek)
	if got := c.channels(s.mark(c)); !slices.Equal(got, []string{"system:30000142", "system:30002053"}) {
		t.Errorf("there came %q", got)
	}
}

func names(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("character:%d", i+1))
	}
	return all
}

// TestTooManyChannelsTogether: who wants more than there may be comes back later, and what others give up may be had.
func TestTooManyChannelsTogether(t *testing.T) {
	s := serve(t, options{dialect: zkillws.Options{MaxChannels: 10}})
	first := s.dial("").sub("killstream", "all:*", "system:1", "system:2", "system:3")
	second := s.dial("").sub("system:1", "system:2", "system:3", "system:4", "system:5")
	third := s.dial("")
	third.send(websocket.MessageText, `{"action":"sub","channel":"all:*"}`)
	if code := third.closed(); code != websocket.StatusTryAgainLater {
		t.Errorf("one too many is closed with %d, want 1013", code)
	}
	second.say(`{"action":"unsub","channel":"system:5"}`)
	s.dial("").sub("all:*")
	first.conn.Close(websocket.StatusNormalClosure, "")
	// It is over when its place is given back, a moment after its client knows.
	for deadline := time.Now().Add(patience); ; {
		c := s.dial("")
		c.send(websocket.MessageText, `{"action":"sub","channels":["system:1","system:2","system:3","system:4","system:5"]}`)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := c.conn.Ping(ctx)
		cancel()
		if err == nil {
			break
		}
		if c.closed(); time.Now().After(deadline) {
			t.Fatal("the channels of a connection that has ended still count")
		}
	}
}

// TestLeftOut: history, updates and what has no id.
func TestLeftOut(t *testing.T) {
	s := serve(t, options{})
	c := s.dial("").sub("system:31000001", "all:*", "killstream")
	old := s.dial("/websocket/?backfill=1").sub("system:31000001", "killstream")
	m := s.mail(jita)
	s.insert(killfeed.MarkBackfill, m.AppendJSON(nil))
	live := s.kill(jita)
	live.ZKB, live.Labels = true, []string{"solo"}
	s.insert(0, live.AppendJSON(nil)) // an update
	if _, err := s.feed.Insert(context.Background(), jita, []byte(`{"some":"object"}`)); err != nil {
		t.Fatal(err)
	}
	s.kill(marker)
	ids := func(c *client) (ids []int64) {
		for _, text := range c.until(`"channel":"system:31000001"`) {
			m := c.parse(text)
			if m.KillmailID == 0 && m.KillID == 0 {
				t.Errorf("there came %s", text)
			}
			if m.KillmailID > 0 && m.SolarSystemID != marker {
				ids = append(ids, m.KillmailID)
			}
		}
		return ids
	}
	if got := ids(c); !slices.Equal(got, []int64{live.ID}) {
		t.Errorf("there came %d, want %d", got, live.ID)
	}
	if got := ids(old); !slices.Equal(got, []int64{m.ID, live.ID}) {
		t.Errorf("with backfill=1 there came %d, want %d", got, []int64{m.ID, live.ID})
	}
}

// TestResume: a client that asked for a cursor has, behind a restart of the server, all that it missed, once.
func TestResume(t *testing.T) {
	s := serve(t, options{})
	c := s.dial("").say(`{"action":"sub","channels":["system:30000142","all:*"],"cursor":1}`)
	plain := s.dial("").sub("all:*")
	s.kill(jita)
	first, second := c.parse(c.next()), c.parse(c.next())
	if first.Cursor != "" || second.Cursor != "1-"+string(s.feed.State().Epoch) || first.KillID != second.KillID {
		t.Errorf("there came %+v and %+v, want a cursor with the last", first, second)
	}
	if text := plain.next(); strings.Contains(text, "cursor") {
		t.Errorf("who did not ask for a cursor got %s", text)
	}
	s = s.restart()
	if code := c.closed(); code != websocket.StatusServiceRestart {
		t.Errorf("the restart closed with %d, want 1012", code)
	}
	s.kill(hek, jita, hek)
	c = s.dial("").say(`{"action":"sub","channels":["system:30000142","killstream"],"after":"` + second.Cursor + `"}`)
	plain = s.dial("").sub("killstream", "system:31000001")
	s.kill(jita)
	var got []string
	for len(got) < 6 {
		m := c.parse(c.next())
		switch {
		case m.KillmailID > 0:
			got = append(got, "stream "+m.Cursor)
		default:
			got = append(got, m.Channel+" "+m.Cursor)
		}
	}
	e := string(s.feed.State().Epoch)
	want := []string{"stream 2-" + e, "stream ", "system:30000142 3-" + e, "stream 4-" + e, "stream ", "system:30000142 5-" + e}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.kill(marker)
	if got := plain.channels(plain.until(`"channel":"system:31000001"`)); !slices.Equal(got, []string{"killstream", "killstream"}) {
		t.Errorf("without a cursor there came %q, want what is new", got)
	}
}

// TestResumeFarBack: what is on none of a client's channels is passed over, however much of it there is.
func TestResumeFarBack(t *testing.T) {
	s := serve(t, options{})
	for range 2000 {
		s.kill(hek)
	}
	mail, _ := rightHash(t, battle)
	s.insert(0, []byte(mail))
	c := s.dial("")
	c.send(websocket.MessageText, `{"action":"sub","channel":"location:60003760","after":0}`) // and no ping, which would have the server look again
	if m := c.parse(c.next()); m.KillID != 120000001 || !strings.HasPrefix(m.Cursor, "2001-") {
		t.Errorf("there came %+v", m)
	}
}

// TestResumeFromElsewhere: a cursor that is none of this log is told, and what is kept follows.
func TestResumeFromElsewhere(t *testing.T) {
	s := serve(t, options{})
	s.kill(jita, hek)
	for after, reason := range map[string]string{`"1-00000000"`: "epoch", `99`: "future", `0`: ""} {
		c := s.dial("").say(`{"action":"sub","channel":"killstream","after":` + after + `}`)
		if reason != "" {
			if m := c.parse(c.next()); m.Action != "gap" || m.Reason != reason {
				t.Errorf("after %s there came %+v, want a gap of reason %s", after, m, reason)
			}
		}
		if reason != "future" {
			if a, b := c.parse(c.next()), c.parse(c.next()); a.SolarSystemID != jita || b.SolarSystemID != hek {
				t.Errorf("after %s there came %+v and %+v", after, a, b)
			}
		}
	}
}

// TestSlow: a client that takes nothing for a while is behind, and has all of it when it comes back, in order; others wait for
// nothing.
func TestSlow(t *testing.T) {
	s := serve(t, options{})
	slow, _, err := s.tryDial("")
	if err != nil {
		t.Fatal(err)
	}
	slow.send(websocket.MessageText, subKillstream)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// Nothing is read but this answer, which says that the channel is there.
	slow.send(websocket.MessageText, `{"action":"sub"}`)
	if _, text, err := slow.conn.Read(ctx); err != nil || !strings.Contains(string(text), "no channel") {
		t.Fatalf("%s, %v", text, err)
	}
	quick := s.dial("").sub("killstream")
	const n = 300
	maker := storetest.NewMaker(storetest.MakerOptions{Bytes: 50_000, Attackers: 100})
	for range n {
		m := maker.NextMail()
		s.insert(0, m.AppendJSON(nil))
		if got := quick.parse(quick.next()); got.KillmailID != m.ID {
			t.Fatalf("the other got %d, want %d", got.KillmailID, m.ID)
		}
	}
	slow.read()
	var last int64
	for i := range n {
		m := slow.parse(slow.next())
		if last != 0 && m.KillmailID != last+1 {
			t.Fatalf("message %d is killmail %d, behind %d", i, m.KillmailID, last)
		}
		last = m.KillmailID
	}
}

// TestManyMessages: a killmail on more of a client's channels than a batch has room for comes on all of them.
func TestManyMessages(t *testing.T) {
	s := serve(t, options{})
	maker := storetest.NewMaker(storetest.MakerOptions{Attackers: 500})
	mail := maker.NextMail()
	var all []string
	for i := range mail.Attackers {
		mail.Attackers[i].Character = uint32(90_000_001 + i)
		all = append(all, fmt.Sprintf("character:%d", 90_000_001+i))
	}
	subs, err := json.Marshal(map[string]any{"action": "sub", "channels": all, "cursor": true})
	if err != nil {
		t.Fatal(err)
	}
	c := s.dial("").say(string(subs))
	s.insert(0, mail.AppendJSON(nil))
	for i, ch := range all {
		m := c.parse(c.next())
		if m.Channel != ch || (m.Cursor != "") != (i == len(all)-1) {
			t.Fatalf("message %d is %+v, want that of %s", i, m, ch)
		}
	}
}

// TestOrigins: pages of others may open a socket unless the operator says whose may.
func TestOrigins(t *testing.T) {
	s := serve(t, options{web: web.Config{Origins: []string{"tools.example.com"}}})
	s.dial("", "Origin", "https://tools.example.com")
	s.dial("")
	_, res, err := s.tryDial("", "Origin", "https://zkillboard.com")
	if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("another's page: %v, %+v, want 403", err, res)
	}
}

// TestNoUpgrade: what asks for no socket is none of this dialect's.
func TestNoUpgrade(t *testing.T) {
	s := serve(t, options{})
	res, err := http.Get(s.http.URL + "/websocket/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("it is answered with %d, want 404 as of a path that nobody has", res.StatusCode)
	}
}

// hour are real killmails, each a file of its own.
func hour(t *testing.T) [][]byte {
	t.Helper()
	f, err := os.Open(captures + "killmails-hour.jsonl.gz")
	if err != nil {
		t.Skip("the captured hour of killmails is not here")
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	for lines := bufio.NewReaderSize(z, 1<<20); ; {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			all = append(all, line)
		}
		if err != nil {
			return all
		}
	}
}
