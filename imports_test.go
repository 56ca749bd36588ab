package killfeed_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// listed is what the go command says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// in tells whether the package is path or below it.
func (p *listed) in(path string) bool {
	return p.ImportPath == path || strings.HasPrefix(p.ImportPath, path+"/")
}

// Imports run one way: edges -> feed <- stores. The walls of the layout in docs/architecture.md, one by one.
func TestImports(t *testing.T) {
	packages := list(t)
	stores := []string{"killfeed/pebblestore", "killfeed/jetstream"}
	storesBut := func(p *listed) (others []string) {
		for _, s := range stores {
			if !p.in(s) {
				others = append(others, s)
			}
		}
		return others
	}
	edges := []string{"killfeed/web", "killfeed/ingest", "killfeed/names", "killfeed/phoenix", "killfeed/cmd"}
	walls := []struct {
		name string
		of   func(p *listed) bool
		// deps are what must not be reached, imports what must not be named.
		deps, imports func(p *listed) []string
	}{
		{
			name: "the root package is the words and rules: the standard library only",
			of:   func(p *listed) bool { return p.ImportPath == "killfeed" },
			deps: func(p *listed) []string {
				wrong := []string{"net/http"}
				for _, d := range p.Deps {
					if !packages[d].Standard {
						wrong = append(wrong, d)
					}
				}
				return wrong
			},
		},
		{
			name: "web and ingest know no store",
			of:   func(p *listed) bool { return p.in("killfeed/web") || p.in("killfeed/ingest") },
			deps: func(*listed) []string { return stores },
		},
		{
			name: "names know nobody who shows them and no store",
			of:   func(p *listed) bool { return p.in("killfeed/names") },
			deps: func(*listed) []string { return append(stores, "killfeed/web", "killfeed/phoenix", "killfeed/sde") },
		},
		{
			name: "webhooks know the feed and names, and no store and no server",
			of:   func(p *listed) bool { return p.in("killfeed/webhook") },
			deps: func(*listed) []string { return append(stores, "killfeed/web", "killfeed/phoenix", "killfeed/sde") },
		},
		{
			name: "tokens are a file and what it allows: the standard library only",
			of:   func(p *listed) bool { return p.in("killfeed/tokens") },
			deps: func(p *listed) []string {
				wrong := []string{"net/http"}
				for _, d := range p.Deps {
					if !packages[d].Standard {
						wrong = append(wrong, d)
					}
				}
				return wrong
			},
		},
		{
			name: "static data knows nobody who shows it and no store",
			of:   func(p *listed) bool { return p.in("killfeed/sde") },
			deps: func(*listed) []string { return append(stores, "killfeed/web", "killfeed/phoenix", "killfeed/names") },
		},
		{
			name: "stores know neither each other nor the edges",
			of:   func(p *listed) bool { return slices.ContainsFunc(stores, p.in) },
			deps: func(p *listed) []string { return append(storesBut(p), edges...) },
			imports: func(*listed) []string {
				return []string{"net/http"} // the engine's own crash reporter brings it in, unused
			},
		},
		{
			name: "phoenix is a codec and a session: no sockets",
			of:   func(p *listed) bool { return p.in("killfeed/phoenix") },
			deps: func(*listed) []string { return append(stores, "net/http", "killfeed/web") },
		},
		{
			name: "the client library is for other programs, and needs nothing of this one",
			of:   func(p *listed) bool { return p.in("killfeed/client") },
			deps: func(p *listed) (wrong []string) {
				for _, d := range p.Deps {
					if !packages[d].Standard && d != p.ImportPath {
						wrong = append(wrong, d)
					}
				}
				return wrong
			},
		},
		{
			name: "only the binary names concrete stores and ledgers; benchmarks measure them, and tests run on them",
			of: func(p *listed) bool {
				return p.in("killfeed") && !p.in("killfeed/cmd") && !p.in("killfeed/bench") && !p.in("killfeed/internal")
			},
			imports: func(p *listed) []string { return storesBut(p) },
		},
		{
			name: "nothing but tests imports what is for tests",
			of: func(p *listed) bool {
				return p.in("killfeed") && !p.in("killfeed/storetest") && !p.in("killfeed/bench") && !p.in("killfeed/internal")
			},
			deps: func(*listed) []string {
				return []string{"killfeed/storetest", "testing", "pgregory.net/rapid", "github.com/anishathalye/porcupine",
					"github.com/google/go-cmp/cmp"}
			},
		},
	}
	for _, wall := range walls {
		t.Run(wall.name, func(t *testing.T) {
			for _, p := range packages {
				if p.Standard || !wall.of(p) {
					continue
				}
				check := func(verb string, has []string, wrong func(*listed) []string) {
					if wrong == nil {
						return
					}
					for _, w := range wrong(p) {
						for _, d := range has {
							if d == w || strings.HasPrefix(w, "killfeed/") && strings.HasPrefix(d, w+"/") {
								t.Errorf("%s %s %s", p.ImportPath, verb, d)
							}
						}
					}
				}
				check("depends on", p.Deps, wall.deps)
				check("imports", p.Imports, wall.imports)
			}
		})
	}
}

// list asks the go command for all packages of the module and what they depend on, by import path.
func list(t *testing.T) map[string]*listed {
	t.Helper()
	command, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command here")
	}
	// -e: a package that does not compile at the moment fails in its own test.
	cmd := exec.Command(command, "list", "-e", "-deps", "-json=ImportPath,Standard,Imports,Deps", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	packages := map[string]*listed{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = &p
	}
	if packages["killfeed"] == nil {
		t.Fatal("go list does not list this package")
	}
	return packages
}
