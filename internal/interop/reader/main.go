// Command reader tells what this project's own client for Go says: reader BASE calls, or reader BASE stream OPTIONS. It is for the
// tests of killfeed/internal/interop.
//
// With calls each command is one, and its answer a line. A stream tells its events; where its options have step it waits behind each
// for a command: go, commit, or leave. A command close ends its context.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"killfeed/client"
)

// command is a line of the standard input, or the options of a stream.
type command struct {
	Do       string          `json:"do"`
	ClientID string          `json:"client_id"`
	Systems  []uint32        `json:"systems"`
	Topics   []string        `json:"topics"`
	Start    string          `json:"start"`
	After    json.RawMessage `json:"after"`
	Limit    int             `json:"limit"`
	Wait     float64         `json:"wait"`
	Commit   string          `json:"commit"`
	Filter   string          `json:"filter"`
	Fields   []string        `json:"fields"`
	EventID  json.RawMessage `json:"event_id"`
	To       json.RawMessage `json:"to"`
	Step     bool            `json:"step"`
}

// text is what stands in a JSON string or number.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func (c *command) on() client.Selection {
	return client.Selection{Systems: c.Systems, Topics: c.Topics}
}

func (c *command) read() client.Read {
	return client.Read{Selection: c.on(), ClientID: c.ClientID, After: text(c.After), Start: c.Start, Filter: c.Filter, Fields: c.Fields}
}

// line is what is said: its members, and what happened.
type line map[string]any

func say(on string, l line) {
	if l == nil {
		l = line{}
	}
	l["on"] = on
	if err := json.NewEncoder(os.Stdout).Encode(l); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func gapOf(g *client.Gap) any {
	switch {
	case g == nil:
		return nil
	case g.From == 0:
		return line{"reason": g.Reason}
	}
	return line{"reason": g.Reason, "from": g.From, "to": g.To}
}

func fail(err error) {
	var p *client.ProblemError
	switch {
	case errors.Is(err, client.ErrReplaced):
		say("replaced", nil)
	case errors.Is(err, context.Canceled):
		say("end", nil)
	case errors.As(err, &p):
		say("problem", line{"status": p.Status, "detail": p.Detail, "parameter": p.Parameter, "value": p.Value, "accepted": p.Accepted})
	default:
		say("error", line{"reason": err.Error()})
	}
}

// call makes the call that a command names.
func call(ctx context.Context, feed *client.Client, c *command) (line, error) {
	poll := client.PollOptions{Read: c.read(), Limit: c.Limit, Wait: time.Duration(c.Wait * float64(time.Second)), Manual: c.Commit == "manual"}
	place := func(p *client.Place, err error) (line, error) {
		return line{"client_id": p.ClientID, "offsets": p.Offsets, "lag": p.Lag}, err
	}
	switch c.Do {
	case "poll":
		page, err := feed.Poll(ctx, poll)
		if err != nil {
			return nil, err
		}
		l, ids := line{"head": page.Head, "epoch": page.Epoch, "more": page.More, "next": page.Next, "gap": gapOf(page.Gap)}, []uint64{}
		for _, e := range page.Events {
			ids = append(ids, e.ID)
		}
		if l["ids"] = ids; len(ids) > 0 {
			l["first"] = page.Events[0].Killmail
		}
		return l, nil
	case "next":
		found, err := feed.Next(ctx, poll)
		if err != nil {
			return nil, err
		}
		ids := []uint64{}
		if found.Event != nil {
			ids = append(ids, found.Event.ID)
		}
		return line{"ids": ids, "gap": gapOf(found.Gap), "more": found.More}, nil
	case "commit":
		offsets, err := feed.Commit(ctx, c.ClientID, text(c.EventID), c.on())
		return line{"offsets": offsets}, err
	case "seek":
		return place(feed.Seek(ctx, c.ClientID, text(c.To), c.on()))
	case "place":
		return place(feed.Place(ctx, c.ClientID))
	}
	return nil, fmt.Errorf("there is no call %q", c.Do)
}

// follow tells the events of a stream, until it is left.
func follow(ctx context.Context, feed *client.Client, c *command, steps <-chan string) error {
	stream := feed.Stream(client.StreamOptions{Read: c.read(), Manual: c.Commit == "manual",
		OnGap: func(g client.Gap) {
			l, _ := gapOf(&g).(line)
			say("gap", l)
		},
		OnRetry: func(err error, _ time.Duration) { say("retry", line{"reason": err.Error()}) },
	})
	for event, err := range stream.Events(ctx) {
		if err != nil {
			return err
		}
		say("event", line{"event_id": event.ID, "cursor": event.Cursor})
		if !c.Step {
			continue
		}
		switch <-steps {
		case "leave":
			return nil
		case "commit":
			if err := stream.Commit(ctx); err != nil {
				return err
			}
			say("committed", nil)
		}
	}
	return nil
}

func run() error {
	feed, err := client.New(os.Args[1], client.Options{UserAgent: "interop/1 (tests)"})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	lines := bufio.NewScanner(os.Stdin)
	if os.Args[2] == "calls" {
		for lines.Scan() {
			var c command
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				return err
			}
			if l, err := call(ctx, feed, &c); err != nil {
				fail(err)
			} else {
				say(c.Do, l)
			}
		}
		return lines.Err()
	}
	var options command
	if err := json.Unmarshal([]byte(os.Args[3]), &options); err != nil {
		return err
	}
	steps := make(chan string, 1)
	go func() { // ends with the process: a read of standard input cannot be ended
		for lines.Scan() {
			var c command
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				panic(err)
			}
			if c.Do == "close" {
				cancel()
			} else {
				steps <- c.Do
			}
		}
	}()
	if err := follow(ctx, feed, &options, steps); err != nil {
		fail(err)
		return nil
	}
	say("end", nil)
	return nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: reader BASE calls|stream [OPTIONS]")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
