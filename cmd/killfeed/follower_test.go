package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// network answers requests without sockets, so that time can be made up.
type network func(*http.Request) (*http.Response, error)

func (n network) RoundTrip(r *http.Request) (*http.Response, error) { return n(r) }

var errRefused = errors.New("connection refused")

// reply is an answer that is there at once.
func reply(status int, header, text string) *http.Response {
	res := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
	if name, value, ok := strings.Cut(header, ": "); ok {
		res.Header.Set(name, value)
	}
	return res
}

// stream is a stream on which f says what it wants. With nil it ends as streams do, with an error it breaks.
func stream(r *http.Request, f func(say func(format string, args ...any)) error) *http.Response {
	in, out := io.Pipe()
	stop := context.AfterFunc(r.Context(), func() { out.CloseWithError(r.Context().Err()) })
	go func() {
		err := f(func(format string, args ...any) { fmt.Fprintf(out, format, args...) })
		stop()
		out.CloseWithError(err) // nil is io.EOF
	}()
	res := reply(http.StatusOK, "Content-Type: application/x-ndjson", "")
	res.Body = in
	return res
}

const (
	opened    = `{"type":"open","head":%d,"epoch":"0000cafe","start":%d,"cursor":"%d-0000cafe"%s}` + "\n"
	heartbeat = `{"type":"heartbeat","cursor":"%d-0000cafe"}` + "\n"
	killed    = `{"type":"new_killmail","event_id":%d,"system_id":30000142,"received_at":"2026-11-23T12:00:00.000Z",` +
		`"killmail":{"killmail_id":5},"cursor":"%[1]d-0000cafe"}` + "\n"
)

// events is what is printed of them.
func events(ids ...int) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(strings.Replace(fmt.Sprintf(killed, id), `"type":"new_killmail",`, "", 1))
	}
	return b.String()
}

// following is a follower in a network.
type following struct {
	*follower
	out, errs bytes.Buffer
}

func followIn(n network, name string, limit int) *following {
	f := &following{}
	a := &app{stdout: &f.out, stderr: &f.errs}
	show, err := a.newPrinter(output{})
	if err != nil {
		panic(err)
	}
	query := url.Values{"topics": {"all"}, "start": {"latest"}}
	if name != "" {
		query.Set("client_id", name)
		query.Set("commit", "manual")
	}
	f.follower = &follower{
		app: a, show: show, query: query, client: name, topics: []string{"all"}, limit: limit,
		server: &client{base: &url.URL{Scheme: "http", Host: "feed.example"}, http: &http.Client{Transport: n}},
	}
	return f
}

