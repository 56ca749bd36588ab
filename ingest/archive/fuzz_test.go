package archive_test

import (
	"strings"
	"testing"

	"killfeed/ingest/archive"
)

// FuzzRead: whatever the bytes, reading ends without a panic, an item has either data within bounds or an error, and input
// that is not read to its end is told by an error.
func FuzzRead(f *testing.F) {
	docs := mails(3)
	for _, seed := range []string{
		"", "[]", mail(0), lines(docs), array(docs), history(docs), pretty(docs[0]), lines(prettyAll(docs)),
		gz(lines(docs)), unbase64(mailsBzip2), day(docs), gz(day(docs)), day(docs) + day(docs),
		tarball(member{name: "a.jsonl", data: lines(docs)}, member{name: "b", data: "x"}, member{name: "c.json"}),
		`{"1":"a"}`, `{"1":2}`, `{"1":{},x`, "[1,\n{\n}}\n]", "{\"a\":[\n{},\n{\n", `{"a":"` + strings.Repeat("x", 300),
	} {
		f.Add([]byte(seed))
		f.Add([]byte(seed[:len(seed)*2/3]))
	}
	const limit = 200
	f.Fuzz(func(t *testing.T, input []byte) {
		r, err := archive.New(t.Context(), []string{"-"},
			archive.Options{MaxItem: limit, Stdin: strings.NewReader(string(input))})
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		err = r.Read(t.Context(), func(item archive.Item) error {
			if len(item.Data) > limit {
				t.Fatalf("item %s has %d bytes", item.Name, len(item.Data))
			}
			if (item.Data == nil) == (item.Err == nil) || item.Err == nil && len(item.Data) == 0 {
				t.Fatalf("item %s: data %q, error %v", item.Name, item.Data, item.Err)
			}
			total++
			return nil
		})
		if p := r.Progress(); p.Bytes != int64(len(input)) && err == nil || p.Items != int64(total) {
			t.Fatalf("progress %+v after %d bytes, %d items, error %v", p, len(input), total, err)
		}
	})
}
