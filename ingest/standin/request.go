package standin

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is a kind of request.
type Kind string

const (
	KindPointer Kind = "pointer" // R2Z2's sequence.json
	KindFile    Kind = "file"    // R2Z2's files of one killmail
	KindHistory Kind = "history" // days, with hashes and raw
	KindTotals  Kind = "totals"
	KindESI     Kind = "esi"     // ESI's killmails
	KindNames   Kind = "names"   // ESI's names by id
	KindDetails Kind = "details" // ESI's corporations, alliances, solar systems and constellations
	KindListen  Kind = "listen"  // RedisQ's listen.php
	KindObject  Kind = "object"  // RedisQ's object.php
	KindSocket  Kind = "socket"  // opening a websocket
	KindArchive Kind = "archive" // everything of EVE Ref
	KindStatic  Kind = "static"  // CCP's static data
	KindOther   Kind = "other"   // what is no path of theirs
)

func allKinds() []Kind {
	return []Kind{KindPointer, KindFile, KindHistory, KindTotals, KindESI, KindNames, KindDetails, KindListen,
		KindObject, KindSocket, KindArchive,
		KindStatic, KindOther}
}

// Service is one of the services that the stand-in stands in for, each a host of its own in the world.
type Service string

const (
	ServiceR2Z2    Service = "r2z2"
	ServiceESI     Service = "esi"
	ServiceRedisQ  Service = "redisq"
	ServiceSocket  Service = "websocket"
	ServiceEVERef  Service = "everef"
	ServiceStatic  Service = "static_data"
	ServiceUnknown Service = "unknown"
)

// Service is the service that has requests of this kind.
func (k Kind) Service() Service {
	switch k {
	case KindPointer, KindFile, KindHistory, KindTotals:
		return ServiceR2Z2
	case KindESI, KindNames, KindDetails:
		return ServiceESI
	case KindListen, KindObject:
		return ServiceRedisQ
	case KindSocket:
		return ServiceSocket
	case KindArchive:
		return ServiceEVERef
	case KindStatic:
		return ServiceStatic
	}
	return ServiceUnknown
}

// request is what is asked for.
type request struct {
	*http.Request
	kind   Kind
	number int64     // of KindFile
	asked  []byte    // of KindNames: the body, or as much of it as is looked at
	day    time.Time // of KindHistory
	raw    bool      // of KindHistory
	// parts are what follows in the path: id and hash of KindESI, what is asked about and its id of KindDetails, the path below /killmails/ of KindArchive, and that below
	// /static-data/ of KindStatic.
	parts []string
	// now is when it came, answered whether its answer has been counted: the recorder's.
	now      time.Time
	answered bool
}

// read finds out what is asked for.
func read(r *http.Request) *request {
	q := &request{Request: r, kind: KindOther}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	is := func(pattern ...string) bool {
		if len(parts) != len(pattern) {
			return false
		}
		for i, want := range pattern {
			if want != "*" && want != parts[i] {
				return false
			}
		}
		return true
	}
	switch {
	case is("ephemeral", "sequence.json"):
		q.kind = KindPointer
	case is("ephemeral", "*"):
		if name, ok := strings.CutSuffix(parts[1], ".json"); ok {
			if n, err := strconv.ParseInt(name, 10, 64); err == nil && n > 0 {
				q.kind, q.number = KindFile, n
			}
		}
	case is("history", "totals.json"):
		q.kind = KindTotals
	case is("history", "*"), is("history", "raw", "*"):
		if name, ok := strings.CutSuffix(parts[len(parts)-1], ".json"); ok {
			if day, err := time.Parse("20060102", name); err == nil {
				q.kind, q.day, q.raw = KindHistory, day, len(parts) == 3
			}
		}
	case is("listen.php"):
		q.kind = KindListen
	case is("object.php"):
		q.kind = KindObject
	case is("websocket"), is("websocket", ""):
		q.kind = KindSocket
	case is("static-data", "*"), is("static-data", "*", "*"):
		q.kind, q.parts = KindStatic, parts[1:]
	default:
		q.killmails(parts)
	}
	return q
}

// killmails tells ESI's and EVE Ref's paths apart.
func (q *request) killmails(parts []string) {
	if parts[0] == "latest" || parts[0] == "v1" {
		parts = parts[1:]
		q.kind = KindESI // or nothing
	}
	if q.universe(parts) {
		return
	}
	if len(parts) < 2 || parts[0] != "killmails" {
		q.kind = KindOther
		return
	}
	parts = parts[1:]
	switch {
	case q.kind != KindESI && (parts[0] == "totals.json" || len(parts) == 2 &&
		(parts[1] == "" || strings.HasPrefix(parts[1], "killmails-"))):
		q.kind, q.parts = KindArchive, parts
	case len(parts) == 2, len(parts) == 3 && parts[2] == "":
		q.kind, q.parts = KindESI, parts[:2]
	default:
		q.kind = KindOther
	}
}

// agent is how the caller names itself. ESI lets browsers do so by other ways.
func (q *request) agent() string {
	agent := q.UserAgent()
	if q.kind.Service() == ServiceESI {
		agent = strings.TrimSpace(agent + q.Header.Get("X-User-Agent") + q.URL.Query().Get("user_agent"))
	}
	return strings.TrimSpace(agent)
}

// hasContact tells whether a name has a mail address or a URL in it.
func hasContact(agent string) bool {
	return strings.Contains(agent, "@") || strings.Contains(agent, "://")
}

// answer is what is sent back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func newAnswer(status int, contentType string, body []byte) answer {
	a := answer{status: status, header: http.Header{}, body: body}
	if contentType != "" {
		a.header.Set("Content-Type", contentType)
	}
	return a
}

// stored is a file of a CDN.
func stored(body []byte, cacheControl string, modified time.Time) answer {
	a := newAnswer(http.StatusOK, "application/json", body)
	a.header.Set("Cache-Control", cacheControl)
	a.header.Set("Etag", etag(body))
	if !modified.IsZero() {
		a.header.Set("Last-Modified", modified.UTC().Format(http.TimeFormat))
	}
	return a
}

func notFound() answer {
	const page = "<!DOCTYPE html>\n<html><head><title>404</title></head><body><h1>Object not found</h1></body></html>\n"
	return newAnswer(http.StatusNotFound, "text/html; charset=utf-8", []byte(page))
}

// conditional makes a 304 of an answer that the caller has already.
func (q *request) conditional(a answer) answer {
	tag := a.header.Get("Etag")
	if a.status != http.StatusOK || tag == "" {
		return a
	}
	for known := range strings.SplitSeq(q.Header.Get("If-None-Match"), ",") {
		if known = strings.TrimPrefix(strings.TrimSpace(known), "W/"); known == tag || known == "*" {
			a.status, a.body = http.StatusNotModified, nil
			a.header.Del("Content-Type")
			break
		}
	}
	return a
}

// takesGzip tells whether the caller accepts a body packed with gzip.
func (q *request) takesGzip() bool {
	codings := strings.Split(q.Header.Get("Accept-Encoding"), ",")
	return slices.ContainsFunc(codings, func(coding string) bool {
		name, weight, _ := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";")
		return name == "gzip" && strings.Trim(strings.TrimPrefix(weight, "q="), "0.") != "" || name == "gzip" && weight == ""
	})
}