// check compares the events that were printed, and what was told, which may have a pattern for a time in it.
func (f *following) check(t *testing.T, told string, ids ...int) {
	t.Helper()
	if diff := cmp.Diff(events(ids...), f.out.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
	if !regexp.MustCompile("^(?:" + told + ")$").MatchString(f.errs.String()) {
		t.Errorf("told:\n%s\nwant:\n%s", f.errs.String(), told)
	}
}

const (
	ended   = "disconnected: the server ended the stream; trying again\n"
	nothing = "back after [0-9.]+m?s, nothing missed\n"
)

// The waits double from 0.25 to 15 seconds, a server that asks for more gets it, and one outage is told once.
func TestTailBacksOff(t *testing.T) {
	type attempt struct {
		answer *http.Response // nil: none
		least  time.Duration  // the wait before it; with jitter it is up to a fifth more
	}
	attempts := []attempt{{nil, 250 * time.Millisecond}}
	for _, wait := range []float64{0.5, 1, 2, 4, 8, 15, 15} {
		attempts = append(attempts, attempt{reply(502, "", "<html>"), time.Duration(wait * float64(time.Second))})
	}
	attempts = append(attempts,
		attempt{reply(503, "Retry-After: 40", `{"detail":"the log is being opened"}`), 15 * time.Second},
		attempt{reply(429, "Retry-After: 2", `{"detail":"too many connections"}`), 40 * time.Second},
		attempt{nil, 2 * time.Second}, attempt{nil, 15 * time.Second})
	synctest.Test(t, func(t *testing.T) {
		var (
			last  time.Time
			asked []string
		)
		f := followIn(func(r *http.Request) (*http.Response, error) {
			i := len(asked) - 1
			asked = append(asked, r.URL.RawQuery)
			wait := time.Since(last)
			last = time.Now()
			switch {
			case i < 0:
				return stream(r, func(say func(string, ...any)) error {
					say(opened, 6, 7, 6, "")
					say(killed, 7)
					return nil
				}), nil
			case i == len(attempts):
				return stream(r, func(say func(string, ...any)) error {
					say(opened, 8, 8, 7, "")
					say(killed, 8)
					return nil
				}), nil
			}
			if a := attempts[i]; wait < a.least || wait > a.least+a.least/5 {
				t.Errorf("attempt %d came after %v, want %v to a fifth more", i+1, wait, a.least)
			}
			if a := attempts[i].answer; a != nil {
				return a, nil
			}
			return nil, errRefused
		}, "", 2)
		if err := f.run(t.Context()); err != nil {
			t.Error(err)
		}
		f.check(t, ended+`back after \d+m\d+s, nothing missed\n`, 7, 8)
		for i, query := range asked {
			want := "start=latest&topics=all"
			if i > 0 {
				want = "after=7-0000cafe&topics=all"
			}
			if query != want {
				t.Errorf("connection %d asks for %s, want %s", i+1, query, want)
			}
		}
	})
}

// A server whose streams begin and break is not asked four times a second. One that says something is.
func TestTailFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, n := time.Now(), 0
		f := followIn(func(r *http.Request) (*http.Response, error) {
			n++
			last := n == 10
			return stream(r, func(say func(string, ...any)) error {
				say(opened, 6, 7, 6, "")
				if n == 8 {
					say(heartbeat, 6)
				}
				if last {
					say(killed, 7)
				}
				return nil
			}), nil
		}, "", 1)
		if err := f.run(t.Context()); err != nil {
			t.Error(err)
		}
		f.check(t, strings.Repeat(ended+nothing, 9), 7)
		// 0.25, 0.5, 1, 2, 4, 8, 15 seconds, then the heartbeat, 0.25, 0.5
		if took := time.Since(began).Seconds(); took < 31.5 || took > 1.2*31.5 {
			t.Errorf("it took %v s, want 31.5 to a fifth more", took)
		}
	})
}

// A minute without a word ends a connection, also before its answer; heartbeats keep it.
func TestTailSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, n := time.Now(), 0
		f := followIn(func(r *http.Request) (*http.Response, error) {
			switch n++; n {
			case 1:
				return stream(r, func(say func(string, ...any)) error {
					say(opened, 6, 7, 6, "")
					for range 30 {
						time.Sleep(20 * time.Second)
						say(heartbeat, 9)
					}
					<-r.Context().Done()
					if silent := time.Since(began) - 30*20*time.Second; silent != maxSilence {
						t.Errorf("it ended after a silence of %v", silent)
					}
					return nil
				}), nil
			case 2:
				if got := r.URL.Query().Get("after"); got != "9-0000cafe" {
					t.Errorf("goes on after %s, want the place of the heartbeats", got)
				}
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return stream(r, func(say func(string, ...any)) error {
				say(opened, 9, 10, 9, "")
				say(killed, 10)
				return nil
			}), nil
		}, "", 1)
		if err := f.run(t.Context()); err != nil {
			t.Error(err)
		}
		f.check(t, "disconnected: nothing came for 1m0s; trying again\nback after 1m1s, nothing missed\n", 10)
	})
}

// slow is a standard output on which somebody thinks about each line.
type slow struct{ io.Writer }

func (s slow) Write(p []byte) (int, error) {
	time.Sleep(time.Hour)
	return s.Writer.Write(p)
}

// An output that is held up, as by a pager, is no silence of the server.
func TestTailHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := followIn(func(r *http.Request) (*http.Response, error) {
			return stream(r, func(say func(string, ...any)) error {
				say(opened, 6, 7, 6, "")
				say(killed, 7)
				say(killed, 8)
				return nil
			}), nil
		}, "", 2)
		f.show.out = slow{f.show.out}
		if err := f.run(t.Context()); err != nil {
			t.Error(err)
		}
		f.check(t, "", 7, 8)
	})
}

