package redisq

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"killfeed"
)

const (
	// maxTTW is the longest that a request waits, and how long it waits when it does not say.
	maxTTW = 10
	// maxLimit is the most killmails in one answer.
	maxLimit = 100
	// prefix is that of the queues' clients.
	prefix = "redisq:"
)

// call is a request to listen.
type call struct {
	// client is the queue's, empty when the request names none.
	client   string
	ttw, ttl time.Duration
	filter   *killfeed.Filter
	// esi: the answer is a redirect to ESI; redirect: it is one to object.php, as it was once.
	esi, redirect bool
	// bare leaves the killmail itself out.
	bare     bool
	backfill bool
	// limit is 0 when it is not given.
	limit int
	// manual: nothing is committed but by acked, which is set when the call says what it has.
	manual bool
	acked  *killfeed.Cursor
}

// parse reads a request. Numbers out of range are brought into it, as there; what cannot be understood at all is an
// *killfeed.InvalidError.
func (d *Dialect) parse(r *http.Request) (c call, err error) {
	var filter string
	seconds := func(value string, most int) time.Duration {
		n, err := strconv.Atoi(leadingInt(value))
		if err != nil {
			n = most
		}
		return time.Duration(min(max(n, 1), most)) * time.Second
	}
	mostTTL := int(d.maxTTL / time.Second)
	c.ttw, c.ttl = maxTTW*time.Second, d.maxTTL
	queue := ""
	err = eachPair(r.URL.RawQuery, func(name, value string) (err error) {
		switch name {
		case "queueID":
			queue = strings.TrimSpace(value)
		case "ttw":
			c.ttw = seconds(value, maxTTW)
		case "ttl":
			c.ttl = seconds(value, mostTTL)
		case "filter":
			filter = strings.TrimSpace(value)
		case "esi":
			c.esi = yes(value)
		case "redirect":
			c.redirect = yes(value)
		case "killmail":
			c.bare = no(value)
		case "backfill":
			c.backfill = yes(value)
		case "limit":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > maxLimit {
				return killfeed.Invalid("limit", value, "1 to "+strconv.Itoa(maxLimit))
			}
			c.limit = n
		case "ack":
			err = c.ack(value)
		}
		return err
	})
	switch {
	case err != nil:
		return c, err
	case (c.esi || c.redirect) && (c.manual || c.limit > 1):
		return c, killfeed.Invalid("limit and ack", "with esi or redirect", "them without esi and redirect: a redirect has room for one "+
			"killmail and nothing else")
	case queue != "":
		if err := d.api.CheckClient(r, queue); err != nil {
			return c, err
		}
		c.client = prefix + queue
	case d.byAddress:
		c.client = prefix + d.address(r)
	default:
		return c, nil
	}
	if err := killfeed.CheckClientName(c.client); err != nil {
		return c, killfeed.Invalid("queueID", queue, "at most "+strconv.Itoa(killfeed.MaxClientName-len(prefix))+" bytes of printable UTF-8")
	}
	if filter != "" {
		c.filter, err = killfeed.ParseFilter(filter, d.feed.Universe())
	}
	return c, err
}

// ack reads the parameter that makes a call manual: "manual", or the ack of the answer before.
func (c *call) ack(value string) error {
	c.manual = true
	if value == "manual" {
		return nil
	}
	at, err := killfeed.ParseCursor(value)
	if err != nil || at.Epoch == "" {
		return killfeed.Invalid("ack", value, "manual, or the ack that was beside the last package, as in 17-1a2b3c4d")
	}
	c.acked = &at
	return nil
}

// address is the name of the queue of who names none: his address and his program. It is a digest, so that lists of clients show
// nobody's address.
func (d *Dialect) address(r *http.Request) string {
	sum := sha256.Sum256([]byte(d.api.Address(r).String() + "\n" + r.UserAgent()))
	return "by-address-" + hex.EncodeToString(sum[:8])
}

// leadingInt is the number that text begins with: "10abc" is 10 for a service written in JavaScript.
func leadingInt(text string) string {
	text = strings.TrimSpace(text)
	for i := range len(text) {
		if c := text[i]; (c < '0' || c > '9') && (i > 0 || c != '-' && c != '+') {
			return text[:i]
		}
	}
	return text
}

func yes(value string) bool { return value != "" && !no(value) }

func no(value string) bool {
	switch strings.ToLower(value) {
	case "0", "n", "no", "false", "off":
		return true
	}
	return false
}

// names are those of the parameters that there are. Others are ignored, whatever they say.
var names = []string{
	"queueID", "ttw", "ttl", "filter", "esi", "redirect", "killmail", "backfill", "limit", "ack", "objectID",
}

// eachPair calls f with every name=value pair of a query. url.ParseQuery is not used, because it drops a pair with a semicolon
// in it, and half of all filters have one. The error is f's, or says which value cannot be read.
func eachPair(raw string, f func(name, value string) error) error {
	for part := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || !slices.Contains(names, name) {
			continue
		}
		text, err := url.QueryUnescape(value)
		if err != nil || !utf8.ValidString(text) {
			return killfeed.Invalid(name, strings.ToValidUTF8(value, "\uFFFD"), "text in UTF-8, percent-encoded, %25 standing for a % itself")
		}
		if err := f(name, text); err != nil {
			return err
		}
	}
	return nil
}
