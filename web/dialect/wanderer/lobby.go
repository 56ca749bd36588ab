package wanderer

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/phoenix"
	"killfeed/web"
)

const (
	// lobbyTopic is the one topic of the channel.
	lobbyTopic = "killmails:lobby"
	// beatEvery is how often the numbers that were told are looked at again, and something is told in any case. Wanderer connects anew
	// after 15 minutes without a killmail or a number.
	beatEvery = 5 * time.Minute
	// patience bounds what a client's message may set off on the disk.
	patience = 30 * time.Second
	// someSystem is what a client that has subscribed to no system is told the number of, so that it hears something: Jita.
	someSystem = 30000142
)

// lobby is one client's channel.
type lobby struct {
	*dialect
	link *phoenix.Link
	wake func() // has it pulled

	// These never change.
	id            string // of the subscription, as the client is told it
	user          string
	begun         time.Time
	past          preload
	backfill      bool
	before, after []byte // around a killmail_update

	due atomic.Bool // it is time for a beat

	mu   sync.Mutex // guards the rest; held through one pull or change of what is subscribed to
	left bool
	beat *time.Timer // nil before the client has joined
	// systems and characters are what is subscribed to.
	systems, characters map[uint32]struct{}
	// sub follows them, or everything if they are more than the topics of a subscription: then sieved is set and what is read is
	// looked at here. nil: there is nothing to follow.
	sub    *killfeed.Subscription
	sieved bool
	gap    *killfeed.Gap // to be told
	waits  waiting
	// told are the systems whose number, other than 0, was told last.
	told map[uint32]int
}

// waiting is what is to be preloaded. Live killmails wait for it: a client that remembers the cursor of one of them has had
// everything before.
type waiting struct {
	systems []waitingSystem
	started bool // the client was told that it begins
	done    int  // systems
	kills   int
}

// waitingSystem is a system whose newest events are to be preloaded, up to and excluding before, which is where the live ones begin.
type waitingSystem struct {
	id     uint32
	before killfeed.EventID
}

// join begins a channel. It is web.Join.
func (d *dialect) join(params []byte, link *phoenix.Link, wake func()) (web.Channel, []byte, error) {
	p, err := parseJoin(params)
	if err != nil {
		return nil, nil, phoenix.Refuse(err.Error())
	}
	l := &lobby{
		dialect: d, link: link, wake: wake, id: newID(), user: p.user, begun: time.Now(), past: p.preload, backfill: p.backfill,
		told: map[uint32]int{},
	}
	l.before, l.after = link.Around("killmail_update")
	l.mu.Lock()
	defer l.mu.Unlock()
	place, err := l.follow(setOf(p.systems), setOf(p.characters.ids), p.after)
	if err == nil && p.after == nil {
		err = l.wait(p.systems, place.Start)
	}
	if err != nil {
		l.stop()
		return nil, nil, d.refused("join", err)
	}
	d.lobbies.Add(1)
	b := append(append(append([]byte(`{"subscription_id":"`), l.id...), `",`...), l.subscribed()...)
	b = append(b, `,"status":"connected"`...)
	b = appendIgnored(b, p.characters.ignored)
	b = append(place.Cursor().Append(append(b, `,"cursor":"`...)), '"')
	if place.Gap != nil {
		b = appendGap(append(b, `,"gap":`...), place.Gap)
	}
	return l, append(b, '}'), nil
}

// newID names a subscription: 22 characters that are safe in an address.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func setOf(ids []uint32) map[uint32]struct{} {
	set := make(map[uint32]struct{}, len(ids))
	for _, id := range ids {
		set[id] = struct{}{}
	}
	return set
}

// follow changes what is subscribed to, and says where what is new begins: everything that comes from place.Start on comes live. After
// an error everything is as it was. The caller holds mu.
//
// More systems and characters than a subscription has topics follow everything, and what is read is looked at here. Several
// subscriptions would return a killmail that is on two of them twice, and in no order.
func (l *lobby) follow(systems, characters map[uint32]struct{}, from *killfeed.Cursor) (place killfeed.Place, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	topics := make([]killfeed.Topic, 0, len(systems)+len(characters))
	for id := range systems {
		topics = append(topics, killfeed.System(id))
	}
	for id := range characters {
		topics = append(topics, killfeed.Topic{Kind: killfeed.KindCharacter, ID: id})
	}
	sieved := len(topics) > killfeed.MaxTopics
	if sieved {
		topics = []killfeed.Topic{killfeed.All()}
	}
	switch {
	case len(topics) == 0:
		l.stop()
		place, err = l.nowhere(from)
	case l.sub == nil:
		var sub *killfeed.Subscription
		sub, place, err = l.feed.Subscribe(ctx, killfeed.Subscriber{
			Read: killfeed.Read{Topics: topics, Start: killfeed.Latest, From: from, NoBackfill: !l.backfill}, Holder: l, Wake: l.wake,
		})
		if err == nil {
			l.sub = sub
		}
	default:
		place, err = l.sub.SetTopics(ctx, topics)
		if err == nil && place.Gap != nil {
			l.gap = place.Gap
		}
	}
	if err != nil {
		return place, err
	}
	l.systems, l.characters, l.sieved = systems, characters, sieved
	return place, nil
}

