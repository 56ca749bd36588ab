package standin

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server is the stand-in. Make it with New and serve its Handler.
type Server struct {
	config   Config
	feed     *feed
	faults   *switchboard
	stats    *recorder
	esi      *esiLimiter
	queues   queues
	sockets  sockets
	archives archives
	static   static

	closing chan struct{} // closed by Close
	close   sync.Once
}

// New makes a Server. The error tells everything that is wrong with the Config.
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	mails, err := completed(c.Mails)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: c, faults: newSwitchboard(c.Seed, c.Faults), stats: newRecorder(c.Clock), esi: newESILimiter(c.ESI),
		queues: queues{byID: map[string]*queue{}}, sockets: newSockets(), closing: make(chan struct{}),
		archives: archives{dir: c.ArchiveDir, counts: map[archiveKey]int{}},
	}
	if err := s.static.add(c.StaticData...); err != nil {
		return nil, err
	}
	s.feed = newFeed(&c, s.faults, mails)
	return s, nil
}

// completed is a copy of mails with what they lacked.
func completed(mails []Mail) ([]Mail, error) {
	mails = slices.Clone(mails)
	for i := range mails {
		if err := mails[i].complete(); err != nil {
			return nil, err
		}
	}
	return mails, nil
}

// Handler serves everything. To cut connections it panics with http.ErrAbortHandler, as an http.Server expects.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Close ends whatever waits, cuts the websockets and waits for them. Other requests are served on; closing the http.Server is
// the caller's part, before or after.
func (s *Server) Close() {
	s.close.Do(func() { close(s.closing) })
	s.sockets.close()
}

// Stats returns what has been counted.
func (s *Server) Stats() Stats {
	stats := s.stats.stats()
	stats.ESI, stats.Faults = s.esi.read(), s.faults.counts()
	stats.StaticBytes = s.static.sent.Load()
	defer s.feed.mu.Unlock()
	s.feed.lock()
	stats.Published = len(s.feed.slots)
	stats.Head = s.feed.first + int64(len(s.feed.slots)) - 1
	stats.Waiting = len(s.feed.mails) - len(s.feed.slots)
	if s.feed.ended != nil {
		stats.Error = s.feed.ended.Error()
	}
	return stats
}

// ResetStats begins to count anew. Requests that are under way count when they are answered.
func (s *Server) ResetStats() {
	s.stats.reset()
	s.esi.reset()
	s.static.sent.Store(0)
	s.faults.resetCounts()
}

// SetFault switches a fault on; a Strike without Chance, Next and Numbers switches it off. Those that strike numbers do so
// for killmails published from now on.
func (s *Server) SetFault(fault Fault, strike Strike) error {
	return s.faults.set(map[Fault]*Strike{fault: &strike})
}

// ClearFaults switches all faults off. Holes stay.
func (s *Server) ClearFaults() { s.faults.clear() }

// Faults returns the faults that are switched on; Next says how many are left.
func (s *Server) Faults() Faults { return s.faults.faults() }

// SetPace changes the pace from now on.
func (s *Server) SetPace(p Pace) error { return s.feed.setPace(p) }

// Publish publishes the next n killmails at once, whatever the pace, and returns how many there were.
func (s *Server) Publish(n int) int { return s.feed.publishNow(n) }

// Add adds killmails behind those that wait to be published. It adds all or, with an error, none.
func (s *Server) Add(mails ...Mail) error {
	mails, err := completed(mails)
	if err != nil {
		return err
	}
	s.feed.add(mails)
	return nil
}

// AddStaticData adds archives of static data behind those that are there: the last is the latest from now on. It adds all or, with
// an error, none.
func (s *Server) AddStaticData(files ...string) error { return s.static.add(files...) }

// Reupload writes the file of a number again, with more labels. The next file at the head announces it.
func (s *Server) Reupload(number int64, labels ...string) error {
	return s.feed.reupload(number, labels)
}

// DropSockets cuts all websockets and returns how many there were.
func (s *Server) DropSockets() int { return s.sockets.drop() }

