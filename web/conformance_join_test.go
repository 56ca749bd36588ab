package web_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"killfeed"
)

func joinCases() []conformance {
	return []conformance{
		{"20 the reply to a join", func(t *testing.T) {
			s := newServer(t)
			w := s.dial(s.online(), "vsn=2.0.0")
			w.send(`["4","4","system:30000142","phx_join",{}]`)
			w.want(`["4","4","system:30000142","phx_reply",{"response":{"head":0,"epoch":"EPOCH","start":1,"cursor":"0-EPOCH"},"status":"ok"}]`)
			w.want(s.pushed("4", "system:30000142", s.insert(jita))).quiet()
		}},
		{"21 what to resume from", testJoinResumes},
		{"22 an unknown topic", func(t *testing.T) {
			s := newServer(t)
			w := s.dial(s.online(), "vsn=2.0.0")
			w.send(`["4","4","nosuch:1","phx_join",{}]`).want(unmatched("4", "nosuch:1"))
			w.send(`["5","5","","phx_join",{}]`).want(unmatched("5", ""))
			w.send(`["6","6","phoenix","phx_join",{}]`).want(unmatched("6", "phoenix"))
			long := "system:" + strings.Repeat("1", 1000)
			w.send(`["7","7","` + long + `","phx_join",{}]`).want(unmatched("7", long))
		}},
		{"23 a refused join", func(t *testing.T) {
			s := newServer(t)
			w := s.dial(s.online(), "vsn=2.0.0")
			w.send(`["4","4","system:abc","phx_join",{}]`)
			w.want(`["4","4","system:abc","phx_reply",{"response":{"reason":"topics \"abc\" is not accepted: want the id of a solar system, ` +
				`1 to 2147483647 in decimal digits: names need static data, which this server does not have (killfeed sde update gets it)",` +
				`"parameter":"topics","value":"abc","accepted":"the id of a solar system, 1 to 2147483647 in decimal digits: names need ` +
				`static data, which this server does not have (killfeed sde update gets it)"},"status":"error"}]`)
			for _, c := range []struct{ topic, params, parameter string }{
				{"region:10000002", `{}`, "topics"},
				{"all", `{"after":"x"}`, "after"},
				{"all", `{"start":"0"}`, "start"},
				{"all", `{"start":"soon"}`, "start"},
				{"all", `{"start":{}}`, "start"},
				{"all", `{"commit":"never"}`, "commit"},
				{"all", `{"client_id":""}`, "client_id"},
				{"all", `{"client_id":" x"}`, "client_id"},
				{"all", `{"max_age":"-1"}`, "max_age"},
				{"all", `{"updates":2}`, "updates"},
				{"all", `{"filter":"x"}`, "filter"},
				{"killfeed", `{}`, "systems"},
				{"killfeed", `{"systems":[]}`, "systems"},
				{"killfeed", `{"systems":["Jita"]}`, "systems"},
				{"killfeed", `{"topics":["nosuch:1"]}`, "topics"},
			} {
				w.send(fmt.Sprintf(`["5","5",%q,"phx_join",%s]`, c.topic, c.params))
				got := w.next()
				prefix, said := fmt.Sprintf(`["5","5",%q,"phx_reply",{"response":{"reason":"`, c.topic), fmt.Sprintf(`"parameter":%q`, c.parameter)
				if !strings.HasPrefix(got, prefix) || !strings.Contains(got, said) || !strings.HasSuffix(got, `},"status":"error"}]`) {
					t.Errorf("join of %s with %s: %s; want a refusal about %s", c.topic, c.params, got, c.parameter)
				}
			}
			if n := s.feed.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions", n)
			}
			// The topic is not joined, and can be.
			w.send(`["5","6","all","commit",{}]`).want(unmatched("6", "all"))
			w.join("7", "all", `{}`)
		}},
		{"24 a panic in a join", func(t *testing.T) {
			s := newServer(t)
			store := s.moody()
			w := s.dial(s.online(), "vsn=2.0.0")
			panics := func() error { panic("a secret") }
			store.onTime.Store(&panics)
			w.send(`["4","4","all","phx_join",{"start":"2026-01-01T00:00:00Z"}]`)
			w.want(`["4","4","all","phx_reply",{"response":{"reason":"join crashed"},"status":"error"}]`)
			w.send(`["5","5","all","phx_join","x"]`).want(`["5","5","all","phx_reply",{"response":{"reason":"join crashed"},"status":"error"}]`)
			store.onTime.Store(nil)
			w.join("6", "all", `{"start":"2026-01-01T00:00:00Z"}`)
			w.want(s.pushed("6", "all", s.insert(jita)))
			if log := s.log.String(); !strings.Contains(log, "a secret") || !strings.Contains(log, "channel_harness_test.go") && !strings.Contains(log, "conformance_join_test.go") {
				t.Errorf("the log has neither cause nor stack: %s", log)
			}
		}},
		{"25 the 101st channel", func(t *testing.T) {
			s := newServer(t)
			w := s.dial(s.online(), "vsn=2.0.0")
			for i := range 100 {
				w.join(fmt.Sprint(i), fmt.Sprintf("system:%d", 1+i), `{}`)
			}
			w.send(`["a","a","system:101","phx_join",{}]`).want(`["a","a","system:101","phx_reply",{"response":{"reason":"too many channels joined"},"status":"error"}]`)
			w.send(`["7","b","system:8","phx_leave",{}]`).want(okReply("7", "b", "system:8"), phxClose("7", "system:8"))
			w.send(`["c","c","system:101","phx_join",{}]`).want(okJoin("c", "system:101", 0, 1))
			w.send(`["d","d","system:101","phx_join",{}]`).want(okJoin("d", "system:101", 0, 1), phxClose("c", "system:101")) // no more than before
			// What one socket can have the server keep: a hundred topics, of which one is for many, once.
			if n := s.feed.Stats().Subscriptions; n != 100 {
				t.Errorf("%d subscriptions, want 100", n)
			}
		}},
		{"26 a duplicate join", testDuplicateJoin},
		{"27 a join without a join_ref", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			w := s.dial(d, "vsn=2.0.0")
			w.send(`[null,"1","all","phx_join",{}]`).want(`[null,"1","all","phx_reply",{"response":{"head":0,"epoch":"EPOCH","start":1,"cursor":"0-EPOCH"},"status":"ok"}]`)
			id := s.insert(jita)
			w.want(fmt.Sprintf(`[null,null,"all","new_killmail",%s]`, s.live(id)))
			w.send(`[null,"2","all","phx_leave",{}]`).want(`[null,"2","all","phx_reply",{"response":{},"status":"ok"}]`, `[null,null,"all","phx_close",{}]`)

			v1 := s.dial(d, "vsn=1.0.0")
			v1.send(`{"topic":"all","event":"phx_join","payload":{"start":"earliest"},"ref":"1"}`)
			v1.want(`{"event":"phx_reply","payload":{"response":{"head":1,"epoch":"EPOCH","start":1,"cursor":"0-EPOCH"},"status":"ok"},"ref":"1","topic":"all"}`)
			v1.want(fmt.Sprintf(`{"event":"new_killmail","payload":%s,"ref":null,"topic":"all"}`, s.live(id)))
			v1.send(`{"topic":"all","event":"phx_leave","payload":{},"ref":"4"}`)
			v1.want(`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"4","topic":"all"}`, `{"event":"phx_close","payload":{},"ref":"1","topic":"all"}`)
		}},
		{"28 the reply comes before the first push", func(t *testing.T) {
			s := newServer(t)
			w := s.dial(s.online(), "vsn=2.0.0")
			s.insert(jita)
			stop := s.writing(jita)
			for i := range 100 {
				ref := fmt.Sprint(i)
				w.send(fmt.Sprintf(`[%q,%q,"all","phx_join",{"after":%d}]`, ref, ref, s.feed.State().Head-1)) // so that there is one
				for {
					m := parse(t, w.next())
					if m.event == "phx_reply" && m.ref == ref {
						break
					}
					if m.joinRef == ref {
						t.Fatalf("%+v came before the reply", m)
					}
				}
			}
			stop()
		}},
		{"29 join, and leave at once", func(t *testing.T) {
			s := newServer(t)
			s.insert(jita)
			w := s.dial(s.online(), "vsn=2.0.0")
			for i := range 50 {
				ref := fmt.Sprint(i)
				w.send(fmt.Sprintf(`[%q,%q,"all","phx_join",{"start":"earliest"}]`, ref, ref), fmt.Sprintf(`[%q,"l","all","phx_leave",{}]`, ref))
				w.want(okJoin(ref, "all", 1, 1))
				got := w.next()
				if got == w.fill(s.pushed(ref, "all", 1)) { // it may have been on its way already
					got = w.next()
				}
				if got != okReply(ref, "l", "all") {
					t.Fatalf("there came %s, want the reply to the leave", got)
				}
				w.want(phxClose(ref, "all"))
			}
			s.insert(jita)
			w.quiet()
			if n := s.feed.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions", n)
			}
		}},
		{"30 leave while the join is running", func(t *testing.T) {
			s := newServer(t)
			store := s.moody()
			w := s.dial(s.online(), "vsn=2.0.0")
			running, goOn := make(chan struct{}), make(chan struct{})
			slow := func() error { running <- struct{}{}; <-goOn; return nil }
			store.onTime.Store(&slow)
			w.send(`["4","4","all","phx_join",{"start":"2026-01-01T00:00:00Z"}]`)
			<-running
			w.send(`["4","5","all","phx_leave",{}]`)
			close(goOn)
			w.want(okJoin("4", "all", 0, 1), okReply("4", "5", "all"), phxClose("4", "all"))
			s.insert(jita)
			w.quiet()
			if n := s.feed.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions", n)
			}
		}},
		{"31 a join that the client gave up", func(t *testing.T) {
			s := newServer(t)
			store := s.moody()
			w := s.dial(s.online(), "vsn=2.0.0")
			running, goOn := make(chan struct{}), make(chan struct{})
			slow := func() error { running <- struct{}{}; <-goOn; return nil }
			store.onTime.Store(&slow)
			w.send(`["4","4","all","phx_join",{"start":"2026-01-01T00:00:00Z"}]`)
			<-running
			// What the client does after its ten seconds: leave with the old join_ref, join with a new one.
			w.send(`["4","5","all","phx_leave",{}]`, `["6","6","all","phx_join",{}]`)
			store.onTime.Store(nil)
			close(goOn)
			w.want(okJoin("4", "all", 0, 1), okReply("4", "5", "all"), phxClose("4", "all"), okJoin("6", "all", 0, 1))
			w.want(s.pushed("6", "all", s.insert(jita))).quiet()
			if n := s.feed.Stats().Subscriptions; n != 1 {
				t.Errorf("%d subscriptions, want 1", n)
			}
		}},
	}
}

