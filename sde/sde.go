// Package sde keeps the game's static data: which solar system lies where, which type is in which group, and what all of them are
// called. It takes them from the archive that CCP publishes for every build of the game, and keeps them in one small file.
//
// # What it guarantees
//
// All or nothing: the index is the old one or the new one, whole, whatever is interrupted, and it is synced before it takes the
// old one's place. Everything that is taken from an archive has been compared with its checksum by then.
//
// An archive that is broken (cut off, damaged, without what is needed, of another build, or unpacking to more than it may)
// leaves the index as it was, and the error says what is wrong. One that was downloaded is removed then.
//
// Little is fetched: nothing but a line when the build is the one that is there, or an older one. A download that was interrupted
// goes on where it was, also in another process and another week, as long as upstream has the same file; what has come
// is not fetched again.
//
// Bounds: an archive, what is unpacked of it, a line, a table and a name have limits, and so have the time in which nothing
// comes and the number of tries. At no time is more than one line of an archive in memory, and what has been taken from it.
//
// One update at a time: a second one, of any process, is refused with killfeed.ErrLocked. A server that runs does not mind an
// update; it notices by its Watch.
//
// # What is where
//
// Below the data directory:
//
//	static/universe             the index
//	static/universe.new         one that is being written
//	static/<build>.zip.part     what has been downloaded of an archive
//	static/<build>.zip.tag      the version of that file, as upstream names it
//	static/lock                 held by who updates
//
// # The index
//
//	+----------+---------+----------+---------------------------+
//	| "KFUNIV" | version | checksum | body, packed with deflate |
//	|    6     |    2    |    4     |                           |
//	+----------+---------+----------+---------------------------+
//
// The version is 1. The checksum is the CRC-32C of all the other bytes of the file. Both are big-endian. In the body, numbers are
// varints (base 128, least significant first), and texts are UTF-8:
//
//	build, release time (Unix seconds, 0: not known),
//	solar systems:      table, constellations, regions, wormhole classes, security (8 bytes each: IEEE 754, big-endian)
//	constellations:     table, regions
//	regions:            table
//	types:              table, groups
//	groups:             table, categories
//	factions:           table
//	NPC corporations:   table, tickers (each its length, then the text)
//
// A table is the number of rows, then for each row, in ascending order of id, the difference between its id and the one before
// (the first one's id itself), then the length of each name, then the names. What follows a table has a value for each row. So
// like stands beside like, which packs better than rows do.
package sde

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"killfeed"
	"killfeed/ingest/upstream"
)

// DefaultURL is where CCP has its archives.
const DefaultURL = "https://developers.eveonline.com/static-data/tranquility"

var (
	// ErrBroken: the archive is not what it should be.
	ErrBroken = errors.New("broken")
	// ErrNone: there is no index.
	ErrNone = errors.New("no static data is installed")
	// ErrDamaged: there is an index, and it cannot be used.
	ErrDamaged = errors.New("damaged")
)

// Info is what there is to know of an index.
type Info struct {
	// File is its path, Bytes its size, and Installed when it came there.
	File      string    `json:"file"`
	Bytes     int64     `json:"bytes"`
	Installed time.Time `json:"installed_at"`
	// Build is the build of the game that it is of, 0 when that is not known, and Released when CCP released that.
	Build    int        `json:"build"`
	Released *time.Time `json:"released_at,omitempty"`
	// How many there are of what.
	Systems        int `json:"systems"`
	Constellations int `json:"constellations"`
	Regions        int `json:"regions"`
	Types          int `json:"types"`
	Groups         int `json:"groups"`
	Factions       int `json:"factions"`
	Corporations   int `json:"corporations"`
}

// Load reads the index in a data directory. The error is ErrNone or ErrDamaged, wrapped, or that of the disk.
func Load(dir string) (*killfeed.Universe, Info, error) {
	u, info, _, err := load(dir)
	return u, info, err
}

// load is Load; the file is the one that was read, and nil when none was there.
func load(dir string) (u *killfeed.Universe, info Info, file fs.FileInfo, err error) {
	info.File = indexFile(dir)
	data, file, err := readFile(info.File, maxIndex)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, info, nil, fmt.Errorf("%w in %s", ErrNone, dir)
	case err != nil:
		return nil, info, file, fmt.Errorf("reading the static data: %w", err)
	}
	info.Bytes, info.Installed = file.Size(), file.ModTime().UTC()
	d, r, err := decode(data)
	if err == nil {
		u, err = killfeed.NewUniverse(d)
	}
	if err != nil {
		return nil, info, file, fmt.Errorf("static data in %s is %w: %w; get it anew with killfeed sde update", info.File, ErrDamaged, err)
	}
	info.describe(&d, r)
	return u, info, file, nil
}

func (i *Info) describe(d *killfeed.UniverseData, r release) {
	i.Build, i.Released = r.build, nil
	if !r.at.IsZero() {
		i.Released = &r.at
	}
	i.Systems, i.Constellations, i.Regions = len(d.Systems), len(d.Constellations), len(d.Regions)
	i.Types, i.Groups, i.Factions, i.Corporations = len(d.Types), len(d.Groups), len(d.Factions), len(d.Corporations)
}

// readFile reads a whole file of at most limit bytes. What it tells of the file is of the one that it read, though another one may
// have its name by now.
func readFile(name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, info, err
}

func staticDir(dir string) string { return filepath.Join(dir, "static") }
func indexFile(dir string) string { return filepath.Join(staticDir(dir), "universe") }

// Stage is what an update is doing.
type Stage string

