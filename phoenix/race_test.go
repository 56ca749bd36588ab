//go:build race

package phoenix_test

// raceDetector: sync.Pool then forgets at random, so that allocations cannot be counted.
const raceDetector = true
