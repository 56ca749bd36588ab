package pebblestore

import (
	"errors"

	"killfeed"
)

// Checkpoints yields what Checkpoint returns of every source, in the order of their names. It is for moving a log elsewhere: a
// killfeed.Store has no use for it, as whoever asks there knows its own name.
func (s *Store) Checkpoints(yield func(killfeed.Checkpoint) bool) error {
	err := s.scan([]byte{spacePlace}, []byte{spacePlace + 1}, func(key, value []byte) error {
		place, err := open(key, value)
		if err == nil && !yield(killfeed.Checkpoint{Source: string(key[1:]), Place: string(place)}) {
			err = errStop
		}
		return err
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}
