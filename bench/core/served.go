package main

import (
	"context"
	"encoding/json"
	"fmt"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/storetest"
)

// served is a server on a copy of one of the logs, which ends with it.
type served struct {
	*server.Server
	dir    string
	remove func()
}

// kept are flags with which a log that is older than a day stays whole.
var kept = []string{"--retain", "0", "--retain-max", "0", "--client-ttl", "0"}

// serve starts a server on a copy of the log with n events.
func (b *bench) serve(ctx context.Context, n int, flags ...string) (*served, error) {
	dir, remove, err := killmails.Clone(ctx, b.Work, n)
	if err != nil {
		return nil, err
	}
	s := &served{dir: dir, remove: remove}
	if err := s.start(ctx, b, flags...); err != nil {
		remove()
		return nil, err
	}
	return s, nil
}

// start starts the server of s, which has none, on its copy of a log.
func (s *served) start(ctx context.Context, b *bench, flags ...string) (err error) {
	s.Server, err = server.Serve(ctx, b.Work, b.Killfeed, s.dir, append(kept, flags...)...)
	return err
}

func (s *served) close() {
	s.Stop()
	s.remove()
}

// head is the last event id given out.
func (s *served) head() (int, error) {
	status, answer, err := s.Get("/api/status")
	if err != nil || status != 200 {
		return 0, fmt.Errorf("status answered %d: %w", status, err)
	}
	var st struct {
		Log struct {
			Head int `json:"head"`
		} `json:"log"`
	}
	err = json.Unmarshal(answer, &st)
	return st.Log.Head, err
}

// feed posts n killmails.
func (s *served) feed(m *storetest.Maker, n int) error {
	token, err := killmails.Token(s.dir)
	if err != nil {
		return err
	}
	c, err := server.Dial(s.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	for n > 0 {
		var batch []byte
		for range min(n, 500) {
			batch = append(append(batch, m.Next().JSON...), '\n')
			n--
		}
		status, answer, err := c.Do(server.Post("/api/killmails", token, batch))
		if err != nil || status != 201 {
			return fmt.Errorf("killmails answered %d %.200s: %w", status, answer, err)
		}
	}
	return nil
}
