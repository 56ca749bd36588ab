package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"killfeed"
)

// The key spaces. Numbers in keys are big-endian, so that they sort; docs/format.md draws every record.
//
//	'e' id8                        event
//	'm' id8                        event summary: what the indexes in memory are made of
//	'k' killmail8                  killmail id -> events, for ever
//	'i' bucket4 topic id8          chunk of the index of participants and labels
//	'o' client 0 topic             offset
//	'c' client                     client
//	'p' source                     checkpoint of a source of killmails
//	'r' system4                    greatest removed event of a system
//	's' name                       state of the store
const (
	spaceEvent   = 'e'
	spaceSummary = 'm'
	spaceKnown   = 'k'
	spaceChunk   = 'i'
	spaceOffset  = 'o'
	spaceClient  = 'c'
	spacePlace   = 'p'
	spaceRemoved = 'r'
	spaceState   = 's'
)

// Names in the key space 's'.
var (
	keyEpoch   = []byte("sepoch")   // the epoch
	keyFormat  = []byte("sformat")  // the version of this layout
	keyFirst   = []byte("sfirst")   // the first kept event id
	keyIndexed = []byte("sindexed") // the last event id whose chunks are written
	keyFormer  = []byte("sformer")  // the epochs before it was restored from backups

	// Written when the last event is removed, for the events to come.
	keyMirror   = []byte("smirror")   // its mirror_seq
	keyReceived = []byte("sreceived") // its receipt time in Unix milliseconds

	// Written while what another node remembers is adopted.
	keyLegacy = []byte("slegacy") // what of it waits for the end
)

// formatVersion is the version of the layout. A store with a later one is refused; see upgrade.go for earlier ones.
const formatVersion = 2

// bucketBits groups chunks by event id, so that the chunks of removed events go with one range deletion.
const bucketBits = 16

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errChecksum = errors.New("checksum does not match")

// seal writes the checksum of key and value into value's last 4 bytes. The key is part of it, so that a record that turns up
// under another's key is found out.
func seal(key, value []byte) {
	n := len(value) - 4
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[:n])
	binary.BigEndian.PutUint32(value[n:], sum)
}

// open checks the checksum and returns the value without it.
func open(key, value []byte) ([]byte, error) {
	n := len(value) - 4
	if n < 0 {
		return nil, fmt.Errorf("%d bytes are too few for a record: %w", len(value), errChecksum)
	}
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[:n])
	if got := binary.BigEndian.Uint32(value[n:]); got != sum {
		return nil, fmt.Errorf("%w: stored %08x, computed %08x", errChecksum, got, sum)
	}
	return value[:n], nil
}

// numberKey is a key of a space with one 8-byte number.
func numberKey(space byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{space}, n)
}

func putNumberKey(dst []byte, space byte, n uint64) {
	dst[0] = space
	binary.BigEndian.PutUint64(dst[1:], n)
}

