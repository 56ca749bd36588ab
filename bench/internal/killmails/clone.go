package killmails

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Clone returns the directory of a copy of the log with n events that Log makes, for one server to write to, and what removes it.
// What is measured thus finds the same log in every run. Tables of the engine, which are never written to again, are linked and
// take no space.
func Clone(ctx context.Context, work string, n int) (dir string, remove func(), err error) {
	from, err := Log(ctx, work, n)
	if err != nil {
		return "", nil, err
	}
	return CloneDir(work, from)
}

// CloneDir is Clone of any closed log in the same file system as work.
func CloneDir(work, from string) (dir string, remove func(), err error) {
	if dir, err = os.MkdirTemp(work, "clone"); err != nil {
		return "", nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			remove()
			err = fmt.Errorf("copying a log: %w", err)
		}
	}()
	files, err := os.ReadDir(from)
	if err != nil {
		return "", nil, err
	}
	for _, f := range files {
		old, name := filepath.Join(from, f.Name()), filepath.Join(dir, f.Name())
		switch {
		case f.Name() == "LOCK" || !f.Type().IsRegular():
		case filepath.Ext(name) == ".sst" || filepath.Ext(name) == ".blob":
			err = os.Link(old, name)
		default:
			err = copyFile(old, name)
		}
		if err != nil {
			return "", nil, err
		}
	}
	return dir, remove, nil
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
