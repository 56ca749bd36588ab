// Package archive reads stored killmails: whole days, years or single losses, whatever they are packed in, as one stream of
// JSON documents.
//
// # What it promises
//
// Order: items come in the order in which they stand in a file, files in the order of the paths, and the files of a
// directory in lexical order.
//
// Completeness: everything before a damage is handed out. A corrupt line or a corrupt member of a tar archive costs one item
// and the reading goes on; a corrupt or truncated file costs its rest, the next file is read all the same, and the error
// that Read returns in the end names the file, the position and what to do. Nothing is left out in silence, except what is
// no killmail by its name (see below), and that is counted.
//
// Bounds: memory does not grow with the size of a file, of a document or of what a file unpacks to. No item is larger than
// Options.MaxItem. Nothing is ever written; the names inside archives serve for messages only.
//
// What callers owe: an item is raw bytes, not a checked killmail. It may be no JSON at all, which is for the parser of
// killmails to refuse and count; so there is one judge of what a killmail is.
//
// # What it reads
//
// The format is found by content, never by name:
//
//	gzip, bzip2     one layer around any of the following; several in a row are one
//	tar             each regular member as below, but not compressed; several archives in a row are one
//	{…} {…}         killmails one after the other, with or without line ends between: JSONL, NDJSON, a single document
//	[{…},{…}]       an array of killmails; [] is an empty day
//	{"97030352":{…}} an object of killmails by id, as zKillboard's history/raw
//
// Blank lines, CRLF, a byte order mark and a missing last line end are all well. In directories, which are walked to the
// bottom, names choose the files to take: .json, .jsonl, .ndjson (also with .gz or .bz2 behind), .tar, .tar.gz, .tgz and
// .tar.bz2. Other files and hidden ones are passed over and counted, and so are other members of tar archives unless
// their content looks like JSON. Links to directories are not followed.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// Item is one document of an archive.
type Item struct {
	// Name is where the document stood, for messages: "day.tar.bz2/killmails/97030352.json", "file.jsonl:17" (the line it
	// begins on), "page.json[3]" (counted from 0) or "20211130.json/97030352". It holds no control characters.
	Name string
	// Data is the document without white space around it, at most Options.MaxItem bytes. It belongs to the receiver. It
	// need not be JSON.
	Data []byte
	// Err, when not nil, says why the document could not be read; Data is nil then. The archive goes on.
	Err error
}

// DefaultMaxItem is the greatest size of one document when Options do not say: 8 MiB. The largest killmail seen in practice
// has 170 KB.
const DefaultMaxItem = 8 << 20

// Options are the settings of a Reader. The zero value is good.
type Options struct {
	// MaxItem is the greatest size of one document in bytes; 0 is DefaultMaxItem. Larger ones become items with an error.
	MaxItem int
	// Stdin is what the path "-" reads. Without it "-" is refused.
	Stdin io.Reader
}

// ErrTooLarge is wrapped by the Err of items above Options.MaxItem.
var ErrTooLarge = errors.New("document is too large")

// Reader reads the killmails of a list of files and directories. Make it with New.
type Reader struct {
	paths []string
	opts  Options

	started atomic.Bool
	// total is the number of bytes to read, -1 when not known. Written by New only.
	total int64
	files int64
	// The counters are written while Read runs and may be read at any time.
	bytes, done, failed, passed, items atomic.Int64
}

// Progress is how far a Reader has come.
type Progress struct {
	// Bytes of Total have been read from the files, as they are stored (compressed). Total is -1 when it is not known
	// because one of the inputs is a pipe. Bytes runs a little ahead of the items handed out.
	Bytes, Total int64
	// Done of Files have been read, Failed of those not to their end.
	Files, Done, Failed int64
	// Passed is the number of files and archive members that were passed over.
	Passed int64
	// Items is the number of items handed out.
	Items int64
}

// New prepares to read paths: files, directories, or "-" for Options.Stdin. It looks at sizes, so it walks directories, but
// reads no file. A path that does not exist is an error.
func New(ctx context.Context, paths []string, opts Options) (*Reader, error) {
	if opts.MaxItem == 0 {
		opts.MaxItem = DefaultMaxItem
	}
	if opts.MaxItem < 0 {
		return nil, fmt.Errorf("greatest size of a document %d is not accepted: want 1 or more bytes, or 0 for the default",
			opts.MaxItem)
	}
	r := &Reader{paths: paths, opts: opts}
	for _, path := range paths {
		err := r.walk(ctx, path, func(f source) error {
			r.files++
			switch {
			case f.err != nil: // told when its turn comes
			case f.size < 0 || r.total < 0:
				r.total = -1
			default:
				r.total += f.size
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	r.passed.Store(0) // counted again, file by file, when they are read
	return r, nil
}

// Progress may be called at any time by any goroutine.
func (r *Reader) Progress() Progress {
	return Progress{
		Bytes: r.bytes.Load(), Total: r.total,
		Files: r.files, Done: r.done.Load(), Failed: r.failed.Load(),
		Passed: r.passed.Load(),
		Items:  r.items.Load(),
	}
}

// maxErrors bounds the files that the error of Read tells one by one.
const maxErrors = 20

// Read hands every item to yield, one after the other, on the calling goroutine, while another one decompresses ahead. It
// may be called once.
//
// An error of yield ends the reading and is returned as it is. The end of ctx ends it with ctx's cause. Files that could not
// be read, or not to their end, do not end it: they are returned in the end as one or several joined *FileError, after
// everything else was handed out.
//
// When Read returns, whatever it started has ended and all files are closed. One thing is beyond it: a pipe or terminal
// that is waited on, and that cannot be interrupted, keeps one goroutine until its read returns. That goroutine holds
// nothing of the caller's.
func (r *Reader) Read(ctx context.Context, yield func(Item) error) error {
	if r.started.Swap(true) {
		return errors.New("archive is read already: make a new reader to read it again")
	}
	ctx, cancel := context.WithCancel(ctx)
	p := newPump(ctx, r)
	defer p.wg.Wait()
	defer cancel()

	u := unpacker{r: r, p: p}
	u.yield = func(item Item) error {
		if err := ctx.Err(); err != nil {
			return stop{context.Cause(ctx)}
		}
		if len(item.Data) > r.opts.MaxItem {
			item.Data, item.Err = nil, tooLarge(r.opts.MaxItem)
		}
		u.items++
		r.items.Add(1)
		if err := yield(item); err != nil {
			return stop{err}
		}
		return nil
	}

	var failed []error
	for p.next() {
		u.items = 0
		err := u.file()
		if s, ok := errors.AsType[stop](err); ok {
			return s.error
		}
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			if r.failed.Add(1) <= maxErrors {
				failed = append(failed, u.fileError(err))
			}
			p.abandon()
		}
		r.done.Add(1)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if more := r.failed.Load() - maxErrors; more > 0 {
		failed = append(failed, fmt.Errorf("and %d more files could not be read", more))
	}
	if len(failed) == 1 {
		return failed[0]
	}
	return errors.Join(failed...)
}

// stop carries what ends the reading of everything through code that otherwise turns errors into errors of one file.
type stop struct{ error }

func tooLarge(limit int) error {
	return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
}