// keyNumber reads the number of a numberKey.
func keyNumber(key []byte) (uint64, error) {
	if len(key) != 9 {
		return 0, fmt.Errorf("key %q has %d bytes, not 9", key, len(key))
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

// An event record:
//
//	version1 marks1 system4 received8 killed8 mirror8 killmail8 json… crc4
//
// received is in Unix milliseconds, killed in Unix seconds (0: not told), killmail 0 without an id.
const (
	eventHeader   = 1 + 1 + 4 + 8 + 8 + 8 + 8
	eventOverhead = eventHeader + 4
	recordVersion = 1
)

func putEvent(key, dst []byte, e *killfeed.Event) {
	dst[0], dst[1] = recordVersion, byte(e.Marks)
	be := binary.BigEndian
	be.PutUint32(dst[2:], e.SystemID)
	be.PutUint64(dst[6:], uint64(e.ReceivedAt.UnixMilli()))
	be.PutUint64(dst[14:], uint64(killedAt(e)))
	be.PutUint64(dst[22:], e.MirrorSeq)
	be.PutUint64(dst[30:], uint64(e.KillmailID))
	copy(dst[eventHeader:], e.Killmail)
	seal(key, dst)
}

// getEvent reads an event record. The killmail's bytes are those of value.
func getEvent(key, value []byte) (killfeed.Event, error) {
	id, err := keyNumber(key)
	if err != nil {
		return killfeed.Event{}, err
	}
	v, err := open(key, value)
	if err != nil {
		return killfeed.Event{}, err
	}
	if len(v) < eventHeader || v[0] != recordVersion {
		return killfeed.Event{}, fmt.Errorf("record version %x with %d bytes is not of this program", v[:min(len(v), 1)], len(v))
	}
	be := binary.BigEndian
	return killfeed.Event{
		ID: killfeed.EventID(id), Marks: killfeed.Marks(v[1]), SystemID: be.Uint32(v[2:]),
		ReceivedAt: time.UnixMilli(int64(be.Uint64(v[6:]))).UTC(), KilledAt: killedTime(int64(be.Uint64(v[14:]))),
		MirrorSeq: be.Uint64(v[22:]), KillmailID: int64(be.Uint64(v[30:])),
		Killmail: v[eventHeader:len(v):len(v)],
	}, nil
}

// killedAt is the killmail's time in Unix seconds, 0 when it does not tell.
func killedAt(e *killfeed.Event) int64 {
	if e.KilledAt.IsZero() {
		return 0
	}
	return e.KilledAt.Unix()
}

func killedTime(unix int64) time.Time {
	if unix == 0 {
		return time.Time{}
	}
	return time.Unix(unix, 0).UTC()
}

// summary is what is kept of an event beside its record:
//
//	version1 marks1 system4 received8 killed8 mirror8 bytes4 crc4
type summary struct {
	marks    killfeed.Marks
	system   uint32
	received int64 // Unix milliseconds
	killed   int64 // Unix seconds
	mirror   uint64
	bytes    uint32 // of the event record
}

const summarySize = 1 + 1 + 4 + 8 + 8 + 8 + 4 + 4

func summarize(e *killfeed.Event) summary {
	return summary{
		marks: e.Marks, system: e.SystemID, received: e.ReceivedAt.UnixMilli(), killed: killedAt(e), mirror: e.MirrorSeq,
		bytes: uint32(eventOverhead + len(e.Killmail)),
	}
}

func putSummary(key, dst []byte, s summary) {
	dst[0], dst[1] = recordVersion, byte(s.marks)
	be := binary.BigEndian
	be.PutUint32(dst[2:], s.system)
	be.PutUint64(dst[6:], uint64(s.received))
	be.PutUint64(dst[14:], uint64(s.killed))
	be.PutUint64(dst[22:], s.mirror)
	be.PutUint32(dst[30:], s.bytes)
	seal(key, dst)
}

func getSummary(key, value []byte) (summary, error) {
	v, err := open(key, value)
	if err != nil {
		return summary{}, err
	}
	if len(v) != summarySize-4 || v[0] != recordVersion {
		return summary{}, fmt.Errorf("summary version %x with %d bytes is not of this program", v[:min(len(v), 1)], len(v))
	}
	be := binary.BigEndian
	return summary{
		marks: killfeed.Marks(v[1]), system: be.Uint32(v[2:]), received: int64(be.Uint64(v[6:])),
		killed: int64(be.Uint64(v[14:])), mirror: be.Uint64(v[22:]), bytes: be.Uint32(v[30:]),
	}, nil
}

// A killmail id's record: first8 latest8 digest8 crc4.
const knownSize = 8 + 8 + 8 + 4

func putKnown(key, dst []byte, k killfeed.Known) {
	be := binary.BigEndian
	be.PutUint64(dst, uint64(k.First))
	be.PutUint64(dst[8:], uint64(k.Latest))
	be.PutUint64(dst[16:], uint64(k.Digest))
	seal(key, dst)
}

func getKnown(key, value []byte) (killfeed.Known, error) {
	v, err := open(key, value)
	if err != nil {
		return killfeed.Known{}, err
	}
	if len(v) != knownSize-4 {
		return killfeed.Known{}, fmt.Errorf("killmail id record with %d bytes is not of this program", len(v))
	}
	be := binary.BigEndian
	return killfeed.Known{
		First: killfeed.EventID(be.Uint64(v)), Latest: killfeed.EventID(be.Uint64(v[8:])),
		Digest: killfeed.Digest(be.Uint64(v[16:])),
	}, nil
}

// appendTopic appends a topic as it stands in keys: kind1, then id4, or the label and a 0.
func appendTopic(dst []byte, t killfeed.Topic) []byte {
	dst = append(dst, byte(t.Kind))
	switch t.Kind {
	case killfeed.KindAll:
		return dst
	case killfeed.KindLabel:
		return append(append(dst, t.Label...), 0)
	}
	return binary.BigEndian.AppendUint32(dst, t.ID)
}

// cutTopic reads a topic off the front of a key.
func cutTopic(b []byte) (t killfeed.Topic, rest []byte, err error) {
	if len(b) == 0 {
		return t, nil, errors.New("no topic in the key")
	}
	t.Kind, b = killfeed.TopicKind(b[0]), b[1:]
	switch {
	case t.Kind == killfeed.KindAll:
		return t, b, nil
	case t.Kind == killfeed.KindLabel:
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return t, nil, errors.New("no end to the label in the key")
		}
		t.Label = string(b[:i])
		return t, b[i+1:], nil
	case !numbered(t.Kind) || len(b) < 4:
		return t, nil, fmt.Errorf("topic kind %d with %d bytes is not of this program", t.Kind, len(b))
	}
	t.ID = binary.BigEndian.Uint32(b)
	return t, b[4:], nil
}

// numbered tells whether k is the kind of a topic with a number.
func numbered(k killfeed.TopicKind) bool {
	base := k.Base()
	switch k.Role() {
	case 0:
		return base >= killfeed.KindSystem && base <= killfeed.KindGroup && base != killfeed.KindLabel
	case killfeed.RoleLoss, killfeed.RoleKill:
		return base >= killfeed.KindCharacter && base <= killfeed.KindShip || base == killfeed.KindGroup
	}
	return false // both
}

// offsetPrefix is where a client's offsets stand. Client names hold no NUL (they are printable), so no name is the
// beginning of another's keys.
func offsetPrefix(client string) []byte {
	return append(append([]byte{spaceOffset}, client...), 0)
}

func clientKey(client string) []byte { return append([]byte{spaceClient}, client...) }

// A chunk of the index lists the ids of one topic within one bucket:
//
//	count (uvarint), then the distances of the ids after the first (uvarints), crc4
//
// The first id stands in the key.
func chunkKey(bucket uint32, t killfeed.Topic, first killfeed.EventID) []byte {
	k := binary.BigEndian.AppendUint32([]byte{spaceChunk}, bucket)
	return binary.BigEndian.AppendUint64(appendTopic(k, t), uint64(first))
}

// bucketKey is where the chunks of a bucket begin.
func bucketKey(bucket uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{spaceChunk}, bucket)
}

