package r2z2

import (
	"bufio"
	"encoding/hex"
	"hash/fnv"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"killfeed/web/dialect/internal/pack"
)

// totals answers with how many killmails each day has.
func (d *dialect) totals(w http.ResponseWriter, r *http.Request) {
	h := d.history
	if err := h.begin(r.Context()); err != nil {
		d.fail(w, r, err)
		return
	}
	all := h.tallies()
	h.end()
	b := []byte{'{'}
	for _, day := range slices.Sorted(maps.Keys(all)) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), day.String()...), `":`...)
		b = strconv.AppendInt(b, int64(all[day].killmails), 10)
	}
	b = append(b, '}')
	sum := fnv.New64a()
	sum.Write(b) // never fails
	if !unchanged(w, r, `"`+strconv.FormatUint(sum.Sum64(), 16)+`"`, historyCaching) {
		write(w, r, http.StatusOK, b)
	}
}

// ofDay finds the killmails of the day that a path names; nil: the request was answered.
func (d *dialect) ofDay(w http.ResponseWriter, r *http.Request) *mails {
	name, ok := strings.CutSuffix(r.PathValue("id"), ".json")
	day, valid := parseDay(name)
	if !ok || !valid {
		refuse(w, r, http.StatusNotFound, "there is no such file: days are called YYYYMMDD.json", goneCaching)
		return nil
	}
	all, tag, err := d.find(r, day)
	switch {
	case err != nil:
		d.fail(w, r, err)
	case tag == "":
		refuse(w, r, http.StatusNotFound, "nothing is kept of this day: /history/totals.json lists those that there are", historyCaching)
	case !unchanged(w, r, tag, historyCaching):
		return all
	}
	return nil
}

// find finds the killmails of a day, unless the caller has them, and the tag of the day, which is empty when nothing is kept of it.
func (d *dialect) find(r *http.Request, day day) (all *mails, tag string, err error) {
	h := d.history
	if err := h.begin(r.Context()); err != nil {
		return nil, "", err
	}
	defer h.end()
	t, inside := h.of(day)
	if !inside {
		return nil, "", nil
	}
	b := strconv.AppendInt([]byte{'"'}, int64(t.killmails), 10)
	b = strconv.AppendUint(append(b, '-'), uint64(t.last), 10)
	b = append(append(append(b, '-'), d.feed.State().Epoch...), '"')
	if tag = string(b); has(r, tag) {
		return nil, tag, nil
	}
	all, err = h.read(r.Context(), day, t)
	return all, tag, err
}

// hashes answers with the hashes of a day. A day without killmails between others is {}: what PHP writes there, [], is no object,
// and readers in languages with types cannot read it.
func (d *dialect) hashes(w http.ResponseWriter, r *http.Request) {
	all := d.ofDay(w, r)
	if all == nil {
		return
	}
	d.object(w, r, all, func(b []byte, m *mail) ([]byte, error) {
		if m.hash == [20]byte{} {
			return b, nil // without one it is of no use to anybody
		}
		return append(hex.AppendEncode(append(b, '"'), m.hash[:]), '"'), nil
	})
}

// raw answers with the ESI bodies of a day. They are read one by one as they are sent.
func (d *dialect) raw(w http.ResponseWriter, r *http.Request) {
	select {
	case d.history.raw <- struct{}{}:
		defer func() { <-d.history.raw }()
	default:
		w.Header().Set("Retry-After", "10")
		refuse(w, r, http.StatusServiceUnavailable, "as many days are being read as may be at once: try again in a moment", "no-store")
		return
	}
	all := d.ofDay(w, r)
	if all == nil {
		return
	}
	d.object(w, r, all, func(b []byte, m *mail) ([]byte, error) {
		e, err := d.feed.Event(m.event)
		if err != nil {
			if showsNothing(err) {
				err = nil // retention came in between
			}
			return b, err
		}
		return append(b, pack.Open(&e).ESI...), nil
	})
}

const (
	// objectBuffer is how much of a day is written at a time, objectWithin how long each of that may take, and objectInAll all
	// of it together.
	objectBuffer = 64 << 10
	objectWithin = 30 * time.Second
	objectInAll  = 10 * time.Minute
)

// object answers with an object that has a member for each killmail, by its id. value appends what it is; nothing: it has none.
// What has begun and cannot be brought to its end ends the connection, so that it does not look whole.
func (d *dialect) object(w http.ResponseWriter, r *http.Request, all *mails, value func(b []byte, m *mail) ([]byte, error)) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	out := bufio.NewWriterSize(&patient{w, http.NewResponseController(w), time.Now().Add(objectInAll)}, objectBuffer)
	out.WriteByte('{') // an error stays until Flush
	var b []byte
	empty := true
	for i := range all.all {
		m := &all.all[i]
		b = append(b[:0], ',')
		if empty {
			b = b[:0]
		}
		b = append(strconv.AppendInt(append(b, '"'), m.id, 10), `":`...)
		named := len(b)
		var err error
		if b, err = value(b, m); err != nil {
			d.log.Warn("a day of history could not be sent to its end", "path", r.URL.Path, "err", err)
			panic(http.ErrAbortHandler)
		}
		if len(b) == named {
			continue
		}
		empty = false
		if _, err := out.Write(b); err != nil || r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
	}
	out.WriteByte('}')
	if out.Flush() != nil {
		panic(http.ErrAbortHandler)
	}
}

// patient writes an answer that may take long, each piece of it in its own time: a day is large, and a line may be slow.
type patient struct {
	w       http.ResponseWriter
	control *http.ResponseController
	until   time.Time
}

func (p *patient) Write(b []byte) (int, error) {
	within := time.Now().Add(objectWithin)
	if within.After(p.until) {
		within = p.until
	}
	_ = p.control.SetWriteDeadline(within) // what cannot have one has the server's
	return p.w.Write(b)
}
