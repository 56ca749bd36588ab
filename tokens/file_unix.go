//go:build unix

package tokens

import (
	"fmt"
	"os"
	"syscall"
)

// likeDirectory gives a file to whoever has the directory. A token that root makes would otherwise be one that the server, which
// runs as somebody else, cannot read.
func likeDirectory(file, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return os.Chown(file, int(owner.Uid), int(owner.Gid))
	}
	return nil
}

// syncDirectory has a rename survive a crash: a token that was revoked must not come back.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("changing the tokens: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("changing the tokens: it is not known to be on disk: %w", err)
	}
	return nil
}
