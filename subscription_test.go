package killfeed_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/internal/ledgertest"
	"killfeed/storetest"
)

// sub is a subscription under test.
type sub struct {
	*killfeed.Subscription
	f     *feed
	place killfeed.Place
	woken chan struct{} // cap 1

	following atomic.Bool // one wake-up is one read: more are an error
	mu        sync.Mutex
	words     []string      // what follow got since the last heard
	ended     chan struct{} // closed when follow has ended
}

// of is a subscriber without a client.
func of(r killfeed.Read) killfeed.Subscriber { return killfeed.Subscriber{Read: r} }

// by is a client's subscriber.
func by(client string, holder any, r killfeed.Read) killfeed.Subscriber {
	return killfeed.Subscriber{Read: r, Client: client, Holder: holder}
}

// subscribe begins a subscription; the test's end closes it.
func (f *feed) subscribe(o killfeed.Subscriber) *sub {
	f.Helper()
	s := &sub{f: f, woken: make(chan struct{}, 1), ended: make(chan struct{})}
	wake := o.Wake
	o.Wake = func() {
		select {
		case s.woken <- struct{}{}:
		default:
			if s.following.Load() {
				f.Errorf("a subscription is woken again, and did not sleep")
			}
		}
		if wake != nil {
			wake()
		}
	}
	var err error
	if s.Subscription, s.place, err = f.Subscribe(f.Context(), o); err != nil {
		f.Fatalf("Subscribe(%+v): %v", o, err)
	}
	f.Cleanup(s.Close)
	return s
}

// rung waits until all events are rung for, so that who reads sees them. In fake time synctest.Wait is enough.
func (f *feed) rung() {
	for !f.Rung() {
		runtime.Gosched()
	}
}

// read reads once, and says what came: "1 3 gap retention 1-2 more", "replaced".
func (s *sub) read(limit int) string {
	select {
	case <-s.woken:
	default:
	}
	d, err := s.Read(nil, limit)
	switch {
	case errors.Is(err, killfeed.ErrReplaced):
		return "replaced"
	case errors.Is(err, killfeed.ErrNotFound):
		return "not found"
	case errors.Is(err, killfeed.ErrClosed):
		return "closed"
	case err != nil:
		return err.Error()
	}
	return say(killfeed.Answer{Events: d.Events, Gap: d.Gap, More: d.More, Head: math.MaxUint64})
}

// awake tells whether the subscription was woken since the last read.
func (s *sub) awake() bool { return len(s.woken) > 0 }

// follow reads in the background as a connection does: whenever it is woken, to the end. With deliver everything is Delivered.
// It ends with the subscription.
func (s *sub) follow(limit int, deliver bool) *sub {
	s.following.Store(true)
	go func() {
		defer close(s.ended)
		for {
			got := s.read(limit)
			words, more := strings.CutSuffix(got, "more")
			if words != "nothing" && words != "" {
				s.mu.Lock()
				s.words = append(s.words, strings.TrimSuffix(words, " "))
				s.mu.Unlock()
			}
			switch {
			case got == "replaced" || got == "not found" || got == "closed":
				return
			case deliver:
				s.Delivered()
			}
			if !more {
				<-s.woken
				s.woken <- struct{}{} // read takes it
			}
		}
	}()
	return s
}

// heard says, in fake time, what follow got since the last time, when everybody has come to rest and what a test holds up for a
// moment has gone on.
func (s *sub) heard() string {
	time.Sleep(10 * time.Millisecond)
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	words := strings.Join(s.words, " ")
	s.words = nil
	if words == "" {
		return "nothing"
	}
	return words
}

// begins says where a subscription begins: "3 gap retention 1-2".
func begins(p killfeed.Place) string {
	return strings.TrimSuffix(fmt.Sprint(p.Start, " ", say(killfeed.Answer{Gap: p.Gap})), " nothing")
}

func (f *feed) setTopics(s *sub, topics ...killfeed.Topic) killfeed.Place {
	f.Helper()
	p, err := s.SetTopics(f.Context(), topics)
	if err != nil {
		f.Errorf("SetTopics(%v): %v", topics, err)
	}
	return p
}

// ids writes down the numbers of those of the events, which lie in the systems in turn, that lie in one of the wanted ones.
func ids(from killfeed.EventID, systems []uint32, wanted ...uint32) string {
	var words []string
	for i, s := range systems {
		if id := killfeed.EventID(i + 1); id >= from && slices.Contains(wanted, s) {
			words = append(words, fmt.Sprint(id))
		}
	}
	if words == nil {
		return "nothing"
	}
	return strings.Join(words, " ")
}

