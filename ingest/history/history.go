// Package history reads the days of killmails that upstreams keep: zKillboard's /history files and EVE Ref's archives.
//
// # What it guarantees
//
// Completeness is told, not assumed: what a day should have, what it gave, and what could not be had are counted. A day that
// breaks off is an error; what came before it was handed out, and doing the day again is safe, because a log stores a killmail
// once.
//
// Bounds: a day's killmails are never in memory together; its ids and hashes are (about 2 MB). Every body has a limit.
//
// A day is the UTC date of the killmails' own time. Upstream rewrites a day's files as late killmails arrive, and has none of
// today: see Over.
package history

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"killfeed/ingest/archive"
	"killfeed/ingest/upstream"
)

const (
	maxTotals  = 4 << 20
	maxHashes  = 64 << 20
	maxDay     = 2 << 30   // a day of raw killmails has about 60 MB
	maxArchive = 512 << 20 // a packed one about 12 MB
)

// Archive is an upstream that keeps days of killmails.
type Archive interface {
	// Name is the upstream's, as users write it.
	Name() string
	// Totals returns how many killmails each day has, by Key.
	Totals(ctx context.Context) (map[string]int, error)
	// Day yields the killmails of a day that want asks for; a nil want asks for all. What it yields is for
	// killfeed.ParseItem. Its errors are those of yield, ctx, and *upstream.Error or *archive.FileError.
	Day(ctx context.Context, day time.Time, want func(id int64) bool, yield func(archive.Item) error) (Day, error)
}

// Day is what a day had.
type Day struct {
	// Listed is how many killmails the day has by its own list; -1 when there is none.
	Listed int
	// Yielded were handed out, Missing were asked for and have no body anywhere.
	Yielded, Missing int
	// MissingErr says why, of one of them.
	MissingErr error
}

// Key is how zKillboard writes a day, YYYYMMDD.
func Key(day time.Time) string { return day.UTC().Format("20060102") }

// ParseKey reads Key.
func ParseKey(key string) (time.Time, error) { return time.Parse("20060102", key) }

// Over is when the files of a day are complete but for late killmails: upstream writes them after 06:00 UTC of the next one.
func Over(day time.Time) time.Time {
	return day.UTC().Truncate(24 * time.Hour).Add(30*time.Hour + 20*time.Minute)
}

// ZKillboard reads /history of zKillboard or of a mirror.
type ZKillboard struct {
	// Client asks; URL is the base, as https://r2z2.zkillboard.com.
	Client *upstream.Client
	URL    string
	// Body gets the ESI body of a killmail that the raw files lack; nil: nobody does.
	Body func(ctx context.Context, id int64, hash string) ([]byte, error)
}

// Name implements Archive.
func (z *ZKillboard) Name() string { return "zkillboard" }

// Totals implements Archive.
func (z *ZKillboard) Totals(ctx context.Context) (map[string]int, error) {
	return totals(ctx, z.Client, z.URL+"/history/totals.json")
}

// totals reads a file of totals. Its days are YYYYMMDD or YYYY-MM-DD.
func totals(ctx context.Context, c *upstream.Client, address string) (map[string]int, error) {
	ans, err := c.Get(ctx, address, maxTotals)
	if err != nil {
		return nil, err
	}
	var raw map[string]int
	if err := decodeObject(ans.Body, &raw); err != nil {
		return nil, broken(address, err)
	}
	days := make(map[string]int, len(raw))
	for day, n := range raw {
		day = strings.ReplaceAll(day, "-", "")
		if _, err := ParseKey(day); err != nil || n < 0 {
			return nil, broken(address, fmt.Errorf("%.20q: %d is no total of a day", day, n))
		}
		days[day] = n
	}
	return days, nil
}

// decodeObject decodes an object; an empty one may be [], as PHP writes it.
func decodeObject(data []byte, to any) error {
	err := json.Unmarshal(data, to)
	var empty [0]struct{}
	if err != nil && bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) && len(bytes.Trim(data, "[] \t\r\n")) == 0 {
		return json.Unmarshal(data, &empty)
	}
	return err
}

func broken(address string, err error) error {
	return &upstream.Error{Class: upstream.ErrNotJSON, URL: address, Status: 200, Err: err}
}

// Hashes returns the hashes of a day's killmails by id.
func (z *ZKillboard) Hashes(ctx context.Context, day time.Time) (map[int64]string, error) {
	address := z.URL + "/history/" + Key(day) + ".json"
	ans, err := z.Client.Get(ctx, address, maxHashes)
	if err != nil {
		return nil, err
	}
	var raw map[string]string
	if err := decodeObject(ans.Body, &raw); err != nil {
		return nil, broken(address, err)
	}
	hashes := make(map[int64]string, len(raw))
	for text, hash := range raw {
		id, err := strconv.ParseInt(text, 10, 64)
		if _, bad := hex.DecodeString(hash); err != nil || id < 1 || bad != nil || len(hash) != 40 {
			return nil, broken(address, fmt.Errorf("%.20q: %.50q is no killmail with its hash", text, hash))
		}
		hashes[id] = strings.ToLower(hash)
	}
	return hashes, nil
}

