package sde

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"time"

	"killfeed"
)

const (
	magic       = "KFUNIV"
	version     = 1
	headSize    = len(magic) + 2 + 4
	maxIndex    = 64 << 20  // of a file; a full one has about 1 MB
	maxUnpacked = 256 << 20 // a full one has about 2.5 MB
	maxRows     = 1 << 20   // of a table; the largest has some 53,000
	maxName     = 512       // bytes
)

// release is which state of the game's data an index is of.
type release struct {
	build int
	// at is when it was released, zero when not known.
	at time.Time
}

// encode makes an index file. The data must be as killfeed.NewUniverse has left it: valid, and sorted by id.
func encode(d *killfeed.UniverseData, r release) ([]byte, error) {
	var w writer
	w.uint(uint64(r.build))
	var seconds int64
	if !r.at.IsZero() {
		seconds = r.at.Unix()
	}
	w.uint(uint64(max(seconds, 0)))

	table(&w, d.Systems, func(s *killfeed.SolarSystem) (uint32, string) { return s.ID, s.Name })
	column(&w, d.Systems, func(s *killfeed.SolarSystem) uint32 { return s.Constellation })
	column(&w, d.Systems, func(s *killfeed.SolarSystem) uint32 { return s.Region })
	column(&w, d.Systems, func(s *killfeed.SolarSystem) uint32 { return uint32(s.Class) })
	for i := range d.Systems {
		w.b = binary.BigEndian.AppendUint64(w.b, math.Float64bits(d.Systems[i].Security))
	}
	table(&w, d.Constellations, func(c *killfeed.Constellation) (uint32, string) { return c.ID, c.Name })
	column(&w, d.Constellations, func(c *killfeed.Constellation) uint32 { return c.Region })
	table(&w, d.Regions, func(r *killfeed.Region) (uint32, string) { return r.ID, r.Name })
	table(&w, d.Types, func(t *killfeed.Type) (uint32, string) { return t.ID, t.Name })
	column(&w, d.Types, func(t *killfeed.Type) uint32 { return t.Group })
	table(&w, d.Groups, func(g *killfeed.Group) (uint32, string) { return g.ID, g.Name })
	column(&w, d.Groups, func(g *killfeed.Group) uint32 { return g.Category })
	table(&w, d.Factions, func(f *killfeed.Faction) (uint32, string) { return f.ID, f.Name })
	table(&w, d.Corporations, func(c *killfeed.Corporation) (uint32, string) { return c.ID, c.Name })
	for i := range d.Corporations {
		w.uint(uint64(len(d.Corporations[i].Ticker)))
		w.b = append(w.b, d.Corporations[i].Ticker...)
	}

	var file bytes.Buffer
	file.WriteString(magic)
	file.Write([]byte{0, version, 0, 0, 0, 0})
	z, err := flate.NewWriter(&file, flate.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(w.b)
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(file.Bytes()[headSize-4:], checksum(file.Bytes()))
	return file.Bytes(), nil
}

// checksum is that of a whole index file, of which its own four bytes are left out.
func checksum(file []byte) uint32 {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(file[:headSize-4], castagnoli), castagnoli, file[headSize:])
}

// decode reads an index file. The error says what is wrong with it.
func decode(file []byte) (killfeed.UniverseData, release, error) {
	body, err := unpack(file)
	if err != nil {
		return killfeed.UniverseData{}, release{}, err
	}
	return decodeBody(body)
}

// unpack returns the body of an index file.
func unpack(file []byte) ([]byte, error) {
	switch {
	case len(file) < headSize || string(file[:len(magic)]) != magic:
		return nil, errors.New("it is no index of static data")
	case binary.BigEndian.Uint16(file[len(magic):]) != version:
		return nil, fmt.Errorf("it is in format %d, and this version of killfeed reads format %d",
			binary.BigEndian.Uint16(file[len(magic):]), version)
	case binary.BigEndian.Uint32(file[headSize-4:]) != checksum(file):
		return nil, errors.New("its checksum does not match")
	}
	body, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(file[headSize:])), maxUnpacked+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("it cannot be unpacked: %w", err)
	case len(body) > maxUnpacked:
		return nil, fmt.Errorf("unpacked it has more than %d bytes", maxUnpacked)
	}
	return body, nil
}

