package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"killfeed/ingest/archive"
)

// realData returns the path of a file of real killmails, which are no part of the project.
func realData(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("real data is not there, so it is not read: %v", err)
	}
	return path
}

const realDay, realDayItems = "killmails-2021-11-30.tar.bz2", 11721

func TestRealData(t *testing.T) {
	for name, want := range map[string]int{
		realDay: realDayItems, "killmails-hour.jsonl.gz": 1226, "killmails-small.jsonl.gz": 3000,
		"wire/r2z2_ephemeral_50.jsonl":                           50,
		"wire/odd_km_108794056_no_final_blow_982_attackers.json": 1,
		"wire/r2z2_ephemeral_awox_genuine.json":                  1,
		"wire/ws_killstream_2022.json":                           1,
		"wire/redisq_2024_with_killmail.json":                    1,
		"wire/odd_km_107220741_structure_581_attackers.json":     1,
		"wire/everef_member_war.json":                            1,
		"wire/r2z2_ephemeral_2026-06_shape_CONSTRUCTED.json":     1,
	} {
		t.Run(name, func(t *testing.T) {
			r, err := archive.New(t.Context(), []string{realData(t, name)}, archive.Options{})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			err = r.Read(t.Context(), func(item archive.Item) error {
				n++
				if item.Err != nil {
					return item.Err
				}
				if !json.Valid(item.Data) {
					return fmt.Errorf("%s is not JSON", item.Name)
				}
				return nil
			})
			if err != nil || n != want {
				t.Errorf("read %d killmails, error %v; want %d", n, err, want)
			}
			if p := r.Progress(); p.Bytes != p.Total || p.Done != 1 || p.Passed != 0 {
				t.Errorf("progress is %+v", p)
			}
		})
	}
	res := read(t, archive.Options{}, realData(t, "wire/history_20211203_CONSTRUCTED.json"))
	checkFileError(t, res.err, "hashes of killmails")
}

// BenchmarkReadDay reads and validates a real day; "plain" is the same work without this package, in one goroutine: the
// yardstick of importing.
func BenchmarkReadDay(b *testing.B) {
	path := realData(b, realDay)
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			f, err := os.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			archive := tar.NewReader(bzip2.NewReader(f))
			n := 0
			var doc bytes.Buffer
			for {
				if _, err := archive.Next(); err == io.EOF {
					break
				} else if err != nil {
					b.Fatal(err)
				}
				doc.Reset()
				if _, err := doc.ReadFrom(archive); err != nil || !json.Valid(doc.Bytes()) {
					b.Fatal("bad member", err)
				}
				n++
			}
			f.Close()
			if n != realDayItems {
				b.Fatal(n)
			}
		}
	})
	b.Run("archive", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			readValid(b, path, realDayItems)
		}
	})
}

// BenchmarkReadHour reads and validates lines, where taking apart matters more than decompressing.
func BenchmarkReadHour(b *testing.B) {
	path := realData(b, "killmails-hour.jsonl.gz")
	b.ReportAllocs()
	for b.Loop() {
		readValid(b, path, 1226)
	}
}

func readValid(b *testing.B, path string, want int) {
	r, err := archive.New(b.Context(), []string{path}, archive.Options{})
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	err = r.Read(b.Context(), func(item archive.Item) error {
		if !json.Valid(item.Data) {
			return fmt.Errorf("%s is not JSON", item.Name)
		}
		n++
		return nil
	})
	if err != nil || n != want {
		b.Fatal(n, err)
	}
}
