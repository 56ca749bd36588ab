package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
)

// Whatever the receiver does, and the server is stopped and killed meanwhile: every event is taken or dead, in order, and twice
// only where an answer was lost or the server killed.
func TestEveryEventOnceOrDead(t *testing.T) {
	for seed := range uint64(12) {
		for _, batch := range []int{1, 7} {
			t.Run(fmt.Sprintf("seed %d, batches of %d", seed, batch), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { everyEvent(t, seed, batch) })
			})
		}
	}
}

func everyEvent(t *testing.T, seed uint64, batch int) {
	rnd, moods := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)) // the second is the receiver's
	w := newWorld(t)
	r := w.receiver("plain.example")
	lost := 0 // answers that were lost on their way back; the receiver's
	r.judge = func(body []byte, _ reply) reply {
		for _, id := range idsIn(t, body) {
			if id%17 == 0 {
				return says(400, "I do not want 17")
			}
		}
		switch moods.IntN(12) {
		case 0:
			return status(500)
		case 1:
			return hang
		case 2:
			return status(429, "Retry-After", "7")
		case 3:
			return cut(false)
		case 4:
			lost++
			return cut(true)
		case 5:
			return status(503, "Retry-After", "Fri, 01 Jan 1999 00:00:00 GMT")
		case 6:
			return status(408)
		}
		return status(204)
	}
	config := plain(func(c *Config) { c.Batch = batch })
	w.run(config)
	kills := 0
	for range 25 {
		w.insert(rnd.IntN(6))
		w.pass(time.Duration(rnd.IntN(20_000)) * time.Millisecond)
		if rnd.IntN(4) == 0 {
			kill := rnd.IntN(2) == 0
			if kill {
				kills++
			}
			w.restart(kill, config)
		}
	}
	w.pass(3 * time.Hour)
	_, taken := r.got()
	dead := deadIDs(w.set.Hook("plain"))
	head := w.feed.State().Head
	seen := map[killfeed.EventID]int{}
	last := killfeed.EventID(0)
	for _, id := range eventIDs(t, taken) {
		if seen[id]++; seen[id] == 1 {
			if id < last {
				t.Errorf("event %d came behind %d", id, last)
			}
			last = id
		}
	}
	twice := 0
	for id := killfeed.EventID(1); id <= head; id++ {
		isDead := slices.Contains(dead, id)
		if want := id%17 == 0; isDead != want || (seen[id] > 0) == want {
			t.Errorf("event %d: taken %d times, dead: %v", id, seen[id], isDead)
		}
		twice += max(0, seen[id]-1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if most := (lost + kills) * batch; twice > most {
		t.Errorf("%d events came again, and %d answers were lost and the server killed %d times", twice, lost, kills)
	}
	if s := w.set.Hook("plain").Status(); s.State != Running || s.Lag != 0 {
		t.Errorf("in the end it is %+v", s)
	}
}

// A server that is stopped lets a post that is under way end, so that nothing comes twice.
func TestCleanRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		r.from(slow(time.Second))
		w.run(plain())
		for range 5 {
			w.insert(3)
			w.pass(500 * time.Millisecond) // in the middle of a post
			w.restart(false, plain())
		}
		w.pass(time.Minute)
		_, taken := r.got()
		if diff := cmp.Diff(spans(1, 15), eventIDs(t, taken)); diff != "" {
			t.Errorf("taken (+) is not each once (-):\n%s", diff)
		}
	})
}