func TestSubscription(t *testing.T) {
	onStores(t, func(t *testing.T, store storage) {
		f := start(t, store.open(t), killfeed.Options{})
		f.insert(A, B, A, C, B)
		f.rung()
		s := f.subscribe(of(in(A, B)))
		f.is(begins(s.place), "1")
		f.is(s.read(2), "1 2 more")
		f.is(s.read(2), "3 5")
		f.is(s.read(2), "nothing")
		f.is(s.Cursor().String(), "5-"+string(f.State().Epoch))
		f.insert(C, B)
		<-s.woken
		f.is(s.read(0), "7")
		f.is(s.read(0), "nothing")

		p := f.setTopics(s, killfeed.System(C), killfeed.System(B)) // from here on
		f.is(begins(p), "8")
		f.is(fmt.Sprint(s.Topics()), "[system:30002187 system:30000144]")
		f.is(s.read(0), "nothing")
		f.insert(A, C)
		<-s.woken
		f.is(s.read(0), "9")
		f.is(s.read(0), "nothing")
		s.Close()
		f.is(s.read(0), "closed")
		s.Close()
		if n := f.Stats().Subscriptions; n != 0 || f.Ropes() != 0 {
			t.Errorf("%d subscriptions are open, on %d topics", n, f.Ropes())
		}
	})
}

func TestSubscribeRefusals(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{MaxClients: 1})
	wake := func() {}
	for _, tt := range []struct {
		o     killfeed.Subscriber
		param string
	}{
		{of(in()), "topics"},
		{of(about(make([]killfeed.Topic, killfeed.MaxTopics+1)...)), "topics"},
		{by(" c", 1, in(A)), "client_id"},
	} {
		tt.o.Wake = wake
		_, _, err := f.Subscribe(t.Context(), tt.o)
		f.invalid(err, tt.param)
	}
	s := f.subscribe(of(in(A)))
	_, err := s.SetTopics(t.Context(), nil)
	f.invalid(err, "topics")
	f.invalid(s.Commit(t.Context(), 0), "client_id") // there is none
	c := f.subscribe(by("c", 1, in(A)))
	f.invalid(c.Commit(t.Context(), 1), "event_id") // above the head
	o := by("d", 1, in(A))
	o.Wake = wake
	_, _, err = f.Subscribe(t.Context(), o)
	f.errorIs(err, killfeed.ErrTooManyClients)
	if n := f.Stats().Subscriptions; n != 2 || f.Ropes() != 1 {
		t.Errorf("%d subscriptions are open, on %d topics", n, f.Ropes())
	}
	feed := f.Feed
	f.close()
	for _, client := range []string{"", "c"} {
		o = by(client, 1, in(A))
		o.Wake = wake
		_, _, err = feed.Subscribe(t.Context(), o)
		f.errorIs(err, killfeed.ErrClosed)
	}
	f.is(s.read(0), "closed")
}