// testJoinResumes: whatever a join begins with, its reply says where that is, and what is lost.
func testJoinResumes(t *testing.T) {
	s := newServer(t, func(o *serverOptions) { o.feed.Retention = killfeed.Retention{MaxBytes: 1} })
	s.insert(jita, jita, hek)
	if _, err := s.feed.Collect(t.Context()); err != nil { // to the last event
		t.Fatal(err)
	}
	s.insert(jita, hek)
	first := s.feed.State().First
	if first < 2 || first > 4 {
		t.Fatalf("the first event kept is %d", first)
	}
	d := s.online()
	for _, c := range []struct {
		topic, params string
		start         killfeed.EventID
		gap           *killfeed.Gap
		ids           []killfeed.EventID
	}{
		{"all", `{}`, 6, nil, nil},
		{"all", `{"start":"latest"}`, 6, nil, nil},
		{"all", `{"start":"5"}`, 5, nil, []killfeed.EventID{5}},
		{"all", `{"start":5}`, 5, nil, []killfeed.EventID{5}},
		{"all", `{"start":"2100-01-01T00:00:00Z"}`, 6, nil, nil},
		{"all", `{"after":"4-EPOCH"}`, 5, nil, []killfeed.EventID{5}},
		{"all", `{"after":4}`, 5, nil, []killfeed.EventID{5}},
		{"all", `{"after":null}`, 6, nil, nil},
		{"system:30000142", `{"start":"4"}`, 4, nil, []killfeed.EventID{4}},
		{"system:30000142", `{"after":"0-EPOCH"}`, 0, &killfeed.Gap{Reason: killfeed.GapRetention, From: 1, To: 2}, []killfeed.EventID{4}},
		{"all", `{"after":"99-EPOCH"}`, 6, &killfeed.Gap{Reason: killfeed.GapFuture}, nil},
		{"system:30002053", `{"after":"2-00000000"}`, first, &killfeed.Gap{Reason: killfeed.GapEpoch}, nil},
		{"killfeed", `{"systems":[30000142,"30002053"],"topics":"label:solo","start":"5"}`, 5, nil, []killfeed.EventID{5}},
		{"killfeed", `{"systems":"30000142,30002053","after":4}`, 5, nil, []killfeed.EventID{5}},
	} {
		w := s.dial(d, "vsn=2.0.0")
		p := w.join("1", c.topic, w.fill(c.params))
		if p.Head != 5 || p.Epoch != s.feed.State().Epoch || c.start != 0 && p.Start != c.start {
			t.Errorf("%s %s: %+v, want head 5, start %d", c.topic, c.params, p, c.start)
		}
		if want := fmt.Sprintf("%d-%s", p.Start-1, p.Epoch); p.Cursor != want {
			t.Errorf("%s %s: cursor %s, want %s", c.topic, c.params, p.Cursor, want)
		}
		if (p.Gap == nil) != (c.gap == nil) || p.Gap != nil && *p.Gap != *c.gap {
			t.Errorf("%s %s: gap %+v, want %+v", c.topic, c.params, p.Gap, c.gap)
		}
		if c.gap != nil && c.gap.Reason == killfeed.GapEpoch {
			continue // which events are kept is the collector's to say
		}
		w.want(s.pushedAll("1", c.topic, c.ids...)...).quiet()
	}
}

