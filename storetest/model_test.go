package storetest_test

import (
	"testing"

	"killfeed"
	"killfeed/storetest"
)

// The model keeps the promises that it is to hold others to.
func TestModel(t *testing.T) {
	reopen := func(_ testing.TB, s killfeed.Store) killfeed.Store { return s.(*storetest.Model).Reopen() }
	storetest.Run(t, storetest.Harness{
		Open:   func(testing.TB) killfeed.Store { return storetest.NewModel() },
		Reopen: reopen,
		Crash:  reopen,
		Restore: func(_ testing.TB, s killfeed.Store) killfeed.Store {
			return s.(*storetest.Model).Restored()
		},
		Damage: func(_ testing.TB, s killfeed.Store, id killfeed.EventID) killfeed.Store {
			s.(*storetest.Model).Damage(id)
			return s
		},
	})
}
