package killfeed

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// A made-up killmail in the shape of ESI, in pieces, and its hash: SHA-1 of 90000001, 90000002, 587 and the time.
const (
	testMembers = `"attackers":[{"alliance_id":99000002,"character_id":90000002,"corporation_id":98000002,"damage_done":4200,` +
		`"final_blow":true,"security_status":-9.9,"ship_type_id":17703,"weapon_type_id":2456},{"corporation_id":1000127,` +
		`"damage_done":0,"faction_id":500010,"final_blow":false,"security_status":0,"ship_type_id":24130}],"killmail_id":100000001,` +
		`"killmail_time":"2026-01-31T12:34:56Z","solar_system_id":30000142,"victim":{"alliance_id":99000001,` +
		`"character_id":90000001,"corporation_id":98000001,"damage_taken":4200,"items":[{"flag":5,"item_type_id":34,` +
		`"quantity_dropped":1,"singleton":0}],"position":{"x":-218152289631.39032,"y":1.5e-7,"z":0.0},"ship_type_id":587}`
	testHash  = "9261663a4e1a4fa19b493141e26359c783178abc"
	otherHash = "0123456789abcdef0123456789abcdef01234567"
	testBody  = "{" + testMembers + "}"

	// zkillboard's part without the hash, and the whole zkb.
	testValues = `"locationID":50001248,"totalValue":10000.01,"npc":false,"labels":["tz:eu","cat:6","solo"],` +
		`"href":"https:\/\/esi.evetech.net\/killmails\/"`
	testZKB = `{` + testValues + `,"hash":"` + testHash + `"}`
)

var (
	testTime         = time.Date(2026, 1, 31, 12, 34, 56, 0, time.UTC)
	testParticipants = []string{
		"loss:character:90000001", "loss:corporation:98000001", "loss:alliance:99000001", "loss:ship:587",
		"kill:character:90000002", "kill:corporation:98000002", "kill:alliance:99000002", "kill:ship:17703",
		"kill:corporation:1000127", "kill:faction:500010", "kill:ship:24130",
	}
	testTopics = append([]string{"system:30000142"}, testParticipants...)
	withLabels = append(slices.Clone(testTopics), "label:tz:eu", "label:cat:6", "label:solo")

	digestTestLabels = digestLabels | Digest(crc32.Checksum([]byte("cat:6\x00solo\x00tz:eu"), crc32.MakeTable(crc32.Castagnoli)))
)

