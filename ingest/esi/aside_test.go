package esi_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/esi"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
)

func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := open(t, standin.Config{}, esi.Config{})
		for _, test := range []struct {
			route    esi.Route
			id       uint32
			question string
			want     string
			status   int
		}{
			{esi.RouteNames, 0, `[90000001,98000001]`,
				`[{"category":"character","id":90000001,"name":"character 90000001"},{"category":"corporation","id":98000001,"name":"corporation 98000001"}]`, 0},
			{esi.RouteNames, 0, `[90000001,700000]`, "", 404},
			{esi.RouteNames, 0, `[90000001,90000001]`, "", 400},
			{esi.RouteCorporation, 98_000_001, "", `{"member_count":42,"name":"corporation 98000001","ticker":"C1"}`, 0},
			{esi.RouteCorporation, 99_000_001, "", "", 404},
			{esi.RouteAlliance, 99_000_001, "", `{"name":"alliance 99000001","ticker":"A1"}`, 0},
			{esi.RouteSystem, 30_000_142, "",
				`{"constellation_id":20000143,"name":"solar_system 30000142","security_status":-0.8,"system_id":30000142}`, 0},
			{esi.RouteConstellation, 20_000_020, "",
				`{"constellation_id":20000020,"name":"constellation 20000020","region_id":10000021,"systems":[]}`, 0},
		} {
			got, err := c.Ask(t.Context(), test.route, test.id, []byte(test.question))
			e, failed := errors.AsType[*upstream.Error](err)
			if string(got) != test.want || failed != (test.status != 0) || failed && e.Status != test.status {
				t.Errorf("route %d, %d%s: %s, %v", test.route, test.id, test.question, got, err)
			}
		}
		if n := manners(t, s).PeakByService[standin.ServiceESI]; n > 3 {
			t.Errorf("%d requests within a second, want 3 at most", n)
		}
		gone, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		if _, err := c.Ask(gone, esi.RouteNames, 0, []byte(`[90000001]`)); err == nil || err.Error() != "enough" {
			t.Errorf("got %v, want the cause of the context", err)
		}
	})
}

// An empty bucket of names stops names and not killmails.
func TestNamesTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(50)
		s, c := open(t, standin.Config{Mails: all, Faults: standin.Faults{
			standin.TooMany: {Next: 1, Kinds: []standin.Kind{standin.KindNames}, RetryAfter: 15 * time.Minute},
		}}, esi.Config{})
		if _, err := c.Ask(t.Context(), esi.RouteNames, 0, []byte(`[90000001]`)); !errors.Is(err, upstream.ErrTooMany) {
			t.Fatalf("got %v", err)
		}
		begun := time.Now()
		fillAll(t, c, all)
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("50 killmails took %v", took)
		}
		if _, err := c.Ask(t.Context(), esi.RouteNames, 0, []byte(`[90000001]`)); err != nil || time.Since(begun) < 15*time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		manners(t, s)
	})
}

// When few errors are left, killmails are asked for and nothing else.
func TestFewErrorsAreForKillmails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(1)
		s, c := open(t, standin.Config{Mails: all, ESI: standin.ESIConfig{Limit: standin.LimitErrors}}, esi.Config{})
		for i := range 45 {
			if _, err := c.Body(t.Context(), int64(i+1), strings.Repeat("a", 40)); err == nil {
				t.Error("a body of nothing")
			}
		}
		begun := time.Now()
		if _, err := c.Body(t.Context(), all[0].ID, all[0].Hash); err != nil || time.Since(begun) > time.Second {
			t.Errorf("a killmail: %v after %v", err, time.Since(begun))
		}
		minute := begun.Truncate(time.Minute).Add(time.Minute)
		if _, err := c.Ask(t.Context(), esi.RouteAlliance, 99_000_001, nil); err != nil || time.Now().Before(minute) {
			t.Errorf("an alliance: %v, %v before the minute is over", err, time.Until(minute))
		}
		manners(t, s)
	})
}

// However many ask aside, one request of theirs is under way at a time, and one that hangs holds up no killmail.
func TestAsideHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(20)
		s, c := open(t, standin.Config{Mails: all, Faults: standin.Faults{
			standin.Hang: {Chance: 1, Kinds: []standin.Kind{standin.KindNames, standin.KindDetails}, For: time.Hour},
		}}, esi.Config{Concurrency: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var asking sync.WaitGroup
		for i := range 20 {
			asking.Go(func() {
				if _, err := c.Ask(ctx, esi.Route(i%5), 99_000_001, []byte(`[90000001]`)); err == nil {
					t.Error("an answer from who hangs")
				}
			})
		}
		time.Sleep(time.Second)
		begun := time.Now()
		fillAll(t, c, all)
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("20 killmails took %v", took)
		}
		asking.Wait()
		if most := s.Stats().ConcurrentByService[standin.ServiceESI]; most > 2 {
			t.Errorf("%d requests at a time, want a killmail and one other", most)
		}
	})
}
