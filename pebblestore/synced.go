package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// marks remember, in a file of their own, how far each of the engine's logs was synced.
//
// The engine reads its logs, the write-ahead logs and the manifest, up to the first chunk that is not whole, and takes that
// for the torn end that a crash leaves. One flipped bit would so take back everything behind it, silently, and the next
// events would get the ids of those that were lost. (The engine's own remedy, sync offsets in later chunks, sees only damage
// that has a later block of the same log behind it, and counts whole blocks as not synced: of group commits of 100 events it
// missed six flipped bits out of seven.) What was synced and is not whole is no torn end, and open refuses it.
//
// A mark is written after the fsync that it tells of and is not synced itself. So it never says too much, costs one small
// write, is exact after the end of the process, and a few seconds old after that of the machine. Without marks everything
// works as the engine has it.
type marks struct {
	mu    sync.Mutex // guards all fields; held for one write
	file  vfs.File   // nil: nothing is noted
	slots [markSlots]logName
}

// A mark:
//
//	kind1 number8 length8 crc4
//
// Each has 32 bytes of the file, so that it never crosses a disk sector.
const (
	markSize  = 1 + 8 + 8 + 4
	markSpace = 32
	// markSlots bounds how many logs have marks. The engine has about ten at a time, those kept for reuse included.
	markSlots = 64

	marksName = "SYNCED"
)

// logName names one of the engine's logs. The zero value is none.
type logName struct {
	kind   byte
	number uint64
}

const (
	kindWAL      = 'w'
	kindManifest = 'm'
)

// parseLog reads a file's name; other files than logs are the zero logName.
func parseLog(name string) logName {
	if digits, ok := strings.CutSuffix(name, ".log"); ok {
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
			return logName{kindWAL, n}
		}
	}
	if digits, ok := strings.CutPrefix(name, "MANIFEST-"); ok {
		if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
			return logName{kindManifest, n}
		}
	}
	return logName{}
}

func (l logName) String() string {
	if l.kind == kindManifest {
		return fmt.Sprintf("MANIFEST-%06d", l.number)
	}
	return fmt.Sprintf("%06d.log", l.number)
}

func putMark(dst []byte, l logName, length int64) {
	dst[0] = l.kind
	binary.BigEndian.PutUint64(dst[1:], l.number)
	binary.BigEndian.PutUint64(dst[9:], uint64(length))
	seal([]byte(marksName), dst[:markSize])
}

func getMark(src []byte) (l logName, length int64, ok bool) {
	v, err := open([]byte(marksName), src[:markSize])
	if err != nil {
		return logName{}, 0, false
	}
	return logName{v[0], binary.BigEndian.Uint64(v[1:])}, int64(binary.BigEndian.Uint64(v[9:])), true
}

// checkLogs compares the logs with their marks. The error names the log that is damaged.
func (d *disk) checkLogs() error {
	found, err := d.readMarks()
	if err != nil {
		return err
	}
	for l, length := range found {
		if err := d.checkLog(l, length); err != nil {
			return err
		}
	}
	return nil
}

// checkName looks for a log that is missing under a name of which one bit is flipped: the engine would take it for a stranger's file,
// and what was acknowledged in it would be gone. It may be missing because it was removed, so a flip that makes it the name of another
// log is not found out.
func (d *disk) checkName(l logName, names []string) error {
	want := l.String()
	for _, name := range names {
		if len(name) != len(want) || parseLog(name) != (logName{}) {
			continue
		}
		flipped := 0
		for i := range want {
			flipped += bits.OnesCount8(name[i] ^ want[i])
		}
		if flipped == 1 {
			return fmt.Errorf("%s is missing, and there is %q, of which one bit differs: if it was not renamed by hand, rename it back, "+
				"and look after the disk", d.PathJoin(d.dir, want), name)
		}
	}
	return nil
}

// readMarks returns the marks of the logs that exist. No file is no marks.
func (d *disk) readMarks() (map[logName]int64, error) {
	path := d.PathJoin(d.dir, marksName)
	f, err := d.FS.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the marks: %w", err)
	}
	defer f.Close()
	var buf [markSlots * markSpace]byte
	if _, err := io.ReadFull(f, buf[:]); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	names, err := d.FS.List(d.dir)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", d.dir, err)
	}
	found := map[logName]int64{}
	for i := range markSlots {
		l, length, ok := getMark(buf[i*markSpace:])
		if !ok {
			continue
		}
		if slices.Contains(names, l.String()) {
			found[l] = length
		} else if err := d.checkName(l, names); err != nil { // the others were removed since
			return nil, err
		}
	}
	return found, nil
}

