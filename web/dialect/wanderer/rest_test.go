package wanderer_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"killfeed"
)

var times = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`)

// timeless puts NOW in place of the times at which something was answered.
func timeless(text string) string { return times.ReplaceAllString(text, `"NOW"`) }

// shown is a killmail of server.mail as the service shows it.
const shown = `{"killmail_id":ID,"kill_time":"2000-01-01T00:00:00Z","system_id":30000142,"solar_system_id":30000142,"solar_system_name":"Jita",` +
	`"victim":{"character_id":2100000,"corporation_id":98000001,"ship_type_id":670,"damage_taken":470,"position":POSITION,` +
	`"character_name":"Ann \"the\" Pilot","corporation_name":"Corp & Co","corporation_ticker":"C&C","ship_name":"Capsule"},` +
	`"attackers":[{"damage_done":470,"final_blow":true,"character_id":90000002,"corporation_id":98000001,"alliance_id":99000001,` +
	`"ship_type_id":17726,"weapon_type_id":WEAPON,"security_status":STATUS,"character_name":"Bob","corporation_name":"Corp & Co",` +
	`"corporation_ticker":"C&C","alliance_name":"Allies","alliance_ticker":"ALLY"}],"zkb":ZKB,"attacker_count":1}`

// wantShown fills in what the maker of killmails makes up.
func wantShown(t *testing.T, e killfeed.Event, id string) string {
	t.Helper()
	var k struct {
		Victim struct {
			Position json.RawMessage `json:"position"`
		} `json:"victim"`
		Attackers []struct {
			Weapon json.RawMessage `json:"weapon_type_id"`
			Status json.RawMessage `json:"security_status"`
		} `json:"attackers"`
		ZKB json.RawMessage `json:"zkb"`
	}
	if err := json.Unmarshal(e.Killmail, &k); err != nil {
		t.Fatal(err)
	}
	var total struct {
		Value json.RawMessage `json:"totalValue"`
	}
	if err := json.Unmarshal(k.ZKB, &total); err != nil || len(total.Value) == 0 {
		t.Fatalf("zkb is %s: %v", k.ZKB, err)
	}
	zkb := string(k.ZKB[:len(k.ZKB)-1]) + `,"total_value":` + string(total.Value) + "}"
	return strings.NewReplacer("ID", id, "POSITION", string(k.Victim.Position), "WEAPON", string(k.Attackers[0].Weapon),
		"STATUS", string(k.Attackers[0].Status), "ZKB", zkb).Replace(shown)
}

// TestAnswers compares whole answers.
func TestAnswers(t *testing.T) {
	in(t, func(s *server) {
		s.kill(jita, jita, amarr)
		first, err := s.feed.Event(1)
		if err != nil {
			t.Fatal(err)
		}
		second, err := s.feed.Event(2)
		if err != nil {
			t.Fatal(err)
		}
		one, two := wantShown(t, first, "1001"), wantShown(t, second, "1002")
		for _, c := range []struct{ method, target, body, want string }{
			{"GET", "/api/v1/killmail/1001", "", `{"data":` + one + `,"timestamp":"NOW"}`},
			{"GET", "/api/v1/kills/system/30000142?limit=50&since_hours=48", "",
				`{"data":{"kills":[` + two + "," + one + `],"timestamp":"NOW","cached":false},"timestamp":"NOW"}`},
			{"GET", "/api/v1/kills/system/30000142?limit=1", "",
				`{"data":{"kills":[` + two + `],"timestamp":"NOW","cached":false},"timestamp":"NOW"}`},
			{"GET", "/api/v1/kills/system/30000144", "", `{"data":{"kills":[],"timestamp":"NOW","cached":false},"timestamp":"NOW"}`},
			{"GET", "/api/v1/kills/cached/30000142", "",
				`{"data":{"kills":[` + two + "," + one + `],"timestamp":"NOW","cached":true},"timestamp":"NOW"}`},
			{"GET", "/api/v1/kills/count/30000142", "", `{"data":{"system_id":30000142,"count":2,"timestamp":"NOW"},"timestamp":"NOW"}`},
			{"GET", "/api/v1/kills/count/30000144/", "", `{"data":{"system_id":30000144,"count":0,"timestamp":"NOW"},"timestamp":"NOW"}`},
			{"POST", "/api/v1/kills/systems", `{"system_ids":[30000144,30000142,30000142],"since_hours":24,"limit":1}`,
				`{"data":{"systems_kills":{"30000144":[],"30000142":[` + two + `]},"timestamp":"NOW"},"timestamp":"NOW"}`},
			{"GET", "/api/v1/subscriptions", "", `{"data":{"subscriptions":[],"count":0}}`},
			{"GET", "/ping", "", "pong"},
			{"GET", "/health", "", `{"healthy":true,"status":"healthy","version":"test","timestamp":"NOW"}`},
			{"GET", "/websocket/status", "",
				`{"status":"operational","connections_active":0,"channels_active":0,"sse_active":0,"timestamp":"NOW"}`},
		} {
			status, body := s.do(c.method, c.target, c.body)
			if got := timeless(body); status != 200 || got != c.want {
				t.Errorf("%s %s: %d\ngot  %s\nwant %s", c.method, c.target, status, got, c.want)
			}
		}
	})
}

func TestErrors(t *testing.T) {
	in(t, func(s *server) {
		large := `{"system_ids":[` + strings.Repeat(" ", 1<<20) + `1]}`
		for _, c := range []struct {
			method, target, body string
			status               int
			code                 string
		}{
			{"GET", "/api/v1/kills/system/Jita", "", 400, "INVALID_SYSTEM_ID"},
			{"GET", "/api/v1/kills/system/0", "", 400, "INVALID_SYSTEM_ID"},
			{"GET", "/api/v1/kills/cached/50000001", "", 400, "INVALID_SYSTEM_ID"},
			{"GET", "/api/v1/kills/count/-1", "", 400, "INVALID_SYSTEM_ID"},
			{"GET", "/api/v1/kills/system/30000142?limit=0", "", 400, "INVALID_PARAMETERS"},
			{"GET", "/api/v1/kills/system/30000142?limit=1001", "", 400, "INVALID_PARAMETERS"},
			{"GET", "/api/v1/kills/system/30000142?since_hours=x", "", 400, "INVALID_PARAMETERS"},
			{"GET", "/api/v1/killmail/x", "", 400, "INVALID_KILLMAIL_ID"},
			{"GET", "/api/v1/killmail/99999999999999999999", "", 400, "INVALID_KILLMAIL_ID"},
			{"GET", "/api/v1/killmail/17", "", 404, "NOT_FOUND"},
			{"POST", "/api/v1/kills/systems", `{"system_ids":[]}`, 400, "INVALID_SYSTEM_IDS"},
			{"POST", "/api/v1/kills/systems", `{}`, 400, "INVALID_SYSTEM_IDS"},
			{"POST", "/api/v1/kills/systems", `{"system_ids":["a"]}`, 400, "INVALID_SYSTEM_IDS"},
			{"POST", "/api/v1/kills/systems", `{"system_ids":[1],"limit":-1}`, 400, "INVALID_PARAMETERS"},
			{"POST", "/api/v1/kills/systems", `{"system_ids":[1],"since_hours":{}}`, 400, "INVALID_PARAMETERS"},
			{"POST", "/api/v1/kills/systems", `[1]`, 400, "INVALID_PARAMETERS"},
			{"POST", "/api/v1/kills/systems", large, 413, "INVALID_PARAMETERS"},
		} {
			status, body := s.do(c.method, c.target, c.body)
			var e struct {
				Error, Code, Timestamp string
				Details                *map[string]string
			}
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatalf("%s: %v: %s", c.target, err, body)
			}
			if status != c.status || e.Code != c.code || e.Error == "" || e.Timestamp == "" || !strings.Contains(body, `"details":`) {
				t.Errorf("%s %s: %d %s, want %d %s", c.method, c.target, status, body, c.status, c.code)
			}
		}
		for target, want := range map[string]int{"POST /api/v1/subscriptions": 501, "DELETE /api/v1/subscriptions/me": 404} {
			method, path, _ := strings.Cut(target, " ")
			if status, body := s.do(method, path, `{"subscriber_id":"me"}`); status != want || !strings.HasPrefix(body, `{"error":{"message":"`) {
				t.Errorf("%s: %d %s", target, status, body)
			}
		}
	})
}

