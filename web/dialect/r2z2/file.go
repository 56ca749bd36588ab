package r2z2

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"killfeed"
	"killfeed/web/dialect/internal/pack"
)

const (
	// maxNumber is the greatest number that readers in JavaScript can tell from the next one.
	maxNumber = 1 << 53
	// maxBack is how far back a number that has nothing to show looks for a killmail to show instead.
	maxBack = 256
)

// parseNumber reads the name of a file, "17.json". Each number has one spelling.
func parseNumber(name string) (uint64, bool) {
	text, ok := strings.CutSuffix(name, ".json")
	if !ok || text == "" || text[0] < '0' || text[0] > '9' || text[0] == '0' && text != "0" {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && n <= maxNumber
}

// file answers with the file of a number.
func (d *dialect) file(w http.ResponseWriter, r *http.Request) {
	n, ok := parseNumber(r.PathValue("id"))
	if !ok {
		refuse(w, r, http.StatusNotFound, "there is no such file: files are called /ephemeral/<number>.json", goneCaching)
		return
	}
	// The head first: a number that becomes one in between is not there yet, and not gone.
	head := d.feed.State().MirrorSeq
	// 0 is what the pointer of an empty log says. Most readers begin with the file that the pointer names, and ask for it until
	// it comes: it is that of the first killmail.
	at := max(n, 1)
	id := d.feed.Mirrored(at)
	switch {
	case id == 0 && at > head:
		refuse(w, r, http.StatusNotFound, "not there yet: the newest number is "+strconv.FormatUint(head, 10), soonCaching)
		return
	case id == 0:
		refuse(w, r, http.StatusNotFound, "not kept any more: /history may have the killmail", goneCaching)
		return
	}
	v, err := d.version(at, id)
	if errors.Is(err, killfeed.ErrNotFound) {
		refuse(w, r, http.StatusNotFound, "there is no killmail to show", soonCaching)
		return
	}
	var announced uint64
	if err == nil && n > 0 {
		announced, err = d.updates.announced(r.Context(), n, id)
	}
	if err != nil {
		d.fail(w, r, err)
		return
	}
	if announced > 0 && d.feed.Mirrored(announced) == 0 {
		announced = 0 // its file is gone
	}
	tag := strconv.AppendUint([]byte{'"'}, uint64(v.event), 10)
	tag = strconv.AppendUint(append(tag, '-'), announced, 10)
	tag = append(append(append(tag, '-'), d.feed.State().Epoch...), '"')
	if unchanged(w, r, string(tag), fileCaching) {
		return
	}
	write(w, r, http.StatusOK, v.append(nil, n, announced))
}

// version is what a file shows of a killmail.
type version struct {
	mail *pack.Mail
	// event is the one that brought it.
	event killfeed.EventID
	// written is when, in Unix seconds.
	written int64
}

// version returns what the file of a number shows, whose event is id. It is ErrNotFound when there is nothing.
func (d *dialect) version(n uint64, id killfeed.EventID) (v version, err error) {
	for back := n; ; {
		if v, err = d.newest(id); err == nil && v.mail != nil {
			return v, nil
		}
		if err != nil && !showsNothing(err) {
			return v, err
		}
		if back--; back == 0 || n-back > maxBack {
			return v, killfeed.ErrNotFound
		}
		if id = d.feed.Mirrored(back); id == 0 {
			return v, killfeed.ErrNotFound
		}
	}
}

// showsNothing tells whether an error is of one event, and not of the log as a whole.
func showsNothing(err error) bool {
	_, damaged := errors.AsType[*killfeed.DamageError](err)
	return damaged || errors.Is(err, killfeed.ErrNotFound)
}

// newest returns the newest version of the killmail that an event brought. It has no mail when a file cannot show the killmail.
func (d *dialect) newest(id killfeed.EventID) (v version, err error) {
	first, err := d.feed.Event(id)
	if err != nil || first.KillmailID == 0 {
		return v, err
	}
	last, err := d.feed.Killmail(first.KillmailID)
	if err != nil && showsNothing(err) {
		last, err = first, nil
	}
	if err != nil {
		return v, err
	}
	v.event, v.written = last.ID, last.ReceivedAt.Unix()
	if last.ID != first.ID && v.written == first.ReceivedAt.Unix() {
		v.written++ // readers tell by it that the file is another one
	}
	if v.mail = d.shelf.Open(&last); v.mail.Hash == "" {
		v.mail = nil
	}
	return v, nil
}

// append appends the file. Its members have R2Z2's order.
func (v *version) append(b []byte, n, announced uint64) []byte {
	m := v.mail
	b = slices.Grow(b, len(m.ESI)+len(m.ZKB)+250)
	b = strconv.AppendInt(append(b, `{"killmail_id":`...), m.ID, 10)
	b = append(append(b, `,"hash":"`...), m.Hash...)
	b = append(append(b, `","esi":`...), m.ESI...)
	b = append(append(b, `,"zkb":`...), m.ZKB...)
	b = strconv.AppendInt(append(b, `,"uploaded_at":`...), v.written, 10)
	b = strconv.AppendUint(append(b, `,"sequence_id":`...), n, 10)
	if announced > 0 {
		b = strconv.AppendUint(append(b, `,"sequence_updated":`...), announced, 10)
	}
	return append(b, '}')
}
