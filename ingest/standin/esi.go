package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// statusErrorLimited is ESI's status for callers who made too many errors.
const statusErrorLimited = 420

// ESIStats is the accounting of ESI's limits.
type ESIStats struct {
	// Spent counts tokens, MostUsed is the greatest number of them that were out of the bucket at one time.
	Spent    int64 `json:"tokens_spent"`
	MostUsed int   `json:"most_tokens_used"`
	// Overspent counts tokens that were asked for and not there: what an answer costs beyond the bucket, and what a request
	// with the bucket empty would have cost.
	Overspent int64 `json:"tokens_overspent"`
	// Refused counts requests that were answered 429 or 420 because of the limit; those of the fault TooMany are not in it.
	Refused int64 `json:"refused"`
	// Errors counts answers that the limit of errors counts.
	Errors int64 `json:"errors"`
	// NamesAsked counts ids whose names were asked for, NamesTold those that were answered, and NamesAgain those of them that had
	// been answered before.
	NamesAsked int64 `json:"names_asked"`
	NamesTold  int64 `json:"names_told"`
	NamesAgain int64 `json:"names_told_again"`
	// NoCompatibilityDate counts requests without X-Compatibility-Date, which get the oldest version.
	NoCompatibilityDate int64 `json:"no_compatibility_date"`
}

// esiLimiter keeps ESI's accounts. All callers have one bucket for each kind of request.
type esiLimiter struct {
	config ESIConfig

	mu      sync.Mutex // guards the rest
	buckets map[Kind]*bucket
	told    map[uint32]bool // ids whose names were answered
	// minute is the one in which errors were made.
	minute time.Time
	errors int
	stats  ESIStats
}

func newESILimiter(c ESIConfig) *esiLimiter {
	return &esiLimiter{config: c, buckets: map[Kind]*bucket{}, told: map[uint32]bool{}}
}

type bucket struct {
	spent []expense // in the last window, in order
	used  int       // their sum
}

type expense struct {
	at     time.Time
	tokens int
}

// tokens is what an answer costs.
func tokens(status int) int {
	switch {
	case status == http.StatusTooManyRequests || status >= 500:
		return 0
	case status >= 400:
		return 5
	case status >= 300:
		return 1
	}
	return 2
}

// settle accounts for an answer: it adds the headers and, where the limit is reached, makes it a refusal.
func (l *esiLimiter) settle(now time.Time, kind Kind, a answer) answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.config.Limit {
	case LimitTokens:
		return l.settleTokens(now, kind, a)
	case LimitErrors:
		return l.settleErrors(now, a)
	}
	return a
}

func (l *esiLimiter) settleTokens(now time.Time, kind Kind, a answer) answer {
	b := of(l.buckets, kind)
	for len(b.spent) > 0 && now.Sub(b.spent[0].at) >= l.config.Window {
		b.used -= b.spent[0].tokens
		b.spent = b.spent[1:]
	}
	cost, remaining := tokens(a.status), l.config.Tokens-b.used
	if remaining <= 0 {
		l.stats.Overspent += int64(cost)
		l.stats.Refused++
		back := b.spent[0].at.Add(l.config.Window).Sub(now)
		a, cost = esiError(http.StatusTooManyRequests, "Too many requests"), 0
		a.header.Set("Retry-After", seconds(back))
	} else if cost > 0 {
		l.stats.Overspent += int64(max(0, cost-remaining))
		l.stats.Spent += int64(cost)
		b.spent = append(b.spent, expense{now, cost})
		b.used += cost
		l.stats.MostUsed = max(l.stats.MostUsed, b.used)
	}
	group := string(kind)
	if kind == KindESI {
		group = "killmail"
	}
	a.header.Set("X-Ratelimit-Group", group)
	a.header.Set("X-Ratelimit-Limit", fmt.Sprintf("%d/%dm", l.config.Tokens, l.config.Window/time.Minute))
	a.header.Set("X-Ratelimit-Remaining", strconv.Itoa(max(0, l.config.Tokens-b.used)))
	a.header.Set("X-Ratelimit-Used", strconv.Itoa(cost))
	return a
}

