package wanderer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"killfeed"
)

const (
	// maxSystems and maxCharacters bound a subscription of the channel.
	maxSystems    = 10_000
	maxCharacters = 50_000
	// maxPreload and maxPreloadHours bound what is preloaded of each system.
	maxPreload      = 200
	maxPreloadHours = 30 * 24
)

// joinParams is what a join asks for.
type joinParams struct {
	systems    []uint32
	characters characters
	preload    preload
	after      *killfeed.Cursor // nil: from now on
	backfill   bool
	user       string
}

// preload is what a client wants of the past of each system.
type preload struct {
	enabled bool
	since   time.Duration
	limit   int
}

// characters are those that a client wants. ignored are ids that the service takes, and that no character can have: killmails have
// ids up to 2^31-1. A client that sends one gets everything else.
type characters struct {
	ids     []uint32
	ignored []int64
}

// isNull tells whether a value is as good as not there.
func isNull(value []byte) bool { return len(value) == 0 || string(value) == "null" }

// object reads a JSON object as its members.
func object(payload []byte) (map[string]json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(payload, &m); err != nil || m == nil {
		return nil, fmt.Errorf("a JSON object is wanted")
	}
	return m, nil
}

// characterIDs are the characters that a client names: by character_ids, or by characters, as the service's own examples do.
func characterIDs(m map[string]json.RawMessage) json.RawMessage {
	if isNull(m["character_ids"]) {
		return m["characters"]
	}
	return m["character_ids"]
}

// parseJoin reads the params of a join. The errors are for the client.
func parseJoin(params []byte) (p joinParams, err error) {
	m, err := object(params)
	if err != nil {
		return p, err
	}
	if p.systems, err = parseSystems(m["systems"]); err != nil {
		return p, err
	}
	if p.characters, err = parseCharacters(characterIDs(m)); err != nil {
		return p, err
	}
	if p.preload, err = parsePreload(m["preload"]); err != nil {
		return p, err
	}
	if p.after, err = parseAfter(m["after"]); err != nil {
		return p, err
	}
	switch string(m["backfill"]) {
	case "1", "true", `"1"`, `"true"`:
		p.backfill = true
	}
	p.user = userID(m["client_identifier"])
	return p, nil
}

// parsePreload reads what is to be preloaded. Numbers that are too great or too small are brought to what there is.
func parsePreload(value json.RawMessage) (preload, error) {
	p := preload{enabled: true, since: window, limit: 5}
	if isNull(value) {
		return p, nil
	}
	m, err := object(value)
	if err != nil {
		return p, fmt.Errorf("preload: %w", err)
	}
	if string(m["enabled"]) == "false" {
		p.enabled = false
	}
	hours := 24
	for _, n := range []struct {
		name string
		to   *int
		most int
	}{{"since_hours", &hours, maxPreloadHours}, {"limit_per_system", &p.limit, maxPreload}} {
		if isNull(m[n.name]) {
			continue
		}
		var given float64
		if err := json.Unmarshal(m[n.name], &given); err != nil {
			return p, fmt.Errorf("preload.%s must be a number", n.name)
		}
		*n.to = int(min(max(given, 1), float64(n.most)))
	}
	p.since = time.Duration(hours) * time.Hour
	return p, nil
}

// parseAfter reads a cursor, as a text or a number.
func parseAfter(value json.RawMessage) (*killfeed.Cursor, error) {
	if isNull(value) || string(value) == `""` {
		return nil, nil
	}
	text := string(value)
	if text[0] == '"' {
		if err := json.Unmarshal(value, &text); err != nil {
			return nil, fmt.Errorf("after must be a cursor as an earlier push gave it")
		}
	}
	c, err := killfeed.ParseCursor(text)
	if err != nil {
		return nil, fmt.Errorf("after must be a cursor as an earlier push gave it, such as 17-0a1b2c3d")
	}
	return &c, nil
}

// parseIDs reads an array of integers, also such as are written as strings, each once and in their order. word is what they are ids
// of.
func parseIDs(value json.RawMessage, word string, most int, greatest int64) ([]int64, error) {
	if isNull(value) {
		return nil, nil
	}
	if value = bytes.TrimSpace(value); value[0] != '[' {
		return nil, fmt.Errorf("%s IDs must be an array of integers", word)
	}
	var elements []json.RawMessage
	if n := bytes.Count(value, []byte{','}); n >= most { // before there is memory for them
		return nil, fmt.Errorf("too many %ss (max: %d)", word, most)
	}
	if err := json.Unmarshal(value, &elements); err != nil {
		return nil, fmt.Errorf("%s IDs must be an array of integers", word)
	}
	ids, seen := make([]int64, 0, len(elements)), make(map[int64]bool, len(elements))
	for _, one := range elements {
		id, err := strconv.ParseInt(strings.Trim(string(one), `"`), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s IDs must be integers", word)
		}
		if id < 1 || id > greatest {
			return nil, fmt.Errorf("invalid %s IDs: %d is not one from 1 to %d", word, id, greatest)
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func parseSystems(value json.RawMessage) ([]uint32, error) {
	given, err := parseIDs(value, "system", maxSystems, maxSystemID)
	if err != nil {
		return nil, err
	}
	ids := make([]uint32, len(given))
	for i, id := range given {
		ids[i] = uint32(id)
	}
	return ids, nil
}

func parseCharacters(value json.RawMessage) (c characters, err error) {
	given, err := parseIDs(value, "character", maxCharacters, maxCharacterID)
	if err != nil {
		return c, err
	}
	c.ids = make([]uint32, 0, len(given))
	for _, id := range given {
		if id > killfeed.MaxID {
			c.ignored = append(c.ignored, id)
		} else {
			c.ids = append(c.ids, uint32(id))
		}
	}
	return c, nil
}

// userID is what the client calls itself, as the service cleans it up.
func userID(value json.RawMessage) string {
	var name string
	if json.Unmarshal(value, &name) != nil {
		return "anonymous"
	}
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return -1
	}, name)
	if name == "" {
		return "anonymous"
	}
	return name[:min(len(name), 32)]
}
