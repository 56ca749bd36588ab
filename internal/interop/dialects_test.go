//go:build unix

package interop

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"killfeed/storetest"
)

// languages are those that the examples are written in, which are their directories as well.
var languages = []string{"js", "py"}

// needPython returns the path of a Python with which the scripts can run.
func needPython(t *testing.T) string {
	t.Helper()
	python := need(t, "python3")
	if out, err := exec.Command(python, "-c", "import sys; sys.exit(sys.version_info < (3, 8))").CombinedOutput(); err != nil {
		missing(t, "python3 is too old, or does not run: want 3.8 or newer: %v\n%s", err, out)
	}
	return python
}

// example is a running client of an older service.
type example struct {
	*process
	name string
}

func startExample(t *testing.T, language, name string, args ...string) *example {
	t.Helper()
	script := fmt.Sprintf("%s/%s.%[1]s", language, name)
	args = append([]string{script}, args...)
	if language == "py" {
		return &example{start(t, needPython(t), append([]string{"-B"}, args...)...), script} // it would write beside the scripts
	}
	return &example{start(t, needNode(t), args...), script}
}

// mail is what examples read of a killmail.
type mail struct {
	ID           int64
	Hash         string
	System, Ship uint32
	Blow         uint32 // the ship of who dealt it
	Time         string
}

// killmails are those of the log.
func (s *server) killmails(t *testing.T) (all []mail) {
	t.Helper()
	for _, e := range s.log(t) {
		var k struct {
			ID     int64  `json:"killmail_id"`
			Time   string `json:"killmail_time"`
			System uint32 `json:"solar_system_id"`
			Victim struct {
				Ship uint32 `json:"ship_type_id"`
			}
			Attackers []struct {
				FinalBlow bool   `json:"final_blow"`
				Ship      uint32 `json:"ship_type_id"`
			}
			ZKB struct{ Hash string }
		}
		if err := json.Unmarshal(e.Killmail, &k); err != nil {
			t.Fatal(err)
		}
		m := mail{ID: k.ID, Hash: k.ZKB.Hash, System: k.System, Ship: k.Victim.Ship, Time: k.Time}
		for _, a := range k.Attackers {
			if a.FinalBlow {
				m.Blow = a.Ship
			}
		}
		all = append(all, m)
	}
	return all
}

// in are those that happened in a system; in all, when it is 0.
func in(system uint32, all []mail) []mail {
	return slices.DeleteFunc(slices.Clone(all), func(m mail) bool { return system != 0 && m.System != system })
}

// shown is what an example says.
type shown struct {
	On                 string
	Connection, Count  int
	Killmail           int64
	Hash, URL          string
	System, Ship, Blow uint32
	Time               string
	Preload            bool
	Status             int
	Code, Reason       string
}

// is tells whether a killmail was shown, in everything that the example shows.
func (k shown) is(m mail) bool {
	return k.Killmail == m.ID && k.Hash == m.Hash && k.Ship == m.Ship && (k.System == 0 || k.System == m.System) &&
		(k.Blow == 0 || k.Blow == m.Blow) && (k.Time == "" || k.Time == m.Time) &&
		(k.URL == "" || k.URL == fmt.Sprintf("https://zkillboard.com/kill/%d/", m.ID))
}

// next takes what is said next of a channel.
func (x *example) next(t *testing.T, channel string) (k shown) {
	t.Helper()
	x.take(t, channel, &k)
	return k
}

// await takes what is said next, which has to be this.
func (x *example) await(t *testing.T, channel, on string) shown {
	t.Helper()
	k := x.next(t, channel)
	if k.On != on {
		t.Fatalf("%s says %+v, want %s", x.name, k, on)
	}
	return k
}

// follow takes these killmails, one after the other, past what the example says when there is none or the server is away.
func (x *example) follow(t *testing.T, want []mail) {
	t.Helper()
	for i, m := range want {
		k := x.next(t, "")
		for slices.Contains([]string{"nothing", "open", "error"}, k.On) {
			k = x.next(t, "")
		}
		if k.On != "killmail" || !k.is(m) {
			t.Fatalf("%s says %+v, want %+v, which is %d of %d", x.name, k, m, i+1, len(want))
		}
	}
}

// collect takes killmails in any order, each of which has to come once.
func (x *example) collect(t *testing.T, want []mail) {
	t.Helper()
	left := slices.Clone(want)
	for len(left) > 0 {
		k := x.await(t, "", "killmail")
		i := slices.IndexFunc(left, k.is)
		if i < 0 {
			t.Fatalf("%s says %+v, want one of %+v", x.name, k, left)
		}
		left = slices.Delete(left, i, i+1)
	}
}

