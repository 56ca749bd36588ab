package killfeed_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"killfeed"
	"killfeed/storetest"
)

// A filter of two thousand rules that looks through cargo holds costs a thousand times what others do. No answer looks that long:
// it says that there is more, and the answers together are complete.
func TestFilterOfManyRulesEndsAnswers(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	const events, items, rules = 120, 250, 1990 // half a million looks for each killmail
	for i := range int64(events) {
		f.insertMail(storetest.Mail{ID: i + 1, System: A, Items: items}, 0)
	}
	var text strings.Builder
	for i := range rules {
		fmt.Fprintf(&text, "item_type_id<-%d,", i+1)
	}
	fmt.Fprintf(&text, "killmail_id=1|%d", events)
	filter, err := killfeed.ParseFilter(text.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const most = 40 // killmails in an answer
	answers, got := 0, []killfeed.EventID{}
	for cursor := (killfeed.Cursor{}); ; answers++ {
		ans, err := f.ReadAfter(t.Context(), cursor, killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}, Filter: filter})
		if err != nil || ans.Next.After > cursor.After+most || ans.More && ans.Next.After <= cursor.After {
			t.Fatalf("behind %d: more %v, next %d, %v; want up to %d killmails further on", cursor.After, ans.More, ans.Next.After, err, most)
		}
		for _, e := range ans.Events {
			got = append(got, e.ID)
		}
		if cursor = ans.Next; !ans.More {
			break
		}
	}
	if want := []killfeed.EventID{1, events}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%d answers have events %v, want %v", answers+1, got, want)
	}
	got = got[:0]
	for before := killfeed.EventID(events + 1); before > 0; {
		h, err := f.LookBack(t.Context(), killfeed.Past{Topics: []killfeed.Topic{killfeed.All()}, Limit: 1000, Before: before, Filter: filter})
		if err != nil || h.Next > 0 && (h.Next >= before || h.Next+most < before) || h.Next == 0 && before > most {
			t.Fatalf("looking back from %d: next %d, %v; want up to %d killmails further back", before, h.Next, err, most)
		}
		for _, e := range h.Events {
			got = append(got, e.ID)
		}
		before = h.Next
	}
	if want := []killfeed.EventID{events, 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("looking back finds %v, want %v", got, want)
	}
	_, _, err = f.Counts(t.Context(), killfeed.Past{Filter: filter})
	if bad, ok := errors.AsType[*killfeed.InvalidError](err); !ok || bad.Param != "filter" {
		t.Errorf("counting: %v, want a refusal of the filter", err)
	}
}

// Looking back over killmails of which a few fill an answer gives all of them, in order, however many do not fit.
func TestLookBackOverLargeKillmails(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	const events, items = 20, 60_000 // about 4 MB each
	for i := range int64(events) {
		m := storetest.Mail{ID: i + 1, System: A, Items: 1}
		if i%3 > 0 {
			m.Items = items
		}
		f.insertMail(m, 0)
	}
	for _, text := range []string{"", "killmail_id>0", "killmail_id<4"} {
		p := killfeed.Past{Topics: []killfeed.Topic{killfeed.All()}, Limit: 1000}
		want := ""
		for id := events; id > 0; id-- {
			if text != "killmail_id<4" || id < 4 {
				want += fmt.Sprint(id, " ")
			}
		}
		if text != "" {
			var err error
			if p.Filter, err = killfeed.ParseFilter(text, nil); err != nil {
				t.Fatal(err)
			}
		}
		got := ""
		for pages := 0; ; pages++ {
			h, err := f.LookBack(t.Context(), p)
			if err != nil || pages > events {
				t.Fatalf("filter %q, before %d: %v, %d pages", text, p.Before, err, pages)
			}
			bytes := 0
			for _, e := range h.Events {
				got += fmt.Sprint(e.ID, " ")
				bytes += len(e.Killmail)
			}
			if bytes > killfeed.MaxAnswerBytes {
				t.Errorf("filter %q, before %d: %d bytes in one answer", text, p.Before, bytes)
			}
			if p.Before = h.Next; h.Next == 0 {
				break
			}
		}
		if got != want {
			t.Errorf("filter %q: got %s, want %s", text, got, want)
		}
	}
}

// A subscription's filter asks where systems lie of the static data of the moment, as its topics do.
func TestFilterFollowsStaticData(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	made := func(region uint32) *killfeed.Universe {
		u, err := killfeed.NewUniverse(killfeed.UniverseData{
			Systems: []killfeed.SolarSystem{{ID: A, Name: "A", Region: region}}, Regions: []killfeed.Region{{ID: 1, Name: "One"}, {ID: 2, Name: "Two"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	f.SetUniverse(made(1))
	filter, err := killfeed.ParseFilter("region=Two", f.Universe())
	if err != nil {
		t.Fatal(err)
	}
	s := f.subscribe(by("", 1, killfeed.Read{Topics: []killfeed.Topic{killfeed.System(A)}, Filter: filter}))
	f.insert(A)
	f.rung()
	f.is(s.read(0), "nothing")
	f.SetUniverse(made(2))
	f.insert(A)
	f.rung()
	f.is(s.read(0), "2")
}
