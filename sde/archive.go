package sde

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"

	"killfeed"
)

// Bounds of an archive. Today's has 99 MB, its largest member of interest 153 MB, and there the longest line 64 KB.
const (
	maxArchive = 512 << 20
	maxMember  = 1 << 30
	maxLine    = 4 << 20
	maxMembers = 10_000
)

// member is a file in the archive from which something is taken.
type member struct {
	name string
	// least is how many records with a name it must have: about half of what it had in 2026. With fewer, something is wrong
	// with the archive, or with the names of its fields. 0: the member may be missing.
	least int
	add   func(x *extract, r *record) error
}

func members() []member {
	return []member{
		{"mapRegions", 60, (*extract).region},
		{"mapConstellations", 600, (*extract).constellation},
		{"mapSolarSystems", 4200, (*extract).system},
		{"groups", 800, (*extract).group},
		{"types", 25_000, (*extract).typ},
		{"factions", 0, (*extract).faction},
		{"npcCorporations", 0, (*extract).corporation},
		{"_sde", 0, nil},
	}
}

// record is a line of any of the members. Fields that a member does not have stay nil; those that are not known are passed over:
// new ones come every few weeks.
type record struct {
	Key           json.RawMessage `json:"_key"`
	Name          text            `json:"name"`
	Region        *int64          `json:"regionID"`
	Constellation *int64          `json:"constellationID"`
	Security      *float64        `json:"securityStatus"`
	Class         *int64          `json:"wormholeClassID"`
	Group         *int64          `json:"groupID"`
	Category      *int64          `json:"categoryID"`
	Ticker        string          `json:"tickerName"`
	Build         int             `json:"buildNumber"`
	Released      string          `json:"releaseDate"`

	id uint32 // Key as a number
}

// text is the English one of a text in many languages.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	var languages struct {
		English string `json:"en"`
	}
	to := any(&languages)
	if len(data) > 0 && data[0] == '"' { // in no language
		to = &languages.English
	}
	if err := json.Unmarshal(data, to); err != nil {
		return err
	}
	clean := strings.Map(func(r rune) rune { // names end up on terminals
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, languages.English)
	if clean = strings.TrimSpace(clean); len(clean) > maxName {
		return fmt.Errorf("the name %.40q… has %d bytes, more than %d", clean, len(clean), maxName)
	}
	*t = text(clean)
	return nil
}

// extract is what has been taken from an archive.
type extract struct {
	data    killfeed.UniverseData
	release release
	// classes are the wormhole classes of regions and constellations, which what lies in them inherits; inRegion is where
	// constellations lie.
	classes, inRegion map[uint32]uint32
}

// readArchive takes from an archive what an index needs: the wanted members. Errors wrap ErrBroken when the archive is to blame. done is told how
// many of total bytes, unpacked, have been read.
func readArchive(ctx context.Context, file string, wanted []member, done func(n, total int64)) (killfeed.UniverseData, release, error) {
	f, err := os.Open(file)
	if err != nil {
		return killfeed.UniverseData{}, release{}, fmt.Errorf("reading the static data archive: %w", err)
	}
	defer f.Close()
	x, err := newExtract(ctx, f, wanted, done)
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("static data archive %s is %w: %w", file, ErrBroken, err)
		}
		return killfeed.UniverseData{}, release{}, err
	}
	if x.release.build == 0 { // CCP's own name of the file says it too
		x.release.build = buildInName(path.Base(file))
	}
	x.data.Build = x.release.build
	return x.data, x.release, nil
}

// archiveName is what CCP calls the archive of a build.
func archiveName(build int) string {
	return "eve-online-static-data-" + strconv.Itoa(build) + "-jsonl.zip"
}

func buildInName(name string) int {
	for part := range strings.SplitSeq(name, "-") {
		if n, err := strconv.Atoi(part); err == nil && n > 0 && archiveName(n) == name {
			return n
		}
	}
	return 0
}

func newExtract(ctx context.Context, f *os.File, wanted []member, done func(n, total int64)) (*extract, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxArchive {
		return nil, fmt.Errorf("it has %d bytes, more than %d", info.Size(), maxArchive)
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return nil, err
	}
	if len(z.File) > maxMembers {
		return nil, fmt.Errorf("it has %d files in it, more than %d", len(z.File), maxMembers)
	}
	files := make([]*zip.File, len(wanted))
	var total int64
	for i, m := range wanted {
		for _, one := range z.File {
			if path.Base(one.Name) != m.name+".jsonl" {
				continue
			}
			switch {
			case files[i] != nil:
				return nil, fmt.Errorf("%s.jsonl is in it twice", m.name)
			case one.UncompressedSize64 > maxMember:
				return nil, fmt.Errorf("%s has %d bytes unpacked, more than %d", one.Name, one.UncompressedSize64, maxMember)
			}
			files[i] = one
			total += int64(one.UncompressedSize64)
		}
		if files[i] == nil && m.least > 0 {
			return nil, fmt.Errorf("%s.jsonl is not in it", m.name)
		}
	}
	x := &extract{classes: map[uint32]uint32{}, inRegion: map[uint32]uint32{}}
	var before int64
	for i, m := range wanted {
		if files[i] == nil {
			continue
		}
		err := x.read(ctx, files[i], m, func(n int64) { done(before+n, total) })
		if err != nil {
			if ctx.Err() == nil {
				err = fmt.Errorf("%s: %w", files[i].Name, err)
			}
			return nil, err
		}
		before += int64(files[i].UncompressedSize64)
	}
	x.inherit()
	return x, nil
}

