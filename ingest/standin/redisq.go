package standin

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// memory is how long RedisQ keeps a queue that is not asked for, and a package.
	memory = 3 * time.Hour
	// maxQueues bounds the queues; a further one is answered 503.
	maxQueues = 10_000
)

// queues are RedisQ's. A queue is a place in the feed: nothing is copied.
type queues struct {
	mu   sync.Mutex // guards the rest
	byID map[string]*queue
}

type queue struct {
	next int // index of the slot that comes next
	busy bool
	// ends is when it is forgotten.
	ends time.Time
}

// take finds or makes a queue and marks it busy. Without one it gives the status to answer.
func (qs *queues) take(id string, now time.Time, published int) (*queue, int) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q := qs.byID[id]
	switch {
	case q != nil && q.busy:
		return nil, http.StatusTooManyRequests
	case q != nil && !now.Before(q.ends):
		q.next = published
	case q == nil:
		if len(qs.byID) >= maxQueues {
			for id, q := range qs.byID {
				if !q.busy && !now.Before(q.ends) {
					delete(qs.byID, id)
				}
			}
			if len(qs.byID) >= maxQueues {
				return nil, http.StatusServiceUnavailable
			}
		}
		q = &queue{next: published}
		qs.byID[id] = q
	}
	q.busy = true
	return q, 0
}

func (qs *queues) release(q *queue, ends time.Time) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q.busy, q.ends = false, ends
}

// listen is listen.php: the next package of a queue, when it comes within ttw. Handing it out is the acknowledgement.
func (s *Server) listen(q *request) answer {
	query := q.URL.Query()
	if query.Get("filter") != "" {
		return redisAnswer(http.StatusBadRequest, []byte(`{"error":"the stand-in has no filters"}`))
	}
	id := strings.TrimSpace(query.Get("queueID"))
	if id == "" {
		return redisAnswer(http.StatusTooManyRequests, nil)
	}
	queue, status := s.queues.take(id, q.now, s.feed.published())
	if queue == nil {
		return redisAnswer(status, nil)
	}
	ttw := time.Duration(clamp(query.Get("ttw"), 10, 10)) * time.Second
	ttl := time.Duration(clamp(query.Get("ttl"), int(memory/time.Second), int(memory/time.Second))) * time.Second
	defer func() { s.queues.release(queue, s.config.Clock.Now().Add(ttl)) }()

	until := q.now.Add(ttw)
	slot := s.feed.next(q.Context(), s.closing, queue.next, until)
	if slot != nil && q.Context().Err() == nil {
		queue.next++ // ours as long as it is busy
	}
	switch {
	case s.config.RedisQ.Redirect:
		object := "null"
		if slot != nil {
			object = objectID(slot.number)
		}
		a := redisAnswer(http.StatusFound, nil)
		a.header.Set("Location", "/object.php?objectID="+object)
		return a
	case slot == nil:
		return noPackage()
	}
	return s.packed(slot)
}

// object is object.php: the package of an id, or none.
func (s *Server) object(q *request) answer {
	id := q.URL.Query().Get("objectID")
	if id == "null" {
		return noPackage()
	}
	number, err := strconv.ParseInt(id, 16, 64)
	if err != nil || id != objectID(number) {
		return redisAnswer(http.StatusNotFound, nil)
	}
	now := s.feed.lock()
	var found *slot
	if i := number - s.feed.first; i >= 0 && i < int64(len(s.feed.slots)) && now.Sub(s.feed.slots[i].published) < memory {
		found = s.feed.slots[i]
	}
	s.feed.mu.Unlock()
	if found == nil {
		return redisAnswer(http.StatusNotFound, nil)
	}
	a := s.packed(found)
	a.header.Set("Cache-Control", "public, max-age=10800")
	return a
}

func objectID(number int64) string { return fmt.Sprintf("%024x", number) }

func noPackage() answer { return redisAnswer(http.StatusOK, []byte(`{"package":null}`)) }

// packed is a killmail as RedisQ sends it.
func (s *Server) packed(slot *slot) answer {
	m, zkb := slot.mail, s.zkb(slot)
	body := slices.Grow([]byte(nil), len(m.ESI)+len(zkb)+80)
	body = strconv.AppendInt(append(body, `{"package":{"killID":`...), m.ID, 10)
	if !s.config.RedisQ.NoKillmail {
		body = append(append(body, `,"killmail":`...), m.ESI...)
	}
	body = append(append(body, `,"zkb":`...), zkb...)
	return redisAnswer(http.StatusOK, append(body, "}}"...))
}

// zkb is the newest zkb of a number.
func (s *Server) zkb(slot *slot) []byte {
	if labels := s.feed.latest(slot).labels; len(labels) > 0 {
		return relabelled(slot.mail.ZKB, labels)
	}
	return slot.mail.ZKB
}

func redisAnswer(status int, body []byte) answer {
	a := newAnswer(status, "application/json", body)
	a.header.Set("Access-Control-Allow-Origin", "*")
	return a
}

// clamp is a parameter from 1 to most; what is no integer is the default.
func clamp(text string, standard, most int) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		n = standard
	}
	return max(1, min(n, most))
}