// few is how many killmails are rather asked of Body one by one than read from the day's raw file, which has all of them.
const few = 40

// Day implements Archive: the bodies of the raw file, each with its hash from the other file; those that the raw file lacks by
// way of Body.
func (z *ZKillboard) Day(ctx context.Context, day time.Time, want func(id int64) bool, yield func(archive.Item) error) (Day, error) {
	hashes, err := z.Hashes(ctx, day)
	if err != nil {
		return Day{Listed: -1}, err
	}
	d := Day{Listed: len(hashes)}
	for id := range hashes {
		if want != nil && !want(id) {
			delete(hashes, id)
		}
	}
	if len(hashes) == 0 {
		return d, nil
	}
	if len(hashes) > few || z.Body == nil {
		switch err := z.raw(ctx, day, hashes, &d, yield); {
		case errors.Is(err, upstream.ErrNotFound): // there is none: all bodies come from Body
		case err != nil:
			return d, err
		}
	}
	// What is left has no raw body.
	left := make([]int64, 0, len(hashes))
	for id := range hashes {
		left = append(left, id)
	}
	slices.Sort(left)
	for _, id := range left {
		if z.Body == nil {
			d.Missing++
			d.MissingErr = fmt.Errorf("killmail %d is not in history/raw, and ESI is not asked", id)
			continue
		}
		body, err := z.Body(ctx, id, hashes[id])
		if ctx.Err() != nil {
			return d, context.Cause(ctx)
		}
		if err != nil {
			d.Missing++
			d.MissingErr = fmt.Errorf("killmail %d: %w", id, err)
			continue
		}
		d.Yielded++
		if err := yield(archive.Item{Name: Key(day) + "/" + strconv.FormatInt(id, 10), Data: join(id, hashes[id], body)}); err != nil {
			return d, err
		}
	}
	return d, nil
}

// raw yields what of hashes is in the day's raw file, and takes it out of hashes.
func (z *ZKillboard) raw(
	ctx context.Context, day time.Time, hashes map[int64]string, d *Day, yield func(archive.Item) error,
) error {
	address := z.URL + "/history/raw/" + Key(day) + ".json"
	return read(ctx, z.Client, address, maxDay, func(item archive.Item) error {
		_, text, _ := strings.Cut(item.Name, "/")
		id, err := strconv.ParseInt(text, 10, 64)
		hash, wanted := hashes[id]
		if item.Err == nil && err == nil && !wanted {
			return nil
		}
		if item.Err != nil || err != nil || !json.Valid(item.Data) {
			return broken(address, fmt.Errorf("killmail %q cannot be read", text))
		}
		delete(hashes, id)
		d.Yielded++
		return yield(archive.Item{Name: Key(day) + "/" + text, Data: join(id, hash, item.Data)})
	})
}

// join makes an item of a killmail's id, hash and ESI body, in the shape of R2Z2.
func join(id int64, hash string, body []byte) []byte {
	dst := make([]byte, 0, len(body)+96)
	dst = strconv.AppendInt(append(dst, `{"killmail_id":`...), id, 10)
	dst = append(append(dst, `,"hash":"`...), hash...)
	return append(append(append(dst, `","esi":`...), body...), '}')
}

// read takes an upstream's file apart as it comes.
func read(ctx context.Context, c *upstream.Client, address string, limit int64, yield func(archive.Item) error) error {
	stream, _, err := c.Open(ctx, address, limit)
	if err != nil {
		return err
	}
	defer stream.Close()
	r, err := archive.New(ctx, []string{"-"}, archive.Options{Stdin: stream})
	if err != nil {
		return err
	}
	err = r.Read(ctx, yield)
	if f, ok := errors.AsType[*archive.FileError](err); ok {
		f.Name, f.Hint = address, "try again" // what it says by itself is for files on a disk
	}
	return err
}

// EveRef reads the day archives of EVE Ref.
type EveRef struct {
	// Client asks; URL is the base, as https://data.everef.net.
	Client *upstream.Client
	URL    string
}

// Name implements Archive.
func (e *EveRef) Name() string { return "everef" }

// Totals implements Archive.
func (e *EveRef) Totals(ctx context.Context) (map[string]int, error) {
	return totals(ctx, e.Client, e.URL+"/killmails/totals.json")
}

// Day implements Archive. Without parsing them it does not know the killmails' ids, so that want is not used. A corrupt member
// of the archive is an item with an error.
func (e *EveRef) Day(ctx context.Context, day time.Time, _ func(id int64) bool, yield func(archive.Item) error) (Day, error) {
	d := Day{Listed: -1}
	address := e.URL + "/killmails/" + day.UTC().Format("2006/killmails-2006-01-02") + ".tar.bz2"
	err := read(ctx, e.Client, address, maxArchive, func(item archive.Item) error {
		d.Yielded++
		return yield(item)
	})
	return d, err
}
