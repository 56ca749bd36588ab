package web_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOpenAPIDocumentIsValid(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestRoutesAreTheDocuments: whatever can be called is documented, and whatever is documented can be called.
func TestRoutesAreTheDocuments(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	routes := slices.DeleteFunc(newServer(t).api.Routes(), func(route string) bool {
		return strings.HasPrefix(route, "* /socket/") // OpenAPI has no word for all other methods: its introduction tells
	})
	slices.Sort(documented)
	slices.Sort(routes)
	if diff := cmp.Diff(documented, routes); diff != "" {
		t.Errorf("openapi.json (-) and the routes (+) differ:\n%s", diff)
	}
}

// TestTokenIsDocumented: an operation is marked as needing the token if and only if it does.
func TestTokenIsDocumented(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			marked := op.Security != nil && len(*op.Security) > 0
			a := s.do(method, strings.ReplaceAll(path, "{id}", "someone"), "")
			if needed := a.status == 401; needed != marked {
				t.Errorf("%s %s: needs the token: %v, documented: %v", method, path, needed, marked)
			}
			cors := a.header.Get("Access-Control-Allow-Origin") == "*"
			if cors == marked {
				t.Errorf("%s %s: open to other sites' pages: %v, needs the token: %v", method, path, cors, marked)
			}
		}
	}
}

func TestDocumentIsServed(t *testing.T) {
	doc := map[string]any{}
	newServer(t).get("/api/openapi.json").want(200).into(&doc)
	if doc["openapi"] != "3.1.0" {
		t.Errorf("openapi is %v, want 3.1.0", doc["openapi"])
	}
}
