package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"killfeed"
	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// streams is how many systems a consumer reads.
const streams = 10

// batch is how many events it reads at a time.
const batch = 100

// readers measures a consumer that reads 100 events over ten systems which it has not had, and whose place moves with that. Both
// sides have the same killmails of these systems; killfeed has all others beside them.
func readers(ctx context.Context, b *bench) ([]suite.Result, error) {
	ours, err := b.startKillfeed(ctx, b.Events)
	if err != nil {
		return nil, err
	}
	defer ours.close()
	always, err := b.startRedis(ctx, "always")
	if err != nil {
		return nil, err
	}
	defer always.close()
	seldom, err := b.startRedis(ctx, "everysec")
	if err != nil {
		return nil, err
	}
	defer seldom.close()
	w := newWorld(b.Events)
	if err := w.extend(ours); err != nil {
		return nil, err
	}
	for _, r := range []*peer{always, seldom} {
		if err := w.fill(ctx, r); err != nil {
			return nil, err
		}
	}
	c, err := server.Dial(ours.Addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var lines []suite.Result
	for _, end := range []struct {
		name  string
		least float64
		from  killfeed.EventID // first event that the consumer gets
		each  int              // of a stream, at most
		among int              // streams that have any of them
	}{
		{"newest", 2.0, w.newest, batch, w.among},
		{"oldest", 0.5, 1, batch / streams, streams},
	} {
		redis := func(p *peer) func() (cost, error) {
			return func() (cost, error) { return w.consume(p, end.from, end.each, end.among, b.reads) }
		}
		got, err := suite.Turns(ctx, b.Rounds, func() (cost, error) { return w.poll(c, ours.Server, end.from, b.reads) }, redis(always), redis(seldom))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", end.name, err)
		}
		name := fmt.Sprintf("consumer read of the %s %d events over %d systems, %d stored, against Redis XREADGROUP", end.name, batch, streams, b.Events)
		lines = append(lines, against(name, got[0], got[1], end.least),
			against(name+" with appendfsync everysec", got[0], got[2], 0))
	}
	return lines, nil
}

// world is what both sides have.
type world struct {
	events  int       // in the log from the beginning
	begin   time.Time // of those that came later
	systems []uint32
	newest  killfeed.EventID // of the last events of the systems, a batch, the first
	among   int              // streams that have any of that batch
	query   string
}

func newWorld(events int) *world {
	w := &world{events: events, begin: time.Now()}
	m := killmails.New()
	for rank := range streams {
		w.systems = append(w.systems, m.System(rank))
		w.query += fmt.Sprintf("&systems[]=%d", m.System(rank))
	}
	return w
}

// later is how many killmails come while the servers run, so that the newest ones are in killfeed's memory, as in life, and as
// everything is in Redis's.
const later = 2000

