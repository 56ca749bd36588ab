package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// source is one file to read.
type source struct {
	// name is for messages.
	name string
	// size in bytes as stored; -1 when it is not known. Only sources of known size never block in Read.
	size int64
	open func() (io.ReadCloser, error)
	// err says why there is nothing to open.
	err error
}

// walk calls visit for every file below path in the order of reading. It returns an error only when path itself cannot be
// had, when visit fails or when ctx ends; trouble further down becomes a source with an error.
//
// Directories are walked once for the sizes and once for reading, rather than once into a list: a list of a million single
// killmails would take more memory than all the rest.
func (r *Reader) walk(ctx context.Context, path string, visit func(source) error) error {
	if path == "-" {
		return r.walkStdin(visit)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("archive cannot be read: %w", err) // names the operation and the path
	}
	if info.IsDir() {
		return r.walkDir(ctx, path, visit)
	}
	return visit(fileSource(path, info))
}

func fileSource(path string, info os.FileInfo) source {
	f := source{name: printable(path), size: -1, open: func() (io.ReadCloser, error) { return os.Open(path) }}
	if info.Mode().IsRegular() {
		f.size = info.Size()
	}
	return f
}

func (r *Reader) walkStdin(visit func(source) error) error {
	if r.opts.Stdin == nil {
		return errors.New(`"-" cannot be read: there is no standard input here; give the path of a file`)
	}
	f := source{name: "standard input", size: -1}
	f.open = func() (io.ReadCloser, error) { return keepOpen{r.opts.Stdin}, nil }
	// A redirected file is as good as a named one: its size is known and it never blocks.
	if file, ok := r.opts.Stdin.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			if at, err := file.Seek(0, io.SeekCurrent); err == nil {
				f.size = max(0, info.Size()-at)
			}
		}
	}
	return visit(f)
}

func (r *Reader) walkDir(ctx context.Context, dir string, visit func(source) error) error {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		// What could be listed is not used: a directory that was read by half looks complete.
		return visit(source{name: printable(dir), err: err})
	}
	for _, entry := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		path := filepath.Join(dir, entry.Name())
		switch {
		case hidden(entry.Name()):
			r.passed.Add(1)
			continue
		case entry.IsDir():
			if err := r.walkDir(ctx, path, visit); err != nil {
				return err
			}
			continue
		case !wanted(entry.Name()):
			r.passed.Add(1)
			continue
		}
		info, err := os.Stat(path) // follows links
		if err != nil {
			if err := visit(source{name: printable(path), err: err}); err != nil {
				return err
			}
			continue
		}
		// A link to a directory may lead out of the tree or round in a circle. Pipes and devices in a directory are not
		// files that someone stored killmails in, and opening a pipe can block for ever.
		if !info.Mode().IsRegular() {
			r.passed.Add(1)
			continue
		}
		if err := visit(fileSource(path, info)); err != nil {
			return err
		}
	}
	return nil
}

// hidden tells names of no interest: editors' and downloads' temporary files, .git, and the "._x.json" that macOS puts
// beside x.json.
func hidden(base string) bool { return strings.HasPrefix(base, ".") }

// wanted tells whether a directory's file is taken, by its name.
func wanted(base string) bool {
	base = strings.ToLower(base)
	if strings.HasSuffix(base, ".tgz") {
		return true
	}
	base = strings.TrimSuffix(strings.TrimSuffix(base, ".gz"), ".bz2")
	return strings.HasSuffix(base, ".tar") || jsonName(base)
}

// jsonName tells whether a name claims to be JSON.
func jsonName(base string) bool {
	switch strings.ToLower(filepath.Ext(base)) {
	case ".json", ".jsonl", ".ndjson":
		return true
	}
	return false
}
