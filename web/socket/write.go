package socket

import (
	"errors"
	"os"
	"time"
)

// turn pulls one batch and writes what the socket takes of it at once. It returns false when the writer is done with the
// connection for now; held: the socket did not take all, and finishTurn waits for it.
func (c *Conn) turn(b *Batch) (more, held bool) {
	b.reset()
	if c.held {
		b.most = heldMessages
	}
	c.mu.Lock()
	c.woken = false
	if len(c.first) > 0 {
		b.raw(c.first)
		c.first = nil
	}
	closing, done := c.closing, c.done
	c.mu.Unlock()
	if done {
		return c.rest(), false
	}
	if err := c.guarded(func() error { b.pulled = c.handler.Pull(b, closing != nil); return nil }); err != nil {
		b.reset()
		closing = err.(*CloseError)
		c.Close(closing)
	}
	c.pulled()
	switch b.closing = closing; {
	case closing != nil && c.framed:
		b.raw(appendClose(nil, closing))
	case closing == nil && b.Size() == 0:
		return c.rest(), false
	}
	if n, err := c.tryWrite(b.bytes); err != nil {
		return c.settle(b, nil, err), false
	} else if b.written = n; n < b.Size() {
		return true, true
	}
	c.held = false
	return c.settle(b, nil, nil), false
}

// finishTurn writes the rest of the batch, however long the client takes for it.
func (c *Conn) finishTurn(b *Batch) (more bool) {
	c.held = true
	b.cut()
	slow, err := c.flush(b)
	return c.settle(b, slow, err)
}

// settle is what follows the writing of a batch. It returns whether there is more to write.
func (c *Conn) settle(b *Batch, slow *CloseError, err error) (more bool) {
	c.wrote.Store(c.server.at(time.Now()))
	switch {
	case err != nil:
		c.stop(nil)
	case slow != nil:
		c.stop(slow)
	case b.closing != nil:
		c.stop(b.closing)
	case b.pulled:
		if err := c.guarded(func() error { c.handler.Written(); return nil }); err != nil {
			c.Close(err.(*CloseError))
		}
		return true
	default:
		return true
	}
	return c.rest()
}

// rest lets go of the connection, unless something came up meanwhile.
func (c *Conn) rest() (more bool) {
	c.mu.Lock()
	if c.woken && !c.done {
		c.mu.Unlock()
		return true
	}
	c.pumping = false
	last := c.read
	c.mu.Unlock()
	if last {
		c.end()
	}
	return false
}

// stop is what follows the last write: with a close frame the client's answer to it, for which the reader waits a while, and
// without one the end.
func (c *Conn) stop(frame *CloseError) {
	c.mu.Lock()
	c.done = true
	if frame != nil {
		c.code = frame.Code
	}
	answered := frame == nil || frame.echo || c.read || !c.framed
	c.room.Broadcast()
	c.mu.Unlock()
	if answered {
		c.conn.Close()
	} else {
		c.conn.SetReadDeadline(time.Now().Add(grace))
	}
}

// waited is how long a write takes that had to wait for the client. A quicker one may have gone to the system's buffers alone, and
// tells nothing of the client.
const waited = time.Second

// flush writes the rest of the batch. A client that takes nothing for too long is told so, if it comes back to reading at the
// last moment: slow is then what was written as the close frame.
func (c *Conn) flush(b *Batch) (slow *CloseError, err error) {
	if c.sealed {
		return nil, c.flushSealed(b)
	}
	begun := time.Now()
	defer c.writing.Store(0)
	for b.written < b.Size() {
		c.writing.Store(c.server.at(begun))
		n, err := c.conn.Write(b.rest())
		if n > 0 && time.Since(begun) >= waited {
			c.took()
		}
		if b.written += n; err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		if n == 0 && time.Since(begun) >= c.server.options.Slow {
			return c.tooSlow(b)
		}
		if n > 0 {
			begun = time.Now()
		}
		if !c.goOn() {
			return nil, err
		}
	}
	return nil, nil
}

// sealedPiece is what a client has Options.Slow for over TLS, in bytes.
const sealedPiece = 16 << 10

// flushSealed is flush over TLS. When a deadline passes in a write there, every further one fails at once: to look in between
// whether the client takes anything, as flush does, would end the connection, and going on would be a loop that only burns time.
// So each piece has all the time that a client has, and who does not take it is cut off, without a close frame.
func (c *Conn) flushSealed(b *Batch) error {
	defer c.writing.Store(0)
	for b.written < b.Size() {
		begun := time.Now()
		c.writing.Store(c.server.at(begun))
		if !c.sealedDeadline(begun.Add(c.server.options.Slow)) {
			return os.ErrDeadlineExceeded
		}
		rest := b.rest()
		n, err := c.conn.Write(rest[:min(len(rest), sealedPiece)])
		b.written += n
		if err != nil {
			return err
		}
		if time.Since(begun) >= waited {
			c.took()
		}
	}
	c.sealedDeadline(time.Time{})
	return nil
}

// sealedDeadline sets the deadline for a piece, unless the connection is about to be closed: that has one of its own. It returns
// false when that is over.
func (c *Conn) sealedDeadline(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil {
		return time.Now().Before(c.until)
	}
	c.conn.SetWriteDeadline(at)
	return true
}

// tooSlow closes the connection of a client that took nothing for too long: behind the frame that was begun.
func (c *Conn) tooSlow(b *Batch) (slow *CloseError, err error) {
	if !c.framed {
		return nil, os.ErrDeadlineExceeded
	}
	c.writing.Store(0) // Look has done what it can: from here on the deadline is that of Close
	slow = &CloseError{Code: TryAgainLater, Reason: "nothing was taken for " + c.server.options.Slow.String()}
	c.Close(slow)
	if !c.goOn() {
		return nil, os.ErrDeadlineExceeded
	}
	if _, err := c.conn.Write(appendClose(b.restOfFrame(), slow)); err != nil {
		return nil, err
	}
	return slow, nil
}

// goOn sets the deadline anew after Look or Close had it pass. It returns false when the time is over in which the connection
// was to be closed.
func (c *Conn) goOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil && !time.Now().Before(c.until) {
		return false
	}
	c.conn.SetWriteDeadline(c.until) // zero, which is none, unless it is to be closed
	return true
}
