package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// unpacker turns the decompressed files of a pump into items, on the goroutine of Read.
type unpacker struct {
	r     *Reader
	p     *pump
	yield func(Item) error // takes an item; its error is a stop

	// items counts those of the present file.
	items int64
	// outer is the window on the present file, held the one on a tar member in memory, inner on one that is too large.
	outer, held, inner window
	split              splitter
}

// file reads the pump's present file.
func (u *unpacker) file() error {
	u.outer.reset(u.p)
	name := u.p.cur.file.name
	head := u.outer.want(blockSize)
	if isTar(head) || isEnd(head) {
		return u.archive(name)
	}
	// A file that is damaged at its very start is reported as that, not as a stranger.
	if what := stranger(head); what != "" && (u.outer.err == nil || u.outer.err == io.EOF) {
		return misfit{"the file is " + what, "want tar, JSON or JSONL, plain or packed once with gzip or bzip2"}
	}
	return u.json(&u.outer, name)
}

func (u *unpacker) json(in *window, name string) error {
	u.split.in, u.split.name, u.split.max, u.split.yield = in, name, u.r.opts.MaxItem, u.yield
	return u.split.run()
}

// blockSize is tar's: headers and padding come in it.
const blockSize = 512

// isTar tells whether a file begins with a tar header. Archives from before POSIX have no mark; nobody writes them.
func isTar(b []byte) bool { return len(b) >= blockSize && string(b[257:262]) == "ustar" }

// isEnd tells whether b begins with the block that ends a tar archive; an archive of nothing is that alone.
func isEnd(b []byte) bool { return len(b) >= blockSize && zeros(b[:blockSize]) == blockSize }

// zeros counts the zero bytes that b ends with.
func zeros(b []byte) int { return len(b) - len(bytes.TrimRight(b, "\x00")) }

// archive reads tar archives, one after the other: concatenated day archives are as good as one.
func (u *unpacker) archive(name string) error {
	tail := tarTail{in: &u.outer}
	for {
		t := tar.NewReader(&tail)
		for {
			h, err := t.Next()
			if err == io.EOF {
				break
			}
			if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // paths are never used
				return tarError(err)
			}
			if err := u.member(name, h, t); err != nil {
				return err
			}
		}
		// The end mark is missing after a cut between two members, which nothing else would tell.
		if tail.zeros < blockSize {
			return damage("archive is truncated: it has no end mark")
		}
		for {
			b := bytes.TrimLeft(u.outer.bytes(), "\x00")
			u.outer.skip(len(u.outer.bytes()) - len(b))
			if len(b) > 0 {
				break
			}
			if !u.outer.more() {
				if u.outer.err == io.EOF {
					return nil
				}
				return u.outer.err
			}
		}
		if !isTar(u.outer.want(blockSize)) {
			return damage("archive is followed by something that is no archive")
		}
	}
}

// tarError turns an error of the tar reader into one of ours.
func tarError(err error) error {
	if _, ok := errors.AsType[*rawError](err); ok {
		return err // the pump's, and more to the point
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return damage("archive is truncated: it ends inside a member")
	}
	return damage("archive is corrupt: " + err.Error())
}

// tarTail counts the zero bytes that a tar reader has read last.
type tarTail struct {
	in    *window
	zeros int
}

func (t *tarTail) Read(b []byte) (int, error) {
	n, err := t.in.Read(b)
	if z := zeros(b[:n]); z == n {
		t.zeros += n
	} else {
		t.zeros = z
	}
	return n, err
}