// shapes are items that are accepted, and what is made of them.
var shapes = []struct {
	name, item string
	json       string
	id         int64
	hash       string
	topics     []string // nil: testTopics
	digest     Digest
}{
	{name: "ESI body", item: testBody,
		json: testBody, id: 100000001},
	{name: "canonical", item: `{` + testMembers + `,"zkb":` + testZKB + `}`,
		json: `{` + testMembers + `,"zkb":` + testZKB + `}`, id: 100000001, hash: testHash,
		topics: withLabels, digest: digestHash | digestZKB | digestTestLabels},
	{name: "zkb keeps its place", item: `{"zkb":` + testZKB + `,` + testMembers + `}`,
		json: `{"zkb":` + testZKB + `,` + testMembers + `}`, id: 100000001, hash: testHash,
		topics: withLabels, digest: digestHash | digestZKB | digestTestLabels},
	{name: "EVE Ref", item: `{` + testMembers + `,"killmail_hash":"` + testHash + `","http_last_modified":"2026-01-31T12:40:00Z"}`,
		json: `{` + testMembers + `,"zkb":{"hash":"` + testHash + `"}}`, id: 100000001, hash: testHash, digest: digestHash},
	{name: "EVE Ref members in front and between", item: `{"killmail_hash":"` + testHash + `","http_last_modified":1,"a":1,` +
		`"http_last_modified":2,` + testMembers + `}`,
		json: `{"a":1,` + testMembers + `,"zkb":{"hash":"` + testHash + `"}}`, id: 100000001, hash: testHash, digest: digestHash},
	{name: "EVE Ref without a hash", item: `{"http_last_modified":null,` + testMembers + `,"killmail_hash":null}`,
		json: testBody, id: 100000001},
	{name: "killmail_hash goes into zkb where it is", item: `{"zkb":{"npc":true},"killmail_hash":"` + testHash + `",` + testMembers + `}`,
		json: `{"zkb":{"npc":true,"hash":"` + testHash + `"},` + testMembers + `}`, id: 100000001, hash: testHash,
		digest: digestHash | digestZKB},
	{name: "killmail_hash goes into an empty zkb", item: `{"killmail_hash":"` + testHash + `","zkb":{},` + testMembers + `}`,
		json: `{"zkb":{"hash":"` + testHash + `"},` + testMembers + `}`, id: 100000001, hash: testHash, digest: digestHash},
	{name: "killmail_hash replaces null in zkb", item: `{` + testMembers + `,"zkb":{"a":1,"hash":null,"b":2},"killmail_hash":"` +
		testHash + `"}`,
		json: `{` + testMembers + `,"zkb":{"a":1,"hash":"` + testHash + `","b":2}}`, id: 100000001, hash: testHash,
		digest: digestHash | digestZKB},
	{name: "upper case is kept", item: `{` + testMembers + `,"zkb":{"hash":"` + strings.ToUpper(testHash) + `"}}`,
		json: `{` + testMembers + `,"zkb":{"hash":"` + strings.ToUpper(testHash) + `"}}`, id: 100000001, hash: testHash, digest: digestHash},
	{name: "zkb null", item: `{` + testMembers + `,"zkb":null}`,
		json: testBody, id: 100000001},
	{name: "zkb null in front", item: `{"zkb":null,` + testMembers + `}`,
		json: testBody, id: 100000001},
	{name: "members to drop in another order", item: `{"zkb":null,` + testMembers + `,"killmail_hash":null,"http_last_modified":1}`,
		json: testBody, id: 100000001},
	{name: "zkb twice: the last", item: `{"zkb":{"hash":"x"},` + testMembers + `,"zkb":{"a":1}}`,
		json: `{` + testMembers + `,"zkb":{"a":1}}`, id: 100000001, digest: digestZKB},
	{name: "zkb twice: the last is null", item: `{"zkb":{"hash":"x"},` + testMembers + `,"zkb":null}`,
		json: testBody, id: 100000001},
	{name: "hash null, no labels", item: `{` + testMembers + `,"zkb":{"hash":null,"labels":null}}`,
		json: `{` + testMembers + `,"zkb":{"hash":null,"labels":null}}`, id: 100000001, digest: digestZKB},
	{name: "the hash cannot be computed", item: `{"solar_system_id":30000142,"zkb":{"hash":"` + otherHash + `"}}`,
		json: `{"solar_system_id":30000142,"zkb":{"hash":"` + otherHash + `"}}`, hash: otherHash,
		topics: []string{"system:30000142"}, digest: digestHash},
	{name: "escaped names", item: `{"solar\u005fsystem_id":30000142,"\u007akb":{"l\u0061bels":["a"]},"killmail\u005fhash":null}`,
		json:   `{"solar\u005fsystem_id":30000142,"\u007akb":{"l\u0061bels":["a"]}}`,
		topics: []string{"system:30000142", "label:a"}, digest: digestZKB | digestLabels | 0xc1d04330},
	{name: "the last of members given twice", item: `{"solar_system_id":1,"killmail_id":1,"solar_system_id":30000142,"killmail_id":2,` +
		`"victim":{"character_id":1},"attackers":[{"character_id":2}],"victim":{"character_id":3,"character_id":4},"attackers":[]}`,
		json: `{"solar_system_id":1,"killmail_id":1,"solar_system_id":30000142,"killmail_id":2,` +
			`"victim":{"character_id":1},"attackers":[{"character_id":2}],"victim":{"character_id":3,"character_id":4},"attackers":[]}`,
		id: 2, topics: []string{"system:30000142", "loss:character:4"}},
	{name: "a pilot shot down by a friend and a shipmate", item: `{"solar_system_id":30000142,"victim":{"ship_type_id":587,` +
		`"corporation_id":98000001},"attackers":[{"corporation_id":98000001,"ship_type_id":670},{"ship_type_id":587},{"ship_type_id":670}]}`,
		json: `{"solar_system_id":30000142,"victim":{"ship_type_id":587,` +
			`"corporation_id":98000001},"attackers":[{"corporation_id":98000001,"ship_type_id":670},{"ship_type_id":587},{"ship_type_id":670}]}`,
		topics: []string{"system:30000142", "loss:corporation:98000001", "loss:ship:587",
			"kill:corporation:98000001", "kill:ship:670", "kill:ship:587"}},
	{name: "wrappers' names in a killmail", item: `{"solar_system_id":30000142,"killmail":{"victim":{"character_id":1}},"esi":[],"package":null}`,
		json:   `{"solar_system_id":30000142,"killmail":{"victim":{"character_id":1}},"esi":[],"package":null}`,
		topics: []string{"system:30000142"}},

	{name: "event", item: `{"system_id":30000142,"killmail":` + testBody + `}`,
		json: testBody, id: 100000001},
	{name: "event of another feed", item: `{"event_id":17,"system_id":30000142,"received_at":"2026-01-31T12:35:00.000Z","update":true,` +
		`"killmail":{` + testMembers + `,"zkb":` + testZKB + `}}`,
		json: `{` + testMembers + `,"zkb":` + testZKB + `}`, id: 100000001, hash: testHash,
		topics: withLabels, digest: digestHash | digestZKB | digestTestLabels},
	{name: "event with any object", item: `{"killmail":{"n":1.0e0,"t":"\u0041\/"},"system_id":30000142}`,
		json: `{"n":1.0e0,"t":"\u0041\/"}`, topics: []string{"system:30000142"}},
	{name: "event with an id beside", item: `{"event_id":1,"system_id":30000142,"killmail_id":7,"hash":"x","killmail":{"n":1}}`,
		json: `{"n":1}`, topics: []string{"system:30000142"}},
	{name: "event with an empty object", item: `{"system_id":30000142,"killmail":{}}`,
		json: `{}`, topics: []string{"system:30000142"}},
	{name: "event with odd participants", item: `{"system_id":30000142,"killmail":{"solar_system_id":null,"killmail_id":null,` +
		`"killID":"x","killmail_time":7,"victim":[],"attackers":{"character_id":5}}}`,
		json: `{"solar_system_id":null,"killmail_id":null,"killID":"x","killmail_time":7,"victim":[],` +
			`"attackers":{"character_id":5}}`, topics: []string{"system:30000142"}},
	{name: "ids that are none", item: `{"system_id":30000142,"killmail":{"victim":{"character_id":0,"corporation_id":null,` +
		`"alliance_id":-5,"faction_id":"500001","ship_type_id":2147483648},"attackers":[null,7,[{"ship_type_id":1}],` +
		`{"character_id":1.0,"corporation_id":1e3,"alliance_id":2147483647,"ship_type_id":{"ship_type_id":3}}]}}`,
		json: `{"victim":{"character_id":0,"corporation_id":null,` +
			`"alliance_id":-5,"faction_id":"500001","ship_type_id":2147483648},"attackers":[null,7,[{"ship_type_id":1}],` +
			`{"character_id":1.0,"corporation_id":1e3,"alliance_id":2147483647,"ship_type_id":{"ship_type_id":3}}]}`,
		topics: []string{"system:30000142", "kill:alliance:2147483647"}},
	{name: "labels", item: `{"system_id":30000142,"killmail":{"zkb":{"labels":["b","\u0061","a","",7,null,["x"],"caf\u00e9","#:2+","` +
		strings.Repeat("x", 64) + `","` + strings.Repeat("y", 65) + `","a\nb","b"]}}}`,
		json: `{"zkb":{"labels":["b","\u0061","a","",7,null,["x"],"caf\u00e9","#:2+","` +
			strings.Repeat("x", 64) + `","` + strings.Repeat("y", 65) + `","a\nb","b"]}}`,
		topics: []string{"system:30000142", "label:b", "label:a", "label:café", "label:#:2+", "label:" + strings.Repeat("x", 64)},
		digest: digestZKB | digestLabels |
			Digest(crc32.Checksum([]byte("#:2+\x00a\x00b\x00café\x00"+strings.Repeat("x", 64)), crc32.MakeTable(crc32.Castagnoli)))},

	{name: "R2Z2", item: `{"killmail_id":100000001,"hash":"` + testHash + `","esi":` + testBody + `,"zkb":` + testZKB +
		`,"uploaded_at":1769862900,"sequence_id":96547622,"sequence_updated":96547582}`,
		json: `{` + testMembers + `,"zkb":` + testZKB + `}`, id: 100000001, hash: testHash,
		topics: withLabels, digest: digestHash | digestZKB | digestTestLabels},
	{name: "R2Z2, zkb without hash", item: `{"zkb":{` + testValues + `},"esi":` + testBody + `,"hash":"` + testHash + `"}`,
		json: `{` + testMembers + `,"zkb":` + testZKB + `}`, id: 100000001, hash: testHash,
		topics: withLabels, digest: digestHash | digestZKB | digestTestLabels},
	{name: "R2Z2, zkb null", item: `{"killmail_id":100000001,"hash":"` + testHash + `","esi":` + testBody + `,"zkb":null}`,
		json: `{` + testMembers + `,"zkb":{"hash":"` + testHash + `"}}`, id: 100000001, hash: testHash, digest: digestHash},
	{name: "R2Z2, no zkb, no hash", item: `{"killmail_id":null,"esi":` + testBody + `}`,
		json: testBody, id: 100000001},
	{name: "R2Z2, zkb in the body", item: `{"hash":"` + testHash + `","esi":{"zkb":{` + testValues + `},` + testMembers + `},"zkb":null}`,
		json: `{"zkb":` + testZKB + `,` + testMembers + `}`, id: 100000001, hash: testHash,
		topics: withLabels, digest: digestHash | digestZKB | digestTestLabels},
	{name: "R2Z2, small body", item: `{"hash":"` + otherHash + `","esi":{"solar_system_id":30000142,"killmail_hash":null},"zkb":{}}`,
		json: `{"solar_system_id":30000142,"zkb":{"hash":"` + otherHash + `"}}`, hash: otherHash,
		topics: []string{"system:30000142"}, digest: digestHash},

	{name: "RedisQ", item: `{"package":{"killID":100000001,"killmail":` + testBody + `,"zkb":` + testZKB + `}}`,
		json: `{` + testMembers + `,"zkb":` + testZKB + `}`, id: 100000001, hash: testHash,
		topics: withLabels, digest: digestHash | digestZKB | digestTestLabels},
	{name: "RedisQ, the bare package", item: `{"killID":100000001,"killmail":` + testBody + `,"zkb":` + testZKB + `}`,
		json: `{` + testMembers + `,"zkb":` + testZKB + `}`, id: 100000001, hash: testHash,
		topics: withLabels, digest: digestHash | digestZKB | digestTestLabels},
	{name: "RedisQ, no zkb", item: `{"package":{"killID":100000001,"killmail":` + testBody + `}}`,
		json: testBody, id: 100000001},
}

