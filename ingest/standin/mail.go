package standin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"killfeed"
	"killfeed/ingest/archive"
)

// Mail is a killmail to be published. Only ESI must be given; New derives what is missing of the rest.
type Mail struct {
	// ID is the killmail id.
	ID int64
	// Hash is 40 lower-case hex digits. A missing one is computed.
	Hash string
	// ESI is the body as ESI gives it. White space goes, everything else stays as it is.
	ESI []byte
	// ZKB is zKillboard's part. A missing one is made up: its values and labels are plausible, not true.
	ZKB []byte
	// Time is when the loss happened.
	Time time.Time
}

// Load reads killmails from files: one JSON document a line or after another, plain or packed with gzip or bzip2, EVE Ref's day
// archives, and directories of such files or of files of R2Z2. A document is a file of R2Z2, any object with the members
// killmail_id, hash, esi and zkb (null or absent: made up), or an ESI body, perhaps with EVE Ref's two members. The order is
// that of the documents, except that files of R2Z2 come in their order of sequence when all are such. What is none of these
// is an error, but for R2Z2's sequence.json.
func Load(ctx context.Context, paths ...string) ([]Mail, error) {
	r, err := archive.New(ctx, paths, archive.Options{})
	if err != nil {
		return nil, err
	}
	type loaded struct {
		Mail
		sequence int64
	}
	var all []loaded
	numbered := true
	err = r.Read(ctx, func(item archive.Item) error {
		if item.Err != nil {
			return fmt.Errorf("%s: %w", item.Name, item.Err)
		}
		m, sequence, err := decodeMail(item.Data)
		if err == nil {
			err = m.complete()
		}
		if errors.Is(err, errPointer) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", item.Name, err)
		}
		numbered = numbered && sequence > 0
		all = append(all, loaded{m, sequence})
		return nil
	})
	if err != nil {
		return nil, err
	}
	if numbered {
		slices.SortStableFunc(all, func(a, b loaded) int { return cmp.Compare(a.sequence, b.sequence) })
	}
	mails := make([]Mail, len(all))
	for i := range all {
		mails[i] = all[i].Mail
	}
	return mails, nil
}

// errPointer: a document is R2Z2's sequence.json.
var errPointer = errors.New("document is a pointer, no killmail")

