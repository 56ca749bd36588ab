package standin

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// archives are EVE Ref's day archives in a directory. They are read anew for each request, but counted once.
type archives struct {
	dir string // empty: there are none

	mu     sync.Mutex // guards counts, and is held while an archive is counted
	counts map[archiveKey]int
}

// archiveKey is a version of an archive.
type archiveKey struct {
	name     string
	size     int64
	modified time.Time
}

// archiveDay is the day of an archive's name; false: it is no name of one.
func archiveDay(name string) (day time.Time, ok bool) {
	date, front := strings.CutPrefix(name, "killmails-")
	date, back := strings.CutSuffix(date, ".tar.bz2")
	day, err := time.Parse(time.DateOnly, date)
	return day, front && back && err == nil
}

// list finds the archives of a year, or of all when it is empty, and what they are below the directory, by name.
func (a *archives) list(year string) (map[string]string, error) {
	found := map[string]string{}
	if a.dir == "" {
		return found, nil
	}
	dirs, err := os.ReadDir(a.dir)
	if err != nil {
		return nil, err
	}
	add := func(dir string, entries []fs.DirEntry) {
		for _, e := range entries {
			if day, ok := archiveDay(e.Name()); ok && e.Type().IsRegular() && (year == "" || day.Format("2006") == year) {
				found[e.Name()] = path.Join(dir, e.Name())
			}
		}
	}
	add("", dirs)
	for _, d := range dirs {
		if _, err := time.Parse("2006", d.Name()); err == nil && d.IsDir() {
			entries, err := os.ReadDir(path.Join(a.dir, d.Name()))
			if err != nil {
				return nil, err
			}
			add(d.Name(), entries)
		}
	}
	return found, nil
}

// serve answers what is asked for below /killmails/.
func (a *archives) serve(parts []string) (answer, error) {
	if parts[0] == "totals.json" {
		return a.totals()
	}
	year, name := parts[0], parts[1]
	found, err := a.list(year)
	if err != nil {
		return answer{}, err
	}
	if name == "" {
		if len(found) == 0 {
			return notFound(), nil
		}
		return a.listing(year, found)
	}
	name, sum := strings.CutSuffix(name, ".md5")
	file, ok := found[name]
	if !ok {
		return notFound(), nil
	}
	data, info, err := a.read(file)
	if err != nil {
		return answer{}, err
	}
	if sum {
		digest := md5.Sum(data)
		return newAnswer(http.StatusOK, "text/plain; charset=utf-8", []byte(hex.EncodeToString(digest[:])+"\n")), nil
	}
	ans := stored(data, "public, max-age=3600", info.ModTime())
	ans.header.Set("Content-Type", "application/x-bzip2")
	return ans, nil
}

// read reads a file below the directory, and nothing outside it.
func (a *archives) read(file string) ([]byte, fs.FileInfo, error) {
	root, err := os.OpenRoot(a.dir)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	info, err := root.Stat(file)
	if err != nil {
		return nil, nil, err
	}
	data, err := root.ReadFile(file)
	return data, info, err
}

// listing is the page of a year's directory.
func (a *archives) listing(year string, found map[string]string) (answer, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html><head><title>/killmails/%s/</title></head><body>\n<a href=\"../\">../</a>\n", year)
	for _, name := range slices.Sorted(maps.Keys(found)) {
		fmt.Fprintf(&b, "<a href=\"/killmails/%s/%s\">%s</a>\n", year, name, name)
	}
	b.WriteString("</body></html>\n")
	return newAnswer(http.StatusOK, "text/html; charset=utf-8", b.Bytes()), nil
}

// totals is totals.json: how many killmails each archive has.
func (a *archives) totals() (answer, error) {
	found, err := a.list("")
	if err != nil || len(found) == 0 {
		return notFound(), err
	}
	totals := map[string]int{}
	for name, file := range found {
		day, _ := archiveDay(name)
		n, err := a.count(file)
		if err != nil {
			return answer{}, fmt.Errorf("archive %s cannot be counted: %w", name, err)
		}
		totals[day.Format(time.DateOnly)] = n
	}
	body, err := json.Marshal(totals) // sorted by day
	return stored(body, "public, max-age=3600", time.Time{}), err
}

// count counts the killmails of an archive.
func (a *archives) count(file string) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	data, info, err := a.read(file)
	if err != nil {
		return 0, err
	}
	key := archiveKey{file, info.Size(), info.ModTime()}
	if n, ok := a.counts[key]; ok {
		return n, nil
	}
	n := 0
	for r := tar.NewReader(bzip2.NewReader(bytes.NewReader(data))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if h.Typeflag == tar.TypeReg && strings.HasSuffix(h.Name, ".json") {
			n++
		}
	}
	a.counts[key] = n
	return n, nil
}