// Clients of services whose protocols keep a place get everything, once and in order, also through a restart of the server
// that comes while much is going on.
func TestDialects(t *testing.T) {
	t.Parallel()
	for _, d := range []struct {
		name string
		args func(s *server, language string) []string
		// ready is what an example says when it has its place.
		ready string
		// had is how many of the three killmails that were there before it passes over.
		had int
		// calm clients wait a while between any two killmails.
		calm bool
		// only is a system, when an example follows no more than this.
		only map[string]uint32
	}{
		{
			name: "r2z2", ready: "pointer", had: 2, calm: true, // the first, because it takes longest
			args: func(s *server, _ string) []string { return []string{"http://" + s.addr} },
		},
		{
			name: "redisq", ready: "nothing", had: 3,
			args: func(s *server, language string) []string {
				path := map[string]string{"js": "/listen.php", "py": "/redisq/"}[language] // zKillboard's, EVE-KILL's
				return []string{"http://" + s.addr + path, "example " + language}
			},
		},
		{
			name: "evekill_poll", ready: "head", had: 3,
			args: func(s *server, language string) []string {
				return []string{"http://" + s.addr + map[string]string{"js": "/api", "py": ""}[language]}
			},
		},
		{
			name: "evekill_stream", ready: "open", had: 3, only: map[string]uint32{"py": jita},
			args: func(s *server, language string) []string {
				topics := map[string]string{"js": "all", "py": fmt.Sprintf("system.%d", jita)}[language]
				return []string{"http://" + s.addr + "/api", topics}
			},
		},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.insert(t, jita, hek, jita)
			var examples []*example
			for _, language := range languages {
				x := startExample(t, language, d.name, d.args(s, language)...)
				x.await(t, "", d.ready)
				examples = append(examples, x)
			}
			had := d.had
			follow := func() {
				t.Helper()
				all := s.killmails(t)
				for i, x := range examples {
					x.follow(t, in(d.only[languages[i]], all[had:]))
				}
				had = len(all)
			}
			s.insert(t, jita, hek, perimet, jita)
			follow()
			stop := func() {}
			if !d.calm {
				stop = s.write(t, jita, hek)
			}
			s.stop(t)
			s.start(t)
			stop()
			s.insert(t, hek, jita)
			follow()
			if d.name != "r2z2" {
				s.insert(t, jita) // what came twice would come before it
				follow()
				return
			}
			for _, language := range languages {
				x := startExample(t, language, d.name, append(d.args(s, language), "history")...)
				x.follow(t, s.killmails(t))
				x.await(t, "", "end")
			}
		})
	}
}

// Listeners of zKillboard's websocket, which keeps no place, get everything that comes while they are connected, once on each
// channel and in order, and come back after a restart.
func TestDialectWebsocket(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.insert(t, jita)
	url, system := "ws://"+s.addr+"/websocket/", fmt.Sprintf("system:%d", jita)
	type listener struct {
		*example
		channel string
		only    uint32
		heard   []shown
	}
	var listeners []*listener
	for _, language := range languages {
		listeners = append(listeners, &listener{example: startExample(t, language, "killstream", url)})
		little := startExample(t, language, "littlekill", url, "all:*", system)
		listeners = append(listeners, &listener{example: little, channel: "all:*"})
		listeners = append(listeners, &listener{example: little, channel: system, only: jita})
	}
	listen := func(until func(k shown) bool) {
		t.Helper()
		for _, l := range listeners {
			for {
				k := l.next(t, l.channel)
				if k.On != "killmail" && k.On != "littlekill" {
					t.Fatalf("%s says %+v, want a killmail", l.name, k)
				}
				if l.heard = append(l.heard, k); until(k) {
					break
				}
			}
		}
	}
	stop := s.write(t, jita, hek)
	listen(func(k shown) bool { return k.Connection == 1 })
	s.stop(t)
	s.start(t)
	listen(func(k shown) bool { return k.Connection > 1 })
	stop()
	for range 2 { // the second, because what came twice would come before it
		s.insert(t, jita)
		last := s.killmails(t)
		listen(func(k shown) bool { return k.Killmail == last[len(last)-1].ID })
	}
	all := s.killmails(t)
	for _, l := range listeners {
		events, at := in(l.only, all), 0
		for i, k := range l.heard {
			if i == 0 || k.Connection != l.heard[i-1].Connection { // what came before is none of a connection's
				at += max(0, slices.IndexFunc(events[at:], k.is))
			}
			if at == len(events) || !k.is(events[at]) {
				want := events[min(at, len(events)-1)]
				t.Fatalf("%s on %q says %+v, number %d of %d, want %+v", l.name, l.channel, k, i+1, len(l.heard), want)
			}
			at++
		}
		if at != len(events) {
			t.Errorf("%s on %q has %d killmails fewer than the log", l.name, l.channel, len(events)-at)
		}
	}
}