// testDuplicateJoin: while events come, the client joins again and again without having left. Its last join is the live one,
// and nothing is heard of one before but its end.
func testDuplicateJoin(t *testing.T) {
	s := newServer(t)
	d := s.online()
	w := s.dial(d, "vsn=2.0.0")
	w.send(`["1","1","system:6","phx_join",{}]`).want(okJoin("1", "system:6", 0, 1))
	w.send(`["2","2","system:6","phx_join",{}]`).want(okJoin("2", "system:6", 0, 1), phxClose("1", "system:6"))
	w.send(`["1","3","system:6","phx_leave",{}]`, `["2","4","system:6","phx_leave",{}]`)
	w.want(okReply("2", "4", "system:6"), phxClose("2", "system:6")).quiet()

	const joins = 100
	stop := s.writing(jita)
	w.join("0", "all", `{"after":0}`)
	var (
		current = "0"
		closed  []string
		last    killfeed.EventID
	)
	take := func(until string) {
		t.Helper()
		for {
			m := parse(t, w.next())
			switch m.event {
			case "phx_reply":
				if m.ref != until {
					t.Fatalf("there came %+v, want the reply to join %s", m, until)
				}
				current = until
				return
			case "phx_close":
				closed = append(closed, m.joinRef)
			default:
				if m.joinRef != current {
					t.Fatalf("event %d came for join %s, and the live one is %s", m.id(), m.joinRef, current)
				}
				if m.id() != last+1 {
					t.Fatalf("event %d came behind %d", m.id(), last)
				}
				last = m.id()
			}
		}
	}
	var want []string
	for i := range joins {
		ref := fmt.Sprint(i + 1)
		want = append(want, current)
		w.send(fmt.Sprintf(`[%q,%q,"all","phx_join",{}]`, ref, ref)) // what follows depends on when it arrives
		from := last
		func() {
			t.Helper()
			for {
				m := parse(t, w.next())
				if m.event == "phx_reply" {
					current = ref
					var p struct {
						Response struct{ Start killfeed.EventID }
					}
					decode(t, m.payload, &p)
					if p.Response.Start <= from {
						t.Fatalf("a join begins at %d, and %d was there", p.Response.Start, from)
					}
					last = p.Response.Start - 1
					return
				}
				if m.event == "phx_close" {
					closed = append(closed, m.joinRef)
				} else if m.joinRef != current {
					t.Fatalf("event %d came for join %s, and the live one is %s", m.id(), m.joinRef, current)
				}
			}
		}()
	}
	stop()
	w.send(`[null,"end","phoenix","heartbeat",{}]`)
	take("end")
	if !slices.Equal(closed, want) {
		t.Errorf("closed were the joins %q, want %q", closed, want)
	}
	if n := s.feed.Stats().Subscriptions; n != 1 {
		t.Errorf("%d subscriptions, want 1", n)
	}
}

// writing inserts killmails into the systems in turn, until it is told to stop.
func (s *server) writing(systems ...uint32) (stop func()) {
	stopped := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stopped:
				return
			default:
			}
			m := s.mail(systems[i%len(systems)])
			if _, err := s.feed.InsertAll(s.t.Context(), []*killfeed.Killmail{m.Killmail()}, 0); err != nil {
				s.t.Error(err)
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(stopped)
		all.Wait()
	})
}