const (
	// Downloading: the archive comes from upstream; the bytes are the archive's.
	Downloading Stage = "downloading"
	// Reading: the archive is being read; the bytes are the unpacked ones.
	Reading Stage = "reading"
)

// Progress is how far an update has come.
type Progress struct {
	Stage Stage
	// Done of Total bytes; Total is 0 when it is not known.
	Done, Total int64
}

// Options say what to update and from where.
type Options struct {
	// Dir is the data directory. It is made when it is missing.
	Dir string
	// Client asks upstream. Its timeout is how long nothing may come. Import needs none.
	Client *upstream.Client
	// URL is where the archives are; empty: DefaultURL.
	URL string
	// Progress, unless nil, is told how it goes, often, by the goroutine that called Update.
	Progress func(Progress)
	// Failed, unless nil, is told of each try that failed, and after how long the next one follows.
	Failed func(err error, wait time.Duration)

	members []member // what is wanted of an archive; nil: members()
}

// Result is what came of an update.
type Result struct {
	// Info is what is installed now.
	Info
	// Changed: it is another one than before, of which Previous was the build, 0 when there was none.
	Changed  bool `json:"changed"`
	Previous int  `json:"previous_build,omitempty"`
	// Latest is upstream's build, 0 when it was not asked. Upstream's caches may tell an older one than is installed.
	Latest int `json:"latest_build,omitempty"`
	// Downloaded is how many bytes of the archive came now, Resumed how many had come before.
	Downloaded int64 `json:"downloaded_bytes"`
	Resumed    int64 `json:"resumed_bytes,omitempty"`
}

// Update installs the build that upstream says is the latest, unless it is there already, or a newer one. Errors are those of ctx,
// *upstream.Error, ErrBroken, killfeed.ErrLocked, or of the disk, wrapped.
func Update(ctx context.Context, o Options) (Result, error) {
	unlock, err := o.begin()
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	_, have, err := Load(o.Dir)
	if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, ErrDamaged) {
		return Result{}, err
	}
	usable := err == nil
	latest, err := o.latest(ctx)
	if err != nil {
		return Result{}, err
	}
	if usable && have.Build >= latest.build {
		return Result{Info: have, Previous: have.Build, Latest: latest.build}, nil
	}
	d := o.download(latest.build)
	if err := d.run(ctx); err != nil {
		return Result{}, err
	}
	res, err := o.install(ctx, d.part, latest.build)
	if errors.Is(err, ErrBroken) {
		err = fmt.Errorf("%w; the archive was removed, and the static data is as it was: repeat the update", err)
		return Result{}, errors.Join(err, d.remove())
	}
	if err != nil {
		return Result{}, err
	}
	res.Previous, res.Latest, res.Downloaded, res.Resumed = have.Build, latest.build, d.came, d.resumed
	return res, o.removeParts("")
}

// Import installs what is in an archive on the disk, whatever is installed already. The archive stays as it is.
func Import(ctx context.Context, o Options, archive string) (Result, error) {
	unlock, err := o.begin()
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	_, have, _ := Load(o.Dir) // whatever is wrong with it: it is replaced
	res, err := o.install(ctx, archive, 0)
	if err != nil {
		return Result{}, err
	}
	res.Previous = have.Build
	return res, nil
}

// begin makes the directory and keeps others out of it until the caller calls end.
func (o *Options) begin() (end func(), err error) {
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Failed == nil {
		o.Failed = func(error, time.Duration) {}
	}
	if o.URL == "" {
		o.URL = DefaultURL
	}
	if o.members == nil {
		o.members = members()
	}
	// The data directory is the server's. What is below is no secret, and the server need not be who updates.
	err = os.MkdirAll(o.Dir, 0o750)
	if err == nil {
		err = os.MkdirAll(staticDir(o.Dir), 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("making the directory of static data: %w", err)
	}
	held, err := lock(filepath.Join(staticDir(o.Dir), "lock"))
	if err != nil {
		return nil, fmt.Errorf("locking the static data in %s: %w", o.Dir, err)
	}
	return func() { held.Close() }, nil
}

// install makes an index of an archive and puts it in its place. build is what the archive must be of; 0: of any.
func (o *Options) install(ctx context.Context, archive string, build int) (Result, error) {
	d, r, err := readArchive(ctx, archive, o.members, func(n, total int64) { o.Progress(Progress{Reading, n, total}) })
	if err != nil {
		return Result{}, err
	}
	if build != 0 {
		if r.build != 0 && r.build != build {
			return Result{}, fmt.Errorf("static data archive %s is %w: it is of build %d, and should be of %d", archive, ErrBroken, r.build, build)
		}
		r.build, d.Build = build, build
	}
	if _, err := killfeed.NewUniverse(d); err != nil { // it sorts d, too
		return Result{}, fmt.Errorf("static data archive %s is %w: %w", archive, ErrBroken, err)
	}
	data, err := encode(&d, r)
	if err != nil {
		return Result{}, fmt.Errorf("packing the static data: %w", err)
	}
	if len(data) > maxIndex {
		return Result{}, fmt.Errorf("static data archive %s is %w: its index has %d bytes, more than %d", archive, ErrBroken, len(data), maxIndex)
	}
	if err := replace(indexFile(o.Dir), data); err != nil {
		return Result{}, fmt.Errorf("writing the static data: %w", err)
	}
	_, info, err := Load(o.Dir) // what was written must be readable
	return Result{Info: info, Changed: true}, err
}

// replace puts a file in the place of another one. A crash at any moment leaves the old one or the new one.
func replace(name string, data []byte) error {
	temp := name + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(data))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, name); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // its directories cannot be synced
		return nil
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
