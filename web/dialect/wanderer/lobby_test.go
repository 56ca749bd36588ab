package wanderer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web/dialect/wanderer"
)

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// Wanderer: V2 arrays with integer refs, pings of WebSocket and no heartbeats of Phoenix.
func TestWanderer(t *testing.T) {
	in(t, func(s *server) {
		old := s.kill(jita, amarr, jita)
		c := s.dial("vsn=2.0.0&heartbeat=30000").listen()
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142,30000144],"client_identifier":"wanderer_app"}]`)
		frames := c.take()
		if f := frames[0]; f.joinRef != "1" || f.ref != "1" || f.Event != "phx_reply" || f.Topic != "killmails:lobby" {
			t.Fatalf("the join is answered by %+v", f)
		}
		join := frames[0].payload(t)
		if join.Status != "ok" || join.Response.Status != "connected" || len(join.Response.SubscriptionID) != 22 {
			t.Errorf("the join is answered by %s", frames[0].Payload)
		}
		same(t, "subscribed systems", join.Response.Systems, []uint32{jita, perimeter})
		same(t, "subscribed characters", join.Response.Characters, []uint32{})
		var events []string
		for _, f := range frames[1:] {
			if f.joinRef != "1" || f.ref != "null" {
				t.Errorf("a push has the refs %s and %s", f.joinRef, f.ref)
			}
			events = append(events, f.Event)
		}
		same(t, "pushes", events, []string{"preload_status", "killmail_update", "kill_count_update", "preload_complete"})
		p := frames[2].payload(t)
		if p.System != jita || len(p.Killmails) != 2 || p.Killmails[0].ID != old[2] || p.Killmails[1].ID != old[0] || !*p.Preload {
			t.Errorf("preloaded is %s", frames[2].Payload)
		}
		if p := frames[3].payload(t); p.System != jita || *p.Count != 2 {
			t.Errorf("the number is %s", frames[3].Payload)
		}
		if p := frames[4].payload(t); *p.Total != 2 || *p.Processed != 2 || p.Cursor != s.cursor(3) {
			t.Errorf("preload_complete is %s", frames[4].Payload)
		}

		// Pings alone keep the connection.
		for range 10 {
			time.Sleep(30 * time.Second)
			if err := c.conn.Ping(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		c.take()
		live := s.kill(jita, amarr, perimeter)
		h := c.hear()
		same(t, "live", h.live, []int64{live[0], live[2]})
		same(t, "numbers", h.counts, map[uint32]int{jita: 3, perimeter: 1})
		same(t, "events", h.events, []string{"killmail_update", "kill_count_update", "killmail_update", "kill_count_update"})
		if h.cursor != s.cursor(6) {
			t.Errorf("the cursor is %s, want %s", h.cursor, s.cursor(6))
		}

		c.send(`[1,2,"killmails:lobby","subscribe_systems",{"systems":[30002187,30000142]}]`)
		h = c.hear()
		same(t, "subscribed", h.replies[0].Response.Systems, []uint32{jita, perimeter, amarr})
		same(t, "preloaded of a new system", h.preloaded, []int64{live[1], old[1]})
		c.send(`[1,3,"killmails:lobby","subscribe_systems",{"systems":[30002187]}]`)
		c.send(`[1,4,"killmails:lobby","unsubscribe_systems",{"systems":[30000142,30000145]}]`)
		c.send(`[1,5,"killmails:lobby","unsubscribe_systems",{"systems":[30000142]}]`)
		h = c.hear()
		same(t, "message", h.replies[0].Response.Message, "Already subscribed to all requested systems")
		same(t, "unsubscribed", h.replies[1].Response.Systems, []uint32{perimeter, amarr})
		same(t, "message", h.replies[2].Response.Message, "Not subscribed to any of the requested systems")
		live = s.kill(jita, amarr)
		same(t, "live", c.hear().live, live[1:])
		c.send(`[1,6,"killmails:lobby","get_status",{}]`)
		r := c.hear().replies[0].Response
		if r.UserID != "wanderer_app" || r.ConnectedAt == "" || r.Cursor != s.cursor(8) || r.SubscriptionID != join.Response.SubscriptionID {
			t.Errorf("the status is %+v", r)
		}
	})
}

// The notifier: V1 objects, refs that are texts, heartbeats, and preload options.
func TestNotifier(t *testing.T) {
	in(t, func(s *server) {
		var in12 []int64
		s.kill(jita)
		time.Sleep(13 * time.Hour)
		for range 25 {
			in12 = append(in12, s.kill(jita)...)
		}
		c := s.dial("vsn=1.0.0").listen()
		c.send(`{"topic":"killmails:lobby","event":"phx_join","payload":{"systems":[30000142],"character_ids":[90000009],` +
			`"preload":{"enabled":true,"limit_per_system":20,"since_hours":12}},"ref":"join_1763971200000_7"}`)
		frames := c.take()
		if f := frames[0]; f.Event != "phx_reply" || f.ref != `"join_1763971200000_7"` || f.payload(t).Status != "ok" {
			t.Fatalf("the join is answered by %+v", f)
		}
		var got []int64
		for _, f := range frames {
			if f.Event == "killmail_update" {
				for _, k := range f.payload(t).Killmails {
					got = append(got, k.ID)
				}
			}
		}
		slices.Reverse(in12)
		same(t, "preloaded", got, in12[:20])
		if f := frames[len(frames)-1]; f.Event != "preload_complete" || *f.payload(t).Total != 20 || *f.payload(t).Processed != 1 {
			t.Errorf("the last is %+v", f)
		}
		c.send(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"heartbeat_1763971200000"}`)
		if f := c.take()[0]; f.Event != "phx_reply" || f.ref != `"heartbeat_1763971200000"` || f.payload(t).Status != "ok" {
			t.Errorf("the heartbeat is answered by %+v", f)
		}
		// By character, in a system that is not subscribed to: no number comes with it.
		m := s.mail(amarr)
		m.Attackers[0].Character = 90000009
		s.insert(m)
		same(t, "events", c.hear().events, []string{"killmail_update"})
		// The other join of the notifier.
		d := s.dial("").listen()
		d.send(`{"topic":"killmails:lobby","event":"phx_join","payload":{"systems":[],"character_ids":[],"preload":{"enabled":false}},"ref":"join_2_1"}`)
		same(t, "events of an empty join", d.hear().events, []string{"phx_reply"})
		s.kill(jita)
		same(t, "events of nothing", d.hear().events, nil)
	})
}