// What is told of the server by JSON is JSON, and only for those who ask for it where others ask for something else.
func TestInformation(t *testing.T) {
	in(t, func(s *server) {
		s.kill(jita)
		time.Sleep(90 * time.Second)
		for _, c := range []struct{ target, accept, want string }{
			{"/status", "", `"processing_lag_seconds":90`},
			{"/status", "", `"killmails_stored":1`},
			{"/metrics", "application/json", `"killmails_received":1`},
			{"/metrics", "application/json, text/plain, */*", `"killmails_received":1`},
			{"/metrics", "application/openmetrics-text, application/json", "# HELP"},
			{"/metrics", "", "# HELP"},
			{"/websocket", "", `"websocket_url":"/socket/websocket"`},
			{"/websocket/", "application/json", `"killmails:lobby"`},
			{"/api/v1/subscriptions/stats", "", `"total_subscriptions":0`},
		} {
			if status, body := s.do("GET", c.target, "", "Accept", c.accept); status != 200 || !strings.Contains(body, c.want) {
				t.Errorf("%s: %d %s, want %s", c.target, status, body, c.want)
			}
		}
	})
}

// TestBound: what an answer may hold is bounded, and it says so when there would have been more.
func TestBound(t *testing.T) {
	in(t, func(s *server) {
		for range 40 {
			m := s.mail(jita)
			for i := range 4000 {
				a := m.Attackers[0]
				a.Character += uint32(i)
				m.Attackers = append(m.Attackers, a)
			}
			s.insert(m)
		}
		for _, c := range []struct{ method, target, body string }{
			{"GET", "/api/v1/kills/system/30000142", ""}, {"POST", "/api/v1/kills/systems", `{"system_ids":[30000142]}`},
		} {
			_, body := s.do(c.method, c.target, c.body)
			if len(body) > killfeed.MaxAnswerBytes+1024 || !strings.Contains(body, `"truncated":true`) || !json.Valid([]byte(body)) {
				t.Errorf("%s: %d bytes, ending in %s", c.target, len(body), body[len(body)-100:])
			}
		}
	})
}

