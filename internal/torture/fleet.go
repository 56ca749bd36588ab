package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	portClients = 4222 // of a NATS server
	portRoutes  = 6222
	portMonitor = 8222
	portNode    = 4004

	ledgerPassword = "kf0123456789"
	adminToken     = "torture-torture-torture"
	// retain is how long events stay that everybody has read. It is longer than anybody is held up, and much shorter than a run, so a
	// node that begins anew has to copy from another one what is remembered of those before.
	retain = 30 * time.Second
)

// fleet is the processes of a cluster: hosts 0 to 2 are NATS servers, 3 to 5 are nodes.
type fleet struct {
	network  network
	killfeed string // the binary under torture
	self     string // this one, which is also the NATS server
	dir      string
	http     *http.Client
	all      [hosts]*process
}

// process is a server that is killed and started again.
type process struct {
	name, log string
	command   func() *exec.Cmd
	launch    func(*exec.Cmd) error
	// died is told when it ends and nobody has ended it.
	died func(name, why string)

	mu     sync.Mutex // guards the rest
	cmd    *exec.Cmd
	ended  chan struct{} // closed when cmd has ended
	wanted bool          // its end is meant
	killed time.Time     // the last time
}

func newFleet(n network, c config, dir string, died func(name, why string)) (*fleet, error) {
	f := &fleet{network: n, killfeed: c.killfeed, self: c.self, dir: dir}
	f.http = &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64, IdleConnTimeout: 10 * time.Second,
		DialContext: n.dial,
	}}
	creds := filepath.Join(dir, "ledger.creds")
	if err := os.WriteFile(creds, []byte("killfeed:"+ledgerPassword), 0o600); err != nil {
		return nil, err
	}
	for host := range hosts {
		p := &process{name: string(rune('a' + host - servers)), died: died}
		p.command = func() *exec.Cmd { return f.nodeCommand(host) }
		if host < servers {
			p.name = fmt.Sprintf("n%d", host+1)
			p.command = func() *exec.Cmd { return f.natsCommand(host) }
			if err := f.natsConfig(host); err != nil {
				return nil, err
			}
		}
		p.log = filepath.Join(dir, p.name+".log")
		p.launch = func(cmd *exec.Cmd) error { return n.start(host, cmd) }
		f.all[host] = p
	}
	return f, nil
}

// natsConfig writes the configuration that killfeed prints, with the addresses of this network.
func (f *fleet) natsConfig(host int) error {
	var routes []string
	for h := range servers {
		routes = append(routes, f.network.listen(h, portRoutes))
	}
	cmd := exec.Command(f.killfeed, "cluster", "nats-config", "--server", fmt.Sprint(host+1), "--of", strings.Join(routes, ","),
		"--dir", filepath.Join(f.dir, fmt.Sprintf("n%d", host+1)))
	cmd.Env = []string{}
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("printing the configuration of a NATS server: %w", err)
	}
	for _, replace := range []struct {
		address string
		port    int
	}{{"0.0.0.0:4222", portClients}, {"0.0.0.0:6222", portRoutes}, {"127.0.0.1:8222", portMonitor}} {
		if !bytes.Contains(text, []byte(replace.address)) {
			return fmt.Errorf("the configuration of a NATS server has no %s: %s", replace.address, text)
		}
		text = bytes.ReplaceAll(text, []byte(replace.address), []byte(f.network.listen(host, replace.port)))
	}
	return os.WriteFile(f.config(host), text, 0o600)
}

func (f *fleet) config(host int) string { return filepath.Join(f.dir, fmt.Sprintf("n%d.conf", host+1)) }

func (f *fleet) natsCommand(host int) *exec.Cmd {
	cmd := exec.Command(f.self, "nats", f.config(host))
	cmd.Env = []string{"NATS_PASSWORD=" + ledgerPassword}
	return cmd
}

// ledger names the servers, another one first for each host.
func (f *fleet) ledger(host int) []string {
	var urls []string
	for i := range servers {
		urls = append(urls, "nats://"+f.network.listen((host+i)%servers, portClients))
	}
	return []string{"--ledger", strings.Join(urls, ","), "--ledger-creds", filepath.Join(f.dir, "ledger.creds")}
}

func (f *fleet) data(host int) string { return filepath.Join(f.dir, "data-"+f.all[host].name) }

func (f *fleet) nodeCommand(host int) *exec.Cmd {
	return f.command(append([]string{
		"serve", "--node", f.all[host].name, "--listen", f.network.listen(host, portNode), "--data", f.data(host),
		"--retain", retain.String(), "--retain-max", "1h", "--names", "off", "--images=false", "--dialects", "off",
		"--address-rate", "0", "--address-connections", "0", "--drain-time", "1s", "--log-format", "text",
	}, f.ledger(host)...)...)
}

func (f *fleet) command(args ...string) *exec.Cmd {
	cmd := exec.Command(f.killfeed, args...)
	cmd.Dir, cmd.Env = f.dir, []string{"GOTRACEBACK=all"}
	return cmd
}

// token has every node take the same token.
func (f *fleet) token(host int) error {
	if err := os.MkdirAll(f.data(host), 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(f.data(host), "admin.token"), []byte(adminToken+"\n"), 0o600)
}

