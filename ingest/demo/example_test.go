package demo_test

import (
	"fmt"
	"time"

	"killfeed"
	"killfeed/ingest/demo"
)

// A server fills a new log with the last hour, then inserts each killmail when it is due.
func Example() {
	started := time.Date(2026, time.November, 23, 19, 0, 0, 0, time.UTC)
	insert := func(*killfeed.Killmail) {}
	lastOfLog := int64(0) // the killmail id of the log's last event

	g := demo.New(demo.Options{Seed: 1, Now: func() time.Time { return started }, After: lastOfLog})
	if lastOfLog == 0 {
		for _, k := range g.Back(time.Hour) {
			insert(k)
		}
	}
	for range 3 { // or until the server stops
		k, at := g.Next()
		_ = time.Until(at) // wait so long
		insert(k)
		fmt.Println(k.ID > demo.FirstID, k.Time.Before(at), k.Hash != "")
	}
	// Output:
	// true true true
	// true true true
	// true true true
}
