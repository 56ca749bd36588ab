package jetstream

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"killfeed"
)

// sum is the checksum of a log up to an event: of that event and the sum before it. The sum of an empty log is zero, and so is that
// before the first event of a log which was brought into a stream later.
//
// It covers what a node received or appended, not what its store gives back: that has checksums of its own. So it shows what those
// cannot: two nodes, or a node and itself before a restart, that were given different events under one number.
type sum [sha256.Size]byte

// next returns the sum after e.
func (s sum) next(e *killfeed.Event) sum {
	var b [sha256.Size + 37]byte
	copy(b[:], s[:])
	p := b[sha256.Size:]
	binary.BigEndian.PutUint64(p, uint64(e.ID))
	binary.BigEndian.PutUint64(p[8:], uint64(e.ReceivedAt.UnixMilli()))
	p[16] = byte(e.Marks)
	binary.BigEndian.PutUint32(p[17:], e.SystemID)
	binary.BigEndian.PutUint64(p[21:], uint64(e.KillmailID))
	binary.BigEndian.PutUint64(p[29:], e.MirrorSeq)
	h := sha256.New()
	h.Write(b[:])
	h.Write(e.Killmail)
	return sum(h.Sum(nil))
}

// String is the form for people, marks and checkpoints.
func (s sum) String() string { return hex.EncodeToString(s[:]) }

// header is the form for messages, where each byte counts.
func (s sum) header() string { return base64.RawURLEncoding.EncodeToString(s[:]) }

func parseHeader(text string) (s sum, err error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) != len(s) {
		return sum{}, fmt.Errorf("%q is no sum", text)
	}
	return sum(b), nil
}

// link is a place on the chain: the sum after event at.
type link struct {
	at  killfeed.EventID
	sum sum
}

// next is the link of e, the event that follows.
func (l link) next(e *killfeed.Event) link { return link{at: e.ID, sum: l.sum.next(e)} }

// checkpoint is what the store keeps with the event.
func (l link) checkpoint() killfeed.Checkpoint {
	return killfeed.Checkpoint{Source: chainSource, Place: strconv.FormatUint(uint64(l.at), 10) + ":" + l.sum.String()}
}

// parseLink reads the Place of a checkpoint.
func parseLink(place string) (link, error) {
	id, text, ok := strings.Cut(place, ":")
	at, err := strconv.ParseUint(id, 10, 64)
	b, err2 := hex.DecodeString(text)
	if !ok || err != nil || err2 != nil || len(b) != sha256.Size {
		return link{}, fmt.Errorf("the store's checkpoint %q is %q: want <event id>:<64 hex digits>", chainSource, place)
	}
	return link{at: killfeed.EventID(at), sum: sum(b)}, nil
}
