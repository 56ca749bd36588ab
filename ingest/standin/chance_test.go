package standin_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

// What is left to chance depends on the seed, the path and how often it was asked for, not on the order of paths.
func TestRepeatable(t *testing.T) {
	all := standin.Faults{}
	for _, fault := range []standin.Fault{standin.Hole, standin.Late, standin.Reupload, standin.Forbidden, standin.TooMany,
		standin.ServerError, standin.NotFound, standin.HTML, standin.Stale, standin.WrongSequence, standin.InvalidJSON,
		standin.Truncated} {
		all[fault] = standin.Strike{Chance: 0.1}
	}
	run := func(seed uint64, backwards bool) (out []string) {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, standin.Config{Mails: recent(40), Faults: all, Seed: seed})
			out = make([]string, 40)
			order := make([]int, 40)
			for i := range order {
				order[i] = i
			}
			if backwards {
				slices.Reverse(order)
			}
			for range 5 {
				for _, i := range order {
					r := s.get(file(first + int64(i)))
					out[i] += fmt.Sprintln(r.status, r.body)
				}
			}
		})
		return out
	}
	forwards := run(1, false)
	if !slices.Equal(forwards, run(1, true)) {
		t.Error("the order of paths matters")
	}
	if slices.Equal(forwards, run(2, false)) {
		t.Error("the seed does not matter")
	}
}

func TestChance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(1), Seed: 9, Faults: standin.Faults{standin.Forbidden: {Chance: 0.2}}})
		n := 0
		for range 1000 {
			if s.get(file(first)).status == http.StatusForbidden {
				n++
			}
		}
		if n < 140 || n > 260 {
			t.Errorf("a chance of 0.2 struck %d of 1000", n)
		}
	})
}

func TestFaultsAreChecked(t *testing.T) {
	s, err := standin.New(standin.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, bad := range []standin.Faults{
		{"unheard_of": {Chance: 1}}, {standin.Hole: {Chance: -1}}, {standin.Hole: {Next: -1}}, {standin.Late: {For: -1}},
		{standin.TooMany: {RetryAfter: time.Millisecond}}, {standin.ServerError: {Status: 404}},
		{standin.Hole: {Kinds: []standin.Kind{"x"}}}, {standin.WrongSequence: {Kinds: []standin.Kind{standin.KindESI}}},
		{standin.Cut: {Kinds: []standin.Kind{standin.KindSocket}}},
	} {
		for fault, strike := range bad {
			if s.SetFault(fault, strike) == nil {
				t.Errorf("%s %+v is accepted", fault, strike)
			}
		}
	}
	if err := s.SetFault(standin.NotFound, standin.Strike{Chance: 1, Kinds: []standin.Kind{standin.KindESI}}); err != nil {
		t.Error(err)
	}
	if got := s.Faults(); len(got) != 1 || got[standin.NotFound].Chance != 1 {
		t.Errorf("faults %+v", got)
	}
}
