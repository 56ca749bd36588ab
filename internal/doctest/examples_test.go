//go:build unix

package doctest

import (
	"errors"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestExamples runs every example of every document.
func TestExamples(t *testing.T) {
	bin := build(t)
	for _, doc := range documents(t) {
		p, err := parse(read(t, doc))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		var runs bool
		for _, b := range p.blocks {
			if err := b.valid(); err != nil {
				t.Errorf("%s:%d: %v", doc, b.line, err)
			}
			runs = runs || b.runs()
		}
		if !runs {
			continue
		}
		t.Run(doc, func(t *testing.T) {
			if missing := need("bash", "curl"); missing != "" {
				absent(t, missing)
			}
			s := newStage(t, bin)
			for _, b := range p.blocks {
				if !b.runs() {
					continue
				}
				if err := s.run(t, b); err != nil {
					t.Fatalf("%s:%d: %v", doc, b.line, err)
				}
			}
		})
	}
}

// valid tells whether b is a block as doc.go wants it.
func (b *block) valid() error {
	reason, noRun := strings.CutPrefix(b.how, "no-run:")
	switch {
	case b.how == "":
	case noRun && strings.TrimSpace(reason) != "":
	case b.lang == "sh" && b.how == "program":
	default:
		return fmt.Errorf("%q behind the fence means nothing", b.how)
	}
	switch {
	case b.lang == "json":
		return validJSON(b.text)
	case b.lang == "go":
		text, err := format.Source([]byte(b.text))
		if err == nil && string(text) != b.text {
			err = errors.New("gofmt would change it")
		}
		return err
	case b.lang != "text" && extensions[b.lang] == "":
		return fmt.Errorf("language %q: want sh, python, js, go, html, toml, json or text", b.lang)
	}
	return nil
}

var (
	importForm = regexp.MustCompile(`(?m)^import .* from "([a-z][a-z0-9.-]*)"`) // of a package, and not of "node:fs" or "./x.js"
	jqForm     = regexp.MustCompile(`\bjq\b`)
)

// command returns the command that runs the block, which was written to the file; nil when the document's shell does. missing
// says what is not installed here.
func (b *block) command(file string) (command []string, missing string) {
	module, err := filepath.Abs(root)
	if err != nil {
		return nil, err.Error()
	}
	switch b.lang {
	case "python":
		return []string{"python3", file}, need("python3")
	case "js":
		var packages []string
		for _, m := range importForm.FindAllStringSubmatch(b.text, -1) {
			if m[1] != ownPackage {
				packages = append(packages, m[1])
			}
		}
		return []string{"node", file}, needNode(packages...)
	case "go":
		return []string{"go", "-C", module, "run", file}, need("go") // where this project's own packages are found
	case "html":
		chromium, missing := browser()
		if missing == "" {
			missing = needNode("playwright-core")
		}
		page, err := filepath.Abs("testdata/page.js")
		if err != nil {
			missing = err.Error()
		}
		return []string{"node", page, chromium, file}, missing
	}
	if jqForm.MatchString(b.text) {
		missing = need("jq")
	}
	if b.how == "program" {
		command = []string{"bash", file}
	}
	return command, missing
}

// npmPackages is where the packages are that the examples in JavaScript import.
const npmPackages = "../interop/node_modules"

// ownPackage is the name of the one in clients/typescript.
const ownPackage = "killfeed"

// need says which of the commands is missing, in words for absent.
func need(commands ...string) (missing string) {
	for _, c := range commands {
		if _, err := exec.LookPath(c); err != nil {
			return c + " is not installed"
		}
	}
	return ""
}

// needNode says what is missing of Node.js and the packages.
func needNode(packages ...string) (missing string) {
	const least = 20
	out, err := exec.Command("node", "--version").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "node is not installed"
	} else if err != nil {
		return "node --version: " + err.Error()
	}
	version := strings.TrimSpace(string(out))
	major, _, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	if n, err := strconv.Atoi(major); err != nil || n < least {
		return fmt.Sprintf("node is %s: want %d or newer", version, least)
	}
	for _, name := range packages {
		if _, err := os.Stat(filepath.Join(npmPackages, name)); err != nil {
			return "the npm package " + name + " is not installed: run npm ci in internal/interop"
		}
	}
	return ""
}

// browser returns the name of a browser.
func browser() (name, missing string) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, ""
		}
	}
	return "", "chromium is not installed"
}

// absent skips examples for want of something that is not installed, or fails where everything has to be.
func absent(t *testing.T, missing string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(missing)
	}
	t.Skip(missing + ": not run")
}

// build makes the binary.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "killfeed")
	c := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/killfeed")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return bin
}

// environment is that of a user who has configured nothing.
func environment(dir, bin string, more ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "KILLFEED_"), strings.HasSuffix(strings.ToLower(name), "_proxy"), name == "PATH", name == "PWD":
		default:
			env = append(env, kv)
		}
	}
	return append(env, append(more, "PATH="+filepath.Dir(bin)+string(os.PathListSeparator)+os.Getenv("PATH"), "PWD="+dir,
		"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1")...)
}
