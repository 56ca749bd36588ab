package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v4"
)

// metricNames are words of an expression that name a metric. Labels stand in braces or behind by, and are taken out before.
var (
	metricName = regexp.MustCompile(`\b(?:killfeed|process|go)_[a-z0-9_]+`)
	inBraces   = regexp.MustCompile(`\{[^{}]*\}`)
)

// deployedExprs are all expressions of the dashboard and of the alerts, each with where it stands.
func deployedExprs(t interface{ Fatalf(string, ...any) }) map[string]string {
	read := func(path ...string) []byte {
		text, err := os.ReadFile(filepath.Join(append([]string{deploy}, path...)...))
		if err != nil {
			t.Fatalf("%v", err)
		}
		return text
	}
	all := map[string]string{}
	var board struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read("grafana", "killfeed.json"), &board); err != nil || len(board.Panels) == 0 {
		t.Fatalf("the dashboard cannot be read: %v", err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			all["panel "+p.Title+": "+target.Expr] = target.Expr
		}
	}
	var alerts struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(read("prometheus", "alerts.yaml"), &alerts); err != nil || len(alerts.Groups) == 0 {
		t.Fatalf("the alerts cannot be read: %v", err)
	}
	for _, g := range alerts.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Fatalf("the alert %+v is not complete", r)
			}
			all["alert "+r.Alert] = r.Expr
		}
	}
	return all
}

// dashboards URL fails when an expression of the dashboard or of the alerts names a metric that is not at the URL.
func dashboards(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dashboards url")
	}
	res, err := http.Get(args[0])
	ts.Check(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	ts.Check(err)
	there := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			name := strings.FieldsFunc(line, func(r rune) bool { return r == '{' || r == ' ' })[0]
			there[name] = true
		}
	}
	asked := 0
	for where, expr := range deployedExprs(ts) {
		names := metricName.FindAllString(inBraces.ReplaceAllString(expr, ""), -1)
		for _, name := range names {
			asked++
			if !there[name] {
				ts.Fatalf("%s asks for %s, which no server has", where, name)
			}
		}
		if len(names) == 0 && !strings.Contains(expr, "up{") {
			ts.Fatalf("%s asks for nothing", where)
		}
	}
	if asked < 30 {
		ts.Fatalf("only %d names were found", asked)
	}
}

// TestUnits: the unit and the socket for systemd belong together, and what they give the program fits what it does.
func TestUnits(t *testing.T) {
	service, socket := deployed(t, "killfeed.service"), deployed(t, "killfeed.socket")
	for _, want := range []string{"Type=notify", "WatchdogSec=", "NoNewPrivileges=yes", "ProtectSystem=strict", "StateDirectory=killfeed", " serve --data /var/lib/killfeed"} {
		if !strings.Contains(service, want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
	if !strings.Contains(socket, "ListenStream=127.0.0.1:4004") {
		t.Error("the socket is not that of --listen")
	}
}