// What is removed while there is no connection is told, and so is a log that is another one.
func TestTailGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f := followIn(func(r *http.Request) (*http.Response, error) {
			// A damaged event is told before those that precede it: it is not where to go on.
			if after := []string{"", "4-0000cafe", "8-0000cafe"}[n]; r.URL.Query().Get("after") != after {
				t.Errorf("connection %d goes on after %q, want %q", n+1, r.URL.Query().Get("after"), after)
			}
			n++
			return stream(r, func(say func(string, ...any)) error {
				switch n {
				case 1:
					say(opened, 9, 5, 4, `,"gap":{"reason":"retention","from":1,"to":4}`)
					say(`{"type":"gap","reason":"damaged","from":5,"to":5,"cursor":"5-0000cafe"}` + "\n")
				case 2:
					say(opened, 9, 9, 8, `,"gap":{"reason":"retention","from":6,"to":8}`)
				default:
					say(opened, 1, 1, 0, `,"gap":{"reason":"epoch"}`)
					say(`{"type":"later","than":"this program"}` + "\n")
					say(killed, 1)
				}
				return nil
			}), nil
		}, "", 1)
		if err := f.run(t.Context()); err != nil {
			t.Error(err)
		}
		f.check(t, `gap: events 1 to 4 were removed before they were read \(retention\)\n`+
			`gap: events 5 to 5 are damaged on the server and cannot be read\n`+
			ended+`back after \d+ms, with a gap\n`+
			`gap: events 6 to 8 were removed before they were read \(retention\)\n`+
			ended+`back after \d+ms, with a gap\n`+
			`gap: the cursor is of another log; everything that this one keeps follows\n`, 1)
	})
}

// What ends tail, with which words and exit code.
func TestTailEnds(t *testing.T) {
	begin := func(r *http.Request, line string) (*http.Response, error) {
		return stream(r, func(say func(string, ...any)) error { say(opened, 6, 7, 6, ""); say("%s", line); return nil }), nil
	}
	for _, c := range []struct {
		name          string
		first, second func(r *http.Request) (*http.Response, error)
		text          string
		code          int
	}{
		{name: "nobody there", code: exitUnreachable, text: "the server cannot be reached",
			first: func(*http.Request) (*http.Response, error) { return nil, errRefused }},
		{name: "opening", code: exitUnreachable, text: "the log is being opened (503)",
			first: func(*http.Request) (*http.Response, error) {
				return reply(503, "Retry-After: 1", `{"detail":"the log is being opened"}`), nil
			}},
		{name: "too many", code: exitFailure, text: "too many connections (429)",
			first: func(*http.Request) (*http.Response, error) {
				return reply(429, "Retry-After: 1", `{"detail":"too many connections"}`), nil
			}},
		{name: "broken before it began", code: exitFailure, text: "the server ended the stream",
			first: func(r *http.Request) (*http.Response, error) {
				return stream(r, func(func(string, ...any)) error { return nil }), nil
			}},
		{name: "no killfeed", code: exitFailure, text: `answers with "text/html" instead of a stream`,
			first: func(*http.Request) (*http.Response, error) {
				return reply(200, "Content-Type: text/html; charset=utf-8", "<html>"), nil
			}},
		{name: "no JSON", code: exitFailure, text: "reading the stream of http://feed.example: invalid character",
			first: func(r *http.Request) (*http.Response, error) { return begin(r, "hello\n") }},
		{name: "no place", code: exitFailure, text: "does not say where it begins",
			first: func(r *http.Request) (*http.Response, error) {
				return stream(r, func(say func(string, ...any)) error { say(`{"type":"open"}` + "\n"); return nil }), nil
			}},
		{name: "an endless line", code: exitFailure, text: "a line is longer than 16777216 bytes",
			first: func(r *http.Request) (*http.Response, error) { return begin(r, strings.Repeat("x", maxLine+1)) }},
		{name: "refused later", code: exitFailure, text: "topics are not accepted (400)",
			first: func(r *http.Request) (*http.Response, error) { return begin(r, "") },
			second: func(*http.Request) (*http.Response, error) {
				return reply(400, "", `{"detail":"topics are not accepted"}`), nil
			}},
		{name: "gone later", code: exitFailure, text: "not found (404)",
			first:  func(r *http.Request) (*http.Response, error) { return begin(r, "") },
			second: func(*http.Request) (*http.Response, error) { return reply(404, "", ""), nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 0
				f := followIn(func(r *http.Request) (*http.Response, error) {
					switch n++; {
					case n == 1:
						return c.first(r)
					case n == 2 && c.second != nil:
						return c.second(r)
					}
					if n > 20 {
						t.Fatal("it goes on trying")
					}
					return nil, errRefused
				}, "", 0)
				err := f.run(t.Context())
				if err == nil || !strings.Contains(err.Error(), c.text) || exitCode(err) != c.code {
					t.Errorf("ended with %v, exit code %d, want %q and %d", err, exitCode(err), c.text, c.code)
				}
			})
		})
	}
}

