//go:build !unix

package tokens

// likeDirectory is for systems with owners as on Unix.
func likeDirectory(file, dir string) error { return nil }

// syncDirectory is for systems that let a directory be synced.
func syncDirectory(dir string) error { return nil }