// nowhere is the place of a client that follows nothing: the head of the log, and, when it comes back with a cursor that is none of
// this log, the gap.
func (l *lobby) nowhere(from *killfeed.Cursor) (killfeed.Place, error) {
	st := l.feed.State()
	p := killfeed.Place{Start: st.Head + 1, Head: st.Head, Epoch: st.Epoch}
	if from != nil && !st.Holds(*from) {
		p.Gap = &killfeed.Gap{Reason: killfeed.GapEpoch}
	}
	return p, nil
}

// stop follows nothing any more. The caller holds mu.
func (l *lobby) stop() {
	if l.sub != nil {
		l.sub.Close()
		l.sub = nil
	}
}

// wait has systems preloaded, those that have anything to preload. The caller holds mu.
func (l *lobby) wait(systems []uint32, before killfeed.EventID) error {
	if !l.past.enabled || len(systems) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	found, err := l.counts.among(ctx, systems, time.Now().Add(-l.past.since))
	if err != nil {
		return err
	}
	l.forget(setOf(systems)) // or one who subscribes and unsubscribes all the time fills the memory
	for _, id := range systems {
		if found[id] > 0 {
			l.waits.systems = append(l.waits.systems, waitingSystem{id, before})
		} else {
			l.waits.done++
		}
	}
	l.waits.started = false
	return nil
}

// forget has systems not preloaded. The caller holds mu.
func (l *lobby) forget(systems map[uint32]struct{}) {
	l.waits.systems = slices.DeleteFunc(l.waits.systems, func(w waitingSystem) bool {
		_, gone := systems[w.id]
		return gone
	})
}

// Joined is phoenix.Channel's.
func (l *lobby) Joined() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beat = time.AfterFunc(beatEvery, func() {
		l.due.Store(true)
		l.wake()
	})
}

// Left is phoenix.Channel's.
func (l *lobby) Left() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = true
	if l.beat != nil {
		l.beat.Stop()
	}
	l.stop()
	l.lobbies.Add(-1)
}

// Push is phoenix.Channel's.
func (l *lobby) Push(event string, payload []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var (
		response []byte
		err      error
	)
	switch event {
	case "subscribe_systems":
		response, err = l.changeSystems(payload, true)
	case "unsubscribe_systems":
		response, err = l.changeSystems(payload, false)
	case "subscribe_characters":
		response, err = l.changeCharacters(payload, true)
	case "unsubscribe_characters":
		response, err = l.changeCharacters(payload, false)
	case "update_subscriptions":
		response, err = l.replace(payload)
	case "get_status":
		response = l.status()
	default:
		return nil, phoenix.Refuse("unknown event: there are subscribe_systems, unsubscribe_systems, subscribe_characters, " +
			"unsubscribe_characters, update_subscriptions and get_status")
	}
	if err != nil {
		return nil, l.refused(event, err)
	}
	return response, nil
}

// wrong is an error whose text is for the client.
type wrong struct{ error }

// refused is what a client is told of an error.
func (d *dialect) refused(what string, err error) error {
	var forClient wrong
	if errors.As(err, &forClient) {
		return phoenix.Refuse(forClient.Error())
	}
	status, text := web.Status(err)
	if status >= 500 {
		d.log.Warn("a channel's "+what+" could not be served", "err", err)
	}
	return phoenix.Refuse(text)
}

// list reads the one list of a message.
func list[T any](payload []byte, name string, parse func([]byte) (T, error)) (ids T, err error) {
	m, err := object(payload)
	value := m[name]
	if name == "character_ids" {
		value = characterIDs(m)
	}
	if err == nil && isNull(value) {
		err = fmt.Errorf("%s must be an array of integers", name)
	}
	if err == nil {
		ids, err = parse(value)
	}
	if err != nil {
		return ids, wrong{err}
	}
	return ids, nil
}

// change returns a set with ids added or taken away, and which of them made a difference.
func change(set map[uint32]struct{}, ids []uint32, add bool) (changed map[uint32]struct{}, difference []uint32) {
	changed = maps.Clone(set)
	for _, id := range ids {
		if _, has := set[id]; has == add {
			continue
		}
		difference = append(difference, id)
		if add {
			changed[id] = struct{}{}
		} else {
			delete(changed, id)
		}
	}
	return changed, difference
}

