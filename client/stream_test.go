package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// server answers requests from a script, one after the other, and notes them.
type server struct {
	t        *testing.T
	answers  []answer
	requests []*request
}

type answer struct {
	status int // 0: there is no answer
	header http.Header
	body   io.Reader
}

type request struct {
	path  string
	query url.Values
	body  string
	at    time.Time
	agent string
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	q := &request{path: r.URL.Path, query: r.URL.Query(), at: time.Now(), agent: r.UserAgent()}
	if r.Body != nil {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		q.body = string(text)
	}
	s.requests = append(s.requests, q)
	if len(s.answers) == 0 {
		<-r.Context().Done() // nothing is left to be said
		return nil, r.Context().Err()
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	if a.status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: a.status, Header: a.header, Request: r,
		Body: body{Reader: a.body, ctx: r.Context()}}, nil
}

// body is one whose reading ends with its request, as that of a connection does.
type body struct {
	io.Reader
	ctx context.Context
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, errOpen) {
		<-b.ctx.Done()
		return 0, b.ctx.Err()
	}
	return n, err
}

func (b body) Close() error { return nil }

// errOpen: nothing more comes, and the connection stays.
var errOpen = errors.New("the connection stays open")

type stays struct{}

func (stays) Read([]byte) (int, error) { return 0, errOpen }

// stream is an answer that is a stream and breaks off at its end.
func stream(text ...string) answer {
	return answer{200, http.Header{"Content-Type": {"text/event-stream"}}, strings.NewReader(strings.Join(text, ""))}
}

// open is a stream that stays open.
func open(text ...string) answer {
	a := stream(text...)
	a.body = io.MultiReader(a.body, stays{})
	return a
}

func jsonAnswer(status int, text string, header ...string) answer {
	h := http.Header{"Content-Type": {"application/json"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return answer{status, h, strings.NewReader(text)}
}

const epoch = "0123abcd"

func begin(epoch string, after int, more string) string {
	return fmt.Sprintf("retry: 2000\nid: %d-%s-nonce\nevent: open\ndata: {\"head\":9,\"epoch\":%q,\"start\":%d,\"cursor\":\"%d-%s\"%s}\n\n",
		after, epoch, epoch, after+1, after, epoch, more)
}

func kill(id int) string {
	return fmt.Sprintf("id: %d-%s-nonce\nevent: new_killmail\ndata: {\"event_id\":%d,\"system_id\":30000142,"+
		"\"received_at\":\"2026-11-23T18:00:00.000Z\",\"killmail\":{},\"cursor\":\"%d-%s\"}\n\n", id, epoch, id, id, epoch)
}

// play ranges over a stream that reads from a script, until it ends or the time is up, and returns what it got.
func play(t *testing.T, s *server, o StreamOptions, each func(*Stream, *Event) bool) (stream *Stream, ids []uint64, err error) {
	t.Helper()
	s.t = t
	c, err := New("http://killfeed.test", Options{HTTP: &http.Client{Transport: s}, UserAgent: "tester/1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	stream = c.Stream(o)
	for event, e := range stream.Events(ctx) {
		if e != nil {
			err = e
			break
		}
		ids = append(ids, event.ID)
		if each != nil && !each(stream, event) {
			break
		}
	}
	return stream, ids, err
}

// queries are those of the requests for streams, without what is the same in all.
func (s *server) queries() (all []string) {
	for _, r := range s.requests {
		if r.path == "/api/killfeed/stream" {
			r.query.Del("topics")
			all = append(all, r.query.Encode())
		}
	}
	return all
}

func (s *server) commits() (all []string) {
	for _, r := range s.requests {
		if r.path == "/api/killfeed/commit" {
			all = append(all, r.body)
		}
	}
	return all
}

var everything = Read{Selection: Selection{Topics: []string{"all"}}}

func TestStreamResumesByCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits []time.Duration
		o := StreamOptions{Read: everything, OnRetry: func(_ error, w time.Duration) { waits = append(waits, w) }}
		o.Start = "earliest"
		s := &server{answers: []answer{
			{}, // nobody is there
			stream(begin(epoch, 0, ""), kill(1), kill(2), kill(3)[:40]), // and ends within an event
			jsonAnswer(503, `{"title":"Service Unavailable","status":503,"detail":"opening"}`, "Retry-After", "7"),
			stream(begin(epoch, 2, "")),
			stream(begin(epoch, 2, ""), kill(3), ": heartbeat\nid: 8-"+epoch+"\n\n"),
			open(begin(epoch, 8, ""), kill(9)),
		}}
		_, ids, err := play(t, s, o, func(_ *Stream, e *Event) bool { return e.ID < 9 })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]uint64{1, 2, 3, 9}, ids); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		want := []string{"start=earliest", "start=earliest", "after=2-" + epoch, "after=2-" + epoch, "after=2-" + epoch, "after=8-" + epoch}
		if diff := cmp.Diff(want, s.queries()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		// The least, then what retry says; as Retry-After says; doubled; anew after something came.
		for i, least := range []time.Duration{leastWait, 2 * time.Second, 7 * time.Second, 8 * time.Second, 2 * time.Second} {
			if waits[i] < least || waits[i] > least+least/5+1 {
				t.Errorf("wait %d is %v, want %v and up to a fifth more", i, waits[i], least)
			}
			if passed := s.requests[i+1].at.Sub(s.requests[i].at); passed < waits[i] {
				t.Errorf("%v passed before request %d, want %v", passed, i+1, waits[i])
			}
		}
		if agent := s.requests[0].agent; agent != "tester/1" {
			t.Errorf("User-Agent %q", agent)
		}
	})
}

