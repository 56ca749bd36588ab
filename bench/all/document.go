package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"killfeed/bench/internal/suite"
)

// promises are the lines that the program is to keep.
func promises(all []suite.Result) (kept []suite.Result) {
	for _, r := range all {
		if r.Promise {
			kept = append(kept, r)
		}
	}
	return kept
}

// finalTable is the table of what the program is to keep.
func finalTable(kept []suite.Result) string {
	var b strings.Builder
	b.WriteString("| measure, same run | wanted | ours | yardstick | ratio | |\n|---|---|---|---|---|---|\n")
	short := 0
	for _, r := range kept {
		verdict := "pass"
		if !r.Met {
			verdict = "**short**"
			short++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.2f | %s |\n", r.Measure, r.Want, r.Ours, r.Yardstick, r.Ratio, verdict)
	}
	fmt.Fprintf(&b, "\n%d of %d are met. A ratio above 1 means that ours is the better.\n", len(kept)-short, len(kept))
	return b.String()
}

// document puts the tables of a report between their markers in a document: <!-- bench:NAME --> to <!-- /bench:NAME -->, with final,
// measures, and growth as names. What the report has nothing of stays as it is.
func document(file string, r suite.Report) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sections := map[string]string{}
	if len(r.Results) > 0 {
		var all bytes.Buffer
		suite.Print(&all, r.Results)
		sections["measures"] = all.String()
		sections["final"] = finalTable(promises(r.Results))
	}
	if len(r.Tables) > 0 {
		images := filepath.Join(filepath.Dir(file), "images")
		if err := os.MkdirAll(images, 0o755); err != nil {
			return err
		}
		var all bytes.Buffer
		for i, t := range r.Tables {
			picture := "growth-" + t.Name + ".svg"
			if err := os.WriteFile(filepath.Join(images, picture), []byte(t.SVG()), 0o644); err != nil {
				return err
			}
			if i > 0 {
				all.WriteByte('\n')
			}
			t.Print(&all)
			fmt.Fprintf(&all, "\n![%s](images/%s)\n", t.Title, picture)
		}
		sections["growth"] = all.String()
	}
	for name, section := range sections {
		begin, end := fmt.Sprintf("<!-- bench:%s -->\n", name), fmt.Sprintf("<!-- /bench:%s -->", name)
		before, rest, found := strings.Cut(string(text), begin)
		_, after, ended := strings.Cut(rest, end)
		if !found || !ended {
			return fmt.Errorf("%s has no %q with %q behind: that is where a table is to go", file, strings.TrimSpace(begin), end)
		}
		text = []byte(before + begin + "\n" + section + "\n" + end + after)
	}
	return os.WriteFile(file, text, 0o644)
}
