package archive

import (
	"bufio"
	"compress/bzip2"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
)

const (
	// chunkSize and chunkCount bound what is decompressed ahead of the reader: 1 MiB, enough to keep both goroutines
	// busy over an uneven stretch, and small beside everything else.
	chunkSize  = 256 << 10
	chunkCount = 4
	// rawSize is how much is read from a file at a time.
	rawSize = 64 << 10
)

// pump decompresses the files of a Reader, one after the other and across their borders, in a goroutine of its own, ahead
// of the one that takes the documents apart. Decompression is what importing waits for (bzip2 gives some 20 to 40 MB/s), so
// nothing else may hold it up.
type pump struct {
	wg   sync.WaitGroup
	out  chan chunk  // closed when all files are read or the context has ended
	free chan []byte // chunk buffers that are not in use
	made int         // how many there are: the goroutine's

	// The rest belongs to the consumer.
	cur  chunk // the chunk being read; cur.file is nil before the first
	rest []byte
}

// chunk is a piece of a decompressed file.
type chunk struct {
	file *file
	data []byte
	// err is set in the last chunk of each file, and only there: io.EOF, or a *rawError.
	err error
}

// file is what both goroutines know of a file being read.
type file struct {
	source
	// packed tells whether the file is compressed. Set before its first chunk is sent.
	packed bool
	// unwanted is set by the consumer when it has no use for the rest.
	unwanted atomic.Bool
}

// newPump starts the pump. It ends when everything is read or when ctx ends; wg waits for it.
func newPump(ctx context.Context, r *Reader) *pump {
	p := &pump{out: make(chan chunk, chunkCount), free: make(chan []byte, chunkCount)}
	p.wg.Go(func() {
		defer close(p.out)
		d := decompressor{raw: bufio.NewReaderSize(nil, rawSize)}
		for _, path := range r.paths {
			err := r.walk(ctx, path, func(s source) error { return p.pour(ctx, r, &d, &file{source: s}) })
			if ctx.Err() != nil {
				return
			}
			if err != nil { // it was there when New looked
				f := &file{source: source{name: printable(path), err: err}}
				if p.pour(ctx, r, &d, f) != nil {
					return
				}
			}
		}
	})
	return p
}

// pour sends one file. It fails only when ctx has ended.
func (p *pump) pour(ctx context.Context, r *Reader, d *decompressor, f *file) error {
	in, err := f.start(ctx)
	if err != nil {
		return p.send(ctx, chunk{file: f, err: &rawError{err, -1, false}})
	}
	defer in.Close()

	count := counter{in: in, total: &r.bytes}
	defer func() {
		if f.size > count.n { // what is not read is done with as well
			r.bytes.Add(f.size - count.n)
		}
	}()
	dec, err := d.reset(&count)
	f.packed = d.packed
	for err == nil && !f.unwanted.Load() {
		buf := p.buffer(ctx)
		if buf == nil {
			return ctx.Err()
		}
		var n int
		// What comes from a pipe goes on at once; what comes from a file goes on in full chunks.
		for n < len(buf) && err == nil && (n == 0 || f.size >= 0) {
			var m int
			m, err = dec.Read(buf[n:])
			n += m
		}
		c := chunk{file: f, data: buf[:n]}
		if err != nil {
			c.err = count.explain(err)
		}
		if sent := p.send(ctx, c); sent != nil || err != nil {
			return sent
		}
	}
	if err == nil {
		err = io.EOF
	}
	return p.send(ctx, chunk{file: f, err: count.explain(err)})
}

// buffer gives the buffer of a chunk, when one is free; nil when ctx has ended. Small inputs need one or two.
func (p *pump) buffer(ctx context.Context) []byte {
	if p.made < chunkCount && len(p.free) == 0 {
		p.made++
		return make([]byte, chunkSize)
	}
	select {
	case buf := <-p.free:
		return buf
	case <-ctx.Done():
		return nil
	}
}

func (p *pump) send(ctx context.Context, c chunk) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case p.out <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next goes to the next file, and passes over what is left of the present one. False: there is none, or the context ended.
func (p *pump) next() bool {
	for p.cur.file != nil && p.cur.err == nil {
		if !p.receive() {
			return false
		}
	}
	return p.receive()
}

func (p *pump) receive() bool {
	if p.cur.data != nil {
		p.free <- p.cur.data[:chunkSize] // never blocks: there are as many places as buffers
	}
	var ok bool
	p.cur, ok = <-p.out
	p.rest = p.cur.data
	return ok
}

// abandon tells that the rest of the present file is not wanted.
func (p *pump) abandon() { p.cur.file.unwanted.Store(true) }

// Read gives the present file's decompressed bytes, then io.EOF or a *rawError.
func (p *pump) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.cur.err != nil {
			return 0, p.cur.err
		}
		if !p.receive() {
			return 0, context.Canceled // the caller asks its context
		}
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// decompressor takes one layer of compression off a file. It is kept from file to file for its buffers.
type decompressor struct {
	raw    *bufio.Reader
	gz     *gzip.Reader
	packed bool
}

// reset returns a reader of in's content. Both kinds go on through concatenated streams.
func (d *decompressor) reset(in io.Reader) (io.Reader, error) {
	d.raw.Reset(in)
	magic, _ := d.raw.Peek(3) // an error comes again with the first read
	d.packed = true
	switch {
	case isGzip(magic):
		if d.gz == nil {
			d.gz = new(gzip.Reader)
		}
		return d.gz, d.gz.Reset(d.raw)
	case isBzip2(magic):
		return bzip2.NewReader(d.raw), nil
	}
	d.packed = false
	return d.raw, nil
}

func isGzip(b []byte) bool  { return len(b) >= 2 && b[0] == 0x1f && b[1] == 0x8b }
func isBzip2(b []byte) bool { return len(b) >= 3 && string(b[:3]) == "BZh" }

// counter counts the bytes of one file as they are read, and adds them to the total.
type counter struct {
	in    io.Reader
	n     int64
	total *atomic.Int64
	// err is the last error of in itself, as opposed to what a decompressor makes of it.
	err error
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.in.Read(b)
	c.n += int64(n)
	c.total.Add(int64(n))
	c.err = err
	return n, err
}

// explain makes the error of a chunk from that of a decompressor.
func (c *counter) explain(err error) error {
	switch {
	case err == io.EOF:
		return io.EOF
	case c.err != nil && c.err != io.EOF: // the disk or the pipe
		return &rawError{c.err, c.n, false}
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errTruncated
	}
	return &rawError{err, c.n, true}
}

var errTruncated = errors.New("file is truncated: the compressed data ends too early")