func TestStreamCommitsWhatWasHandled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := StreamOptions{Read: everything, OnRetry: func(error, time.Duration) {}}
		o.ClientID, o.Start = "bot", "earliest"
		ok := jsonAnswer(200, `{"offsets":{}}`)
		s := &server{answers: []answer{
			stream(begin(epoch, 0, ""), kill(1), kill(2)), // handled and not committed when it breaks off
			jsonAnswer(503, `{}`),                         // the commit before the next connection
			ok,                                            // and again
			open(begin(epoch, 2, ""), kill(3), kill(4), kill(5)),
			jsonAnswer(507, `{}`), // the commit while events come
			ok,                    // and at the end
		}}
		stream, ids, err := play(t, s, o, func(_ *Stream, e *Event) bool {
			if e.ID == 3 || e.ID == 4 {
				time.Sleep(2 * time.Second) // of the bubble
			}
			return e.ID < 5
		})
		if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5}, ids); err != nil || diff != "" {
			t.Errorf("%v, events (-want +got):\n%s", err, diff)
		}
		commit := func(id int) string {
			return fmt.Sprintf(`{"client_id":"bot","event_id":"%d-%s","topics":["all"]}`, id, epoch)
		}
		// With the disk full it is put off, to the end here. The loop is left at 5, which does not count.
		if diff := cmp.Diff([]string{commit(2), commit(2), commit(4), commit(4)}, s.commits()); diff != "" {
			t.Errorf("commits (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"client_id=bot&commit=manual&start=earliest", "client_id=bot&commit=manual&start=earliest"}, s.queries()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if stream.Cursor() != "4-"+epoch {
			t.Errorf("cursor %s", stream.Cursor())
		}
	})
}

// What is handled is committed within a second when nothing else comes.
func TestStreamCommitsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := StreamOptions{Read: everything, Silence: 10 * time.Second, OnRetry: func(error, time.Duration) {}}
		o.ClientID = "bot"
		s := &server{answers: []answer{open(begin(epoch, 0, ""), kill(1)), jsonAnswer(200, `{"offsets":{}}`), jsonAnswer(400, `{"detail":"no"}`)}}
		begun := time.Now()
		_, _, err := play(t, s, o, nil)
		var problem *ProblemError
		if !errors.As(err, &problem) || problem.Detail != "no" || len(s.requests) != 3 {
			t.Fatalf("%v after %d requests", err, len(s.requests))
		}
		if at := s.requests[1].at.Sub(begun); at != commitEvery {
			t.Errorf("committed after %v", at)
		}
		if at := s.requests[2].at.Sub(begun); at < 10*time.Second { // and a silence is a loss
			t.Errorf("came back after %v", at)
		}
	})
}

