package standin_test

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
	"killfeed/internal/sdesim"
)

// staticArchive writes an archive with next to nothing in it but its build.
func staticArchive(t *testing.T, dir string, build int) (name, data string) {
	t.Helper()
	d := &sdesim.Data{}
	d.Build = build
	archive, err := d.Archive()
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(dir, strconv.Itoa(build)+".zip")
	write(t, name, string(archive))
	return name, string(archive)
}

func TestStaticData(t *testing.T) {
	dir := t.TempDir()
	older, olderData := staticArchive(t, dir, 100)
	newer, newerData := staticArchive(t, dir, 101)
	const (
		latest  = "/static-data/tranquility/latest.jsonl"
		archive = "/static-data/tranquility/eve-online-static-data-101-jsonl.zip"
	)
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{StaticData: []string{older}})
		s.wantBody(`{"_key": "sde", "buildNumber": 100, "releaseDate": "2026-10-02T11:08:57Z"}`+"\n", latest)
		s.want(http.StatusForbidden, archive)
		if err := s.AddStaticData(newer); err != nil {
			t.Fatal(err)
		}
		if r := s.get(latest); !strings.Contains(r.body, `"buildNumber": 101,`) {
			t.Errorf("latest: %s", r.body)
		}
		s.set(standin.Stale, standin.Strike{Next: 1})
		if r := s.get(latest); !strings.Contains(r.body, `"buildNumber": 100,`) {
			t.Errorf("stale: %s", r.body)
		}
		s.wantBody(olderData, "/static-data/tranquility/eve-online-static-data-100-jsonl.zip")
		r := s.want(http.StatusFound, "/static-data/eve-online-static-data-latest-jsonl.zip")
		if to := r.header.Get("Location"); to != archive {
			t.Errorf("the latest is at %s", to)
		}

		s.ResetStats()
		r = s.wantBody(newerData, archive)
		tag := r.header.Get("Etag")
		for from, want := range map[string]int{"5": http.StatusPartialContent, "0": http.StatusPartialContent, "1000000": http.StatusRequestedRangeNotSatisfiable,
			"x": http.StatusOK} {
			r := s.want(want, archive, "Range", "bytes="+from+"-", "If-Range", tag)
			size := strconv.Itoa(len(newerData))
			switch n, _ := strconv.Atoi(from); want {
			case http.StatusPartialContent:
				if r.body != newerData[n:] || r.header.Get("Content-Range") != "bytes "+from+"-"+strconv.Itoa(len(newerData)-1)+"/"+size {
					t.Errorf("from %s: %d bytes, %v", from, len(r.body), r.header)
				}
			case http.StatusRequestedRangeNotSatisfiable:
				if r.header.Get("Content-Range") != "bytes */"+size {
					t.Errorf("from %s: %v", from, r.header)
				}
			}
		}
		s.wantBody(newerData, archive, "Range", "bytes=5-", "If-Range", `"another"`)
		if got, want := s.Stats().StaticBytes, int64(5*len(newerData)-5); got != want {
			t.Errorf("%d bytes were sent, want %d", got, want)
		}

		s.set(standin.Cut, standin.Strike{Next: 1})
		if r := s.try(t.Context(), http.MethodGet, archive, "Range", "bytes=9-"); r.err == nil || r.body != newerData[9:9+(len(newerData)-9)/2] {
			t.Errorf("cut: %d bytes, %v", len(r.body), r.err)
		}
		s.set(standin.Slow, standin.Strike{Next: 1})
		begun := time.Now()
		s.wantBody(newerData, archive)
		if took := time.Since(begun); took != 7*time.Second {
			t.Errorf("slow: it took %v", took)
		}
	})
	if _, err := standin.New(standin.Config{StaticData: []string{filepath.Join(dir, "none.zip")}}); err == nil {
		t.Error("a file that is not there is accepted")
	}
}
