package upstream

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"testing"
)

func TestOpenFrom(t *testing.T) {
	const whole = "0123456789"
	for name, c := range map[string]struct {
		from     int64
		tag      string
		status   int
		header   map[string]string
		body     string
		asked    string // Range
		class    error
		began    int64
		total    int64
		validate string
	}{
		"all of it":                   {0, "", 200, map[string]string{"Etag": `"a"`}, whole, "", nil, 0, 10, `"a"`},
		"the rest":                    {4, `"a"`, 206, map[string]string{"Etag": `"a"`, "Content-Range": "bytes 4-9/10"}, whole[4:], "bytes=4-", nil, 4, 10, `"a"`},
		"the rest of nobody knows":    {4, `"a"`, 206, map[string]string{"Content-Range": "bytes 4-9/*"}, whole[4:], "bytes=4-", nil, 4, -1, ""},
		"another version":             {4, `"a"`, 200, map[string]string{"Etag": `"b"`}, whole, "bytes=4-", nil, 0, 10, `"b"`},
		"a version without a name":    {4, "", 200, map[string]string{"Etag": `W/"weak"`}, whole, "", nil, 0, 10, ""},
		"a version by its time":       {0, "", 200, map[string]string{"Etag": `W/"weak"`, "Last-Modified": "then"}, whole, "", nil, 0, 10, "then"},
		"another part than asked for": {4, `"a"`, 206, map[string]string{"Content-Range": "bytes 3-9/10"}, whole[3:], "bytes=4-", ErrStatus, 0, 0, ""},
		"a part that does not say":    {4, `"a"`, 206, nil, whole[4:], "bytes=4-", ErrStatus, 0, 0, ""},
		"nothing left":                {10, `"a"`, 416, map[string]string{"Content-Range": "bytes */10"}, "", "bytes=10-", ErrStatus, 0, 0, ""},
		"packed once more":            {0, "", 200, map[string]string{"Content-Encoding": "gzip"}, whole, "", ErrStatus, 0, 0, ""},
		"not there":                   {4, `"a"`, 404, nil, "", "bytes=4-", ErrNotFound, 0, 0, ""},
		"busy":                        {4, `"a"`, 503, nil, "", "bytes=4-", ErrServer, 0, 0, ""},
		"too large":                   {0, "", 200, nil, whole + whole, "", ErrTooLarge, 0, 20, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cl := client(t, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Range"); got != c.asked {
					t.Errorf("asked for %q, want %q", got, c.asked)
				}
				if got := r.Header.Get("If-Range"); (got != "") != (c.asked != "") || got != "" && got != c.tag {
					t.Errorf("if it is %q, want %q", got, c.tag)
				}
				if r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("User-Agent") != "killfeed/1.2 (me@example.com; +https://example.com/p)" {
					t.Errorf("header %v", r.Header)
				}
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(c.body)))
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			})
			var text []byte
			p, err := cl.OpenFrom(t.Context(), "http://x/y", c.from, c.tag, 15)
			if err == nil {
				if p.From != c.began || p.Total != c.total || p.Tag != c.validate {
					t.Errorf("from %d of %d, version %q; want %d of %d, %q", p.From, p.Total, p.Tag, c.began, c.total, c.validate)
				}
				text, err = io.ReadAll(p)
				p.Close()
			}
			if !errors.Is(err, c.class) || (err == nil) != (c.class == nil) {
				t.Fatalf("got %v, want %v", err, c.class)
			}
			if err == nil && string(text) != c.body {
				t.Errorf("got %q, want %q", text, c.body)
			}
			if e, ok := errors.AsType[*Error](err); c.status == 416 && (!ok || e.Status != 416 || Length(e.Header) != 10) {
				t.Errorf("%+v", e)
			}
		})
	}
}
