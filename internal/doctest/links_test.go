package doctest

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinks follows every link that stays inside the project.
func TestLinks(t *testing.T) {
	for _, doc := range documents(t) {
		p, err := parse(read(t, doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		for _, l := range p.links {
			if strings.Contains(l.target, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(l.target, "#")
			to := doc
			if file != "" {
				to = path.Join(path.Dir(doc), file)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s:%d: the link to %s leads nowhere: %v", doc, l.line, l.target, err)
				continue
			}
			if anchor == "" {
				continue
			}
			there, err := parse(read(t, to))
			if err != nil {
				t.Errorf("%s: %v", to, err)
			} else if !there.anchors[anchor] {
				t.Errorf("%s:%d: %s has no heading for #%s", doc, l.line, to, anchor)
			}
		}
	}
}

var pathForm = regexp.MustCompile("`(?:\\./)?((?:scripts|cmd|ingest|internal|bench|web|pebblestore|storetest|docs?)/[a-z0-9_./-]*)[^`]*`")

// TestPaths looks for the files and folders of the project that the documents name.
func TestPaths(t *testing.T) {
	for _, doc := range documents(t) {
		for i, line := range strings.Split(read(t, doc), "\n") {
			for _, m := range pathForm.FindAllStringSubmatch(testName.ReplaceAllString(line, ""), -1) {
				if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
					t.Errorf("%s:%d: %v", doc, i+1, err)
				}
			}
		}
	}
}
