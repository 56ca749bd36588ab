package standin_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"killfeed/ingest/standin"
)

// Two day archives of made-up killmails, tar packed with bzip2, for which there is no writer: two killmails and one.
const twoMails = `QlpoOTFBWSZTWbD3OcwAAS7/gMyAACBYB/2wAACEGv//36oISDABeAAxoaGgAyGgAAAABjQ0NABkNAAAAAAqpogI01NE/Un6pp6mh6aaT1Ayep` +
	`6ninX8MTnQEVSkSU1+rJcQ0KywSQIlseB9m97PR2KJlHJ6s0uaEIIQcPviyQejv+mpsTbkKoxfJczhKWTczUJS8nmoMG9aUXMFxchShX51J7lL` +
	`V6ostRKaxRbLaitvXLU3aVL0rCAsTLGT2ZIPim5tyap/V7ktJQ2tpNY8mKjh+Uft/GpCVhW0tL/OLsQ2sHIvYFTQhzTSolWIWHJrZOKtwaUuPW` +
	`p7kuiBmP0mZqyoUVqk03ceCtU2LTNc7k2taxWIOit3r0LkMEu1N815qUYK1rowa1DQ6OrBY3G0kf8XckU4UJCw9znM`

const oneMail = `QlpoOTFBWSZTWeH70tIAAMD/gMyAAAJYB/2wAACEGv//36oICDAA2tUNETFPJlMhoAG0gNADT1A1MjIkaD1HqaGjQAANDQCUkJiNMJowTEYhoa` +
	`GgYZXPCwIGLCICGy/c2K1NjICCgUTzHXp7tfXWF7vGUpGZgzCn4TG/Y7Pjic0NF4AYI1JBEuxIDtzAnNZAQIy1LsfM0QD2GrX6STbB5xDpmKCA` +
	`CmFlXIhlOUUTfG3MBHt1BC676bevp5lasKnn++6Di+4NgJnHJBJJACUWX5VpZbZ5bhZ9ICgD4YxoHANRxnEZEdS8UQiihkFmJKqad43lSjW0QS` +
	`9TJPpSHS/PXYKwRAfxdyRThQkOH70tIA==`

func unpack(t *testing.T, text string) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// write makes a file and what directories it needs.
func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEVERef(t *testing.T) {
	two, one := unpack(t, twoMails), unpack(t, oneMail)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "killmails-1999-12-30.tar.bz2"), two)
	write(t, filepath.Join(dir, "1999", "killmails-1999-12-31.tar.bz2"), one)
	write(t, filepath.Join(dir, "2000", "killmails-2000-01-01.tar.bz2"), one)
	write(t, filepath.Join(dir, "1999", "killmails-1999-13-31.tar.bz2"), "no day")
	write(t, filepath.Join(dir, "secret"), "not to be served")
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{ArchiveDir: dir})
		r := s.wantBody(two, "/killmails/1999/killmails-1999-12-30.tar.bz2", "Accept-Encoding", "gzip")
		if r.header.Get("Content-Encoding") != "" || r.header.Get("Content-Type") != "application/x-bzip2" {
			t.Errorf("header %v", r.header)
		}
		s.wantBody(one, "/killmails/1999/killmails-1999-12-31.tar.bz2")
		sum := md5.Sum([]byte(one))
		s.wantBody(hex.EncodeToString(sum[:])+"\n", "/killmails/2000/killmails-2000-01-01.tar.bz2.md5")
		s.wantBody(`{"1999-12-30":2,"1999-12-31":1,"2000-01-01":1}`, "/killmails/totals.json")
		s.wantBody(`{"1999-12-30":2,"1999-12-31":1,"2000-01-01":1}`, "/killmails/totals.json")
		list := s.want(http.StatusOK, "/killmails/1999/").body
		if strings.Count(list, "tar.bz2\"") != 2 ||
			!strings.Contains(list, `<a href="/killmails/1999/killmails-1999-12-31.tar.bz2">killmails-1999-12-31.tar.bz2</a>`) {
			t.Errorf("listing %s", list)
		}
		for _, path := range []string{
			"/killmails/2000/killmails-1999-12-31.tar.bz2", "/killmails/1999/killmails-1999-12-29.tar.bz2", "/killmails/1998/",
			"/killmails/1999/killmails-1999-13-31.tar.bz2", "/killmails/1999/killmails-..%2fsecret",
			"/killmails/1999/killmails-1999-12-31.tar.bz2.md5.md5", "/killmails/",
		} {
			s.want(http.StatusNotFound, path)
		}
		if n := s.Stats().Requests[standin.KindArchive]; n[200] != 6 {
			t.Errorf("requests %v, want 6 answered", n)
		}

		none := open(t, standin.Config{})
		none.want(http.StatusNotFound, "/killmails/1999/killmails-1999-12-30.tar.bz2")
		none.want(http.StatusNotFound, "/killmails/totals.json")
		none.want(http.StatusNotFound, "/killmails/1999/")
		lost := open(t, standin.Config{ArchiveDir: filepath.Join(dir, "lost")})
		lost.want(http.StatusInternalServerError, "/killmails/totals.json")
	})
}
