package names

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"killfeed"
)

// interest is how long after somebody asked for a name those of new killmails are asked for ahead.
const interest = time.Hour

// Follow has the names in new killmails asked for ahead, so that they are there when somebody asks, as long as somebody did within
// the last hour. It hangs on the feed as any other reader does, behind the insert. It runs until ctx or the feed ends. It is a
// service, and returns nil then; another error is the feed's.
func (b *Book) Follow(ctx context.Context, feed *killfeed.Feed) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.demand:
		}
		err := b.followWhile(ctx, feed)
		if ctx.Err() != nil || errors.Is(err, killfeed.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// followWhile follows the feed as long as names are asked for.
func (b *Book) followWhile(ctx context.Context, feed *killfeed.Feed) error {
	woken := make(chan struct{}, 1)
	s, _, err := feed.Subscribe(ctx, killfeed.Subscriber{
		Read: killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}, Start: killfeed.Latest, Updates: true, NoBackfill: true},
		Wake: func() { ring(woken) },
	})
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		left := interest - time.Since(time.Unix(0, b.asked.Load()))
		if left <= 0 {
			return nil
		}
		d, err := s.Read(nil, 64)
		if err != nil {
			return err
		}
		u := feed.Universe()
		for i := range d.Events {
			for id := range named(d.Events[i].Killmail) {
				if !static(u, id) {
					b.get(id, ahead, time.Now())
				}
			}
		}
		if d.More {
			continue
		}
		timer := time.NewTimer(left)
		select {
		case <-ctx.Done():
		case <-woken:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// static tells whether static data knows the id.
func static(u *killfeed.Universe, id uint32) (known bool) {
	switch {
	case id < 500_000:
		_, known = u.Type(id)
	case id < 1_000_000:
		_, known = u.Faction(id)
	case id < 2_000_000:
		_, known = u.Corporation(id)
	case id >= 30_000_000 && id < 40_000_000:
		_, known = u.System(id)
	}
	return known
}

// party are the members of a killmail that are ids with a name. Items are not among them: there are many, and static data has
// all that matter.
type party struct {
	Character   int64 `json:"character_id"`
	Corporation int64 `json:"corporation_id"`
	Alliance    int64 `json:"alliance_id"`
	Faction     int64 `json:"faction_id"`
	Ship        int64 `json:"ship_type_id"`
	Weapon      int64 `json:"weapon_type_id"`
}

// named are the ids in a killmail that have a name. A killmail that is not as ESI has them may name none.
func named(killmail []byte) map[uint32]struct{} {
	var k struct {
		System    int64   `json:"solar_system_id"`
		Victim    party   `json:"victim"`
		Attackers []party `json:"attackers"`
	}
	if json.Unmarshal(killmail, &k) != nil {
		return nil
	}
	ids := map[uint32]struct{}{}
	add := func(all ...int64) {
		for _, n := range all {
			if isID(n) {
				ids[uint32(n)] = struct{}{}
			}
		}
	}
	add(k.System)
	for _, p := range append(k.Attackers, k.Victim) {
		add(p.Character, p.Corporation, p.Alliance, p.Faction, p.Ship, p.Weapon)
	}
	return ids
}
