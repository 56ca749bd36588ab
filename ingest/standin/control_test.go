package standin_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

// control sends a control request.
func (s *site) control(body string) (int, string) {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/standin/control", strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func TestControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(20), Pace: standin.Pace{Hold: true}})
		c := s.dial("killstream")
		status, body := s.control(`{"faults":{"hole":{"chance":0.5,"numbers":[1]},"too_many":{"next":1,"retry_after":"5s","for":"1m30s"},` +
			`"cut":{"chance":0}},"pace":{"rate":0.5},"publish":2,"reset_stats":true}`)
		const want = `{
  "faults": {
    "hole": {
      "chance": 0.5,
      "numbers": [
        1
      ]
    },
    "too_many": {
      "next": 1,
      "kinds": [
        "pointer",
        "file",
        "history",
        "totals",
        "esi",
        "names",
        "details",
        "listen",
        "object",
        "socket",
        "archive",
        "static",
        "other"
      ],
      "for": "1m30s",
      "retry_after": "5s"
    }
  },
  "pace": {
    "rate": 0.5
  }
}
`
		if status != 200 || body != want {
			t.Errorf("%d %s", status, body)
		}
		if got := s.wantBody(want, "/standin/control"); got.status != 200 {
			t.Errorf("%+v", got)
		}
		if n := s.Stats().Published; n != 3 { // one by the pace, which began
			t.Errorf("%d are published, want 3", n)
		}
		if status, body := s.control(`{"clear":true,"drop_sockets":true}`); status != 200 || len(s.Faults()) != 0 {
			t.Errorf("%d %s", status, body)
		}
		if _, err := s.receive(c); err == nil {
			t.Error("the websocket is not cut")
		}
		if status, body = s.control(`{"publish":1}`); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		files := s.Files()
		last := files[len(files)-1]
		if status, body := s.control(`{"faults":{"hole":null},"reupload":[` + file(last.Sequence)[11:][:8] + `]}`); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		if p := s.pack(last.Sequence); p.labels(t)[len(p.labels(t))-1] != "ganked" {
			t.Errorf("labels %q", p.labels(t))
		}
		for _, bad := range []string{"", "{", `{"x":1}`, `{"publish":-1}`, `{"pace":{"rate":-1}}`, `{"faults":{"x":{}}}`,
			`{"faults":{"hole":{"x":1}}}`, `{"faults":{"late":{"for":"x"}}}`, `{"faults":{"late":{"for":5}}}`, `{"reupload":[1]}`,
			`{"faults":{"too_many":{"retry_after":"x"}}}`} {
			if status, body := s.control(bad); status != 400 || !strings.HasPrefix(body, "{\n  \"error\": ") {
				t.Errorf("%s: %d %s", bad, status, body)
			}
		}
	})
}

func TestOwnEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(2), Faults: standin.Faults{standin.Late: {Numbers: []int64{first}}}})
		s.want(http.StatusNotFound, file(first))
		time.Sleep(6 * time.Second)
		s.want(http.StatusNotFound, file(first))
		var st struct {
			Requests map[string]map[string]int
			After404 struct {
				Count int
				Least float64 `json:"least_seconds"`
			} `json:"after_404"`
			Head int64
		}
		decode(t, s.want(http.StatusOK, "/standin/stats").body, &st)
		if st.Requests["file"]["404"] != 2 || st.After404.Count != 1 || st.After404.Least != 6 || st.Head != first+1 {
			t.Errorf("%+v", st)
		}
		var files []standin.File
		decode(t, s.want(http.StatusOK, "/standin/files").body, &files)
		if len(files) != 2 || files[1].Sequence != first+1 || len(files[0].Uploads) != 0 || len(files[1].Uploads) != 1 {
			t.Errorf("%+v", files)
		}
		s.want(http.StatusNotFound, "/standin/")
		for _, path := range []string{"/standin/stats", "/standin/files", "/standin/control"} {
			if r := s.try(t.Context(), http.MethodDelete, path); r.status != 405 || r.header.Get("Allow") == "" {
				t.Errorf("DELETE %s: %+v", path, r)
			}
		}
		if st := s.Stats(); len(st.Requests) != 1 {
			t.Errorf("its own endpoints are counted: %v", st.Requests)
		}
	})
}
