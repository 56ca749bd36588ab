package evekill

import (
	"slices"
	"strings"
	"testing"

	"killfeed/storetest"
)

// TestFilters: each topic is a filter that can be read.
func TestFilters(t *testing.T) {
	for _, name := range topicNames() {
		name = strings.Replace(name, "{id}", "7", 1)
		if _, _, err := parseTopics(name, storetest.Universe()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzTopics: what is accepted is bounded, and what is refused is told in few words.
func FuzzTopics(f *testing.F) {
	for _, s := range []string{"", "all", "solo,10b", "victim.1,attacker.2", "system.", ".", "t1", "a,,b", "frigates;x=1", "system.1|2", "system.5,all"} {
		f.Add(s)
	}
	u := storetest.Universe()
	f.Fuzz(func(t *testing.T, list string) {
		names, filter, err := parseTopics(list, u)
		switch {
		case err != nil && len(err.Error()) > 2048:
			t.Errorf("the error has %d bytes", len(err.Error()))
		case err == nil && (len(names) == 0 || len(names) > maxTopics):
			t.Errorf("%d topics of %q", len(names), list)
		case err == nil && filter == nil && !slices.Contains(names, "all"):
			t.Errorf("%q lets everything through", list)
		}
	})
}
