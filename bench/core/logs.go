package main

import (
	"fmt"

	"killfeed"
	"killfeed/bench/internal/killmails"
)

// hotSystems are the ten busiest systems.
func hotSystems() (ids []uint32, topics []killfeed.Topic) {
	m := killmails.New()
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
