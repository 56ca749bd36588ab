//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/server"
)

// target is a server with WebSocket subscribers: killfeed or the peer. What differs between them stands here, and nowhere else.
type target struct {
	name   string
	server *server.Server
	data   string // its data directory, removed when it is stopped; empty when it has none that is to go

	socket  string // path of the WebSocket
	welcome string // is in the answer to a subscription that was accepted
	beat    string // message that keeps the connection from being given up as silent; empty when none is needed
	beaten  string // is in the answer to it
	number  string // what stands before the number by which deliveries rise by 1
	// join is the message that subscribes to a system's killmails. params are those of a Phoenix join, as JSON.
	join func(system uint32, params string) string
	// post is the request that hands in killmails, one a line.
	post func(lines []byte) []byte
	// accepted checks the answer to it: all n killmails must have been taken.
	accepted func(n, status int, answer []byte) error
}

// killfeed starts killfeed on a log: that in dir, or an empty one of its own.
func (b *bench) killfeed(ctx context.Context, dir string) (_ *target, err error) {
	t := &target{
		name: "killfeed", socket: "/socket/websocket?vsn=2.0.0", welcome: `"status":"ok"`,
		beat: `[null,"b","phoenix","heartbeat",{}]`, beaten: `"phx_reply"`, number: `"event_id":`,
		join: func(system uint32, params string) string {
			return fmt.Sprintf(`["1","1","system:%d","phx_join",%s]`, system, params)
		},
		accepted: inserted,
	}
	if dir == "" {
		if dir, err = os.MkdirTemp(b.Work, "live"); err != nil {
			return nil, err
		}
		t.data = dir
	}
	if t.server, err = server.Serve(ctx, b.Work, b.Killfeed, dir, strings.Fields(b.serveFlags)...); err != nil {
		return nil, errors.Join(err, os.RemoveAll(t.data))
	}
	token, err := killmails.Token(dir)
	if err != nil {
		return nil, errors.Join(err, t.stop())
	}
	t.post = func(lines []byte) []byte { return server.Post("/api/killmails", token, lines) }
	return t, nil
}

// inserted checks what killfeed says of an insertion.
func inserted(n, status int, answer []byte) error {
	var a struct {
		Results []struct {
			EventID   uint64 `json:"event_id"`
			Duplicate bool   `json:"duplicate"`
			Error     string `json:"error"`
		} `json:"results"`
	}
	if err := json.Unmarshal(answer, &a); err != nil || status != 201 || len(a.Results) != n {
		return fmt.Errorf("killfeed answered %d with %d results for %d killmails: %.300s", status, len(a.Results), n, answer)
	}
	for i, r := range a.Results {
		if r.EventID == 0 || r.Duplicate || r.Error != "" {
			return fmt.Errorf("killfeed took killmail %d of %d as %+v", i+1, n, r)
		}
	}
	return nil
}

// centrifuge starts the peer.
func (b *bench) centrifuge(ctx context.Context, flags string) (*target, error) {
	args := append(strings.Fields(flags), "-addr-file")
	s, err := server.Start(ctx, b.Work, b.peer, args...)
	if err != nil {
		return nil, err
	}
	return &target{
		name: "centrifuge", server: s, socket: "/connection/websocket", welcome: `"connect":{`, number: `"killmail_id":`,
		join: func(uint32, string) string { return `{"id":1,"connect":{}}` },
		post: func(lines []byte) []byte { return server.Post("/publish", "", lines) },
		accepted: func(n, status int, answer []byte) error {
			if status != 204 {
				return fmt.Errorf("centrifuge answered %d to %d killmails: %.300s", status, n, answer)
			}
			return nil
		},
	}, nil
}

// stop stops the server, and removes its log when that was its own.
func (t *target) stop() error {
	err := t.server.Stop()
	if t.data != "" {
		err = errors.Join(err, os.RemoveAll(t.data))
	}
	return err
}
