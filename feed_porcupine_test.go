package killfeed_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
	"killfeed/storetest"
)

// The calls of one client, made at the same time by several goroutines while events come in, behave as if they had been made
// one after another, each at some moment between its call and its return.

// call is one operation of a history.
type call struct {
	what    string // insert, fetch, next, commit
	client  string
	systems [2]bool // which of A and B it reads
	limit   int
	manual  bool
	at      int // of commit: on A
	// from, where there are several nodes, is 1 more than the head that the node had at least: it may read the log as it was then, or at any moment
	// until it is answered. The client's offsets are as they are all the same.
	from int
}

// answer is what it returned: event ids, or for insert the new head, or for commit the offset.
type answer struct {
	ids  [8]int
	n    int
	more bool
}

// positions is the state of one client and of the log: event i is on A when i is odd and on B when it is even, so the head
// says it all.
type positions struct {
	head int
	at   [2]int // offsets on A and B
}

func (p positions) step(c call) (answer, positions) {
	var a answer
	switch c.what {
	case "insert":
		p.head++
		a.ids[0], a.n = p.head, 1
		return a, p
	case "commit":
		p.at[0] = max(p.at[0], min(c.at, p.head)) // the caller commits no more than it was told of
		a.ids[0], a.n = p.at[0], 1
		return a, p
	}
	passed := p.at
	for id := 1; id <= p.head; id++ {
		on := (id + 1) % 2
		if !c.systems[on] || id <= p.at[on] {
			continue
		}
		if a.n == c.limit {
			a.more = c.what == "fetch"
			break
		}
		a.ids[a.n] = id
		a.n++
		passed[on] = id
	}
	if !c.manual {
		p.at = passed
	}
	return a, p
}

var linearizable = porcupine.Model{
	// Clients share the log only: each is checked with the inserts.
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		clients := map[string]int{}
		for _, op := range history {
			if c := op.Input.(call).client; c != "" {
				if _, ok := clients[c]; !ok {
					clients[c] = len(clients)
				}
			}
		}
		parts = make([][]porcupine.Operation, len(clients))
		for _, op := range history {
			c := op.Input.(call).client
			for client, i := range clients {
				if c == "" || c == client {
					parts[i] = append(parts[i], op)
				}
			}
		}
		return parts
	},
	Init: func() any { return positions{} },
	Step: func(state, input, output any) (bool, any) {
		p, c := state.(positions), input.(call)
		want, next := p.step(c)
		for head := c.from - 1; want != output.(answer) && c.from > 0 && head < p.head; head++ {
			earlier := p
			earlier.head = head
			want, next = earlier.step(c)
			next.head = p.head
		}
		return want == output.(answer), next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

// yielding is a Store that gives way to other goroutines in the middle of reads, so that calls really overlap.
type yielding struct{ killfeed.Store }

func (y yielding) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	giveWay()
	defer giveWay()
	return y.Store.Find(dst, q)
}

func (y yielding) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	defer giveWay()
	return y.Store.Read(ids, yield)
}

func giveWay() {
	for range rand.IntN(8) {
		runtime.Gosched()
	}
}

func TestLinearizable(t *testing.T) {
	const (
		rounds  = 40
		inserts = 20
		each    = 10 // calls of each caller
	)
	run := func(t *testing.T, nodes func() []*feed) {
		for round := range rounds {
			history := record(t, nodes(), inserts, each, uint64(round))
			if len(history) >= 150 {
				t.Fatalf("a history of %d calls is too long to check", len(history))
			}
			switch porcupine.CheckOperationsTimeout(linearizable, history, 10*time.Second) {
			case porcupine.Illegal:
				slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
				for _, op := range history {
					t.Logf("%d to %d by %d: %s", op.Call, op.Return, op.ClientId, linearizable.DescribeOperation(op.Input, op.Output))
				}
				t.Fatalf("round %d: the calls behave like no sequence of calls", round)
			case porcupine.Unknown:
				t.Logf("round %d: not decided in time", round)
			}
		}
	}
	alone := func(store killfeed.Store) []*feed { return []*feed{start(t, yielding{store}, killfeed.Options{})} }
	t.Run("model", func(t *testing.T) { run(t, func() []*feed { return alone(storetest.NewModel()) }) })
	t.Run("pebble", func(t *testing.T) { run(t, func() []*feed { return alone(pebbles{vfs.NewMem()}.open(t)) }) })
	t.Run("three nodes", func(t *testing.T) {
		run(t, func() (nodes []*feed) {
			h := newHub()
			for range 3 {
				store := yielding{storetest.NewModel()}
				nodes = append(nodes, start(t, store, killfeed.Options{Ledger: h.join(store)}))
			}
			return nodes
		})
	})
}

