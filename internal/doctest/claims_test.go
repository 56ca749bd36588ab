package doctest

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// output runs a command in an empty directory, as a user would who has configured nothing.
func output(t *testing.T, bin string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	c := exec.CommandContext(t.Context(), bin, args...)
	c.Dir, c.Env = dir, environment(dir, bin)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("killfeed %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// TestProgram compares what documents say of the program with what it says itself.
func TestProgram(t *testing.T) {
	bin := build(t)
	t.Run("settings", func(t *testing.T) { testSettings(t, bin) })
	t.Run("exit codes", func(t *testing.T) { testExitCodes(t, bin) })
}

func testSettings(t *testing.T, bin string) {
	var shown map[string]struct{ Value string }
	if err := json.Unmarshal([]byte(output(t, bin, "config", "show", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	want, got := map[string][]string{}, map[string][]string{}
	for name, s := range shown {
		variable := "KILLFEED_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		want["--"+name] = []string{variable, s.Value}
	}
	for _, row := range table(t, "docs/configuration.md", "All settings") {
		got[plain(row[0])] = []string{plain(row[1]), strings.Trim(plain(row[2]), "–")}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/configuration.md (+) is not what 'killfeed config show' says (-):\n%s", diff)
	}
}

func testExitCodes(t *testing.T, bin string) {
	want, got := map[string]string{}, map[string]string{}
	for line := range strings.SplitSeq(output(t, bin, "help", "exit-codes"), "\n") {
		if m := regexp.MustCompile(`^ +(\d+)  (.*)$`).FindStringSubmatch(line); m != nil {
			want[m[1]] = m[2]
		}
	}
	for _, row := range table(t, "docs/operate.md", "Exit codes") {
		got[row[0]] = strings.ReplaceAll(row[1], "`", "")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/operate.md (+) is not what 'killfeed help exit-codes' says (-):\n%s", diff)
	}
}

var testName = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz|Example)\\w*)`")

// TestFormat compares the key spaces in docs/format.md with those of the store.
func TestFormat(t *testing.T) {
	code := read(t, "pebblestore/keys.go")
	find := func(form string) map[string]bool {
		found := map[string]bool{}
		for _, m := range regexp.MustCompile(form).FindAllStringSubmatch(code, -1) {
			found[m[1]] = true
		}
		return found
	}
	compare := func(form, under string) {
		told := map[string]bool{}
		for _, row := range table(t, "docs/format.md", under) {
			told[plain(row[0])] = true
		}
		if diff := cmp.Diff(find(form), told); diff != "" {
			t.Errorf("docs/format.md (+), %s, is not what pebblestore/keys.go has (-):\n%s", under, diff)
		}
	}
	compare(`(?m)^\tspace\w+ += '(.)'$`, "Key spaces")
	compare(`(?m)^\tkey\w+ += \[\]byte\("(\w+)"\)`, "State")
}

// TestGuarantees looks for the tests that docs/guarantees.md names.
func TestGuarantees(t *testing.T) {
	const doc = "docs/guarantees.md"
	defined := map[string]bool{} // as the document spells them
	definition := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		dir, _ := filepath.Rel(root, filepath.Dir(path))
		if dir = filepath.ToSlash(dir); dir == "." {
			dir = "killfeed"
		}
		for _, m := range definition.FindAllSubmatch(text, -1) {
			defined[dir+"."+string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	promises := 0
	for i, line := range strings.Split(read(t, doc), "\n") {
		m := tableRow.FindStringSubmatch(line)
		if m == nil || strings.Contains(line, "| promise |") || strings.Contains(line, "|---") {
			continue
		}
		promises++
		promise, proof, _ := strings.Cut(m[1], "|")
		names := testName.FindAllStringSubmatch(proof, -1)
		if len(names) == 0 {
			t.Errorf("%s:%d: no test proves that%s", doc, i+1, promise)
		}
		for _, n := range names {
			if name := n[1] + "." + n[2]; !defined[name] {
				t.Errorf("%s:%d: there is no %s", doc, i+1, name)
			}
		}
	}
	if promises < 20 {
		t.Errorf("%s has %d promises only", doc, promises)
	}
}

// TestAPIReference looks for everything of the OpenAPI document in docs/api.md.
func TestAPIReference(t *testing.T) {
	type parameter struct {
		Ref  string `json:"$ref"`
		Name string `json:"name"`
	}
	var api struct {
		Paths map[string]map[string]struct {
			Parameters []parameter                `json:"parameters"`
			Responses  map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
		Components struct {
			Parameters map[string]parameter       `json:"parameters"`
			Headers    map[string]json.RawMessage `json:"headers"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(read(t, "web/openapi.json")), &api); err != nil {
		t.Fatal(err)
	}
	if len(api.Paths) < 10 {
		t.Fatalf("web/openapi.json has %d paths only", len(api.Paths))
	}
	text := read(t, "docs/api.md")
	wanted := map[string]string{} // what must stand there, and why
	statuses := map[string]bool{"404": true, "405": true}
	for path, methods := range api.Paths {
		for method, op := range methods {
			wanted["`"+strings.ToUpper(method)+" "+path] = "the endpoint"
			for _, p := range op.Parameters {
				if p.Ref != "" {
					p = api.Components.Parameters[filepath.Base(p.Ref)]
				}
				if p.Name != "id" {
					wanted["`"+p.Name+"`"] = "the parameter"
				}
			}
			for status := range op.Responses {
				statuses[status] = true
			}
		}
	}
	for name := range api.Components.Headers {
		wanted["`"+name] = "the header"
	}
	for _, what := range slices.Sorted(maps.Keys(wanted)) {
		if !strings.Contains(text, what) {
			t.Errorf("docs/api.md lacks %s %s", wanted[what], what)
		}
	}
	told := map[string]bool{}
	for _, row := range table(t, "docs/api.md", "Statuses") {
		told[plain(row[0])] = true
	}
	if diff := cmp.Diff(statuses, told); diff != "" {
		t.Errorf("the statuses in docs/api.md (+) are not those of web/openapi.json (-):\n%s", diff)
	}
}
