package web_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"killfeed"
)

// TestStreamOfAClient begins where the client stands, and commits what it has written; with manual commit what the client says.
func TestStreamOfAClient(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		hosted(t, func(t *testing.T, h *host) {
			offset := func(name string) killfeed.EventID {
				t.Helper()
				var c struct{ Offsets map[string]killfeed.EventID }
				h.get("/api/clients/" + name).want(200).into(&c)
				return c.Offsets["system:30000142"]
			}
			h.insert(jita, jita) // 1, 2
			auto, manual := streamPath+"?client_id=auto&systems=30000142", streamPath+"?client_id=manual&systems=30000142&commit=manual"
			a, m := h.stream(auto, "Accept", accept), h.stream(manual+"&start=earliest", "Accept", accept)
			a.is("open") // its place is on record from here on
			m.is("open 1 2")
			a.leave()
			h.insert(jita) // 3
			m.is("3")
			a = h.stream(auto+"&start=latest", "Accept", accept)
			a.is("open 3")
			if at := offset("auto"); at != 3 {
				t.Errorf("auto stands at %d, want 3", at)
			}
			if at := offset("manual"); at != 0 {
				t.Errorf("manual stands at %d, want 0", at)
			}
			h.do("POST", "/api/killfeed/commit", `{"client_id":"manual","systems":[30000142],"event_id":2}`).want(200)
			h.insert(jita) // 4
			m.is("4")      // a commit changes nothing about what comes
			m.leave()
			m.hasEnded()
			m = h.stream(manual, "Accept", accept)
			m.is("open 3 4")
			h.do("POST", "/api/killfeed/commit", fmt.Sprintf(`{"client_id":"manual","systems":[30000142],"event_id":%q}`, m.last())).want(200)
			if at := offset("manual"); at != 4 {
				t.Errorf("manual stands at %d, want 4", at)
			}
			// A cursor says what really arrived, also backwards.
			a.leave()
			a.hasEnded()
			h.stream(auto, "Accept", accept, "Last-Event-ID", "1-"+string(h.feed.State().Epoch)).is("open 2 3 4")
			h.stream(auto, "Accept", accept).is("open")
		})
	}
}

// TestStreamGap is told once with automatic commit, and in manual mode by each new stream until the client commits past it.
func TestStreamGap(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		hosted(t, func(t *testing.T, h *host) {
			for _, name := range []string{"auto", "manual"} {
				h.get("/api/killfeed?commit=manual&systems=30000142,30002053&client_id=" + name).want(200)
			}
			h.insert(jita, jita, jita, hek)
			time.Sleep(time.Hour)
			if _, err := h.feed.Collect(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.insert(jita) // 5, the only one that is kept
			if first := h.feed.State().First; first != 5 {
				t.Fatalf("kept from %d on, want 5", first)
			}
			for _, want := range []string{"open gap 1-4", "open"} { // also when no event follows
				h.stream(streamPath+"?client_id=auto&systems=30002053", "Accept", accept).is(want)
			}
			for _, want := range []string{"open gap 1-3 5", "open"} {
				h.stream(streamPath+"?client_id=auto&systems=30000142", "Accept", accept).is(want)
			}
			for _, want := range []string{"open gap 1-3 5", "open gap 1-3 5"} {
				h.stream(streamPath+"?client_id=manual&systems=30000142&commit=manual", "Accept", accept).is(want)
			}
			h.do("POST", "/api/killfeed/commit", `{"client_id":"manual","systems":[30000142],"event_id":3}`).want(200)
			h.stream(streamPath+"?client_id=manual&systems=30000142&commit=manual", "Accept", accept).is("open 5")
			// Without a client the cursor of the answer is behind the gap.
			s := h.stream(streamPath+"?systems=30000142&after=1", "Accept", accept)
			f := s.is("open gap 2-3 5")[0]
			h.stream(streamPath+"?systems=30000142", "Accept", accept, "Last-Event-ID", f.id).is("open 5")
		}, func(o *serverOptions) { o.feed.Retention.Max = time.Minute })
	}
}

