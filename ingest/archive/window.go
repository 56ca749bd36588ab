package archive

import "io"

// window is the part of a stream that is being looked at: a buffer that grows as far as it is asked to see, and forgets what
// was skipped. It is for one goroutine.
type window struct {
	src  io.Reader
	buf  []byte
	r, w int
	// off is the position of buf[r] in the stream.
	off int64
	// err is how the stream ended; io.EOF when it did so properly.
	err error
}

// reset begins with another stream, and keeps the buffer.
func (w *window) reset(src io.Reader) {
	if w.buf == nil {
		w.buf = make([]byte, rawSize)
	}
	w.src, w.r, w.w, w.off, w.err = src, 0, 0, 0, nil
}

// hold makes data the whole stream. The window must not be reset to another stream afterwards.
func (w *window) hold(data []byte) {
	*w = window{buf: data, w: len(data), err: io.EOF}
}

// bytes is what can be seen at present. It is valid until the next call of more or Read.
func (w *window) bytes() []byte { return w.buf[w.r:w.w] }

// more makes at least one more byte visible, behind those that are. False: there is none, and err tells why.
func (w *window) more() bool {
	if w.err != nil {
		return false
	}
	if w.r == w.w {
		w.r, w.w = 0, 0
	}
	if w.w == len(w.buf) {
		to := w.buf
		if w.w-w.r > len(w.buf)/2 {
			to = make([]byte, 2*len(w.buf))
		}
		w.w = copy(to, w.buf[w.r:w.w])
		w.r, w.buf = 0, to
	}
	for range 100 {
		n, err := w.src.Read(w.buf[w.w:])
		w.w += n
		w.err = err
		if n > 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
	w.err = io.ErrNoProgress
	return false
}

// want makes n bytes visible, or as many as there are.
func (w *window) want(n int) []byte {
	for w.w-w.r < n && w.more() {
	}
	return w.bytes()
}

// skip forgets the first n visible bytes.
func (w *window) skip(n int) {
	w.r += n
	w.off += int64(n)
}

// Read takes bytes out as any io.Reader does.
func (w *window) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if w.r == w.w && !w.more() {
		return 0, w.err
	}
	n := copy(b, w.bytes())
	w.skip(n)
	return n, nil
}
