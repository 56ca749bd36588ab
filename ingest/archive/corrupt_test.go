package archive_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"killfeed/ingest/archive"
)

// TestCorrupt: what is bad costs one item, and the rest is read.
func TestCorrupt(t *testing.T) {
	m := mails(4)
	cut := m[1][:100]                           // in the middle of a member
	inText := m[1][:strings.Index(m[1], "T00")] // in the middle of a string
	open := m[1][:strings.Index(m[1], "[")+1]   // where a value may follow on the next line
	lost := strings.Replace(m[1], "}", "", 1)   // a bracket lost inside
	loose := prettyAll(m)
	looseBad := colonless(loose[1])
	looseArray := strings.SplitAfter(pretty(array(m[:3])), "\n  },\n") // element by element
	for _, c := range []struct {
		name, input string
		want        []string
		err         string // part of the error; empty: none
	}{
		{name: "line cut short", input: m[0] + "\n" + cut + "\n" + m[2] + "\n" + m[3] + "\n",
			want: []string{m[0], cut, m[2], m[3]}},
		{name: "line cut short in a string", input: m[0] + "\n" + inText + "\n" + m[2] + "\n" + m[3],
			want: []string{m[0], inText, m[2], m[3]}},
		{name: "line cut short after a bracket", input: m[0] + "\n" + open + "\n" + m[2] + "\n" + m[3],
			want: []string{m[0], open, m[2], m[3]}},
		{name: "the same, last but one", input: m[0] + "\n" + open + "\n" + m[2],
			want: []string{m[0], open, m[2]}},
		{name: "lost bracket, CRLF", input: m[0] + "\r\n" + lost + "\r\n" + m[2] + "\r\n",
			want: []string{m[0], lost, m[2]}},
		{name: "no JSON", input: "some text, \"quoted\"\n" + m[0] + "\n\x01\x02\n}\n" + m[2],
			want: []string{"some text, \"quoted\"", m[0], "\x01\x02", "}", m[2]}},
		{name: "several in a row", input: cut + "\n" + cut + "\nxyz\n" + open + "\n" + m[2],
			want: []string{cut, cut, "xyz", open, m[2]}},
		{name: "after a good one on the line", input: m[0] + " x y\n" + m[2],
			want: []string{m[0], "x y", m[2]}},
		{name: "last line, whole", input: m[0] + "\n" + cut + "\n", want: []string{m[0], cut}},
		{name: "last line, cut off", input: m[0] + "\n" + cut, want: m[:1], err: "truncated"},
		{name: "pretty", input: lines([]string{loose[0], looseBad, loose[2]}),
			want: []string{loose[0], looseBad, loose[2]}},
		{name: "pretty, cut off", input: loose[0] + "\n" + loose[1][:120], want: loose[:1], err: "truncated"},
		{name: "in an array of lines", input: "[\n" + m[0] + ",\n" + cut + ",\n" + m[2] + "\n]",
			want: []string{m[0], cut + ",", m[2]}},
		{name: "in a pretty array", input: looseArray[0] + colonless(looseArray[1]) + looseArray[2],
			want: []string{strings.Trim(looseArray[0], "[, \n"), colonless(strings.TrimSpace(looseArray[1])),
				strings.Trim(looseArray[2], " \n]")}},
		{name: "in a history of lines", input: "{\n\"1\":" + m[0] + ",\n\"2\":" + colonless(m[1]) + ",\n\"3\":" + m[2] + "\n}",
			want: []string{m[0], colonless(m[1]) + ",", m[2]}},
		{name: "history with a hash among killmails", input: `{"1":` + m[0] + `,"2":"0123","3":` + m[2] + `}`,
			want: []string{m[0], `"0123"`, m[2]}},
		{name: "history broken off", input: `{"1":` + m[0] + ",\n" + m[2], want: []string{m[0], m[2]}},
		{name: "array not closed", input: "[" + m[0] + "," + m[1], want: m[:2], err: "closing bracket"},
		{name: "history not closed", input: `{"1":` + m[0] + `,"2":` + m[1] + ",", want: m[:2], err: "closing bracket"},
		{name: "array cut off in a killmail", input: "[" + m[0] + "," + cut, want: m[:1], err: "truncated"},
		{name: "corrupt member", input: tarball(member{name: "1.json", data: m[0]}, member{name: "2.json", data: cut},
			member{name: "3.json", data: "garbage"}, member{name: "4.json"}, member{name: "5.json", data: m[3]}),
			want: []string{m[0], cut, "garbage", "error: member is empty", m[3]}},
		{name: "corrupt pretty member", input: tarball(member{name: "1.json", data: looseBad}, member{name: "2.json", data: m[0]}),
			want: []string{looseBad, m[0]}},
		{name: "pretty member cut off", input: tarball(member{name: "1.json", data: loose[0][:150]}, member{name: "2.json", data: m[0]}),
			want: []string{"error: member is truncated: it ends inside a JSON value", m[0]}},
		{name: "archive without end mark", input: strings.TrimRight(day(m), "\x00"), want: m, err: "truncated"},
		{name: "archive followed by text", input: day(m) + "some text that is longer than a tar header is, or not",
			want: m, err: "followed by something"},
		{name: "corrupt header", input: corruptHeader(day(m), 2), want: m[:2], err: "corrupt"},
		{name: "damaged gzip", input: flip(gz(lines(m)), -6), want: m, err: "gzip: invalid checksum"},
		{name: "damaged bzip2", input: flip(unbase64(mailsBzip2), 40), err: "bzip2"},
		{name: "gzip header cut off", input: "\x1f\x8b\x08", err: "truncated"},
		{name: "gzip followed by text", input: gz(lines(m)) + "text that is none", want: m, err: "gzip: invalid header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := readInput(t, c.input, archive.Options{})
			if diff := cmp.Diff(c.want, res.docs); diff != "" {
				t.Error("items (-want +got):", diff)
			}
			checkFileError(t, res.err, c.err)
			if file, ok := errors.AsType[*archive.FileError](res.err); ok && file.Items != int64(len(c.want)) {
				t.Errorf("the error tells of %d items, want %d", file.Items, len(c.want))
			}
		})
	}
}

