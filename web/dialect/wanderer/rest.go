package wanderer

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"killfeed"
)

const (
	defaultLimit = 50
	maxLimit     = 1000
	// maxSince bounds how far is looked back, in hours.
	maxSince = 90 * 24
	// maxAsked bounds the systems of one request.
	maxAsked = 1000
	// maxAnswer bounds what the killmails of one answer take, in bytes.
	maxAnswer = killfeed.MaxAnswerBytes
)

// pathSystem is the solar system that the path names.
func pathSystem(r *http.Request) (uint32, error) {
	text := r.PathValue("id")
	id, ok := killfeed.ParseID(text)
	if !ok || id > maxSystemID {
		return 0, invalid(codeSystem, "Invalid system ID format", "system_id", text, "an integer from 1 to 50000000")
	}
	return id, nil
}

// number reads an integer of a query or a body; the default when it is not there.
func number(param, text string, standard, most int) (int, error) {
	if text == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, invalid(codeParameters, "Invalid parameters", param, text, "an integer from 1 to "+strconv.Itoa(most))
	}
	return n, nil
}

// recent is what a request asks for of each system.
type recent struct {
	since time.Duration
	limit int
}

// past describes it for a system.
func (q recent) past(system uint32) killfeed.Past {
	return killfeed.Past{Topics: []killfeed.Topic{killfeed.System(system)}, Limit: q.limit, Since: time.Now().Add(-q.since)}
}

func readRecent(get func(name string) string) (q recent, err error) {
	hours, err := number("since_hours", get("since_hours"), int(window/time.Hour), maxSince)
	if err != nil {
		return q, err
	}
	q.since = time.Duration(hours) * time.Hour
	q.limit, err = number("limit", get("limit"), defaultLimit, maxLimit)
	return q, err
}

// query is the parameters of a request; one that cannot be read has those before it.
func query(r *http.Request) url.Values {
	v, _ := url.ParseQuery(r.URL.RawQuery)
	return v
}

// ofSystem appends the newest killmails of a system as an array. What does not fit into so many bytes is left out, and full is
// returned.
func (d *dialect) ofSystem(ctx context.Context, b []byte, q recent, system uint32, room int) (_ []byte, full bool, err error) {
	kills, next, err := d.newest(ctx, q.past(system))
	if err != nil {
		return b, false, err
	}
	full = next > 0 && len(kills) < q.limit
	size := 0
	for i, k := range kills {
		if size += len(k.text); size > room {
			return appendKills(b, kills[:i]), true, nil
		}
	}
	return appendKills(b, kills), full, nil
}

// killsOfSystem answers with the newest killmails of a system.
func (d *dialect) killsOfSystem(w http.ResponseWriter, r *http.Request) { d.answerSystem(w, r, false) }

// cachedKills is the same: here everything is in the log.
func (d *dialect) cachedKills(w http.ResponseWriter, r *http.Request) { d.answerSystem(w, r, true) }

func (d *dialect) answerSystem(w http.ResponseWriter, r *http.Request, cached bool) {
	system, err := pathSystem(r)
	if err != nil {
		d.fail(w, err)
		return
	}
	q, err := readRecent(query(r).Get)
	if err != nil {
		d.fail(w, err)
		return
	}
	b, full, err := d.ofSystem(r.Context(), append(begin(), `{"kills":`...), q, system, maxAnswer)
	if err != nil {
		d.fail(w, err)
		return
	}
	b = appendNow(append(b, `,"timestamp":`...))
	b = strconv.AppendBool(append(b, `,"cached":`...), cached)
	send(w, http.StatusOK, end(append(appendTruncated(b, full), '}')))
}

// appendTruncated tells that there is more than an answer has room for.
func appendTruncated(b []byte, full bool) []byte {
	if full {
		b = append(b, `,"truncated":true`...)
	}
	return b
}

