package wanderer

import (
	"bytes"
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/names"
)

// timeLayout is how the service writes the time of a killmail, and momentLayout that of anything else.
const (
	timeLayout   = "2006-01-02T15:04:05Z"
	momentLayout = "2006-01-02T15:04:05.000Z"
)

// kill is a killmail as the service shows it. It never changes.
type kill struct {
	// update is the payload of a live killmail_update, and text the killmail in it, a JSON object.
	update, text []byte
	// characters are those who took part; they may be there twice.
	characters []uint32
	// until is when the text is to be made anew, because names are on their way that it lacks; zero: never.
	until time.Time
}

// expressible tells whether the service has a form for an event.
func expressible(e *killfeed.Event) bool { return e.KillmailID != 0 }

// shelf holds the newest killmails as they are shown, so that each is encoded once for all who read it. It is a cache that may
// forget anything at any time.
type shelf struct {
	slots [512]atomic.Pointer[shelved]
}

type shelved struct {
	id   killfeed.EventID
	kill *kill
}

const (
	// maxShelved bounds a killmail on the shelf, in bytes.
	maxShelved = 64 << 10
	// namesAfter is when a killmail whose names were not all known is looked at again.
	namesAfter = 5 * time.Second
)

// kill returns an expressible event as it is shown.
func (d *dialect) kill(e *killfeed.Event) *kill {
	slot := &d.shelf.slots[e.ID%killfeed.EventID(len(d.shelf.slots))]
	at := slot.Load()
	if at != nil && at.id == e.ID && (at.kill.until.IsZero() || time.Now().Before(at.kill.until)) {
		return at.kill
	}
	k := d.encode(e)
	// What is older does not take the place of what everybody is about to read.
	if len(e.Killmail) <= maxShelved && (at == nil || at.id <= e.ID) {
		slot.Store(&shelved{e.ID, k}) // two who do it at once do it twice, with the same result
	}
	return k
}

// encode makes the payload of an event.
func (d *dialect) encode(e *killfeed.Event) *kill {
	w := writer{dialect: d, kill: &kill{}, b: make([]byte, 0, len(e.Killmail)+len(e.Killmail)/2+512)}
	w.b = strconv.AppendUint(append(w.b, `{"system_id":`...), uint64(e.SystemID), 10)
	w.b = append(w.b, `,"killmails":[`...)
	from := len(w.b)
	w.killmail(e)
	to := len(w.b)
	w.b = e.ReceivedAt.AppendFormat(append(w.b, `],"timestamp":"`...), momentLayout)
	w.b = append(w.b, `","preload":false,"cursor":"`...)
	w.b = append(killfeed.Cursor{After: e.ID, Epoch: d.epoch}.Append(w.b), `"}`...)
	w.kill.update, w.kill.text = w.b, w.b[from:to:to]
	if w.pending {
		w.kill.until = time.Now().Add(namesAfter)
	}
	return w.kill
}

// writer puts a killmail together.
type writer struct {
	dialect *dialect
	kill    *kill
	b       []byte
	pending bool // a name is on its way
}

// killmail appends the killmail.
func (w *writer) killmail(e *killfeed.Event) {
	var moon, war, victim, attackers, zkb []byte
	members(e.Killmail, func(name, value []byte) {
		switch string(name) {
		case "moon_id":
			moon = value
		case "war_id":
			war = value
		case "victim":
			victim = value
		case "attackers":
			attackers = value
		case "zkb":
			zkb = value
		}
	})
	w.b = strconv.AppendInt(append(w.b, `{"killmail_id":`...), e.KillmailID, 10)
	at := e.KilledAt
	if at.IsZero() { // clients refuse a killmail without a time
		at = e.ReceivedAt
	}
	w.b = append(at.UTC().AppendFormat(append(w.b, `,"kill_time":"`...), timeLayout), '"')
	w.b = strconv.AppendUint(append(w.b, `,"system_id":`...), uint64(e.SystemID), 10)
	w.b = strconv.AppendUint(append(w.b, `,"solar_system_id":`...), uint64(e.SystemID), 10)
	w.name("solar_system_name", "", e.SystemID, names.System)
	w.member("moon_id", moon)
	w.member("war_id", war)
	w.b = append(w.b, `,"victim":`...)
	w.party(victim, victimMembers)
	w.b = append(w.b, `,"attackers":[`...)
	count := 0
	elements(attackers, func(one []byte) {
		if count++; count > 1 {
			w.b = append(w.b, ',')
		}
		w.party(one, attackerMembers)
	})
	w.b = append(w.b, `],"zkb":`...)
	w.zkb(zkb)
	w.b = append(strconv.AppendInt(append(w.b, `,"attacker_count":`...), int64(count), 10), '}')
}

