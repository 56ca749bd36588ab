//go:build race

package pebblestore

// raceEnabled: the engine checks itself at every read then, which takes up to a thousand times as long.
const raceEnabled = true
