package doctest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// act is some of what a program prints, and what happens when it has printed that.
type act struct {
	text string // with the text of the acts before it
	then *direction
}

// direction is a line in parentheses: what happens at that point of a program's output.
type direction struct {
	restart bool // the server is restarted, and the killmails come in between: before any client can reach it
	mails   []mail
}

// mail is a killmail that comes in.
type mail struct {
	id     int
	system int
}

// Solar systems by the names that directions use.
var systems = map[string]int{"Jita": 30000142, "Perimeter": 30000144, "Amarr": 30002187}

const (
	cameForm    = `^killmails? (.+)$`
	restartForm = `^the server restarts, and has killmails? (.+) before anybody is back$`
	mailForm    = `^(\d+) in (\w+)$`
)

var (
	came         = regexp.MustCompile(cameForm)
	restarted    = regexp.MustCompile(restartForm)
	mailWords    = regexp.MustCompile(mailForm)
	mailsBetween = regexp.MustCompile(`, | and `)
)

// parseActs takes the expected output of a program apart.
func parseActs(text string) ([]act, error) {
	var (
		all   []act
		lines []string
		fresh bool // there are lines behind the last direction
	)
	for line := range strings.SplitSeq(clean(text), "\n") {
		inside, opens := strings.CutPrefix(line, "(")
		inside, closes := strings.CutSuffix(inside, ")")
		if !opens || !closes {
			lines, fresh = append(lines, line), true
			continue
		}
		d, err := direct(inside)
		if err != nil {
			return nil, err
		}
		if !fresh { // so nobody knows whether it is ready
			return nil, fmt.Errorf("%q stands behind nothing that is printed", line)
		}
		all, fresh = append(all, act{strings.Join(lines, "\n"), d}), false
	}
	if !fresh {
		return nil, fmt.Errorf("nothing is printed behind the last direction")
	}
	return append(all, act{strings.Join(lines, "\n"), nil}), nil
}

// direct reads a direction without its parentheses.
func direct(text string) (*direction, error) {
	var d direction
	m := restarted.FindStringSubmatch(text)
	if d.restart = m != nil; !d.restart {
		m = came.FindStringSubmatch(text)
	}
	if m == nil {
		return nil, fmt.Errorf("(%s) is no direction: want %s or %s", text, cameForm, restartForm)
	}
	for _, part := range mailsBetween.Split(m[1], -1) {
		w := mailWords.FindStringSubmatch(part)
		if w == nil {
			return nil, fmt.Errorf("(%s): %q is no killmail: want %s", text, part, mailForm)
		}
		id, err := strconv.Atoi(w[1])
		if err != nil {
			return nil, fmt.Errorf("(%s): %w", text, err)
		}
		system, ok := systems[w[2]]
		if !ok {
			return nil, fmt.Errorf("(%s): where is %s?", text, w[2])
		}
		d.mails = append(d.mails, mail{id, system})
	}
	return &d, nil
}

func TestActs(t *testing.T) {
	got, err := parseActs("a\nb\n(killmails 1 in Jita, 2 in Amarr and 3 in Jita)\nc\n(the server restarts, and has killmail 4 in Jita before anybody is back)\nd\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []act{
		{"a\nb", &direction{false, []mail{{1, 30000142}, {2, 30002187}, {3, 30000142}}}},
		{"a\nb\nc", &direction{true, []mail{{4, 30000142}}}},
		{"a\nb\nc\nd", nil},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(act{}, direction{}, mail{})); diff != "" {
		t.Errorf("acts (-want +got):\n%s", diff)
	}
	for _, text := range []string{
		"(killmail 1 in Jita)\na\n", "a\n(killmail 1 in Jita)\n(killmail 2 in Jita)\nb\n", "a\n(killmail 1 in Jita)\n",
		"a\n(it rains)\nb\n", "a\n(killmail 1)\nb\n", "a\n(killmail 1 in Nowhere)\nb\n", "a\n(the server restarts)\nb\n",
	} {
		if got, err := parseActs(text); err == nil {
			t.Errorf("%q was accepted as %v", text, got)
		}
	}
}