func TestParseItem(t *testing.T) {
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			var spaced bytes.Buffer
			if err := json.Indent(&spaced, []byte(shape.item), " \r\n", "\t  "); err != nil {
				t.Fatal(err)
			}
			colons := strings.ReplaceAll(spaced.String(), `": `, `" : `)
			for _, item := range []string{shape.item, " \n" + shape.item + "\t", spaced.String(), colons} {
				given := []byte(item)
				k, err := ParseItem(given)
				if err != nil {
					t.Fatalf("%s: %v", item, err)
				}
				if string(given) != item {
					t.Fatalf("the item was changed to %s", given)
				}
				clear(given) // nothing of it may be kept
				if string(k.JSON) != shape.json {
					t.Errorf("%s\n json %s\n want %s", item, k.JSON, shape.json)
				}
				if k.ID != shape.id || k.Hash != shape.hash || k.SystemID != 30000142 || k.Digest != shape.digest {
					t.Errorf("%s\n id %d, hash %q, system %d, digest %x; want %d, %q, 30000142, %x", item,
						k.ID, k.Hash, k.SystemID, k.Digest, shape.id, shape.hash, shape.digest)
				}
				topics := shape.topics
				if topics == nil {
					topics = testTopics
				}
				if got := names(k.Topics); !slices.Equal(got, topics) {
					t.Errorf("%s\n topics %q\n want   %q", item, got, topics)
				}
				if strings.Contains(item, "2026-01-31T12:34:56Z") != k.Time.Equal(testTime) {
					t.Errorf("%s\n time %v", item, k.Time)
				}
				checkKillmail(t, k)
			}
		})
	}
}

func names(topics []Topic) (names []string) {
	for _, topic := range topics {
		names = append(names, topic.String())
	}
	return names
}

// badItems are items that are refused.
var badItems = []struct {
	item  string
	param string // of the InvalidError
	text  string // a part of the error's text
}{
	{``, "killmail", "missing or empty"},
	{`  `, "killmail", "JSON with a value at byte 2"},
	{`null`, "killmail", `"null" is not accepted: want a JSON object`},
	{`[` + testBody + `]`, "killmail", "want a JSON object"},
	{`"x"`, "killmail", "want a JSON object"},
	{testBody + testBody, "killmail", "nothing more"},
	{testBody[:100], "killmail", "JSON with"},
	{"{\"system_id\":1,\"killmail\":{\"a\":\"\xff\"}}", "killmail", "valid UTF-8 at byte 32"},

	{`{}`, "solar_system_id", "is missing or empty: want an integer from 1 to 2147483647"},
	{`{"solar_system_id":null}`, "solar_system_id", "is missing"},
	{`{"solar_system_id":0}`, "solar_system_id", `"0" is not accepted: want an integer from 1 to 2147483647`},
	{`{"solar_system_id":-1}`, "solar_system_id", `"-1"`},
	{`{"solar_system_id":2147483648}`, "solar_system_id", `"2147483648"`},
	{`{"solar_system_id":99999999999999999999999}`, "solar_system_id", `"99999999999999999999999"`},
	{`{"solar_system_id":3e7}`, "solar_system_id", `"3e7"`},
	{`{"solar_system_id":"30000142"}`, "solar_system_id", `"\"30000142\""`},
	{`{"solar_system_id":{"a":1}}`, "solar_system_id", `an integer`},
	{strings.Replace(testBody, "solar_system_id", "system_id", 1), "solar_system_id", "is missing"},
	{`{"killmail_id":1,"action":"sub"}`, "solar_system_id", "is missing"},
	{`{"hash":"` + testHash + `"}`, "solar_system_id", "is missing"},
	{`{"killmail_id":1,"killmail_hash":"` + testHash + `","killmail_time":"2026-01-31T12:34:56Z"}`, "solar_system_id", "is missing"},

	{`{"solar_system_id":1,"killmail_id":0}`, "killmail_id", `"0" is not accepted: want an integer from 1 to 9223372036854775807`},
	{`{"solar_system_id":1,"killmail_id":-7}`, "killmail_id", `"-7"`},
	{`{"solar_system_id":1,"killmail_id":1.0}`, "killmail_id", `"1.0"`},
	{`{"solar_system_id":1,"killmail_id":9223372036854775808}`, "killmail_id", `"9223372036854775808"`},
	{`{"solar_system_id":1,"killmail_id":"1"}`, "killmail_id", "an integer"},
	{`{"system_id":1,"killmail":{"killmail_id":true}}`, "killmail_id", `"true"`},

	{`{"solar_system_id":1,"zkb":[]}`, "zkb", `"[]" is not accepted: want an object, null or nothing`},
	{`{"solar_system_id":1,"zkb":"x"}`, "zkb", "an object"},
	{`{"solar_system_id":1,"zkb":1}`, "zkb", "an object"},
	{`{"system_id":1,"killmail":{"zkb":false}}`, "zkb", "an object"},
	{`{"esi":` + testBody + `,"zkb":true}`, "zkb", "an object"},
	{`{"esi":{"solar_system_id":1,"zkb":{}},"zkb":{}}`, "zkb", "one zkb"},

	{`{` + testMembers + `,"zkb":{"hash":"` + otherHash + `"}}`, "hash",
		`"` + otherHash + `" is not accepted: want the hash that is computed from the killmail, ` + testHash},
	{`{` + testMembers + `,"killmail_hash":"` + otherHash + `"}`, "hash", testHash},
	{`{` + testMembers + `,"killmail_hash":"` + testHash[:39] + `"}`, "hash", "40 hex digits"},
	{`{` + testMembers + `,"killmail_hash":"` + testHash + `0"}`, "hash", "40 hex digits"},
	{`{` + testMembers + `,"killmail_hash":"` + testHash[:39] + `g"}`, "hash", "40 hex digits"},
	{`{` + testMembers + `,"killmail_hash":""}`, "hash", "40 hex digits"},
	{`{` + testMembers + `,"killmail_hash":1}`, "hash", "40 hex digits"},
	{`{` + testMembers + `,"zkb":{"hash":{}}}`, "hash", "40 hex digits"},
	{`{"system_id":1,"killmail":{"zkb":{"hash":"x"}}}`, "hash", "40 hex digits"},
	{`{` + testMembers + `,"killmail_hash":"` + otherHash + `","zkb":{"hash":"` + testHash + `"}}`, "hash",
		`"` + otherHash + `" is not accepted: want one hash in all places; another is ` + testHash},
	{`{"hash":"` + otherHash + `","esi":` + testBody + `}`, "hash", testHash},
	{`{"hash":"` + otherHash + `","esi":` + testBody + `,"zkb":` + testZKB + `}`, "hash", testHash},
	{`{"esi":` + testBody + `,"zkb":{"hash":"` + otherHash + `"}}`, "hash", testHash},
	{`{"hash":5,"esi":` + testBody + `}`, "hash", "40 hex digits"},

	{`{"killmail":{}}`, "system_id", "is missing or empty: want an integer"},
	{`{"system_id":null,"killmail":{}}`, "system_id", `"null"`},
	{`{"system_id":"30000142","killmail":{}}`, "system_id", `an integer`},
	{`{"system_id":30000142.0,"killmail":{}}`, "system_id", `"30000142.0"`},
	{`{"system_id":0,"killmail":{}}`, "system_id", `"0"`},
	{`{"system_id":1,"killmail":` + testBody + `}`, "system_id",
		`"1" is not accepted: want the solar_system_id that is in the killmail, 30000142`},
	{`{"system_id":1,"killmail":{"solar_system_id":"1"}}`, "system_id", `"1"`},
	{`{"system_id":1,"killmail":{"solar_system_id":1.0}}`, "system_id", `1.0`},
	{`{"system_id":1,"killmail":null}`, "killmail", `"null" is not accepted: want a JSON object`},
	{`{"system_id":1,"killmail":[]}`, "killmail", "want a JSON object"},
	{`{"system_id":1,"killmail":"{}"}`, "killmail", "want a JSON object"},
	{`{"system_id":1,"killmail":{},"killmail":7}`, "killmail", "want a JSON object"},
	{`{"system_id":1}`, "solar_system_id", "is missing"},

	{`{"killmail_id":2,"esi":` + testBody + `}`, "killmail_id",
		`"100000001" is not accepted: want in the killmail the id that its envelope gives, 2`},
	{`{"killmail_id":2,"esi":{"solar_system_id":1}}`, "killmail_id", "is missing or empty: want in the killmail"},
	{`{"killmail_id":0,"esi":` + testBody + `}`, "killmail_id", `"0"`},
	{`{"esi":{}}`, "solar_system_id", "is missing"},
	{`{"esi":{"solar_system_id":0}}`, "solar_system_id", `"0"`},
	{`{"esi":null}`, "esi", `"null" is not accepted: want a JSON object`},
	{`{"esi":[],"killmail_id":1,"hash":"` + testHash + `"}`, "esi", `"[]"`},
	{`{"esi":` + testBody + `,"killmail":` + testBody + `}`, "killmail", "one killmail: in one of the members killmail, esi and package"},

	{`{"package":null}`, "package", "null says that there was none"},
	{`{"package":7}`, "package", "an object"},
	{`{"package":{}}`, "package", "an object with the member killmail"},
	{`{"package":` + testBody + `}`, "package", "an object with the member killmail"},
	{`{"package":{"killmail":null}}`, "killmail", "a JSON object"},
	{`{"package":{"killmail":{}}}`, "solar_system_id", "is missing"},
	{`{"package":{"killmail":{},"esi":{}}}`, "killmail", "one killmail"},
	{`{"package":{"killID":7,"killmail":` + testBody + `}}`, "killmail_id", "its envelope gives, 7"},
	{`{"package":{"killID":7,"killmail_id":8,"killmail":` + testBody + `}}`, "killID", "the same as killmail_id, 8"},
	{`{"package":{"killID":"7","killmail":` + testBody + `}}`, "killID", "an integer"},
	{`{"killID":7,"killmail":` + testBody + `}`, "killmail_id", "its envelope gives, 7"},
	{`{"package":{"killmail":` + testBody + `},"killmail":{}}`, "killmail", "one killmail"},

	{`{"killmail_id":1,"hash":"x"}`, "hash", "40 hex digits"},
	{`{"killmail_id":0,"hash":"` + testHash + `"}`, "killmail_id", "an integer"},
}

