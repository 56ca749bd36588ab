package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// keeper starts processes that end with this one, however that ends: the kernel kills them when the thread ends that started them. So it
// is one thread that starts them all.
type keeper struct{ do chan func() }

func newKeeper() *keeper {
	k := &keeper{do: make(chan func())}
	go k.run(nil)
	return k
}

// run ends with close. The thread is never given back, so it ends as well.
func (k *keeper) run(first func()) {
	runtime.LockOSThread()
	if first != nil {
		first()
	}
	for f := range k.do {
		f()
	}
}

// call runs f on the keeper's thread.
func (k *keeper) call(f func() error) error {
	done := make(chan error, 1)
	k.do <- func() { done <- f() }
	return <-done
}

func (k *keeper) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return k.call(cmd.Start)
}

func (k *keeper) close() { close(k.do) }

// space is a network namespace. It has no name, so that nothing is left of it when this process has ended.
type space struct {
	*keeper
	file int
	path string
}

func newSpace() (*space, error) {
	s := &space{keeper: &keeper{do: make(chan func())}}
	ready := make(chan error, 1)
	go s.run(func() {
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
			s.file, err = unix.Open(s.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ready <- err
	})
	if err := <-ready; err != nil {
		s.close()
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	return s, s.ip("link", "set", "lo", "up")
}

// ip runs the command of that name in the namespace.
func (s *space) ip(args ...string) error {
	return s.call(func() error {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
		return nil
	})
}

// bridged has each host in a namespace of its own, all on one bridge, at which the clients are.
type bridged struct {
	hub   *space
	hosts []*space

	mu      sync.Mutex // guards dropped, and the commands that follow from it
	dropped map[[2]int]int
}

func newBridged() (n *bridged, err error) {
	n = &bridged{dropped: map[[2]int]int{}}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.hub, err = newSpace(); err != nil {
		return n, err
	}
	if err := n.hub.ip("link", "add", "br0", "type", "bridge"); err != nil {
		return n, err
	}
	if err := n.hub.ip("addr", "add", "10.77.0.254/24", "dev", "br0"); err != nil {
		return n, err
	}
	if err := n.hub.ip("link", "set", "br0", "up"); err != nil {
		return n, err
	}
	for host := range hosts {
		s, err := newSpace()
		if err != nil {
			return n, err
		}
		n.hosts = append(n.hosts, s)
		for _, err := range []error{
			n.hub.ip("link", "add", link(host), "type", "veth", "peer", "name", "eth0", "netns", s.path),
			n.hub.ip("link", "set", link(host), "master", "br0", "up"),
			s.ip("addr", "add", address(host)+"/24", "dev", "eth0"),
			s.ip("link", "set", "eth0", "up"),
		} {
			if err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func link(host int) string    { return "host" + strconv.Itoa(host) }
func address(host int) string { return "10.77.0." + strconv.Itoa(host+1) }

func (n *bridged) listen(host, port int) string {
	return net.JoinHostPort(address(host), strconv.Itoa(port))
}
func (n *bridged) start(host int, cmd *exec.Cmd) error { return n.hosts[host].start(cmd) }

func (n *bridged) output(cmd *exec.Cmd) (out []byte, err error) {
	err = n.hub.call(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	return out, err
}

// dial connects from the bridge: a socket belongs to the namespace of the thread that makes it.
func (n *bridged) dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never given back: it is in another namespace now
		if err := unix.Setns(n.hub.file, unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("entering the bridge's namespace: %w", err)}
			return
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		done <- result{c, err}
	}()
	r := <-done
	return r.conn, r.err
}

func (n *bridged) cut(host int) error  { return n.hub.ip("link", "set", link(host), "nomaster") }
func (n *bridged) mend(host int) error { return n.hub.ip("link", "set", link(host), "master", "br0") }

// drop has the host send to a hardware address that nobody has. What is dropped twice is to be passed twice.
func (n *bridged) drop(from, to int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dropped[[2]int{from, to}]++; n.dropped[[2]int{from, to}] > 1 {
		return nil
	}
	return n.hosts[from].ip("neigh", "replace", address(to), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
}

func (n *bridged) pass(from, to int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dropped[[2]int{from, to}]--; n.dropped[[2]int{from, to}] > 0 {
		return nil
	}
	return n.hosts[from].ip("neigh", "del", address(to), "dev", "eth0")
}

func (n *bridged) close() {
	for _, s := range append(n.hosts, n.hub) {
		if s != nil {
			s.close()
			_ = unix.Close(s.file)
		}
	}
}
