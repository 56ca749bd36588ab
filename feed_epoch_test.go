package killfeed_test

import (
	"testing"

	"killfeed"
	"killfeed/storetest"
)

// A log that was restored from a backup goes on for those who had read no further than the backup, whichever way they keep their
// place. Who had read further is told: there the ids mean other events now.
func TestCursorsOfFormerEpochs(t *testing.T) {
	m := storetest.NewModel()
	f := start(t, m, killfeed.Options{})
	f.insert(A, A, A)
	first := f.State().Epoch
	made := f.made
	f.close()
	f = start(t, m.Restored(), killfeed.Options{})
	f.made = made // ids of killmails that the log has would be duplicates
	f.insert(A)
	second := f.State().Epoch
	if first == second {
		t.Fatalf("the epoch is still %s", first)
	}
	read := func(after killfeed.EventID, epoch killfeed.Epoch) string {
		t.Helper()
		c := killfeed.Cursor{After: after, Epoch: epoch}
		ans, err := f.ReadAfter(t.Context(), c, in(A))
		if err != nil {
			t.Fatal(err)
		}
		if a, b := say(ans), f.fetch("client", cursor(c, in(A))); a != b {
			t.Errorf("behind %s a client is told %s, who is none %s", c, b, a)
		}
		sub, place, err := f.Subscribe(t.Context(), killfeed.Subscriber{Read: cursor(c, in(A)), Wake: func() {}})
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Close()
		if place.Gap != nil != (ans.Gap != nil) || place.Start != ans.Next.After+1-killfeed.EventID(len(ans.Events)) {
			t.Errorf("behind %s a subscription begins with %d, gap %v; a poll is told %s", c, place.Start, place.Gap, say(ans))
		}
		return say(ans)
	}
	f.is(read(1, first), "2 3 4")
	f.is(read(3, first), "4")
	f.is(read(4, first), "1 2 3 4 gap epoch")
	f.is(read(3, second), "4")
	f.is(read(4, second), "nothing")
	f.is(read(1, "00000000"), "1 2 3 4 gap epoch")
}
