package wanderer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"killfeed"
	"killfeed/web"
)

// atOnce bounds the systems that are preloaded in one pull, between which other connections have their turn.
const atOnce = 16

// Pull is web.Channel's.
func (l *lobby) Pull(to web.Sink) {
	if err := l.pull(to); err != nil {
		l.lost(err) // without mu, which Left takes
	}
}

// Delivered is web.Channel's: there are no offsets to move.
func (l *lobby) Delivered() {}

// pull puts what comes next into the sink: what is to be preloaded, then killmails, then numbers.
func (l *lobby) pull(to web.Sink) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if l.gap != nil {
		l.push(to, "gap", appendGap(nil, l.gap))
		l.gap = nil
	}
	if len(l.waits.systems) > 0 || l.waits.done > 0 || l.waits.started {
		if err := l.preload(ctx, to); err != nil {
			return err
		}
		l.wake() // for the rest of it, and for what came meanwhile
		return nil
	}
	if l.sub != nil {
		if err := l.news(ctx, to); err != nil {
			return err
		}
	}
	if l.due.Load() && to.Room() > 0 {
		return l.heartbeat(ctx, to)
	}
	return nil
}

// push puts a push into the sink.
func (l *lobby) push(to web.Sink, event string, payload []byte) {
	before, after := l.link.Around(event)
	to.Text(before, payload, after)
}

// preload puts some of what is to be preloaded into the sink. The caller holds mu.
func (l *lobby) preload(ctx context.Context, to web.Sink) error {
	w := &l.waits
	if !w.started {
		w.started = true
		all, done, current := len(w.systems)+w.done, w.done, "null"
		if len(w.systems) > 0 {
			current = strconv.FormatUint(uint64(w.systems[0].id), 10)
		}
		l.push(to, "preload_status", fmt.Appendf(nil, // each number by two names: programs read the one or the other
			`{"status":"started","systems_total":%d,"systems_processed":%d,"total_systems":%[1]d,"systems_complete":%[2]d,"current_system":%s}`,
			all, done, current))
	}
	for n := 0; n < atOnce && len(w.systems) > 0 && to.Room() > 0; n++ {
		next := w.systems[0]
		kills, _, err := l.newest(ctx, killfeed.Past{
			Topics: []killfeed.Topic{killfeed.System(next.id)}, Before: next.before, Limit: l.past.limit, Since: time.Now().Add(-l.past.since),
		})
		if err != nil {
			return err
		}
		w.systems = w.systems[1:]
		w.done++
		w.kills += len(kills)
		if len(kills) == 0 {
			continue
		}
		b := strconv.AppendUint([]byte(`{"system_id":`), uint64(next.id), 10)
		b = appendNow(append(appendKills(append(b, `,"killmails":`...), kills), `,"timestamp":`...))
		to.Text(l.before, append(b, `,"preload":true}`...), l.after)
		if err := l.count(ctx, to, next.id, next.before-1); err != nil {
			return err
		}
	}
	if len(w.systems) == 0 {
		b := strconv.AppendInt([]byte(`{"total_kills":`), int64(w.kills), 10)
		b = strconv.AppendInt(append(b, `,"systems_processed":`...), int64(w.done), 10)
		b = appendNow(append(b, `,"errors":[],"timestamp":`...))
		if l.sub != nil {
			b = append(l.sub.Cursor().Append(append(b, `,"cursor":"`...)), '"')
		}
		l.push(to, "preload_complete", append(b, '}'))
		*w = waiting{}
	}
	return nil
}

