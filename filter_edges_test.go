package killfeed_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/coder/websocket"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
)

var edgeFilters = flag.Int("filters", 8, "how many random filters TestFiltersOnEveryEdge asks of all real killmails")

// Random filters let through, of three thousand real killmails, the odd ones, what the naive evaluator lets through: by poll, by
// next, as server-sent events and over Channels.
func TestFiltersOnEveryEdge(t *testing.T) {
	var mails []*mailAndNaive
	f := start(t, pebbles{vfs.NewMem()}.open(t), killfeed.Options{Retention: killfeed.DefaultRetention()})
	u := storetest.Universe()
	f.SetUniverse(u)
	for line := range killfeed.RealLines(t, "killmails-small.jsonl.gz") {
		k, err := killfeed.ParseItem(line)
		if err != nil {
			t.Fatal(err)
		}
		res, err := f.InsertAll(t.Context(), []*killfeed.Killmail{k}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !res[0].Duplicate && !res[0].Update {
			mails = append(mails, prepare(t, k))
		}
	}
	// The last one of the log is let through by every filter, so that a stream has an end.
	const last = 1<<31 - 7
	if _, err := f.Insert(t.Context(), A, fmt.Appendf(nil, `{"killmail_id":%d,"solar_system_id":%d}`, last, A)); err != nil {
		t.Fatal(err)
	}
	api, err := web.New(f.Feed, web.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(api)
	defer server.Close()
	e := &edges{t, server, last}

	check := newFilterCheck()
	rnd := rand.New(rand.NewPCG(5, 6))
	c := chooser(rnd.IntN)
	d := storetest.UniverseData()
	matched := 0
	for i := range *edgeFilters {
		var p pool
		for range 5 {
			p.addMail(mails[c(len(mails))].naive)
		}
		n := p.found(c)
		if c(3) > 0 {
			n = p.filter(c, c(4))
		}
		filter := check.compile(t, n, c)
		text := "(" + filter.String() + "),killmail_id=" + fmt.Sprint(int64(last))
		var want []int64
		for _, m := range mails {
			if n.match(m.naive, &d) {
				want = append(want, m.event.KillmailID)
			}
		}
		want = append(want, last)
		matched += len(want) - 1
		for name, read := range map[string]func(text string, most int) []int64{
			"poll": e.poll, "next": e.next(fmt.Sprint("filter-", i)), "sse": e.sse, "channels": e.channels,
		} {
			if got := read(text, len(want)+1); !slices.Equal(got, want[:min(len(got), len(want))]) || len(got) < min(len(want), 100) {
				t.Fatalf("%s of %s:\ngot  %d: %v\nwant %d: %v", name, text, len(got), got, len(want), want)
			}
		}
	}
	t.Logf("%d filters of %d killmails each, %d matches, each the same on poll, next, SSE and Channels", *edgeFilters, len(mails), matched)
	if matched == 0 {
		t.Error("no filter matched anything")
	}
}

// edges are the ways to read over HTTP.
type edges struct {
	*testing.T
	server *httptest.Server
	last   int64
}

func (e *edges) get(path string) *http.Response {
	e.Helper()
	req, err := http.NewRequestWithContext(e.Context(), http.MethodGet, e.server.URL+path, nil)
	if err != nil {
		e.Fatal(err)
	}
	res, err := e.server.Client().Do(req)
	if err != nil {
		e.Fatal(err)
	}
	return res
}

type edgeEvent struct {
	Killmail struct {
		ID int64 `json:"killmail_id"`
	}
}

func (e *edges) poll(text string, most int) (ids []int64) {
	for after := "0"; ; {
		res := e.get("/api/killfeed?topics=all&limit=1000&fields=killmail_id&after=" + after + "&filter=" + url.QueryEscape(text))
		var page struct {
			Events []edgeEvent
			More   bool
			Next   string
		}
		err := json.NewDecoder(res.Body).Decode(&page)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			e.Fatalf("%s: %s, %v", text, res.Status, err)
		}
		for _, ev := range page.Events {
			ids = append(ids, ev.Killmail.ID)
		}
		if after = page.Next; !page.More || len(ids) > most {
			return ids
		}
	}
}

// next reads one event at a time, not more than a hundred.
func (e *edges) next(client string) func(text string, most int) []int64 {
	return func(text string, most int) (ids []int64) {
		for len(ids) < min(most, 100) {
			res := e.get("/api/killfeed/next?topics=all&fields=killmail_id&client_id=" + client + "&filter=" + url.QueryEscape(text))
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			var ev edgeEvent
			switch {
			case err == nil && res.StatusCode == http.StatusNoContent && res.Header.Get("Killfeed-More") == "":
				return ids
			case err == nil && res.StatusCode == http.StatusNoContent:
				continue
			case err != nil || res.StatusCode != http.StatusOK || json.Unmarshal(body, &ev) != nil:
				e.Fatalf("%s: %s, %v: %s", text, res.Status, err, body)
			}
			ids = append(ids, ev.Killmail.ID)
		}
		return ids
	}
}

func (e *edges) sse(text string, most int) (ids []int64) {
	res := e.get("/api/killfeed/stream?topics=all&start=earliest&fields=killmail_id&filter=" + url.QueryEscape(text))
	defer res.Body.Close()
	lines, event := bufio.NewScanner(res.Body), ""
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || event != "new_killmail" {
			continue
		}
		var ev edgeEvent
		if err := json.Unmarshal([]byte(data), &ev); err != nil {
			e.Fatal(err)
		}
		if ids = append(ids, ev.Killmail.ID); ev.Killmail.ID == e.last || len(ids) > most {
			return ids
		}
	}
	e.Fatalf("%s: the stream ended: %v", text, lines.Err())
	return nil
}

func (e *edges) channels(text string, most int) (ids []int64) {
	conn, _, err := websocket.Dial(e.Context(), e.server.URL+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		e.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	join, err := json.Marshal([]any{"1", "1", "all", "phx_join", map[string]string{"start": "earliest", "fields": "killmail_id", "filter": text}})
	if err == nil {
		err = conn.Write(context.Background(), websocket.MessageText, join)
	}
	for err == nil {
		var frame []byte
		if _, frame, err = conn.Read(e.Context()); err != nil {
			break
		}
		var parts []json.RawMessage
		if err = json.Unmarshal(frame, &parts); err != nil {
			break
		}
		if string(parts[3]) != `"new_killmail"` {
			if !strings.Contains(string(parts[4]), `"status":"ok"`) {
				e.Fatalf("%s: %s", text, frame)
			}
			continue
		}
		var ev edgeEvent
		if err = json.Unmarshal(parts[4], &ev); err != nil {
			break
		}
		if ids = append(ids, ev.Killmail.ID); ev.Killmail.ID == e.last || len(ids) > most {
			return ids
		}
	}
	e.Fatalf("%s: %v", text, err)
	return nil
}
