package web_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// A request that names a head is answered when the log has it, and not for ever waited with.
func TestKillfeedHead(t *testing.T) {
	s := newServer(t)
	s.insert(jita)
	const poll = "/api/killfeed?after=0&topics=all"
	for _, head := range []string{"0", "1"} {
		s.do("GET", poll, "", "Killfeed-Head", head).want(200)
	}
	for _, head := range []string{"x", "-1", "1.5", "99999999999999999999"} {
		s.do("GET", poll, "", "Killfeed-Head", head).problem(400)
	}
	answered := make(chan *answer)
	go func() { answered <- s.do("GET", poll, "", "Killfeed-Head", "2") }()
	s.insert(jita)
	(<-answered).want(200)

	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		defer s.close()
		began := time.Now()
		a := s.do("GET", poll, "", "Killfeed-Head", "1")
		a.problem(503)
		if waited := time.Since(began); waited != 5*time.Second {
			t.Errorf("it waited %v", waited)
		}
		if got := a.header.Get("Retry-After"); got == "" {
			t.Error("there is no Retry-After")
		}
	})
}
