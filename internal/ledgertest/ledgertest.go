// Package ledgertest has the tests of a feed run on either ledger, unchanged: with TEST_LEDGER=jetstream in the environment their feeds
// are nodes of a cluster on three real NATS servers, which run inside the test's process and sync every write. Without it they are feeds
// of one node.
//
// In fake time a feed is always of one node: servers do not know of it. Tests that say nothing of a cluster say why, by Alone.
package ledgertest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"killfeed"
	"killfeed/internal/natstest"
	"killfeed/jetstream"
)

// Shared tells whether the tests run on a cluster.
func Shared() bool { return os.Getenv("TEST_LEDGER") == "jetstream" }

// Alone skips a test that is only of a feed of one node.
func Alone(t testing.TB, why string) {
	t.Helper()
	if Shared() {
		t.Skip("not on a cluster: " + why)
	}
}

// servers are those of the process, started by the first test that wants them. They end with the process; its temporary files are
// removed by Main.
var servers struct {
	sync.Mutex
	conn  *nats.Conn
	dirs  []string
	nodes int
	made  map[killfeed.Epoch]bool
}

// Main runs a package's tests, and removes what the servers have written.
func Main(m *testing.M) {
	code := m.Run()
	for _, dir := range servers.dirs {
		_ = os.RemoveAll(dir) // the servers still run, and end with the process
	}
	os.Exit(code)
}

// process is a testing.TB for what lives as long as the process.
type process struct{ testing.TB }

func (process) Cleanup(func()) {}
func (process) Helper()        {}

func (process) TempDir() string {
	dir, err := os.MkdirTemp("", "ledgertest")
	if err != nil {
		panic(err)
	}
	servers.dirs = append(servers.dirs, dir)
	return dir
}

// Ledger is what the feed on the store is opened with: nil, or the ledger of a node of a cluster whose stream has what the store has.
// The feed closes it. Stores with one epoch share a stream: a log that is opened again, and another node's.
func Ledger(t testing.TB, store killfeed.Store) killfeed.Ledger {
	t.Helper()
	if !Shared() || fake() {
		return nil
	}
	servers.Lock()
	defer servers.Unlock()
	if servers.conn == nil {
		servers.conn, servers.made = natstest.Start(process{t}, 3).Conn(process{t}), map[killfeed.Epoch]bool{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	servers.nodes++
	st := store.State()
	o := jetstream.Options{
		Name: "t" + string(st.Epoch), Node: fmt.Sprintf("node-%d", servers.nodes),
		Timing: jetstream.Timing{Beat: 50 * time.Millisecond, Hold: 300 * time.Millisecond, Take: 500 * time.Millisecond, Look: time.Second},
	}
	if !servers.made[st.Epoch] {
		if err := jetstream.Create(ctx, servers.conn, o, jetstream.Plan{Epoch: st.Epoch, FirstSeq: uint64(st.First)}); err != nil {
			t.Fatal(err)
		}
		if _, err := jetstream.MoveIn(ctx, servers.conn, store, nil, o, func(_, _ uint64) {}); err != nil {
			t.Fatal(err)
		}
		servers.made[st.Epoch] = true
	}
	l, err := jetstream.Open(ctx, servers.conn, store, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fake tells whether time is: in a bubble it begins in 2000.
func fake() bool { return time.Now().Year() < 2020 }

// Leading waits until the feed's node leads, as who collects must.
func Leading(t testing.TB, f *killfeed.Feed) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); Shared() && !fake() && f.Leads() != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the node does not lead")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
