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

// TestConfiguration compares docs/configuration.md with the program.
func TestConfiguration(t *testing.T) {
	var shown map[string]struct{ Value string }
	if err := json.Unmarshal([]byte(output(t, build(t), "config", "show", "--json")), &shown); err != nil {
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

// TestExitCodes compares docs/operate.md with the program.
func TestExitCodes(t *testing.T) {
	want, got := map[string]string{}, map[string]string{}
	for line := range strings.SplitSeq(output(t, build(t), "help", "exit-codes"), "\n") {
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

var testName = regexp.MustCompile("`((?:Test|Fuzz|Example)[A-Za-z0-9_]*)[^`]*`")

// TestGuarantees looks for the tests that docs/guarantees.md names.
func TestGuarantees(t *testing.T) {
	defined := map[string]bool{}
	definition := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range definition.FindAllSubmatch(text, -1) {
			defined[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i, line := range strings.Split(read(t, "docs/guarantees.md"), "\n") {
		found := testName.FindAllStringSubmatch(line, -1)
		for _, m := range found {
			if !defined[m[1]] {
				t.Errorf("docs/guarantees.md:%d: there is no %s", i+1, m[1])
			}
		}
		if len(found) > 0 {
			rows++
		}
	}
	if rows < 10 {
		t.Errorf("docs/guarantees.md names tests in %d lines only", rows)
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

// TestImports holds the code to the table in docs/architecture.md.
func TestImports(t *testing.T) {
	type rule struct{ project, elsewhere, never []string }
	rules := map[string]rule{}
	names := regexp.MustCompile("`([^`]+)`")
	list := func(cell string) (all []string) {
		for _, m := range names.FindAllStringSubmatch(cell, -1) {
			all = append(all, m[1])
		}
		return all
	}
	for _, row := range table(t, "docs/architecture.md", "Which imports are allowed") {
		rules[plain(row[0])] = rule{list(row[1]), list(row[2]), list(row[3])}
	}
	c := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps,GoFiles", "./...")
	c.Dir = root
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	module := "killfeed"
	seen := map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p struct {
			ImportPath             string
			Imports, Deps, GoFiles []string
		}
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		r, ok := rules[p.ImportPath]
		if seen[p.ImportPath] = true; !ok {
			t.Errorf("docs/architecture.md says nothing of the imports of %s", p.ImportPath)
			continue
		}
		for _, i := range p.Imports {
			first, _, _ := strings.Cut(i, "/")
			switch {
			case i == module || strings.HasPrefix(i, module+"/"):
				if !slices.Contains(r.project, i) {
					t.Errorf("%s imports %s; docs/architecture.md allows %v", p.ImportPath, i, r.project)
				}
			case strings.Contains(first, "."):
				allowed := func(m string) bool { return i == m || strings.HasPrefix(i, m+"/") }
				if !slices.ContainsFunc(r.elsewhere, allowed) {
					t.Errorf("%s imports %s; docs/architecture.md allows %v", p.ImportPath, i, r.elsewhere)
				}
			}
		}
		for _, n := range r.never {
			if slices.Contains(p.Deps, n) {
				t.Errorf("%s imports %s, perhaps through another package; docs/architecture.md says never", p.ImportPath, n)
			}
		}
	}
	for path := range rules {
		if !seen[path] {
			t.Errorf("docs/architecture.md has a rule for %s, which does not exist", path)
		}
	}
}
