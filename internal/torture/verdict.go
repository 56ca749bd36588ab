package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// verdict is what is looked at when all have healed and nobody uses the nodes any more.
type verdict struct {
	*fleet
	crowd *crowd
	judge *judge
}

// reach looks at everything, and ends the servers.
func (v *verdict) reach(ctx context.Context) {
	v.judge.say("checking")
	states := v.agreed(ctx)
	v.acked()
	v.cursors(ctx)
	v.exports(ctx, states)
	v.again(ctx)
	if ctx.Err() == nil {
		v.stop()
	}
}

// agreed waits until all nodes have one head, and compares their chains.
func (v *verdict) agreed(ctx context.Context) (states []status) {
	var last error
	for deadline := time.Now().Add(patience); ctx.Err() == nil && time.Now().Before(deadline); sleep(ctx, 100*time.Millisecond) {
		states, last = nil, nil
		for host := servers; host < hosts; host++ {
			st, err := v.status(ctx, host)
			if err != nil {
				last = err
			}
			states = append(states, st)
		}
		for _, st := range states {
			if last == nil && (st.Log.Head != states[0].Log.Head || st.Log.Head < v.judge.top()) {
				last = fmt.Errorf("heads %d, %d, %d where the last event told of is %d", states[0].Log.Head, states[1].Log.Head,
					states[2].Log.Head, v.judge.top())
			}
		}
		if last == nil {
			break
		}
	}
	if last != nil {
		v.judge.violate("logs differ", "the nodes do not come to one head: %v", last)
		return states
	}
	if top := v.judge.top(); states[0].Log.Head != top {
		v.judge.violate("holes", "the head is %d, and no reader has seen more than %d", states[0].Log.Head, top)
	}
	for i, st := range states {
		if st.Cluster.Chain != states[0].Cluster.Chain || st.Cluster.Chain == "" || st.Log.Epoch != states[0].Log.Epoch {
			v.judge.violate("logs differ", "node %s has chain %s and epoch %s, node %s %s and %s", v.node(i), st.Cluster.Chain, st.Log.Epoch,
				v.node(0), states[0].Cluster.Chain, states[0].Log.Epoch)
		}
	}
	v.judge.say("chain %s", states[0].Cluster.Chain)
	return states
}

func (v *verdict) node(i int) string { return v.all[servers+i].name }

// acked checks that every acknowledged insert is there under its id, once, and that no id was left out. Streams have shown each event.
func (v *verdict) acked() {
	j := v.judge
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := uint64(1); id <= j.head; id++ {
		if _, ok := j.events[id]; !ok {
			j.violateLocked("holes", "nobody has seen event %d", id)
		}
	}
	firsts := map[int64]int{}
	for _, m := range j.events {
		if !m.update {
			firsts[m.killmail]++
		}
	}
	unacked := 0
	for id, f := range j.killmails {
		switch {
		case f.acked && firsts[id] != 1:
			j.violateLocked("acknowledged inserts lost", "killmail %d was acknowledged, and has %d events", id, firsts[id])
		case f.acked && f.first != 0 && j.events[f.first].killmail != id:
			j.violateLocked("acknowledged inserts lost", "killmail %d was acknowledged as event %d, which is killmail %d", id, f.first,
				j.events[f.first].killmail)
		case firsts[id] > 1:
			j.violateLocked("a killmail twice", "killmail %d has %d events", id, firsts[id])
		case !f.acked:
			unacked++
		}
	}
	j.counts["killmails never acknowledged"] = unacked
}

// cursors has the clients with manual commit read to the end, and checks that they have seen everything.
func (v *verdict) cursors(ctx context.Context) {
	for _, r := range v.crowd.readers {
		if r.kind != "manual" {
			continue
		}
		for ctx.Err() == nil {
			var p page
			host := someNode(r.rnd)
			path := fmt.Sprintf("/api/killfeed?topics=all&updates=1&client_id=%s&limit=500&commit=manual", r.name)
			if _, _, err := v.call(ctx, host, http.MethodGet, path, nil, nil, &p); err != nil {
				v.judge.violate("refused", "at the end: %v", err)
				return
			}
			if len(p.Events) == 0 {
				break
			}
			_ = r.handle(ctx, host, p.Events) // commits somewhere
			if err := r.commit(ctx, someNode(r.rnd), p.Events[len(p.Events)-1].EventID); err != nil {
				v.judge.violate("refused", "at the end: %v", err)
				return
			}
		}
		for id := uint64(1); id <= v.judge.top(); id++ {
			if _, ok := r.got[id]; !ok {
				v.judge.violate("events skipped", "client %s never got event %d", r.name, id)
			}
		}
	}
}

