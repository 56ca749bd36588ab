package evekill

import (
	"context"
	"fmt"
	"testing"

	"killfeed"
	"killfeed/storetest"
)

// TestSkip: from anywhere in imported history it goes to just before the next killmail that is none, and from behind the last
// nowhere.
func TestSkip(t *testing.T) {
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	for id := 1; id <= 30; id++ {
		k, err := killfeed.NewKillmail(30000142, fmt.Appendf(nil, `{"killmail_id":%d}`, id))
		if err != nil {
			t.Fatal(err)
		}
		marks := killfeed.MarkBackfill
		if id%10 == 0 {
			marks = 0
		}
		if _, err := feed.InsertAll(context.Background(), []*killfeed.Killmail{k}, marks); err != nil {
			t.Fatal(err)
		}
	}
	for at, want := range map[killfeed.EventID]killfeed.EventID{1: 9, 5: 9, 9: 9, 10: 19, 11: 19, 20: 29, 29: 29, 30: 30, 31: 31} {
		for _, backfill := range []bool{false, true} {
			p := page{dialect: &dialect{feed: feed}, after: killfeed.Cursor{After: at}, backfill: backfill}
			if err := p.skip(); err != nil {
				t.Fatal(err)
			}
			if backfill {
				want = at
			}
			if p.after.After != want {
				t.Errorf("from %d it goes to %d, want %d", at, p.after.After, want)
			}
		}
	}
}
