package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
)

// network is what the machines of a cluster are connected by: hosts 0 to 2 have the servers of NATS, 3 to 5 the nodes. The clients are
// at none of them.
type network interface {
	// listen is an address of the host to listen on: for each port always the same.
	listen(host, port int) string
	// start starts a command on the host, output one that is run by a client and returns what it printed.
	start(host int, cmd *exec.Cmd) error
	output(cmd *exec.Cmd) ([]byte, error)
	// dial connects a client.
	dial(ctx context.Context, network, address string) (net.Conn, error)
	// cut takes the host off the network and mend puts it back. drop has what one host sends another vanish, one way, and pass ends
	// that. Their error is errNoPartitions where there is no such thing.
	cut(host int) error
	mend(host int) error
	drop(from, to int) error
	pass(from, to int) error
	close()
}

// hosts is how many there are: servers of NATS first.
const (
	servers = 3
	nodes   = 3
	hosts   = servers + nodes
)

var errNoPartitions = errors.New("this network cannot be cut")

// loopback has all of them on this machine's loopback interface.
type loopback struct {
	keeper *keeper
	ports  map[[2]int]string
}

func newLoopback() (*loopback, error) {
	l := &loopback{keeper: newKeeper(), ports: map[[2]int]string{}}
	var held []net.Listener // until all are known, so that they differ
	defer func() {
		for _, h := range held {
			h.Close()
		}
	}()
	for host := range hosts {
		for _, port := range []int{portClients, portRoutes, portMonitor, portNode} {
			h, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, fmt.Errorf("looking for free ports: %w", err)
			}
			held = append(held, h)
			l.ports[[2]int{host, port}] = h.Addr().String()
		}
	}
	return l, nil
}

func (l *loopback) listen(host, port int) string         { return l.ports[[2]int{host, port}] }
func (l *loopback) start(_ int, cmd *exec.Cmd) error     { return l.keeper.start(cmd) }
func (l *loopback) output(cmd *exec.Cmd) ([]byte, error) { return cmd.CombinedOutput() }
func (l *loopback) cut(int) error                        { return errNoPartitions }
func (l *loopback) mend(int) error                       { return errNoPartitions }
func (l *loopback) drop(int, int) error                  { return errNoPartitions }
func (l *loopback) pass(int, int) error                  { return errNoPartitions }
func (l *loopback) close()                               { l.keeper.close() }

func (l *loopback) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}