// decodeMail reads a document. The sequence is 0 when it has none.
func decodeMail(data []byte) (m Mail, sequence int64, err error) {
	var doc struct {
		KillmailID    int64           `json:"killmail_id"`
		Hash          string          `json:"hash"`
		KillmailHash  string          `json:"killmail_hash"`
		ESI           json.RawMessage `json:"esi"`
		ZKB           json.RawMessage `json:"zkb"`
		SequenceID    int64           `json:"sequence_id"`
		Sequence      int64           `json:"sequence"`
		SolarSystemID int64           `json:"solar_system_id"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return m, 0, fmt.Errorf("document is no killmail: %w", err)
	}
	m = Mail{ID: doc.KillmailID, Hash: doc.Hash, ESI: doc.ESI, ZKB: doc.ZKB}
	switch {
	case m.ESI != nil:
	case doc.SolarSystemID > 0:
		m.Hash = doc.KillmailHash
		m.ESI, err = without(data, "killmail_hash", "http_last_modified", "zkb")
	case doc.Sequence > 0:
		err = errPointer
	default:
		err = errors.New("document is no killmail: it has neither esi nor solar_system_id")
	}
	if bytes.Equal(m.ZKB, []byte("null")) {
		m.ZKB = nil
	}
	return m, doc.SequenceID, err
}

// body is what the stand-in has to know of an ESI body.
type body struct {
	KillmailID    int64     `json:"killmail_id"`
	KillmailTime  time.Time `json:"killmail_time"`
	SolarSystemID int64     `json:"solar_system_id"`
	Victim        struct {
		party
		Items []json.RawMessage `json:"items"`
	} `json:"victim"`
	Attackers []party `json:"attackers"`
}

type party struct {
	CharacterID   int64 `json:"character_id"`
	CorporationID int64 `json:"corporation_id"`
	AllianceID    int64 `json:"alliance_id"`
	FactionID     int64 `json:"faction_id"`
	ShipTypeID    int64 `json:"ship_type_id"`
}

// complete fills in what m lacks and refuses what contradicts itself. It changes none of the bytes that m was given.
func (m *Mail) complete() error {
	var b body
	if err := json.Unmarshal(m.ESI, &b); err != nil {
		return fmt.Errorf("ESI body of killmail %d cannot be read: %w", m.ID, err)
	}
	switch {
	case b.KillmailID < 1 || b.SolarSystemID < 1 || b.KillmailTime.IsZero():
		return fmt.Errorf("ESI body of killmail %d lacks killmail_id, killmail_time or solar_system_id", m.ID)
	case m.ID != 0 && m.ID != b.KillmailID:
		return fmt.Errorf("killmail %d has the killmail_id %d in its ESI body: want the same", m.ID, b.KillmailID)
	}
	m.ID = b.KillmailID
	if m.Time.IsZero() {
		m.Time = b.KillmailTime.UTC()
	}
	if m.Hash == "" {
		hash, err := killfeed.KillmailHash(m.ESI)
		if err != nil {
			return fmt.Errorf("killmail %d has no hash, and it cannot be computed: %w", m.ID, err)
		}
		m.Hash = hash
	}
	if !isHash(m.Hash) {
		return fmt.Errorf("killmail %d has the hash %.50q: want 40 lower-case hex digits", m.ID, m.Hash)
	}
	var err error
	if m.ESI, err = compact(m.ESI); err != nil {
		return err
	}
	if m.ZKB == nil {
		m.ZKB = madeUp(m, &b)
		return nil
	}
	if m.ZKB, err = compact(m.ZKB); err != nil || m.ZKB[0] != '{' {
		return fmt.Errorf("killmail %d has a zkb that is no JSON object", m.ID)
	}
	return nil
}

func compact(data []byte) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(len(data))
	err := json.Compact(&b, data)
	return b.Bytes(), err
}

func isHash(s string) bool {
	return len(s) == 40 && strings.Trim(s, "0123456789abcdef") == ""
}

// madeUp is a plausible zkb in the members and order of June 2026.
func madeUp(m *Mail, b *body) []byte {
	draw := mix(uint64(m.ID)) // so that a killmail has the same one in every run
	destroyed := float64(10_000+draw%2_000_000*uint64(1+len(b.Victim.Items)*len(b.Victim.Items))) + 0.49
	dropped := float64(draw>>32%1_000_000*uint64(len(b.Victim.Items))) + 0.25
	if len(b.Victim.Items) == 0 {
		dropped = 0
	}
	pilots, awox := 0, false
	for _, a := range b.Attackers {
		if a.CharacterID > 0 {
			pilots++
			awox = awox || a.CorporationID == b.Victim.CorporationID && a.CorporationID > 1_999_999
		}
	}
	npc, solo := pilots == 0, pilots == 1 && len(b.Attackers) == 1 && b.Victim.CharacterID > 0
	z := struct {
		LocationID          int64    `json:"locationID"`
		Hash                string   `json:"hash"`
		FittedValue         float64  `json:"fittedValue"`
		DroppedValue        float64  `json:"droppedValue"`
		DestroyedValue      float64  `json:"destroyedValue"`
		TotalValue          float64  `json:"totalValue"`
		TotalDroppableValue float64  `json:"totalDroppableValue"`
		Points              int      `json:"points"`
		NPC                 bool     `json:"npc"`
		Solo                bool     `json:"solo"`
		Awox                bool     `json:"awox"`
		Labels              []string `json:"labels"`
		AttackerCount       int      `json:"attackerCount"`
		HREF                string   `json:"href"`
	}{
		LocationID: 40_000_001 + int64(draw%480_000), Hash: m.Hash,
		FittedValue: destroyed / 2, DroppedValue: dropped, DestroyedValue: destroyed, TotalValue: destroyed + dropped,
		TotalDroppableValue: dropped * 2,
		Points:              1 + int(draw%40), NPC: npc, Solo: solo, Awox: awox,
		Labels:        madeUpLabels(m, b, draw, npc, solo, awox, destroyed+dropped),
		AttackerCount: len(b.Attackers),
		HREF:          fmt.Sprintf("https://esi.evetech.net/killmails/%d/%s/", m.ID, m.Hash),
	}
	data, err := json.Marshal(z)
	if err != nil {
		panic(err) // there is nothing in it that could fail
	}
	return data
}

func madeUpLabels(m *Mail, b *body, draw uint64, npc, solo, awox bool, value float64) []string {
	zones := [...]string{"tz:usw", "tz:au", "tz:ru", "tz:eu", "tz:use", "tz:use"}
	labels := []string{zones[m.Time.Hour()/4], "cat:6"}
	count := "#:1"
	for _, n := range [...]int{2, 5, 10, 25, 50, 100, 1000} {
		if len(b.Attackers) >= n {
			count = fmt.Sprintf("#:%d+", n)
		}
	}
	if solo {
		count = "solo"
	}
	labels = append(labels, count, map[bool]string{true: "npc", false: "pvp"}[npc])
	if awox {
		labels = append(labels, "awox")
	}
	switch {
	case b.SolarSystemID >= 32_000_000:
		labels = append(labels, "loc:abyssal")
	case b.SolarSystemID >= 31_000_000:
		labels = append(labels, "loc:w-space")
	default:
		labels = append(labels, [...]string{"loc:highsec", "loc:lowsec", "loc:nullsec"}[draw>>8%3])
	}
	steps := [...]struct {
		label string
		least float64
	}{{"isk:1t+", 1e12}, {"isk:100b+", 1e11}, {"isk:10b+", 1e10}, {"isk:5b+", 5e9}, {"isk:1b+", 1e9}}
	for _, s := range steps {
		if value >= s.least {
			return append(labels, s.label)
		}
	}
	return labels
}

// member is a member of a JSON object, as it is written.
type member struct {
	name  string
	value json.RawMessage
}

// members takes an object apart without changing a byte of its values.
func members(object []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(object))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("want a JSON object, not %.40q", object)
	}
	var all []member
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: name.(string)}
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	_, err := d.Token()
	return all, err
}

// appendObject puts members together again.
func appendObject(dst []byte, all []member) []byte {
	dst = append(dst, '{')
	for i, m := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		name, _ := json.Marshal(m.name) // never fails for a string
		dst = append(append(append(dst, name...), ':'), m.value...)
	}
	return append(dst, '}')
}

// without is the object without some members.
func without(object []byte, names ...string) ([]byte, error) {
	all, err := members(object)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m member) bool { return slices.Contains(names, m.name) })
	return appendObject(make([]byte, 0, len(object)), all), nil
}

func isLabels(m member) bool { return m.name == "labels" }

// relabelled is zkb with more labels. Those that it has already do not come twice.
func relabelled(zkb []byte, more []string) []byte {
	all, err := members(zkb)
	if err != nil {
		return zkb // complete has looked at it
	}
	if !slices.ContainsFunc(all, isLabels) {
		all = append(all, member{name: "labels"})
	}
	for i := range all { // there is one, unless somebody tries things
		if isLabels(all[i]) {
			var labels []string
			_ = json.Unmarshal(all[i].value, &labels) // null and nonsense are no labels
			for _, label := range more {
				if !slices.Contains(labels, label) {
					labels = append(labels, label)
				}
			}
			all[i].value, _ = json.Marshal(labels)
		}
	}
	return appendObject(make([]byte, 0, len(zkb)+32), all)
}