// read reads a member to its end, where its checksum is compared.
func (x *extract) read(ctx context.Context, f *zip.File, m member, done func(n int64)) error {
	packed, err := f.Open()
	if err != nil {
		return err
	}
	defer packed.Close()
	lines := bufio.NewScanner(io.LimitReader(packed, maxMember+1)) // whatever the directory says
	lines.Buffer(make([]byte, 256<<10), maxLine)
	var bytesRead int64
	records, named := 0, 0
	for n := 1; lines.Scan(); n++ {
		bytesRead += int64(len(lines.Bytes())) + 1
		if n%512 == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			done(bytesRead)
		}
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if records++; records > maxRows {
			return fmt.Errorf("it has more than %d records", maxRows)
		}
		if r.Name != "" {
			named++
		}
		if err := x.add(&r, m); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, zip.ErrChecksum):
		return errors.New("its checksum does not match")
	case err != nil:
		return err
	case bytesRead > maxMember:
		return fmt.Errorf("it has more than %d bytes unpacked", maxMember)
	case m.least > 0 && records == 0:
		return errors.New("it is empty")
	case named < m.least:
		return fmt.Errorf("of its %d records %d have a name, and there should be %d at least", records, named, m.least)
	}
	done(bytesRead)
	return context.Cause(ctx)
}

// add takes a record.
func (x *extract) add(r *record, m member) error {
	if m.add == nil {
		x.release.read(r)
		return nil
	}
	n, err := strconv.ParseInt(string(r.Key), 10, 64)
	if err != nil || n < 0 || n > killfeed.MaxID {
		return fmt.Errorf("its _key %.40q is no id", r.Key)
	}
	r.id = uint32(n)
	return m.add(x, r)
}

// read takes the build number from a record, if it is the one that has it.
func (r *release) read(from *record) {
	if string(from.Key) != `"sde"` || from.Build <= 0 || from.Build > math.MaxInt32 {
		return
	}
	r.build = from.Build
	if at, err := time.Parse(time.RFC3339, from.Released); err == nil && at.Unix() > 0 {
		r.at = at.UTC()
	}
}

func (x *extract) region(r *record) error {
	x.data.Regions = append(x.data.Regions, killfeed.Region{ID: r.id, Name: string(r.Name)})
	return x.class(r)
}

func (x *extract) constellation(r *record) (err error) {
	c := killfeed.Constellation{ID: r.id, Name: string(r.Name)}
	if c.Region, err = number("regionID", r.Region, true); err != nil {
		return err
	}
	x.data.Constellations = append(x.data.Constellations, c)
	x.inRegion[c.ID] = c.Region
	return x.class(r)
}

func (x *extract) system(r *record) (err error) {
	s := killfeed.SolarSystem{ID: r.id, Name: string(r.Name)}
	if s.Constellation, err = number("constellationID", r.Constellation, true); err != nil {
		return err
	}
	if s.Region, err = number("regionID", r.Region, false); err != nil {
		return err
	}
	if s.Region == 0 {
		s.Region = x.inRegion[s.Constellation]
	}
	if r.Security == nil || math.Abs(*r.Security) > 10 {
		return errors.New("it has no securityStatus, or one that makes no sense") // without, all space would be null security
	}
	s.Security = *r.Security
	x.data.Systems = append(x.data.Systems, s)
	return x.class(r)
}

func (x *extract) group(r *record) (err error) {
	g := killfeed.Group{ID: r.id, Name: string(r.Name)}
	g.Category, err = number("categoryID", r.Category, true)
	x.data.Groups = append(x.data.Groups, g)
	return err
}

// typ takes every type, published or not: NPCs, and ships that only CCP flies, are in killmails too.
func (x *extract) typ(r *record) (err error) {
	t := killfeed.Type{ID: r.id, Name: string(r.Name)}
	t.Group, err = number("groupID", r.Group, true)
	x.data.Types = append(x.data.Types, t)
	return err
}

func (x *extract) faction(r *record) error {
	x.data.Factions = append(x.data.Factions, killfeed.Faction{ID: r.id, Name: string(r.Name)})
	return nil
}

func (x *extract) corporation(r *record) error {
	if len(r.Ticker) > maxName {
		return fmt.Errorf("its ticker has %d bytes", len(r.Ticker))
	}
	x.data.Corporations = append(x.data.Corporations, killfeed.Corporation{ID: r.id, Name: string(r.Name), Ticker: r.Ticker})
	return nil
}

// class takes the wormhole class of a place, if it has its own.
func (x *extract) class(r *record) error {
	n, err := number("wormholeClassID", r.Class, false)
	if err != nil || n > math.MaxUint8 {
		return fmt.Errorf("its wormholeClassID %d makes no sense", *r.Class)
	}
	if n > 0 {
		x.classes[r.id] = n
	}
	return nil
}

// inherit gives each solar system the wormhole class of what is nearest and has one.
func (x *extract) inherit() {
	for i := range x.data.Systems {
		s := &x.data.Systems[i]
		for _, place := range []uint32{s.ID, s.Constellation, s.Region} {
			if class := x.classes[place]; class > 0 {
				s.Class = uint8(class)
				break
			}
		}
	}
}

// number reads the id in a field. One that all records have must be there: if it were called otherwise one day, nothing would be
// in its place any more, and nobody would notice.
func number(field string, n *int64, needed bool) (uint32, error) {
	switch {
	case n == nil && needed:
		return 0, fmt.Errorf("it has no %s", field)
	case n == nil:
		return 0, nil
	case *n < 0 || *n > killfeed.MaxID:
		return 0, fmt.Errorf("its %s %d is no id", field, *n)
	}
	return uint32(*n), nil
}