// TestRealKillmails holds what Wanderer asks of a killmail against real ones.
func TestRealKillmails(t *testing.T) {
	const wire = "../../../../shared/data/wire/"
	if _, err := os.Stat(wire); err != nil {
		t.Skip("there are no captures here")
	}
	in(t, func(s *server) {
		var texts [][]byte
		for _, pattern := range []string{"r2z2_ephemeral_*.json", "r2z2_ephemeral_50.jsonl", "esi_*.json", "odd_*.json", "everef_member*.json", "ws_killstream*.json", "redisq_*_with*.json"} {
			files, err := filepath.Glob(wire + pattern)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasSuffix(file, "l") {
					texts = append(texts, text)
					continue
				}
				for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
					texts = append(texts, bytes.Clone(lines.Bytes()))
				}
			}
		}
		tested := 0
		for _, text := range texts {
			k, err := killfeed.ParseItem(text)
			if err != nil {
				continue // a list of another kind
			}
			s.put(k, 0)
			var stored struct {
				Time      string `json:"killmail_time"`
				Victim    map[string]any
				Attackers []map[string]any
				ZKB       map[string]any
			}
			if err := json.Unmarshal(k.JSON, &stored); err != nil {
				t.Fatal(err)
			}
			_, body := s.do("GET", "/api/v1/killmail/"+itoa(k.ID), "")
			var a struct {
				Data struct {
					ID          int64  `json:"killmail_id"`
					Time        string `json:"kill_time"`
					System      uint32 `json:"system_id"`
					SolarSystem uint32 `json:"solar_system_id"`
					Victim      map[string]any
					Attackers   []map[string]any
					ZKB         map[string]any
					Count       int `json:"attacker_count"`
				}
			}
			if err := json.Unmarshal([]byte(body), &a); err != nil {
				t.Fatal(err)
			}
			d := a.Data
			if d.ID != k.ID || d.Time != stored.Time || d.System != k.SystemID || d.SolarSystem != k.SystemID || d.Victim == nil ||
				d.Count != len(stored.Attackers) || len(d.Attackers) != d.Count || d.ZKB["total_value"] != stored.ZKB["totalValue"] {
				t.Errorf("killmail %d is shown as %.500s", k.ID, body)
			}
			parties := append(d.Attackers, d.Victim)
			for i, p := range append(stored.Attackers, stored.Victim) {
				for _, member := range []string{"character_id", "corporation_id", "alliance_id", "ship_type_id", "weapon_type_id", "damage_done", "damage_taken", "final_blow", "security_status"} {
					if parties[i][member] != p[member] {
						t.Errorf("killmail %d, party %d: %s is %v, want %v", k.ID, i, member, parties[i][member], p[member])
					}
				}
			}
			if strings.Contains(body, `"killmail_time"`) || strings.Contains(body, `"items"`) || strings.Contains(body, `":null`) {
				t.Errorf("killmail %d has what it must not have: %.500s", k.ID, body)
			}
			tested++
		}
		if tested < 55 {
			t.Errorf("only %d killmails were found", tested)
		}
	})
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
