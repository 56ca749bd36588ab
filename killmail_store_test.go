package killfeed_test

import (
	"fmt"
	"testing"

	"killfeed"
)

// These are the seven tests that the specification asks for, in its words and order. Its KillmailStore is a Feed over a
// Store; insert_event is Insert, fetch_for_client is Fetch, fetch_one_event is Next, and the GC is Collect.

// system is the one that the specification's examples use.
const system = A

// insertEvents inserts dummy killmail maps in the systems, in turn, and returns their event ids.
func insertEvents(t *testing.T, f *feed, systems ...uint32) []killfeed.EventID {
	t.Helper()
	var ids []killfeed.EventID
	for i, s := range systems {
		res, err := f.Insert(t.Context(), s, fmt.Appendf(nil, `{"dummy": %d}`, i))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, res.EventID)
	}
	return ids
}

// Start MyApp.KillmailStore in isolation.
func TestKillmailStore_StartsInIsolation(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		st := f.State()
		if st.Head != 0 || st.First != 1 || !st.Epoch.Valid() {
			t.Errorf("a new store is in the state %+v", st)
		}
		f.is(f.fetch("test-client", in(system)), "nothing")
		f.is(f.next("test-client", in(system)), "nothing")
	})
}

// Call insert_event/2 three times with the same system_id and different dummy killmail maps.
func TestKillmailStore_InsertEventThreeTimes(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.is(fmt.Sprint(insertEvents(t, f, system, system, system)), "[1 2 3]")
		if head := f.State().Head; head != 3 {
			t.Errorf("killmail_seq is %d, want 3", head)
		}
	})
}

// Call fetch_for_client("test-client", [same_system_id]) and assert you get a list of all three events, each with increasing
// event_id.
func TestKillmailStore_FetchForClientReturnsAllThree(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		insertEvents(t, f, system, system, system)
		a, err := f.Fetch(t.Context(), "test-client", in(system))
		if err != nil || len(a.Events) != 3 {
			t.Fatalf("%d events, %v; want 3", len(a.Events), err)
		}
		for i, e := range a.Events {
			want := fmt.Sprintf(`%d %d {"dummy":%d}`, i+1, system, i)
			f.is(fmt.Sprint(e.ID, " ", e.SystemID, " ", string(e.Killmail)), want)
		}
	})
}

// Call fetch_for_client("test-client", [same_system_id]) again and assert you get an empty list (since offsets have been
// updated).
func TestKillmailStore_FetchForClientAgainIsEmpty(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		insertEvents(t, f, system, system, system)
		f.is(f.fetch("test-client", in(system)), "1 2 3")
		f.is(f.fetch("test-client", in(system)), "nothing")
		f.is(f.offsets("test-client"), "A:3")
	})
}

// Insert one more killmail, then call fetch_one_event("test-client", [sys_id]) and assert it returns only that single new
// event, and next call returns :empty.
func TestKillmailStore_FetchOneEvent(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		insertEvents(t, f, system, system, system)
		f.is(f.fetch("test-client", in(system)), "1 2 3")
		insertEvents(t, f, system)
		f.is(f.next("test-client", in(system)), "4")
		f.is(f.next("test-client", in(system)), "nothing")
	})
}

// Create two different clients with overlapping systems, insert multiple events across two systems, and assert each client's
// offsets are tracked independently.
func TestKillmailStore_ClientsAreIndependent(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		insertEvents(t, f, A, B, A, B)
		f.is(f.fetch("one", in(A)), "1 3")
		f.is(f.fetch("two", in(A, B)), "1 2 3 4")
		f.is(f.offsets("one"), "A:3")
		f.is(f.offsets("two"), "A:3 B:4")
		insertEvents(t, f, B, A)
		f.is(f.next("two", in(A, B)), "5")
		f.is(f.fetch("one", in(A, B)), "2 4 5 6")
		f.is(f.fetch("two", in(A, B)), "6")
		f.is(f.fetch("one", in(A, B)), "nothing")
		f.is(f.offsets("one"), "A:6 B:5")
		f.is(f.offsets("two"), "A:6 B:5")
	})
}

// Simulate "garbage collection" by inserting events with low IDs and high IDs, artificially setting multiple client offsets
// to a high minimum, then call the internal GC function via GenServer.cast/2 and verify ETS rows with event_id <= min_offset
// are gone.
func TestKillmailStore_GarbageCollection(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{}) // the zero Retention is the specified rule
		insertEvents(t, f, A, B, A, B, A, B, A, B, A, B)
		f.is(f.commit("one", offset(A, 7)), "A:7")
		f.is(f.commit("two", offset(A, 9)), "A:9")
		f.is(f.commit("two", offset(B, 8)), "B:8")
		f.is(fmt.Sprint(f.collect()), "{7 8 10}") // min_offset is 7
		for id := killfeed.EventID(1); id <= 10; id++ {
			if _, err := f.Event(id); (err == nil) != (id > 7) {
				t.Errorf("event %d: %v", id, err)
			}
		}
		f.is(f.fetch("three", in(A, B)), "8 9 10")
		f.is(fmt.Sprint(insertEvents(t, f, A)), "[11]")
	})
}