func bucketOf(id killfeed.EventID) uint32 { return uint32(id >> bucketBits) }

// encodeChunk makes a chunk of ids, which ascend.
func encodeChunk(key []byte, ids []killfeed.EventID) []byte {
	v := binary.AppendUvarint(nil, uint64(len(ids)))
	for i, id := range ids[1:] {
		v = binary.AppendUvarint(v, uint64(id-ids[i]))
	}
	v = append(v, 0, 0, 0, 0)
	seal(key, v)
	return v
}

// decodeChunk appends the ids of a chunk that are above after.
func decodeChunk(dst []killfeed.EventID, key, value []byte, after killfeed.EventID) ([]killfeed.EventID, error) {
	v, err := open(key, value)
	if err != nil {
		return dst, err
	}
	if len(key) < 8 {
		return dst, fmt.Errorf("chunk key %q is too short", key)
	}
	id := killfeed.EventID(binary.BigEndian.Uint64(key[len(key)-8:]))
	count, n := binary.Uvarint(v)
	if n <= 0 || count == 0 || count > uint64(len(v)) {
		return dst, fmt.Errorf("chunk of %d bytes says it has %d ids", len(v), count)
	}
	v = v[n:]
	for i := uint64(0); ; {
		if id > after {
			dst = append(dst, id)
		}
		if i++; i == count {
			return dst, nil
		}
		d, n := binary.Uvarint(v)
		if n <= 0 || d == 0 {
			return dst, fmt.Errorf("chunk ends after %d of %d ids", i, count)
		}
		id, v = id+killfeed.EventID(d), v[n:]
	}
}

