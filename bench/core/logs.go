package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// systems is how many solar systems the logs have, the n-th busiest with a share of 1/n.
const systems = 8000

func newMaker() *storetest.Maker {
	return storetest.NewMaker(storetest.MakerOptions{Seed: 1, Systems: systems, Bytes: storetest.TypicalBytes})
}

// log returns the directory of a log with n events of 2.5 KB, making it when it is not there. It was closed cleanly.
func (b *bench) log(ctx context.Context, n int) (string, error) {
	dir := filepath.Join(b.work, fmt.Sprintf("log-%d", n))
	if _, err := os.Stat(filepath.Join(dir, "made")); err == nil {
		return dir, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return "", err
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		return "", err
	}
	m := newMaker()
	for made := 0; made < n; {
		ks := make([]*killfeed.Killmail, min(1000, n-made))
		for i := range ks {
			ks[i] = m.Next()
		}
		if _, err := feed.InsertAll(ctx, ks, 0); err != nil {
			return "", err
		}
		if made += len(ks); made%100_000 == 0 {
			fmt.Fprintf(os.Stderr, "   making a log of %d events: %d\n", n, made)
		}
	}
	if err := feed.Close(); err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "made"), nil, 0o600)
}

// hotSystems are the ten busiest systems.
func hotSystems() (ids []uint32, topics []killfeed.Topic) {
	m := newMaker()
	for rank := range 10 {
		ids = append(ids, m.System(rank))
		topics = append(topics, killfeed.System(m.System(rank)))
	}
	return ids, topics
}

// query is the query string of a read on ten systems.
func query(client int) string {
	ids, _ := hotSystems()
	q := fmt.Sprintf("client_id=bench-%d", client)
	for _, id := range ids {
		q += fmt.Sprintf("&systems[]=%d", id)
	}
	return q
}

func get(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path)
}