// changeSystems subscribes to systems, or not any more. The caller holds mu.
func (l *lobby) changeSystems(payload []byte, add bool) ([]byte, error) {
	ids, err := list(payload, "systems", func(v []byte) ([]uint32, error) { return parseSystems(v) })
	if err != nil {
		return nil, err
	}
	systems, different := change(l.systems, ids, add)
	switch {
	case len(different) == 0 && add:
		return []byte(`{"message":"Already subscribed to all requested systems"}`), nil
	case len(different) == 0:
		return []byte(`{"message":"Not subscribed to any of the requested systems"}`), nil
	case len(systems) > maxSystems:
		return nil, wrong{fmt.Errorf("too many systems (max: %d)", maxSystems)}
	}
	if err := l.set(systems, l.characters); err != nil {
		return nil, err
	}
	return append(appendIDs([]byte(`{"subscribed_systems":`), sorted(l.systems)), '}'), nil
}

// changeCharacters subscribes to characters, or not any more. The caller holds mu.
func (l *lobby) changeCharacters(payload []byte, add bool) ([]byte, error) {
	given, err := list(payload, "character_ids", func(v []byte) (characters, error) { return parseCharacters(v) })
	if err != nil {
		return nil, err
	}
	characters, different := change(l.characters, given.ids, add)
	switch {
	case len(different) == 0 && add:
		return append(appendIgnored([]byte(`{"message":"Already subscribed to all requested characters"`), given.ignored), '}'), nil
	case len(different) == 0:
		return []byte(`{"message":"Not subscribed to any of the requested characters"}`), nil
	case len(characters) > maxCharacters:
		return nil, wrong{fmt.Errorf("too many characters (max: %d)", maxCharacters)}
	}
	if err := l.set(l.systems, characters); err != nil {
		return nil, err
	}
	b := appendIDs([]byte(`{"subscribed_characters":`), sorted(l.characters))
	return append(appendIgnored(b, given.ignored), '}'), nil
}

// replace puts others in place of the systems, the characters, or both; a list that is not there stays. The caller holds mu.
func (l *lobby) replace(payload []byte) ([]byte, error) {
	m, err := object(payload)
	if err == nil && isNull(m["systems"]) && isNull(characterIDs(m)) {
		err = fmt.Errorf("systems, character_ids or both must be an array of integers")
	}
	if err != nil {
		return nil, wrong{err}
	}
	systems, people := l.systems, l.characters
	if !isNull(m["systems"]) {
		ids, err := parseSystems(m["systems"])
		if err != nil {
			return nil, wrong{err}
		}
		systems = setOf(ids)
	}
	var given characters
	if !isNull(characterIDs(m)) {
		if given, err = parseCharacters(characterIDs(m)); err != nil {
			return nil, wrong{err}
		}
		people = setOf(given.ids)
	}
	if err := l.set(systems, people); err != nil {
		return nil, err
	}
	return append(appendIgnored(append([]byte{'{'}, l.subscribed()...), given.ignored), '}'), nil
}

// set follows other systems and characters; systems that are new are preloaded. The caller holds mu.
func (l *lobby) set(systems, characters map[uint32]struct{}) error {
	var fresh []uint32
	for id := range systems {
		if _, had := l.systems[id]; !had {
			fresh = append(fresh, id)
		}
	}
	slices.Sort(fresh)
	gone := maps.Clone(l.systems)
	maps.DeleteFunc(gone, func(id uint32, _ struct{}) bool { _, kept := systems[id]; return kept })
	place, err := l.follow(systems, characters, nil)
	if err != nil {
		return err
	}
	l.forget(gone)
	for id := range gone {
		delete(l.told, id)
	}
	if err := l.wait(fresh, place.Start); err != nil { // they are followed all the same
		l.log.Warn("the killmails of new systems could not be preloaded", "systems", len(fresh), "err", err)
	}
	l.wake()
	return nil
}

func sorted(set map[uint32]struct{}) []uint32 { return slices.Sorted(maps.Keys(set)) }

// subscribed is what is subscribed to, as members. The caller holds mu.
func (l *lobby) subscribed() []byte {
	b := appendIDs([]byte(`"subscribed_systems":`), sorted(l.systems))
	return appendIDs(append(b, `,"subscribed_characters":`...), sorted(l.characters))
}

// appendIgnored appends the ids that no character can have, if there are any.
func appendIgnored(b []byte, ids []int64) []byte {
	if len(ids) == 0 {
		return b
	}
	b = append(b, `,"ignored_characters":[`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, id, 10)
	}
	return append(b, ']')
}

// status tells how the subscription stands. The caller holds mu.
func (l *lobby) status() []byte {
	b := append(append(append([]byte(`{"subscription_id":"`), l.id...), `",`...), l.subscribed()...)
	b = l.begun.UTC().AppendFormat(append(b, `,"connected_at":"`...), momentLayout)
	b = append(append(append(b, `","user_id":"`...), l.user...), '"')
	if l.sub != nil && len(l.waits.systems) == 0 { // before that, who goes on from it would miss what is yet to be preloaded
		b = append(l.sub.Cursor().Append(append(b, `,"cursor":"`...)), '"')
	}
	return append(b, '}')
}