// nameOnlyItems have an id and a hash, and no body.
var nameOnlyItems = []string{
	`{"killmail_id":1,"hash":"` + testHash + `"}`,
	`{"killmail_id":1,"killmail_hash":"` + testHash + `"}`,
	`{"killmail_id":1,"zkb":` + testZKB + `}`,
	`{"action":"littlekill","killID":1,"hash":"` + testHash + `","character_id":5,"url":"…"}`,
	`{"killmail_id":1,"hash":"` + testHash + `","esi":null,"zkb":null}`,
	`{"package":{"killID":1,"zkb":` + testZKB + `}}`,
	`{"package":{"killID":1,"killmail":null,"zkb":` + testZKB + `}}`,
	`{"killID":1,"zkb":` + testZKB + `}`,
	`{"killID":1,"killmail":null,"zkb":` + testZKB + `}`,
}

func TestParseItemError(t *testing.T) {
	for _, bad := range badItems {
		k, err := ParseItem([]byte(bad.item))
		e, ok := errors.AsType[*InvalidError](err)
		if !ok || k != nil {
			t.Errorf("%s\n result %v, error %v", bad.item, k, err)
			continue
		}
		if e.Param != bad.param || !strings.Contains(err.Error(), bad.text) {
			t.Errorf("%s\n error of %s: %v\n want   %s: …%s…", bad.item, e.Param, err, bad.param, bad.text)
		}
		if errors.Is(err, ErrNeedsESI) {
			t.Errorf("%s\n is taken for an id and hash: %v", bad.item, err)
		}
	}
	for _, item := range nameOnlyItems {
		_, err := ParseItem([]byte(item))
		if _, ok := errors.AsType[*InvalidError](err); !ok || !errors.Is(err, ErrNeedsESI) {
			t.Errorf("%s\n error %v, want ErrNeedsESI and an InvalidError", item, err)
		}
	}
}