// extend inserts them into killfeed.
func (w *world) extend(p *peer) error {
	token, err := killmails.Token(p.dir)
	if err != nil {
		return err
	}
	var body []byte
	m := killmails.FreshOf(w.begin)
	for range later {
		body = append(append(body, m.Next().JSON...), '\n')
	}
	c, err := server.Dial(p.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	status, answer, err := c.Do(server.Post("/api/killmails", token, body))
	if err != nil || status != 201 {
		return fmt.Errorf("killmails were answered %d %.200s: %w", status, answer, err)
	}
	if !bytes.Contains(answer, fmt.Appendf(nil, `"event_id":%d`, w.events+later)) {
		return fmt.Errorf("the log had not %d events before %d more came: %.200s", w.events, later, answer)
	}
	return nil
}

// fill puts the systems' killmails into Redis, each under the number that the log gave it.
func (w *world) fill(ctx context.Context, p *peer) error {
	c, err := dialRedis(p.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	m, all := killmails.New(), w.events+later
	var (
		commands []byte
		n        int
		ids      []killfeed.EventID
		of       []uint32 // their systems
	)
	for id := killfeed.EventID(1); int(id) <= all; id++ {
		if int(id) == w.events+1 {
			m = killmails.FreshOf(w.begin)
		}
		k := m.Next()
		if slices.Contains(w.systems, k.SystemID) {
			commands = appendCommand(commands, "XADD", stream(k.SystemID), entry(id), "k", string(k.JSON))
			ids, of = append(ids, id), append(of, k.SystemID)
			n++
		}
		if n == 500 || int(id) == all && n > 0 {
			if _, err := c.do(commands, n); err != nil {
				return err
			}
			commands, n = commands[:0], 0
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	if len(ids) < 2*batch {
		return fmt.Errorf("%d events are of the systems that are read, which are too few: -events must be more", len(ids))
	}
	w.newest = ids[len(ids)-batch]
	among := slices.Clone(of[len(of)-batch:])
	slices.Sort(among)
	w.among = len(slices.Compact(among))
	return nil
}

func stream(system uint32) string { return fmt.Sprintf("s:%d", system) }

func entry(id killfeed.EventID) string { return fmt.Sprintf("0-%d", id) }

// consume has as many groups read once each from Redis.
func (w *world) consume(p *peer, from killfeed.EventID, each, among, reads int) (cost, error) {
	c, err := dialRedis(p.Addr)
	if err != nil {
		return cost{}, err
	}
	defer c.Close()
	var create, destroy []byte
	requests := [][]byte{}
	for i := range reads {
		group := fmt.Sprintf("g%d", i)
		args := []string{"XREADGROUP", "GROUP", group, "c", "COUNT", fmt.Sprint(each), "STREAMS"}
		for _, s := range w.systems {
			create = appendCommand(create, "XGROUP", "CREATE", stream(s), group, entry(from-1))
			destroy = appendCommand(destroy, "XGROUP", "DESTROY", stream(s), group)
			args = append(args, stream(s))
		}
		for range w.systems {
			args = append(args, ">")
		}
		requests = append(requests, appendCommand(nil, args...))
	}
	if _, err := c.do(create, reads*streams); err != nil {
		return cost{}, err
	}
	found, err := timed(p.Server, reads, func() error {
		for _, r := range requests {
			texts, err := c.do(r, 1)
			if err != nil {
				return err
			}
			// Each stream that has any has its name, and each event its id, one name and one value.
			if want := among + 3*batch; texts != want {
				return fmt.Errorf("redis gave %d strings, and %d events on %d streams are %d", texts, batch, among, want)
			}
		}
		return nil
	})
	if err != nil {
		return cost{}, err
	}
	_, err = c.do(destroy, reads*streams)
	return found, err
}

// poll has as many clients read once each from killfeed.
func (w *world) poll(c *server.Conn, s *server.Server, from killfeed.EventID, reads int) (cost, error) {
	body, err := json.Marshal(map[string]any{"to": fmt.Sprint(from), "systems": w.systems})
	if err != nil {
		return cost{}, err
	}
	var requests [][]byte
	for i := range reads {
		if status, answer, err := c.Do(server.Post(fmt.Sprintf("/api/clients/reader-%d/seek", i), "", body)); err != nil || status != 200 {
			return cost{}, fmt.Errorf("a seek was answered %d %.200s: %w", status, answer, err)
		}
		requests = append(requests, server.Get(fmt.Sprintf("/api/killfeed?client_id=reader-%d&limit=%d%s", i, batch, w.query)))
	}
	return timed(s, reads, func() error {
		for _, r := range requests {
			status, answer, err := c.Do(r)
			if err != nil || status != 200 {
				return fmt.Errorf("a poll was answered %d %.200s: %w", status, answer, err)
			}
			if n := bytes.Count(answer, []byte(`"event_id":`)); n != batch {
				return fmt.Errorf("killfeed gave %d events, want %d", n, batch)
			}
		}
		return nil
	})
}
