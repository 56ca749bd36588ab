package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 23, 18, 0, 0, 0, time.FixedZone("", 3600))
	for _, c := range []struct{ text, param, value string }{
		{"latest", "start", "latest"},
		{"earliest", "start", "earliest"},
		{"17", "start", "17"},
		{"2026-11-23T12:00:00+01:00", "start", "2026-11-23T12:00:00+01:00"},
		{"17-0000cafe", "after", "17-0000cafe"},
		{"0-0000cafe", "after", "0-0000cafe"},
		{"15m", "start", "2026-11-23T16:45:00Z"},
		{"1d12h", "start", "2026-11-22T05:00:00Z"},
		{"0s", "start", "2026-11-23T17:00:00Z"},
		{"0", "", ""}, {"", "", ""}, {"-15m", "", ""}, {"yesterday", "", ""}, {"17-cafe", "", ""}, {"2026-11-23", "", ""},
	} {
		param, value, err := since(c.text, now)
		if param != c.param || value != c.value || (err != nil) != (c.param == "") {
			t.Errorf("%q: %s=%s, %v, want %s=%s", c.text, param, value, err, c.param, c.value)
		}
	}
}

// standIn is a server that streams to one connection after another what f says, until f returns.
func standIn(t *testing.T, f func(n int, q url.Values, say func(format string, args ...any))) (address string) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		if r.Method != http.MethodGet || r.URL.Path != "/api/killfeed/stream" || r.Header.Get("Accept") != "application/x-ndjson" {
			t.Errorf("%s %s, Accept: %s", r.Method, r.URL.Path, r.Header.Get("Accept"))
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		f(n, r.URL.Query(), func(format string, args ...any) {
			fmt.Fprintf(w, format, args...)
			http.NewResponseController(w).Flush()
		})
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// runTail runs the command, in an empty directory and with nobody's settings.
func runTail(ctx context.Context, stdout io.Writer, args ...string) (code int, stderr string) {
	var errs bytes.Buffer
	code = run(ctx, append([]string{"tail"}, args...), nil, strings.NewReader(""), stdout, &errs)
	return code, errs.String()
}

// The whole command over real connections: one that ends and one that breaks within a line.
func TestTail(t *testing.T) {
	others := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, others) }) // after the server is closed
	var asked []url.Values
	address := standIn(t, func(n int, q url.Values, say func(string, ...any)) {
		asked = append(asked, q)
		switch n {
		case 1:
			say(opened, 6, 7, 6, "")
			say(killed, 7)
		case 2:
			say(opened, 8, 8, 7, "")
			say(killed, 8)
			say(`{"type":"new_killmail","event_id":9,"sys`)
			panic(http.ErrAbortHandler)
		default:
			say(opened, 9, 9, 8, "")
			say(killed, 9)
		}
	})
	var out bytes.Buffer
	code, told := runTail(t.Context(), &out, "--server", address, "--data", t.TempDir(), "--limit", "3", "--since", "7", "--system", "30000142",
		"--topic", "ship:670,label:solo", "--max-age", "90s", "--updates", "--backfill")
	if code != exitOK || out.String() != events(7, 8, 9) {
		t.Errorf("exit code %d, printed:\n%s", code, out.String())
	}
	if strings.Count(told, "disconnected: ") != 2 || strings.Count(told, ", nothing missed\n") != 2 {
		t.Errorf("told:\n%s", told)
	}
	first := url.Values{"topics": {"system:30000142,ship:670,label:solo"}, "start": {"7"}, "max_age": {"90"}, "updates": {"1"}, "backfill": {"1"}}
	if diff := cmp.Diff(first, asked[0]); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

// A pipe that nobody reads any more ends tail quietly.
func TestTailIntoHead(t *testing.T) {
	address := standIn(t, func(n int, q url.Values, say func(string, ...any)) {
		say(opened, 6, 7, 6, "")
		say(killed, 7)
	})
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in.Close()
	if runtime.GOOS == "windows" {
		t.Skip("pipes break with another error there")
	}
	if code, told := runTail(t.Context(), out, "--server", address, "--data", t.TempDir()); code != exitOK || told != "" {
		t.Errorf("exit code %d, told %q", code, told)
	}
}

const templated = `{"event_id":17,"system_id":30000142,"received_at":"2026-11-23T12:00:00.123Z","killmail":{"killmail_id":125000001,` +
	`"killmail_time":"2026-11-23T11:58:00Z","victim":{"ship_type_id":670,"alliance_id":null},"position":{"x":-1.5,"y":3e9},` +
	`"name":"a\u001b[2Jb","zkb":{"totalValue":1234567890.12,"points":3,"labels":["solo","loc:<high>"]}},"cursor":"17-0000cafe"}`

