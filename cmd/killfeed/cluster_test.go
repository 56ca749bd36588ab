package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"
	"go.yaml.in/yaml/v4"

	"killfeed/jetstream"
)

// startNATS starts a server with that configuration file; stop ends it.
func startNATS(path string) (s *server.Server, stop func(), err error) {
	o, err := server.ProcessConfigFile(path)
	if err != nil {
		return nil, nil, err
	}
	o.NoSigs, o.NoLog = true, true
	if s, err = server.NewServer(o); err != nil {
		return nil, nil, err
	}
	s.Start()
	stop = func() {
		s.Shutdown()
		s.WaitForShutdown()
	}
	if !s.ReadyForConnections(time.Minute) {
		stop()
		return nil, nil, fmt.Errorf("%s: the server does not start", path)
	}
	return s, stop, nil
}

// onLoopback is a server's configuration for a test: loopback only, on free ports, with the files in dir.
func onLoopback(config, dir, routes string) string {
	return strings.NewReplacer(`"0.0.0.0:4222"`, `"127.0.0.1:-1"`, `"127.0.0.1:8222"`, `"127.0.0.1:-1"`, `"0.0.0.0:6222"`, `"`+routes+`"`,
		"/var/lib/nats", filepath.ToSlash(dir)).Replace(config)
}

// natsConfigs are what 'cluster nats-config' prints for each server.
func natsConfigs(t *testing.T, hosts ...string) (configs []string) {
	t.Helper()
	for i := range hosts {
		var out, errs bytes.Buffer
		args := []string{"cluster", "nats-config", "--server", fmt.Sprint(i + 1), "--of", strings.Join(hosts, ",")}
		if code := run(t.Context(), args, nil, strings.NewReader(""), &out, &errs); code != exitOK {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
		configs = append(configs, out.String())
	}
	return configs
}

// natsserver [FROM TO] starts a NATS server with the printed configuration, changed so, and sets KILLFEED_LEDGER and MONITOR.
func natsserver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 && len(args) != 2 {
		ts.Fatalf("usage: natsserver [from to]")
	}
	os.Setenv("NATS_PASSWORD", natsPassword) // of this process, which the server is in; all tests have the same
	var config strings.Builder
	parsed, err := newNATSConfig(1, []string{"nats1"}, filepath.ToSlash(ts.MkAbs("nats")))
	ts.Check(err)
	ts.Check(natsTemplate.Execute(&config, parsed))
	text := onLoopback(config.String(), "", "")
	if len(args) == 2 {
		if !strings.Contains(text, args[0]) {
			ts.Fatalf("the configuration has no %q", args[0])
		}
		text = strings.ReplaceAll(text, args[0], args[1])
	}
	path := ts.MkAbs("nats.conf")
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
	s, stop, err := startNATS(path)
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv("KILLFEED_LEDGER", strings.Replace(s.ClientURL(), "nats://", "nats://killfeed:"+natsPassword+"@", 1))
	ts.Setenv("MONITOR", "http://"+s.MonitorAddr().String())
}

const natsPassword = "kf0123456789"

// The configurations that are printed make a cluster in which nothing is unsafe, and in which killfeed can look at everything.
func TestNATSConfig(t *testing.T) {
	t.Setenv("NATS_PASSWORD", natsPassword)
	var hosts []string
	var held []net.Listener // until all are known, so that they differ
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		held, hosts = append(held, l), append(hosts, l.Addr().String())
	}
	for _, l := range held {
		l.Close()
	}
	var urls []string
	for i, config := range natsConfigs(t, hosts...) {
		path := filepath.Join(t.TempDir(), "nats.conf")
		if err := os.WriteFile(path, []byte(onLoopback(config, t.TempDir(), hosts[i])), 0o600); err != nil {
			t.Fatal(err)
		}
		s, stop, err := startNATS(path)
		if err != nil {
			t.Fatalf("%v in\n%s", err, config)
		}
		t.Cleanup(stop)
		urls = append(urls, s.ClientURL())
	}
	env := []string{"KILLFEED_LEDGER=" + strings.Replace(strings.Join(urls, ","), "nats://", "nats://killfeed:"+natsPassword+"@", 1)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // until the servers have found each other
		var out, errs bytes.Buffer
		code := run(ctx, []string{"cluster", "init", "--json"}, env, strings.NewReader(""), &out, &errs)
		if code == exitUnreachable {
			continue
		}
		if code != exitOK || !strings.Contains(out.String(), `"findings":[]`) || errs.Len() > 0 {
			t.Fatalf("exit code %d: %s%s", code, out.String(), errs.String())
		}
		break
	}
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"cluster", "status", "--json"}, env, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	var status struct {
		Servers []struct{ Name string }
	}
	if err := json.Unmarshal(out.Bytes(), &status); err != nil || len(status.Servers) != 3 {
		t.Errorf("%v in %s", err, out.String())
	}
	for _, args := range [][]string{{"--server", "1"}, {"--server", "4", "--of", "a,b,c"}, {"--server", "1", "--of", "a,b"}, {"--server", "1", "--of", "a,a,b"},
		{"--server", "1", "--of", "a b"}, {"--server", "1", "--of", "a", "--dir", "nats"}} {
		if code := run(ctx, append([]string{"cluster", "nats-config"}, args...), nil, strings.NewReader(""), &out, &errs); code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", args, code, exitUsage)
		}
	}
}

