package names

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"unicode"
	"unicode/utf8"
)

const (
	// maxName and maxTicker bound texts, in bytes. The game's own bounds are 50 letters or so, and 5.
	maxName   = 200
	maxTicker = 32
)

// ESI's words for categories. Others, such as station, have no names of interest.
var esiCategories = map[string]Category{
	"character": Character, "corporation": Corporation, "alliance": Alliance, "faction": Faction, "inventory_type": Type,
	"solar_system": System, "constellation": Constellation, "region": Region,
}

// readNames reads the answer to ids. Those that are not in the result are not in the answer. wrong counts what was stepped over:
// ids that were not asked for, and names that cannot be shown, whose ids are in the result without a Category.
func readNames(body []byte, ids []uint32) (names map[uint32]Entry, wrong int, err error) {
	var answer []struct {
		ID       json.Number `json:"id"`
		Name     string      `json:"name"`
		Category string      `json:"category"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, 0, fmt.Errorf("reading names: %w", err)
	}
	if answer == nil {
		return nil, 0, errors.New("reading names: null, where an array is wanted")
	}
	wanted := make(map[uint32]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	names = make(map[uint32]Entry, len(answer))
	for _, a := range answer {
		n, err := a.ID.Int64()
		id := uint32(n)
		_, twice := names[id]
		if err != nil || n < 1 || n > math.MaxInt32 || !wanted[id] || twice {
			wrong++
			continue
		}
		e := Entry{Category: esiCategories[a.Category], Name: a.Name}
		if e.Category != 0 && !shown(a.Name, maxName) {
			e = Entry{}
			wrong++
		}
		if e.Category == 0 {
			e = Entry{}
		}
		names[id] = e
	}
	return names, wrong, nil
}

// readDetails reads the answer to one id, into what is known of it already.
func readDetails(body []byte, e Entry) (Entry, error) {
	var answer struct {
		Ticker        string  `json:"ticker"`
		Constellation int64   `json:"constellation_id"`
		Region        int64   `json:"region_id"`
		Security      float64 `json:"security_status"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return e, fmt.Errorf("reading details of the %s %q: %w", e.Category, e.Name, err)
	}
	ok := false
	switch e.Category {
	case Corporation, Alliance:
		e.Ticker, ok = answer.Ticker, shown(answer.Ticker, maxTicker)
	case System:
		e.Constellation, e.Security = uint32(answer.Constellation), answer.Security
		ok = isID(answer.Constellation) && answer.Security >= -1 && answer.Security <= 1
	case Constellation:
		e.Region, ok = uint32(answer.Region), isID(answer.Region)
	}
	if !ok {
		return e, fmt.Errorf("reading details of the %s %q: what is wanted is missing or cannot be", e.Category, e.Name)
	}
	return e, nil
}

func isID(n int64) bool { return n >= 1 && n <= math.MaxInt32 }

// shown tells whether a text can be shown: printable, not empty, and no longer than it may be.
func shown(text string, most int) bool {
	if text == "" || len(text) > most || !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
