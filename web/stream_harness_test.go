package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/getkin/kin-openapi/openapi3"

	"killfeed"
)

// frame is one message of a stream: an event of SSE, or a line of NDJSON.
type frame struct {
	kind  string // open, new_killmail, gap, replaced, heartbeat
	id    string // the id line, or the line's cursor
	data  string
	retry string
}

// streaming is an answer that goes on. It is for synctest: a goroutine beside the test takes what comes.
type streaming struct {
	t     testing.TB
	res   *http.Response
	leave context.CancelFunc
	// unheld: its frames are not held to openapi.json, which costs a millisecond each.
	unheld bool

	mu     sync.Mutex // guards the rest
	frames []frame
	taken  int
	ended  bool
}

// stream opens a stream over HTTP/1.1. An answer that is no stream has ended at once.
func (h *host) stream(target string, headers ...string) *streaming {
	h.t.Helper()
	return h.streamBy(h.client, target, headers...)
}

func (h *host) streamBy(client *http.Client, target string, headers ...string) *streaming {
	h.t.Helper()
	ctx, leave := context.WithCancel(context.Background())
	h.t.Cleanup(leave)
	r, err := http.NewRequestWithContext(ctx, "GET", "http://memory"+target, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := client.Do(r)
	if err != nil {
		h.t.Fatalf("GET %s: %v", target, err)
	}
	s := &streaming{t: h.t, res: res, leave: leave, unheld: h.unheld}
	switch {
	case res.StatusCode != 200:
		body, _ := io.ReadAll(res.Body)
		s.ended = true
		checkContract(h.t, h.request("GET", target, ""), nil,
			&answer{t: h.t, what: "GET " + target, status: res.StatusCode, header: res.Header, body: body})
	case res.Header.Get("Content-Type") == "application/x-ndjson":
		go s.read(s.line)
	default:
		go s.read(s.sse)
	}
	return s
}

func (s *streaming) read(next func(*bufio.Reader) (frame, error)) {
	in := bufio.NewReader(s.res.Body)
	for {
		f, err := next(in)
		s.mu.Lock()
		if err == nil {
			s.frames = append(s.frames, f)
		} else {
			s.ended = true
		}
		s.mu.Unlock()
		if err != nil {
			s.res.Body.Close()
			return
		}
	}
}

// sse reads one event as the HTML standard has it, and wants it to be as openapi.json says. A part of one is an error, as it is
// to a browser.
func (s *streaming) sse(in *bufio.Reader) (f frame, err error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			if line != "" || f != (frame{}) {
				s.t.Logf("cut off in %+v, at %q", f, line)
			}
			return f, err
		}
		if line = strings.TrimSuffix(line, "\n"); line == "" {
			s.check(&f)
			return f, nil
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		set := map[string]*string{"": &f.kind, "event": &f.kind, "id": &f.id, "data": &f.data, "retry": &f.retry}[name]
		switch {
		case set == nil:
			s.t.Errorf("line %q in a stream", line)
		case *set != "":
			s.t.Errorf("two lines %q in %+v", name, f)
		default:
			*set = value
		}
	}
}

// line reads one line of NDJSON.
func (s *streaming) line(in *bufio.Reader) (f frame, err error) {
	text, err := in.ReadString('\n')
	if err != nil {
		return f, err
	}
	f.data = strings.TrimSuffix(text, "\n")
	var line struct{ Type, Cursor string }
	if err := json.Unmarshal([]byte(f.data), &line); err != nil {
		s.t.Errorf("line %q: %v", text, err)
	}
	f.kind, f.id = line.Type, line.Cursor
	s.schema("StreamLine", f.data)
	return f, nil
}

// check holds an event to the document.
func (s *streaming) check(f *frame) {
	switch f.kind {
	case "open":
		s.schema("Place", f.data)
	case "new_killmail":
		s.schema("LiveEvent", f.data)
	case "gap":
		s.schema("Gap", f.data)
	case "replaced":
		s.schema("Empty", f.data)
	case "heartbeat":
		if f.data != "" {
			s.t.Errorf("a comment with data: %+v", f)
		}
	default:
		s.t.Errorf("event %+v", f)
	}
	if f.id == "" && f.kind != "replaced" {
		s.t.Errorf("no id in %+v", f)
	}
	var data struct{ Cursor string }
	if f.data != "" && json.Unmarshal([]byte(f.data), &data) == nil && data.Cursor != "" {
		if nonce, ok := strings.CutPrefix(f.id, data.Cursor); !ok || nonce != "" && (len(nonce) != 13 || nonce[0] != '-') {
			s.t.Errorf("id %q with cursor %q", f.id, data.Cursor)
		}
	}
}

// schema holds a JSON text to one of the document's schemas.
func (s *streaming) schema(name, text string) {
	if s.unheld {
		return
	}
	doc, err := document()
	if err != nil {
		s.t.Error(err)
		return
	}
	var value any
	if err := json.NewDecoder(bytes.NewReader([]byte(text))).Decode(&value); err != nil {
		s.t.Errorf("%s %q: %v", name, text, err)
		return
	}
	if schema := doc.Components.Schemas[name]; schema == nil {
		s.t.Errorf("openapi.json has no schema %s", name)
	} else if err := schema.Value.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.VisitAsResponse()); err != nil {
		s.t.Errorf("%s is not what openapi.json says: %v", text, err)
	}
}

// take waits until nothing more comes at the moment, and returns what came since the last time.
func (s *streaming) take() []frame {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.frames[s.taken:]
	s.taken = len(s.frames)
	return f
}

// hasEnded tells whether the server, or the client, ended it.
func (s *streaming) hasEnded() bool {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// is takes what came, and fails the test unless it is as said: kinds, with the event's id or the gap's bounds.
func (s *streaming) is(want string) []frame {
	s.t.Helper()
	frames := s.take()
	if got := say(frames); got != want {
		s.t.Fatalf("there came %q, want %q", got, want)
	}
	return frames
}

// say shows frames in short: "open", an event's id, "gap 1-2" or "gap epoch", "replaced", "heartbeat".
func say(frames []frame) string {
	var words []string
	for i := range frames {
		words = append(words, frames[i].short())
	}
	return strings.Join(words, " ")
}

func (f *frame) short() string {
	var data struct {
		EventID  killfeed.EventID `json:"event_id"`
		Gap      *killfeed.Gap    `json:"gap"`
		Reason   killfeed.GapReason
		From, To killfeed.EventID
		Update   bool
		Backfill bool
	}
	_ = json.Unmarshal([]byte(f.data), &data) // it was held to its schema
	switch f.kind {
	case "new_killmail":
		text := strconv.Itoa(int(data.EventID))
		if data.Update {
			text += "u"
		}
		if data.Backfill {
			text += "b"
		}
		return text
	case "gap":
		return "gap " + killfeed.Gap{Reason: data.Reason, From: data.From, To: data.To}.String()
	case "open":
		if data.Gap != nil {
			return "open gap " + data.Gap.String()
		}
	}
	return f.kind
}

// last is the id that a browser would go on with.
func (s *streaming) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range slices.Backward(s.frames) {
		if f.id != "" {
			return f.id
		}
	}
	return ""
}