func TestStreamManual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := StreamOptions{Read: everything, Manual: true, OnRetry: func(error, time.Duration) {}}
		o.ClientID, o.After = "bot", "0"
		s := &server{answers: []answer{
			stream(begin(epoch, 0, ""), kill(1), kill(2)), jsonAnswer(200, `{"offsets":{}}`), open(begin(epoch, 1, ""), kill(2), kill(3)),
		}}
		_, ids, err := play(t, s, o, func(stream *Stream, e *Event) bool {
			if e.ID == 1 {
				if err := stream.Commit(t.Context()); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(5 * time.Second)
			return e.ID < 3
		})
		if diff := cmp.Diff([]uint64{1, 2, 2, 3}, ids); err != nil || diff != "" {
			t.Errorf("%v, events (-want +got):\n%s", err, diff)
		}
		if diff := cmp.Diff([]string{"after=0&client_id=bot&commit=manual", "client_id=bot&commit=manual"}, s.queries()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if n := len(s.commits()); n != 1 {
			t.Errorf("%d commits, want 1", n)
		}
	})
}

// A client that comes back to another log under its name is new in it, and would begin at the latest event without a word.
func TestStreamOtherLog(t *testing.T) {
	const other = "ffffffff"
	for _, manual := range []bool{false, true} {
		t.Run(fmt.Sprint("manual ", manual), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var gaps []Gap
				o := StreamOptions{Read: everything, Manual: manual, OnRetry: func(error, time.Duration) {}, OnGap: func(g Gap) { gaps = append(gaps, g) }}
				o.ClientID = "bot"
				s := &server{answers: []answer{
					stream(begin(epoch, 4, "")),
					stream(begin(other, 9, "")),
					open(begin(other, 0, `,"gap":{"reason":"epoch"}`), strings.ReplaceAll(kill(1), epoch, other)),
				}}
				_, ids, err := play(t, s, o, func(*Stream, *Event) bool { return false })
				if diff := cmp.Diff([]uint64{1}, ids); err != nil || diff != "" {
					t.Errorf("%v, events (-want +got):\n%s", err, diff)
				}
				want := []string{"client_id=bot&commit=manual", "client_id=bot&commit=manual", "after=4-" + epoch + "&client_id=bot&commit=manual"}
				if diff := cmp.Diff(want, s.queries()); diff != "" {
					t.Errorf("requests (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]Gap{{Reason: "epoch"}}, gaps); diff != "" {
					t.Errorf("gaps (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestStreamTellsGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gaps []Gap
		o := StreamOptions{Read: everything, OnGap: func(g Gap) { gaps = append(gaps, g) }, OnRetry: func(error, time.Duration) {}}
		lost := func(reason string, to int) string {
			return fmt.Sprintf("id: %d-%s\nevent: gap\ndata: {\"reason\":%q,\"from\":2,\"to\":%d}\n\n", to, epoch, reason, to)
		}
		s := &server{answers: []answer{
			stream(begin(epoch, 1, `,"gap":{"reason":"retention","from":1,"to":1}`), lost("retention", 3)),
			stream(begin(epoch, 3, ""), lost("damaged", 7)),
			open(begin(epoch, 3, ""), kill(4)),
		}}
		_, _, err := play(t, s, o, func(*Stream, *Event) bool { return false })
		want := []Gap{{"retention", 1, 1}, {"retention", 2, 3}, {"damaged", 2, 7}}
		if diff := cmp.Diff(want, gaps); err != nil || diff != "" {
			t.Errorf("%v, gaps (-want +got):\n%s", err, diff)
		}
		if diff := cmp.Diff([]string{"", "after=3-" + epoch, "after=3-" + epoch}, s.queries()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
}

func TestStreamEnds(t *testing.T) {
	tests := []struct {
		name   string
		answer answer
		check  func(err error) bool
	}{
		{"replaced", open(begin(epoch, 0, ""), kill(1), "event: replaced\ndata: {}\n\n"), func(err error) bool { return errors.Is(err, ErrReplaced) }},
		{"a refusal", jsonAnswer(400, `{"title":"Bad Request","status":400,"detail":"no","parameter":"topics","value":"x","accepted":"y"}`), func(err error) bool {
			var p *ProblemError
			return errors.As(err, &p) && cmp.Equal(p, &ProblemError{Status: 400, Title: "Bad Request", Detail: "no", Parameter: "topics", Value: "x", Accepted: "y"})
		}},
		{"a redirect", jsonAnswer(301, "", "Location", "https://elsewhere.test/"), func(err error) bool {
			return strings.Contains(err.Error(), "https://elsewhere.test/")
		}},
		{"no stream", jsonAnswer(200, `{}`), func(err error) bool { return strings.Contains(err.Error(), "is it a killfeed?") }},
		{"no JSON", open("event: open\ndata: {\n\n"), func(err error) bool { return strings.Contains(err.Error(), "no stream of killmails") }},
		{"the end of the caller's time", open(begin(epoch, 0, "")), func(err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{answers: []answer{test.answer}}
				o := StreamOptions{Read: everything, Silence: 2 * time.Hour}
				o.ClientID = "bot"
				if _, _, err := play(t, s, o, nil); err == nil || !test.check(err) {
					t.Errorf("it ended with %v", err)
				}
				if n := len(s.requests); n != 1 {
					t.Errorf("%d requests, want 1: the name is another one's, or nothing was handled", n)
				}
			})
		})
	}
}

// A loop whose context ends while it is at an event is given no other one.
func TestStreamEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{answers: []answer{open(begin(epoch, 0, ""), kill(1), kill(2), kill(3))}}
		_, ids, err := play(t, s, StreamOptions{Read: everything}, func(*Stream, *Event) bool {
			time.Sleep(2 * time.Hour) // twice what play gives it
			return true
		})
		if diff := cmp.Diff([]uint64{1}, ids); diff != "" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, events (-want +got):\n%s", err, diff)
		}
	})
}

