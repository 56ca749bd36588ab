package main

import (
	"errors"
	"io/fs"
	"os"
)

// fileWatch tells whether a file has changed since it was last asked. It is for one goroutine. A file that is not there is a state
// like others.
type fileWatch struct {
	path string
	last os.FileInfo // nil: it was not there
}

// watchFile begins with the file as it is. Whoever reads it reads it after this, or a change in between would go unseen.
func watchFile(path string) (*fileWatch, error) {
	w := &fileWatch{path: path}
	_, err := w.changed()
	return w, err
}

// changed tells whether there is another file now, or the same with another size or time. The time alone would not do: two changes
// may have the same.
func (w *fileWatch) changed() (bool, error) {
	info, err := os.Stat(w.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err != nil {
		info = nil
	}
	last := w.last
	w.last = info
	switch {
	case info == nil || last == nil:
		return (info == nil) != (last == nil), nil
	case !os.SameFile(info, last):
		return true, nil
	}
	return info.Size() != last.Size() || !info.ModTime().Equal(last.ModTime()), nil
}
