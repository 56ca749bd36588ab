package pebblestore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"killfeed"
)

// upgrade brings a store of format 1 to format 2.
//
// In format 1 the index has who took part, without telling the victim from the attackers. It is derived from the log, so it is
// not translated: all of it goes, and what makes anew after a crash what the crash has cost of the index makes it anew from
// the first event on. Everything else is the same in both.
//
// The chunks go, and the note of how far they reach, in one synced batch with the new version. Before that batch the store is
// wholly of format 1, and the next open begins again. Behind it the store is of format 2 with an index that is behind, and the
// next open goes on with it. At no moment would a program of format 1 take a new chunk for one of its own.
func (s *Store) upgrade() error {
	s.log.Info("the data has format 1, which does not tell kills from losses: the index is made anew from the log, once")
	b := s.db.NewBatch()
	defer b.Close()
	err := errors.Join(
		b.DeleteRange([]byte{spaceChunk}, []byte{spaceChunk + 1}, nil),
		b.Delete(keyIndexed, nil),
		b.Set(keyFormat, putNumber(keyFormat, formatVersion), nil))
	if err != nil {
		return err
	}
	return s.apply(b, pebble.Sync)
}

// searchable is nil, or why positions cannot be searched for: the index of format 1 does not have their topics. It is asked when
// the store is of format 1, which is when it is open read-only.
func (s *Store) searchable(positions []killfeed.Position) error {
	for _, p := range positions {
		if p.Topic.Kind.Role() != 0 {
			return fmt.Errorf("searching for %s: the data has format %d, which does not tell kills from losses; open it for "+
				"writing once, and the index is made anew", p.Topic, s.format)
		}
	}
	return nil
}

// plain is t, one of the topics of a killmail, as format 1 has it: without a role. An attacker that is the victim too is there
// once, as the victim, and plain returns false for it.
func plain(t killfeed.Topic, topics []killfeed.Topic) (killfeed.Topic, bool) {
	role, base := t.Kind.Role(), t.Kind.Base()
	t.Kind = base
	if role != killfeed.RoleKill {
		return t, true
	}
	for _, other := range topics[1:] { // behind the system there are the few of the victim
		if other.Kind.Role() != killfeed.RoleLoss {
			break
		}
		if other.Kind.Base() == base && other.ID == t.ID {
			return t, false
		}
	}
	return t, true
}
