package client

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// told is a message as the cases have it.
type told struct {
	Type string  `json:"type"`
	Data *string `json:"data"`
	ID   *string `json:"id"`
}

func parseAll(t *testing.T, r io.Reader) (all []told, retry time.Duration) {
	t.Helper()
	stream := newMessages(r)
	for {
		m, err := stream.next()
		if errors.Is(err, io.EOF) {
			return all, stream.retry
		}
		if err != nil {
			t.Fatal(err)
		}
		got := told{Type: m.kind}
		if m.data != nil {
			text := string(m.data)
			got.Data = &text
		}
		if m.told {
			got.ID = &m.id
		}
		all = append(all, got)
	}
}

// TestMessages parses what all clients of this project have to, whole, byte by byte, and broken at every place.
func TestMessages(t *testing.T) {
	text, err := os.ReadFile("../clients/testdata/sse.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Name, Text string
		Retry      time.Duration
		Messages   []told
	}
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) < 10 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			check := func(how string, r io.Reader) {
				t.Helper()
				got, retry := parseAll(t, r)
				if len(got) == 0 {
					got = []told{}
				}
				if diff := cmp.Diff(c.Messages, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", how, diff)
				}
				if retry != c.Retry*time.Millisecond {
					t.Errorf("%s: retry %v, want %d ms", how, retry, c.Retry)
				}
			}
			check("whole", strings.NewReader(c.Text))
			check("byte by byte", iotest.OneByteReader(strings.NewReader(c.Text)))
			for i := range len(c.Text) {
				check("broken", io.MultiReader(strings.NewReader(c.Text[:i]), strings.NewReader(c.Text[i:])))
			}
		})
	}
}

// A stream that never ends a message is given up before it has all memory.
func TestMessageTooLong(t *testing.T) {
	endless := func(piece string) io.Reader { return io.LimitReader(repeated(piece), maxMessage+1<<20) }
	for _, piece := range []string{"x", "data: " + strings.Repeat("x", 4000) + "\n"} {
		if m, err := newMessages(endless(piece)).next(); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%.10q…: message of %d bytes, %v; want an error", piece, len(m.data), err)
		}
	}
}

// repeated reads as itself again and again.
type repeated string

func (r repeated) Read(p []byte) (n int, err error) {
	for n+len(r) <= len(p) {
		n += copy(p[n:], r)
	}
	return n, nil
}

// FuzzMessages: however a stream is cut, it has the same messages.
func FuzzMessages(f *testing.F) {
	f.Add("id: 1-0\nevent: new_killmail\ndata: {}\n\n: heartbeat\r\nid: 2-0\r\n\r\n\r", 7)
	f.Fuzz(func(t *testing.T, text string, cut int) {
		if cut < 0 || cut > len(text) {
			cut = len(text) / 2
		}
		whole, retry := parseAll(t, strings.NewReader(text))
		cuts, cutRetry := parseAll(t, io.MultiReader(strings.NewReader(text[:cut]), strings.NewReader(text[cut:])))
		if diff := cmp.Diff(whole, cuts); diff != "" || retry != cutRetry {
			t.Errorf("cut at %d: retry %v and %v (-whole +cut):\n%s", cut, retry, cutRetry, diff)
		}
	})
}
