package names

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// A record on disk: the category (0: there is no such id), then fetched and detailed, the name and the ticker, constellation and
// region, the security status as eight bytes, and four bytes of checksum over the id and all that. Numbers are varints, texts
// have their length in front.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func keyOf(id uint32) []byte { return binary.BigEndian.AppendUint32(nil, id) }

func idOf(key []byte) (uint32, bool) {
	if len(key) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(key), true
}

func (r *record) encode(dst []byte, id uint32) []byte {
	begin := len(dst)
	dst = append(dst, byte(r.Category))
	dst = binary.AppendVarint(dst, r.fetched)
	dst = binary.AppendVarint(dst, r.detailed)
	for _, text := range [...]string{r.Name, r.Ticker} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	dst = binary.AppendUvarint(dst, uint64(r.Constellation))
	dst = binary.AppendUvarint(dst, uint64(r.Region))
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(r.Security))
	return binary.LittleEndian.AppendUint32(dst, checksum(id, dst[begin:]))
}

func checksum(id uint32, text []byte) uint32 {
	return crc32.Update(crc32.Checksum(keyOf(id), castagnoli), castagnoli, text)
}

// decode reads a record. It keeps nothing of data.
func decode(id uint32, data []byte) (r record, err error) {
	body, ok := data, len(data) >= 4
	if ok {
		body = data[:len(data)-4]
		ok = checksum(id, body) == binary.LittleEndian.Uint32(data[len(body):])
	}
	if !ok {
		return r, fmt.Errorf("record of %d is damaged: its checksum is wrong", id)
	}
	d := decoder{rest: body}
	r.Category = Category(d.bytes(1)[0])
	r.fetched, r.detailed = d.varint(), d.varint()
	r.Name, r.Ticker = string(d.bytes(d.uvarint())), string(d.bytes(d.uvarint()))
	r.Constellation, r.Region = uint32(d.uvarint()), uint32(d.uvarint())
	r.Security = math.Float64frombits(binary.LittleEndian.Uint64(d.bytes(8)))
	if d.bad || len(d.rest) > 0 || int(r.Category) >= len(categories) {
		return record{}, fmt.Errorf("record of %d: %w", id, errRecord)
	}
	return r, nil
}

var errRecord = errors.New("it is none of this version's")

// decoder takes values off the front. After what is not there it is bad, and what it returns means nothing.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.bad = true
		return make([]byte, min(n, 8))
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	return v * uint64(d.skip(n))
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	return v * int64(d.skip(n))
}

// skip takes what a number took; 0: there was none.
func (d *decoder) skip(n int) int {
	if n <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return 1
}
