package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"killfeed"
	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// smallBytes is how large the killmails of the longest logs are, so that ten million fit on an ordinary disk: one attacker, no
// items.
const smallBytes = 600

// small makes killmails for the logs of growth, beginning with a killmail id.
func small(first int64) *storetest.Maker {
	return storetest.NewMaker(storetest.MakerOptions{
		Seed: uint64(first), FirstID: first, Systems: killmails.Systems, Attackers: 1, Bytes: smallBytes, Bare: true,
	})
}

// firstFresh is above the ids of killmails in the logs.
const firstFresh = 1 << 40

// log returns the directory of a log of n small events, which is kept between runs. It is written by the store itself: going by
// the feed, ten million would take an hour.
func (b *bench) log(ctx context.Context, n int) (string, error) {
	dir := filepath.Join(b.Work, fmt.Sprintf("small-%d", n))
	if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	// About what an event takes, with room for what is being rewritten.
	if err := room(b.Work, int64(n)*500+1e9); err != nil {
		return "", err
	}
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return "", err
	}
	m, at := small(1), time.Now().UTC().Truncate(time.Millisecond)
	const group = 5000
	for made := 0; made < n && err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		var batch killfeed.Batch
		for range min(group, n-made) {
			made++
			k, id := m.Next(), killfeed.EventID(made)
			batch.Events = append(batch.Events, killfeed.NewEvent{
				Event: killfeed.Event{
					ID: id, SystemID: k.SystemID, ReceivedAt: at, Killmail: k.JSON, KillmailID: k.ID, KilledAt: k.Time, MirrorSeq: uint64(made),
				},
				Topics: k.Topics, Known: killfeed.Known{First: id, Latest: id, Digest: k.Digest},
			})
		}
		err = store.Commit(&batch)
		if made%1_000_000 == 0 {
			suite.Progress("   making a log of %d small events: %d", n, made)
		}
	}
	if closed := store.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "made"), nil, 0o600)
}

// served is a server on a log of its own.
type served struct {
	*server.Server
	dir   string
	token string
}

// kept are flags with which nothing is removed, and nobody turned away for being one of many.
var kept = []string{"--retain", "0", "--retain-max", "0", "--client-ttl", "0", "--connect-rate", "0", "--max-clients", "1000000"}

// serve starts a server on a copy of a log, or on an empty one when from is empty.
func (b *bench) serve(ctx context.Context, from string) (_ *served, err error) {
	s := &served{}
	if from != "" {
		s.dir, _, err = killmails.CloneDir(b.Work, from)
	} else {
		s.dir, err = os.MkdirTemp(b.Work, "growth")
	}
	if err != nil {
		return nil, err
	}
	if s.Server, err = server.Serve(ctx, b.Work, b.Killfeed, s.dir, kept...); err == nil {
		if s.token, err = killmails.Token(s.dir); err == nil {
			return s, nil
		}
		s.Stop()
	}
	os.RemoveAll(s.dir)
	return nil, err
}

func (s *served) close() {
	s.Stop()
	os.RemoveAll(s.dir)
}

// disk is how many MB its files take.
func (s *served) disk() float64 {
	var sum int64
	files, _ := os.ReadDir(s.dir)
	for _, f := range files {
		if st, err := f.Info(); err == nil {
			sum += st.Size()
		}
	}
	return float64(sum) / 1e6
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

// seek moves a client on the ten busiest systems.
func (s *served) seek(client, to string, systems []uint32) error {
	body, err := json.Marshal(map[string]any{"to": to, "systems": systems})
	if err != nil {
		return err
	}
	status, answer, err := s.Send("POST", "/api/clients/"+client+"/seek", string(body))
	if err == nil && status != 200 {
		err = fmt.Errorf("a seek was answered %d: %.200s", status, answer)
	}
	return err
}

// busiest are the n busiest systems.
func busiest(n int) (ids []uint32) {
	m := small(1)
	for rank := range n {
		ids = append(ids, m.System(rank))
	}
	return ids
}

func list(ids []uint32) string {
	var b bytes.Buffer
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, id)
	}
	return b.String()
}

// cost loads a server for rounds and tells the median of its processor time for each request, in microseconds, and that of the
// rates.
func (b *bench) cost(ctx context.Context, s *served, conns, want int, request func(i int) []byte) (cpu, rate float64, err error) {
	var cpus, rates []float64
	for range b.Rounds + 1 {
		if ctx.Err() != nil {
			return 0, 0, context.Cause(ctx)
		}
		l, err := server.Drive([]*server.Server{s.Server}, conns, b.round, request, func(_, status int, body []byte) error {
			if status != want {
				return fmt.Errorf("answered %d, want %d: %.200s", status, want, body)
			}
			return nil
		})
		if err != nil {
			return 0, 0, err
		}
		cpus, rates = append(cpus, float64(l.CPU.Nanoseconds())/1e3), append(rates, l.Rate)
	}
	return suite.Median(cpus[1:]), suite.Median(rates[1:]), nil // the first warms up
}

// same is a request that is always the same.
func same(request []byte) func(int) []byte { return func(int) []byte { return request } }

// insert has each connection insert so many killmails, and tells the processor time for each and the rate.
func (b *bench) insert(s *served, conns, each int, next func() []byte) (cpu, rate float64, err error) {
	var cpus, rates []float64
	for range b.Rounds {
		requests := make([][][]byte, conns)
		for range each {
			for i := range requests {
				requests[i] = append(requests[i], server.Post("/api/killmails", s.token, next()))
			}
		}
		used := s.CPU()
		r, err := server.Each(s.Server, requests, 201)
		if err != nil {
			return 0, 0, err
		}
		cpus = append(cpus, float64((s.CPU()-used).Nanoseconds())/1e3/float64(conns*each))
		rates = append(rates, r)
	}
	return suite.Median(cpus), suite.Median(rates), nil
}
