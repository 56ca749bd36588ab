package socket

import (
	"sync"
	"time"
)

// writers write for all connections of a server, a few at a time.
//
// A goroutine for each connection that has something to say costs more than the writing: it begins with a small stack, which
// grows, by copying, to what reading the log takes, each time. So a few goroutines with stacks that stay take connections from
// a queue, one batch at a time, and never wait for a client. What a socket does not take at once the goroutine that has it goes
// on to write by itself, and another takes its place with the writers; that is the price of a slow client, and only of one.
//
// Connections that have more to write than one batch, which are behind, stand in a queue of their own: those that come back
// after a restart, thousands at once, do not hold up who is live.
type writers struct {
	most int // that work at a time

	mu      sync.Mutex // guards the rest; held for a moment
	live    queue
	behind  queue
	working int
	parked  []*writer // the last one was parked last, and has the warmest stack
	turns   uint
	conns   int // that may have something to write: without any, no writer stays
}

// writer is one of the goroutines.
type writer struct {
	batch Batch
	wake  chan *Conn // cap 1: what a parked one is woken with, nil to end
}

const (
	// idleWriter is how long a writer without work stays.
	idleWriter = 5 * time.Second
	// behindEvery is how often one that is behind has its turn while others are live: each fourth time.
	behindEvery = 4
)

// queue is a first-in first-out list.
type queue struct {
	conns []*Conn
	next  int
}

func (q *queue) len() int { return len(q.conns) - q.next }

func (q *queue) push(c *Conn) { q.conns = append(q.conns, c) }

func (q *queue) pop() *Conn {
	c := q.conns[q.next]
	q.conns[q.next] = nil
	if q.next++; q.next == len(q.conns) {
		q.conns, q.next = q.conns[:0], 0
		if cap(q.conns) > 4096 {
			q.conns = nil
		}
	}
	return c
}

// add queues a connection.
func (w *writers) add(c *Conn, behind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.working < w.most {
		w.working++
		w.start(c)
	} else if behind {
		w.behind.push(c)
	} else {
		w.live.push(c)
	}
}

// start has a parked writer begin with c, or makes one. The caller holds mu and has counted it as working.
func (w *writers) start(c *Conn) {
	n := len(w.parked)
	if n == 0 {
		go w.work(&writer{wake: make(chan *Conn, 1)}, c)
		return
	}
	one := w.parked[n-1]
	w.parked = w.parked[:n-1]
	one.wake <- c
}

// came and went count the connections.
func (w *writers) came() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns++
}

func (w *writers) went() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns--; w.conns > 0 {
		return
	}
	for _, one := range w.parked {
		one.wake <- nil
	}
	clear(w.parked)
	w.parked = w.parked[:0]
}

// take returns the next connection, nil when there is none. The caller holds mu.
func (w *writers) take() *Conn {
	w.turns++
	live, behind := w.live.len() > 0, w.behind.len() > 0
	switch {
	case live && (!behind || w.turns%behindEvery != 0):
		return w.live.pop()
	case behind:
		return w.behind.pop()
	}
	return nil
}

// work is a writer's goroutine.
func (w *writers) work(one *writer, c *Conn) {
	idle := time.NewTimer(idleWriter)
	defer idle.Stop()
	for c != nil {
		more, held := c.turn(&one.batch)
		if held {
			w.leave()
			more = c.finishTurn(&one.batch)
			c = w.enter(one, c, more)
		} else {
			c = w.next(c, more)
		}
		if c != nil {
			continue
		}
		if !w.park(one) {
			return
		}
		idle.Reset(idleWriter)
		select {
		case c = <-one.wake:
		case <-idle.C:
			c = w.unpark(one)
		}
	}
}

// next queues c again when there is more of it, and returns what is to be done next; nil: nothing, and this writer does not
// count as working any more.
func (w *writers) next(c *Conn, more bool) *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if more {
		w.behind.push(c)
	}
	if c = w.take(); c == nil {
		w.working--
	}
	return c
}

// leave makes room for another writer, because this one has to wait for a client.
func (w *writers) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.working--
	if c := w.take(); c != nil {
		w.working++
		w.start(c)
	}
}

// enter is next for a writer that had left.
func (w *writers) enter(one *writer, c *Conn, more bool) *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if more {
		w.behind.push(c)
	}
	if w.working == w.most {
		return nil
	}
	if c = w.take(); c != nil {
		w.working++
	}
	return c
}

// park has a writer wait for work. It returns false when enough of them do, or none is to be expected.
func (w *writers) park(one *writer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.parked) >= w.most || w.conns == 0 {
		return false
	}
	one.batch.reset()
	w.parked = append(w.parked, one)
	return true
}

// unpark ends the waiting, unless work has come meanwhile.
func (w *writers) unpark(one *writer) *Conn {
	w.mu.Lock()
	for i, p := range w.parked {
		if p == one {
			w.parked = append(w.parked[:i], w.parked[i+1:]...)
			w.mu.Unlock()
			return nil
		}
	}
	w.mu.Unlock()
	return <-one.wake // it was taken from the list to be woken
}