// putClient makes a client's record: created8 seen8 crc4, in Unix milliseconds.
func putClient(key []byte, s killfeed.ClientSeen) []byte {
	v := binary.BigEndian.AppendUint64(nil, uint64(s.Created.UnixMilli()))
	v = binary.BigEndian.AppendUint64(v, uint64(s.At.UnixMilli()))
	v = append(v, 0, 0, 0, 0)
	seal(key, v)
	return v
}

func getClient(key, value []byte) (killfeed.ClientSeen, error) {
	v, err := open(key, value)
	if err != nil {
		return killfeed.ClientSeen{}, err
	}
	if len(v) != 16 {
		return killfeed.ClientSeen{}, fmt.Errorf("client record with %d bytes is not of this program", len(v))
	}
	return killfeed.ClientSeen{
		Client:  string(key[1:]),
		Created: time.UnixMilli(int64(binary.BigEndian.Uint64(v))).UTC(),
		At:      time.UnixMilli(int64(binary.BigEndian.Uint64(v[8:]))).UTC(),
	}, nil
}

func placeKey(source string) []byte { return append([]byte{spacePlace}, source...) }

// putPlace makes a source's checkpoint: its text, crc4.
func putPlace(key []byte, place string) []byte {
	v := append([]byte(place), 0, 0, 0, 0)
	seal(key, v)
	return v
}

// putNumber makes a record of one number: n8 crc4. Offsets, removal marks and most of the state are of this form.
func putNumber(key []byte, n uint64) []byte {
	v := append(binary.BigEndian.AppendUint64(nil, n), 0, 0, 0, 0)
	seal(key, v)
	return v
}

// putFormer makes the record of former epochs: epoch8 through8 for each, the oldest first, crc4.
func putFormer(former []killfeed.FormerEpoch) []byte {
	var v []byte
	for _, f := range former {
		v = binary.BigEndian.AppendUint64(append(v, f.Epoch...), uint64(f.Through))
	}
	v = append(v, 0, 0, 0, 0)
	seal(keyFormer, v)
	return v
}

func getFormer(value []byte) (former []killfeed.FormerEpoch, err error) {
	v, err := open(keyFormer, value)
	if err != nil {
		return nil, err
	}
	for ; len(v) >= 16; v = v[16:] {
		f := killfeed.FormerEpoch{Epoch: killfeed.Epoch(v[:8]), Through: killfeed.EventID(binary.BigEndian.Uint64(v[8:]))}
		if !f.Epoch.Valid() {
			return nil, fmt.Errorf("%q is not an epoch", f.Epoch)
		}
		former = append(former, f)
	}
	if len(v) > 0 {
		return nil, fmt.Errorf("%d bytes are left over in the record of former epochs", len(v))
	}
	return former, nil
}

func getNumber(key, value []byte) (uint64, error) {
	v, err := open(key, value)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("number record with %d bytes is not of this program", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}