// Whatever cursor a reader comes with, of whatever log, it gets what is behind it, exactly, and is told what of that is gone.
// So it is for a reader on its own and for a client, at every stage of retention, and after a restart without a new event.
func TestSubscribeAtEveryCursor(t *testing.T) {
	ledgertest.Alone(t, "each cursor past the end of the log is waited for, two seconds")
	log := []uint32{A, B, A, C, B, A, C}
	head := len(log)
	topics := map[string][]killfeed.Topic{
		"A":         {killfeed.System(A)},
		"B, C":      {killfeed.System(B), killfeed.System(C)},
		"all":       {killfeed.All()},
		"pilot, B":  {{Kind: killfeed.KindCharacter, ID: pilot}, killfeed.System(B)},
		"unheardof": {killfeed.System(1)},
	}
	isOn := func(id int, topic killfeed.Topic) bool {
		s := log[id-1]
		return topic.Kind == killfeed.KindAll || topic == killfeed.System(s) || topic.Kind == killfeed.KindCharacter && s == A
	}
	// want says what a subscription with the cursor is to give when all up to removed is gone.
	want := func(topics []killfeed.Topic, at int, sameLog bool, removed int) string {
		gap, told := "", true
		switch {
		case !sameLog:
			at, gap = removed, " gap epoch"
		case at > head:
			at, gap = head, " gap future"
		default:
			told = false
		}
		lost, events := 0, "nothing"
		for id := at + 1; id <= head; id++ {
			on := func(topic killfeed.Topic) bool {
				return isOn(id, topic) || id <= removed && topic.Kind == killfeed.KindCharacter // it is not known exactly
			}
			switch {
			case !slices.ContainsFunc(topics, on):
			case id <= removed:
				lost = id
			case events == "nothing":
				events = fmt.Sprint(id)
			default:
				events += fmt.Sprint(" ", id)
			}
		}
		if lost > 0 && !told {
			gap = fmt.Sprintf(" gap retention %d-%d", at+1, lost)
		}
		return fmt.Sprintf("%d%s: %s", max(at, removed)+1, gap, events)
	}
	onStores(t, func(t *testing.T, store storage) {
		f := start(t, store.open(t), killfeed.Options{})
		f.insert(log...)
		f.rung()
		for removed := range head + 1 {
			f.commit("pin", offset(A, killfeed.EventID(removed)))
			if got := f.collect(); got.First != killfeed.EventID(removed+1) {
				t.Fatalf("after a collection the first event is %d, want %d", got.First, removed+1)
			}
			for _, reopened := range []bool{false, true} {
				if reopened {
					f.close()
					f = start(t, store.open(t), killfeed.Options{})
				}
				epoch := f.State().Epoch
				for name, topics := range topics {
					for at := range head + 3 {
						for _, e := range []killfeed.Epoch{epoch, "", "0000000g"} {
							for _, client := range []string{"", "c"} {
								c := killfeed.Cursor{After: killfeed.EventID(at), Epoch: e}
								s := f.subscribe(by(client, 1, cursor(c, about(topics...))))
								got := begins(s.place) + ": " + s.read(0)
								if want := want(topics, at, e != "0000000g", removed); got != want {
									t.Errorf("%s behind %v, client %q, %d removed, reopened %v:\ngot  %s\nwant %s",
										name, c, client, removed, reopened, got, want)
								}
								if s.read(0) != "nothing" || s.Cursor() != (killfeed.Cursor{After: killfeed.EventID(head), Epoch: epoch}) {
									t.Errorf("%s behind %v: read to the end the cursor is %v", name, c, s.Cursor())
								}
								s.Close()
							}
						}
					}
				}
				_ = f.DeleteClient(t.Context(), "c") // else it holds events
			}
		}
	})
}

// A cursor at any moment is behind everything that was returned and before everything that was not.
func TestCursorOfSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{})
		f.insert(A, B, A, B)
		s := f.subscribe(of(in(A)))
		after := func(want killfeed.EventID) {
			t.Helper()
			synctest.Wait()
			if got := s.Cursor().After; got != want {
				t.Errorf("the cursor is behind %d, want %d", got, want)
			}
		}
		after(0)
		f.is(s.read(1), "1 more")
		after(2) // up to the next that it wants
		f.is(s.read(1), "3")
		after(4)
		f.insert(B, C)
		after(6) // it moves with the log
		f.insert(A, B)
		after(6)
		s.Close() // with 7 unread
		after(6)
		f.insert(B)
		after(6)

		s = f.subscribe(of(cursor(s.Cursor(), in(A))))
		f.is(s.read(0), "7")

		s = f.subscribe(by("c", 1, in(A)))
		after(0)
		f.is(f.seek("c", killfeed.StartAt(4)), "A:3")
		after(3)
		f.is(f.seek("c", killfeed.Latest), "A:9")
		after(9)
		f.is(s.read(0), "nothing")
		s.Close()
		f.is(f.seek("c", killfeed.Earliest), "A:0")
		after(9)
	})
}

// A subscription to thousands of systems pays for those on which there is something.
func TestSubscriptionAsksForWhatRang(t *testing.T) {
	const systems = 8000
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		var topics []killfeed.Topic
		for i := range uint32(systems) {
			topics = append(topics, killfeed.System(30000000+i))
		}
		f.insert(A, B)
		for _, o := range []killfeed.Subscriber{of(about(topics...)), by("c", 1, about(topics...))} {
			synctest.Wait()
			h.asked()
			s := f.subscribe(o)
			f.is(s.read(0), ids(1, []uint32{A, B, A, C, C, A, C, C}[:f.State().Head], A, B, C))
			if n := h.asked(); n != systems {
				t.Errorf("for its past the store was asked about %d topics", n)
			}
			f.is(s.read(0), "nothing")
			f.insert(A)
			synctest.Wait()
			f.is(s.read(0), fmt.Sprint(f.State().Head))
			f.is(s.read(0), "nothing")
			if n := h.asked(); n != 0 {
				t.Errorf("for one event, which the bell knows, the store was asked about %d topics", n)
			}
			f.insert(C, C)
			synctest.Wait()
			f.setTopics(s, topics[1:]...)
			f.is(s.read(0), fmt.Sprint(f.State().Head-1, f.State().Head))
			if n := h.asked(); n != 1 {
				t.Errorf("after a change of topics, for two events on one, the store was asked about %d topics", n)
			}
			s.Close()
		}
	})
}

