//go:build unix

package interop

import (
	"fmt"
	"testing"
)

// The Go client github.com/nshafer/phx joins and receives. It hands on each event in a goroutine of its own, in any order,
// and may join twice, having missed the first reply; so the order is not looked at, and events may come again.
func TestPhx(t *testing.T) {
	bin, err := build("killfeed/internal/interop/phx")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	s.insert(t, jita, hek)
	p := start(t, bin, "ws://"+s.addr+"/socket", fmt.Sprintf("system:%d", jita), `{"start":"earliest"}`)
	joined, ids := false, map[uint64]bool{}
	receive := func(last uint64) {
		t.Helper()
		for !joined || !ids[last] {
			var l line
			switch p.take(t, "", &l); l.On {
			case "joined":
				joined = true
			case "new_killmail":
				ids[l.Payload.EventID] = true
			default:
				t.Fatalf("next is %+v", l)
			}
		}
	}
	receive(1)
	s.insert(t, jita)
	receive(3)
	if len(ids) != 2 {
		t.Errorf("events %v, want 1 and 3", ids)
	}
}
