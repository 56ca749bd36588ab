//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package sde

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"killfeed"
)

// lock takes the lock of a file until that is closed. It ends with the process, however that ends.
func lock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case err == nil:
		return f, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, errors.Join(killfeed.ErrLocked, f.Close())
	default:
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
}