// A newer connection with the same name ends this one, which then leaves the client alone.
func TestTailReplaced(t *testing.T) {
	for _, how := range []string{"told", "on return"} {
		synctest.Test(t, func(t *testing.T) {
			n, commits := 0, 0
			f := followIn(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPost {
					commits++
					return reply(200, "", `{}`), nil
				}
				if n++; n > 1 {
					return reply(http.StatusNoContent, "", ""), nil
				}
				return stream(r, func(say func(string, ...any)) error {
					say(opened, 6, 7, 6, "")
					say(killed, 7)
					if how == "told" {
						say(`{"type":"replaced"}` + "\n")
					}
					return nil
				}), nil
			}, "me", 0)
			err := f.run(t.Context())
			if !errors.Is(err, errReplaced) || exitCode(err) != exitFailure || !strings.Contains(err.Error(), `client "me"`) {
				t.Errorf("%s: ended with %v", how, err)
			}
			if want := n - 1; commits != want { // before the return; none at the end
				t.Errorf("%s: %d commits, want %d", how, commits, want)
			}
		})
	}
}

// Interrupted, tail has done its work, unless a number of events was asked for.
func TestTailInterrupted(t *testing.T) {
	for _, limit := range []int{0, 2} {
		for _, when := range []string{"connecting", "listening", "waiting"} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(10*time.Second, cancel)
				n := 0
				f := followIn(func(r *http.Request) (*http.Response, error) {
					switch n++; {
					case when == "connecting":
						<-r.Context().Done()
						return nil, r.Context().Err()
					case n == 2:
						return reply(503, "Retry-After: 3600", ""), nil
					}
					return stream(r, func(say func(string, ...any)) error {
						say(opened, 6, 7, 6, "")
						if when == "listening" {
							<-r.Context().Done()
						}
						return nil
					}), nil
				}, "", limit)
				err := f.run(ctx)
				if want := map[int]error{0: nil, 2: errInterrupted}[limit]; err != want {
					t.Errorf("%s, limit %d: ended with %v, want %v", when, limit, err, want)
				}
			})
		}
	}
}

// With a client what is printed is committed, within a second and at the end, and nothing else is.
func TestTailCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var commits []string
		f := followIn(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPost {
				body, _ := io.ReadAll(r.Body)
				commits = append(commits, fmt.Sprint(time.Since(began), " ", r.URL.Path, " ", string(body)))
				if len(commits) == 2 {
					return nil, errRefused // told to nobody: the next one does it
				}
				return reply(200, "", `{}`), nil
			}
			return stream(r, func(say func(string, ...any)) error {
				say(opened, 6, 7, 6, "")
				for id := 7; id < 12; id++ {
					say(killed, id)
					time.Sleep(600 * time.Millisecond)
				}
				time.Sleep(17 * time.Second)
				say(heartbeat, 20)
				time.Sleep(2500 * time.Millisecond)
				say(killed, 21)
				say(killed, 22)
				return nil
			}), nil
		}, "me", 6)
		if err := f.run(t.Context()); err != nil {
			t.Error(err)
		}
		f.check(t, "", 7, 8, 9, 10, 11, 21)
		var want []string
		for _, c := range []struct {
			at time.Duration
			id int
		}{
			{time.Second, 8}, {2200 * time.Millisecond, 10}, {3200 * time.Millisecond, 11},
			{21 * time.Second, 20}, {22500 * time.Millisecond, 21},
		} {
			want = append(want, fmt.Sprintf(`%v /api/killfeed/commit {"client_id":"me","topics":["all"],"event_id":"%d-0000cafe"}`, c.at, c.id))
		}
		if diff := cmp.Diff(want, commits); diff != "" {
			t.Errorf("commits (-want +got):\n%s", diff)
		}
	})
}

