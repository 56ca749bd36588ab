package archive_test

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"killfeed/ingest/archive"
)

// pretty spreads a document over lines as json.dump(indent=2) does.
func pretty(doc string) string {
	var b strings.Builder
	depth := 0
	for _, c := range doc { // made-up killmails have no strings with brackets
		switch c {
		case '{', '[':
			depth++
			fmt.Fprintf(&b, "%c\n%*s", c, 2*depth, "")
		case '}', ']':
			depth--
			fmt.Fprintf(&b, "\n%*s%c", 2*depth, "", c)
		case ',':
			fmt.Fprintf(&b, ",\n%*s", 2*depth, "")
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func prettyAll(docs []string) []string {
	out := make([]string, len(docs))
	for i, doc := range docs {
		out[i] = pretty(doc)
	}
	return out
}

func TestFormats(t *testing.T) {
	three := mails(3)
	loose := prettyAll(three)
	for _, c := range []struct {
		name, input string
		want        []string
	}{
		{"nothing", "", nil},
		{"nothing, gzip", gz(""), nil},
		{"white space", " \r\n\n\t", nil},
		{"byte order mark alone", "\ufeff", nil},
		{"empty tar", tarball(), nil},
		{"empty tar, gzip", gz(tarball()), nil},
		{"empty day", "[]", nil},
		{"empty day, spaced", " [ \n ] \n", nil},

		{"single", mail(0), three[:1]},
		{"single, gzip", gz(mail(0)), three[:1]},
		{"single, pretty", loose[0] + "\n", loose[:1]},
		{"several pretty ones", lines(loose), loose},
		{"lines", lines(three), three},
		{"lines, gzip", gz(lines(three)), three},
		{"lines, bzip2", unbase64(mailsBzip2), three},
		{"lines, CRLF, blank ones, mark, last without end", "\ufeff\r\n" + strings.Join(three, "\r\n\r\n \r\n"), three},
		{"no lines", strings.Join(three, ""), three},
		{"array", array(three), three},
		{"array, pretty", array(loose), loose},
		{"array, one a line", "[\n" + strings.Join(three, ",\n") + "\n]\n", three},
		{"array, gzip", gz(array(three)), three},
		{"arrays in lines", array(three[:1]) + "\n" + array(three[1:]), three},
		{"history", history(three), three},
		{"history, spaced", " { \"1\" : " + three[0] + " , \n\t\"2\"\n:\n" + three[1] + "}", three[:2]},
		{"history, gzip", gz(history(three)), three},
		{"tar", day(three), three},
		{"tar, gzip", gz(day(three)), three},
		{"tar, pretty members", day(loose), loose},
		{"tar, members with line ends", day([]string{three[0] + "\n", "\ufeff" + three[1] + "\r\n"}), three[:2]},
		{"tar of lines, array and history", tarball(member{name: "a.jsonl", data: lines(three)},
			member{name: "b.json", data: array(three)}, member{name: "c", data: history(three)}),
			append(append(mails(3), three...), three...)},

		{"streams in a row, gzip", gz(lines(three[:2])) + gz(lines(three[2:])), three},
		{"streams in a row, bzip2", unbase64(mailsBzip2) + unbase64(mailsBzip2), append(mails(3), three...)},
		{"archives in a row", day(three[:1]) + day(three[1:]), three},
		{"archives in a row, gzip", gz(day(three[:1])) + gz(tarball()) + gz(day(three[1:])), three},
		{"padded archive", day(three) + strings.Repeat("\x00", 10240), three},

		// No killmails, but documents: the parser of killmails refuses them.
		{"scalars in an array", `[null, 1,"a" ,{}]`, []string{"null", "1", `"a"`, "{}"}},
		{"scalars in lines", "null\n{}\n12", []string{"null", "{}", "12"}},
		{"array of arrays", `[[{}],[]]`, []string{"[{}]", "[]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := readInput(t, c.input, archive.Options{})
			if res.err != nil {
				t.Error(res.err)
			}
			if diff := cmp.Diff(c.want, res.docs); diff != "" {
				t.Error("items (-want +got):", diff)
			}
			if got := res.progress.Items; got != int64(len(c.want)) {
				t.Errorf("progress tells of %d items, want %d", got, len(c.want))
			}
		})
	}
}

func TestNames(t *testing.T) {
	three := mails(3)
	dir := write(t, map[string]string{
		"a.json":     pretty(three[0]),
		"b.jsonl.gz": gz("\n" + lines(three[:2])),
		"c.json":     array(three[:2]),
		"d.json":     "\n" + history(three[:2]),
		"e.tgz":      gz(day(three[:2])),
		"f.tar":      tarball(member{name: "x.jsonl", data: lines(three[:2])}, member{name: "\x1b[2J.json", data: "{}"}),
	})
	res := read(t, archive.Options{}, dir)
	if res.err != nil {
		t.Error(res.err)
	}
	for i := range res.names {
		res.names[i] = strings.TrimPrefix(res.names[i], dir+string(filepath.Separator))
	}
	want := []string{
		"a.json:1",
		"b.jsonl.gz:2", "b.jsonl.gz:3",
		"c.json[0]", "c.json[1]",
		"d.json/97030352", "d.json/97030353",
		"e.tgz/killmails/97030352.json", "e.tgz/killmails/97030353.json",
		"f.tar/x.jsonl:1", "f.tar/x.jsonl:2", "f.tar/\ufffd[2J.json",
	}
	if diff := cmp.Diff(want, res.names); diff != "" {
		t.Error("names (-want +got):", diff)
	}
}

func TestTooLarge(t *testing.T) {
	large := fmt.Sprintf(`{"killmail_id":1,"pad":"%s"}`, strings.Repeat("x", 5000))
	spread := strings.ReplaceAll(large, ",", ",\n")
	m := mail(0)
	opts := archive.Options{MaxItem: 1000}
	const told = "error: document is too large: more than 1000 bytes"
	for _, c := range []struct {
		name, input string
		want        []string
		err         string
	}{
		{name: "line", input: lines([]string{m, large, m}), want: []string{m, told, m}},
		{name: "far larger than any buffer", input: m + "\n[{\"a\":\"" + strings.Repeat("x", 1<<20) + "\"}," + m + "]",
			want: []string{m, told, m}},
		{name: "element", input: array([]string{m, large, m}), want: []string{m, told, m}},
		{name: "value", input: history([]string{m, large, m}), want: []string{m, told, m}},
		{name: "member", input: day([]string{m, large, m}), want: []string{m, told, m}},
		{name: "spread member", input: day([]string{m, spread, m}), want: []string{m, told, m}},
		{name: "member that is no JSON", input: day([]string{m, strings.Repeat("x", 1001), m}), want: []string{m, told, m}},
		{name: "member of many", input: tarball(member{name: "a", data: array(mails(50))}), want: mails(50)},
		{name: "bad line", input: m + "\n" + strings.Repeat("x", 5000) + "\n" + m, want: []string{m, told, m}},
		{name: "bad killmail", input: m + "\n" + large + "}" + strings.Repeat("x", 2000) + "\n" + m,
			want: []string{m, told, told, m}},
		{name: "cut off", input: m + "\n" + large[:3000], want: []string{m, told}, err: "truncated"},
		{name: "just fits", input: fmt.Sprintf(`{"a":"%s"}`, strings.Repeat("x", 992)),
			want: []string{fmt.Sprintf(`{"a":"%s"}`, strings.Repeat("x", 992))}},
		{name: "just not", input: fmt.Sprintf(`{"a":"%s"}`, strings.Repeat("x", 993)), want: []string{told}},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := readInput(t, c.input, opts)
			if diff := cmp.Diff(c.want, res.docs); diff != "" {
				t.Error("items (-want +got):", diff)
			}
			checkFileError(t, res.err, c.err)
		})
	}
}

// TestUnreadable: files without killmails are told apart, with what to do.
func TestUnreadable(t *testing.T) {
	for name, c := range map[string]struct{ input, err string }{
		"hashes":       {`{"97030352":"1656a079a32d83cee42ed32d26bd31ebf97aa8ab"}`, "hashes of killmails but not the killmails; take zKill"},
		"totals":       {`{"20160816": 12345}`, "counts of killmails"},
		"hashes, gzip": {gz(` { "97030352" : "1656"}`), "hashes of killmails"},
		"zip":          {"PK\x03\x04rest", "zip archive"},
		"packed twice": {gz(gz(mail(0))), "packed twice"},
		"zstd":         {"\x28\xb5\x2f\xfd\x00", "zstd"},
		"error page":   {"\n<!DOCTYPE html>", "HTML"},
		"UTF-16":       {"\xff\xfe{\x00}\x00", "UTF-16"},
		"picture":      {"\x89PNG\r\n\x1a\n\x00\x00", "neither an archive nor text"},
	} {
		t.Run(name, func(t *testing.T) {
			res := readInput(t, c.input, archive.Options{})
			if len(res.docs) != 0 {
				t.Errorf("got items %q", res.docs)
			}
			checkFileError(t, res.err, c.err)
			if res.progress.Failed != 1 {
				t.Errorf("progress is %+v, want one file failed", res.progress)
			}
		})
	}
}

// TestTarOddities: what archives hold besides killmails is passed over, and does no harm.
func TestTarOddities(t *testing.T) {
	m := mails(2)
	res := readInput(t, tarball(
		member{name: "killmails/", typ: tar.TypeDir},
		member{name: "README.md", data: "# read me"},
		member{name: "./._97030352.json", data: "\x00\x05\x16\x07"},
		member{name: "link.json", typ: tar.TypeSymlink},
		member{name: "fifo.json", typ: tar.TypeFifo},
		member{name: "../../etc/cron.d/evil.json", data: m[0]},
		member{name: "/abs\x07olute.json", data: m[1]},
		member{name: "inner.json.gz", data: gz(m[0])},
		member{name: "hashes.json", data: `{"97030352":"1656"}`},
		member{name: "no extension", data: m[1]},
		member{name: strings.Repeat("long/", 300) + "x.json", data: m[1]},
	), archive.Options{})
	want := []string{m[0], m[1],
		"error: member is packed once more, which is not read: unpack it first",
		"error: member holds ids and hashes of killmails but not the killmails", m[1], m[1]}
	if diff := cmp.Diff(want, res.docs); diff != "" || res.err != nil {
		t.Errorf("error %v, items (-want +got): %s", res.err, diff)
	}
	if res.progress.Passed != 4 {
		t.Errorf("passed over %d members, want 4", res.progress.Passed)
	}
	for _, name := range res.names {
		if len(name) > 600 || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' }) {
			t.Errorf("name %q is not fit for a message", name)
		}
	}
}

