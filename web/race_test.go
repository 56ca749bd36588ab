//go:build race

package web

// raceDetector: sync.Pool then forgets at random, so that allocations cannot be counted.
const raceDetector = true
