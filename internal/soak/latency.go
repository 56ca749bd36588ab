//go:build linux

package main

import (
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// histogram counts latencies. Its buckets are 1.6 % wide at most. It may be used concurrently.
type histogram struct {
	counts [octaves * perOctave]atomic.Uint32
}

const (
	perOctave = 64
	octaves   = 32
	unit      = time.Microsecond
)

// bucket is where a latency is counted: below 64 µs one for each, above 64 for each doubling.
func bucket(d time.Duration) int {
	n := uint64(max(d, 0) / unit)
	if n < perOctave {
		return int(n)
	}
	shift := bits.Len64(n) - 7
	return min((shift+1)*perOctave+int(n>>shift)-perOctave, octaves*perOctave-1)
}

// edge is the least latency of a bucket.
func edge(i int) time.Duration {
	if i < perOctave {
		return time.Duration(i) * unit
	}
	return time.Duration(perOctave+i%perOctave) << (i/perOctave - 1) * unit
}

func (h *histogram) record(d time.Duration) { h.counts[bucket(d)].Add(1) }

func (h *histogram) count() (n uint64) {
	for i := range h.counts {
		n += uint64(h.counts[i].Load())
	}
	return n
}

// add adds what another counted.
func (h *histogram) add(other *histogram) {
	for i := range h.counts {
		h.counts[i].Add(other.counts[i].Load())
	}
}

// take returns what was counted since the last take.
func (h *histogram) take() *histogram {
	var was histogram
	for i := range h.counts {
		was.counts[i].Store(h.counts[i].Swap(0))
	}
	return &was
}

// quantile returns the latency that a share of all stays below, 0 when there are none.
func (h *histogram) quantile(share float64) time.Duration {
	rank := uint64(share * float64(h.count()))
	for i := range h.counts {
		n := uint64(h.counts[i].Load())
		if n > 0 && rank < n {
			within := float64(rank) / float64(n) // they are taken to be spread evenly over the bucket
			return edge(i) + time.Duration(within*float64(edge(i+1)-edge(i)))
		}
		rank -= min(n, rank)
	}
	return 0
}

// median is the middle one, or the mean of the two in the middle; 0 of none.
func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	of = slices.Sorted(slices.Values(of))
	n := len(of)
	return (of[(n-1)/2] + of[n/2]) / 2
}

// slope is the rise of y for each unit of x, as the least squares have it.
func slope(x, y []float64) float64 {
	n := float64(len(x))
	var sx, sy, sxx, sxy float64
	for i := range x {
		sx, sy, sxx, sxy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	d := n*sxx - sx*sx
	if d == 0 {
		return 0
	}
	return (n*sxy - sx*sy) / d
}