// A receiver that hangs holds up neither inserts nor readers nor another webhook.
func TestHangingReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		bad, good := w.receiver("plain.example"), w.receiver("good.example")
		bad.from(hang)
		w.run(plain(), plain(func(c *Config) { c.Name, c.URL = "good", "http://good.example/" }))
		w.insert(1)
		w.pass(time.Second)
		begun := time.Now()
		w.insert(500)
		if took := time.Since(begun); took != 0 {
			t.Errorf("500 inserts took %v of a clock that stands still unless somebody waits", took)
		}
		synctest.Wait()
		_, taken := good.got()
		if n := len(eventIDs(t, taken)); n != 501 {
			t.Errorf("the other webhook has %d events, want 501", n)
		}
		w.pass(5 * time.Minute)
		s := w.set.Hook("plain").Status()
		if s.State != Retrying || s.Lag < 300 || s.Delivered != 0 || s.NextAttempt == nil && s.Failed == 0 {
			t.Errorf("the webhook that hangs: %+v", s)
		}
		bad.from(nil)
		w.pass(10 * time.Minute)
		_, taken = bad.got()
		if diff := cmp.Diff(spans(1, 501), eventIDs(t, taken)); diff != "" {
			t.Errorf("behind the hanging (+) is not everything (-):\n%s", diff)
		}
	})
}

// The receiver says how long it wants to be left alone.
func TestLeftAlone(t *testing.T) {
	limited := `{"message":"You are being rate limited.","retry_after":2.5,"global":false}`
	for _, c := range []struct {
		name   string
		format Format
		first  reply
		events int
		wait   time.Duration
	}{
		{"seconds", JSON, status(429, "Retry-After", "30"), 1, 30 * time.Second},
		{"a date", JSON, status(503, "Retry-After", "Sat, 01 Jan 2000 00:01:00 GMT"), 1, time.Minute},
		{"too long", JSON, status(429, "Retry-After", "1e9"), 1, time.Hour},
		{"less than the pause", JSON, status(429, "Retry-After", "0"), 1, time.Second},
		{"nonsense", JSON, status(429, "Retry-After", "soon"), 1, time.Second},
		{"Discord's JSON", Discord, says(429, limited), 1, 2500 * time.Millisecond},
		{"Discord's header", Discord, says(429, limited, "Retry-After", "3", "X-RateLimit-Reset-After", "4.5"), 1, 4500 * time.Millisecond},
		{"Discord's page", Discord, says(429, "<html>", "Retry-After", "9"), 1, 9 * time.Second},
		{"Discord's empty bucket", Discord, status(200, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset-After", "7"), 11, 7 * time.Second},
		{"Discord's full bucket", Discord, status(200, "X-RateLimit-Remaining", "4", "X-RateLimit-Reset-After", "7"), 11, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				r := w.receiver("plain.example")
				r.then(c.first)
				w.run(plain(func(h *Config) { h.Format = c.format }))
				w.insert(c.events)
				w.pass(2 * time.Hour)
				all, _ := r.got()
				if len(all) != 2 && !(c.wait == 0 && len(all) > 1) {
					t.Fatalf("%d posts, want 2", len(all))
				}
				most := c.wait + time.Second/4 // the pause after a failure is never quite the same
				if gap := all[1].at.Sub(all[0].at); gap < c.wait || gap > most {
					t.Errorf("the second post came after %v, want %v", gap, c.wait)
				}
			})
		})
	}
}

// Discord's global limit holds for all webhooks there.
func TestGlobalLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("discord.com")
		r.then(says(429, `{"retry_after":20,"global":true}`))
		one := plain(func(c *Config) {
			c.Name, c.URL, c.Topics = "one", "http://discord.com/api/webhooks/1/first-token", []string{"system:30000142"}
		})
		two := one
		two.Name, two.URL, two.Topics = "two", "http://discord.com/api/webhooks/2/second-token", []string{"system:30000143"}
		w.run(one, two)
		w.insert(1)
		w.pass(time.Second)
		if _, err := w.feed.Insert(t.Context(), 30000143, []byte(`{"killmail_id":7,"solar_system_id":30000143}`)); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		all, _ := r.got()
		if len(all) != 3 {
			t.Fatalf("%d posts, want 3", len(all))
		}
		if early := all[1].at.Sub(all[0].at); early < 20*time.Second {
			t.Errorf("a post came %v after Discord asked all to wait for 20 s", early)
		}
	})
}