func (l *esiLimiter) settleErrors(now time.Time, a answer) answer {
	if minute := now.Truncate(time.Minute); !minute.Equal(l.minute) {
		l.minute, l.errors = minute, 0
	}
	switch {
	case l.errors >= l.config.Errors:
		l.stats.Refused++
		a = esiError(statusErrorLimited, "This software has exceeded the error limit for ESI")
	case a.status >= 400:
		l.errors++
		l.stats.Errors++
	}
	a.header.Set("X-Esi-Error-Limit-Remain", strconv.Itoa(l.config.Errors-l.errors))
	a.header.Set("X-Esi-Error-Limit-Reset", seconds(l.minute.Add(time.Minute).Sub(now)))
	return a
}

// seconds is a duration in whole seconds, rounded up, and at least 1.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}

// begin counts a request that has come.
func (l *esiLimiter) begin(q *request) {
	if q.compatibilityDate() != "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.NoCompatibilityDate++
}

// compatibilityDate is the date that the caller wants ESI to be as it was; empty when it does not say.
func (q *request) compatibilityDate() string {
	if date := q.Header.Get("X-Compatibility-Date"); date != "" {
		return date
	}
	return q.URL.Query().Get("compatibility_date")
}

func (l *esiLimiter) read() ESIStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// reset forgets the counts, not what is spent.
func (l *esiLimiter) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats = ESIStats{}
	for _, b := range l.buckets {
		l.stats.MostUsed = max(l.stats.MostUsed, b.used)
	}
}

// asked counts names that were asked for and, unless one of them is not known, told.
func (l *esiLimiter) asked(ids []uint32, told bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.NamesAsked += int64(len(ids))
	if !told {
		return
	}
	l.stats.NamesTold += int64(len(ids))
	for _, id := range ids {
		if l.told[id] {
			l.stats.NamesAgain++
		}
		l.told[id] = true
	}
}

func esiError(status int, text string) answer {
	body, _ := json.Marshal(map[string]string{"error": text}) // never fails for a string
	a := newAnswer(status, "application/json", body)
	a.header.Set("Access-Control-Allow-Origin", "*")
	return a
}

// killmail is ESI's answer. It knows all killmails, those too that are not published yet.
func (s *Server) killmail(q *request) answer {
	date, bad := q.compatibility()
	if bad != "" {
		return esiError(http.StatusBadRequest, bad)
	}
	a := s.lookUp(q)
	a.header.Set("X-Compatibility-Date", date)
	return a
}

func (s *Server) lookUp(q *request) answer {
	id, err := strconv.ParseInt(q.parts[0], 10, 64)
	switch {
	case err != nil:
		return esiError(http.StatusBadRequest, "killmail_id is not an integer")
	case !isHash(q.parts[1]):
		return esiError(http.StatusUnprocessableEntity, "Invalid killmail_id and/or killmail_hash")
	}
	m := s.feed.byKillmail(id)
	switch {
	case m == nil:
		return esiError(http.StatusNotFound, "Killmail not found")
	case m.Hash != q.parts[1]:
		return esiError(http.StatusUnprocessableEntity, "Invalid killmail_id and/or killmail_hash")
	}
	a := stored(m.ESI, "public, max-age=2592000", m.Time)
	a.header.Set("Access-Control-Allow-Origin", "*")
	return a
}

// compatibility is the date of the version that is answered with, or what is wrong with the one asked for.
func (q *request) compatibility() (date, bad string) {
	const oldest = "2020-01-01"
	if date = q.compatibilityDate(); date == "" {
		return oldest, ""
	}
	if _, err := time.Parse(time.DateOnly, date); err != nil {
		return "", "X-Compatibility-Date is not a date as in 2026-01-31"
	}
	const newDay = 11 * time.Hour // UTC, when ESI's day begins
	if today := q.now.UTC().Add(-newDay).Format(time.DateOnly); date > today {
		return "", "X-Compatibility-Date is in the future: today is " + today
	}
	return max(date, oldest), ""
}
