package phoenix_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"killfeed/phoenix"
)

const (
	v1 = phoenix.V1
	v2 = phoenix.V2
)

// raw is JSON as it stands in a Message.
func raw(s string) []byte { return []byte(s) }

func TestDecode(t *testing.T) {
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for _, tt := range []struct {
		name    string
		version phoenix.Version
		frame   string
		want    phoenix.Message
	}{
		{"array", v2, `["1","2","t","e",{"a":1}]`, phoenix.Message{
			Form: v2, JoinRef: raw(`"1"`), Ref: raw(`"2"`), Topic: "t", Event: "e", Payload: raw(`{"a":1}`)}},
		{"white space", v2, " \t\r\n[ \"1\" , 2\n,\t\"t\" ,\"e\" , { \"a\" : [ ] } ] \n", phoenix.Message{
			Form: v2, JoinRef: raw(`"1"`), Ref: raw(`2`), Topic: "t", Event: "e", Payload: raw(`{ "a" : [ ] }`)}},
		{"nulls", v2, `[null,null,"","",null]`, phoenix.Message{Form: v2, Payload: raw(`{}`)}},
		{"empty refs", v2, `["","","","",{}]`, phoenix.Message{
			Form: v2, JoinRef: raw(`""`), Ref: raw(`""`), Payload: raw(`{}`)}},
		{"numbers", v2, `[-0.5e-10,12345678901234567890,"t","e",7]`, phoenix.Message{
			Form: v2, JoinRef: raw(`-0.5e-10`), Ref: raw(`12345678901234567890`), Topic: "t", Event: "e", Payload: raw(`7`)}},
		{"more than five", v2, `[null,"1","t","e",{},[1,{"]":"]"}],"x",null]`, phoenix.Message{
			Form: v2, Ref: raw(`"1"`), Topic: "t", Event: "e", Payload: raw(`{}`)}},
		{"brackets and quotes in strings", v2, `["]\"\\","[{","\"]","\\",{"}":"\"}]","a":[[],{"]":[]}]},1]`, phoenix.Message{
			Form: v2, JoinRef: raw(`"]\"\\"`), Ref: raw(`"[{"`), Topic: `"]`, Event: `\`,
			Payload: raw(`{"}":"\"}]","a":[[],{"]":[]}]}`)}},
		{"escapes", v2, `[null,"\u00e9","\u00e9\ud83d\ude80\/\b","a\u0000b",{"k":"\u00e9"}]`, phoenix.Message{
			Form: v2, Ref: raw(`"\u00e9"`), Topic: "é🚀/\b", Event: "a\x00b", Payload: raw(`{"k":"\u00e9"}`)}},
		{"half a surrogate pair", v2, `[null,null,"\ud83d","\ude80x",{}]`, phoenix.Message{
			Form: v2, Topic: "\uFFFD", Event: "\uFFFDx", Payload: raw(`{}`)}},
		{"payload a string", v2, `[null,null,"t","e","x"]`, phoenix.Message{Form: v2, Topic: "t", Event: "e", Payload: raw(`"x"`)}},
		{"payload true", v2, `[null,null,"t","e",true]`, phoenix.Message{Form: v2, Topic: "t", Event: "e", Payload: raw(`true`)}},
		{"payload an array", v2, `[null,null,"t","e",[]]`, phoenix.Message{Form: v2, Topic: "t", Event: "e", Payload: raw(`[]`)}},
		{"deep payload", v2, `[null,null,"t","e",` + deep + `]`, phoenix.Message{Form: v2, Topic: "t", Event: "e", Payload: raw(deep)}},

		{"object", v1, `{"topic":"t","event":"e","payload":{"a":1},"ref":"2"}`, phoenix.Message{
			Form: v1, Ref: raw(`"2"`), Topic: "t", Event: "e", Payload: raw(`{"a":1}`)}},
		{"object over V2", v2, `{"topic":"t","event":"e","payload":{"a":1},"ref":"2"}`, phoenix.Message{
			Form: v1, Ref: raw(`"2"`), Topic: "t", Event: "e", Payload: raw(`{"a":1}`)}},
		{"object, no version", 0, `{"topic":"t","event":"e","payload":{"a":1},"ref":"2"}`, phoenix.Message{
			Form: v1, Ref: raw(`"2"`), Topic: "t", Event: "e", Payload: raw(`{"a":1}`)}},
		{"any order, white space", v1, "\n{ \"ref\" : 2 , \"join_ref\":\"1\",\"payload\" :\n[ ] ,\"event\":\"e\",\"topic\":\"t\" } ", phoenix.Message{
			Form: v1, JoinRef: raw(`"1"`), Ref: raw(`2`), Topic: "t", Event: "e", Payload: raw(`[ ]`)}},
		{"null refs", v1, `{"topic":"t","event":"e","payload":null,"ref":null,"join_ref":null}`, phoenix.Message{
			Form: v1, Topic: "t", Event: "e", Payload: raw(`{}`)}},
		{"unknown names", v1, `{"Topic":"no","EVENT":1,"":{"topic":"no"},"topic":"t","event":"e","x":["topic","no"],"payload":{},"ref":null}`,
			phoenix.Message{Form: v1, Topic: "t", Event: "e", Payload: raw(`{}`)}},
		{"the last of two counts", v1, `{"topic":"no","topic":"t","event":7,"event":"e","ref":{},"ref":1,"join_ref":2,"join_ref":null,"payload":0,"payload":{}}`,
			phoenix.Message{Form: v1, Ref: raw(`1`), Topic: "t", Event: "e", Payload: raw(`{}`)}},
		{"escaped names", v1, `{"\u0074opic":"t","ev\u0065nt":"e","pay\u006coad":{},"r\u0065f":1}`,
			phoenix.Message{Form: v1, Ref: raw(`1`), Topic: "t", Event: "e", Payload: raw(`{}`)}},
		{"brackets and quotes in an object", v1, `{"}":"{","\"":"\\\"","topic":"}","event":"\"","payload":{"a":"}"},"ref":"\\"}`,
			phoenix.Message{Form: v1, Ref: raw(`"\\"`), Topic: "}", Event: `"`, Payload: raw(`{"a":"}"}`)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.version.Decode([]byte(tt.frame))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// Case 12, the codec's part.
func TestDecodeBroken(t *testing.T) {
	const (
		notJSON    = phoenix.NotJSON
		notMessage = phoenix.NotMessage
	)
	for _, tt := range []struct {
		version phoenix.Version
		frame   string
		kind    phoenix.Kind
		says    string
	}{
		{v2, "", notJSON, "unexpected end"},
		{v2, " ", notJSON, "unexpected end"},
		{v2, "\xff", notJSON, "not UTF-8"},
		{v2, "[null,null,\"\xc3\",\"e\",{}]", notJSON, "not UTF-8"},
		{v2, "[null,null,\"\xed\xa0\x80\",\"e\",{}]", notJSON, "not UTF-8"},
		{v2, "\uFEFF[null,null,\"t\",\"e\",{}]", notJSON, "byte 1: invalid character"},
		{v2, `[null,null,"t","e",{}`, notJSON, "unexpected end"},
		{v2, `[null,null,"t","e",{}]]`, notJSON, "byte 23: invalid character ']' after top-level value"},
		{v2, `[null,null,"t","e",{}][]`, notJSON, "after top-level value"},
		{v2, `[null,null,"t","e",{},]`, notJSON, "invalid character ']'"},
		{v2, `[null,null,"t","e",{"a":NaN}]`, notJSON, "invalid character 'N'"},
		{v2, `[null,01,"t","e",{}]`, notJSON, "invalid character '1'"},
		{v2, "[null,null,\"a\nb\",\"e\",{}]", notJSON, `invalid character '\n' in string literal`},
		{v2, "[null,null,\"\\x\",\"e\",{}]", notJSON, "in string escape code"},
		{v2, `[null,null,"t","e",{}]` + "\x00", notJSON, `invalid character '\x00'`},
		{v2, `[null,null,"t","e",` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `]`, notJSON, "max depth"},
		{v2, `null`, notMessage, "want [join_ref, ref, topic, event, payload]"},
		{v2, `"x"`, notMessage, "want [join_ref"},
		{v2, `-1`, notMessage, "want [join_ref"},
		{v2, `[]`, notMessage, "0 elements"},
		{v2, `[ ]`, notMessage, "0 elements"},
		{v2, `[null,null,"t","e"]`, notMessage, "4 elements"},
		{v2, `[[null,null,"t","e",{}]]`, notMessage, "1 elements"},
		{v2, `[null,null,null,"e",{}]`, notMessage, "topic"},
		{v2, `[null,null,7,"e",{}]`, notMessage, "topic"},
		{v2, `[null,null,["t"],"e",{}]`, notMessage, "topic"},
		{v2, `[null,null,"t",null,{}]`, notMessage, "event"},
		{v2, `[null,null,"t",{},{}]`, notMessage, "event"},
		{v2, `[true,null,"t","e",{}]`, notMessage, "ref"},
		{v2, `[null,false,"t","e",{}]`, notMessage, "ref"},
		{v2, `[null,[1],"t","e",{}]`, notMessage, "ref"},
		{v2, `[{},null,"t","e",{}]`, notMessage, "ref"},
		{v2, `{}`, notMessage, "wants topic, event, payload and ref"},
		{v1, `[null,null,"t","e",{}]`, notMessage, "want an object"},
		{0, `[null,null,"t","e",{}]`, notMessage, "want an object"},
		{v1, `7`, notMessage, "want an object"},
		{v1, ``, notJSON, "unexpected end"},
		{v1, `{"topic":"t","event":"e","payload":{},"ref":"1"`, notJSON, "unexpected end"},
		{v1, `{"event":"e","payload":{},"ref":"1"}`, notMessage, "wants topic"},
		{v1, `{"topic":"t","payload":{},"ref":"1"}`, notMessage, "wants topic"},
		{v1, `{"topic":"t","event":"e","ref":"1"}`, notMessage, "wants topic"},
		{v1, `{"topic":"t","event":"e","payload":{}}`, notMessage, "wants topic"},
		{v1, `{"topic":"t","event":"e","payload":{},"Ref":"1"}`, notMessage, "wants topic"},
		{v1, `{"topic":null,"event":"e","payload":{},"ref":"1"}`, notMessage, "topic is not a string"},
		{v1, `{"topic":"t","event":[],"payload":{},"ref":"1"}`, notMessage, "event is not a string"},
		{v1, `{"topic":"t","event":"e","payload":{},"ref":{}}`, notMessage, "a ref is"},
		{v1, `{"topic":"t","event":"e","payload":{},"ref":"1","join_ref":true}`, notMessage, "a ref is"},
	} {
		m, err := tt.version.Decode([]byte(tt.frame))
		checkBroken(t, tt.frame, m, err, tt.kind, tt.says)
	}
}

// checkBroken wants a BrokenError that a WebSocket can close with.
func checkBroken(t *testing.T, frame string, m phoenix.Message, err error, kind phoenix.Kind, says string) {
	t.Helper()
	broken, ok := errors.AsType[*phoenix.BrokenError](err)
	if !ok {
		t.Errorf("%.60q is read as %+v (%v)", frame, m, err)
		return
	}
	if broken.Kind != kind || !strings.Contains(broken.Reason, says) {
		t.Errorf("%.60q: kind %d, %q; want kind %d, %q", frame, broken.Kind, broken.Reason, kind, says)
	}
	if len(broken.Reason) > 123 || !utf8.ValidString(broken.Reason) {
		t.Errorf("%.60q: %q does not fit into a close frame", frame, broken.Reason)
	}
	if diff := cmp.Diff(phoenix.Message{}, m); diff != "" {
		t.Errorf("%.60q: there is an error, and a message:\n%s", frame, diff)
	}
}

func TestDecodeBinary(t *testing.T) {
	long := strings.Repeat("x", 255)
	for _, tt := range []struct {
		name  string
		frame string
		want  phoenix.Message
	}{
		{"recorded", "\x00\x01\x01\x09\x0345system:15bin\x01\x02\x03\xff", phoenix.Message{
			Form: v2, JoinRef: raw(`"4"`), Ref: raw(`"5"`), Topic: "system:15", Event: "bin", Payload: raw("\x01\x02\x03\xff"), Binary: true}},
		{"nothing in it", "\x00\x00\x00\x00\x00", phoenix.Message{Form: v2, Payload: []byte{}, Binary: true}},
		{"as long as they can be", "\x00\xff\xff\xff\xff" + long + long + long + long + "data", phoenix.Message{
			Form: v2, JoinRef: raw(`"` + long + `"`), Ref: raw(`"` + long + `"`), Topic: long, Event: long, Payload: raw("data"), Binary: true}},
		{"refs that need escapes", "\x00\x03\x03\x02\x01a\"bc\\\nétnull", phoenix.Message{
			Form: v2, JoinRef: raw(`"a\"b"`), Ref: raw(`"c\\\n"`), Topic: "é", Event: "t", Payload: raw("null"), Binary: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			buffer := []byte(tt.frame + "next frame")
			got, err := v2.DecodeBinary(buffer[:len(tt.frame)])
			if err != nil {
				t.Fatal(err)
			}
			if _ = append(got.Payload, "overwritten"...); string(buffer) != tt.frame+"next frame" {
				t.Error("appending to the payload wrote behind the frame")
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	for _, tt := range []struct {
		version phoenix.Version
		frame   string
		kind    phoenix.Kind
		says    string
	}{
		{v1, "\x00\x00\x00\x00\x00", phoenix.NotMessage, "1.0.0 has no binary frames"},
		{0, "\x00\x00\x00\x00\x00", phoenix.NotMessage, "1.0.0 has no binary frames"},
		{v2, "", phoenix.NotMessage, "want a binary push"},
		{v2, "\x00", phoenix.NotMessage, "want a binary push"},
		{v2, "\x00\x00\x00\x00", phoenix.NotMessage, "want a binary push"},
		{v2, "\x01\x00\x00\x00\x00", phoenix.NotMessage, "want a binary push"}, // a reply, which only servers send
		{v2, "\x02\x00\x00", phoenix.NotMessage, "want a binary push"},         // a broadcast, likewise
		{v2, "[null,null,\"t\",\"e\",{}]", phoenix.NotMessage, "want a binary push"},
		{v2, "\x00\x01\x00\x00\x00", phoenix.NotMessage, "shorter than its lengths"},
		{v2, "\x00\x01\x01\x01\x02abcd", phoenix.NotMessage, "shorter than its lengths"},
		{v2, "\x00\x01\x00\x00\x00\xff", phoenix.NotJSON, "not UTF-8"},
		{v2, "\x00\x00\x00\x00\x01\xc3\xa9", phoenix.NotJSON, "not UTF-8"},
	} {
		m, err := tt.version.DecodeBinary([]byte(tt.frame))
		checkBroken(t, tt.frame, m, err, tt.kind, tt.says)
	}
}

func TestAppend(t *testing.T) {
	for _, tt := range []struct {
		name    string
		message phoenix.Message
		want    string
	}{
		{"array", phoenix.Message{Form: v2, JoinRef: raw(`"1"`), Ref: raw(`2`), Topic: "t", Event: "e", Payload: raw(`{"a": 1}`)},
			`["1",2,"t","e",{"a": 1}]`},
		{"array of nothing", phoenix.Message{Form: v2}, `[null,null,"","",{}]`},
		{"array, bytes", phoenix.Message{Form: v2, Payload: raw("\xff"), Binary: true}, `[null,null,"","",{}]`},
		{"object", phoenix.Message{Form: v1, JoinRef: raw(`"1"`), Ref: raw(`2`), Topic: "t", Event: "e", Payload: raw(`{"a": 1}`)},
			`{"event":"e","payload":{"a": 1},"ref":2,"topic":"t"}`},
		{"object of nothing", phoenix.Message{}, `{"event":"","payload":{},"ref":null,"topic":""}`},
		{"escapes", phoenix.Message{Form: v2, Topic: "\"\\/\x00\x08\x09\x0a\x0b\x0c\x0d\x1f\x7f", Event: "<é&\u2028🚀>"},
			`[null,null,"\"\\/\u0000\b\t\n\u000B\f\r\u001F` + "\x7f" + `","<é&` + "\u2028" + `🚀>",{}]`},
		{"no UTF-8", phoenix.Message{Form: v1, Topic: "a\xffb\xc3", Event: "\xed\xa0\x80"},
			`{"event":"` + "\uFFFD" + `","payload":{},"ref":null,"topic":"a` + "\uFFFD" + `b` + "\uFFFD" + `"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.message.Append([]byte("before "))
			if string(got) != "before "+tt.want {
				t.Errorf("got  %q\nwant %q", got, "before "+tt.want)
			}
			if !json.Valid([]byte(tt.want)) {
				t.Error("this is no JSON")
			}
		})
	}
}

// Frames are untrusted. What they contain besides the message must not cost memory, and appending to a part of a message must
// not write into the frame.
func TestDecodeIsFrugal(t *testing.T) {
	const size = 256 << 10
	fill := func(before, unit, after string) []byte {
		return []byte(before + strings.Repeat(unit, (size-len(before)-len(after))/len(unit)) + after)
	}
	for name, frame := range map[string][]byte{
		"elements":     fill(`[null,"1","phoenix","heartbeat",{}`, `,0`, `]`),
		"payload":      fill(`[null,"1","phoenix","heartbeat",[0`, `,0`, `]]`),
		"nested":       fill(`[null,"1","phoenix","heartbeat",{}`, `,[[[[]]]]`, `]`),
		"names":        fill(`{"topic":"t","event":"e","payload":{},"ref":1`, `,"":0`, `}`),
		"repeated":     fill(`{"event":"e","payload":{},"ref":1`, `,"topic":"t"`, `}`),
		"a long ref":   fill(`[null,"`, `1`, `","phoenix","heartbeat",{}]`),
		"escaped refs": fill(`[null,"`, `\"`, `","phoenix","heartbeat",{}]`),
		"white space":  fill(`[null,"1",`, ` `, `"phoenix","heartbeat",{}]`),
	} {
		t.Run(name, func(t *testing.T) {
			var m phoenix.Message
			allocs := testing.AllocsPerRun(10, func() {
				var err error
				if m, err = v2.Decode(frame); err != nil {
					t.Fatal(err)
				}
			})
			if allocs > 3 && !raceDetector {
				t.Errorf("%v allocations, want those of the topic and the event", allocs)
			}
			before := string(frame)
			_ = append(m.Payload, "overwritten"...)
			_ = append(m.Ref, "overwritten"...)
			_ = append(m.JoinRef, "overwritten"...)
			if string(frame) != before {
				t.Error("appending to a part of the message wrote into the frame")
			}
		})
	}
}
