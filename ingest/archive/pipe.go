package archive

import (
	"context"
	"io"
	"time"
)

// start opens the file. Files that may block are read through a pipe, so that the end of ctx is seen while they do.
func (f *file) start(ctx context.Context) (io.ReadCloser, error) {
	switch {
	case f.err != nil:
		return nil, f.err
	case f.size >= 0:
		return f.open()
	}
	return newPipe(ctx, f.open), nil
}

// pipe reads a source that may block for ever: standard input, a named pipe. The blocking calls, opening included, are made
// by a goroutine of the pipe into a buffer of its own, so that it can be left behind where it cannot be interrupted. Read
// and Close are for one goroutine.
type pipe struct {
	done <-chan struct{} // of the context
	ask  chan struct{}   // one for each read wanted; closed by Close
	got  chan piece      // the answer; it has room for one, so a pipe left behind never blocks on it
	over chan struct{}   // closed when the goroutine has ended

	asked bool // an answer is due
	rest  piece
	// opened gives the source once it is open.
	opened chan io.Reader
}

// piece is what a read gave. data is the goroutine's until the next time it is asked.
type piece struct {
	data []byte
	err  error
}

func newPipe(ctx context.Context, open func() (io.ReadCloser, error)) *pipe {
	p := &pipe{
		done: ctx.Done(),
		ask:  make(chan struct{}, 1), got: make(chan piece, 1), over: make(chan struct{}),
		opened: make(chan io.Reader, 1),
	}
	go func() { // ended by Close
		defer close(p.over)
		in, err := open()
		if err != nil {
			for range p.ask {
				p.got <- piece{nil, err}
			}
			return
		}
		defer in.Close()
		p.opened <- in
		buf := make([]byte, rawSize)
		for range p.ask {
			n, err := in.Read(buf)
			p.got <- piece{buf[:n], err}
		}
	}()
	return p
}

// keepOpen is a source that is not ours to close.
type keepOpen struct{ io.Reader }

func (keepOpen) Close() error { return nil }

// interrupt makes a read of in that waits return at once, if it can.
func interrupt(in io.Reader) bool {
	if k, ok := in.(keepOpen); ok {
		in = k.Reader
	}
	d, ok := in.(interface{ SetReadDeadline(time.Time) error })
	return ok && d.SetReadDeadline(time.Unix(1, 0)) == nil
}

func (p *pipe) Read(b []byte) (int, error) {
	if len(p.rest.data) == 0 && p.rest.err == nil {
		p.ask <- struct{}{}
		p.asked = true
		select {
		case p.rest = <-p.got:
			p.asked = false
		case <-p.done:
			return 0, context.Canceled
		}
	}
	n := copy(b, p.rest.data)
	p.rest.data = p.rest.data[n:]
	if len(p.rest.data) > 0 {
		return n, nil
	}
	return n, p.rest.err
}

// Close ends the goroutine and waits for it, unless it is in a call that cannot be interrupted.
func (p *pipe) Close() error {
	close(p.ask)
	if p.asked {
		select {
		case in := <-p.opened:
			if !interrupt(in) {
				return nil // left behind
			}
		default:
			return nil // left behind: it is still opening
		}
	}
	<-p.over
	return nil
}