// killsOfSystems answers with the newest killmails of each of some systems.
func (d *dialect) killsOfSystems(w http.ResponseWriter, r *http.Request) {
	b, err := d.bulk(w, r)
	if err != nil {
		d.fail(w, err)
		return
	}
	send(w, http.StatusOK, b)
}

func (d *dialect) bulk(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	m, err := body(w, r)
	if err != nil {
		return nil, err
	}
	systems, err := askedSystems(m["system_ids"])
	if err != nil {
		return nil, err
	}
	q, err := readRecent(func(name string) string {
		if isNull(m[name]) {
			return ""
		}
		return strings.Trim(string(m[name]), `"`)
	})
	if err != nil {
		return nil, err
	}
	found, err := d.counts.among(r.Context(), systems, time.Now().Add(-q.since))
	if err != nil {
		return nil, err
	}
	b := append(begin(), `{"systems_kills":{`...)
	begun, truncated := len(b), false
	for i, id := range systems {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendUint(append(b, '"'), uint64(id), 10), `":`...)
		if found[id] == 0 {
			b = append(b, "[]"...)
			continue
		}
		var full bool
		if b, full, err = d.ofSystem(r.Context(), b, q, id, maxAnswer-(len(b)-begun)); err != nil {
			return nil, err
		}
		truncated = truncated || full
	}
	b = appendNow(append(b, `},"timestamp":`...))
	return end(append(appendTruncated(b, truncated), '}')), nil
}

// askedSystems reads system_ids: an array of integers with something in it.
func askedSystems(value json.RawMessage) ([]uint32, error) {
	given, err := parseIDs(value, "system", maxAsked, maxSystemID)
	if err != nil || len(given) == 0 {
		return nil, invalid(codeSystems, "Invalid system IDs", "system_ids", string(value), "1 to 1000 integers from 1 to 50000000")
	}
	systems := make([]uint32, len(given))
	for i, id := range given {
		systems[i] = uint32(id)
	}
	return systems, nil
}

// killCount answers with how many killmails a system had in the last 24 hours.
func (d *dialect) killCount(w http.ResponseWriter, r *http.Request) {
	system, err := pathSystem(r)
	if err != nil {
		d.fail(w, err)
		return
	}
	n, err := d.counts.of(r.Context(), system, 0)
	if err != nil {
		d.fail(w, err)
		return
	}
	b := strconv.AppendUint(append(begin(), `{"system_id":`...), uint64(system), 10)
	b = strconv.AppendInt(append(b, `,"count":`...), int64(n), 10)
	send(w, http.StatusOK, end(append(appendNow(append(b, `,"timestamp":`...)), '}')))
}

// killmail answers with one killmail, in its newest version.
func (d *dialect) killmail(w http.ResponseWriter, r *http.Request) {
	text := r.PathValue("id")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id < 1 {
		d.fail(w, invalid(codeKillmail, "Invalid killmail ID format", "killmail_id", text, "an integer from 1 on"))
		return
	}
	e, err := d.feed.Killmail(id)
	if err != nil {
		d.fail(w, err)
		return
	}
	send(w, http.StatusOK, end(append(begin(), d.kill(&e).text...)))
}

// Webhooks are not served: deliveries that are tried again and signed are the server's own. What asks for them is answered that there
// are none.

func (d *dialect) listWebhooks(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, []byte(`{"data":{"subscriptions":[],"count":0}}`))
}

func (d *dialect) webhookStats(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, []byte(`{"data":{"total_subscriptions":0,"active_subscriptions":0}}`))
}

func (d *dialect) addWebhook(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusNotImplemented, []byte(`{"error":{"message":"this server delivers no webhooks: join the channel killmails:lobby `+
		`at /socket/websocket, or read /api/v1/kills/stream","details":null}}`))
}

func (d *dialect) removeWebhook(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusNotFound, []byte(`{"error":{"message":"there is no such subscription: this server delivers no webhooks","details":null}}`))
}