func (d *disk) checkLog(l logName, length int64) error {
	path := d.PathJoin(d.dir, l.String())
	f, err := d.FS.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return fmt.Errorf("opening a log: %w", err)
	}
	defer f.Close()
	whole, err := wholeChunks(f, l, length)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if whole < length {
		return fmt.Errorf("%s is damaged at byte %d: it was synced up to byte %d, so what was acknowledged behind that is lost; "+
			"restore a backup, or begin with an empty directory and import again", path, whole, length)
	}
	return nil
}

// The engine's logs are blocks of 32 KiB, which hold chunks:
//
//	crc4 length2 type1 payload…
//	crc4 length2 type1 number4 payload…          types 5 to 8, in write-ahead logs
//	crc4 length2 type1 number4 synced8 payload…  types 9 to 12, in write-ahead logs
//
// all little-endian. The checksum is of what follows the length; number is the log's, so that what an earlier log left in a
// file that is used again is not taken for this one's. A chunk does not cross blocks; a rest of a block that has no room for
// one is zero. A write-ahead log that was closed ends with a chunk of type 5 without length and checksum that has the next
// number.
const (
	logBlock      = 32 << 10
	headerPlain   = 7
	headerNumber  = 11
	headerSynced  = 19
	typeTrailer   = 5
	lastPlain     = 4
	lastNumbered  = 8
	lastWithSyncs = 12
)

// wholeChunks returns how far the log is made of whole chunks, looking no further than limit, which is where one ends.
func wholeChunks(r io.Reader, l logName, limit int64) (int64, error) {
	buf := make([]byte, logBlock)
	for at := int64(0); at < limit; at += logBlock {
		n, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return at, err
		}
		for pos := 0; pos < logBlock && at+int64(pos) < limit; {
			size, ok := chunk(buf[pos:n], logBlock-pos, l)
			if !ok {
				return at + int64(pos), nil
			}
			pos += size
		}
	}
	return limit, nil
}

// chunk returns the size of the chunk, or of the padding, that b begins with; room is what is left of the block. It is not
// ok when there is neither.
func chunk(b []byte, room int, l logName) (size int, ok bool) {
	least := headerPlain
	if l.kind == kindWAL {
		least = headerSynced
	}
	if room < least && allZero(b) {
		return room, len(b) == room
	}
	if len(b) < headerPlain {
		return 0, false
	}
	le := binary.LittleEndian
	sum, length, kind := le.Uint32(b), int(le.Uint16(b[4:])), b[6]
	header := headerPlain
	switch {
	case kind == 0 || kind > lastWithSyncs || (kind > lastPlain) != (l.kind == kindWAL):
		return 0, false
	case kind > lastNumbered:
		header = headerSynced
	case kind > lastPlain:
		header = headerNumber
	}
	if len(b) < header+length {
		return 0, false
	}
	if header > headerPlain {
		switch number := le.Uint32(b[7:]); {
		case kind == typeTrailer && sum == 0 && length == 0 && number == uint32(l.number)+1:
			return header, true
		case number != uint32(l.number):
			return 0, false
		}
	}
	got := crc32.Checksum(b[6:header+length], castagnoli)
	return header + length, sum == (got>>15|got<<17)+0xa282ead8
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// openMarks begins to note, with the marks of the logs that exist.
func (d *disk) openMarks() error {
	found, err := d.readMarks()
	if err != nil {
		return err
	}
	m := &d.marks
	buf := make([]byte, markSlots*markSpace)
	i := 0
	for l, length := range found {
		m.slots[i] = l
		putMark(buf[i*markSpace:], l, length)
		i++
	}
	path := d.PathJoin(d.dir, marksName)
	// Not by d's own methods: a mark that cannot be written is left out, and ends nothing.
	f, err := d.FS.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("opening the marks: %w", err)
	}
	if _, err := f.WriteAt(buf, 0); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	m.file = f
	return nil
}

// note writes the mark of a log.
func (m *marks) note(l logName, length int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return
	}
	slot := -1
	for i, s := range m.slots {
		if s == l {
			slot = i
			break
		}
		if slot < 0 && s == (logName{}) {
			slot = i
		}
	}
	if slot < 0 {
		return
	}
	m.slots[slot] = l
	var b [markSize]byte
	putMark(b[:], l, length)
	_, _ = m.file.WriteAt(b[:], int64(slot*markSpace)) // an older mark is no lie
}

// forget gives the slot of a log that exists no more to another.
func (m *marks) forget(l logName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, s := range m.slots {
		if s == l && l != (logName{}) {
			m.slots[i] = logName{}
		}
	}
}

// close syncs the marks, which makes them exact for as long as nobody opens the store.
func (m *marks) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == nil {
		return nil
	}
	f := m.file
	m.file = nil
	if err := f.Sync(); err != nil {
		return fmt.Errorf("fsync of the marks: %w", err)
	}
	return f.Close()
}
