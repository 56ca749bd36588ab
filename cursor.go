package killfeed

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"
)

// Cursor is a position in one log: the last event id that its holder has handled, and the log's epoch.
//
// The text form is "<event_id>-<epoch>". A bare number is accepted too; it has no epoch and so no protection against a log
// that was wiped or restored.
type Cursor struct {
	After EventID
	// Epoch is empty when the cursor was a bare number.
	Epoch Epoch
}

// Epoch names one log: 8 lower-case hex digits, drawn at random when the log is created or restored from a backup.
type Epoch string

// NewEpoch draws an epoch.
func NewEpoch() Epoch {
	var b [4]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process rather than return weak bytes
	return Epoch(hex.EncodeToString(b[:]))
}

// Valid tells whether e has the form of an epoch.
func (e Epoch) Valid() bool {
	if len(e) != 8 {
		return false
	}
	for i := range len(e) {
		if c := e[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// ParseCursor reads "<event_id>-<epoch>" or a bare event id.
func ParseCursor(s string) (Cursor, error) {
	number, epoch, dashed := strings.Cut(s, "-")
	id, ok := parseUint(number)
	if !ok || dashed && !Epoch(epoch).Valid() {
		return Cursor{}, invalid("after", s, "a cursor, <event_id>-<epoch>, as an earlier answer gave it, or an event id")
	}
	return Cursor{After: EventID(id), Epoch: Epoch(epoch)}, nil
}

// String is the cursor's text form.
func (c Cursor) String() string { return string(c.Append(nil)) }

// Append appends the cursor's text form.
func (c Cursor) Append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, uint64(c.After), 10)
	if c.Epoch != "" {
		dst = append(append(dst, '-'), c.Epoch...)
	}
	return dst
}

// parseUint reads plain decimal digits, as opposed to strconv, which accepts a sign in ParseInt and underscores with base 0.
func parseUint(s string) (uint64, bool) {
	if s == "" || len(s) > 19 { // 19 digits always fit
		return 0, false
	}
	var n uint64
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}
