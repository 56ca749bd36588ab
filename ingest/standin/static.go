package standin

import (
	"archive/zip"
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// static are CCP's archives of static data.
type static struct {
	sent atomic.Int64 // bytes of bodies

	mu     sync.Mutex // guards builds; held for an append or a copy
	builds []staticBuild
}

// staticBuild is an archive. It never changes.
type staticBuild struct {
	build    int
	released string
	modified time.Time
	data     []byte
}

// add reads archives.
func (s *static) add(files ...string) error {
	var builds []staticBuild
	for _, name := range files {
		b, err := readStatic(name)
		if err != nil {
			return fmt.Errorf("static data archive %s: %w", name, err)
		}
		builds = append(builds, b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.builds = append(s.builds, builds...)
	return nil
}

// readStatic reads an archive, and its build in it.
func readStatic(name string) (b staticBuild, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return b, err
	}
	b.modified = info.ModTime()
	if b.data, err = os.ReadFile(name); err != nil {
		return b, err
	}
	z, err := zip.NewReader(bytes.NewReader(b.data), int64(len(b.data)))
	if err != nil {
		return b, err
	}
	f, err := z.Open("_sde.jsonl")
	if err != nil {
		return b, err
	}
	defer f.Close()
	var r struct {
		Build    int    `json:"buildNumber"`
		Released string `json:"releaseDate"`
	}
	if err := json.NewDecoder(io.LimitReader(f, 1<<16)).Decode(&r); err != nil || r.Build <= 0 {
		return b, fmt.Errorf("it tells no build number in _sde.jsonl (%v)", err)
	}
	b.build, b.released = r.Build, r.Released
	return b, nil
}

// serve answers what is asked for below /static-data/, with stale as before the latest build.
func (s *static) serve(q *request, stale bool) answer {
	s.mu.Lock()
	builds := s.builds
	s.mu.Unlock()
	if stale && len(builds) > 1 {
		builds = builds[:len(builds)-1]
	}
	if len(builds) == 0 {
		return notFound()
	}
	latest := builds[len(builds)-1]
	name := func(b staticBuild) string { return "eve-online-static-data-" + strconv.Itoa(b.build) + "-jsonl.zip" }
	switch parts := q.parts; {
	case len(parts) == 1 && parts[0] == "eve-online-static-data-latest-jsonl.zip":
		a := newAnswer(http.StatusFound, "", nil)
		a.header.Set("Location", "/static-data/tranquility/"+name(latest))
		return a
	case len(parts) == 1 || parts[0] != "tranquility":
		return notFound()
	case parts[1] == "latest.jsonl":
		line := fmt.Sprintf(`{"_key": "sde", "buildNumber": %d, "releaseDate": %q}`+"\n", latest.build, latest.released)
		a := stored([]byte(line), "max-age=300", latest.modified)
		a.header.Set("Content-Type", "application/jsonlines+json")
		return a
	default:
		for _, b := range slices.Backward(builds) { // of two with one number, the newer
			if parts[1] == name(b) {
				return b.answer(q)
			}
		}
		return plain(http.StatusForbidden) // upstream's answer for what it does not have
	}
}

// answer is the archive, or the rest of it that was asked for.
func (b *staticBuild) answer(q *request) answer {
	sum := md5.Sum(b.data)
	a := newAnswer(http.StatusOK, "application/zip", b.data)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`
	a.header.Set("Etag", tag)
	a.header.Set("Last-Modified", b.modified.UTC().Format(http.TimeFormat))
	a.header.Set("Accept-Ranges", "bytes")
	wanted, ok := strings.CutPrefix(q.Header.Get("Range"), "bytes=")
	first, open := strings.CutSuffix(wanted, "-")
	from, err := strconv.ParseInt(first, 10, 64)
	if cond := q.Header.Get("If-Range"); !ok || !open || err != nil || cond != "" && cond != tag && cond != a.header.Get("Last-Modified") {
		return a // other ranges may be passed over
	}
	size := int64(len(b.data))
	if from >= size {
		a = newAnswer(http.StatusRequestedRangeNotSatisfiable, "", nil)
		a.header.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		return a
	}
	a.status, a.body = http.StatusPartialContent, b.data[from:]
	a.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, size-1, size))
	return a
}