// One Read takes no more than a batch, and looks no further, however long the history is.
func TestReadOfSubscriptionIsBounded(t *testing.T) {
	const events, batch = 2500, 1024
	h := &hooked{Store: storetest.NewModel()}
	f := start(t, h, killfeed.Options{})
	mail := f.mail(A)
	mail.ID = 0 // none is a duplicate
	small, large := mail.Killmail(), mail.Killmail()
	small.JSON, large.JSON = []byte(`{}`), []byte(`{"x":"`+strings.Repeat("x", 100<<10)+`"}`)
	insert := func(n int, k *killfeed.Killmail) {
		t.Helper()
		if _, err := f.InsertAll(t.Context(), slices.Repeat([]*killfeed.Killmail{k}, n), 0); err != nil {
			t.Fatal(err)
		}
	}
	insert(events, small)
	f.rung()
	s := f.subscribe(of(in(A)))
	read := func(limit int) int {
		t.Helper()
		d, err := s.Read(nil, limit)
		if err != nil {
			t.Fatal(err)
		}
		return len(d.Events)
	}
	for _, limit := range []int{0, math.MaxInt} {
		if n := read(limit); n != batch {
			t.Errorf("with limit %d, %d events came", limit, n)
		}
	}
	if n := read(0); n != events-2*batch || h.most > batch+1 {
		t.Errorf("%d events came in the end, and the store was asked for %d at once", n, h.most)
	}
	insert(5, large)
	f.rung()
	for _, want := range []int{2, 2, 1} { // 256 KiB
		if n := read(0); n != want {
			t.Errorf("%d large events came at once, want %d", n, want)
		}
	}
}

// Retention that overtakes a slow subscription is told, once, with exact bounds.
func TestGapOfSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
		expire := func() {
			time.Sleep(2 * time.Hour)
			f.collect()
		}
		s, quiet := f.subscribe(of(in(A, B))), f.subscribe(of(in(C)))
		c := f.subscribe(by("c", 1, in(A, B)))
		f.is(s.read(0)+quiet.read(0), "nothingnothing")
		f.insert(A, B, A)
		synctest.Wait()
		f.is(s.read(1), "1 more")
		expire()
		f.insert(A, B)
		synctest.Wait()
		f.is(s.read(1), "4 gap retention 2-3 more")
		f.is(s.read(1), "5")
		f.is(s.read(1), "nothing")
		f.is(quiet.read(0), "nothing")
		f.is(c.read(1), "4 gap retention 1-3 more")
		f.is(f.offsets("c"), "A:0 B:0")
		c.Delivered()
		f.is(f.offsets("c"), "A:4 B:2")
		// What was read before it was removed, and what never was on the topic, is no loss.
		expire()
		f.is(s.read(0)+quiet.read(0), "nothingnothing")
		// A gap alone wakes nobody, but the next Read tells it; it is not told again.
		f.is(c.read(0), "gap retention 5-5")
		c.Delivered()
		f.is(f.offsets("c"), "A:4 B:5")
		f.insert(C, A)
		synctest.Wait()
		f.is(c.read(0), "7")

		// A gap that the place tells is not told again, and what it tells of is passed when it was handed over.
		expire()
		c = f.subscribe(by("c", 2, in(A, B)))
		f.is(begins(c.place), "8 gap retention 5-7")
		c = f.subscribe(by("c", 3, in(A, B)))
		f.is(begins(c.place), "8 gap retention 5-7")
		f.is(c.read(0), "nothing")
		c.Delivered()
		c = f.subscribe(by("c", 4, in(A, B)))
		f.is(begins(c.place), "8")
		f.is(c.read(0), "nothing")
	})
}

// A loss may reach beyond what was rung for; it is told once all the same.
func TestGapAheadOfTheRinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
		stuck := make(chan struct{})
		o := of(in(C))
		o.Wake = func() { <-stuck }
		f.subscribe(o).follow(0, false)
		s := f.subscribe(by("c", 1, in(A, B)))
		f.is(s.read(0), "nothing")
		f.insert(A, C) // the ringer is held up behind 2
		synctest.Wait()
		f.insert(A, B, A)
		time.Sleep(2 * time.Hour)
		f.collect()
		f.is(s.read(0), "gap retention 1-5") // of A; B has not rung
		s.Delivered()
		f.is(f.offsets("c"), "A:5 B:0")
		close(stuck)
		synctest.Wait()
		f.is(s.read(0), "gap retention 4-4") // of B
		s.Delivered()
		f.is(f.offsets("c"), "A:5 B:4")
		f.is(s.read(0), "nothing")
	})
}