const deploy = "../../deploy"

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deploy, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The servers' configurations in deploy are what the program prints.
func TestDeployedNATS(t *testing.T) {
	t.Setenv("NATS_PASSWORD", natsPassword)
	for i, config := range natsConfigs(t, "nats1", "nats2", "nats3") {
		name := fmt.Sprintf("nats%d.conf", i+1)
		if want := strings.ReplaceAll(config, "/var/lib/nats", "/data"); deployed(t, name) != want {
			t.Errorf("deploy/%s is not what is printed by: killfeed cluster nats-config --server %d --of nats1,nats2,nats3 --dir /data", name, i+1)
		}
		if _, err := server.ProcessConfigFile(filepath.Join(deploy, name)); err != nil {
			t.Error(err)
		}
	}
}

// The Compose file names settings and commands that there are, files that there are, and services and volumes of its own.
func TestDeployedCompose(t *testing.T) {
	type service struct {
		Image       string
		Command     []string
		Environment map[string]string
		Volumes     []string
		DependsOn   any `yaml:"depends_on"`
	}
	var file struct {
		Services map[string]service
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal([]byte(deployed(t, "compose.cluster.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Services) != 7 {
		t.Errorf("%d services, want 7", len(file.Services))
	}
	variable := regexp.MustCompile(`\$\{(\w+)(?::[-?][^}]*)?\}`)
	nodes := 0
	for name, s := range file.Services {
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if rest, ok := strings.CutPrefix(source, "./"); !ok {
				if _, ok := file.Volumes[source]; !ok {
					t.Errorf("%s: there is no volume %s", name, source)
				}
			} else if _, err := os.Stat(filepath.Join(deploy, rest)); err != nil && rest != "admin.token" { // which README.md has people make
				t.Errorf("%s: %v", name, err)
			}
		}
		var others []string
		switch d := s.DependsOn.(type) {
		case []any:
			for _, other := range d {
				others = append(others, fmt.Sprint(other))
			}
		case map[string]any:
			for other := range d {
				others = append(others, other)
			}
		}
		for _, other := range others {
			if _, ok := file.Services[other]; !ok {
				t.Errorf("%s: there is no service %s", name, other)
			}
		}
		if s.Image != "killfeed" {
			continue
		}
		nodes++
		var env []string
		for key, value := range s.Environment {
			env = append(env, key+"="+variable.ReplaceAllString(value, "x"))
		}
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"config", "show", "--json"}, env, strings.NewReader(""), &out, &errs); code != exitOK {
			t.Errorf("%s: %s", name, errs.String())
		}
		if args := append(slices.Clone(s.Command), "--help"); len(s.Command) > 0 {
			if code := run(t.Context(), args, env, strings.NewReader(""), &out, &errs); code != exitOK || !strings.Contains(out.String(), "killfeed cluster init") {
				t.Errorf("%s: there is no command %v: %s", name, s.Command, errs.String())
			}
		}
	}
	if nodes != 3 {
		t.Errorf("%d services are killfeed, want 3", nodes)
	}
}

// nginx reads its configuration, with addresses instead of names that are only known inside.
func TestDeployedNginx(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Skip("nginx is not installed: not run")
		}
	}
	dir := t.TempDir()
	config := strings.NewReplacer("killfeed1:", "127.0.0.1:1", "killfeed2:", "127.0.0.1:2").Replace(deployed(t, "nginx.conf"))
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), nginx, "-t", "-p", dir, "-e", filepath.Join(dir, "log"), "-g", "pid "+dir+"/pid;", "-c", path).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A node that starts before the servers do, or before there is a feed on them, waits for the former and ends with the latter.
func TestConnectLedger(t *testing.T) {
	t.Setenv("NATS_PASSWORD", natsPassword)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	path := filepath.Join(t.TempDir(), "nats.conf")
	text := strings.ReplaceAll(onLoopback(natsConfigs(t, "nats1")[0], t.TempDir(), ""), `listen: "127.0.0.1:-1"`, `listen: "`+addr+`"`)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{stderr: t.Output(), settings: settings{ledger: serversValue{"killfeed:" + natsPassword + "@" + addr}, ledgerName: "killfeed", ledgerReplicas: 1}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stop func()
	waits := make(chan struct{})
	var starting sync.WaitGroup
	starting.Go(func() {
		select {
		case <-waits:
			if _, stop, err = startNATS(path); err != nil {
				cancel()
			}
		case <-ctx.Done():
		}
	})
	var told sync.Once
	log := slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte(natsPassword)) {
			t.Errorf("the log has the password: %s", p)
		}
		if bytes.Contains(p, []byte("waiting for the ledger")) {
			told.Do(func() { close(waits) })
		}
		return len(p), nil
	}), nil))
	_, _, failed := a.connectLedger(ctx, log)
	starting.Wait()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if !errors.Is(failed, jetstream.ErrNoFeed) {
		t.Errorf("%v, want %v", failed, jetstream.ErrNoFeed)
	}
	if err := a.onLedger(ctx, func(nc *nats.Conn, o jetstream.Options) error { return jetstream.Create(ctx, nc, o, jetstream.Plan{}) }); err != nil {
		t.Fatal(err)
	}
	nc, o, err := a.connectLedger(ctx, log)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if host, err := os.Hostname(); err == nil && o.Node != host {
		t.Errorf("the node is called %q, want %q", o.Node, host)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestServersValue(t *testing.T) {
	var v serversValue
	if err := v.Set("nats://killfeed:s3cr3t@a:4222, tls://tok3n@b,c:4222,u:p@ss@d"); err != nil {
		t.Fatal(err)
	}
	if got, want := v.String(), "nats://***@a:4222,tls://***@b,c:4222,***@d"; got != want || len(v) != 4 {
		t.Errorf("shown as %s, want %s", got, want)
	}
}
