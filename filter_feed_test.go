package killfeed_test

import (
	"fmt"
	"testing"

	"killfeed"
	"killfeed/storetest"
)

// However an answer with a filter is cut, the answers together are what matches, each once, and what was passed over is not
// looked at again.
func TestFilterPages(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{Retention: killfeed.DefaultRetention()})
		f.SetUniverse(smallUniverse(t))
		const events = 1300 // more than one page of the index
		var mails []*killfeed.Killmail
		for i := range int64(events) {
			m := storetest.Mail{ID: i + 1, System: []uint32{A, B, C}[i%3], ZKB: true}
			if i%7 == 0 {
				m.Labels = []string{"x"}
			}
			mails = append(mails, m.Killmail())
		}
		if _, err := f.InsertAll(t.Context(), mails, 0); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"killmail_id>1290", "killmail_id<20", "label=x", "label!=x", "space=low,killmail_id=1100", "killmail_id=0"} {
			filter, err := killfeed.ParseFilter(text, f.Universe())
			if err != nil {
				t.Fatal(err)
			}
			var want []killfeed.EventID
			for i := range mails {
				e, err := f.Event(killfeed.EventID(i + 1))
				if err != nil {
					t.Fatal(err)
				}
				if filter.Match(&e) {
					want = append(want, e.ID)
				}
			}
			for _, limit := range []int{0, 1, 2, 100, 1000} {
				for _, topics := range [][]killfeed.Topic{{killfeed.All()}, {killfeed.System(A), {Kind: killfeed.KindRegion, ID: 1}}} {
					for _, way := range []string{"Fetch", "Next", "ReadAfter", "Subscription"} {
						if way == "Next" && limit > 0 {
							continue
						}
						what := fmt.Sprintf("%s of %v, filter %s, limit %d", way, topics, text, limit)
						r := killfeed.Read{Topics: topics, Limit: limit, Filter: filter}
						got := pages(f, way, what, r)
						if fmt.Sprint(got) != fmt.Sprint(want) {
							t.Fatalf("%s:\ngot  %v\nwant %v", what, got, want)
						}
						if way == "Fetch" || way == "Next" { // all of it counts as read
							info, err := f.Client(what)
							if err != nil || info.Lag != 0 || info.Offsets[topics[len(topics)-1]] != events {
								t.Fatalf("%s: afterwards the client is %+v, %v", what, info, err)
							}
						}
					}
				}
			}
		}
	})
}

// pages reads everything in one of the ways there are.
func pages(f *feed, way, what string, r killfeed.Read) (got []killfeed.EventID) {
	after, sub := killfeed.Cursor{}, (*killfeed.Subscription)(nil)
	if way == "Subscription" {
		var err error
		sub, _, err = f.Subscribe(f.Context(), killfeed.Subscriber{Read: r, Wake: func() {}})
		if err != nil {
			f.Fatalf("%s: %v", what, err)
		}
		defer sub.Close()
	}
	for range 10_000 {
		var (
			ans killfeed.Answer
			err error
		)
		switch way {
		case "Fetch":
			ans, err = f.Fetch(f.Context(), what, r)
		case "Next":
			ans, err = f.Next(f.Context(), what, r)
			ans.More = ans.More || len(ans.Events) > 0
		case "ReadAfter":
			ans, err = f.ReadAfter(f.Context(), after, r)
			after = ans.Next
		case "Subscription":
			var d killfeed.Delivery
			d, err = sub.Read(nil, r.Limit)
			ans.Events, ans.More = d.Events, d.More
		}
		if err != nil || r.Limit > 0 && len(ans.Events) > r.Limit {
			f.Fatalf("%s: %d events, %v", what, len(ans.Events), err)
		}
		for _, e := range ans.Events {
			got = append(got, e.ID)
		}
		if !ans.More {
			return got
		}
	}
	f.Fatalf("%s does not end", what)
	return nil
}
