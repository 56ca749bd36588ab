package wanderer

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"killfeed"
	"killfeed/web"
)

// The codes of errors.
const (
	codeSystem     = "INVALID_SYSTEM_ID"
	codeSystems    = "INVALID_SYSTEM_IDS"
	codeParameters = "INVALID_PARAMETERS"
	codeKillmail   = "INVALID_KILLMAIL_ID"
	codeFetch      = "FETCH_ERROR"
	codeNotFound   = "NOT_FOUND"
)

// problem is an error as the service tells it.
type problem struct {
	status int
	code   string
	text   string
	// details say what is wanted; empty: there are none.
	details map[string]string
}

func (p *problem) Error() string { return p.text }

// invalid is a parameter that is wrong.
func invalid(code, text, param, value, want string) *problem {
	const most = 100 // bytes of what was given
	return &problem{http.StatusBadRequest, code, text, map[string]string{"parameter": param, "value": value[:min(len(value), most)], "accepted": want}}
}

// send answers with a JSON text.
func send(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body) // an error means that the caller has left; net/http leaves the body out for HEAD
}

// sendJSON answers with v.
func sendJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // not reached: what is answered can be written
		http.Error(w, "the answer cannot be written", http.StatusInternalServerError)
		return
	}
	send(w, status, body)
}

// begin begins the answer {"data":…,"timestamp":…}, which end ends.
func begin() []byte { return []byte(`{"data":`) }

func end(b []byte) []byte { return append(appendNow(append(b, `,"timestamp":`...)), '}') }

// fail answers with an error in the service's envelope.
func (d *dialect) fail(w http.ResponseWriter, err error) {
	p := d.problem(err)
	sendJSON(w, p.status, struct {
		Error     string            `json:"error"`
		Code      string            `json:"code"`
		Details   map[string]string `json:"details"`
		Timestamp string            `json:"timestamp"`
	}{p.text, p.code, p.details, time.Now().UTC().Format(momentLayout)})
}

// problem is an error of any origin as the service tells it. What is private goes to the log.
func (d *dialect) problem(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	if errors.Is(err, killfeed.ErrNotFound) {
		return &problem{status: http.StatusNotFound, code: codeNotFound, text: "Killmail not found"}
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &problem{status: http.StatusRequestEntityTooLarge, code: codeParameters,
			text: "the body is larger than " + strconv.FormatInt(large.Limit, 10) + " bytes"}
	}
	status, text := web.Status(err)
	code := codeFetch
	if status < 500 {
		code = codeParameters
	} else {
		d.log.Error("a request could not be answered", "err", err)
	}
	return &problem{status: status, code: code, text: text}
}

const (
	// maxBody bounds a body, and bodyTime how long it may take.
	maxBody  = 1 << 20
	bodyTime = 30 * time.Second
)

// body reads a request's body, which is a JSON object.
func body(w http.ResponseWriter, r *http.Request) (map[string]json.RawMessage, error) {
	// The server has no ReadTimeout, because that would end long polls. An error means a connection without deadlines, as in tests.
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Now().Add(bodyTime)) == nil {
		defer control.SetReadDeadline(time.Time{})
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, err
		}
		return nil, &problem{status: http.StatusBadRequest, code: codeParameters, text: "the body could not be read to its end"}
	}
	m, err := object(text)
	if err != nil {
		return nil, invalid(codeParameters, "Invalid parameters", "body", string(text), "one JSON object")
	}
	return m, nil
}