// newRecent is a server of killmails of the last hour.
func newRecent(t *testing.T) *server {
	s := newServer(t)
	s.mails = storetest.NewMaker(storetest.MakerOptions{Attackers: 2, Start: time.Now().UTC().Add(-time.Hour)})
	return s
}

// Clients of wanderer-kills' channel get what was in their systems, and then what comes, each once; when they join anew after a
// restart, what they missed is in what was.
func TestDialectWanderer(t *testing.T) {
	t.Parallel()
	s := newRecent(t)
	s.insert(t, jita, hek, thera, jita)
	base, systems := "ws://"+s.addr, []string{fmt.Sprint(jita), fmt.Sprint(hek)}
	js := startExample(t, "js", "wanderer", base, fmt.Sprintf(`{"systems":[%d],"preload":{"enabled":true,"limit_per_system":50,`+
		`"since_hours":72,"delivery_batch_size":10,"delivery_interval_ms":500}}`, jita), systems[1])
	py := startExample(t, "py", "wanderer", append([]string{base}, systems...)...)
	of := func(systems ...uint32) []mail {
		t.Helper()
		return slices.DeleteFunc(s.killmails(t), func(m mail) bool { return !slices.Contains(systems, m.System) })
	}
	past := of(jita, hek)
	for _, x := range []*example{js, py} {
		x.await(t, "", "connected")
		x.collect(t, past)
		for _, on := range []string{"subscribed", "status"} {
			if k := x.await(t, "replies", on); k.Count != 2 {
				t.Errorf("%s says %+v, want 2 systems", x.name, k)
			}
		}
	}
	s.insert(t, hek, thera, jita)
	for _, x := range []*example{js, py} {
		x.follow(t, of(jita, hek)[len(past):])
		for counts := map[uint32]int{}; counts[jita] != 3 || counts[hek] != 2; {
			k := x.await(t, "counts", "count")
			if counts[k.System] = k.Count; k.Count > 3 {
				t.Fatalf("%s says %+v, want 3 at most", x.name, k)
			}
		}
	}

	s.stop(t)
	py.await(t, "", "closed")
	s.start(t)
	s.insert(t, jita, hek)
	py = startExample(t, "py", "wanderer", append([]string{base}, systems...)...)
	for x, all := range map[*example][]mail{js: of(jita), py: of(jita, hek)} { // it joins anew with the params of the beginning
		x.await(t, "", "connected")
		x.collect(t, all)
	}
	s.insert(t, jita)
	last := of(jita)
	for _, x := range []*example{js, py} {
		if k := x.await(t, "", "killmail"); k.Preload || !k.is(last[len(last)-1]) {
			t.Errorf("%s says %+v, want %+v", x.name, k, last[len(last)-1])
		}
	}
}

// Clients of wanderer-kills' REST API find everything.
func TestDialectREST(t *testing.T) {
	t.Parallel()
	s := newRecent(t)
	s.insert(t, jita, hek, jita)
	s.stop(t)
	s.start(t)
	s.insert(t, jita)
	all := s.killmails(t)
	newest := in(jita, all)
	slices.Reverse(newest)
	for _, language := range languages {
		x := startExample(t, language, "wanderer_rest", "http://"+s.addr+"/api/v1", fmt.Sprint(jita), fmt.Sprint(all[1].ID))
		for _, on := range []string{"system", "systems", "cached"} {
			for _, m := range newest {
				if k := x.await(t, "", on); !k.is(m) {
					t.Errorf("%s says %+v, want %+v", x.name, k, m)
				}
			}
		}
		if k := x.await(t, "", "count"); k.Count != len(newest) {
			t.Errorf("%s counts %d, want %d", x.name, k.Count, len(newest))
		}
		if k := x.await(t, "", "one"); !k.is(all[1]) {
			t.Errorf("%s says %+v, want %+v", x.name, k, all[1])
		}
		for _, want := range []shown{{Status: 404, Code: "NOT_FOUND"}, {Status: 400, Code: "INVALID_SYSTEM_ID"}} {
			if k := x.await(t, "", "error"); k.Status != want.Status || k.Code != want.Code || strings.TrimSpace(k.Reason) == "" {
				t.Errorf("%s says %+v, want %d %s", x.name, k, want.Status, want.Code)
			}
		}
	}
}