// A post that may have been taken comes again as it was, whatever came meanwhile: its key must not stand for something else.
func TestSamePostAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		r.then(slow(time.Second), hang, cut(true), status(500))
		w.run(plain(func(c *Config) { c.Batch = 10 }))
		w.insert(1)
		w.pass(0)
		w.insert(2) // wait for the first, and are posted together
		w.pass(2 * time.Second)
		w.insert(3)
		w.pass(time.Minute)
		all, _ := r.got()
		if len(all) != 6 {
			t.Fatalf("%d posts, want 6", len(all))
		}
		for i, d := range all[2:5] {
			if string(d.body) != string(all[1].body) || d.header.Get("Killfeed-Delivery") != all[1].header.Get("Killfeed-Delivery") {
				t.Errorf("attempt %d has events %v and the key %s, and the first %v and %s", i+2, idsIn(t, d.body),
					d.header.Get("Killfeed-Delivery"), idsIn(t, all[1].body), all[1].header.Get("Killfeed-Delivery"))
			}
		}
		if diff := cmp.Diff(spans(4, 6), idsIn(t, all[5].body)); diff != "" {
			t.Errorf("behind them (+):\n%s", diff)
		}
	})
}

// Why there was no answer is told without the address.
func TestCause(t *testing.T) {
	err := &url.Error{Op: "Post", URL: "http://a.example/token", Err: errors.New("connection refused")}
	if got := cause(t.Context(), fmt.Errorf("posting: %w", err)); got != "connection refused" {
		t.Errorf("it is %q", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errStopping)
	if got := cause(ctx, err); got != errStopping.Error() {
		t.Errorf("it is %q", got)
	}
}

// The pauses double, up to five minutes, and are never twice the same.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		r.from(status(500))
		w.run(plain())
		w.insert(1)
		w.pass(2 * time.Hour)
		all, _ := r.got()
		for i := 1; i < len(all); i++ {
			want := min(time.Second<<(i-1), 5*time.Minute)
			if got := all[i].at.Sub(all[i-1].at); got < want || got > want+want/4 {
				t.Errorf("pause %d is %v, want %v and up to a quarter more", i, got, want)
			}
		}
		if len(all) < 25 || len(all) > 35 {
			t.Errorf("%d posts in two hours", len(all))
		}
		if n := strings.Count(w.log.String(), "did not work"); n < 3 || n > 8 {
			t.Errorf("the log has it %d times", n)
		}
	})
}

// A receiver that fails for longer than GiveUp gets no more of what waited so long; what came later still waits.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		r.from(status(502))
		w.run(plain(func(c *Config) { c.GiveUp = 2 * time.Hour }))
		w.insert(2)
		w.pass(time.Hour)
		w.insert(2)
		w.pass(90 * time.Minute)
		h := w.set.Hook("plain")
		if diff := cmp.Diff(spans(1, 2), deadIDs(h)); diff != "" {
			t.Errorf("dead (+):\n%s", diff)
		}
		for _, d := range h.Dead() {
			if d.Status != 502 || d.KillmailID < 1000 || d.At.IsZero() || !strings.Contains(d.Reason, "2h0m0s") {
				t.Errorf("dead: %+v", d)
			}
		}
		r.from(nil)
		w.pass(10 * time.Minute)
		_, taken := r.got()
		if diff := cmp.Diff(spans(3, 4), eventIDs(t, taken)); diff != "" {
			t.Errorf("taken (+):\n%s", diff)
		}
	})
}

// After a long outage the old is passed over, and counted.
func TestMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		config := plain(func(c *Config) { c.MaxAge, c.Batch = time.Hour, 3 })
		r.from(status(503))
		w.run(config)
		w.insert(5)
		w.pass(50 * time.Minute)
		w.restart(false, config)
		fresh := w.insert(4)
		undated := w.insert(1, func(k map[string]any) { delete(k, "killmail_time") })
		w.pass(20 * time.Minute)
		r.from(nil)
		w.pass(10 * time.Minute)
		_, taken := r.got()
		if diff := cmp.Diff(append(fresh, undated...), eventIDs(t, taken)); diff != "" {
			t.Errorf("taken (+) is not what is fresh (-):\n%s", diff)
		}
		if s := w.set.Hook("plain").Status(); s.Expired != 5 || s.Delivered != 5 || s.Dead != 0 {
			t.Errorf("%+v", s)
		}
		w.halt()
		w.model = w.model.Reopen()
		w.open()
		old := w.insert(3)
		w.pass(2 * time.Hour)
		w.run(config)
		if s := w.set.Hook("plain").Status(); s.Expired != uint64(len(old)) || s.Delivered != 0 {
			t.Errorf("after two hours without a server: %+v", s)
		}
	})
}

