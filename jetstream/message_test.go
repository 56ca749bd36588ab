package jetstream

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"killfeed"
)

func anyEvent(t *rapid.T) killfeed.Event {
	e := killfeed.Event{
		ID:         killfeed.EventID(rapid.Uint64Range(1, 1<<40).Draw(t, "id")),
		SystemID:   rapid.Uint32().Draw(t, "system"),
		ReceivedAt: time.UnixMilli(rapid.Int64Range(0, 1<<43).Draw(t, "received")).UTC(),
		Killmail:   []byte(`{"a":"` + strings.ReplaceAll(rapid.String().Draw(t, "text"), `"`, "") + `"}`),
		KillmailID: rapid.Int64Range(0, 1<<62).Draw(t, "killmail"),
		MirrorSeq:  rapid.Uint64Range(0, 1<<62).Draw(t, "mirror"),
		Marks:      killfeed.Marks(rapid.Uint8().Draw(t, "marks")),
	}
	if rapid.Bool().Draw(t, "has a time") {
		e.KilledAt = time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "killed"), 0).UTC()
	}
	return e
}

// A message is the whole event, and each part of the event is in the chain.
func TestMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		before := sum{}.next(&e)
		m := message("feed", &e, "run.1", before)
		got, err := parse("feed", uint64(e.ID), m.Subject, m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(e, got.Event); d != "" {
			t.Error(d)
		}
		if got.append != "run.1" || got.before != before {
			t.Errorf("the append is %q, the sum before it %v", got.append, got.before)
		}

		l := link{at: e.ID, sum: before}
		if back, err := parseLink(l.checkpoint().Place); err != nil || back != l {
			t.Errorf("checkpoint %q is %v, %v", l.checkpoint().Place, back, err)
		}
		for what, change := range map[string]func(*killfeed.Event){
			"id":       func(e *killfeed.Event) { e.ID++ },
			"system":   func(e *killfeed.Event) { e.SystemID++ },
			"received": func(e *killfeed.Event) { e.ReceivedAt = e.ReceivedAt.Add(time.Millisecond) },
			"json":     func(e *killfeed.Event) { e.Killmail = append([]byte("{ "), e.Killmail[1:]...) },
			"killmail": func(e *killfeed.Event) { e.KillmailID++ },
			"mirror":   func(e *killfeed.Event) { e.MirrorSeq++ },
			"marks":    func(e *killfeed.Event) { e.Marks++ },
		} {
			other := e
			change(&other)
			if l.next(&other).sum == l.next(&e).sum {
				t.Errorf("the chain does not cover the %s", what)
			}
		}
		if (link{at: e.ID}).next(&e).sum == l.next(&e).sum {
			t.Error("the chain does not cover what was before")
		}
	})
}

// What is no event is told apart, whichever part of it is missing or wrong.
func TestForeignMessages(t *testing.T) {
	e := killfeed.Event{ID: 7, SystemID: 30000142, ReceivedAt: time.UnixMilli(1).UTC(), Killmail: []byte(`{"killmail_id":5}`), KillmailID: 5,
		KilledAt: time.Unix(1, 0).UTC(), MirrorSeq: 3}
	for name, change := range map[string]func(*nats.Msg){
		"no append":    func(m *nats.Msg) { m.Header.Del(headerAppend) },
		"no received":  func(m *nats.Msg) { m.Header.Del(headerReceived) },
		"no marks":     func(m *nats.Msg) { m.Header.Del(headerMarks) },
		"no mirror":    func(m *nats.Msg) { m.Header.Del(headerMirror) },
		"no chain":     func(m *nats.Msg) { m.Header.Del(headerChain) },
		"short chain":  func(m *nats.Msg) { m.Header.Set(headerChain, "AAAA") },
		"marks":        func(m *nats.Msg) { m.Header.Set(headerMarks, "256") },
		"received":     func(m *nats.Msg) { m.Header.Set(headerReceived, "yesterday") },
		"killed":       func(m *nats.Msg) { m.Header.Set(headerKilled, "1.5") },
		"killmail":     func(m *nats.Msg) { m.Header.Set(headerKillmail, "-5") },
		"no headers":   func(m *nats.Msg) { m.Header = nil },
		"no data":      func(m *nats.Msg) { m.Data = nil },
		"no object":    func(m *nats.Msg) { m.Data = []byte("[]") },
		"system":       func(m *nats.Msg) { m.Subject = "feed.events.x" },
		"great system": func(m *nats.Msg) { m.Subject = "feed.events.4294967296" },
		"subject":      func(m *nats.Msg) { m.Subject = "other.events.1" },
	} {
		t.Run(name, func(t *testing.T) {
			m := message("feed", &e, "run.1", sum{})
			change(m)
			if e, err := parse("feed", 7, m.Subject, m.Header, m.Data); err == nil {
				t.Errorf("it is taken for %+v", e)
			} else if !strings.Contains(err.Error(), "message 7") {
				t.Error(err)
			}
		})
	}
}

// Whatever is published into the stream, parse takes it for an event only if it is the message of that event.
func FuzzParse(f *testing.F) {
	e := killfeed.Event{ID: 7, SystemID: 30000142, ReceivedAt: time.UnixMilli(1).UTC(), Killmail: []byte(`{"killmail_id":5}`), KillmailID: 5,
		KilledAt: time.Unix(1, 0).UTC(), MirrorSeq: 3}
	m := message("feed", &e, "run.1", sum{})
	get := m.Header.Get
	f.Add(uint64(7), m.Subject, get(headerAppend), get(headerChain), get(headerReceived), get(headerKilled), get(headerMarks), get(headerMirror),
		get(headerKillmail), m.Data)
	f.Add(uint64(1), "feed.events.", "a", "", "-1", "x", "999", "18446744073709551615", "0", []byte("{}"))
	f.Fuzz(func(t *testing.T, seq uint64, subject, try, chain, received, killed, marks, mirror, killmail string, data []byte) {
		h := nats.Header{}
		for key, value := range map[string]string{headerAppend: try, headerChain: chain, headerReceived: received, headerKilled: killed,
			headerMarks: marks, headerMirror: mirror, headerKillmail: killmail} {
			h.Set(key, value)
		}
		e, err := parse("feed", seq, subject, h, data)
		if err != nil {
			return
		}
		m := message("feed", &e.Event, e.append, e.before)
		again, err := parse("feed", seq, m.Subject, m.Header, m.Data)
		if err != nil {
			t.Fatalf("%+v is taken, and its message is not: %v", e, err)
		}
		if d := cmp.Diff(e, again, cmp.AllowUnexported(entry{})); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzParseLink(f *testing.F) {
	f.Add(link{at: 3}.checkpoint().Place)
	f.Add("3:")
	f.Add(":00")
	f.Fuzz(func(t *testing.T, place string) {
		l, err := parseLink(place)
		if err != nil {
			return
		}
		if back, err := parseLink(l.checkpoint().Place); err != nil || back != l {
			t.Fatalf("%q is %v, which is %v, %v", place, l, back, err)
		}
	})
}
