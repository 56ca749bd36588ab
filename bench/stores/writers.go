package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"killfeed"
	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
)

// writers measures durable inserts, one killmail a request, by many writers at once.
func writers(ctx context.Context, b *bench) ([]suite.Result, error) {
	var theirs []*peer
	defer func() {
		for _, p := range theirs {
			p.close()
		}
	}()
	for _, start := range []func() (*peer, error){
		func() (*peer, error) { return b.startKillfeed(ctx, 0) },
		func() (*peer, error) { return b.startRedis(ctx, "always") },
		func() (*peer, error) { return b.startJetStream(ctx) },
	} {
		p, err := start()
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, p)
	}
	ours, redis, jet := theirs[0], theirs[1], theirs[2]
	token, err := killmails.Token(ours.dir)
	if err != nil {
		return nil, err
	}
	m := killmails.Fresh()
	sent := make([]int64, len(theirs)) // bytes of killmails
	// round makes each writer's killmails before, so that making them is not measured.
	round := func(k, each int, request func(writer int, mail *killfeed.Killmail) []byte, send func(writer int, requests [][]byte) error) (cost, error) {
		work := make([][][]byte, b.writers)
		for range each {
			for i := range work {
				mail := m.Next()
				sent[k] += int64(len(mail.JSON))
				work[i] = append(work[i], request(i, mail))
			}
		}
		return timed(theirs[k].Server, each*b.writers, func() error {
			errs := make([]error, b.writers)
			var wg sync.WaitGroup
			for i := range work {
				wg.Go(func() { errs[i] = send(i, work[i]) })
			}
			wg.Wait()
			return errors.Join(errs...)
		})
	}
	httpConns, err := connect(b.writers, func() (*server.Conn, error) { return server.Dial(ours.Addr) })
	if err != nil {
		return nil, err
	}
	redisConns, err := connect(b.writers, func() (*redisConn, error) { return dialRedis(redis.Addr) })
	if err != nil {
		return nil, err
	}
	natsConns, err := connect(b.writers, func() (*natsConn, error) { return dialNATS(jet.Addr) })
	if err != nil {
		return nil, err
	}
	got, err := suite.Turns(ctx, b.Rounds,
		func() (cost, error) {
			return round(0, b.each, func(_ int, k *killfeed.Killmail) []byte { return server.Post("/api/killmails", token, k.JSON) },
				func(i int, requests [][]byte) error {
					for _, r := range requests {
						if status, body, err := httpConns[i].Do(r); err != nil || status != 201 {
							return fmt.Errorf("killfeed answered %d %.200s: %w", status, body, err)
						}
					}
					return nil
				})
		},
		func() (cost, error) {
			return round(1, b.each, func(_ int, k *killfeed.Killmail) []byte {
				return appendCommand(nil, "XADD", killfeed.System(k.SystemID).String(), "*", "k", string(k.JSON))
			}, func(i int, requests [][]byte) error {
				for _, r := range requests {
					if _, err := redisConns[i].do(r, 1); err != nil {
						return err
					}
				}
				return nil
			})
		},
		func() (cost, error) {
			return round(2, max(b.each/5, 1), func(i int, k *killfeed.Killmail) []byte {
				return natsConns[i].publication(fmt.Sprintf("km.%d", k.SystemID), k.JSON)
			}, func(i int, requests [][]byte) error {
				for _, r := range requests {
					if ack, err := natsConns[i].do(r); err != nil || !contains(ack, `"seq":`) {
						return fmt.Errorf("JetStream answered %.200s: %w", ack, err)
					}
				}
				return nil
			})
		},
	)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("durable insert over the loopback interface, %d writers, against ", b.writers)
	lines := []suite.Result{
		against(name+"Redis Streams, appendfsync always, which indexes nothing", got[0], got[1], 1.2),
		against(name+"JetStream, sync always", got[0], got[2], 4.0),
	}
	for i, k := range []int{1, 2} {
		lines[i].Note += fmt.Sprintf("; on disk for each byte of killmails %.2f against %.2f",
			float64(ours.disk())/float64(sent[0]), float64(theirs[k].disk())/float64(sent[k]))
	}
	return lines, nil
}

// connect opens n connections. They end with the servers.
func connect[C interface{ SetDeadline(time.Time) error }](n int, dial func() (C, error)) ([]C, error) {
	conns := make([]C, n)
	for i := range conns {
		c, err := dial()
		if err == nil {
			err = c.SetDeadline(time.Now().Add(time.Hour)) // nothing hangs for ever
		}
		if err != nil {
			return nil, err
		}
		conns[i] = c
	}
	return conns, nil
}
