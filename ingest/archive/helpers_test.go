package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"killfeed/ingest/archive"
)

// mail makes up a killmail in the true shape, on one line.
func mail(i int) string {
	return fmt.Sprintf(`{"killmail_id":%d,"killmail_time":"2021-11-30T00:00:%02dZ","solar_system_id":30000142,`+
		`"victim":{"ship_type_id":670,"damage_taken":458},`+
		`"attackers":[{"final_blow":true,"security_status":-1.5,"damage_done":458}]}`, 97030352+i, i%60)
}

func mails(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = mail(i)
	}
	return all
}

// mailsBzip2 is mails(3) as lines, packed with bzip2, for which the standard library has no writer.
const mailsBzip2 = `QlpoOTFBWSZTWXnuXZoAATzbgEAQEAd/8AQav+/fqjABGAGNNBoAZNAZGmhiaMMaaDQAyaAyNNDE0YN6qTTRMKNGEJp6QAMzVMGzi4Pm/r` +
	`o/Sq6Kur9u5JtFIopGbm1ceXPVwXt7mkxeakbnqsmCll60UUvYPKOa/XVorJXNcwUVxXx5s26KvR6sYqzjKKSRRrTO94P48XJRc2fCqr4dWEijo6RZ3r` +
	`34fl7s1ElovZMnZ7tVH3aOsZNYvbNElYtGEdXZwWdmcXPCNlI4xsucloviqqize5rL3kxcm5vXO5qk8WKiyjSO9c9GcaKslmLJ3roydnVo2bR/xdyRTh` +
	`QkHnuXZoA=`

func unbase64(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func lines(docs []string) string { return strings.Join(docs, "\n") + "\n" }
func array(docs []string) string { return "[" + strings.Join(docs, ",") + "]" }

// history makes an object of killmails by id, as zKillboard's history/raw.
func history(docs []string) string {
	var b strings.Builder
	for i, doc := range docs {
		fmt.Fprintf(&b, `%c"%d":%s`, "{,"[min(i, 1)], 97030352+i, doc)
	}
	return b.String() + "}"
}

func gz(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

// member is a member of a tar archive; a regular file unless it has another type.
type member struct {
	name, data string
	typ        byte
}

func tarball(members ...member) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Typeflag: m.typ, Mode: 0o644, Size: int64(len(m.data))}
		if m.typ == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeSymlink {
			h.Linkname = "/etc/passwd"
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		io.WriteString(w, m.data)
	}
	w.Close()
	return b.String()
}

// day packs killmails as EVE Ref does, before compression.
func day(docs []string) string {
	var members []member
	for i, doc := range docs {
		members = append(members, member{name: fmt.Sprintf("killmails/%d.json", 97030352+i), data: doc})
	}
	return tarball(members...)
}

// result is what a reader gave.
type result struct {
	names, docs []string // docs: the data, or "error: " and the text
	err         error
	progress    archive.Progress
}

func read(t testing.TB, opts archive.Options, paths ...string) (res result) {
	t.Helper()
	r, err := archive.New(t.Context(), paths, opts)
	if err != nil {
		t.Fatal(err)
	}
	res.err = r.Read(t.Context(), func(item archive.Item) error {
		res.names = append(res.names, item.Name)
		if item.Err != nil {
			if item.Data != nil {
				t.Errorf("item %s has data and an error", item.Name)
			}
			res.docs = append(res.docs, "error: "+item.Err.Error())
			return nil
		}
		res.docs = append(res.docs, string(item.Data))
		return nil
	})
	res.progress = r.Progress()
	return res
}

// readInput reads what comes on standard input.
func readInput(t testing.TB, input string, opts archive.Options) result {
	t.Helper()
	opts.Stdin = strings.NewReader(input)
	return read(t, opts, "-")
}

// write makes files below a new directory.
func write(t testing.TB, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