// A receiver that is not there burns a few events, and no more; they and all others are posted when it is back.
func TestPaused(t *testing.T) {
	for _, code := range []int{301, 401, 403, 404, 405, 410} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				r := w.receiver("plain.example")
				r.from(says(code, "no", "Location", "http://elsewhere.example/"))
				config := plain(func(c *Config) { c.MaxAge = time.Hour })
				w.run(config)
				w.insert(20)
				w.pass(30 * time.Minute)
				all, _ := r.got()
				for i := 1; i < len(all); i++ {
					if got, want := all[i].at.Sub(all[i-1].at), refusedPause<<(i-1); got != want {
						t.Errorf("pause %d is %v, want %v", i, got, want)
					}
				}
				h := w.set.Hook("plain")
				s := h.Status()
				if len(all) != maxRefusals || s.State != Paused || s.Dead != maxRefusals || !strings.Contains(s.Reason, fmt.Sprint(code)) || s.Lag < 1799 {
					t.Fatalf("%d posts, then %+v", len(all), s)
				}
				if s.Public().LastError != "" || s.LastError == "" {
					t.Errorf("last error %q, to everybody %q", s.LastError, s.Public().LastError)
				}
				if n := h.Retry(); n != maxRefusals {
					t.Errorf("%d are to be sent again", n)
				}
				w.pass(5 * time.Minute)
				all, _ = r.got()
				// One of the dead, and four of what waits.
				if s := h.Status(); len(all) != 2*maxRefusals || s.State != Paused || s.Dead != 2*maxRefusals-1 {
					t.Errorf("after a retry in vain %d posts, then %+v", len(all), s)
				}
				r.from(nil)
				h.Retry()
				w.pass(time.Minute)
				_, taken := r.got()
				got := eventIDs(t, taken)
				slices.Sort(got)
				if diff := cmp.Diff(spans(1, 20), got); diff != "" {
					t.Errorf("taken (+):\n%s", diff)
				}
				if s := h.Status(); s.State != Running || s.Dead != 0 || s.Lag != 0 {
					t.Errorf("in the end %+v", s)
				}
			})
		})
	}
}

// A receiver that does not want one of many events gets the others.
func TestSpoilt(t *testing.T) {
	for _, code := range []int{400, 413, 422} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			r := w.receiver("plain.example")
			r.judge = func(body []byte, usual reply) reply {
				if slices.Contains(idsIn(t, body), 5) {
					return says(code, "not five")
				}
				return usual
			}
			r.then(slow(time.Second)) // so that the others are posted together
			w.run(plain(func(c *Config) { c.Batch = 10 }))
			w.insert(1)
			w.pass(0)
			w.insert(11)
			w.pass(time.Minute)
			_, taken := r.got()
			want := append(spans(1, 4), spans(6, 12)...)
			if diff := cmp.Diff(want, eventIDs(t, taken)); diff != "" {
				t.Errorf("%d: taken (+):\n%s", code, diff)
			}
			dead := w.set.Hook("plain").Dead()
			if len(dead) != 1 || dead[0].EventID != 5 || dead[0].Status != code || dead[0].Answer != "not five" {
				t.Errorf("%d: dead: %+v", code, dead)
			}
		})
	}
}

// A receiver that wants nothing of what is posted is the wrong one.
func TestAllSpoilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.receiver("plain.example").from(status(415))
		w.run(plain(func(c *Config) { c.Batch = 10 }))
		w.insert(100)
		w.pass(time.Minute)
		if s := w.set.Hook("plain").Status(); s.State != Paused || s.Dead != maxSpoilt {
			t.Errorf("%+v", s)
		}
	})
}