// TestStreamDamage: a damaged event is told among the good ones, and the place that is told with it loses none of them.
func TestStreamDamage(t *testing.T) {
	for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		hosted(t, func(t *testing.T, h *host) {
			h.insert(jita, jita, jita, jita, jita)
			h.model.Damage(3)
			h.model.Damage(5)
			frames := h.stream(streamPath+"?systems=30000142&after=0", "Accept", accept).take()
			if got := say(frames); got != "open gap 3-3 1 2 4 gap 5-5" {
				t.Fatalf("there came %q", got)
			}
			for i, f := range frames {
				want := []string{}
				for _, later := range frames[i+1:] {
					if later.kind == "new_killmail" {
						want = append(want, later.short())
					}
				}
				got := []string{}
				for _, f := range h.stream(streamPath+"?systems=30000142", "Accept", accept, "Last-Event-ID", f.id).take() {
					if f.kind == "new_killmail" {
						got = append(got, f.short())
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("behind %s %s there came %v, want %v", f.short(), f.id, got, want)
				}
			}
		})
	}
}

// TestStreamReplaced: a client's name belongs to its newest stream.
func TestStreamReplaced(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		target := streamPath + "?client_id=a&systems=30000142"
		for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
			first := h.stream(target, "Accept", accept)
			first.is("open")
			second := h.stream(target, "Accept", accept)
			second.is("open")
			first.is("replaced")
			if !first.hasEnded() {
				t.Error("it goes on")
			}
			id := h.insert(jita)
			second.is(fmt.Sprint(id))
			second.leave()
		}
		other := h.stream(streamPath + "?client_id=b&systems=30000142")
		other.is("open")
		h.stream(target).is("open")
		if other.hasEnded() {
			t.Error("another client was replaced")
		}
	})
}

// TestTwoTabs of one client do not take it from each other for ever: the one that was replaced is answered 204 when it comes back,
// and EventSource gives up then.
func TestTwoTabs(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		type tab struct {
			s    *streaming
			last string
			gone bool
		}
		target := streamPath + "?client_id=a&systems=30000142"
		open := func(b *tab) {
			var headers []string
			if b.last != "" {
				headers = []string{"Last-Event-ID", b.last}
			}
			b.s = h.stream(target, headers...)
			b.gone = b.s.res.StatusCode == 204
		}
		tabs := []*tab{{}, {}, {}}
		for _, b := range tabs {
			open(b)
		}
		got := map[killfeed.EventID]int{}
		opened := 0
		for round := range 20 {
			id := h.insert(jita)
			for _, b := range tabs {
				for _, f := range b.s.take() {
					var e struct {
						ID killfeed.EventID `json:"event_id"`
					}
					if f.id != "" {
						b.last = f.id
					}
					if json.Unmarshal([]byte(f.data), &e) == nil && e.ID > 0 {
						got[e.ID]++
					}
				}
			}
			for _, b := range tabs {
				if !b.gone && b.s.hasEnded() {
					open(b)
					opened++
				}
			}
			if round > 0 && got[id] != 1 {
				t.Errorf("event %d arrived %d times", id, got[id])
			}
		}
		if opened != 2 || !tabs[0].gone || !tabs[1].gone || tabs[2].gone {
			t.Errorf("they came back %d times, gone are %v, %v and %v; want 2, and all but the newest", opened, tabs[0].gone, tabs[1].gone, tabs[2].gone)
		}
		// The tab is not sent away under another name, nor with a cursor that tells of no stream.
		h.stream(streamPath+"?client_id=b&systems=30000142", "Last-Event-ID", tabs[0].last).take()
		if s := h.stream(target+"&after="+tabs[0].last, "Accept", "application/x-ndjson"); s.res.StatusCode != 200 {
			t.Errorf("status %d with after, want 200: somebody meant it", s.res.StatusCode)
		}
	})
}

// TestStreamOfADeletedClient ends, and its client begins anew when it comes back.
func TestStreamOfADeletedClient(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		s := h.stream(streamPath + "?client_id=a&systems=30000142")
		s.is("open")
		h.insert(jita)
		s.is("1")
		h.admin("DELETE", "/api/clients/a", "").want(204)
		if !s.hasEnded() {
			t.Error("it goes on")
		}
		s.is("")
		h.insert(jita)
		h.stream(streamPath+"?client_id=a&systems=30000142", "Last-Event-ID", s.last()).is("open 2")
		if strings.Contains(h.log.String(), "level=ERROR") {
			t.Errorf("it was logged: %s", h.log)
		}
	})
}

// TestStreamFollowsASeek of its client.
func TestStreamFollowsASeek(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		h.insert(jita, jita)
		s := h.stream(streamPath + "?client_id=a&systems=30000142")
		s.is("open")
		h.do("POST", "/api/clients/a/seek", `{"to":1}`).want(200)
		s.is("1 2")
	})
}