// Wanderer connects anew after 15 minutes without a killmail or a number. What it is told is true, also when killmails have become
// older than a day.
func TestSilence(t *testing.T) {
	for name, systems := range map[string]string{"systems": "[30000142,30000144]", "no system": "[]"} {
		t.Run(name, func(t *testing.T) {
			in(t, func(s *server) {
				t := s.t
				s.kill(jita, jita)
				c := s.dial("vsn=2.0.0").listen()
				c.send(`[1,1,"killmails:lobby","phx_join",{"systems":` + systems + `}]`)
				c.take()
				number := 2
				for minute := 0; minute < 26*60; minute++ {
					for range 2 {
						time.Sleep(30 * time.Second)
						if err := c.conn.Ping(context.Background()); err != nil {
							t.Fatal(err)
						}
					}
					if minute%10 != 9 {
						continue
					}
					h := c.hear()
					n, ok := h.counts[jita]
					if !ok {
						t.Fatalf("nothing was heard in the 10 minutes before minute %d: %v", minute, h.events)
					}
					number = n
				}
				if number != 0 {
					t.Errorf("a day later the number is %d, want 0", number)
				}
			})
		})
	}
}

// A client of the long-poll transport is a client.
func TestLongPoll(t *testing.T) {
	in(t, func(s *server) {
		old := s.kill(jita)
		var a struct {
			Token    string
			Messages []string
			Status   int
		}
		poll := func(query string) {
			t.Helper()
			_, body := s.do("GET", "/socket/longpoll?vsn=2.0.0"+query, "")
			a.Messages = nil
			if err := json.Unmarshal([]byte(body), &a); err != nil {
				t.Fatal(err)
			}
		}
		poll("")
		_, body := s.do("POST", "/socket/longpoll?vsn=2.0.0&token="+a.Token,
			`["1","1","killmails:lobby","phx_join",{"systems":[30000142]}]`, "Content-Type", "application/x-ndjson")
		if !strings.Contains(body, `"status":200`) {
			t.Fatal(body)
		}
		live := s.kill(jita)
		text := ""
		for !strings.Contains(text, `"preload":false`) {
			poll("&token=" + a.Token)
			if a.Status != 200 {
				t.Fatalf("status %d, so far %s", a.Status, text)
			}
			text += strings.Join(a.Messages, "\n")
		}
		for _, id := range []int64{old[0], live[0]} {
			if n := strings.Count(text, fmt.Sprintf(`"killmail_id":%d,`, id)); n != 1 {
				t.Errorf("killmail %d came %d times", id, n)
			}
		}
	})
}

