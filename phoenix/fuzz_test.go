package phoenix_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"killfeed/phoenix"
)

// FuzzDecode: whatever a frame is, it is read as encoding/json would read it, or refused with a BrokenError; and what is read
// is the same when it is written and read again.
func FuzzDecode(f *testing.F) {
	for _, frame := range []string{
		`["1","2","t","e",{"a":1}]`, ` [ null , 2 , "t" , "e" , null , [ ] ] `, `["]\"\\","[{","\"]","\\",{"}":"\"}]"},1]`,
		`{"topic":"t","event":"e","payload":{},"ref":1}`, `{"\u0074opic":"\ud800","event":"\n","payload":null,"ref":"","join_ref":-1e5,"x":[{}]}`,
		`{"topic":1,"topic":"t","event":"e","payload":[],"ref":null}`, `[]`, `{}`, `null`, ``, `[null,null,7,"e",{}]`, `[true,null,"t","e",{}]`,
		"\x00\x01\x01\x09\x0345system:15bin\x01\x02\x03\xff", "\x00\x00\x00\x00\x00", "\x00\x03\x03\x02\x01a\"bc\\\nétnull", "\x00\xff", "\x01\x00\x00\x00\x00",
	} {
		f.Add(uint8(phoenix.V1), []byte(frame))
		f.Add(uint8(phoenix.V2), []byte(frame))
	}
	f.Fuzz(func(t *testing.T, v uint8, frame []byte) {
		version := phoenix.Version(v % 3)
		before := bytes.Clone(frame)
		text, textErr := version.Decode(frame)
		binary, binaryErr := version.DecodeBinary(frame)
		if !bytes.Equal(frame, before) {
			t.Fatalf("decoding changed the frame to %q", frame)
		}
		checkDecoded(t, text, textErr)
		checkDecoded(t, binary, binaryErr)
		if textErr == nil {
			checkLikeJSON(t, frame, text)
		}
		if broken, ok := errors.AsType[*phoenix.BrokenError](textErr); ok {
			if notJSON := !utf8.Valid(frame) || !json.Valid(frame); notJSON != (broken.Kind == phoenix.NotJSON) {
				t.Errorf("kind %d: %v", broken.Kind, broken)
			}
		}
	})
}

// checkDecoded checks what can be said without the frame.
func checkDecoded(t *testing.T, m phoenix.Message, err error) {
	t.Helper()
	if err != nil {
		broken, ok := errors.AsType[*phoenix.BrokenError](err)
		if !ok || len(broken.Reason) > 123 || !utf8.ValidString(broken.Reason) || broken.Kind == 0 {
			t.Errorf("refused with %#v", err)
		}
		if !cmp.Equal(m, phoenix.Message{}) {
			t.Errorf("there is an error, and %+v", m)
		}
		return
	}
	text := m.Append(nil)
	if !utf8.Valid(text) || !json.Valid(text) {
		t.Fatalf("%+v is written as %q", m, text)
	}
	again, err := m.Form.Decode(text)
	if err != nil {
		t.Fatalf("%q, which was written, is refused: %v", text, err)
	}
	want := m
	if m.Form == phoenix.V1 {
		want.JoinRef = nil // objects of the server have none
	}
	if m.Binary {
		want.Binary, want.Payload = false, []byte("{}")
	}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("%q\nread -, written and read again +:\n%s", text, diff)
	}
}

// checkLikeJSON holds the decoder to encoding/json.
func checkLikeJSON(t *testing.T, frame []byte, m phoenix.Message) {
	t.Helper()
	var joinRef, ref, topic, event, payload json.RawMessage
	switch m.Form {
	case phoenix.V2:
		var parts []json.RawMessage
		if err := json.Unmarshal(frame, &parts); err != nil || len(parts) < 5 {
			t.Fatalf("%q is read as %+v", frame, m)
		}
		joinRef, ref, topic, event, payload = parts[0], parts[1], parts[2], parts[3], parts[4]
	default:
		var names map[string]json.RawMessage // a struct would match topic to Topic
		if err := json.Unmarshal(frame, &names); err != nil {
			t.Fatal(err)
		}
		joinRef, ref, topic, event, payload = names["join_ref"], names["ref"], names["topic"], names["event"], names["payload"]
	}
	orNil := func(r json.RawMessage) []byte {
		if r == nil || string(r) == "null" {
			return nil
		}
		return r
	}
	want := phoenix.Message{Form: m.Form, JoinRef: orNil(joinRef), Ref: orNil(ref), Payload: orNil(payload)}
	if want.Payload == nil {
		want.Payload = []byte("{}")
	}
	if err := errors.Join(json.Unmarshal(topic, &want.Topic), json.Unmarshal(event, &want.Event)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("encoding/json -, got +:\n%s", diff)
	}
}

