package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"killfeed/bench/internal/server"
)

// natsServers is how many NATS servers keep the log, each of them all of it.
const natsServers = 3

// freePorts finds ports that nothing listens on. They are held until all are known, so that they differ.
func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

// startNATS starts NATS servers, each a process of its own with this program in it, and keeps their files in dir. The URLs are for
// --ledger.
func startNATS(ctx context.Context, work, dir string) (servers []*server.Server, urls string, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	ports, err := freePorts(2 * natsServers) // of the clients, then of the routes
	if err != nil {
		return nil, "", err
	}
	for i := range natsServers {
		s, err := server.Start(ctx, work, self, "nats", strconv.Itoa(i), filepath.Join(dir, fmt.Sprintf("nats%d", i+1)), strings.Join(ports, ","))
		if err != nil {
			return servers, "", err
		}
		servers = append(servers, s)
		urls += ",nats://" + s.Addr
	}
	return servers, urls[1:], nil
}

// runNATS is one of the servers. Its arguments are its number, its directory, the ports of all, and a file for its address. It ends by
// a signal.
func runNATS(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%d arguments: it is for the benchmark itself", len(args))
	}
	i, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ports := strings.Split(args[2], ",")
	o := &natsserver.Options{
		ServerName: fmt.Sprintf("n%d", i+1), Host: "127.0.0.1", NoLog: true,
		JetStream: true, StoreDir: args[1], SyncAlways: true, MaxPayload: 8 << 20, MaxPending: 64 << 20,
		Cluster: natsserver.ClusterOpts{Name: "killfeed-bench", Host: "127.0.0.1"},
	}
	if o.Port, err = strconv.Atoi(ports[i]); err != nil {
		return err
	}
	if o.Cluster.Port, err = strconv.Atoi(ports[natsServers+i]); err != nil {
		return err
	}
	var routes []string
	for j, port := range ports[natsServers:] {
		if j != i {
			routes = append(routes, "nats://127.0.0.1:"+port)
		}
	}
	o.Routes = natsserver.RoutesFromStr(strings.Join(routes, ","))
	s, err := natsserver.NewServer(o)
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		return fmt.Errorf("server %d takes no connections: is port %s in use?", i+1, ports[i])
	}
	if err := os.WriteFile(args[3], []byte("127.0.0.1:"+ports[i]), 0o600); err != nil {
		return err
	}
	s.WaitForShutdown()
	return nil
}