// member reads one member of a tar archive. Its name decides nothing but whether content that is no JSON is a bad killmail
// or something else that happens to be packed along.
func (u *unpacker) member(archive string, h *tar.Header, t *tar.Reader) error {
	if h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse || hidden(path.Base(h.Name)) {
		u.r.passed.Add(1)
		return nil
	}
	name := archive + "/" + printable(h.Name)
	refuse := func(err error) error { return u.yield(Item{Name: name, Err: err}) }
	// A sparse member of a few bytes can unpack to an exabyte of zeros.
	if isSparse(h) {
		return refuse(errors.New("member is a sparse file, which is not read: pack it without holes"))
	}

	var data []byte // the whole member, if it fits
	in := &u.inner
	if h.Size <= int64(u.r.opts.MaxItem) {
		data = make([]byte, h.Size)
		if _, err := io.ReadFull(t, data); err != nil {
			return tarError(err)
		}
		data = bytes.TrimPrefix(data, byteOrderMark)
		in = &u.held
		in.hold(data)
	} else {
		in.reset(t)
	}

	head := in.want(blockSize)
	text := trim(bytes.TrimPrefix(head, byteOrderMark))
	switch {
	case len(text) > 0 && (text[0] == '{' || text[0] == '['):
	case !jsonName(h.Name):
		if isGzip(head) || isBzip2(head) {
			return refuse(errors.New("member is packed once more, which is not read: unpack it first"))
		}
		u.r.passed.Add(1)
		return nil
	case data == nil:
		return refuse(tooLarge(u.r.opts.MaxItem))
	case len(trim(data)) == 0:
		return refuse(errors.New("member is empty"))
	default:
		return u.yield(Item{Name: name, Data: trim(data)})
	}

	// The usual member is one killmail on one line. It goes out as it is.
	if one := trim(data); len(one) > 1 && one[0] == '{' && !byID(one) && bytes.IndexByte(one, '\n') < 0 {
		return u.yield(Item{Name: name, Data: one})
	}
	err := u.json(in, name)
	switch err := err.(type) {
	case misfit:
		return refuse(errors.New(strings.Replace(err.what, "the file", "member", 1)))
	case damage:
		return refuse(errors.New(strings.Replace(string(err), "file", "member", 1)))
	case stop, nil:
		return err
	}
	return tarError(err)
}

// byID tells whether an object on one line may be one of killmails by id.
func byID(object []byte) bool {
	b := bytes.TrimLeft(object[1:], " \t\r")
	return len(b) > 1 && b[0] == '"' && b[1] >= '0' && b[1] <= '9'
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// stranger names what a file is that is neither tar nor text, or "". It is told apart from corrupt JSON because nothing good
// follows.
func stranger(head []byte) string {
	for _, known := range []struct{ magic, what string }{
		{"\x1f\x8b", "packed twice"},
		{"BZh", "packed twice"},
		{"PK\x03\x04", "a zip archive"},
		{"\xfd7zXZ\x00", "packed with xz"},
		{"\x28\xb5\x2f\xfd", "packed with zstd"},
		{"7z\xbc\xaf\x27\x1c", "a 7z archive"},
		{"\xff\xfe", "UTF-16 text, not UTF-8"},
		{"\xfe\xff", "UTF-16 text, not UTF-8"},
	} {
		if bytes.HasPrefix(head, []byte(known.magic)) {
			return known.what
		}
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return "neither an archive nor text"
	}
	if bytes.HasPrefix(trim(head), []byte("<")) {
		return "HTML or XML, perhaps an error page that was saved in its place"
	}
	return ""
}

// fileError says where the present file failed and what to do.
func (u *unpacker) fileError(err error) error {
	f := u.p.cur.file
	e := &FileError{Name: f.name, Items: u.items, Err: err, Hint: hintAgain}
	raw, ok := errors.AsType[*rawError](err)
	switch {
	case ok && raw.at < 0:
		e.Err = raw.err
	case ok && f.size >= 0:
		e.Err, e.Position = raw.err, fmt.Sprintf("near byte %d of %d", raw.at, f.size)
	case ok:
		e.Err, e.Position = raw.err, fmt.Sprintf("near byte %d", raw.at)
	case f.packed:
		e.Position = fmt.Sprintf("at byte %d of what it unpacks to", u.outer.off)
	default:
		e.Position = fmt.Sprintf("at byte %d", u.outer.off)
	}
	if ok && !raw.data {
		e.Hint = hintRead
	}
	if m, ok := errors.AsType[misfit](err); ok {
		e.Position, e.Hint = "", m.hint
	}
	return e
}