// decodeBody reads what encode has packed.
func decodeBody(body []byte) (d killfeed.UniverseData, r release, err error) {
	b := &reader{b: body, text: string(body)}
	r.build = int(b.uint(math.MaxInt32))
	d.Build = r.build
	if seconds := b.uint(1 << 40); seconds > 0 {
		r.at = time.Unix(int64(seconds), 0).UTC()
	}

	d.Systems = rows(b, func(s *killfeed.SolarSystem, id uint32, name string) { s.ID, s.Name = id, name })
	fill(b, d.Systems, func(s *killfeed.SolarSystem, n uint32) { s.Constellation = n })
	fill(b, d.Systems, func(s *killfeed.SolarSystem, n uint32) { s.Region = n })
	for i := range d.Systems {
		d.Systems[i].Class = uint8(b.uint(math.MaxUint8))
	}
	for i := range d.Systems {
		d.Systems[i].Security = b.float()
	}
	d.Constellations = rows(b, func(c *killfeed.Constellation, id uint32, name string) { c.ID, c.Name = id, name })
	fill(b, d.Constellations, func(c *killfeed.Constellation, n uint32) { c.Region = n })
	d.Regions = rows(b, func(r *killfeed.Region, id uint32, name string) { r.ID, r.Name = id, name })
	d.Types = rows(b, func(t *killfeed.Type, id uint32, name string) { t.ID, t.Name = id, name })
	fill(b, d.Types, func(t *killfeed.Type, n uint32) { t.Group = n })
	d.Groups = rows(b, func(g *killfeed.Group, id uint32, name string) { g.ID, g.Name = id, name })
	fill(b, d.Groups, func(g *killfeed.Group, n uint32) { g.Category = n })
	d.Factions = rows(b, func(f *killfeed.Faction, id uint32, name string) { f.ID, f.Name = id, name })
	d.Corporations = rows(b, func(c *killfeed.Corporation, id uint32, name string) { c.ID, c.Name = id, name })
	for i := range d.Corporations {
		d.Corporations[i].Ticker = b.string(int(b.uint(maxName)))
	}
	switch {
	case b.bad:
		return killfeed.UniverseData{}, release{}, fmt.Errorf("what is in it ends, or makes no sense, near byte %d", b.at)
	case b.at != len(b.b):
		return killfeed.UniverseData{}, release{}, fmt.Errorf("%d bytes too many are in it", len(b.b)-b.at)
	}
	return d, r, nil
}

// writer puts an index together.
type writer struct{ b []byte }

func (w *writer) uint(n uint64) { w.b = binary.AppendUvarint(w.b, n) }

// table writes how many rows there are, the gaps between their ids, the lengths of their names, and the names.
func table[T any](w *writer, all []T, of func(*T) (id uint32, name string)) {
	w.uint(uint64(len(all)))
	before := uint32(0)
	for i := range all {
		id, _ := of(&all[i])
		w.uint(uint64(id - before))
		before = id
	}
	for i := range all {
		_, name := of(&all[i])
		w.uint(uint64(len(name)))
	}
	for i := range all {
		_, name := of(&all[i])
		w.b = append(w.b, name...)
	}
}

// column writes a number of each row.
func column[T any](w *writer, all []T, of func(*T) uint32) {
	for i := range all {
		w.uint(uint64(of(&all[i])))
	}
}

// reader takes an index apart. After the first fault it is bad and gives zeros.
type reader struct {
	b    []byte
	text string // the same; names are parts of it, so that they need no memory of their own
	at   int
	bad  bool
}

// uint reads a number up to most.
func (r *reader) uint(most uint64) uint64 {
	if r.bad {
		return 0
	}
	n, size := binary.Uvarint(r.b[r.at:])
	if size <= 0 || n > most {
		r.bad = true
		return 0
	}
	r.at += size
	return n
}

// float reads a number between -1000 and 1000.
func (r *reader) float() float64 {
	if r.bad || len(r.b)-r.at < 8 {
		r.bad = true
		return 0
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(r.b[r.at:]))
	if !(math.Abs(f) <= 1000) { // NaN too
		r.bad = true
		return 0
	}
	r.at += 8
	return f
}

func (r *reader) string(size int) string {
	if r.bad || len(r.b)-r.at < size {
		r.bad = true
		return ""
	}
	r.at += size
	return r.text[r.at-size : r.at]
}

// rows reads what table wrote.
func rows[T any](r *reader, set func(row *T, id uint32, name string)) []T {
	count := int(r.uint(maxRows))
	if r.bad || count > len(r.b)-r.at { // each row has a byte at least: no memory is taken for what cannot be there
		r.bad = true
		return nil
	}
	all, ids, sizes := make([]T, count), make([]uint32, count), make([]int, count)
	before := uint64(0)
	for i := range ids {
		gap := r.uint(killfeed.MaxID)
		if before += gap; gap == 0 && i > 0 || before > killfeed.MaxID {
			r.bad = true
		}
		ids[i] = uint32(before)
	}
	for i := range sizes {
		sizes[i] = int(r.uint(maxName))
	}
	for i := range all {
		set(&all[i], ids[i], r.string(sizes[i]))
	}
	if r.bad {
		return nil
	}
	return all
}

// fill reads what column wrote.
func fill[T any](r *reader, all []T, set func(row *T, n uint32)) {
	for i := range all {
		set(&all[i], uint32(r.uint(killfeed.MaxID)))
	}
}
