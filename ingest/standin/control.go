package standin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// The stand-in's own endpoints, for play by hand and for tests from outside. Requests to them are not counted.
//
//	GET  /standin/stats    Stats
//	GET  /standin/files    Files
//	GET  /standin/control  {"faults":{…},"pace":{…}}, as they are
//	POST /standin/control  any of the members of control, in JSON; 200 with the same as GET, 400 with {"error":"…"}
//
// For example:
//
//	curl -d '{"faults":{"hole":{"chance":0.01},"too_many":{"next":3,"retry_after":"5s"}},"publish":10}' …/standin/control

// control is what can be told to a running stand-in. What is not given stays as it is.
type control struct {
	// Clear switches all faults off, before Faults.
	Clear bool `json:"clear"`
	// Faults are switched on, or with null off.
	Faults map[Fault]*Strike `json:"faults"`
	// Pace replaces the pace.
	Pace *paceJSON `json:"pace"`
	// Publish publishes so many killmails at once.
	Publish int `json:"publish"`
	// Reupload writes the files of these numbers again, with Labels ("ganked").
	Reupload []int64  `json:"reupload"`
	Labels   []string `json:"labels"`
	// DropSockets cuts all websockets.
	DropSockets bool `json:"drop_sockets"`
	// ResetStats begins to count anew, after all else.
	ResetStats bool `json:"reset_stats"`
}

type paceJSON struct {
	Rate  float64 `json:"rate,omitempty"`
	Speed float64 `json:"speed,omitempty"`
	Hold  bool    `json:"hold,omitempty"`
}

// maxControl bounds the body of a control request.
const maxControl = 1 << 20

// own serves the stand-in's own endpoints.
func (s *Server) own(w http.ResponseWriter, r *http.Request) {
	isGet := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch path := r.URL.Path; {
	case path == "/standin/stats" && isGet:
		reply(w, http.StatusOK, s.Stats())
	case path == "/standin/files" && isGet:
		reply(w, http.StatusOK, s.Files())
	case path == "/standin/control" && isGet:
		s.replyControl(w)
	case path == "/standin/control" && r.Method == http.MethodPost:
		var c control
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControl))
		d.DisallowUnknownFields()
		err := d.Decode(&c)
		if err == nil {
			err = s.apply(&c)
		}
		if err != nil {
			reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		s.replyControl(w)
	case path == "/standin/stats", path == "/standin/files":
		w.Header().Set("Allow", "GET, HEAD")
		reply(w, http.StatusMethodNotAllowed, map[string]string{"error": "method not allowed"})
	case path == "/standin/control":
		w.Header().Set("Allow", "GET, HEAD, POST")
		reply(w, http.StatusMethodNotAllowed, map[string]string{"error": "method not allowed"})
	default:
		reply(w, http.StatusNotFound, map[string]string{"error": "there are /standin/stats, /standin/files and /standin/control"})
	}
}

// apply does what a control request says. It stops at the first thing that is not accepted; what came before is done.
func (s *Server) apply(c *control) error {
	if c.Publish < 0 {
		return fmt.Errorf("publish %d is not accepted: want 0 or more", c.Publish)
	}
	if c.Clear {
		s.ClearFaults()
	}
	if err := s.faults.set(c.Faults); err != nil {
		return err
	}
	if c.Pace != nil {
		if err := s.SetPace(Pace(*c.Pace)); err != nil {
			return err
		}
	}
	s.Publish(c.Publish)
	labels := c.Labels
	if len(labels) == 0 {
		labels = []string{"ganked"}
	}
	var errs []error
	for _, number := range c.Reupload {
		errs = append(errs, s.Reupload(number, labels...))
	}
	if c.DropSockets {
		s.DropSockets()
	}
	if c.ResetStats {
		s.ResetStats()
	}
	return errors.Join(errs...)
}

func (s *Server) replyControl(w http.ResponseWriter) {
	s.feed.lock()
	pace := paceJSON(s.feed.pace)
	s.feed.mu.Unlock()
	reply(w, http.StatusOK, struct {
		Faults Faults   `json:"faults"`
		Pace   paceJSON `json:"pace"`
	}{s.Faults(), pace})
}

func reply(w http.ResponseWriter, status int, value any) {
	body, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}
