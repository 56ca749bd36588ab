// Package dashboard serves the pages for people: the live list of killmails at /, the operator's view at /ops, the overlay for
// streamers at /overlay, the playground of the API at /try, and what they are made of below /assets/.
//
// # What it guarantees
//
// A page asks nobody but this server, and, where Options.Images allows it, CCP's image server for pictures of ships: the
// Content-Security-Policy holds the browser to that, whatever a name in a killmail may say. No script, style or frame of
// anybody else runs in it, and nobody can put it into a frame.
//
// Pages have no way of their own into the server: they use the API that every other client has. They and their files need no token,
// and say nothing of the log; where reading needs one, they ask for it, and keep it as the operator's view keeps its own. The list
// writes nothing: it has no client_id and no offsets. The playground asks for nothing until somebody runs it, and reads under a
// client name of its own unless another is typed. The operator's view does nothing without the admin token, which somebody
// types in; the browser keeps it for one tab, and no address ever holds it.
//
// # What callers owe
//
// Mount comes before the API serves.
//
// # How
//
// Everything is embedded, and served as it is in the directory assets: there is no build step, and nothing generated that
// could be missing from a checkout. Answers have an ETag and are asked for again each time, so that a new version of the
// program is a new page at once, and costs a 304 for each file where nothing has changed.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"killfeed/web"
)

//go:embed assets
var embedded embed.FS

// ImageServer is the origin of CCP's image server, the only one besides this server's own that the page may ask.
const ImageServer = "https://images.evetech.net"

// Options of the page. The zero value works.
type Options struct {
	// Images allows pictures of ships from CCP's image server. Without it a browser on the page asks nobody but this server.
	Images bool
}

// pages are the documents by their paths. All else in assets is a file of theirs.
var pages = []struct{ path, file string }{
	{"/", "index.html"},
	{"/ops", "ops.html"},
	{"/overlay", "overlay.html"},
	{"/try", "try.html"},
}

// Mount adds the pages and their files to the API. The error is about a path that is taken.
func Mount(api *web.API, o Options) error {
	files, err := load(o)
	if err != nil {
		return err
	}
	routes := []web.Route{{Method: http.MethodGet, Path: "/assets/{id}", Public: true, Serve: func(w http.ResponseWriter, r *http.Request) {
		f := files[r.PathValue("id")]
		if f == nil || f.document {
			http.Error(w, "there is no such file of the page", http.StatusNotFound)
			return
		}
		f.serve(w, r)
	}}}
	for _, p := range pages {
		f := files[p.file]
		if f == nil {
			return fmt.Errorf("dashboard: %s is not embedded", p.file)
		}
		routes = append(routes, web.Route{Method: http.MethodGet, Path: p.path, Public: true, Serve: f.serve})
	}
	return api.Mount(routes...)
}

// file is one that is served. It does not change.
type file struct {
	name, kind, tag string
	content         []byte
	document        bool // it is a page, with a policy
	policy          string
}

// load reads what is embedded.
func load(o Options) (map[string]*file, error) {
	entries, err := fs.ReadDir(embedded, "assets")
	if err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	files := map[string]*file{}
	for _, e := range entries {
		f := &file{name: e.Name(), document: path.Ext(e.Name()) == ".html"}
		if f.content, err = embedded.ReadFile("assets/" + f.name); err != nil {
			return nil, fmt.Errorf("dashboard: %w", err)
		}
		if f.document {
			f.content = withSettings(f.content, o)
			f.policy = policy(o)
		}
		if f.kind, err = kindOf(f.name); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte(f.policy), f.content...)) // a new policy has to arrive too
		f.tag = `"` + hex.EncodeToString(sum[:12]) + `"`
		files[f.name] = f
	}
	return files, nil
}

// withSettings tells a document what the server's settings allow. It stands in an attribute because the policy lets no script
// stand in the document.
func withSettings(document []byte, o Options) []byte {
	images := "off"
	if o.Images {
		images = "on"
	}
	return bytes.Replace(document, []byte(`data-images=""`), []byte(`data-images="`+images+`"`), 1)
}

// policy is what a browser lets a document do. Names and killmails are text that strangers chose: should any of it ever become
// markup, nothing in it would run or load.
func policy(o Options) string {
	images := "img-src 'self'"
	if o.Images {
		images += " " + ImageServer
	}
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", images,
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'",
	}, "; ")
}

// kindOf is the type of a file's content. mime's own table is not asked alone: what it says of .js may come from the system.
func kindOf(name string) (string, error) {
	switch ext := path.Ext(name); ext {
	case ".js":
		return "text/javascript; charset=utf-8", nil
	case ".css":
		return "text/css; charset=utf-8", nil
	case ".html":
		return "text/html; charset=utf-8", nil
	case ".svg":
		return "image/svg+xml", nil
	default:
		if kind := mime.TypeByExtension(ext); kind != "" {
			return kind, nil
		}
		return "", fmt.Errorf("dashboard: the file %s has no known type", name)
	}
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.tag)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Del("Access-Control-Allow-Origin") // it is nobody else's
	h.Del("Access-Control-Expose-Headers")
	if f.document {
		h.Set("Content-Security-Policy", f.policy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.content))
}
