package phoenix_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"killfeed/phoenix"
)

// TestScripts runs the scripts in testdata: what is sent to a session, and everything that it does then, in order.
//
//	== 26 duplicate join      begins a case, here with a number of the list that all tests of Channels share
//	vsn 1.0.0                 the version (2.0.0 when it is not said)
//	max 2                     MaxChannels
//
//	-> text                   Receive
//	=> 00 01 …                ReceiveBinary
//	.. push 2 event payload   the server pushes on the link of the second join
//	.. close 2                it closes it
//	.. crash 2                it crashes it
//	.. end                    Close
//	.. channels 2             so many are joined
//
//	<- text                   Send was called
//	++ 2                      Joined was called on the second channel
//	-- 2                      Left was called
//	!! text                   Panicked was called
//	<! 1003 reason            Receive returned a BrokenError with this close code and text
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no scripts (%v)", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first := strings.Index(string(text), "\n== ")
			line := 2 + strings.Count(string(text[:first]), "\n")
			for _, script := range strings.Split(string(text[first+4:]), "\n== ") {
				name, rest, _ := strings.Cut(script, "\n")
				t.Run(name, func(t *testing.T) { runScript(t, file, line+1, rest) })
				line += 1 + strings.Count(script, "\n")
			}
		})
	}
}

func runScript(t *testing.T, file string, line int, script string) {
	var (
		s       = newServer(phoenix.V2)
		session *phoenix.Session
		got     []string // what the last act brought
		act     string
	)
	failf := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s:%d: %s", file, line, fmt.Sprintf(format, args...))
	}
	settled := func() {
		t.Helper()
		if len(got) > 0 {
			failf("after %s there is more:\n%s", act, strings.Join(got, "\n"))
		}
	}
	for _, text := range strings.Split(script, "\n") {
		verb, rest, _ := strings.Cut(text, " ")
		switch verb {
		case "", "#":
		case "vsn":
			v, err := phoenix.ParseVersion(rest)
			if err != nil {
				failf("%v", err)
			}
			s.options.Version = v
		case "max":
			s.options.MaxChannels, _ = strconv.Atoi(rest)
		case "->", "=>", "..":
			settled()
			if session == nil {
				session = phoenix.NewSession(s.options)
				defer session.Close()
			}
			act = text
			var err error
			switch verb {
			case "->":
				err = session.Receive([]byte(rest))
			case "=>":
				frame, hexErr := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
				if hexErr != nil {
					failf("%v", hexErr)
				}
				err = session.ReceiveBinary(frame)
			default:
				if msg := s.act(session, strings.SplitN(rest, " ", 4)); msg != "" {
					failf("%s: %s", text, msg)
				}
			}
			for _, e := range s.take() {
				got = append(got, e.String())
			}
			if err != nil {
				got = append(got, sayBroken(err))
			}
		case sent, joined, left, panicked, "<!":
			if len(got) == 0 {
				failf("after %s there is nothing more, want\n%s", act, text)
			}
			if got[0] != text {
				failf("after %s\ngot  %s\nwant %s", act, got[0], text)
			}
			got = got[1:]
		default:
			failf("what is %q?", text)
		}
		line++
	}
	settled()
}

// act does what the server does by itself. It returns what is wrong.
func (s *server) act(session *phoenix.Session, words []string) string {
	switch words = append(words, "", "", ""); words[0] {
	case "end":
		session.Close()
		return ""
	case "channels":
		if n := session.Channels(); fmt.Sprint(n) != words[1] {
			return fmt.Sprintf("there are %d", n)
		}
		return ""
	}
	n, _ := strconv.Atoi(words[1])
	c := s.channel(n)
	if c == nil {
		return "there is no such channel"
	}
	switch words[0] {
	case "push":
		c.link.Push(words[2], []byte(words[3]))
	case "close":
		c.link.Close()
	case "crash":
		c.link.Crash()
	default:
		return "unknown"
	}
	return ""
}

func sayBroken(err error) string {
	broken, ok := errors.AsType[*phoenix.BrokenError](err)
	if !ok {
		return "no BrokenError: " + err.Error()
	}
	code, known := map[phoenix.Kind]int{phoenix.NotJSON: 1007, phoenix.NotMessage: 1003}[broken.Kind]
	if !known || len(broken.Reason) > 123 || broken.Error() != broken.Reason {
		return fmt.Sprintf("kind %d, %d bytes: %v", broken.Kind, len(broken.Reason), broken)
	}
	return fmt.Sprintf("<! %d %s", code, broken.Reason)
}

// Every numbered case that concerns frames or the session has its script or a test of its own.
func TestScriptsAreComplete(t *testing.T) {
	text, err := os.ReadFile("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	var have []int
	for _, line := range strings.Split(string(text), "\n") {
		var n int
		if _, err := fmt.Sscanf(line, "== %d ", &n); err == nil {
			have = append(have, n)
		}
	}
	for _, n := range []int{
		2, 3, 12, 15, 16, 20, 21, 22, 23, 24, 26, 27, 28, 29, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 43, 44, 45, 50, 51, 54,
	} {
		if !slices.Contains(have, n) {
			t.Errorf("case %d has no script", n)
		}
	}
}
