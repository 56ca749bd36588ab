package killfeed

import (
	"crypto/sha1"
	"encoding/hex"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Killmail is one killmail in canonical form, ready to be inserted.
type Killmail struct {
	// ID is the killmail_id, 0 when it has none: then it is never a duplicate.
	ID int64
	// SystemID is the solar system of the loss, 1 to 2^31-1.
	SystemID uint32
	// Time is the killmail_time in whole seconds UTC; zero when it is missing or not RFC 3339, which is no error.
	Time time.Time
	// Hash is 40 lower-case hex digits; empty when unknown. It is in JSON too, in zkb.
	Hash string
	// JSON is the canonical text: the members of the ESI killmail and, when anything is known of it, a zkb object. It is
	// what was received, without insignificant white space; nothing is put in another order or written another way.
	JSON []byte
	// Topics are distinct: the system, then the victim's character, corporation, alliance, faction and ship with RoleLoss, then
	// those of the attackers with RoleKill, then labels. Who is on both sides has both. What can be told from these and static
	// data is not among them: All, the same without a role, groups of ships, and where the system lies.
	Topics []Topic
	// Digest sums up the hash, the zkb and the labels.
	Digest Digest
}

const (
	// maxParticipants bounds the topics of one killmail, and so what an insert writes. It is enough for a victim and 5,000
	// attackers who share nothing; what is beyond is stored, but is not a topic.
	maxParticipants = 5 * 5001
	// maxLabels bounds the labels that are looked at; zKillboard gives about ten.
	maxLabels = 256
)

// ParseItem reads a killmail in any of the shapes in which killmails are passed around:
//
//   - canonical, which takes in a bare ESI body and a message of zKillboard's killstream. EVE Ref's killmail_hash and
//     http_last_modified leave the body; the hash goes into zkb.
//   - {"system_id":30000142,"killmail":{…}}, perhaps with more members: an event of another feed. Here killmail is any
//     object, as in NewKillmail.
//   - {"killmail_id":1,"hash":"…","esi":{…},"zkb":{…}}: a file of zKillboard's R2Z2.
//   - {"package":{"killID":1,"killmail":{…},"zkb":{…}}}, or what is in the package: RedisQ.
//
// Where a hash is given it must be right, if it can be computed, and ids that are given twice must agree. The error is an
// *InvalidError, and ErrNeedsESI as well when there is no body. The result keeps nothing of data.
func ParseItem(data []byte) (*Killmail, error) {
	var p parser
	if err := p.read(&p.top, data); err != nil {
		return nil, err
	}
	return p.item()
}

// NewKillmail makes a killmail of any JSON object, in the way of the specified insert_event(system_id, map). Members that
// the object shares with a killmail must be right: a solar_system_id agrees with systemID, a killmail_id is an integer from
// 1 on, a zkb is an object, and a hash is what can be computed. The error is an *InvalidError. The result keeps nothing of
// data.
func NewKillmail(systemID uint32, data []byte) (*Killmail, error) {
	if systemID < 1 || systemID > MaxID {
		return nil, invalid("system_id", strconv.FormatUint(uint64(systemID), 10), wantSystem)
	}
	var p parser
	if err := p.read(&p.body, data); err != nil {
		return nil, err
	}
	return p.killmail(&p.body, nil, systemID)
}

// AddHash computes the hash if there is none and puts it into zkb, which it makes when there is none. The error is an
// *InvalidError that says what there is to compute it from lacks; then k is unchanged. A slice that was taken of JSON before
// stays as it was.
func (k *Killmail) AddHash() error {
	if k.Hash != "" {
		return nil
	}
	var p parser
	if err := p.read(&p.body, k.JSON); err != nil {
		return err
	}
	h, err := p.computeHash(&p.body)
	if err != nil {
		return err
	}
	if err := p.cleanZKB(&p.body); err != nil {
		return err
	}
	k.Hash = string(h[:])
	k.JSON = p.assemble(&p.body, nil, k.Hash)
	k.Digest |= digestHash
	return nil
}

// KillmailHash computes the hash of a killmail from its body, canonical or as ESI gives it: SHA-1 over the decimal texts, with
// nothing between them, of the victim's character id, the final blow's character id (both "None" where there is none), the
// victim's ship type id, and the time in units of 100 ns since 1601. The error is an *InvalidError.
func KillmailHash(data []byte) (string, error) {
	var p parser
	if err := p.read(&p.body, data); err != nil {
		return "", err
	}
	h, err := p.computeHash(&p.body)
	if err != nil {
		return "", err
	}
	return string(h[:]), nil
}

// AddsLabels tells whether k has every label of old, the canonical text of another version, and one more.
func (k *Killmail) AddsLabels(old []byte) bool {
	var p parser
	if err := p.read(&p.body, old); err != nil {
		return false
	}
	var room [16]string
	lacking := p.labels(room[:0], &p.body.zkb)
	added := false
	for _, t := range k.Topics {
		if t.Kind != KindLabel {
			continue
		}
		if i := slices.Index(lacking, t.Label); i >= 0 {
			lacking = slices.Delete(lacking, i, i+1)
		} else {
			added = true
		}
	}
	return added && len(lacking) == 0
}

// killmail makes a killmail of body. An outer object, when there is one, has the zkb, and an id and hash to compare. A system,
// when it is not 0, was given beside.
func (p *parser) killmail(body, outer *object, system uint32) (*Killmail, error) {
	k := &Killmail{SystemID: system, Time: p.killmailTime(body)}
	var err error
	if k.ID, err = p.integer(body.killmailID, "killmail_id", 1<<63-1, wantKillmailID); err != nil {
		return nil, err
	}
	if err := p.cleanZKB(body); err != nil {
		return nil, err
	}
	zkb := &body.zkb
	var h hash
	if err := p.hash(&h, body.zkb.hash, body.killmailHash); err != nil {
		return nil, err
	}
	if outer != nil {
		id, err := p.envelopeID(outer)
		if err != nil {
			return nil, err
		}
		if id != 0 && id != k.ID {
			return nil, invalid("killmail_id", p.show(body.killmailID),
				"in the killmail the id that its envelope gives, "+strconv.FormatInt(id, 10))
		}
		if err := p.cleanZKB(outer); err != nil {
			return nil, err
		}
		if !outer.zkb.at.none() {
			if !zkb.at.none() {
				return nil, invalid("zkb", p.show(outer.zkb.at), "one zkb: beside the killmail or in it")
			}
			zkb = &outer.zkb
		}
		if err := p.hash(&h, outer.zkb.hash, outer.hash, outer.killmailHash); err != nil {
			return nil, err
		}
	}
	if k.SystemID, err = p.system(body, system); err != nil {
		return nil, err
	}

	if h != (hash{}) {
		k.Hash = string(h[:])
		if right, err := p.computeHash(body); err == nil && right != h {
			return nil, invalid("hash", k.Hash, "the hash that is computed from the killmail, "+string(right[:]))
		}
	}
	if zkb == &body.zkb {
		k.JSON = p.assemble(body, nil, k.Hash)
	} else {
		k.JSON = p.assemble(body, zkb, k.Hash)
	}
	var room [16]string
	labels := p.labels(room[:0], zkb)
	k.Topics = body.topics(k.SystemID, labels)
	k.Digest = digest(k.Hash != "", zkb.more, labels)
	return k, nil
}

const (
	wantSystem     = "an integer from 1 to 2147483647"
	wantKillmailID = "an integer from 1 to 9223372036854775807"
)

// system is the solar system: the one in body, or given, which must agree.
func (p *parser) system(body *object, given uint32) (uint32, error) {
	if given == 0 {
		own, err := p.integer(body.solarSystemID, "solar_system_id", MaxID, wantSystem)
		if own == 0 && err == nil {
			err = invalid("solar_system_id", "", wantSystem)
		}
		return uint32(own), err
	}
	if !p.absent(body.solarSystemID) {
		if own, ok := integer(p.text(body.solarSystemID)); !ok || own != int64(given) {
			return 0, invalid("system_id", strconv.FormatUint(uint64(given), 10),
				"the solar_system_id that is in the killmail, "+p.show(body.solarSystemID))
		}
	}
	return given, nil
}

// killmailTime is the time of a killmail in whole seconds UTC, zero when there is none that can be read.
func (p *parser) killmailTime(o *object) (t time.Time) {
	text, ok := p.str(o.time)
	if !ok || t.UnmarshalText(text) != nil {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

// cleanZKB refuses a zkb that is no object, and makes null the same as none.
func (p *parser) cleanZKB(o *object) error {
	switch {
	case o.zkb.at.none() || p.isObject(o.zkb.at):
		return nil
	case p.absent(o.zkb.at):
		o.drop = append(o.drop, o.zkb.member)
		o.zkb = zkb{}
		return nil
	}
	return invalid("zkb", p.show(o.zkb.at), "an object, null or nothing")
}

// hash is a killmail's hash in lower-case hex digits; the zero hash is none.
type hash [2 * sha1.Size]byte

// hash reads the hash that each of values is, unless it is absent. All, and h unless it is none, must be the same.
func (p *parser) hash(h *hash, values ...span) error {
	for _, v := range values {
		if p.absent(v) {
			continue
		}
		var given hash
		text, ok := p.str(v)
		if ok = ok && len(text) == len(given); ok {
			for i, c := range text {
				if c >= 'A' && c <= 'F' {
					c += 'a' - 'A'
				}
				ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
				given[i] = c
			}
		}
		if !ok {
			return invalid("hash", p.show(v), "40 hex digits")
		}
		if *h != (hash{}) && *h != given {
			return invalid("hash", string(given[:]), "one hash in all places; another is "+string(h[:]))
		}
		*h = given
	}
	return nil
}

// computeHash computes what KillmailHash does.
func (p *parser) computeHash(o *object) (h hash, err error) {
	const why = ", for the hash to be computed"
	t, victim, ship := p.killmailTime(o), o.victim.ids[0], o.victim.ids[KindShip-KindCharacter]
	switch {
	case t.IsZero():
		return h, invalid("killmail_time", p.show(o.time), "a time as in 2026-01-31T12:00:00Z"+why)
	case ship < 1:
		return h, invalid("victim", "", "an object with a ship_type_id"+why)
	case victim < 0:
		return h, invalid("victim", "a character_id that is no integer", "a character_id or none"+why)
	case o.finalBlows != 1:
		return h, invalid("attackers", strconv.Itoa(o.finalBlows)+" with final_blow true", "one"+why)
	case o.killer < 0:
		return h, invalid("attackers", "a character_id that is no integer", "a character_id or none"+why)
	}
	var room [80]byte // 4 numbers of at most 20 bytes
	text := room[:0]
	for _, id := range [...]int64{victim, o.killer} {
		if id == 0 {
			text = append(text, "None"...)
		} else {
			text = strconv.AppendInt(text, id, 10)
		}
	}
	text = strconv.AppendInt(text, ship, 10)
	text = strconv.AppendInt(text, (t.Unix()+11644473600)*1e7, 10)
	sum := sha1.Sum(text)
	hex.Encode(h[:], sum[:])
	return h, nil
}

// labels appends the distinct labels of z that can be topics.
func (p *parser) labels(dst []string, z *zkb) []string {
	if z.labels.none() || p.buf[z.labels.from] != '[' {
		return dst
	}
	all := string(p.text(z.labels)) // the labels are pieces of it, so that they need one allocation together
	s := scanner{buf: p.buf, size: z.labels.to, pos: z.labels.from}
	s.open()
	for n := 0; s.element(n) && len(dst) < maxLabels; n++ {
		from := s.pos
		if s.skip(); s.buf[from] != '"' {
			continue
		}
		label := all[from+1-z.labels.from : s.pos-1-z.labels.from]
		if s.escaped {
			label = string(unescape([]byte(label)))
		}
		if label != "" && len(label) <= MaxLabel && !strings.ContainsFunc(label, unprintable) && !slices.Contains(dst, label) {
			dst = append(dst, label)
		}
	}
	return dst
}

// topics are the topics of a killmail. They use up o.attackers.
func (o *object) topics(system uint32, labels []string) []Topic {
	var room [len(o.victim.ids)]uint64
	victim := o.victim.appendTo(room[:0])
	attackers := o.attackers[:0]
	if len(o.attackers) <= 64 {
		for _, id := range o.attackers {
			if !slices.Contains(attackers, id) {
				attackers = append(attackers, id)
			}
		}
	} else {
		seen := make(map[uint64]struct{}, min(len(o.attackers)/2, maxParticipants))
		for _, id := range o.attackers {
			if _, ok := seen[id]; !ok && len(victim)+len(seen) < maxParticipants {
				seen[id] = struct{}{}
				attackers = append(attackers, id)
			}
		}
	}
	topics := append(make([]Topic, 0, 1+len(victim)+len(attackers)+len(labels)), System(system))
	for _, id := range victim {
		topics = append(topics, Topic{Kind: TopicKind(id>>32) | RoleLoss, ID: uint32(id)})
	}
	for _, id := range attackers {
		topics = append(topics, Topic{Kind: TopicKind(id>>32) | RoleKill, ID: uint32(id)})
	}
	for _, label := range labels {
		topics = append(topics, Label(label))
	}
	return topics
}

// digest sums up what is known of a killmail beside its body.
func digest(hash, zkb bool, labels []string) (d Digest) {
	if hash {
		d |= digestHash
	}
	if zkb {
		d |= digestZKB
	}
	if len(labels) == 0 {
		return d
	}
	var room [16]string
	sorted := append(room[:0], labels...)
	slices.Sort(sorted)
	joined := append(make([]byte, 0, 128), sorted[0]...)
	for _, label := range sorted[1:] {
		joined = append(append(joined, 0), label...)
	}
	return d | digestLabels | Digest(crc32.Checksum(joined, crc32.MakeTable(crc32.Castagnoli)))
}
