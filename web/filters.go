package web

import (
	"strings"
	"sync"

	"killfeed"
)

const (
	// keptFilters is how many compiled filters are remembered, and maxKeptFilter the longest of them: what is longer costs more to
	// send than to compile.
	keptFilters   = 256
	maxKeptFilter = 4 << 10
)

// filters remembers filters that were compiled: whoever polls sends the same text again and again.
type filters struct {
	mu       sync.Mutex         // guards the rest; held for a map operation
	universe *killfeed.Universe // with which they were compiled
	byText   map[string]*killfeed.Filter
}

// compile is killfeed.ParseFilter. It may be called on nil, which remembers nothing.
func (f *filters) compile(text string, u *killfeed.Universe) (*killfeed.Filter, error) {
	if f == nil || len(text) > maxKeptFilter {
		return killfeed.ParseFilter(text, u)
	}
	f.mu.Lock()
	known := f.byText[text]
	if f.universe != u {
		known = nil
	}
	f.mu.Unlock()
	if known != nil {
		return known, nil
	}
	text = strings.Clone(text)                   // it may be part of a request, which must not be kept with it
	filter, err := killfeed.ParseFilter(text, u) // outside the lock: a long one takes a while
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.universe != u || f.byText == nil {
		f.universe, f.byText = u, map[string]*killfeed.Filter{}
	}
	if len(f.byText) >= keptFilters {
		for one := range f.byText { // any: those that are still sent come back
			delete(f.byText, one)
			break
		}
	}
	f.byText[text] = filter
	return filter, nil
}
