// Command phx joins one topic with the Go client github.com/nshafer/phx and prints a JSON line for everything that happens,
// until its standard input ends: phx URL TOPIC PARAMS, the params as a JSON object of strings, which is all it can send.
//
// It is a program of its own, as the scripts are, because the client has data races of its own: in a test with the race
// detector they would be the test's.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/nshafer/phx"
)

func main() {
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "phx:", err)
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments are not accepted: want url, topic and params", len(args))
	}
	endpoint, err := url.Parse(args[0])
	if err != nil {
		return err
	}
	var params map[string]string
	if err := json.Unmarshal([]byte(args[2]), &params); err != nil {
		return fmt.Errorf("params: %w", err)
	}

	var mu sync.Mutex // one line at a time: each callback has a goroutine of its own
	say := func(on string, more map[string]any) {
		line := map[string]any{"on": on}
		for k, v := range more {
			line[k] = v
		}
		mu.Lock()
		defer mu.Unlock()
		_ = json.NewEncoder(os.Stdout).Encode(line) // whoever reads may be gone
	}

	socket := phx.NewSocket(endpoint)
	opened := make(chan struct{}, 1)
	socket.OnOpen(func() {
		select {
		case opened <- struct{}{}:
		default:
		}
	})
	if err := socket.Connect(); err != nil {
		return err
	}
	<-opened
	channel := socket.Channel(args[1], params)
	// It begins to listen for a reply only after it has sent, so it can miss one, and asks again after this time.
	channel.PushTimeout = 2 * time.Second
	channel.On("new_killmail", func(payload any) { say("new_killmail", map[string]any{"payload": payload}) })
	channel.OnJoin(func(response any) { say("joined", map[string]any{"response": response}) })
	if _, err := channel.Join(); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stdin); err != nil {
		return err
	}
	return socket.Disconnect()
}