// Every killmail comes once, preloaded or live, however the join and killmails fall together.
func TestPreloadMeetsLive(t *testing.T) {
	for round := range 20 {
		in(t, func(s *server) {
			systems := []uint32{jita, perimeter, amarr}
			var all []int64
			var mu sync.Mutex
			some := func(n int) {
				for range n {
					mu.Lock()
					m := s.mail(systems[rand.IntN(len(systems))])
					all = append(all, m.ID)
					mu.Unlock()
					s.insert(m)
				}
			}
			some(round)
			c := s.dial("vsn=2.0.0").listen()
			var inserting sync.WaitGroup
			inserting.Go(func() { some(40) })
			c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142],"preload":{"limit_per_system":200}}]`)
			inserting.Go(func() { some(40) })
			c.send(`[1,2,"killmails:lobby","subscribe_systems",{"systems":[30000144,30002187]}]`)
			inserting.Wait()
			h := c.hear()
			got := append(slices.Clone(h.preloaded), h.live...)
			slices.Sort(got)
			slices.Sort(all)
			same(t, fmt.Sprintf("round %d", round), got, all)
		})
	}
}

// More systems and characters than a subscription has topics.
func TestThousands(t *testing.T) {
	in(t, func(s *server) {
		old := s.kill(30004000, 30009999)
		systems := make([]string, 10_000)
		for i := range systems {
			systems[i] = strconv.Itoa(30000000 + i)
		}
		c := s.dial("vsn=2.0.0").listen()
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[` + strings.Join(systems, ",") + `]}]`)
		h := c.hear()
		same(t, "systems", len(h.replies[0].Response.Systems), 10_000)
		same(t, "preloaded", h.preloaded, old)
		live := s.kill(30004000, 31000000)
		same(t, "live of systems", c.hear().live, live[:1])

		people := make([]string, 30_000)
		for i := range people {
			people[i] = strconv.Itoa(5_000_000 + i)
		}
		// The ids that no character can have are taken, and do nothing; those of NPCs are ids as others.
		c.send(`[1,2,"killmails:lobby","subscribe_characters",{"character_ids":[3000007,2147483648,` + strings.Join(people[:19_000], ",") + `]}]`)
		c.send(`[1,3,"killmails:lobby","subscribe_characters",{"character_ids":["3000008",` + strings.Join(people[19_000:], ",") + `]}]`)
		h = c.hear()
		same(t, "characters", len(h.replies[1].Response.Characters), 30_002)
		same(t, "ignored", h.replies[0].Response.Ignored, []int64{2147483648})
		both, npc, none := s.mail(30004000), s.mail(31000000), s.mail(31000000)
		both.Victim.Character, npc.Attackers[0].Character = 5_029_999, 3000008
		s.insert(both, npc, none)
		h = c.hear()
		same(t, "live of systems and characters", h.live, []int64{both.ID, npc.ID})
		same(t, "numbers", h.counts, map[uint32]int{30004000: 3})

		// And back to few: what is behind on both ways comes once.
		before := s.kill(30004000)
		c.send(`[1,4,"killmails:lobby","update_subscriptions",{"systems":[30004000],"character_ids":[3000007]}]`)
		synctest.Wait()
		after := s.kill(30004000, 30009999)
		h = c.hear()
		same(t, "systems", h.replies[0].Response.Systems, []uint32{30004000})
		same(t, "live", h.live, []int64{before[0], after[0]})
		c.send(`[1,5,"killmails:lobby","update_subscriptions",{"systems":[]}]`)
		c.send(`[1,6,"killmails:lobby","unsubscribe_characters",{"character_ids":[3000007]}]`)
		c.send(`[1,7,"killmails:lobby","unsubscribe_characters",{"character_ids":[3000007]}]`)
		h = c.hear()
		same(t, "characters stay", h.replies[0].Response.Characters, []uint32{3000007})
		same(t, "message", h.replies[2].Response.Message, "Not subscribed to any of the requested characters")
		if n := s.feed.Stats().Subscriptions; n != 0 {
			t.Errorf("who follows nothing has %d subscriptions", n)
		}
		s.kill(30004000)
		if h := c.hear(); len(h.events) > 0 {
			t.Errorf("who follows nothing hears %v", h.events)
		}
		c.send(`[1,8,"killmails:lobby","subscribe_systems",{"systems":[30004000]}]`)
		same(t, "preloaded", len(c.hear().preloaded), 5)
	})
}

