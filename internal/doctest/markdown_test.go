package doctest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// root is the project's directory.
const root = "../.."

// documents are the paths of all documents, relative to root.
func documents(t *testing.T) []string {
	t.Helper()
	var docs []string
	for _, pattern := range []string{"*.md", "doc/*.md", "docs/*.md", "clients/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			docs = append(docs, filepath.ToSlash(strings.TrimPrefix(path, filepath.FromSlash(root+"/"))))
		}
	}
	for _, must := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "doc/killfeed_example.md", "clients/python/README.md"} {
		if !slices.Contains(docs, must) {
			t.Errorf("there is no %s", must)
		}
	}
	return docs
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is a fenced block of a document.
type block struct {
	line int    // of its first line in the document, counted from 1
	lang string // the first word behind the fence
	how  string // the rest: "program", "no-run: …" or empty
	text string
	// output is the block directly behind this one when it says what this one prints.
	output *block
}

// extensions are the languages that run, with the ends of their files' names.
var extensions = map[string]string{"sh": "sh", "python": "py", "js": "mjs", "go": "go", "html": "html", "toml": "toml"}

func (b *block) runs() bool {
	return extensions[b.lang] != "" && !strings.HasPrefix(b.how, "no-run")
}

// parsed is a document taken apart.
type parsed struct {
	blocks  []*block
	anchors map[string]bool
	links   []link
}

type link struct {
	line   int
	target string
}

var (
	heading  = regexp.MustCompile(`^#{1,6} +(.*?) *#*$`)
	linkForm = regexp.MustCompile(`\[[^\]]*\]\(([^)\s]+)\)`)
	code     = regexp.MustCompile("`[^`]*`")
	tableRow = regexp.MustCompile(`^\s*\|(.*)\|\s*$`)
)

// parse reads as much Markdown as the documents use.
func parse(text string) (*parsed, error) {
	p := &parsed{anchors: map[string]bool{}}
	var open, last *block // last: the block that ended with nothing but blank lines since
	for i, line := range strings.Split(text, "\n") {
		n := i + 1
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case open != nil && isFence:
			if strings.TrimSpace(fence) != "" {
				return nil, fmt.Errorf("line %d: a fence inside the block of line %d", n, open.line)
			}
			last, open = open, nil
		case open != nil:
			open.text += line + "\n"
		case isFence:
			lang, how, _ := strings.Cut(fence, " ")
			open = &block{line: n + 1, lang: lang, how: how}
			p.blocks = append(p.blocks, open)
			if last != nil && last.runs() && (lang == "json" || lang == "text") {
				last.output = open
			}
			last = nil
		case strings.TrimSpace(line) == "":
		default:
			last = nil
			if m := heading.FindStringSubmatch(line); m != nil {
				p.anchor(m[1])
			}
			for _, m := range linkForm.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
				p.links = append(p.links, link{n, m[1]})
			}
		}
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block has no end", open.line)
	}
	return p, nil
}

// anchor notes the anchor that hosts of Markdown give to a heading.
func (p *parsed) anchor(heading string) {
	var b strings.Builder
	for _, r := range strings.ToLower(heading) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	name := b.String()
	for i := 1; p.anchors[name]; i++ {
		name = fmt.Sprintf("%s-%d", b.String(), i)
	}
	p.anchors[name] = true
}

// table returns the cells of the rows of the first table behind the heading, without its head.
func table(t *testing.T, doc, under string) [][]string {
	t.Helper()
	var rows [][]string
	found := false
	for line := range strings.SplitSeq(read(t, doc), "\n") {
		if m := heading.FindStringSubmatch(line); m != nil {
			if len(rows) > 0 {
				break
			}
			found = m[1] == under
			continue
		}
		m := tableRow.FindStringSubmatch(line)
		switch {
		case !found:
		case m != nil:
			cells := strings.Split(strings.ReplaceAll(m[1], `\|`, "\x00"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
			}
			rows = append(rows, cells)
		case len(rows) > 0:
			found = false
		}
	}
	if len(rows) < 3 {
		t.Fatalf("%s has no table under %q", doc, under)
	}
	return rows[2:] // behind the head and the rule
}

// plain is a cell's text without the marks of code.
func plain(cell string) string { return strings.Trim(cell, "`") }

func TestParse(t *testing.T) {
	p, err := parse("# One two!\n\n[a](b.md#c) `[no](link)`\n\n```sh\necho 1\n```\n\n```text\n1\n```\n\n```sh no-run: why\nx\n```\n\n# One two\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(p.blocks) != 3 || p.blocks[0].output != p.blocks[1] || p.blocks[0].text != "echo 1\n" || p.blocks[2].runs() {
		t.Errorf("blocks %+v", p.blocks)
	}
	if !p.anchors["one-two"] || !p.anchors["one-two-1"] {
		t.Errorf("anchors %v", p.anchors)
	}
	if len(p.links) != 1 || p.links[0] != (link{3, "b.md#c"}) {
		t.Errorf("links %v", p.links)
	}
	if _, err := parse("```sh\nx\n"); err == nil {
		t.Error("a block without an end was accepted")
	}
}
