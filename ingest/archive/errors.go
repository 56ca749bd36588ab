package archive

import (
	"fmt"
	"strings"
	"unicode"
)

// FileError tells that a file could not be read, or not to its end. What came before the damage was handed out.
type FileError struct {
	// Name is the file's path, or "standard input".
	Name string
	// Position says where it stopped, in words: "near byte 1048576 of 2005428".
	Position string
	// Items is the number of items that the file had given before.
	Items int64
	// Err is the cause.
	Err error
	// Hint says what to do.
	Hint string
}

func (e *FileError) Error() string {
	s := "read " + e.Name + ": "
	if e.Position != "" {
		s += fmt.Sprintf("stopped %s, after %d killmails: ", e.Position, e.Items)
	}
	s += e.Err.Error()
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *FileError) Unwrap() error { return e.Err }

const (
	hintAgain = "get the file again and repeat: what was read before counts as duplicate then"
	hintRead  = "see that it can be read and repeat: what was read before counts as duplicate then"
)

// damage is a fault in the data of a file, found where the reading has come to.
type damage string

func (d damage) Error() string { return string(d) }

// misfit is a file that is whole but holds no killmails that could be read.
type misfit struct{ what, hint string }

func (m misfit) Error() string { return m.what }

// rawError is a fault met by the pump: opening, reading or decompressing.
type rawError struct {
	err error
	// at is how many bytes of the file had been read; -1 when it could not even be opened.
	at int64
	// data tells that the content is at fault, not the reading of it.
	data bool
}

func (e *rawError) Error() string { return e.err.Error() }
func (e *rawError) Unwrap() error { return e.err }

// maxName bounds the names in messages. Paths in archives can be a megabyte long.
const maxName = 512

// printable makes a name from a file system or an archive harmless on a terminal.
func printable(name string) string {
	if len(name) > maxName {
		name = name[:maxName-3] + "..."
	}
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return unicode.ReplacementChar
		}
		return c
	}, name)
}
