//go:build !linux

package main

import (
	"errors"
	"os"
)

// dontNeed is known on Linux only.
func dontNeed(*os.File) error { return errors.ErrUnsupported }