// news puts what comes next in the log into the sink, and the numbers that it changes. The caller holds mu.
func (l *lobby) news(ctx context.Context, to web.Sink) error {
	room := l.rooms.Get().(*[maxRead]killfeed.Event)
	d, err := l.sub.Read(room[:], min(maxRead, max(1, to.Room())))
	defer func() {
		clear(d.Events) // which are in room
		l.rooms.Put(room)
	}()
	if err != nil {
		return err
	}
	if d.Gap != nil {
		l.push(to, "gap", appendGap(nil, d.Gap))
	}
	type changed struct {
		system uint32
		last   killfeed.EventID
	}
	var systems []changed
	for i := range d.Events {
		e := &d.Events[i]
		if !expressible(e) {
			continue
		}
		_, followed := l.systems[e.SystemID]
		k := l.kill(e)
		if l.sieved && !followed && !slices.ContainsFunc(k.characters, func(id uint32) bool { _, ok := l.characters[id]; return ok }) {
			continue
		}
		to.Text(l.before, k.update, l.after)
		if !followed {
			continue
		}
		if at := slices.IndexFunc(systems, func(c changed) bool { return c.system == e.SystemID }); at >= 0 {
			systems[at].last = e.ID
		} else {
			systems = append(systems, changed{e.SystemID, e.ID})
		}
	}
	for _, c := range systems {
		if err := l.count(ctx, to, c.system, c.last); err != nil {
			return err
		}
	}
	if d.More {
		l.wake()
	}
	return nil
}

// count puts the number of a system into the sink, events up to through included. The caller holds mu.
func (l *lobby) count(ctx context.Context, to web.Sink, system uint32, through killfeed.EventID) error {
	n, err := l.counts.of(ctx, system, through)
	if err != nil {
		return err
	}
	l.tell(to, system, n)
	return nil
}

// tell puts a number into the sink. The caller holds mu.
func (l *lobby) tell(to web.Sink, system uint32, n int) {
	if _, followed := l.systems[system]; followed && n > 0 {
		l.told[system] = n
	} else {
		delete(l.told, system)
	}
	b := strconv.AppendUint([]byte(`{"system_id":`), uint64(system), 10)
	b = strconv.AppendInt(append(b, `,"count":`...), int64(n), 10)
	l.push(to, "kill_count_update", append(appendNow(append(b, `,"timestamp":`...)), '}'))
}

// heartbeat tells the numbers that have changed by the passing of time, or else one that has not. The caller holds mu.
func (l *lobby) heartbeat(ctx context.Context, to web.Sink) error {
	now := time.Now()
	found, err := l.counts.among(ctx, sortedKeys(l.told), now.Add(-window))
	if err != nil {
		return err
	}
	told := false
	for _, system := range sortedKeys(l.told) {
		if n := found[system]; n != l.told[system] {
			if to.Room() == 0 {
				l.wake() // it is still due
				return nil
			}
			l.tell(to, system, n)
			told = true
		}
	}
	if !told {
		system := uint32(someSystem)
		if len(l.systems) > 0 {
			system = sorted(l.systems)[0]
		}
		if err := l.count(ctx, to, system, 0); err != nil {
			return err
		}
	}
	l.due.Store(false)
	l.beat.Reset(beatEvery)
	return nil
}

// lost ends a channel that cannot be read any more; its client joins again.
func (l *lobby) lost(err error) {
	l.mu.Lock()
	left := l.left
	l.mu.Unlock()
	if left || errors.Is(err, killfeed.ErrClosed) { // the server is about to stop: its connections are closed
		return
	}
	l.log.Error("a channel could not be read; its client may join again", "topic", lobbyTopic, "err", err)
	l.link.Crash()
}

func sortedKeys(m map[uint32]int) []uint32 {
	keys := make([]uint32, 0, len(m))
	for id := range m {
		keys = append(keys, id)
	}
	slices.Sort(keys)
	return keys
}

// appendNow appends the time in quotes.
func appendNow(b []byte) []byte {
	return append(time.Now().UTC().AppendFormat(append(b, '"'), momentLayout), '"')
}

// appendGap appends a gap as an object.
func appendGap(b []byte, g *killfeed.Gap) []byte {
	b = append(append(append(b, `{"reason":"`...), g.Reason...), '"')
	if g.From > 0 {
		b = strconv.AppendUint(append(b, `,"from":`...), uint64(g.From), 10)
		b = strconv.AppendUint(append(b, `,"to":`...), uint64(g.To), 10)
	}
	return append(b, '}')
}
