package killfeed

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels for what a caller can do something about. They are wrapped with what was tried.
var (
	// ErrClosed: the feed or store was closed.
	ErrClosed = errors.New("closed")
	// ErrDiskFull: the disk has no room, so nothing new is taken. Reads go on; inserts work again when there is space.
	ErrDiskFull = errors.New("disk full")
	// ErrFailed: a write or fsync failed, so nothing is acknowledged any more. Reads go on; a restart is needed.
	ErrFailed = errors.New("store failed")
	// ErrOutcomeUnknown: the write may or may not be stored. Trying again is safe: a killmail id is stored once.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrNotFound: no such client or killmail.
	ErrNotFound = errors.New("not found")
	// ErrReplaced: a newer connection subscribes under the client's name.
	ErrReplaced = errors.New("replaced by a newer connection of this client")
	// ErrTooManyClients: the limit of clients is reached.
	ErrTooManyClients = errors.New("too many clients")
	// ErrBusy: as many topics, and values of filters, are waited on as may be, or as many look back at the log. It passes.
	ErrBusy = errors.New("too much is asked for at once")
	// ErrLocked: another process holds the data directory.
	ErrLocked = errors.New("data directory is in use by another process")
)

// InvalidError is a parameter or an item that cannot be accepted. Its text is for the caller to read and holds nothing
// private.
type InvalidError struct {
	// Param names what was wrong, as the HTTP interface spells it: "client_id", "systems", "after".
	Param string
	// Value is what was given, shortened to 64 bytes.
	Value string
	// Want says what is accepted.
	Want string
}

func (e *InvalidError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s is missing or empty: want %s", e.Param, e.Want)
	}
	return fmt.Sprintf("%s %q is not accepted: want %s", e.Param, e.Value, e.Want)
}

func invalid(param, value, want string) *InvalidError {
	if len(value) > 64 {
		value = strings.ToValidUTF8(value[:61], "") + "..." // the cut may go through a character
	}
	return &InvalidError{Param: param, Value: value, Want: want}
}

// Invalid makes an InvalidError; value is shortened.
func Invalid(param, value, want string) *InvalidError { return invalid(param, value, want) }

// DamageError is a stored record that does not match its checksum, or is missing. It is reported by id and never served.
type DamageError struct {
	ID  EventID
	Err error
}

func (e *DamageError) Error() string { return fmt.Sprintf("event %d is damaged: %v", e.ID, e.Err) }
func (e *DamageError) Unwrap() error { return e.Err }
