package wanderer

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
)

func FuzzJoin(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"systems":[30000142,"30000144"],"client_identifier":"wanderer_app"}`,
		`{"systems":[1],"character_ids":[3000000000,2147483647],"preload":{"enabled":false,"since_hours":1e99,"limit_per_system":-3},"after":"1-00000000"}`,
		`{"systems":[ ],"after":17,"backfill":true}`, `{"systems":null,"preload":null,"after":""}`, `[]`, `{"systems":[[1]]}`, `{"client_identifier":"\u0000 é"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, params []byte) {
		p, err := parseJoin(params)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error says nothing")
			}
			return
		}
		seen := map[uint32]bool{}
		for _, id := range p.systems {
			if id < 1 || id > maxSystemID || seen[id] {
				t.Errorf("system %d", id)
			}
			seen[id] = true
		}
		for _, id := range p.characters.ids {
			if id < 1 || id > killfeed.MaxID {
				t.Errorf("character %d", id)
			}
		}
		if len(p.systems) > maxSystems || len(p.characters.ids) > maxCharacters || len(p.user) > 32 || p.user == "" ||
			p.preload.limit < 1 || p.preload.limit > maxPreload || p.preload.since < 1 || p.preload.since.Hours() > maxPreloadHours {
			t.Errorf("%+v is not bounded", p)
		}
	})
}

func FuzzStream(f *testing.F) {
	for _, seed := range []string{"system_ids=30000142,30000144&character_ids=1", "min_value=1e9&preload_days=3", "last_event_id=1-00000000", "min_value=0x1p-2&system_ids=,,", "%zz"} {
		f.Add(seed, "")
	}
	f.Fuzz(func(t *testing.T, text, last string) {
		r := &http.Request{URL: &url.URL{RawQuery: text}, Header: http.Header{"Last-Event-Id": {last}}}
		p, err := parseStream(r, true)
		if err != nil {
			return
		}
		read, err := p.read(nil)
		if err != nil {
			t.Fatalf("%+v is accepted, and cannot be read: %v", p, err)
		}
		if len(read.Topics) < 1 || len(read.Topics) > 2*maxListed || p.days < 0 || p.days > maxDays {
			t.Errorf("%+v is not bounded", p)
		}
	})
}

// FuzzKill: whatever object was inserted, it is shown as JSON that has what clients cannot do without.
func FuzzKill(f *testing.F) {
	for _, seed := range []string{
		`{"killmail_id":1,"killmail_time":"2026-01-01T00:00:00Z","victim":{"ship_type_id":1},"attackers":[{},{"character_id":5}],"zkb":{"totalValue":1.50}}`,
		`{"killmail_id":1,"victim":[1,{"a":"]}"}],"attackers":{"a":[1]},"zkb":{}}`, `{"killmail_id":1,"attackers":[1,"\"",null,[]],"moon_id":null,"war_id":"x"}`,
		`{"killmail_id":1,"victim":{"character_id":99999999999,"ship_type_id":"1","\u0076":1},"zkb":{"totalValue":1,"total_value":2}}`, `{}`,
	} {
		f.Add([]byte(seed))
	}
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { feed.Close() })
	api, err := web.New(feed, web.Config{})
	if err != nil {
		f.Fatal(err)
	}
	d := &dialect{api: api, feed: feed, epoch: feed.State().Epoch}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := killfeed.NewKillmail(30000142, text)
		if err != nil {
			return
		}
		e := killfeed.Event{ID: 7, SystemID: m.SystemID, Killmail: m.JSON, KillmailID: m.ID, KilledAt: m.Time}
		k := d.encode(&e)
		var shown struct {
			System    uint32 `json:"system_id"`
			Killmails []struct {
				ID        *int64                       `json:"killmail_id"`
				Time      string                       `json:"kill_time"`
				Victim    map[string]json.RawMessage   `json:"victim"`
				Attackers []map[string]json.RawMessage `json:"attackers"`
				ZKB       map[string]json.RawMessage   `json:"zkb"`
				Count     int                          `json:"attacker_count"`
			} `json:"killmails"`
			Cursor string
		}
		if err := json.Unmarshal(k.update, &shown); err != nil {
			t.Fatalf("%s\nis shown as\n%s\n%v", m.JSON, k.update, err)
		}
		s := shown.Killmails[0]
		if s.ID == nil || *s.ID != m.ID || s.Time == "" || s.Victim == nil || s.ZKB == nil || s.Count != len(s.Attackers) || shown.Cursor == "" ||
			!bytes.Contains(k.update, k.text) || !json.Valid(k.text) {
			t.Errorf("%s\nis shown as\n%s", m.JSON, k.update)
		}
	})
}