func TestPollByBody(t *testing.T) {
	s := &server{t: t, answers: []answer{jsonAnswer(200, `{"events":[],"head":0,"epoch":"0123abcd","more":false}`)}}
	c, err := New("http://killfeed.test/feed/", Options{HTTP: &http.Client{Transport: s}})
	if err != nil {
		t.Fatal(err)
	}
	o := PollOptions{Wait: 1500 * time.Millisecond, Manual: true}
	o.MaxAge, o.ClientID = 1500*time.Millisecond, "bot"
	for id := range uint32(1000) {
		o.Systems = append(o.Systems, 30000001+id)
	}
	if _, err := c.Poll(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r := s.requests[0]
	for _, part := range []string{`"systems":"30000001,30000002,`, `"wait":"1.5"`, `"commit":"manual"`, `"max_age":"2"`} {
		if r.path != "/feed/api/killfeed" || len(r.query) > 0 || !strings.Contains(r.body, part) {
			t.Errorf("%s?%s of %d bytes lacks %s", r.path, r.query.Encode(), len(r.body), part)
		}
	}
}

func TestNextTellsGapWithoutEvent(t *testing.T) {
	for text, want := range map[string]*Gap{"": nil, "3-7": {"unknown", 3, 7}, "epoch": {Reason: "epoch"}} {
		s := &server{t: t, answers: []answer{jsonAnswer(204, "", "Killfeed-Gap", text, "Killfeed-More", "1")}}
		c, err := New("http://killfeed.test", Options{HTTP: &http.Client{Transport: s}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Next(t.Context(), PollOptions{Read: everything})
		if diff := cmp.Diff(&Next{Gap: want, More: true}, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", text, err, diff)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, server := range []string{"", "127.0.0.1:4004", "ftp://a", "http://", "http://a/?b", "http://a/#b", "http://u:p@a/"} {
		if _, err := New(server, Options{}); err == nil {
			t.Errorf("%q was accepted", server)
		}
	}
}