func TestDirectory(t *testing.T) {
	m := mails(6)
	dir := write(t, map[string]string{
		"2021/b.tar.gz":        gz(day(m[1:3])),
		"2021/a.JSON":          m[0],
		"2021/c.tgz":           gz(day(m[3:4])),
		"2021/d.jsonl.bz2":     m[4], // a name that lies about its content
		"2021/.hidden.json":    "not read",
		"2021/notes.txt":       "not read",
		"2021/hash.json.md5":   "not read",
		"2020/z.ndjson":        mail(9),
		".git/objects/aa.json": "not read",
		"empty.json":           "",
		"x.json/y.json":        m[5], // a directory with the name of a file
	})
	for link, target := range map[string]string{
		"2021/loop": "..", "2021/loop.json": "..", "2021/outside.json": write(t, map[string]string{"f": mail(7)}) + "/f",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}
	res := read(t, archive.Options{}, dir)
	want := []string{mail(9), m[0], m[1], m[2], m[3], m[4], mail(7), m[5]}
	if diff := cmp.Diff(want, res.docs); diff != "" || res.err != nil {
		t.Errorf("error %v, items (-want +got): %s", res.err, diff)
	}
	p := res.progress
	if p.Files != 8 || p.Done != 8 || p.Failed != 0 || p.Passed != 6 || p.Bytes != p.Total {
		t.Errorf("progress is %+v", p)
	}
}

