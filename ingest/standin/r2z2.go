package standin

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// What R2Z2's files say of caching. That of history is upstream's; the others are chosen here.
const (
	pointerCaching = "public, max-age=5"
	fileCaching    = "public, max-age=86400"
	historyCaching = "public, max-age=31536000"
)

func etag(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// pointerFile is sequence.json as it was at a moment.
func (s *Server) pointerFile(at time.Time) answer {
	s.feed.lock()
	sequence := s.feed.pointer(at)
	s.feed.mu.Unlock()
	body := append(strconv.AppendInt([]byte(`{"sequence":`), sequence, 10), '}')
	return stored(body, pointerCaching, time.Time{})
}

// killmailFile is the file of a number as it was at a moment, written by a clock that is wrong by skew.
func (s *Server) killmailFile(number int64, at time.Time, skew time.Duration) answer {
	s.feed.lock()
	slot, up := s.feed.file(number, at)
	s.feed.mu.Unlock()
	if slot == nil {
		return notFound()
	}
	return stored(slot.appendFile(nil, number, up, skew), fileCaching, up.at.Add(skew))
}

// wrongFile is what WrongSequence gives for a number that is there: the file of the one before or after, or, when neither is
// there, its own with another number in it.
func (s *Server) wrongFile(number int64, at time.Time, skew time.Duration) answer {
	for _, other := range [...]int64{number - 1, number + 1} {
		if a := s.killmailFile(other, at, skew); a.status == http.StatusOK {
			return a
		}
	}
	s.feed.lock()
	slot, up := s.feed.file(number, at)
	s.feed.mu.Unlock()
	return stored(slot.appendFile(nil, number+1, up, skew), fileCaching, up.at.Add(skew))
}

// appendFile appends a file of R2Z2. Its members have zKillboard's order.
func (s *slot) appendFile(dst []byte, number int64, up upload, skew time.Duration) []byte {
	m := s.mail
	zkb := m.ZKB
	if len(up.labels) > 0 {
		zkb = relabelled(zkb, up.labels)
	}
	dst = slices.Grow(dst, len(m.ESI)+len(zkb)+250)
	dst = strconv.AppendInt(append(dst, `{"killmail_id":`...), m.ID, 10)
	dst = append(append(dst, `,"hash":"`...), m.Hash...)
	dst = append(append(dst, `","esi":`...), m.ESI...)
	dst = append(append(dst, `,"zkb":`...), zkb...)
	dst = strconv.AppendInt(append(dst, `,"uploaded_at":`...), up.at.Add(skew).Unix(), 10)
	dst = strconv.AppendInt(append(dst, `,"sequence_id":`...), number, 10)
	if s.announces != 0 {
		dst = strconv.AppendInt(append(dst, `,"sequence_updated":`...), s.announces, 10)
	}
	return append(dst, '}')
}

// dayOf is a day as history names it.
func dayOf(t time.Time) string { return t.UTC().Format("20060102") }

// history is what the history files know of at a moment: the killmails of each day by id. First and last are the days that it
// spans; days between them have files even without killmails.
func (s *Server) history(at time.Time) (days map[string][]*Mail, first, last string) {
	const lateness = 6 * time.Hour // a day is over so long after its end
	until := dayOf(at.Add(-lateness))
	switch s.config.History {
	case HistoryToday:
		until = dayOf(at.AddDate(0, 0, 1))
	case HistoryDaily:
		at = at.Add(-lateness).Truncate(24 * time.Hour).Add(lateness)
		until = dayOf(at)
	}
	s.feed.lock()
	slots := s.feed.slots[:s.feed.count(at)]
	s.feed.mu.Unlock() // published slots stay what they are, but for their uploads

	days = map[string][]*Mail{}
	seen := make(map[int64]struct{}, len(slots))
	for _, slot := range slots {
		day := dayOf(slot.mail.Time)
		if _, again := seen[slot.mail.ID]; !again && day < until {
			seen[slot.mail.ID] = struct{}{}
			days[day] = append(days[day], slot.mail)
		}
	}
	for day, mails := range days {
		slices.SortFunc(mails, func(a, b *Mail) int { return cmp.Compare(a.ID, b.ID) })
		if first == "" || day < first {
			first = day
		}
		last = max(last, day)
	}
	return days, first, last
}

// dayFile is a file of history as it was at a moment: hashes, or raw with ESI bodies.
func (s *Server) dayFile(day time.Time, raw bool, at time.Time) answer {
	name := dayOf(day)
	days, first, last := s.history(at)
	if first == "" || name < first || name > last {
		return notFound()
	}
	mails := days[name]
	if len(mails) == 0 {
		return stored([]byte("[]"), historyCaching, time.Time{}) // PHP's empty array
	}
	size := 0
	for _, m := range mails {
		size += 70
		if raw {
			size += len(m.ESI)
		}
	}
	body := make([]byte, 0, size)
	for i, m := range mails {
		body = append(body, "{,"[min(i, 1)], '"')
		body = append(strconv.AppendInt(body, m.ID, 10), '"', ':')
		if raw {
			body = append(body, m.ESI...)
		} else {
			body = append(append(append(body, '"'), m.Hash...), '"')
		}
	}
	return stored(append(body, '}'), historyCaching, time.Time{})
}

// totalsFile is history's totals.json as it was at a moment. Days without killmails are not in it.
func (s *Server) totalsFile(at time.Time) answer {
	days, _, _ := s.history(at)
	if len(days) == 0 {
		return stored([]byte("[]"), historyCaching, time.Time{})
	}
	var body []byte
	for i, day := range slices.Sorted(maps.Keys(days)) {
		body = append(body, "{,"[min(i, 1)], '"')
		body = append(append(body, day...), '"', ':')
		body = strconv.AppendInt(body, int64(len(days[day])), 10)
	}
	return stored(append(body, '}'), historyCaching, time.Time{})
}