func TestTemplate(t *testing.T) {
	for _, c := range []struct{ template, want string }{
		{`{{.event_id}} {{.system_id}} {{.killmail.victim.ship_type_id}}`, "17 30000142 670"},
		{`{{.killmail.killmail_id}}`, "125000001"},
		{`{{.killmail.position.x}} {{.killmail.position.y}}`, "-1.5 3e9"},
		{`{{if eq .system_id 30000142}}Jita{{end}}`, "Jita"},
		{`{{if eq .system_id 30002187}}Amarr{{end}}`, ""},
		{`{{if gt (number .killmail.zkb.totalValue) 1e9}}big{{end}}`, "big"},
		{`{{if gt (number .killmail.zkb.points) 2.5}}many{{end}}`, "many"},
		{`{{number .killmail.nothing.of.this}}`, "0"},
		{`{{with .killmail.victim.alliance_id}}{{.}}{{else}}none{{end}}`, "none"},
		{`{{.killmail.victim.alliance_id.what}}{{with .killmail.war}}{{.id}}{{end}}`, "<no value>"},
		{`{{.received_at | time "15:04:05"}} {{time "2006" .killmail.killmail_time}}{{time "2006" .killmail.never}}`, "12:00:00 2026"},
		{`{{json .killmail.zkb}}`, `{"labels":["solo","loc:<high>"],"points":3,"totalValue":1234567890.12}`},
		{`{{.killmail.name}}`, "a\ufffd[2Jb"},
		{`{{"\x1b[1m"}}{{.event_id}}`, "\x1b[1m17"},
	} {
		p, err := parseTemplate(c.template, true)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		if got, err := p.format([]byte(templated)); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v, want %q", c.template, got, err, c.want)
		}
	}
	for template, want := range map[string]string{
		`{{number .killmail.name}}`:          "is no number",
		`{{time "15:04" .system_id}}`:        "30000142 is no time",
		`{{if eq .system_id "Jita"}}{{end}}`: "incompatible types for comparison",
	} {
		p, err := parseTemplate(template, false)
		if err != nil {
			t.Errorf("%s: %v", template, err)
			continue
		}
		if _, err := p.format([]byte(templated)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", template, err, want)
		}
	}
}

// An event that a template cannot cope with is told and passed; a silent one does not count.
func TestTailTemplate(t *testing.T) {
	address := standIn(t, func(n int, q url.Values, say func(string, ...any)) {
		say(opened, 0, 1, 0, "")
		for id, killmail := range []string{`{"killmail_id":1}`, `{"killmail_id":"one"}`, `{}`, `{"killmail_id":4}`} {
			say(`{"type":"new_killmail","event_id":%d,"killmail":%s,"cursor":"%[1]d-0000cafe"}`+"\n", id+1, killmail)
		}
	})
	var out bytes.Buffer
	code, told := runTail(t.Context(), &out, "--server", address, "--data", t.TempDir(), "--limit", "2",
		"--template", `{{if number .killmail.killmail_id}}kill {{.killmail.killmail_id}}{{end}}`)
	if code != exitOK || out.String() != "kill 1\nkill 4\n" {
		t.Errorf("exit code %d, printed %q", code, out.String())
	}
	if !strings.HasPrefix(told, "not printed: event 2: --template:1:") || strings.Count(told, "\n") != 1 {
		t.Errorf("told %q", told)
	}
}

func TestColours(t *testing.T) {
	event := []byte(`{"event_id":17,"system_id":30000142,"received_at":"2026-11-23T12:00:00Z","update":true,"killmail":` + madeUp(5) + `}`)
	var bare strings.Builder
	coloured := string(describeEvent(event, true))
	for i, part := range strings.Split(coloured, "\x1b[") { // each code begins so
		if i > 0 {
			_, part, _ = strings.Cut(part, "m")
		}
		bare.WriteString(part)
	}
	if want := string(describeEvent(event, false)); bare.String() != want {
		t.Errorf("without the codes it is %q, want %q", bare.String(), want)
	}
	if n := strings.Count(coloured, "\x1b[0m"); n < 5 || strings.Count(coloured, "\x1b[") != 2*n {
		t.Errorf("%q: want as many ends as beginnings", coloured)
	}
	for _, c := range []struct {
		env  []string
		want bool
	}{
		{[]string{"TERM=xterm-256color"}, true},
		{[]string{"TERM=xterm", "NO_COLOR=1"}, false},
		{[]string{"TERM=xterm", "NO_COLOR="}, true},
		{[]string{"TERM=dumb"}, false},
	} {
		if got := wantsColours(c.env); got != (c.want && runtime.GOOS != "windows") {
			t.Errorf("%q: %v", c.env, got)
		}
	}
}

// Events are printed as they came, byte for byte.
func TestTailKeepsBytes(t *testing.T) {
	const rest = `"event_id":7,"system_id":1,"killmail":{"b":1.50,"a":"\u00fc<","n":12345678901234567890},"cursor":"7-0000cafe"}`
	address := standIn(t, func(n int, q url.Values, say func(string, ...any)) {
		say(opened, 6, 7, 6, "")
		say("%s\r\n", `{"type":"new_killmail",`+rest)
	})
	var out bytes.Buffer
	if code, told := runTail(t.Context(), &out, "--server", address, "--data", t.TempDir(), "--limit", "1"); code != exitOK {
		t.Errorf("exit code %d, %s", code, told)
	}
	if out.String() != "{"+rest+"\n" || !json.Valid(out.Bytes()) {
		t.Errorf("printed %s", out.String())
	}
}
