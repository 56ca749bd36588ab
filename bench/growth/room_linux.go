package main

import (
	"fmt"
	"os"
	"syscall"
)

// room checks that a directory's file system has that much free.
func room(dir string, need int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("%s has %d MB free, and %d are needed: ask for fewer -events, or for another -work", dir, free/1e6, need/1e6)
	}
	return nil
}
