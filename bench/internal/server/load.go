package server

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Load is what one round of load found.
type Load struct {
	Rate     float64       // requests a second
	CPU      time.Duration // of the servers, for each request
	Requests int64
}

// ErrEnough ends a round early.
var ErrEnough = errors.New("enough")

// Drive sends requests on n connections for the given time, the i-th to the i-th of the servers and round again. request returns
// what worker i sends next; check looks at the answer and may return ErrEnough.
func Drive(servers []*Server, n int, d time.Duration, request func(i int) []byte, check func(i, status int, body []byte) error) (Load, error) {
	conns := make([]*Conn, n)
	for i := range conns {
		c, err := Dial(servers[i%len(servers)].Addr)
		if err != nil {
			return Load{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	var (
		total   atomic.Int64
		stopped atomic.Bool
		wg      sync.WaitGroup
		errs    = make([]error, n)
	)
	cpu, start := CPU(servers), time.Now()
	timer := time.AfterFunc(d, func() { stopped.Store(true) })
	defer timer.Stop()
	for i, c := range conns {
		wg.Go(func() {
			for !stopped.Load() {
				status, body, err := c.Do(request(i))
				if err == nil {
					total.Add(1)
					err = check(i, status, body)
				}
				if errors.Is(err, ErrEnough) {
					stopped.Store(true) // the others' share would be measured on fewer connections
					return
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return Load{}, err
	}
	l := Load{Rate: float64(total.Load()) / took.Seconds(), Requests: total.Load()}
	if l.Requests > 0 {
		l.CPU = (CPU(servers) - cpu) / time.Duration(l.Requests)
	}
	return l, nil
}

// CPU is the processor time that all of the servers have used.
func CPU(servers []*Server) (sum time.Duration) {
	for _, s := range servers {
		sum += s.CPU()
	}
	return sum
}

// Each sends each connection's requests, one after another, and tells how many a second were answered as wanted. It counts what
// was prepared and no more: the last connection that is busy ends it.
func Each(s *Server, requests [][][]byte, want int) (rate float64, err error) {
	conns := make([]*Conn, len(requests))
	total := 0
	for i := range conns {
		c, err := Dial(s.Addr)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns[i] = c
		total += len(requests[i])
	}
	errs := make([]error, len(conns))
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range conns {
		wg.Go(func() {
			for _, r := range requests[i] {
				status, body, err := c.Do(r)
				if err == nil && status != want {
					err = fmt.Errorf("answered %d, want %d: %.200s", status, want, body)
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(total) / time.Since(start).Seconds(), errors.Join(errs...)
}
