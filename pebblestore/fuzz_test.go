package pebblestore

import (
	"bytes"
	"testing"

	"killfeed"
)

// FuzzRecords: no bytes that stand under a key make reading them panic, also with a checksum that is right.
func FuzzRecords(f *testing.F) {
	w := newTruth(1)
	e := w.event()
	key := numberKey(spaceEvent, uint64(e.ID))
	value := make([]byte, eventOverhead+len(e.Killmail))
	putEvent(key, value, &e.Event)
	f.Add(key, value)
	f.Add(keyLegacy, []byte{0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0})
	f.Add([]byte{spaceChunk, 0, 0, 0, 0, 8, 's', 0, 0, 0, 0, 0, 0, 0, 0, 3}, []byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0})
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if len(key) == 0 {
			return // each has its space
		}
		for _, sealed := range []bool{false, true} {
			if value = bytes.Clone(value); sealed && len(value) >= 4 {
				seal(key, value)
			}
			if got, err := getEvent(key, value); err == nil && len(got.Killmail) > len(value) {
				t.Errorf("%d bytes are an event of %d", len(value), len(got.Killmail))
			}
			_, _ = getSummary(key, value)
			_, _ = getKnown(key, value)
			_, _ = getClient(key, value)
			_, _ = getNumber(key, value)
			_, _ = getLegacy(value)
			_, _ = getFormer(value)
			_, _, _ = cutTopic(value)
			var ids []killfeed.EventID
			if ids, _ = decodeChunk(ids, key, value, 0); len(ids) > len(value) {
				t.Errorf("%d bytes are %d ids", len(value), len(ids))
			}
		}
	})
}

// FuzzLogs: whatever a log and the marks hold, looking through them ends within what there is.
func FuzzLogs(f *testing.F) {
	f.Add([]byte{}, uint64(1), int64(10))
	f.Add(make([]byte, 100), uint64(1), int64(100))
	f.Add([]byte{0, 0, 0, 0, 0, 0, typeTrailer, 2, 0, 0, 0}, uint64(1), int64(11))
	f.Add([]byte{1, 2, 3, 4, 0xff, 0xff, lastWithSyncs, 1, 0, 0, 0, 1, 2, 3}, uint64(1), int64(1)<<40)
	f.Fuzz(func(t *testing.T, content []byte, number uint64, limit int64) {
		limit = min(max(limit, 0), int64(len(content))+1000)
		for _, kind := range []byte{kindWAL, kindManifest} {
			whole, err := wholeChunks(bytes.NewReader(content), logName{kind, number}, limit)
			if err != nil || whole < 0 || whole > limit {
				t.Errorf("of %d bytes %d are whole, looking for %d: %v", len(content), whole, limit, err)
			}
		}
		if len(content) >= markSize {
			if l, _, ok := getMark(content); ok {
				_ = l.String()
			}
		}
	})
}
