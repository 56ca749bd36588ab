package main

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"killfeed/bench/internal/server"
)

// load is what one round of load found.
type load struct {
	rate     float64       // requests a second
	cpu      time.Duration // of the server, for each request
	requests int64
}

// errEnough ends a worker's part of a round early.
var errEnough = errors.New("enough")

// drive sends requests on n connections for the given time. request returns what worker i sends; check looks at the answer
// and may return errEnough.
func drive(s *server.Server, n int, d time.Duration, request func(i int) []byte, check func(i, status int, body []byte) error) (load, error) {
	conns := make([]*server.Conn, n)
	for i := range conns {
		c, err := server.Dial(s.Addr)
		if err != nil {
			return load{}, err
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
	cpu, start := s.CPU(), time.Now()
	timer := time.AfterFunc(d, func() { stopped.Store(true) })
	defer timer.Stop()
	for i, c := range conns {
		wg.Go(func() {
			req := request(i)
			for !stopped.Load() {
				status, body, err := c.Do(req)
				if err == nil {
					total.Add(1)
					err = check(i, status, body)
				}
				if errors.Is(err, errEnough) {
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
		return load{}, err
	}
	l := load{rate: float64(total.Load()) / took.Seconds(), requests: total.Load()}
	if l.requests > 0 {
		l.cpu = (s.CPU() - cpu) / time.Duration(l.requests)
	}
	return l, nil
}