func TestNewKillmail(t *testing.T) {
	tests := []struct {
		system uint32
		data   string
		json   string // empty: an error
		param  string
	}{
		{system: 30000142, data: `{"n": 1}`, json: `{"n":1}`},
		{system: MaxID, data: `{}`, json: `{}`},
		{system: 30000142, data: testBody, json: testBody},
		{system: 30000142, data: `{"killmail":{"solar_system_id":1},"system_id":5,"package":7,"killID":null}`,
			json: `{"killmail":{"solar_system_id":1},"system_id":5,"package":7,"killID":null}`},
		{system: 30000142, data: `{"killmail_hash":"` + otherHash + `"}`, json: `{"zkb":{"hash":"` + otherHash + `"}}`},
		{system: 0, data: `{}`, param: "system_id"},
		{system: MaxID + 1, data: `{}`, param: "system_id"},
		{system: 1, data: testBody, param: "system_id"},
		{system: 1, data: `[]`, param: "killmail"},
		{system: 1, data: `{`, param: "killmail"},
		{system: 1, data: `{"killmail_id":"a"}`, param: "killmail_id"},
		{system: 1, data: `{"zkb":7}`, param: "zkb"},
		{system: 1, data: `{"zkb":{"hash":7}}`, param: "hash"},
	}
	for _, test := range tests {
		k, err := NewKillmail(test.system, []byte(test.data))
		if test.json == "" {
			if e, ok := errors.AsType[*InvalidError](err); !ok || e.Param != test.param {
				t.Errorf("%d %s: error %v, want one of %s", test.system, test.data, err, test.param)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d %s: %v", test.system, test.data, err)
			continue
		}
		if string(k.JSON) != test.json || k.SystemID != test.system {
			t.Errorf("%d %s: system %d, %s", test.system, test.data, k.SystemID, k.JSON)
		}
		checkKillmail(t, k)
	}
}

func TestKillmailTime(t *testing.T) {
	tests := []struct{ text, want string }{
		{`"2026-01-31T12:34:56Z"`, "2026-01-31T12:34:56Z"},
		{`"2026-01-31T12:34:56.999Z"`, "2026-01-31T12:34:56Z"},
		{`"2026-01-31T12:34:56+02:00"`, "2026-01-31T10:34:56Z"},
		{`"2026\u002d01-31T12:34:56Z"`, "2026-01-31T12:34:56Z"},
		{`"2026-01-31 12:34:56"`, ""},
		{`"2026-02-30T12:34:56Z"`, ""},
		{`"now"`, ""}, {`1769862896`, ""}, {`null`, ""}, {`{}`, ""}, {`""`, ""},
	}
	for _, test := range tests {
		k, err := NewKillmail(1, []byte(`{"killmail_time":`+test.text+`}`))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if !k.Time.IsZero() {
			got = k.Time.Format(time.RFC3339Nano)
		}
		if got != test.want {
			t.Errorf("%s: time %q, want %q", test.text, got, test.want)
		}
	}
}

// A killmail of the largest size that a battle can have: every attacker is a topic, once.
func TestKillmailTopicsOfBattle(t *testing.T) {
	for _, attackers := range []int{1, 11, 12, 13, 14, 20, 5000, 9000} {
		body := []byte(`{"solar_system_id":30004759,"victim":{"character_id":1,"corporation_id":1,"alliance_id":1,"ship_type_id":1},"attackers":[`)
		for i := range attackers {
			body = fmt.Appendf(body, `{"character_id":%d,"corporation_id":%d,"alliance_id":%d,"faction_id":%d,"ship_type_id":%d},`,
				i+1, i+1, i+1, i+1, i+1)
		}
		body = append(body[:len(body)-1], `]}`...)
		k, err := ParseItem(body)
		if err != nil {
			t.Fatal(err)
		}
		if want := min(1+4+5*attackers, 1+maxParticipants); len(k.Topics) != want {
			t.Errorf("%d attackers: %d topics, want %d", attackers, len(k.Topics), want)
		}
		checkTopics(t, k)
	}
}

// A killmail is kept for long, and must not keep a large envelope or much white space alive.
func TestKillmailMemory(t *testing.T) {
	pad := strings.Repeat("x", 1<<20)
	items := []string{
		`{"pad":"` + pad + `","system_id":1,"killmail":{"n":1}}`,
		`{"system_id":1,"killmail":{"n":1},"pad":"` + pad + `"}`,
		strings.Repeat(" ", 1<<20) + `{"solar_system_id":1}`,
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var kept []*Killmail
	before := heap()
	for range 20 {
		for _, item := range items {
			k, err := ParseItem([]byte(item))
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, k)
		}
	}
	if after := heap(); after > before+10<<20 {
		t.Errorf("%d small killmails hold %d bytes", len(kept), after-before)
	}
	runtime.KeepAlive(kept)
}

// What a caller appends to the text of a killmail is not seen by another.
func TestKillmailAppend(t *testing.T) {
	k, err := ParseItem([]byte(testBody))
	if err != nil {
		t.Fatal(err)
	}
	a := append(k.JSON, 'a')
	_ = append(k.JSON, 'b')
	if string(a) != testBody+"a" {
		t.Errorf("the text is now %s", a)
	}
}

func TestKillmailHash(t *testing.T) {
	swap := func(old, new string) string {
		if !strings.Contains(testBody, old) {
			t.Fatalf("no %s in the killmail", old)
		}
		return strings.Replace(testBody, old, new, 1)
	}
	good := map[string]string{
		testBody:                             "9000000190000002587134143364960000000",
		swap(`"character_id":90000001,`, ``): "None90000002587134143364960000000",
		swap(`"character_id":90000001,`, `"character_id":0,`):       "None90000002587134143364960000000",
		swap(`"character_id":90000002,`, `"character_id":null,`):    "90000001None587134143364960000000",
		swap(`"killmail_time"`, `"zkb":{"hash":7},"killmail_time"`): "9000000190000002587134143364960000000",
	}
	for body, text := range good {
		got, err := KillmailHash([]byte(body))
		if want := sha1Hex(text); err != nil || got != want {
			t.Errorf("%s\n hash %s, %v; want %s", body, got, err, want)
		}
	}
	bad := []struct{ body, text string }{
		{swap(`"final_blow":true`, `"final_blow":false`), `attackers "0 with final_blow true" is not accepted: want one`},
		{swap(`"final_blow":false`, `"final_blow":true`), `attackers "2 with final_blow true"`},
		{swap(`"final_blow":true`, `"final_blow":"true"`), `attackers "0 with`},
		{swap(`2026-01-31T`, `2026-01-31 `), `killmail_time "\"2026-01-31 12:34:56Z\"" is not accepted`},
		{swap(`"killmail_time"`, `"kill_time"`), `killmail_time is missing`},
		{swap(`"ship_type_id":587`, `"ship_type_id":0`), `victim is missing`},
		{swap(`"victim"`, `"loser"`), `victim is missing`},
		{swap(`"character_id":90000001`, `"character_id":"x"`), `victim "a character_id`},
		{swap(`"character_id":90000002`, `"character_id":1.5`), `attackers "a character_id`},
		{`{}`, `killmail_time is missing`},
		{`[]`, `a JSON object`},
		{`{`, `JSON with`},
	}
	for _, test := range bad {
		got, err := KillmailHash([]byte(test.body))
		if _, ok := errors.AsType[*InvalidError](err); !ok || got != "" || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s\n hash %q, error %v; want %s", test.body, got, err, test.text)
		}
	}
}

func sha1Hex(text string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(text))) }