// File is a published number.
type File struct {
	Sequence   int64     `json:"sequence"`
	KillmailID int64     `json:"killmail_id"`
	Hash       string    `json:"hash"`
	Published  time.Time `json:"published"`
	// Hole: it never has a file.
	Hole bool `json:"hole,omitempty"`
	// Uploads are when its file was written: none yet for a late one, several for one written again.
	Uploads []time.Time `json:"uploads,omitempty"`
	// Announces is the number in its sequence_updated.
	Announces int64 `json:"announces,omitempty"`
}

// Files returns all published numbers in order: the truth to compare a client with.
func (s *Server) Files() []File {
	defer s.feed.mu.Unlock()
	s.feed.lock()
	files := make([]File, len(s.feed.slots))
	for i, slot := range s.feed.slots {
		files[i] = File{
			Sequence: slot.number, KillmailID: slot.mail.ID, Hash: slot.mail.Hash, Published: slot.published,
			Hole: slot.hole, Announces: slot.announces,
		}
		for _, up := range slot.uploads {
			files[i].Uploads = append(files[i].Uploads, up.at)
		}
	}
	return files
}

// serve is the way of every request: it is counted, perhaps refused, answered, perhaps spoilt, and sent.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/standin/") {
		s.own(w, r)
		return
	}
	q := read(r)
	inSecond := s.stats.begin(q)
	defer s.stats.end(q)
	if q.kind == KindNames {
		// Before anything else: only when it has been read does net/http notice that a client leaves.
		q.asked, _ = io.ReadAll(io.LimitReader(r.Body, 64<<10)) // what is cut is no question
	}
	if q.kind.Service() == ServiceESI {
		s.esi.begin(q)
	}

	var v verdict
	a, refused := s.manners(q, inSecond)
	if !refused {
		v = s.faults.request(q.kind, r.URL.Path, q.number, q.now)
		a, refused = s.refusal(q, v)
	}
	if !refused {
		if q.kind == KindSocket && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			s.socket(w, q)
			return
		}
		a = q.conditional(s.answer(q, v))
	}
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // nobody is there to get it
	}
	if q.kind.Service() == ServiceESI {
		a = s.esi.settle(s.config.Clock.Now(), q.kind, a)
	}
	s.write(w, q, v, a)
}

// manners refuses what upstream refuses, faults or not.
func (s *Server) manners(q *request, inSecond int) (a answer, refused bool) {
	r2z2 := q.kind.Service() == ServiceR2Z2
	switch {
	case q.kind == KindNames && q.Method != http.MethodPost:
		a = notAllowed("POST")
	case q.kind != KindNames && q.Method != http.MethodGet && q.Method != http.MethodHead:
		a = notAllowed("GET, HEAD")
	case r2z2 && q.agent() == "":
		a = plain(http.StatusForbidden)
	case r2z2 && s.config.R2Z2PerSecond > 0 && inSecond > s.config.R2Z2PerSecond:
		a = plain(http.StatusTooManyRequests)
	default:
		return a, false
	}
	return a, true
}

func notAllowed(allow string) answer {
	a := newAnswer(http.StatusMethodNotAllowed, "text/plain; charset=utf-8", []byte("method not allowed\n"))
	a.header.Set("Allow", allow)
	return a
}

// refusal is what a fault answers instead.
func (s *Server) refusal(q *request, v verdict) (a answer, refused bool) {
	switch v.refuse {
	case Hang:
		fired, stop := s.config.Clock.Timer(v.strike.For)
		defer stop()
		select {
		case <-fired:
		case <-q.Context().Done():
		case <-s.closing:
		}
		panic(http.ErrAbortHandler)
	case Forbidden:
		a = plain(http.StatusForbidden)
	case TooMany:
		a = plain(http.StatusTooManyRequests)
		if v.strike.RetryAfter > 0 {
			a.header.Set("Retry-After", seconds(v.strike.RetryAfter))
		}
	case ServerError:
		status := v.strike.Status
		if status == 0 {
			status = [...]int{500, 502, 503, 504}[v.draw%4]
		}
		a = plain(status)
	case NotFound:
		a = notFound()
	case HTML:
		const page = "<!DOCTYPE html>\n<html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>\n"
		a = newAnswer(http.StatusOK, "text/html; charset=utf-8", []byte(page))
	default:
		return a, false
	}
	return a, true
}