// checkFileError checks for a FileError with the given part, or for none.
func checkFileError(t *testing.T, err error, part string) {
	t.Helper()
	if part == "" {
		if err != nil {
			t.Errorf("got error %v, want none", err)
		}
		return
	}
	if _, ok := errors.AsType[*archive.FileError](err); !ok || !strings.Contains(err.Error(), part) {
		t.Errorf("got error %v, want a FileError with %q", err, part)
	}
}

// colonless breaks a killmail without changing its brackets.
func colonless(doc string) string {
	return strings.Replace(doc, `"ship_type_id":`, `"ship_type_id"`, 1)
}

func corruptHeader(archive string, n int) string {
	at := n * 1024 // a header and a short body each
	return archive[:at] + "X" + archive[at+1:]
}

func flip(s string, at int) string {
	if at < 0 {
		at += len(s)
	}
	return s[:at] + string(s[at]^0xff) + s[at+1:]
}

// TestTruncated cuts archives at every byte: what came before is handed out, and the loss is told.
func TestTruncated(t *testing.T) {
	docs := mails(4)
	for _, c := range []struct {
		name, input string
		// quiet lists lengths at which nothing can be told to be missing.
		quiet func(n int) bool
	}{
		{name: "lines", input: lines(docs),
			quiet: func(n int) bool { return n%(len(docs[0])+1) == 0 || n%(len(docs[0])+1) == len(docs[0]) }},
		{name: "array", input: array(docs)},
		{name: "history", input: history(docs)},
		{name: "lines, gzip", input: gz(lines(docs))},
		{name: "lines, bzip2", input: unbase64(mailsBzip2)},
		{name: "tar", input: day(docs), quiet: func(n int) bool { return n >= 4*1024+512 && n%512 == 0 }},
		{name: "tar, gzip", input: gz(day(docs))},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; n < len(c.input); n++ {
				res := readInput(t, c.input[:n], archive.Options{})
				if n < 3 && res.err == nil { // the magic number itself is cut
					continue
				}
				if c.name == "tar" && n < 257+5 { // the mark of tar is cut: this is text, and bad
					continue
				}
				for i, doc := range res.docs {
					if doc != docs[i] {
						t.Fatalf("cut at %d: item %d is %q", n, i, doc)
					}
				}
				if quiet := c.quiet != nil && c.quiet(n); (res.err == nil) != quiet {
					t.Fatalf("cut at %d of %d: error %v after %d items", n, len(c.input), res.err, len(res.docs))
				}
			}
		})
	}
}
