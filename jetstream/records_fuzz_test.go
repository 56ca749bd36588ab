package jetstream

import (
	"testing"
)

// FuzzRecords: whatever stands in the bucket that the nodes share, reading it ends, and what is read is what was written.
func FuzzRecords(f *testing.F) {
	f.Add("foo", []byte(`{"name":"foo","created":1,"seen":2,"moves":3,"holder":"x","head":9,"offsets":{"system:1":9,"new:2":1}}`))
	f.Add("foo", []byte(`{"name":"bar"}`))
	f.Add("", []byte(`{"created":99999999999999999999,"offsets":{"system:1":-1}}`))
	f.Add("a", []byte(`[[[[[[[[`))
	f.Add("\xff", []byte("{\"name\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		if r, err := parseRecord(name, value); err == nil {
			k := cached{record: r}
			_ = k.shared(name)
			text, err := k.encode(name)
			if err != nil {
				t.Fatalf("a record that was read cannot be written: %v", err)
			}
			again, err := parseRecord(name, text)
			if err != nil || len(again.Offsets) != len(r.Offsets) || again.Head != r.Head || again.Moves != r.Moves {
				t.Errorf("the record %q is %+v, and %+v (%v) when it is written and read", value, r, again, err)
			}
		}
		_, _ = parseLease(revision{value: value})
		_, _ = parseFloor(revision{value: value})
	})
}