func plain(status int) answer {
	return newAnswer(status, "text/plain; charset=utf-8", []byte("error code: "+strconv.Itoa(status)+"\n"))
}

// answer is the right answer, or that of another moment.
func (s *Server) answer(q *request, v verdict) answer {
	at := q.now.Add(-v.stale)
	a := s.good(q, at, v.skew)
	if v.stale > 0 {
		a.header.Set("Age", seconds(v.stale))
	}
	return a
}

func (s *Server) good(q *request, at time.Time, skew time.Duration) answer {
	switch q.kind {
	case KindPointer:
		return s.pointerFile(at)
	case KindFile:
		return s.killmailFile(q.number, at, skew)
	case KindHistory:
		return s.dayFile(q.day, q.raw, at)
	case KindTotals:
		return s.totalsFile(at)
	case KindESI:
		return s.killmail(q)
	case KindNames:
		return s.names(q)
	case KindDetails:
		return s.details(q)
	case KindListen:
		return s.listen(q)
	case KindObject:
		return s.object(q)
	case KindSocket:
		return plain(http.StatusUpgradeRequired)
	case KindArchive:
		a, err := s.archives.serve(q.parts)
		if err != nil {
			return newAnswer(http.StatusInternalServerError, "text/plain; charset=utf-8", []byte(err.Error()+"\n"))
		}
		return a
	case KindStatic:
		return s.static.serve(q, at.Before(q.now))
	}
	return notFound()
}

// write sends an answer, or what faults leave of it.
func (s *Server) write(w http.ResponseWriter, q *request, v verdict, a answer) {
	cut := false
	good := a.status == http.StatusOK || a.status == http.StatusPartialContent
	if v.refuse == "" && good && len(a.body) > 1 {
		switch s.faults.damage(q.kind, q.number, v) {
		case WrongSequence:
			a = s.wrongFile(q.number, q.now.Add(-v.stale), v.skew)
		case WrongNames:
			a.body = wrongNames()
		case InvalidJSON:
			a.body = slices.Insert(slices.Clone(a.body), len(a.body)/2, 0x01) // no JSON has it, in a text or outside
		case Truncated:
			a.body = a.body[:max(1, len(a.body)*2/3)]
		case Cut:
			cut = true
		}
	}
	h := w.Header()
	maps.Copy(h, a.header)
	h.Set("Date", s.config.Clock.Now().Add(v.skew).UTC().Format(http.TimeFormat))
	if kind := a.header.Get("Content-Type"); strings.HasPrefix(kind, "application/json") {
		h.Add("Vary", "Accept-Encoding")
		if len(a.body) > 0 && q.takesGzip() {
			a.body = packedWithGzip(a.body)
			h.Set("Content-Encoding", "gzip")
			if tag := h.Get("Etag"); tag != "" {
				h.Set("Etag", "W/"+tag)
			}
		}
	}
	if a.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	retry, _ := strconv.Atoi(a.header.Get("Retry-After"))
	s.stats.answered(q, a.status, time.Duration(retry)*time.Second)
	w.WriteHeader(a.status)
	if q.Method == http.MethodHead {
		return
	}
	body := a.body
	if cut {
		body = body[:len(body)/2]
	}
	var pause time.Duration
	if good && v.refuse == "" {
		pause = v.slow
	}
	s.send(w, q, body, pause)
	if cut {
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// send writes a body, at once or, with a pause, in eight pieces so far apart. An error means that the client has left.
func (s *Server) send(w http.ResponseWriter, q *request, body []byte, pause time.Duration) {
	size := len(body)
	if pause > 0 {
		size = len(body)/8 + 1
	}
	for len(body) > 0 {
		n, err := w.Write(body[:min(size, len(body))])
		if q.kind == KindStatic {
			s.static.sent.Add(int64(n))
		}
		if body = body[n:]; err != nil || len(body) == 0 {
			return
		}
		http.NewResponseController(w).Flush()
		fired, stop := s.config.Clock.Timer(pause)
		select {
		case <-fired:
		case <-q.Context().Done():
			stop()
			return
		case <-s.closing:
			stop()
			panic(http.ErrAbortHandler)
		}
	}
}

func packedWithGzip(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // errors: writing to memory has none
	z.Write(data)
	z.Close()
	return b.Bytes()
}
