package standin

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Named is what ESI knows of an id that is not a killmail's.
type Named struct {
	// Category is ESI's word: character, corporation, alliance, faction, inventory_type, solar_system, constellation, region or
	// station.
	Category string
	Name     string
	// Ticker is of corporations and alliances.
	Ticker string
	// Constellation and Security are of solar systems, Region of constellations.
	Constellation, Region uint32
	Security              float64
}

// MadeUp makes names up for all ids that the game gives out, by their range. It is what a Server knows that is not told
// otherwise.
func MadeUp(id uint32) (Named, bool) {
	n := Named{}
	switch {
	case id < 1, id > math.MaxInt32:
		return n, false
	case id < 100_000:
		n.Category = "inventory_type"
	case id >= 500_000 && id < 501_000:
		n.Category = "faction"
	case id >= 1_000_000 && id < 2_000_000, id >= 98_000_000 && id < 99_000_000:
		n.Category, n.Ticker = "corporation", "C"+strconv.FormatUint(uint64(id%10_000), 10)
	case id >= 10_000_000 && id < 20_000_000:
		n.Category = "region"
	case id >= 20_000_000 && id < 30_000_000:
		n.Category, n.Region = "constellation", 10_000_000+id%100+1
	case id >= 30_000_000 && id < 40_000_000:
		n.Category, n.Constellation, n.Security = "solar_system", 20_000_000+id%1000+1, float64(id%20)/10-1
	case id >= 60_000_000 && id < 64_000_000:
		n.Category = "station"
	case id >= 99_000_000 && id < 100_000_000:
		n.Category, n.Ticker = "alliance", "A"+strconv.FormatUint(uint64(id%10_000), 10)
	case id >= 90_000_000:
		n.Category = "character"
	default:
		return n, false
	}
	n.Name = fmt.Sprintf("%s %d", n.Category, id)
	return n, true
}

// maxNames is how many ids ESI takes at once.
const maxNames = 1000

// universe tells ESI's routes for names.
func (q *request) universe(parts []string) bool {
	if n := len(parts) - 1; n > 0 && parts[n] == "" {
		parts = parts[:n]
	}
	switch {
	case len(parts) == 2 && parts[0] == "universe" && parts[1] == "names":
		q.kind = KindNames
	case len(parts) == 2 && (parts[0] == "corporations" || parts[0] == "alliances"):
		q.kind, q.parts = KindDetails, parts
	case len(parts) == 3 && parts[0] == "universe" && (parts[1] == "systems" || parts[1] == "constellations"):
		q.kind, q.parts = KindDetails, parts[1:]
	default:
		return false
	}
	return true
}

// names answers what ids are called. One that is not known is enough to refuse all, as upstream.
func (s *Server) names(q *request) answer {
	if _, bad := q.compatibility(); bad != "" {
		return esiError(http.StatusBadRequest, bad)
	}
	var ids []uint32
	if json.Unmarshal(q.asked, &ids) != nil || len(ids) < 1 || len(ids) > maxNames {
		return esiError(http.StatusBadRequest, "the body is not an array of 1 to 1000 ids")
	}
	if sorted := slices.Sorted(slices.Values(ids)); len(slices.Compact(sorted)) != len(ids) {
		return esiError(http.StatusBadRequest, "ids are not unique")
	}
	type one struct {
		Category string `json:"category"`
		ID       uint32 `json:"id"`
		Name     string `json:"name"`
	}
	all := []one{}
	for _, id := range ids {
		n, ok := s.config.Named(id)
		if !ok {
			s.esi.asked(ids, false)
			return esiError(http.StatusNotFound, "Ensure all IDs are valid before resolving.")
		}
		all = append(all, one{n.Category, id, n.Name})
	}
	s.esi.asked(ids, true)
	text, _ := json.Marshal(all) // never fails for texts and numbers
	return newAnswer(http.StatusOK, "application/json", text)
}

// wrongNames is an answer of what was not asked for, and of what cannot be shown.
func wrongNames() []byte {
	return []byte(`[{"category":"character","id":7,"name":"Nobody asked"},{"category":"character","id":-1,"name":"\u0000"},
		{"category":"character","id":90000001,"name":"bell\u0007"},{"category":"thing","id":90000002,"name":"Thing"}]`)
}

// details answers what else there is to know of an id.
func (s *Server) details(q *request) answer {
	if _, bad := q.compatibility(); bad != "" {
		return esiError(http.StatusBadRequest, bad)
	}
	category := map[string]string{
		"corporations": "corporation", "alliances": "alliance", "systems": "solar_system", "constellations": "constellation",
	}[q.parts[0]]
	id, err := strconv.ParseUint(q.parts[1], 10, 31)
	if err != nil {
		return esiError(http.StatusBadRequest, "the id is not an integer")
	}
	n, ok := s.config.Named(uint32(id))
	if !ok || n.Category != category {
		return esiError(http.StatusNotFound, category+" not found")
	}
	members := map[string]any{"name": n.Name}
	switch category {
	case "corporation":
		members["ticker"], members["member_count"] = n.Ticker, 42
	case "alliance":
		members["ticker"] = n.Ticker
	case "solar_system":
		members["system_id"], members["constellation_id"], members["security_status"] = id, n.Constellation, n.Security
	case "constellation":
		members["constellation_id"], members["region_id"], members["systems"] = id, n.Region, []uint32{}
	}
	text, _ := json.Marshal(members)
	a := stored(text, "public, max-age=3600", time.Time{})
	a.header.Set("Access-Control-Allow-Origin", "*")
	return a
}