// FuzzSession: whatever a client sends, and whatever the server does meanwhile, nothing panics, and no promise is broken. The
// input is lines: frames of text; binary frames, which begin with a zero byte; and a "!" with a byte that says what the server
// does on which link.
func FuzzSession(f *testing.F) {
	for _, lines := range []string{
		`["1","1","system:1","phx_join",{}]` + "\n" + `["1","2","system:1","echo",{"a":1}]` + "\n" + `["1","3","system:1","phx_leave",{}]`,
		`["1","1","n:1","phx_join",{}]` + "\n" + `["2","2","n:1","phx_join",{}]` + "\n!a\n!b\n!c\n!d\n!e\n" + `[null,null,"n:1","push",{}]`,
		`[null,1,"do:1","phx_join",{"do":"close"}]` + "\n" + `["",1,"do:1","phx_join",{"joined":"panic","left":"panic"}]`,
		`[null,1,"eager:1","phx_join",null]` + "\n" + `{"topic":"eager:1","event":"panic","payload":{},"ref":1}` + "\n!a\n!b",
		`{"topic":"n:1","event":"phx_join","payload":{},"ref":"1"}` + "\n" + `{"topic":"n:1","event":"phx_join","payload":{},"ref":"2"}` + "\n!d",
		`[1,1,"n:1","phx_join",{}]` + "\n" + `[2,2,"n:2","phx_join",{}]` + "\n" + `[3,3,"n:3","phx_join",{}]` + "\n" + `[4,4,"n:4","phx_join",{}]`,
		"\x00\x01\x01\x09\x0345system:15bin\x01\x02\x03\xff\n" + `[null,"2","phoenix","heartbeat",{}]` + "\n" + `["x"]`,
		`["1","1","nosuch","phx_join",[]]` + "\n" + `["1","2","do:x","phx_join",{"do":"panic"}]` + "\n" + `["1","3","do:x","phx_join",{"do":"unmatched"}]`,
	} {
		f.Add(true, []byte(lines))
		f.Add(false, []byte(lines))
	}
	f.Fuzz(func(t *testing.T, second bool, input []byte) {
		version := phoenix.V1
		if second {
			version = phoenix.V2
		}
		s := newTaggedServer(version)
		s.options.MaxChannels = 3
		session := phoenix.NewSession(s.options)
		for line := range bytes.SplitSeq(input, []byte("\n")) {
			before := len(s.journal)
			mustAnswer := false
			switch {
			case len(line) > 1 && line[0] == '!':
				s.actBy(line[1])
				continue
			case len(line) > 0 && line[0] == 0:
				_ = session.ReceiveBinary(line)
			default:
				m, broken := version.Decode(line)
				if err := session.Receive(line); (err == nil) != (broken == nil) {
					t.Errorf("Receive(%q): %v, Decode: %v", line, err, broken)
				}
				mustAnswer = broken == nil && (m.Event == "phx_join" || m.Topic == "phoenix")
			}
			replies := 0
			for _, e := range s.journal[before:] {
				if e.kind != sent {
					continue
				}
				m, err := version.Decode([]byte(e.frame))
				if err != nil {
					t.Fatalf("%q was sent: %v", e.frame, err)
				}
				if m.Event == "phx_reply" {
					replies++
				}
			}
			if replies > 1 || mustAnswer && replies == 0 {
				t.Errorf("%q is answered %d times", line, replies)
			}
			if n := session.Channels(); n > 3 {
				t.Errorf("%d are joined", n)
			}
		}
		session.Close()
		if err := audit(s.journal, s.channels); err != nil {
			t.Errorf("%v\n%v", err, s.journal)
		}
	})
}

// actBy does one of three things on one of the links.
func (s *server) actBy(b byte) {
	if len(s.channels) == 0 {
		return
	}
	c := s.channels[int(b/3)%len(s.channels)]
	switch b % 3 {
	case 0:
		c.link.Push("pushed", c.tag())
	case 1:
		c.link.Close()
	default:
		c.link.Crash()
	}
}