// TestDamagedAmongOthers: a damaged file does not keep the others from being read.
func TestDamagedAmongOthers(t *testing.T) {
	m := mails(6)
	whole := gz(day(m[2:4]))
	files := map[string]string{
		"1.json":   m[0],
		"2.tar.gz": gz(day(m[:3]))[:300],
		"3.json":   `{"1":"hash"}`,
		"4.tar.gz": whole,
	}
	dir := write(t, files)
	if err := os.Symlink("nowhere", filepath.Join(dir, "5.json")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	res := read(t, archive.Options{}, dir)
	if n := len(res.docs); n < 3 || res.docs[0] != m[0] || res.docs[n-1] != m[3] || res.docs[n-2] != m[2] {
		t.Errorf("got items %q", res.docs)
	}
	if res.err == nil {
		t.Fatal("got no error")
	}
	told := strings.Split(res.err.Error(), "\n")
	for i, part := range []string{"2.tar.gz: stopped near byte 300 of 300", "3.json: the file holds ids", "5.json: "} {
		if i >= len(told) || !strings.Contains(told[i], part) {
			t.Errorf("error %d of %q does not tell %q", i, told, part)
		}
	}
	if p := res.progress; p.Done != 5 || p.Failed != 3 || p.Bytes != p.Total {
		t.Errorf("progress is %+v", p)
	}

	// The paths of a call are as independent as the files of a directory.
	res = read(t, archive.Options{}, filepath.Join(dir, "3.json"), filepath.Join(dir, "4.tar.gz"))
	if diff := cmp.Diff(m[2:4], res.docs); diff != "" {
		t.Error("items (-want +got):", diff)
	}
	checkFileError(t, res.err, "3.json")
}

// TestManyDamaged: the error stays readable.
func TestManyDamaged(t *testing.T) {
	files := map[string]string{}
	for i := range 50 {
		files[fmt.Sprintf("%d.json", i)] = "{"
	}
	res := read(t, archive.Options{}, write(t, files))
	if told := strings.Split(res.err.Error(), "\n"); len(told) != 21 || told[20] != "and 30 more files could not be read" {
		t.Errorf("told %d lines: %s", len(told), res.err)
	}
}

func TestNew(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.json")
	for _, c := range []struct {
		path string
		opts archive.Options
		err  string
	}{
		{missing, archive.Options{}, missing},
		{"-", archive.Options{}, "no standard input"},
		{".", archive.Options{MaxItem: -1}, "want 1 or more bytes"},
	} {
		if _, err := archive.New(t.Context(), []string{c.path}, c.opts); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("New(%q): error %v, want one with %q", c.path, err, c.err)
		}
	}
	r, err := archive.New(t.Context(), nil, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Read(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := r.Read(t.Context(), nil); err == nil {
		t.Error("a reader can be read twice")
	}
}

// TestRedirectedFile: standard input that is a file has a known size.
func TestRedirectedFile(t *testing.T) {
	f, err := os.Open(filepath.Join(write(t, map[string]string{"a": gz(lines(mails(3)))}), "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res := read(t, archive.Options{Stdin: f}, "-")
	if res.err != nil || len(res.docs) != 3 || res.progress.Total <= 0 || res.progress.Bytes != res.progress.Total {
		t.Errorf("got %d items, error %v, progress %+v", len(res.docs), res.err, res.progress)
	}
	if p := readInput(t, mail(0), archive.Options{}).progress; p.Total != -1 || p.Bytes != int64(len(mail(0))) {
		t.Errorf("progress of a pipe is %+v", p)
	}
}

// TestHostileLines: lines that each leave brackets open are not looked at again and again without bound.
func TestHostileLines(t *testing.T) {
	const n = 100_000
	res := readInput(t, strings.Repeat("{\"a\":[\n", n), archive.Options{})
	if len(res.docs) < n-200 || res.docs[0] != `{"a":[` {
		t.Errorf("got %d items", len(res.docs))
	}
}

// TestBoundedMemory reads an object of 64 MB in far less.
func TestBoundedMemory(t *testing.T) {
	pr, pw := io.Pipe()
	go func() {
		one := strings.Repeat(" ", 5000)
		for i := range 10000 {
			if _, err := fmt.Fprintf(pw, `%c"%d":%s%s`, "{,"[min(i, 1)], i, mail(i), one); err != nil {
				return
			}
		}
		io.WriteString(pw, "}")
		pw.Close()
	}()
	defer pr.Close()
	r, err := archive.New(t.Context(), []string{"-"}, archive.Options{Stdin: pr})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = r.Read(t.Context(), func(archive.Item) error {
		if n++; n%1000 == 0 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > 16<<20 {
				return fmt.Errorf("%d bytes in use after %d items", m.HeapAlloc, n)
			}
		}
		return nil
	})
	if n != 10000 || err != nil {
		t.Errorf("read %d items, error %v", n, err)
	}
}
