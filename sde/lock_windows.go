package sde

import (
	"errors"
	"os"
	"syscall"

	"killfeed"
)

// lock opens a file for nobody else until it is closed. It ends with the process, however that ends.
func lock(name string) (*os.File, error) {
	path, err := syscall.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	const sharingViolation = syscall.Errno(32)
	h, err := syscall.CreateFile(path, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	switch {
	case err == nil:
		return os.NewFile(uintptr(h), name), nil
	case errors.Is(err, sharingViolation):
		return nil, killfeed.ErrLocked
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: err}
}