// A collection that comes in the middle of a subscription's read takes nothing from it in silence.
func TestCollectionDuringSubscription(t *testing.T) {
	for k := 1; ; k++ {
		ended := false
		synctest.Test(t, func(t *testing.T) {
			h := &hooked{Store: storetest.NewModel()}
			f := start(t, h, killfeed.Options{Retention: killfeed.Retention{Max: time.Hour}})
			f.insert(A, B, A, A)
			time.Sleep(2 * time.Hour)
			f.insert(A, A)
			synctest.Wait()
			h.beforeCall(k, func() { f.collect() })
			s := f.subscribe(of(in(A)))
			got := begins(s.place)
			for more := true; more; {
				words := s.read(2)
				words, more = strings.CutSuffix(words, " more")
				got += ": " + words
			}
			if ended = !h.disarm(); ended {
				return
			}
			want := []string{
				"1: 1 3: 4 5: 6", "5 gap retention 1-4: 5 6",
				"1: 5 6 gap retention 1-4", "1: 1 3: 5 6 gap retention 4-4", "1: 1 3: 4 5: 6",
				"5: 5 6", // the earliest event was asked for, and that is what it is by then
			}
			if !slices.Contains(want, got) {
				t.Errorf("with a collection before call %d: %s", k, got)
			}
		})
		if ended {
			if k < 6 {
				t.Errorf("there were only %d calls", k-1)
			}
			return
		}
	}
}

// A change of topics keeps what is known of those that stay: where they stand, what rang on them, what is to be committed.
func TestSetTopics(t *testing.T) {
	who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
	a, b, c := killfeed.System(A), killfeed.System(B), killfeed.System(C)
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		other := f.subscribe(of(in(A, B, C))).follow(0, false) // on the same ropes
		insert := func(systems ...uint32) {
			f.insert(systems...)
			synctest.Wait()
		}
		s := f.subscribe(by("c", 1, in(A, B, C)))
		f.is(s.read(0), "nothing")

		insert(C)
		f.setTopics(s, b, c) // 1 is unread
		f.is(s.read(0), "1")
		insert(B, C)
		f.is(s.read(0), "2 3") // they ring at their new places
		f.setTopics(s, c)      // with 3 to be committed
		s.Delivered()
		f.is(f.offsets("c"), "A:0 B:0 C:3")
		insert(A, B, C)
		f.is(s.read(0), "6")
		s.Delivered()
		f.is(f.offsets("c"), "A:0 B:0 C:6")

		f.is(begins(f.setTopics(s, who, b, c)), "1") // from where the client stands, or Start: 2 again
		if !s.awake() {
			t.Error("a change of topics that brings something wakes nobody")
		}
		f.is(s.read(1)+"; "+s.read(0), "2 more; 4 5")
		s.Delivered()
		f.is(f.offsets("c"), "A:0 B:5 C:6 character:90000001:4")
		f.is(begins(f.setTopics(s, b, who)), "7") // their order is not looked at
		f.is(s.read(0), "nothing")
		insert(C)
		if s.awake() {
			t.Error("an event on a topic that was given up wakes the subscription")
		}
		insert(A, B)
		f.is(s.read(0), "8 9")
		s.Delivered()
		f.is(f.offsets("c"), "A:0 B:9 C:6 character:90000001:8")

		// Errors change nothing.
		_, err := s.SetTopics(t.Context(), nil)
		f.invalid(err, "topics")
		f.is(fmt.Sprint(len(s.Topics())), "2")
		f.setTopics(s, a) // all others go
		f.is(s.read(0), "4 8")
		s.Delivered()
		s.Close()
		f.is(f.offsets("c"), "A:8 B:9 C:6 character:90000001:8")
		f.is(other.heard(), "1 2 3 4 5 6 7 8 9")

		// Without a client a new topic begins where the subscription stands, whatever is unread on those that go.
		alone := f.subscribe(of(from(killfeed.Latest, in(A))))
		insert(B, A, B)
		f.is(begins(f.setTopics(alone, b)), "10")
		f.is(alone.read(0), "10 12")
		alone.Close()
		other.Close()
		<-other.ended
		if f.Ropes() != 0 {
			t.Errorf("something hangs on %d topics still", f.Ropes())
		}
	})
}