// A client that takes nothing is behind, and gets all of it when it does.
func TestSlow(t *testing.T) {
	in(t, func(s *server) {
		c := s.dial("vsn=2.0.0")
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142]}]`)
		synctest.Wait()
		var all []int64
		for range 500 {
			m := s.mail(jita)
			m.Items = 100
			s.insert(m)
			all = append(all, m.ID)
		}
		other := s.dial("vsn=2.0.0").listen()
		other.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000144]}]`)
		other.take()
		live := s.kill(perimeter)
		same(t, "of another client meanwhile", other.hear().live, live)
		h := c.listen().hear()
		same(t, "live", h.live, all)
		same(t, "numbers", h.counts, map[uint32]int{jita: 500})
	})
}

// The server is restarted, and the client comes back with the cursor of the last killmail that it has had.
func TestRestart(t *testing.T) {
	in(t, func(s *server) {
		s.kill(jita)
		c := s.dial("vsn=2.0.0").listen()
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142]}]`)
		c.take()
		s.kill(jita, jita)
		h := c.hear()
		missed := s.kill(jita, amarr)
		synctest.Wait()
		s = s.restart()
		missed = append(missed, s.kill(jita)...)
		c = s.dial("vsn=2.0.0").listen()
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142],"after":"` + h.cursor + `"}]`)
		synctest.Wait()
		live := s.kill(jita)
		got := c.hear()
		same(t, "live", got.live, []int64{missed[0], missed[2], live[0]})
		same(t, "preloaded", got.preloaded, nil)
		// A cursor of another log is told, and everything comes that is kept.
		c.send(`[1,2,"killmails:lobby","phx_join",{"systems":[30000142],"after":"17-00000000"}]`)
		got = c.hear()
		at := slices.IndexFunc(got.replies, func(p payload) bool { return p.Response.Gap != nil })
		if at < 0 || got.replies[at].Response.Gap.Reason != killfeed.GapEpoch {
			t.Errorf("replies: %+v", got.replies)
		}
		same(t, "live", len(got.live), 6)
		// And so is what retention has removed.
		if err := s.model.Remove(4); err != nil {
			t.Fatal(err)
		}
		c.send(`[1,3,"killmails:lobby","phx_join",{"systems":[30000142],"after":"` + s.cursor(1) + `"}]`)
		got = c.hear()
		at = slices.IndexFunc(got.replies, func(p payload) bool { return p.Response.Gap != nil })
		if at < 0 {
			t.Fatalf("replies: %+v", got.replies)
		}
		same(t, "gap", *got.replies[at].Response.Gap, killfeed.Gap{Reason: killfeed.GapRetention, From: 2, To: 4})
		same(t, "live", got.live, []int64{missed[2], live[0]})
	})
}

// What does not belong here is left out: killmails without an id, updates, and backfilled history unless it is asked for.
func TestLeftOut(t *testing.T) {
	in(t, func(s *server) {
		plain, asking := s.dial("vsn=2.0.0").listen(), s.dial("vsn=2.0.0").listen()
		plain.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142]}]`)
		asking.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142],"backfill":1}]`)
		plain.take()
		asking.take()
		anonymous, poor, old := s.mail(jita), s.mail(jita), s.mail(jita)
		anonymous.ID, poor.ZKB = 0, false
		s.insert(anonymous, poor)
		poor.ZKB = true
		s.insert(poor) // an update
		s.put(old.Killmail(), killfeed.MarkBackfill)
		same(t, "live", plain.hear().live, []int64{poor.ID})
		same(t, "live with backfill", asking.hear().live, []int64{poor.ID, old.ID})
		// What looks back has the newest version, and the history.
		_, body := s.do("GET", "/api/v1/kills/system/30000142", "")
		if strings.Count(body, `"killmail_id"`) != 2 || strings.Count(body, `"total_value"`) != 2 {
			t.Error(body)
		}
	})
}