// record lets two clients, two callers each, and one source of events loose on a feed of one node or more. Before a call, its node has what
// the answers before it told of: so callers do who send the header Killfeed-Head.
func record(t *testing.T, nodes []*feed, inserts, each int, seed uint64) []porcupine.Operation {
	f := nodes[0]
	for _, client := range []string{"one", "two"} {
		f.is(f.fetch(client, in(A, B)), "nothing") // so that its position is the start of the log
	}
	var head atomic.Uint64 // the greatest that anybody was told of
	tell := func(id uint64) {
		for old := head.Load(); old < id && !head.CompareAndSwap(old, id); old = head.Load() {
		}
	}
	var (
		mu      sync.Mutex
		history []porcupine.Operation
		running sync.WaitGroup
	)
	began := time.Now()
	do := func(caller int, c call, act func() answer) {
		op := porcupine.Operation{ClientId: caller, Input: c, Call: int64(time.Since(began))}
		op.Output = act()
		op.Return = int64(time.Since(began))
		mu.Lock()
		defer mu.Unlock()
		history = append(history, op)
	}
	running.Go(func() {
		for i := range inserts {
			do(0, call{what: "insert"}, func() answer {
				f.insert([]uint32{A, B}[i%2])
				tell(uint64(i + 1))
				return answer{ids: [8]int{i + 1}, n: 1}
			})
		}
	})
	for caller := 1; caller <= 4; caller++ {
		rnd := rand.New(rand.NewPCG(seed, uint64(caller)))
		client := []string{"one", "two"}[caller%2]
		running.Go(func() {
			told := 0 // the greatest event that this caller knows of
			for range each {
				c := call{what: "fetch", client: client, limit: 1 + rnd.IntN(4), manual: rnd.IntN(4) == 0}
				c.systems = [][2]bool{{true, false}, {false, true}, {true, true}}[rnd.IntN(3)]
				switch rnd.IntN(5) {
				case 0:
					c = call{what: "commit", client: client, at: rnd.IntN(told + 1)}
				case 1, 2:
					c.what, c.limit = "next", 1
				}
				f := nodes[rnd.IntN(len(nodes))]
				if len(nodes) > 1 && c.what != "commit" {
					c.from = int(head.Load()) + 1
				}
				do(caller, c, func() (a answer) {
					if err := f.Await(t.Context(), killfeed.EventID(head.Load())); err != nil {
						t.Error(err)
					}
					defer func() { tell(uint64(told)) }()
					return perform(f, c, &told)
				})
			}
		})
	}
	running.Wait()
	for _, f := range nodes {
		f.close()
	}
	return history
}

// perform makes the call.
func perform(f *feed, c call, told *int) (a answer) {
	if c.what == "commit" {
		got, err := f.Commit(context.Background(), c.client, offset(A, killfeed.EventID(c.at)))
		if err != nil {
			f.Error(err)
		}
		a.ids[0], a.n = int(got[killfeed.System(A)]), 1
		return a
	}
	var systems []uint32
	for i, s := range []uint32{A, B} {
		if c.systems[i] {
			systems = append(systems, s)
		}
	}
	r := in(systems...)
	r.Limit, r.Manual = c.limit, c.manual
	read := f.Fetch
	if c.what == "next" {
		read = f.Next
	}
	got, err := read(context.Background(), c.client, r)
	if err != nil {
		f.Error(err)
	}
	for _, e := range got.Events {
		a.ids[a.n] = int(e.ID)
		a.n++
	}
	a.more = got.More
	*told = max(*told, int(got.Head))
	return a
}