// exports reads all that each node has, by cursor, and compares it byte by byte.
func (v *verdict) exports(ctx context.Context, states []status) {
	from := uint64(1)
	for host := servers; host < hosts; host++ {
		if st, err := v.status(ctx, host); err == nil {
			from = max(from, st.Log.First)
		}
	}
	var sums [nodes][sha256.Size]byte
	for i := range nodes {
		h, next := sha256.New(), from
		for {
			var p struct {
				Events []json.RawMessage `json:"events"`
				Gap    any               `json:"gap"`
			}
			path := fmt.Sprintf("/api/killfeed?topics=all&updates=1&limit=1000&after=%d-%s", next-1, states[i].Log.Epoch)
			if _, _, err := v.call(ctx, servers+i, http.MethodGet, path, nil, nil, &p); err != nil || p.Gap != nil {
				v.judge.violate("refused", "reading the log of node %s behind %d: %v, gap %v", v.node(i), next-1, err, p.Gap)
				return
			}
			if len(p.Events) == 0 {
				break
			}
			for _, text := range p.Events {
				e, err := decode(text)
				if err != nil || e.EventID != next {
					v.judge.violate("holes", "node %s has event %d where %d comes next: %v", v.node(i), e.EventID, next, err)
				}
				v.judge.means(e)
				h.Write(text)
				next = e.EventID + 1
			}
		}
		if next != v.judge.top()+1 {
			v.judge.violate("holes", "the log of node %s ends before event %d, and the last is %d", v.node(i), next, v.judge.top())
		}
		sums[i] = [sha256.Size]byte(h.Sum(nil))
		if !bytes.Equal(sums[i][:], sums[0][:]) {
			v.judge.violate("logs differ", "events %d to %d of nodes %s and %s differ", from, v.judge.top(), v.node(0), v.node(i))
		}
	}
	v.judge.say("events %d to %d: %x", from, v.judge.top(), sums[0][:8])
}

// again inserts everything that was acknowledged at every node once more: each knows it all, with its event.
func (v *verdict) again(ctx context.Context) {
	j := v.judge
	type sent struct {
		id    int64
		first uint64
		text  []byte
	}
	var list []sent
	j.mu.Lock()
	for id, f := range j.killmails {
		if f.acked && f.first != 0 {
			list = append(list, sent{id, f.first, f.json})
		}
	}
	j.mu.Unlock()
	for host := servers; host < hosts; host++ {
		for at := 0; at < len(list) && ctx.Err() == nil; at += 500 {
			part := list[at:min(at+500, len(list))]
			var body []byte
			for _, s := range part {
				body = append(append(body, s.text...), '\n')
			}
			var answer struct {
				Results []struct {
					EventID   uint64 `json:"event_id"`
					Duplicate bool   `json:"duplicate"`
					Update    bool   `json:"update"`
				} `json:"results"`
			}
			if _, _, err := v.call(ctx, host, http.MethodPost, "/api/killmails", body, nil, &answer); err != nil || len(answer.Results) != len(part) {
				j.violate("refused", "inserting again what was acknowledged: %v, %d results", err, len(answer.Results))
				return
			}
			for i, r := range answer.Results {
				if !r.Update && (r.EventID != part[i].first || !r.Duplicate) {
					j.violate("a killmail twice", "killmail %d is event %d and inserting it again at node %s says %+v", part[i].id, part[i].first,
						v.all[host].name, r)
				}
			}
		}
	}
}

// stop ends all nodes and checks their directories.
func (v *verdict) stop() {
	for host := servers; host < hosts; host++ {
		if err := v.all[host].stop(30 * time.Second); err != nil {
			v.judge.violate("clean stop", "%v", err)
		}
	}
	for host := servers; host < hosts; host++ {
		out, err := v.network.output(v.command("check", "--data", v.data(host)))
		if err != nil {
			v.judge.violate("check", "node %s: %v: %s", v.all[host].name, err, out)
			continue
		}
		v.judge.say("node %s: %s", v.all[host].name, bytes.TrimSpace(out))
	}
	for host := range servers {
		if err := v.all[host].stop(30 * time.Second); err != nil {
			v.judge.violate("clean stop", "%v", err)
		}
	}
}
