package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"killfeed"
)

// awaitNames waits a little for the names that a post of the events tells.
func (h *Hook) awaitNames(ctx context.Context, events []killfeed.Event) {
	if h.config.Format == Discord || h.config.Names {
		h.lexicon().await(ctx, events, h.config.Names)
	}
}

func (h *Hook) lexicon() lexicon { return lexicon{h.set.feed.Universe(), h.set.names} }

// body is what is posted of the first n events.
func (h *Hook) body(topics []killfeed.Topic, events []killfeed.Event) (body []byte, n int, err error) {
	if h.config.Format == Discord {
		m, n := embeds(h.lexicon(), topics, events)
		body, err = encodeMessage(&m)
		return body, n, err
	}
	if h.config.Batch == 1 {
		return h.set.show(nil, &events[0], h.config.Names), 1, nil
	}
	body = append(body, `{"events":[`...)
	for i := range events {
		if i > 0 {
			body = append(body, ',')
		}
		body = h.set.show(body, &events[i], h.config.Names)
	}
	return append(body, "]}"...), len(events), nil
}

// testBody is what Test posts.
func (h *Hook) testBody(now time.Time) ([]byte, error) {
	if h.config.Format == Discord {
		text := "A test of killfeed's webhook " + escape(h.config.Name) + ": it works, and killmails will come here."
		return encodeMessage(&message{Content: text})
	}
	body, err := json.Marshal(struct {
		Test    bool      `json:"test"`
		Webhook string    `json:"webhook"`
		SentAt  time.Time `json:"sent_at"`
	}{true, h.config.Name, now.UTC().Truncate(time.Millisecond)})
	if err != nil {
		return nil, fmt.Errorf("encoding a test: %w", err)
	}
	return body, nil
}
