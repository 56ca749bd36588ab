package suite

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A picture is well-formed whatever is written in it, with a point for each figure that a logarithm can be taken of.
func TestSVG(t *testing.T) {
	table := Table{
		Title: `a < b & "c"`, Columns: []string{"n", "x", "y", "not drawn"}, Drawn: []int{1, 2}, Unit: "us",
		Rows: [][]float64{{1, 5, 0, 7}, {1000, 5, 70, 7}, {10_000_000, 6, 8_000, 7}},
	}
	points := 0
	for d := xml.NewDecoder(strings.NewReader(table.SVG())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			points++
		}
	}
	if points != 5 {
		t.Errorf("%d points, want 5: a 0 has none", points)
	}
}

// Figures have three digits, and whole numbers stay whole.
func TestPrint(t *testing.T) {
	table := Table{Title: "t", Columns: []string{"n", "x"}, Rows: [][]float64{{1000, 0.12345}, {1e7, 123.456}}, Note: "why"}
	var b strings.Builder
	table.Print(&b)
	want := "t\n\n| n | x |\n|---:|---:|\n| 1000 | 0.123 |\n| 10000000 | 123 |\n\nwhy\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
}

// A report that was written is read as it was.
func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.json")
	r := Report{
		Results: []Result{{Measure: "m", Ours: "1/s", Yardstick: "2/s", Ratio: 0.5, Want: "at least 1", Promise: true}},
		Tables:  []Table{{Name: "n", Title: "t", Columns: []string{"n"}, Rows: [][]float64{{1}}, Drawn: []int{0}, Unit: "u", Note: "o"}},
	}
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadReport(file); err == nil {
		t.Error("what is no JSON was read")
	}
}