// The members of a party that are shown, in their order. What the service drops is dropped: items, and factions.
var (
	victimMembers   = []string{"character_id", "corporation_id", "alliance_id", "ship_type_id", "damage_taken", "position"}
	attackerMembers = []string{"damage_done", "final_blow", "character_id", "corporation_id", "alliance_id", "ship_type_id",
		"weapon_type_id", "security_status"}
)

// named are the ids that are told by name too.
var named = []struct {
	member, name, ticker string
	of                   names.Category
}{
	{"character_id", "character_name", "", names.Character},
	{"corporation_id", "corporation_name", "corporation_ticker", names.Corporation},
	{"alliance_id", "alliance_name", "alliance_ticker", names.Alliance},
	{"ship_type_id", "ship_name", "", names.Type},
}

// party appends a victim or an attacker.
func (w *writer) party(party []byte, shown []string) {
	var values [8][]byte
	members(party, func(name, value []byte) {
		for i, m := range shown {
			if string(name) == m {
				values[i] = value
			}
		}
	})
	begin := len(w.b)
	for i, m := range shown {
		w.member(m, values[i])
	}
	for _, n := range named {
		for i, m := range shown {
			if m != n.member {
				continue
			}
			if id := idOf(values[i]); id != 0 {
				w.name(n.name, n.ticker, id, n.of)
				if n.of == names.Character {
					w.kill.characters = append(w.kill.characters, id)
				}
			}
		}
	}
	if len(w.b) == begin {
		w.b = append(w.b, ',')
	}
	w.b[begin] = '{' // where the first comma was
	w.b = append(w.b, '}')
}

// member appends a member behind a comma, as it is written. What is null or not there is left out.
func (w *writer) member(name string, value []byte) {
	if len(value) == 0 || string(value) == "null" {
		return
	}
	w.b = append(append(append(w.b, `,"`...), name...), `":`...)
	w.b = append(w.b, value...)
}

// name appends what an id is called, if that is known.
func (w *writer) name(member, tickerMember string, id uint32, of names.Category) {
	name, ticker, state := w.dialect.api.Called(id, of)
	if state != names.Known {
		w.pending = w.pending || state == names.Pending
		return
	}
	w.b = appendString(append(append(append(w.b, `,"`...), member...), `":`...), name)
	if tickerMember != "" && ticker != "" {
		w.b = appendString(append(append(append(w.b, `,"`...), tickerMember...), `":`...), ticker)
	}
}

// zkb appends zkillboard's part as it is written, and the total value under the second name by which clients look for it.
func (w *writer) zkb(zkb []byte) {
	var total []byte
	twice := false
	members(zkb, func(name, value []byte) {
		switch string(name) {
		case "totalValue":
			total = value
		case "total_value":
			twice = true
		}
	})
	if len(zkb) == 0 || zkb[0] != '{' {
		zkb = []byte("{}")
	}
	if len(total) == 0 || twice {
		w.b = append(w.b, zkb...)
		return
	}
	w.b = append(append(w.b, zkb[:len(zkb)-1]...), `,"total_value":`...)
	w.b = append(append(w.b, total...), '}')
}

// newest returns the newest expressible killmails that past describes, and where to go on looking; 0: there are no more.
func (d *dialect) newest(ctx context.Context, past killfeed.Past) ([]*kill, killfeed.EventID, error) {
	h, err := d.feed.LookBack(ctx, past)
	if err != nil {
		return nil, 0, err
	}
	kills := make([]*kill, 0, len(h.Events))
	for i := range h.Events {
		if e := &h.Events[i]; expressible(e) {
			kills = append(kills, d.kill(d.richest(e)))
		}
	}
	return kills, h.Next, nil
}

// richest is the version of a killmail that has zkillboard's values: what came by its websocket gets them later, by an update.
func (d *dialect) richest(e *killfeed.Event) *killfeed.Event {
	if bytes.Contains(e.Killmail, []byte(`"totalValue":`)) {
		return e
	}
	newer, err := d.feed.Killmail(e.KillmailID)
	if err != nil { // it may have been removed in between
		return e
	}
	return &newer
}

// appendKills appends killmails as an array.
func appendKills(b []byte, kills []*kill) []byte {
	b = append(b, '[')
	for i, k := range kills {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, k.text...)
	}
	return append(b, ']')
}
