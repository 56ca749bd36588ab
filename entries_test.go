package killfeed_test

import (
	"context"
	"errors"
	"testing"

	"killfeed"
	"killfeed/storetest"
)

func TestEntries(t *testing.T) {
	model := storetest.NewModel()
	feed, err := killfeed.Open(model, killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	maker := storetest.NewMaker(storetest.MakerOptions{Attackers: 1})
	const n = 70_000
	killmails := make([]*killfeed.Killmail, n)
	for i := range killmails {
		k := *maker.Next()
		k.Topics = k.Topics[:1] // the index of participants is not looked at
		killmails[i] = &k
	}
	if _, err := feed.InsertAll(context.Background(), killmails, 0); err != nil {
		t.Fatal(err)
	}
	if err := model.Remove(10); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ after, through, from, to killfeed.EventID }{
		{0, 20, 11, 20},
		{15, 20, 16, 20},
		{0, 10, 0, 0},
		{20, 20, 0, 0},
		{n - 5, n + 5, n - 4, n},
		{n, n + 5, 0, 0},
		{10, n, 11, 10 + 1<<16},
		{10 + 1<<16, n, 11 + 1<<16, n},
	} {
		got, err := feed.Entries(nil, c.after, c.through)
		if err != nil {
			t.Fatal(err)
		}
		if c.from == 0 {
			if len(got) > 0 {
				t.Errorf("above %d up to %d there are %d entries, want none", c.after, c.through, len(got))
			}
			continue
		}
		if len(got) != int(c.to-c.from)+1 {
			t.Errorf("above %d up to %d there are %d entries, want %d to %d", c.after, c.through, len(got), c.from, c.to)
			continue
		}
		for i, e := range got {
			if id := c.from + killfeed.EventID(i); e.ID != id || e.KilledAt != killmails[id-1].Time.Unix() {
				t.Fatalf("entry %d is of event %d at %d, want %d at %d", i, e.ID, e.KilledAt, id, killmails[id-1].Time.Unix())
			}
		}
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := feed.Entries(nil, 10, 20); !errors.Is(err, killfeed.ErrClosed) {
		t.Errorf("of a closed feed: %v, want ErrClosed", err)
	}
}

func TestFirst(t *testing.T) {
	model := storetest.NewModel()
	feed, err := killfeed.Open(model, killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	m := storetest.NewMaker(storetest.MakerOptions{Attackers: 1}).NextMail()
	m.ZKB, m.Labels = false, nil
	richer := m
	richer.ZKB, richer.Labels = true, []string{"pvp"}
	for _, k := range []*killfeed.Killmail{m.Killmail(), richer.Killmail()} {
		if _, err := feed.InsertAll(context.Background(), []*killfeed.Killmail{k}, 0); err != nil {
			t.Fatal(err)
		}
	}
	first, err := feed.First(m.ID)
	newest, newestErr := feed.Killmail(m.ID)
	if err != nil || newestErr != nil || first.ID != 1 || newest.ID != 2 {
		t.Errorf("the first is event %d (%v), the newest %d (%v), want 1 and 2", first.ID, err, newest.ID, newestErr)
	}
	if _, err := feed.First(m.ID + 1); !errors.Is(err, killfeed.ErrNotFound) {
		t.Errorf("one that never came: %v, want ErrNotFound", err)
	}
	if err := model.Remove(1); err != nil {
		t.Fatal(err)
	}
	if _, err := feed.First(m.ID); !errors.Is(err, killfeed.ErrNotFound) {
		t.Errorf("one that was removed: %v, want ErrNotFound", err)
	}
}
