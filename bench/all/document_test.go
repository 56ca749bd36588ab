package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"killfeed/bench/internal/suite"
)

// Tables go between their markers and nowhere else, and a second time in the place of the first.
func TestDocument(t *testing.T) {
	file := filepath.Join(t.TempDir(), "d.md")
	const marked = "a\n<!-- bench:final -->\n<!-- /bench:final -->\nb\n<!-- bench:measures -->\nold\n<!-- /bench:measures -->\nc\n"
	if err := os.WriteFile(file, []byte(marked), 0o600); err != nil {
		t.Fatal(err)
	}
	r := suite.Report{Results: []suite.Result{
		{Measure: "kept", Want: "at least 1.00", Ratio: 0.5, Promise: true}, {Measure: "told", Ours: "5"},
	}}
	var texts []string
	for range 2 {
		if err := document(file, r); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	if texts[0] != texts[1] {
		t.Errorf("the second time it is\n%s\nafter\n%s", texts[1], texts[0])
	}
	final, rest, _ := strings.Cut(texts[0], "<!-- /bench:final -->\nb\n")
	if !strings.HasPrefix(final, "a\n") || !strings.Contains(final, "| kept |") || !strings.Contains(final, "**short**") || strings.Contains(final, "told") {
		t.Errorf("what is to be kept is\n%s", final)
	}
	if !strings.Contains(rest, "| told |") || strings.Contains(rest, "old\n<!--") || !strings.HasSuffix(rest, "<!-- /bench:measures -->\nc\n") {
		t.Errorf("the measures are\n%s", rest)
	}
}

// A document without the markers stays as it is.
func TestDocumentWithoutMarkers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "d.md")
	if err := os.WriteFile(file, []byte("text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := document(file, suite.Report{Results: []suite.Result{{Measure: "m"}}}); err == nil {
		t.Error("there was nowhere to put a table, and no error")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "text\n" {
		t.Errorf("the document is now %q, %v", b, err)
	}
}