// What is posted as JSON, with its headers.
func TestPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const secret = "a key of signatures"
		w := newWorld(t)
		r := w.receiver("plain.example")
		r.then(status(500))
		w.run(plain(func(c *Config) { c.Secret, c.Names = secret, true }), plain(func(c *Config) { c.Name, c.Batch = "many", 3 }))
		w.insert(1)
		w.pass(time.Minute)
		all, _ := r.got()
		epoch := string(w.feed.State().Epoch)
		posts := map[string][]delivery{}
		for _, d := range all {
			name := d.header.Get("Killfeed-Webhook")
			posts[name] = append(posts[name], d)
			if got := d.header.Get("User-Agent") + ", " + d.header.Get("Content-Type"); got != "killfeed/1.2.3, application/json" {
				t.Errorf("it is from %s", got)
			}
			if got := d.header.Get("Killfeed-Delivery"); got != "1-"+epoch {
				t.Errorf("%s: delivery %q, want 1-%s", name, got, epoch)
			}
			if (d.header.Get("Killfeed-Signature") != "") != (name == "plain") {
				t.Errorf("%s: signature %q", name, d.header.Get("Killfeed-Signature"))
			}
		}
		if len(posts["plain"])+len(posts["many"]) != 3 {
			t.Fatalf("%d and %d posts, want 3 in all", len(posts["plain"]), len(posts["many"]))
		}
		e, err := w.feed.Event(1)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(posts["plain"][0].body), string(show(nil, &e, true)); got != want {
			t.Errorf("the body is %s, want %s", got, want)
		}
		if got, want := string(posts["many"][0].body), `{"events":[`+string(show(nil, &e, false))+`]}`; got != want {
			t.Errorf("the body is %s, want %s", got, want)
		}
		for _, d := range posts["plain"] { // as docs/webhooks.md has receivers do it
			stamp, sum, _ := strings.Cut(strings.TrimPrefix(d.header.Get("Killfeed-Signature"), "t="), ",v1=")
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write([]byte(stamp + "." + string(d.body)))
			if want := hex.EncodeToString(mac.Sum(nil)); sum != want || stamp != fmt.Sprint(d.at.Unix()) {
				t.Errorf("signed %q at %q, want %q at %d", sum, stamp, want, d.at.Unix())
			}
		}
	})
}

// It begins with what is new, passes over history and updates, and takes its topics' and filter's word.
func TestWhatIsPosted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		w.insert(3)
		w.run(
			plain(),
			plain(func(c *Config) { c.Name, c.Start = "early", killfeed.Earliest }),
			plain(func(c *Config) { c.Name, c.Filter = "rich", "isk>1b" }),
			plain(func(c *Config) { c.Name, c.Topics = "losses", []string{"loss:corporation:98000007"} }),
			plain(func(c *Config) { c.Name, c.Backfill = "history", true }),
			plain(func(c *Config) { c.Name, c.Updates = "updates", true }),
		)
		w.insert(1)                                                                                      // 4
		w.insert(1, func(k map[string]any) { k["zkb"] = map[string]any{"totalValue": 2e9} })             // 5
		w.insert(1, func(k map[string]any) { k["victim"] = map[string]any{"corporation_id": 98000007} }) // 6
		old, err := killfeed.NewKillmail(30000142, []byte(`{"killmail_id":5}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.feed.InsertAll(t.Context(), []*killfeed.Killmail{old}, killfeed.MarkBackfill); err != nil { // 7
			t.Fatal(err)
		}
		richer, err := killfeed.NewKillmail(30000142, []byte(`{"killmail_id":5,"zkb":{"totalValue":1,"labels":["solo"]}}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.feed.InsertAll(t.Context(), []*killfeed.Killmail{richer}, 0); err != nil { // 8
			t.Fatal(err)
		}
		w.pass(time.Minute)
		_, taken := r.got()
		got := map[string][]killfeed.EventID{}
		for _, d := range taken {
			name := d.header.Get("Killfeed-Webhook")
			got[name] = append(got[name], idsIn(t, d.body)...)
		}
		want := map[string][]killfeed.EventID{
			"plain": {4, 5, 6}, "early": {1, 2, 3, 4, 5, 6}, "rich": {5}, "losses": {6}, "history": {4, 5, 6, 7}, "updates": {4, 5, 6, 8},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("posted (+):\n%s", diff)
		}
	})
}