func TestAddHash(t *testing.T) {
	tests := []struct{ item, json string }{
		{testBody, `{` + testMembers + `,"zkb":{"hash":"` + testHash + `"}}`},
		{`{"zkb":{},` + testMembers + `}`, `{"zkb":{"hash":"` + testHash + `"},` + testMembers + `}`},
		{`{` + testMembers + `,"zkb":{` + testValues + `}}`, `{` + testMembers + `,"zkb":` + testZKB + `}`},
		{`{` + testMembers + `,"zkb":{"hash":null,"a":1}}`, `{` + testMembers + `,"zkb":{"hash":"` + testHash + `","a":1}}`},
		{`{` + testMembers + `,"zkb":` + testZKB + `}`, `{` + testMembers + `,"zkb":` + testZKB + `}`},
	}
	for _, test := range tests {
		k, err := ParseItem([]byte(test.item))
		if err != nil {
			t.Fatal(err)
		}
		old, oldText := k.JSON, string(k.JSON)
		if err := k.AddHash(); err != nil {
			t.Errorf("%s: %v", test.item, err)
			continue
		}
		if string(k.JSON) != test.json || k.Hash != testHash || k.Digest&digestHash == 0 {
			t.Errorf("%s\n json %s\n want %s\n hash %s, digest %x", test.item, k.JSON, test.json, k.Hash, k.Digest)
		}
		if string(old) != oldText {
			t.Errorf("the text from before is now %s", old)
		}
		checkKillmail(t, k)
	}
	k, err := NewKillmail(1, []byte(`{"n":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.AddHash(); err == nil || string(k.JSON) != `{"n":1}` || k.Hash != "" || k.Digest != 0 {
		t.Errorf("no hash can be computed: error %v, killmail %+v", err, k)
	}
}

// What a newcomer brings is told by the digests, and by the labels themselves where those cannot tell.
func TestNewcomer(t *testing.T) {
	const hash = `"hash":"` + otherHash + `"`
	tests := []struct {
		zkb, old string // of a killmail of which no hash can be computed
		want     Comparison
		labels   bool // the newcomer has all labels and one more
	}{
		{``, ``, DigestPoorer, false},
		{hash, ``, DigestRicher, false},
		{``, hash, DigestPoorer, false},
		{hash, hash, DigestPoorer, false},
		{hash, `"hash":null`, DigestRicher, false},
		{hash + `,"a":1`, hash, DigestRicher, false},
		{hash + `,"a":1`, hash + `,"b":1`, DigestPoorer, false},
		{hash, hash + `,"b":1`, DigestPoorer, false},
		{`"labels":[]`, hash, DigestRicher, false},
		{`"labels":["a"]`, `"labels":[]`, DigestRicher, true},
		{`"labels":["b","a"]`, `"labels":["a","b"]`, DigestPoorer, false},
		{`"labels":["a","b"]`, `"labels":["b","a","c"]`, DigestUnclear, false},
		{`"labels":["a","b"]`, `"labels":["a","c"]`, DigestUnclear, false},
		{`"labels":["a","b","c"]`, `"labels":["c","a"]`, DigestUnclear, true},
		{`"labels":["\u0061"]`, `"labels":["a"]`, DigestPoorer, false},
		{`"labels":["a\u0000"]`, `"labels":["a"]`, DigestPoorer, false},
	}
	for _, test := range tests {
		k, err := NewKillmail(1, []byte(`{"zkb":{`+test.zkb+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		stored, err := NewKillmail(1, []byte(`{"zkb":{`+test.old+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		if got := k.Digest.Against(stored.Digest); got != test.want {
			t.Errorf("{%s} over {%s}: by their digests %v, want %v", test.zkb, test.old, got, test.want)
		}
		if got := k.AddsLabels(stored.JSON); got != test.labels {
			t.Errorf("{%s} over {%s}: adds labels %v, want %v", test.zkb, test.old, got, test.labels)
		}
		if got := k.Digest.Against(k.Digest.Over(stored.Digest)); got != DigestPoorer {
			t.Errorf("{%s} once it was stored over {%s}: by their digests %v", test.zkb, test.old, got)
		}
	}
	k, err := NewKillmail(1, []byte(`{"zkb":{"labels":["a"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if k.AddsLabels([]byte(`damaged`)) {
		t.Error("labels are added to what nobody can read")
	}
}

// Digests are stored: they may never change.
func TestDigestIsFixed(t *testing.T) {
	for zkb, want := range map[string]Digest{
		``:                           0,
		`"hash":"` + otherHash + `"`: 0x8000000000000000,
		`"npc":true`:                 0x4000000000000000,
		`"labels":["solo","cat:6"]`:  0x6000000007fb9ed5,
		testValues + `,"hash":"` + otherHash + `"`: 0xe0000000abe1538f,
	} {
		k, err := NewKillmail(1, []byte(`{"zkb":{`+zkb+`}}`))
		if err != nil {
			t.Fatal(err)
		}
		if k.Digest != want {
			t.Errorf("digest of {%s}: %x, want %x", zkb, uint64(k.Digest), uint64(want))
		}
	}
}

// checkKillmail checks what holds for every killmail.
func checkKillmail(t rapid.TB, k *Killmail) {
	t.Helper()
	checkScan(t, k.JSON)
	var members map[string]json.RawMessage
	if err := json.Unmarshal(k.JSON, &members); err != nil || members == nil {
		t.Fatalf("%s is no JSON object: %v", k.JSON, err)
	}
	if !utf8.Valid(k.JSON) {
		t.Errorf("%s is not valid UTF-8", k.JSON)
	}
	if got, _ := compactText(k.JSON); !bytes.Equal(got, k.JSON) {
		t.Errorf("%s has white space", k.JSON)
	}
	for _, name := range []string{"killmail_hash", "http_last_modified"} {
		if members[name] != nil {
			t.Errorf("%s has %s", k.JSON, name)
		}
	}
	checkTopics(t, k)
	if k.SystemID < 1 || k.SystemID > MaxID || k.ID < 0 {
		t.Errorf("system %d, id %d", k.SystemID, k.ID)
	}
	if k.Time.Nanosecond() != 0 || k.Time.Location() != time.UTC {
		t.Errorf("time %v", k.Time)
	}
	if k.Hash != "" && !regexp.MustCompile("^[0-9a-f]{40}$").MatchString(k.Hash) {
		t.Errorf("hash %q", k.Hash)
	}
	if (k.Hash != "") != (k.Digest&digestHash != 0) {
		t.Errorf("hash %q, digest %x", k.Hash, k.Digest)
	}
	if k.AddsLabels(k.JSON) {
		t.Errorf("%s adds labels to itself", k.JSON)
	}

	again, err := NewKillmail(k.SystemID, k.JSON)
	if err != nil {
		t.Fatalf("%s is not accepted again: %v", k.JSON, err)
	}
	checkSame(t, k, again)
	if system := members["solar_system_id"]; system != nil && string(system) != "null" {
		if again, err = ParseItem(k.JSON); err != nil {
			t.Fatalf("%s is not accepted again: %v", k.JSON, err)
		}
		checkSame(t, k, again)
	}
	envelope := fmt.Appendf(nil, `{"system_id":%d,"killmail":%s}`, k.SystemID, k.JSON)
	if again, err = ParseItem(envelope); err != nil {
		t.Fatalf("%s is not accepted as an event: %v", envelope, err)
	}
	checkSame(t, k, again)

	computed, err := KillmailHash(k.JSON)
	if (err == nil) != (computed != "") || err == nil && k.Hash != "" && k.Hash != computed {
		t.Errorf("%s has the hash %q, computed is %q, %v", k.JSON, k.Hash, computed, err)
	}
	if hashed := *k; k.Hash == "" {
		if got := hashed.AddHash(); (got == nil) != (err == nil) {
			t.Errorf("%s: AddHash says %v, KillmailHash %v", k.JSON, got, err)
		}
		if err == nil {
			if hashed.Hash != computed || hashed.Digest.Against(k.Digest) != DigestRicher {
				t.Errorf("%s: with hash %q", hashed.JSON, hashed.Hash)
			}
			checkKillmail(t, &hashed)
		}
	}
}

func checkTopics(t rapid.TB, k *Killmail) {
	t.Helper()
	seen := map[Topic]bool{}
	for i, topic := range k.Topics {
		if seen[topic] {
			t.Errorf("topic %s comes twice", topic)
		}
		seen[topic] = true
		if parsed, err := ParseTopic(topic.String()); err != nil || parsed != topic {
			t.Errorf("topic %s is no topic: %v", topic, err)
		}
		if topic.Kind == KindAll || (topic.Kind == KindSystem) != (i == 0) {
			t.Errorf("topic %s at %d", topic, i)
		}
	}
	if len(k.Topics) == 0 || k.Topics[0] != System(k.SystemID) {
		t.Errorf("topics %v of a killmail in %d", k.Topics, k.SystemID)
	}
}

func checkSame(t rapid.TB, a, b *Killmail) {
	t.Helper()
	if !bytes.Equal(a.JSON, b.JSON) || a.ID != b.ID || a.SystemID != b.SystemID || a.Hash != b.Hash || a.Digest != b.Digest ||
		!a.Time.Equal(b.Time) || !slices.Equal(a.Topics, b.Topics) {
		t.Errorf("not the same:\n%+v %s\n%+v %s", a, a.JSON, b, b.JSON)
	}
}

func FuzzParseItem(f *testing.F) {
	for _, shape := range shapes {
		f.Add([]byte(shape.item))
	}
	for _, bad := range badItems {
		f.Add([]byte(bad.item))
	}
	for _, item := range nameOnlyItems {
		f.Add([]byte(item))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) (*Killmail, error){
			ParseItem,
			func(data []byte) (*Killmail, error) { return NewKillmail(30000142, data) },
		} {
			k, err := parse(data)
			if err == nil {
				checkKillmail(t, k)
			} else if _, ok := errors.AsType[*InvalidError](err); !ok || k != nil || err.Error() == "" {
				t.Errorf("result %v, error %v", k, err)
			}
		}
	})
}

// randomText draws a JSON object out of what killmails and their envelopes are made of: names twice, names with escapes, values
// of the wrong type, and white space included.
func randomText(t *rapid.T, depth int) string {
	space := rapid.SampledFrom([]string{"", "", "", "", " ", "\n\t"})
	pick := func(values ...string) string { return rapid.SampledFrom(values).Draw(t, "value") }
	odd := func(value string) string {
		if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
			return pick("null", "null", "0", "-1", "1.5", `""`, "[]", "{}", "true", "2147483648", "9223372036854775808")
		}
		return value
	}
	list := func(open, shut string, most int, item func() string) string {
		text := open
		for i := range rapid.IntRange(0, most).Draw(t, "length") {
			if i > 0 {
				text += ","
			}
			text += space.Draw(t, "space") + item() + space.Draw(t, "space")
		}
		return text + shut
	}
	id := func() string { return odd(pick("1", "2", "30000142", "2147483647")) }
	return list("{", "}", 9, func() string {
		name := pick("killmail_id", "killID", "solar_system_id", "system_id", "killmail_time", "hash", "killmail_hash",
			"http_last_modified", "zkb", "victim", "attackers", "killmail", "esi", "package", "labels", "other", "final_blow",
			"character_id", "corporation_id", "alliance_id", "faction_id", "ship_type_id")
		var value string
		switch name {
		case "killmail_time":
			value = odd(pick(`"2026-01-31T12:34:56Z"`, `"2026-01-31T12:34:56.5+01:00"`, `"yesterday"`))
		case "hash", "killmail_hash":
			value = odd(pick(`"`+testHash+`"`, `"`+testHash+`"`, `"`+strings.ToUpper(testHash)+`"`))
		case "final_blow":
			value = odd("true")
		case "labels":
			value = odd(list("[", "]", 4, func() string { return odd(pick(`"a"`, `"\u0061"`, `"b\/c"`, `"\ud800"`)) }))
		case "attackers":
			value = odd(list("[", "]", 4, func() string { return odd(randomText(t, depth-1)) }))
		case "zkb", "victim", "killmail", "esi", "package", "other":
			if value = "{}"; depth > 0 {
				value = odd(randomText(t, depth-1))
			}
		default:
			value = id()
		}
		if rapid.IntRange(0, 19).Draw(t, "escape") == 0 {
			name = strings.Replace(name, "i", "\\u0069", 1)
		}
		return `"` + name + `"` + space.Draw(t, "space") + ":" + space.Draw(t, "space") + value
	})
}

// modelTopics reads the topics of a canonical killmail in the naive way, as a set.
func modelTopics(t rapid.TB, system uint32, text []byte) map[Topic]bool {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var members map[string]any
	if err := decoder.Decode(&members); err != nil {
		t.Fatal(err)
	}
	topics := map[Topic]bool{System(system): true}
	add := func(participant any, role TopicKind) {
		members, _ := participant.(map[string]any)
		for i, name := range []string{"character_id", "corporation_id", "alliance_id", "faction_id", "ship_type_id"} {
			number, _ := members[name].(json.Number)
			if id, ok := ParseID(string(number)); ok {
				topics[Topic{Kind: KindCharacter + TopicKind(i) | role, ID: id}] = true
			}
		}
	}
	add(members["victim"], RoleLoss)
	attackers, _ := members["attackers"].([]any)
	for _, attacker := range attackers {
		add(attacker, RoleKill)
	}
	zkb, _ := members["zkb"].(map[string]any)
	labels, _ := zkb["labels"].([]any)
	for _, label := range labels {
		if label, _ := label.(string); label != "" {
			topics[Label(label)] = true
		}
	}
	return topics
}

// Whatever is made of the words of killmails: what is taken keeps all members, and has the topics that encoding/json finds.
func TestKillmailModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(randomText(t, 3))
		checkScan(t, text)
		if k, err := ParseItem(text); err == nil {
			checkKillmail(t, k)
			checkModel(t, k)
		}
		k, err := NewKillmail(30000142, text)
		if err != nil {
			return
		}
		checkKillmail(t, k)
		checkModel(t, k)
		var given, kept map[string]any
		if json.Unmarshal(text, &given) != nil || json.Unmarshal(k.JSON, &kept) != nil {
			t.Fatalf("%s is accepted as %s", text, k.JSON)
		}
		for _, name := range []string{"zkb", "killmail_hash", "http_last_modified"} {
			delete(given, name)
			delete(kept, name)
		}
		if diff := cmp.Diff(given, kept); diff != "" {
			t.Errorf("%s is kept as %s:\n%s", text, k.JSON, diff)
		}
	})
}

func checkModel(t rapid.TB, k *Killmail) {
	t.Helper()
	topics := modelTopics(t, k.SystemID, k.JSON)
	for _, topic := range k.Topics {
		if !topics[topic] {
			t.Errorf("%s is not about %s", k.JSON, topic)
		}
	}
	if len(k.Topics) != len(topics) {
		t.Errorf("%s has topics %v, want %v", k.JSON, k.Topics, topics)
	}
}

// realData opens a file of real killmails, which is not part of the project, or skips the test.
func realData(t testing.TB, name string) io.Reader {
	t.Helper()
	f, err := os.Open(filepath.Join("..", "shared", "data", name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("needs real killmails, which are not here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	switch filepath.Ext(name) {
	case ".bz2":
		return bzip2.NewReader(f)
	case ".gz":
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	return f
}

// realLines yields the lines of a file of real killmails.
func realLines(t testing.TB, name string) iter.Seq[[]byte] {
	in := realData(t, name)
	return func(yield func([]byte) bool) {
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() && yield(lines.Bytes()) {
		}
		if lines.Err() != nil {
			t.Error(lines.Err())
		}
	}
}

// checkReal compares k with what encoding/json reads in its JSON.
func checkReal(t rapid.TB, k *Killmail) {
	t.Helper()
	checkKillmail(t, k)
	checkModel(t, k)
	var want struct {
		ID     int64     `json:"killmail_id"`
		System uint32    `json:"solar_system_id"`
		Time   time.Time `json:"killmail_time"`
		ZKB    struct{ Hash string }
	}
	if err := json.Unmarshal(k.JSON, &want); err != nil {
		t.Fatal(err)
	}
	if k.ID != want.ID || k.SystemID != want.System || !k.Time.Equal(want.Time) || k.Hash != want.ZKB.Hash {
		t.Errorf("%s\n is read as id %d, system %d, time %v, hash %s", k.JSON, k.ID, k.SystemID, k.Time, k.Hash)
	}
}

// A whole day as EVE Ref publishes it: all killmails are taken, all hashes are right, and all bodies are kept to the byte.
func TestRealDay(t *testing.T) {
	archived := regexp.MustCompile(`,"(killmail_hash|http_last_modified)":"[^"]*"`)
	members := tar.NewReader(realData(t, "killmails-2021-11-30.tar.bz2"))
	n := 0
	for {
		header, err := members.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(members)
		if err != nil {
			t.Fatal(err)
		}
		k, err := ParseItem(data)
		if err != nil {
			t.Errorf("%s: %v", header.Name, err)
			continue
		}
		n++
		body := archived.ReplaceAll(data, nil)
		if want := string(body[:len(body)-1]) + `,"zkb":{"hash":"` + k.Hash + `"}}`; string(k.JSON) != want {
			t.Errorf("%s:\n json %s\n want %s", header.Name, k.JSON, want)
		}
		if computed, err := KillmailHash(body); err != nil || computed != k.Hash {
			t.Errorf("%s: hash %s, computed %s, %v", header.Name, k.Hash, computed, err)
		}
		if n%10 == 0 { // the slow checks
			checkReal(t, k)
		}
	}
	if n != 11721 {
		t.Errorf("%d killmails, want 11721", n)
	}
}

// Lines in the shape of R2Z2: an ordinary hour, and a choice of the odd ones.
func TestRealLines(t *testing.T) {
	for name, want := range map[string]int{"killmails-hour.jsonl.gz": 1226, "killmails-small.jsonl.gz": 3000} {
		t.Run(name, func(t *testing.T) {
			n := 0
			for line := range realLines(t, name) {
				var envelope struct {
					Hash string
					ESI  json.RawMessage
				}
				if err := json.Unmarshal(line, &envelope); err != nil {
					t.Fatal(err)
				}
				k, err := ParseItem(line)
				if err != nil {
					t.Errorf("%.100s: %v", line, err)
					continue
				}
				n++
				if computed, err := KillmailHash(k.JSON); err != nil || computed != k.Hash || k.Hash != envelope.Hash {
					t.Errorf("killmail %d: hash %s, computed %s, %v", k.ID, k.Hash, computed, err)
				}
				if !bytes.HasPrefix(k.JSON, envelope.ESI[:len(envelope.ESI)-1]) {
					t.Errorf("killmail %d: json %s\n want %s", k.ID, k.JSON, envelope.ESI)
				}
				if n%10 == 0 {
					checkReal(t, k)
				}
			}
			if n != want {
				t.Errorf("%d killmails, want %d", n, want)
			}
		})
	}
}

// Captures of what the services send.
func TestRealWire(t *testing.T) {
	for name, id := range map[string]int64{
		"esi_killmail_simple_2025-09.json":                  129783397,
		"esi_killmail_with_items_2025-09.json":              129772128,
		"esi_raw_132377263.json":                            132377263,
		"esi_swagger_example_56733821.json":                 56733821,
		"everef_member_war.json":                            97089415,
		"odd_km_107220741_structure_581_attackers.json":     107220741,
		"odd_km_108794056_no_final_blow_982_attackers.json": 108794056,
		"r2z2_ephemeral_2026-06_shape_CONSTRUCTED.json":     134193203,
		"r2z2_ephemeral_awox_genuine.json":                  134398778,
		"r2z2_ephemeral_largest.json":                       134193640,
		"r2z2_ephemeral_npc.json":                           134193187,
		"r2z2_ephemeral_pod_genuine.json":                   134435757,
		"r2z2_ephemeral_solo.json":                          134193296,
		"redisq_2018_with_killmail.json":                    72770296,
		"redisq_2024_with_killmail.json":                    119455394,
		"ws_killstream_2022.json":                           100721758,
		"ws_killstream_2023.json":                           111519365,
		"redisq_after_2025-12_CONSTRUCTED.json":             0,
		"ws_littlekill.json":                                0,
	} {
		t.Run(name, func(t *testing.T) {
			data, err := io.ReadAll(realData(t, filepath.Join("wire", name)))
			if err != nil {
				t.Fatal(err)
			}
			k, err := ParseItem(data)
			if id == 0 {
				if !errors.Is(err, ErrNeedsESI) {
					t.Errorf("error %v, want ErrNeedsESI", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if k.ID != id {
				t.Errorf("id %d, want %d", k.ID, id)
			}
			checkReal(t, k)
		})
	}
	n := 0
	for line := range realLines(t, filepath.Join("wire", "r2z2_ephemeral_50.jsonl")) {
		k, err := ParseItem(line)
		if err != nil {
			t.Errorf("%.100s: %v", line, err)
			continue
		}
		n++
		if k.Digest&digestBits != digestBits {
			t.Errorf("killmail %d: digest %x, want hash, zkb and labels", k.ID, uint64(k.Digest))
		}
		checkReal(t, k)
	}
	if n != 50 {
		t.Errorf("%d killmails, want 50", n)
	}
}

// benchmarkKillmail is a made-up killmail of 2.5 KB with 4 attackers, about what an hour has in the mean.
func benchmarkKillmail() []byte {
	body := []byte(`{"attackers":[`)
	for i := range 4 {
		body = fmt.Appendf(body, `{"alliance_id":99000%03d,"character_id":9000%04d,"corporation_id":98000%03d,"damage_done":%d,`+
			`"final_blow":%t,"security_status":-%d.%d,"ship_type_id":177%02d,"weapon_type_id":24%02d},`, i/2, i, i/2, 4200/(i+1), i == 1, i, i, i, i)
	}
	body = append(body[:len(body)-1], `],"killmail_id":100000001,"killmail_time":"2026-01-31T12:34:56Z","solar_system_id":30000142,`+
		`"victim":{"alliance_id":99000999,"character_id":90000001,"corporation_id":98000999,"damage_taken":4200,"items":[`...)
	for i := range 17 {
		body = fmt.Appendf(body, `{"flag":%d,"item_type_id":%d,"quantity_destroyed":%d,"singleton":0},`, i+11, 2000+i*731, i*i+1)
	}
	body = append(body[:len(body)-1], `],"position":{"x":-218152289631.39032,"y":-12295863249.963987,"z":307341589050.7495},`+
		`"ship_type_id":587}`...)
	hash, err := KillmailHash(append(bytes.Clone(body), '}'))
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(body, `,"zkb":{"locationID":40036914,"hash":"%s","fittedValue":10000,"droppedValue":0,"destroyedValue":668845.37,`+
		`"totalValue":668845.37,"points":1,"npc":false,"solo":false,"awox":false,"labels":["tz:usw","cat:6","#:2+","pvp","loc:nullsec"],`+
		`"attackerCount":4,"href":"https://esi.evetech.net/killmails/100000001/%[1]s/"}}`, hash)
}

func BenchmarkParseItem(b *testing.B) {
	canonical := benchmarkKillmail()
	body, zkb, _ := bytes.Cut(canonical[:len(canonical)-1], []byte(`,"zkb":`))
	k, err := ParseItem(canonical)
	if err != nil {
		b.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, canonical, "", "  "); err != nil {
		b.Fatal(err)
	}
	for _, item := range []struct {
		name string
		data []byte
	}{
		{"canonical", canonical},
		{"everef", fmt.Appendf(nil, `%s,"killmail_hash":"%s","http_last_modified":"2026-01-31T12:40:00Z"}`, body, k.Hash)},
		{"r2z2", fmt.Appendf(nil, `{"killmail_id":%d,"hash":"%s","esi":%s},"zkb":%s}`, k.ID, k.Hash, body, zkb)},
		{"indented", indented.Bytes()},
	} {
		b.Run(item.name, func(b *testing.B) {
			b.SetBytes(int64(len(item.data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseItem(item.data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
