package dashboard

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
)

// mounted is an API with the pages.
func mounted(t *testing.T, o Options) *web.API {
	t.Helper()
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feed.Close() })
	api, err := web.New(feed, web.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := Mount(api, o); err != nil {
		t.Fatal(err)
	}
	return api
}

func ask(api *web.API, method, path string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

// Every page has the policy, of which only the image server depends on a setting.
func TestPolicy(t *testing.T) {
	for _, images := range []bool{false, true} {
		api := mounted(t, Options{Images: images})
		for _, p := range pages {
			w := ask(api, http.MethodGet, p.path, nil)
			if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
				t.Fatalf("%s: %d %s", p.path, w.Code, w.Header().Get("Content-Type"))
			}
			policy := w.Header().Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
				if !strings.Contains(policy+";", want+";") {
					t.Errorf("%s: the policy %q lacks %s", p.path, policy, want)
				}
			}
			if got := strings.Contains(policy, "https:"); got != images || got != strings.Contains(policy, ImageServer) {
				t.Errorf("%s with images %v: %q", p.path, images, policy)
			}
			for name, want := range map[string]string{
				"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
				"Access-Control-Allow-Origin": "", "Access-Control-Expose-Headers": "", "X-Frame-Options": "DENY",
				"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s: %s is %q, want %q", p.path, name, got, want)
				}
			}
		}
	}
}

// A browser that has a file already is told so, until it is another one; a new policy is another page.
func TestETag(t *testing.T) {
	with, without := mounted(t, Options{Images: true}), mounted(t, Options{})
	tags := map[string]bool{}
	for _, api := range []*web.API{with, without} {
		for _, path := range []string{"/", "/assets/page.js"} {
			first := ask(api, http.MethodGet, path, nil)
			tag := first.Header().Get("ETag")
			tags[path+tag] = true
			again := ask(api, http.MethodGet, path, http.Header{"If-None-Match": {tag}})
			if tag == "" || again.Code != http.StatusNotModified || again.Body.Len() > 0 {
				t.Errorf("%s with the tag %s: %d, %d bytes", path, tag, again.Code, again.Body.Len())
			}
			if head := ask(api, http.MethodHead, path, nil); head.Code != http.StatusOK || head.Body.Len() > 0 || head.Header().Get("ETag") != tag {
				t.Errorf("HEAD %s: %d, %d bytes, tag %s", path, head.Code, head.Body.Len(), head.Header().Get("ETag"))
			}
		}
	}
	if len(tags) != 3 { // the page twice, the script once
		t.Errorf("tags %v", tags)
	}
}

// Files are there by their names and nothing else is. Documents are at their own paths alone, where their policy is.
func TestFiles(t *testing.T) {
	api := mounted(t, Options{})
	entries, err := fs.ReadDir(embedded, "assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		want := http.StatusOK
		if strings.HasSuffix(e.Name(), ".html") {
			want = http.StatusNotFound
		}
		w := ask(api, http.MethodGet, "/assets/"+e.Name(), nil)
		if w.Code != want {
			t.Errorf("%s: %d, want %d", e.Name(), w.Code, want)
		}
		if kind := w.Header().Get("Content-Type"); strings.HasSuffix(e.Name(), ".js") && kind != "text/javascript; charset=utf-8" {
			t.Errorf("%s is %s", e.Name(), kind)
		}
	}
	for path, want := range map[string]int{
		"/assets/": http.StatusNotFound, "/assets/none.js": http.StatusNotFound, "/assets/..%2fdashboard.go": http.StatusNotFound,
		"/index.html": http.StatusNotFound,
	} {
		if w := ask(api, http.MethodGet, path, nil); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	if w := ask(api, http.MethodPost, "/", nil); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /: %d", w.Code)
	}
}

// What the files name is there: a module that is missing would only be found by a browser.
func TestReferences(t *testing.T) {
	files, err := load(Options{})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`(?:from |import )"\./([^"]+)"|"/assets/([^"]+)"`)
	for _, f := range files {
		for _, m := range named.FindAllSubmatch(f.content, -1) {
			if name := string(m[1]) + string(m[2]); files[name] == nil {
				t.Errorf("%s names %s, which is not there", f.name, name)
			}
		}
	}
}

// TestReadTokens: the pages say nothing of the log, and come without a token also where reading needs one: they ask for it.
func TestReadTokens(t *testing.T) {
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feed.Close() })
	api, err := web.New(feed, web.Config{ReadTokens: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := Mount(api, Options{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/": 200, "/ops": 200, "/overlay": 200, "/try": 200, "/assets/api.js": 200, "/api/status": 401} {
		if w := ask(api, http.MethodGet, path, nil); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}