// What a filter passes over holds nothing back for longer than a minute.
func TestPassedOverIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.receiver("plain.example")
		w.run(plain(func(c *Config) { c.Filter = "isk>100b" }))
		w.insert(50)
		w.pass(61 * time.Second)
		info, err := w.feed.Client("webhook:plain")
		if err != nil {
			t.Fatal(err)
		}
		if at := info.Offsets[killfeed.All()]; at != 50 {
			t.Errorf("it stands at %d, want 50", at)
		}
	})
}

// Retention that is faster than the receiver is told.
func TestGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		r.from(status(500))
		w.run(plain())
		w.insert(10)
		w.pass(time.Minute)
		w.halt()
		w.model = w.model.Reopen()
		if err := w.model.Remove(6); err != nil {
			t.Fatal(err)
		}
		r.from(nil)
		w.open()
		w.run(plain())
		w.pass(time.Minute)
		_, taken := r.got()
		if diff := cmp.Diff(spans(7, 10), eventIDs(t, taken)); diff != "" {
			t.Fatalf("taken (+):\n%s", diff)
		}
		if first, second := taken[0].header.Get("Killfeed-Gap"), taken[1].header.Get("Killfeed-Gap"); first != "1-6" || second != "" {
			t.Errorf("gaps told: %q, then %q", first, second)
		}
		if s := w.set.Hook("plain").Status(); s.Gaps != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Posts are no faster than the rate, and what waits meanwhile goes into one message.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		w.run(plain(func(c *Config) { c.Format, c.Rate = Discord, 6 }))
		for range 60 {
			w.insert(1)
			w.pass(time.Second)
		}
		w.pass(time.Minute)
		all, _ := r.got()
		if len(all) > 5+6+1 {
			t.Errorf("%d messages in a minute, at a rate of 6 and 5 at once", len(all))
		}
		if n := strings.Count(string(joined(all)), "zkillboard.com/kill/"); n != 60 {
			t.Errorf("%d killmails in %d messages, want 60", n, len(all))
		}
	})
}

func joined(all []delivery) (text []byte) {
	for _, d := range all {
		text = append(text, d.body...)
	}
	return text
}

// Neither log nor status nor list nor answer has what must not be known, whatever happens.
func TestSecretsAreHidden(t *testing.T) {
	const token, secret = "tOkEn-of-the-channel", "hush-hush-signing-key"
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		address := "http://someone:pass-word-1@plain.example/api/webhooks/1/" + token + "?thread=" + token
		echo := "you asked for " + address + " signed with " + secret
		r.then(says(500, echo), says(400, echo), cut(false), status(429, "Retry-After", "1"), says(404, echo), says(302, echo, "Location", address))
		r.from(says(410, echo))
		configs := []Config{
			plain(func(c *Config) { c.URL, c.Secret = address, secret }),
			plain(func(c *Config) { c.Name, c.URL = "nowhere", "http://nowhere.example/"+token }),
		}
		w.run(configs...)
		w.insert(10)
		w.pass(time.Hour)
		text := w.log.String()
		for _, h := range w.set.Hooks() {
			h.Retry()
			w.pass(time.Minute)
			tested, err := h.Test(t.Context())
			if err != nil || tested.Taken || tested.Reason == "" {
				t.Errorf("test: %+v, %v", tested, err)
			}
			text += fmt.Sprintf("\n%+v\n%+v\n%+v", h.Status(), h.Dead(), tested)
		}
		text += w.log.String()
		for _, hidden := range []string{token, secret, "pass-word-1", "someone"} {
			if i := strings.Index(text, hidden); i >= 0 {
				t.Errorf("%q is shown: %s", hidden, text[max(0, i-200):i+len(hidden)])
			}
		}
		if !strings.Contains(text, "plain.example") || !strings.Contains(text, "you asked for") {
			t.Errorf("host and answer are not shown: %s", text)
		}
	})
}

func TestTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		w.run(plain(), plain(func(c *Config) { c.Name, c.Format = "my_channel", Discord }))
		r.then(status(204), status(200), hang)
		for _, h := range w.set.Hooks() {
			got, err := h.Test(t.Context())
			if err != nil || !got.Taken || got.Status < 200 {
				t.Errorf("%s: %+v, %v", h.Name(), got, err)
			}
		}
		all, _ := r.got()
		if got := string(all[0].body); got != `{"test":true,"webhook":"plain","sent_at":"2000-01-01T00:00:00Z"}` || all[0].header.Get("Killfeed-Test") != "1" {
			t.Errorf("the test is %s", got)
		}
		checkMessage(t, all[1].body)
		if !strings.Contains(string(all[1].body), `my\\_channel`) || all[1].query != "wait=true" {
			t.Errorf("the test is %s, with %q", all[1].body, all[1].query)
		}
		begun := time.Now()
		got, err := w.set.Hook("plain").Test(t.Context())
		if err != nil || got.Taken || got.Status != 0 || !strings.Contains(got.Reason, "10s") || time.Since(begun) != postTime {
			t.Errorf("of a receiver that hangs: %+v, %v", got, err)
		}
		if s := w.set.Hook("plain").Status(); s.Delivered+s.Failed != 0 {
			t.Errorf("tests are counted: %+v", s)
		}
	})
}

// A client that somebody deletes or moves takes the webhook along.
func TestSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.receiver("plain.example")
		w.run(plain())
		w.insert(3)
		w.pass(time.Second)
		if _, err := w.feed.Seek(t.Context(), "webhook:plain", killfeed.StartAt(2), nil); err != nil {
			t.Fatal(err)
		}
		w.insert(1)
		w.pass(time.Second)
		_, taken := r.got()
		if diff := cmp.Diff([]killfeed.EventID{1, 2, 3, 2, 3, 4}, eventIDs(t, taken)); diff != "" {
			t.Errorf("taken (+):\n%s", diff)
		}
	})
}

// Topics and filters are read again when static data are new.
func TestNewStaticData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forge := func(region uint32) *killfeed.Universe {
			u, err := killfeed.NewUniverse(killfeed.UniverseData{
				Systems: []killfeed.SolarSystem{{ID: 30000142, Name: "Jita", Region: region}}, Regions: []killfeed.Region{{ID: region, Name: "The Forge"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		w := newWorld(t)
		r := w.receiver("plain.example")
		w.feed.SetUniverse(forge(10000002))
		w.run(plain(func(c *Config) { c.Topics = []string{"region:The Forge"} }), plain(func(c *Config) { c.Name, c.Filter = "filter", "region=The Forge" }))
		w.insert(1)
		w.pass(time.Minute)
		w.feed.SetUniverse(forge(10000003))
		w.pass(time.Minute)
		w.insert(1)
		w.pass(time.Minute)
		_, taken := r.got()
		got := eventIDs(t, taken)
		slices.Sort(got)
		if diff := cmp.Diff([]killfeed.EventID{1, 1, 2, 2}, got); diff != "" {
			t.Errorf("taken (+):\n%s", diff)
		}
	})
}

// The signature that the documents verify in three languages is ours.
func TestDocumentedSignature(t *testing.T) {
	const secret, body = "correct horse battery staple", `{"event_id":17}`
	text, err := os.ReadFile("../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	want := sign(secret, time.Unix(1795456800, 0), []byte(body))
	for _, part := range []string{want, secret, body} {
		if n := strings.Count(string(text), part); n < 3 {
			t.Errorf("docs/webhooks.md has %s %d times, want it in each example", part, n)
		}
	}
}
