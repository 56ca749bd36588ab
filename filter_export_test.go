package killfeed

import (
	"iter"
	"testing"
)

// Leaves is what filters are evaluated over.
type Leaves = leaves

func (l *leaves) Read(e *Event)                   { l.read(e) }
func (f *Filter) MatchLeaves(l *Leaves) bool      { matches, _ := f.matchLeaves(l, f.u); return matches }
func (f *Filter) Topics() (plan []Topic, ok bool) { return f.topics() }

// RealLines yields the lines of a file of real killmails.
func RealLines(t testing.TB, name string) iter.Seq[[]byte] { return realLines(t, name) }