// begin makes the log and starts everything.
func (f *fleet) begin(ctx context.Context) error {
	for _, p := range f.all[:servers] {
		if err := p.start(); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(time.Minute); ; {
		out, err := f.network.output(f.command(append([]string{"cluster", "init"}, f.ledger(0)...)...))
		if err == nil {
			break
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("making the log: %w: %s", err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
	for host := servers; host < hosts; host++ {
		if err := errors.Join(f.token(host), f.all[host].start()); err != nil {
			return err
		}
	}
	for host := servers; host < hosts; host++ {
		if err := f.await(ctx, host, time.Minute, 0); err != nil {
			return err
		}
	}
	return nil
}

// await waits until the node is ready, and as far as head.
func (f *fleet) await(ctx context.Context, host int, patience time.Duration, head uint64) error {
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		var ready struct{ Status, Reason string }
		st, err := f.status(ctx, host)
		if err == nil {
			_, _, err = f.call(ctx, host, "GET", "/readyz", nil, nil, &ready)
		}
		switch {
		case err != nil:
			last = err
		case ready.Status != "ready":
			last = fmt.Errorf("%s: %s", ready.Status, ready.Reason)
		case st.Log.Head < head:
			last = fmt.Errorf("it has events up to %d, and there are %d", st.Log.Head, head)
		default:
			return nil
		}
	}
	return fmt.Errorf("node %s is not well after %v: %w; the end of its log: %s", f.all[host].name, patience, last, f.all[host].tail())
}

// status is what a node says of itself.
type status struct {
	Log struct {
		First uint64 `json:"first"`
		Head  uint64 `json:"head"`
		Epoch string `json:"epoch"`
	} `json:"log"`
	Cluster struct {
		Leads  bool   `json:"leads"`
		Leader string `json:"leader"`
		Chain  string `json:"chain"`
	} `json:"cluster"`
}

func (f *fleet) status(ctx context.Context, host int) (st status, err error) {
	_, _, err = f.call(ctx, host, "GET", "/api/status", nil, nil, &st)
	return st, err
}

// leader is the host of the node that leads, as another one sees it; -1 when that is not known.
func (f *fleet) leader(ctx context.Context) int {
	for host := servers; host < hosts; host++ {
		if st, err := f.status(ctx, host); err == nil {
			for h := servers; h < hosts; h++ {
				if f.all[h].name == st.Cluster.Leader {
					return h
				}
			}
		}
	}
	return -1
}

// streamState is what the servers say of the stream: which host's server leads it, and whether all are up to date.
func (f *fleet) streamState() (leader int, current bool) {
	out, err := f.network.output(f.command(append([]string{"cluster", "status", "--json"}, f.ledger(0)...)...))
	var st struct {
		Servers []struct {
			Name            string
			Leader, Current bool
			Offline         bool
		} `json:"servers"`
	}
	if at := bytes.IndexByte(out, '{'); err == nil && at >= 0 {
		err = json.NewDecoder(bytes.NewReader(out[at:])).Decode(&st)
	}
	leader, current = -1, err == nil && len(st.Servers) == servers
	for _, s := range st.Servers {
		current = current && s.Current && !s.Offline
		if i := slices.IndexFunc(f.all[:servers], func(p *process) bool { return p.name == s.Name }); i >= 0 && s.Leader {
			leader = i
		}
	}
	return leader, current && leader >= 0
}

// call sends a request and decodes the answer into v. The status is 0 when there was no whole answer.
func (f *fleet) call(ctx context.Context, host int, method, path string, body []byte, header http.Header, v any) (
	status int, answer http.Header, err error) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, f.url(host)+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for k, values := range header {
		req.Header[k] = values
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := f.http.Do(req)
	if err != nil {
		if e := new(url.Error); errors.As(err, &e) {
			err = e.Err // the URL may be long
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, err
	}
	if resp.StatusCode >= 300 {
		return resp.StatusCode, resp.Header, fmt.Errorf("%s %s at %s: %d: %.300s", method, path, f.all[host].name, resp.StatusCode, b)
	}
	if v != nil && len(b) > 0 {
		if err := json.Unmarshal(b, v); err != nil {
			return 0, nil, fmt.Errorf("%w answered %.200q: %w", errServer, b, err)
		}
	}
	return resp.StatusCode, resp.Header, nil
}

func (f *fleet) url(host int) string { return "http://" + f.network.listen(host, portNode) }

// end ends everything that still runs.
func (f *fleet) end() {
	for _, p := range f.all {
		if p != nil {
			p.kill()
		}
	}
	f.http.CloseIdleConnections()
	f.network.close()
}

func (p *process) start() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := p.command()
	cmd.Stdout, cmd.Stderr = out, out
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.launch(cmd); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.wanted = cmd, ended, false
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		wanted := p.wanted
		p.mu.Unlock()
		if !wanted {
			p.died(p.name, fmt.Sprintf("%v: %s", err, p.tail()))
		}
		close(ended)
	}()
	return nil
}

// signal sends a signal, if it runs.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(s)
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.mu.Lock()
	if p.cmd == nil {
		p.mu.Unlock()
		return
	}
	p.wanted, p.killed = true, time.Now()
	_ = p.cmd.Process.Kill()
	ended := p.ended
	p.mu.Unlock()
	<-ended
}

// stop asks it to end, and returns how it ended.
func (p *process) stop(patience time.Duration) error {
	p.mu.Lock()
	p.wanted = true
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Signal(syscall.SIGQUIT) // for what its goroutines do
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			p.kill()
		}
		return fmt.Errorf("%s does not end within %v: %s", p.name, patience, p.tail())
	}
	if state := cmd.ProcessState; !state.Success() {
		return fmt.Errorf("%s ended with %v: %s", p.name, state, p.tail())
	}
	return nil
}

func (p *process) killedAt() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// tail is the end of its log.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-1500):])
}

// running tells whether it runs, or is stopped by a signal.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}