func TestRefusals(t *testing.T) {
	in(t, func(s *server) {
		c := s.dial("vsn=2.0.0").listen()
		many := strings.TrimSuffix(strings.Repeat("1,", 10_001), ",")
		for params, reason := range map[string]string{
			`{"systems":{}}`:                       "system IDs must be an array of integers",
			`{"systems":["Jita"]}`:                 "system IDs must be integers",
			`{"systems":[1.5]}`:                    "system IDs must be integers",
			`{"systems":[0]}`:                      "invalid system IDs: 0 is not one from 1 to 50000000",
			`{"systems":[50000001]}`:               "invalid system IDs: 50000001 is not one from 1 to 50000000",
			`{"systems":[` + many + `]}`:           "too many systems (max: 10000)",
			`{"character_ids":[3000000001]}`:       "invalid character IDs: 3000000001 is not one from 1 to 3000000000",
			`{"preload":[]}`:                       "preload: a JSON object is wanted",
			`{"preload":{"since_hours":"a day"}}`:  "preload.since_hours must be a number",
			`{"systems":[30000142],"after":"now"}`: "after must be a cursor as an earlier push gave it, such as 17-0a1b2c3d",
		} {
			c.send(`[1,1,"killmails:lobby","phx_join",` + params + `]`)
			h := c.hear()
			if h.replies[0].Status != "error" || h.replies[0].Response.Reason != reason {
				t.Errorf("%.60s: %+v, want the reason %s", params, h.replies[0], reason)
			}
		}
		c.send(`[2,2,"killmails:lobby","phx_join",{"systems":[30000142]}]`)
		c.hear()
		for event, reason := range map[string]string{
			"subscribe_systems":    "systems must be an array of integers",
			"subscribe_characters": "character_ids must be an array of integers",
			"update_subscriptions": "systems, character_ids or both must be an array of integers",
			"dance": "unknown event: there are subscribe_systems, unsubscribe_systems, subscribe_characters, " +
				"unsubscribe_characters, update_subscriptions and get_status",
		} {
			c.send(`[2,3,"killmails:lobby","` + event + `",{}]`)
			h := c.hear()
			if h.replies[0].Status != "error" || h.replies[0].Response.Reason != reason {
				t.Errorf("%s: %+v, want the reason %s", event, h.replies[0], reason)
			}
		}
		c.send(`[2,4,"killmails:lobby","subscribe_systems",{"systems":[` + distinct(9_999) + `,9,10]}]`)
		same(t, "reason", c.hear().replies[0].Response.Reason, "too many systems (max: 10000)")
		// After all that, the subscription is as it was.
		live := s.kill(jita)
		same(t, "live", c.hear().live, live)
	})
}

func distinct(n int) string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = strconv.Itoa(31000000 + i)
	}
	return strings.Join(ids[:n-1], ",")
}

// The service's own guide and examples call the characters so, and read these members of the preload.
func TestGuide(t *testing.T) {
	in(t, func(s *server) {
		s.kill(jita)
		c := s.dial("vsn=2.0.0").listen()
		c.send(`["1","1","killmails:lobby","phx_join",{"systems":[30000142],"characters":[95465499]}]`)
		frames := c.take()
		same(t, "subscribed characters", frames[0].payload(t).Response.Characters, []uint32{95465499})
		for event, want := range map[string]string{
			"preload_status": `"current_system":30000142`, "preload_complete": `"errors":[]`,
		} {
			if !slices.ContainsFunc(frames, func(f frame) bool { return f.Event == event && strings.Contains(string(f.Payload), want) }) {
				t.Errorf("no %s with %s in %s", event, want, frames)
			}
		}
		c.send(`["1","2","killmails:lobby","subscribe_characters",{"characters":[95465500]}]`)
		same(t, "subscribed characters", c.take()[0].payload(t).Response.Characters, []uint32{95465499, 95465500})
		c.send(`["1","3","killmails:lobby","unsubscribe_characters",{"characters":[95465499]}]`)
		same(t, "subscribed characters", c.take()[0].payload(t).Response.Characters, []uint32{95465500})
	})
}

// Nothing is heard behind phx_close.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, storetest.NewModel(), wanderer.Options{})
		c := s.dial("vsn=2.0.0").listen()
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142]}]`)
		c.send(`[1,2,"killmails:lobby","phx_leave",{}]`)
		h := c.hear()
		same(t, "events", h.events[len(h.events)-1], "phx_close")
		s.kill(jita)
		if h := c.hear(); len(h.events) > 0 {
			t.Errorf("who has left hears %v", h.events)
		}
	})
}
