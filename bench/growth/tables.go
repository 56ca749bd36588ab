package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
	"killfeed/storetest"
)

// stored measures the same work on longer and longer logs.
func stored(ctx context.Context, b *bench) (suite.Table, error) {
	t := suite.Table{
		Name: "stored", Title: "Events stored: server CPU for each request, us",
		Columns: []string{"events", "next, nothing new", "next with an event", "poll of 100 of the newest 1,000", "poll of the oldest 100", "insert",
			"open, s", "resident, MB", "disk, MB"},
		Drawn: []int{1, 2, 3, 4, 5}, Unit: "us",
		Note: fmt.Sprintf("Killmails of %d bytes, ten systems a client. A read costs what it returns: positions are found in the index, which is in memory. "+
			"The oldest events are on disk, and their blocks are read from there once the engine's cache does not hold all of the log. "+
			"What grows is memory, by the index, and the time to open, in which that is read.", smallBytes),
	}
	for n := 1000; n <= b.Events; n *= 10 {
		suite.Progress("   %d events", n)
		row, err := b.storedRow(ctx, n)
		if err != nil {
			return t, fmt.Errorf("%d events: %w", n, err)
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

func (b *bench) storedRow(ctx context.Context, n int) ([]float64, error) {
	dir, err := b.log(ctx, n)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	s, err := b.serve(ctx, dir)
	if err != nil {
		return nil, err
	}
	open := time.Since(began).Seconds()
	defer s.close()
	select {
	case <-time.After(5 * time.Second): // what opening took is given back
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	resident, disk := float64(s.RSS())/1e6, s.disk()
	ten := busiest(10)
	// Fresh events, so that the newest are those that just came, as in life.
	m := small(firstFresh)
	if err := s.post(m, 1000); err != nil {
		return nil, err
	}
	head, err := s.head()
	if err != nil {
		return nil, err
	}
	for client, to := range map[string]string{"idle": "latest", "new": fmt.Sprint(head - 999), "old": "earliest"} {
		if err := s.seek(client, to, ten); err != nil {
			return nil, err
		}
	}
	row := []float64{float64(n)}
	for _, r := range []struct {
		path string
		want int
	}{
		{"/api/killfeed/next?client_id=idle", 204},
		{"/api/killfeed/next?client_id=new&commit=manual", 200},
		{"/api/killfeed?client_id=new&commit=manual&limit=100", 200},
		{"/api/killfeed?client_id=old&commit=manual&limit=100", 200},
	} {
		cpu, _, err := b.cost(ctx, s, b.conns, r.want, same(server.Get(r.path+"&systems="+list(ten))))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.path, err)
		}
		row = append(row, cpu)
	}
	cpu, _, err := b.insert(s, b.conns, 50, func() []byte { return m.Next().JSON })
	return append(row, cpu, open, resident, disk), err
}

// post inserts n killmails in one request.
func (s *served) post(m *storetest.Maker, n int) error {
	var body []byte
	for range n {
		body = append(append(body, m.Next().JSON...), '\n')
	}
	c, err := server.Dial(s.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	status, answer, err := c.Do(server.Post("/api/killmails", s.token, body))
	if err == nil && status != 201 {
		err = fmt.Errorf("killmails were answered %d: %.200s", status, answer)
	}
	return err
}

// systems measures a client that asks for more and more systems.
func systems(ctx context.Context, b *bench) (suite.Table, error) {
	t := suite.Table{
		Name: "systems", Title: "Systems of a client: server CPU for each request, us",
		Columns: []string{"systems", "next, nothing new", "next with an event", "poll of 100"}, Drawn: []int{1, 2, 3}, Unit: "us",
		Note: "The systems are in the body of a POST. Reading so many numbers and finding the client's place on each is what grows; " +
			"what is returned stays the same.",
	}
	dir, err := b.log(ctx, min(100_000, b.Events))
	if err != nil {
		return t, err
	}
	s, err := b.serve(ctx, dir)
	if err != nil {
		return t, err
	}
	defer s.close()
	for _, n := range []int{1, 10, 100, 1000, 5000} {
		suite.Progress("   %d systems", n)
		ids := busiest(n)
		row := []float64{float64(n)}
		for _, r := range []struct {
			path, client, to string
			want             int
			more             map[string]any
		}{
			{"/api/killfeed/next", "idle", "latest", 204, nil},
			{"/api/killfeed/next", "one", "earliest", 200, map[string]any{"commit": "manual"}},
			{"/api/killfeed", "poll", "earliest", 200, map[string]any{"commit": "manual", "limit": 100}},
		} {
			client := fmt.Sprintf("%s-%d", r.client, n)
			if err := s.seek(client, r.to, ids); err != nil {
				return t, err
			}
			fields := map[string]any{"client_id": client, "systems": ids}
			for k, v := range r.more {
				fields[k] = v
			}
			body, err := json.Marshal(fields)
			if err != nil {
				return t, err
			}
			cpu, _, err := b.cost(ctx, s, b.conns, r.want, same(server.Post(r.path, "", body)))
			if err != nil {
				return t, fmt.Errorf("%s for %d systems: %w", r.path, n, err)
			}
			row = append(row, cpu)
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// clients measures a server that remembers more and more clients, all of which ask in turn.
func clients(ctx context.Context, b *bench) (suite.Table, error) {
	t := suite.Table{
		Name: "clients", Title: "Clients with ten systems each",
		Columns: []string{"clients", "next, nothing new, CPU us", "insert, CPU us", "collect, ms", "resident, MB"}, Drawn: []int{1, 2}, Unit: "us",
		Note: "All clients ask in turn. A client is its name, ten places and when it was last seen, in memory. Beyond what the processor's caches hold, " +
			"finding one takes longer. Collecting looks at the places of all.",
	}
	s, err := b.serve(ctx, "")
	if err != nil {
		return t, err
	}
	defer s.close()
	m := small(firstFresh)
	if err := s.post(m, 1000); err != nil {
		return t, err
	}
	// Nothing happens in the systems that they ask for.
	var quiet []uint32
	for i := range 10 {
		quiet = append(quiet, 31_000_001+uint32(i))
	}
	query := "&start=latest&systems=" + list(quiet)
	path := func(i int) []byte {
		return server.Get(fmt.Sprintf("/api/killfeed/next?client_id=client-%d%s", i, query))
	}
	made := 0
	for n := 1; n <= b.clients; n *= 10 {
		suite.Progress("   %d clients", n)
		var requests [][]byte
		for i := range n {
			requests = append(requests, path(i))
		}
		// Each asks once: that makes it.
		share := make([][][]byte, b.conns)
		for i := made; i < n; i++ {
			share[i%b.conns] = append(share[i%b.conns], requests[i])
		}
		made = n
		if _, err := server.Each(s.Server, share, 204); err != nil {
			return t, err
		}
		var turn atomic.Int64
		read := func(int) []byte { return requests[int(turn.Add(1))%n] }
		next, _, err := b.cost(ctx, s, b.conns, 204, read)
		if err != nil {
			return t, err
		}
		insert, _, err := b.insert(s, b.conns, 20, func() []byte { return m.Next().JSON })
		if err != nil {
			return t, err
		}
		began := time.Now()
		c, err := server.Dial(s.Addr)
		if err != nil {
			return t, err
		}
		status, answer, err := c.Do(server.Post("/api/collect", s.token, nil))
		c.Close()
		if err != nil || status != 200 {
			return t, fmt.Errorf("collect was answered %d %.200s: %w", status, answer, err)
		}
		collect := time.Since(began).Seconds() * 1e3
		t.Rows = append(t.Rows, []float64{float64(n), next, insert, collect, float64(s.RSS()) / 1e6})
	}
	return t, nil
}

// size measures larger and larger killmails.
func size(ctx context.Context, b *bench) (suite.Table, error) {
	t := suite.Table{
		Name: "size", Title: "Size of a killmail",
		Columns: []string{"bytes", "insert, CPU us", "next with an event, CPU us", "inserts/s", "MB/s"}, Drawn: []int{1, 2}, Unit: "us",
		Note: "Up to a few thousand bytes a request costs what it costs without a killmail. Beyond that each byte is read, checked, written " +
			"and sent, and what is inserted is bound by the disk.",
	}
	for _, size := range []int{400, 2_500, 10_000, 100_000, 1_000_000} {
		suite.Progress("   %d bytes", size)
		row, err := b.sizeRow(ctx, size)
		if err != nil {
			return t, fmt.Errorf("%d bytes: %w", size, err)
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

func (b *bench) sizeRow(ctx context.Context, size int) ([]float64, error) {
	s, err := b.serve(ctx, "")
	if err != nil {
		return nil, err
	}
	defer s.close()
	system, id, length := busiest(1)[0], int64(firstFresh), 0
	next := func() []byte {
		id++
		const empty, perItem = 400, 70
		mail := storetest.Mail{
			ID: id, System: system, Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Seed: uint64(id), NoHash: true,
			Victim: storetest.Party{Ship: 587}, Attackers: []storetest.Party{{Ship: 588, FinalBlow: true}}, Items: max(0, (size-empty)/perItem),
		}
		body := mail.AppendJSON(nil)
		length = len(body)
		return body
	}
	// At most 64 MB a round.
	each := max(1, min(100, 64_000_000/size/b.conns))
	cpu, rate, err := b.insert(s, b.conns, each, next)
	if err != nil {
		return nil, err
	}
	if err := s.seek("one", "earliest", []uint32{system}); err != nil {
		return nil, err
	}
	read, _, err := b.cost(ctx, s, min(b.conns, 8), 200, same(server.Get(fmt.Sprintf("/api/killfeed/next?client_id=one&commit=manual&systems=%d", system))))
	return []float64{float64(length), cpu, read, rate, rate * float64(length) / 1e6}, err
}

// rate measures inserts that come at a steady pace, faster and faster.
func rate(ctx context.Context, b *bench) (suite.Table, error) {
	t := suite.Table{
		Name: "rate", Title: "Inserts a second, each a request",
		Columns: []string{"offered/s", "done/s", "p50, ms", "p99, ms", "server CPU each, us"}, Drawn: []int{2, 3}, Unit: "ms",
		Note: "Time runs from the moment that the insert was due, so that waiting for a connection counts. One insert at a time waits for its own " +
			"fsync; the more come together, the more share one, so the cost of each falls until a core is busy.",
	}
	s, err := b.serve(ctx, "")
	if err != nil {
		return t, err
	}
	defer s.close()
	m := killmails.Fresh()
	for _, n := range []int{10, 100, 1000, 2000, 5000, 10_000, 20_000} {
		suite.Progress("   %d a second", n)
		if ctx.Err() != nil {
			return t, context.Cause(ctx)
		}
		row, err := b.paced(s, m, n)
		if err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

// paced inserts for three seconds.
func (b *bench) paced(s *served, m *storetest.Maker, perSecond int) ([]float64, error) {
	const seconds = 3
	requests := make([][]byte, seconds*perSecond)
	for i := range requests {
		requests[i] = server.Post("/api/killmails", s.token, m.Next().JSON)
	}
	took := make([]time.Duration, len(requests))
	errs := make([]error, b.conns)
	var (
		turn atomic.Int64
		wg   sync.WaitGroup
	)
	cpu, start := s.CPU(), time.Now()
	for w := range b.conns {
		wg.Go(func() {
			c, err := server.Dial(s.Addr)
			if err != nil {
				errs[w] = err
				return
			}
			defer c.Close()
			for {
				i := int(turn.Add(1)) - 1
				if i >= len(requests) {
					return
				}
				due := start.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
				time.Sleep(time.Until(due))
				if status, body, err := c.Do(requests[i]); err != nil || status != 201 {
					errs[w] = fmt.Errorf("a killmail was answered %d %.200s: %w", status, body, err)
					return
				}
				took[i] = time.Since(due)
			}
		})
	}
	wg.Wait()
	all := time.Since(start)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.Sort(took)
	at := func(share float64) float64 { return float64(took[int(share*float64(len(took)))].Microseconds()) / 1e3 }
	n := float64(len(requests))
	return []float64{float64(perSecond), n / all.Seconds(), at(0.5), at(0.99), float64((s.CPU() - cpu).Nanoseconds()) / 1e3 / n}, nil
}
