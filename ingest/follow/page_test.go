package follow

import (
	"strings"
	"testing"

	"killfeed"
)

func TestReadPage(t *testing.T) {
	const epoch = killfeed.Epoch("0a0a0a0a")
	at := func(id killfeed.EventID) killfeed.Cursor { return killfeed.Cursor{After: id, Epoch: epoch} }
	for _, test := range []struct {
		name, text string
		from       killfeed.Cursor
		err        string
	}{
		{"empty log", `{"events":[],"head":0,"epoch":"0a0a0a0a","more":false,"next":"0-0a0a0a0a"}`, killfeed.Cursor{}, ""},
		{"passed over", `{"events":[],"head":9,"epoch":"0a0a0a0a","next":"9-0a0a0a0a"}`, at(3), ""},
		{"unknown members", `{"events":[{"event_id":4,"x":1}],"head":9,"epoch":"0a0a0a0a","next":"4-0a0a0a0a","y":{}}`, at(3), ""},
		{"retention", `{"events":[{"event_id":7}],"epoch":"0a0a0a0a","next":"7-0a0a0a0a","gap":{"reason":"retention","from":4,"to":6}}`, at(3), ""},
		{"another log", `{"events":[{"event_id":1}],"epoch":"0b0b0b0b","next":"1-0b0b0b0b","gap":{"reason":"epoch"}}`, at(3), ""},
		{"future", `{"events":[],"epoch":"0a0a0a0a","next":"1-0a0a0a0a","gap":{"reason":"future"}}`, at(3), ""},
		{"no JSON", `{`, at(3), "reading the answer"},
		{"another service", `{"package":null}`, at(3), "is this a killfeed"},
		{"no cursor", `{"events":[],"epoch":"0a0a0a0a"}`, at(3), "no cursor"},
		{"cursor of another log", `{"events":[],"epoch":"0a0a0a0a","next":"3-0b0b0b0b"}`, at(3), "want the same epoch"},
		{"bare cursor", `{"events":[],"epoch":"0a0a0a0a","next":"3"}`, at(3), "want the same epoch"},
		{"restored", `{"events":[{"event_id":4}],"epoch":"0b0b0b0b","next":"4-0b0b0b0b"}`, at(3), ""},
		{"restored, back", `{"events":[],"epoch":"0b0b0b0b","next":"2-0b0b0b0b"}`, at(3), "never goes back"},
		{"another log untold", `{"events":[{"event_id":1}],"epoch":"0b0b0b0b","next":"3-0b0b0b0b"}`, at(3), "ascending"},
		{"back", `{"events":[],"epoch":"0a0a0a0a","next":"2-0a0a0a0a"}`, at(3), "never goes back"},
		{"had already", `{"events":[{"event_id":3}],"epoch":"0a0a0a0a","next":"3-0a0a0a0a"}`, at(3), "ascending"},
		{"out of order", `{"events":[{"event_id":5},{"event_id":4}],"epoch":"0a0a0a0a","next":"5-0a0a0a0a"}`, at(3), "ascending"},
		{"no event id", `{"events":[{}],"epoch":"0a0a0a0a","next":"5-0a0a0a0a"}`, killfeed.Cursor{}, "ascending"},
		{"cursor before the end", `{"events":[{"event_id":5}],"epoch":"0a0a0a0a","next":"4-0a0a0a0a"}`, at(3), "a cursor behind it"},
	} {
		p, err := readPage([]byte(test.text), test.from)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %+v, %v; want %q", test.name, p, err, test.err)
		}
	}
}

// What is accepted never leads backwards, and never past an event that it does not have in order.
func FuzzReadPage(f *testing.F) {
	f.Add([]byte(`{"events":[{"event_id":7,"received_at":"2026-01-01T00:00:00.000Z","backfill":true,"killmail":{}}],"head":9,`+
		`"epoch":"0a0a0a0a","more":true,"next":"7-0a0a0a0a","gap":{"reason":"retention","from":4,"to":6}}`), uint64(3))
	f.Add([]byte(`{"events":[],"head":0,"epoch":"0b0b0b0b","more":false,"next":"0-0b0b0b0b","gap":{"reason":"epoch"}}`), uint64(3))
	f.Fuzz(func(t *testing.T, data []byte, after uint64) {
		from := killfeed.Cursor{After: killfeed.EventID(after), Epoch: "0a0a0a0a"}
		p, err := readPage(data, from)
		if err != nil {
			return
		}
		last := killfeed.EventID(0)
		if !p.moved() {
			last = from.After
		}
		for _, e := range p.Events {
			if e.ID <= last {
				t.Fatalf("event %d behind %d", e.ID, last)
			}
			last = e.ID
		}
		if p.next.After < last || p.next.Epoch != p.Epoch {
			t.Fatalf("goes on at %s behind %d of %s", p.next, last, p.Epoch)
		}
	})
}