// A client returns by its offsets, once they are committed, and by its cursor when the log is another one.
func TestTailClientReturns(t *testing.T) {
	for _, another := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var asked []string
			commits, streams := 0, 0
			f := followIn(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPost {
					body, _ := io.ReadAll(r.Body)
					asked = append(asked, string(body[len(body)-len(`-0000cafe"}`)-1]))
					switch commits++; {
					case commits == 1:
						return nil, errRefused
					case commits == 2 && another:
						return reply(400, "", `{"detail":"a cursor of this log"}`), nil
					}
					return reply(200, "", `{}`), nil
				}
				asked = append(asked, r.URL.RawQuery)
				streams++
				return stream(r, func(say func(string, ...any)) error {
					say(opened, 6, 6+streams, 5+streams, "")
					say(killed, 6+streams)
					return nil
				}), nil
			}, "me", 2)
			f.query.Set("after", "6-0000cafe") // as --since does it, which wins at the first time only
			if err := f.run(t.Context()); err != nil {
				t.Error(err)
			}
			f.check(t, ended+nothing, 7, 8)
			again := "client_id=me&commit=manual&start=latest&topics=all"
			if another {
				again = "after=7-0000cafe&client_id=me&commit=manual&topics=all"
			}
			want := []string{"after=6-0000cafe&client_id=me&commit=manual&start=latest&topics=all", "7", "7", again, "8"}
			if diff := cmp.Diff(want, asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

// An interrupt comes with a commit; when that is impossible it is told.
func TestTailCommitsAtInterrupt(t *testing.T) {
	for _, down := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			var commits []string
			f := followIn(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPost {
					body, _ := io.ReadAll(r.Body)
					commits = append(commits, string(body))
					if down && ctx.Err() != nil {
						<-r.Context().Done() // it hangs
						return nil, r.Context().Err()
					}
					return reply(200, "", `{}`), nil
				}
				return stream(r, func(say func(string, ...any)) error {
					say(opened, 6, 7, 6, "")
					say(killed, 7)
					time.Sleep(time.Millisecond)
					cancel()
					return nil
				}), nil
			}, "me", 0)
			if err := f.run(ctx); err != nil {
				t.Error(err)
			}
			told := ""
			if down {
				told = "not committed, so the last events will come again: committing took longer than 10s\n"
			}
			f.check(t, told, 7)
			if len(commits) != 1 || !strings.Contains(commits[0], `"7-0000cafe"`) {
				t.Errorf("commits %q, want one of 7", commits)
			}
		})
	}
}

// Wherever connections break, in the middle of a line too, each event is printed once and in order.
func TestTailPrintsEachEventOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		total := rapid.IntRange(1, 20).Draw(rt, "events")
		quiet := rapid.SliceOfN(rapid.Bool(), total, total).Draw(rt, "heartbeat before")
		// Where each connection breaks, as a part of what it would say; the others end where they should.
		cuts := rapid.SliceOfN(rapid.Float64Range(0, 1), 0, 30).Draw(rt, "cuts")
		whole := rapid.SliceOfN(rapid.Bool(), len(cuts), len(cuts)).Draw(rt, "as if it were the end")
		var ids []int
		for id := range total {
			ids = append(ids, id+1)
		}
		synctest.Test(t, func(t *testing.T) {
			n := -1
			f := followIn(func(r *http.Request) (*http.Response, error) {
				n++
				after, _, _ := strings.Cut(r.URL.Query().Get("after"), "-")
				at, _ := strconv.Atoi(after) // 0 at the first time
				var text strings.Builder
				fmt.Fprintf(&text, opened, total, at+1, at, "")
				least := 0
				if n == 0 {
					least = text.Len() // before it has begun a failure is the end
				}
				for id := at + 1; id <= total; id++ {
					if quiet[id-1] {
						fmt.Fprintf(&text, heartbeat, id-1)
					}
					fmt.Fprintf(&text, killed, id)
				}
				return stream(r, func(say func(string, ...any)) error {
					if n >= len(cuts) {
						say("%s", text.String())
						return nil
					}
					say("%s", text.String()[:least+int(cuts[n]*float64(text.Len()-least))])
					if whole[n] {
						return nil
					}
					return io.ErrUnexpectedEOF
				}), nil
			}, "", total)
			if err := f.run(t.Context()); err != nil {
				rt.Error(err)
			}
			if diff := cmp.Diff(events(ids...), f.out.String()); diff != "" {
				rt.Errorf("printed (-want +got):\n%s", diff)
			}
		})
	})
}
