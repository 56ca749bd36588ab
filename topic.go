package killfeed

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Topic is something an event can be about and a reader can ask for: "system:30000142", "character:…", "label:solo", "all".
// It is comparable.
type Topic struct {
	Kind TopicKind
	// ID is the number of a topic with a numbered kind: 1 to 2^31-1. That of a KindSpace topic is a Space.
	ID uint32
	// Label is the zKillboard label of a label topic, and empty otherwise.
	Label string
}

// TopicKind is the part of a topic before the last colon. The numbers are stored: they never change meaning.
//
// A kind from KindCharacter to KindShip, and KindGroup, matches the victim and any attacker; with RoleLoss the victim alone, with
// RoleKill any attacker alone.
type TopicKind uint8

const (
	// KindAll is the topic of every event.
	KindAll TopicKind = 1
	// KindSystem is the solar system of the loss.
	KindSystem TopicKind = 2
	// KindCharacter to KindShip are who took part, and what they flew. Ships are type ids.
	KindCharacter   TopicKind = 3
	KindCorporation TopicKind = 4
	KindAlliance    TopicKind = 5
	KindFaction     TopicKind = 6
	KindShip        TopicKind = 7
	// KindLabel is a label given by zKillboard, such as "solo" or "loc:highsec".
	KindLabel TopicKind = 8
	// KindConstellation, KindRegion and KindSpace are where the solar system lies.
	KindConstellation TopicKind = 9
	KindRegion        TopicKind = 10
	KindSpace         TopicKind = 11
	// KindGroup is the group of a ship's type.
	KindGroup TopicKind = 12
)

const (
	// RoleLoss is set in a kind that matches the victim alone: "loss:corporation:98…".
	RoleLoss TopicKind = 0x40
	// RoleKill is set in a kind that matches any attacker alone: "kill:corporation:98…".
	RoleKill TopicKind = 0x80
)

// Base is the kind without a role.
func (k TopicKind) Base() TopicKind { return k &^ (RoleLoss | RoleKill) }

// Role is RoleLoss, RoleKill or 0.
func (k TopicKind) Role() TopicKind { return k & (RoleLoss | RoleKill) }

// placed tells whether what is on the topic follows from static data.
func (k TopicKind) placed() bool {
	base := k.Base()
	return base >= KindConstellation && base <= KindGroup
}

// party tells whether the topic is about who took part, so that it can have a role.
func (k TopicKind) party() bool {
	base := k.Base()
	return base >= KindCharacter && base <= KindShip || base == KindGroup
}

// exact tells whether it is known exactly what was removed of a topic.
func (t Topic) exact() bool {
	return t.Kind == KindSystem || t.Kind == KindConstellation || t.Kind == KindRegion || t.Kind == KindSpace
}

// MaxID is the greatest id of a system, type, character and so on.
const MaxID = 1<<31 - 1

// MaxLabel is the greatest length of a label, in bytes. Longer labels of a killmail are not topics.
const MaxLabel = 64

var kindNames = [...]string{
	KindAll: "all", KindSystem: "system", KindCharacter: "character", KindCorporation: "corporation",
	KindAlliance: "alliance", KindFaction: "faction", KindShip: "ship", KindLabel: "label",
	KindConstellation: "constellation", KindRegion: "region", KindSpace: "space", KindGroup: "group",
}

// kindOf is the kind, other than KindAll, that has the name; 0 when none has.
func kindOf(name string) TopicKind {
	for k := KindSystem; k <= KindGroup; k++ {
		if kindNames[k] == name {
			return k
		}
	}
	return 0
}

const (
	storedForms = "all, system:<id>, character:<id>, corporation:<id>, alliance:<id>, faction:<id>, ship:<type id>, label:<label>"
	roleForms   = ", and kill:<topic> or loss:<topic> of who took part"
	topicForms  = storedForms + ", constellation:<id>, region:<id>, space:<kind>, group:<id>" + roleForms
)

// All is the topic of every event.
func All() Topic { return Topic{Kind: KindAll} }

// System is the topic of a solar system.
func System(id uint32) Topic { return Topic{Kind: KindSystem, ID: id} }

// Label is the topic of a zKillboard label.
func Label(label string) Topic { return Topic{Kind: KindLabel, Label: label} }

// String is the topic's name, as in "system:30000142".
func (t Topic) String() string { return string(t.Append(nil)) }

// Append appends the topic's name.
func (t Topic) Append(dst []byte) []byte {
	switch t.Kind.Role() {
	case RoleLoss:
		dst = append(dst, "loss:"...)
	case RoleKill:
		dst = append(dst, "kill:"...)
	}
	base := t.Kind.Base()
	dst = append(dst, kindNames[base]...)
	switch base {
	case KindAll:
		return dst
	case KindLabel:
		return append(append(dst, ':'), t.Label...)
	case KindSpace:
		return append(append(dst, ':'), Space(t.ID).String()...)
	}
	return strconv.AppendUint(append(dst, ':'), uint64(t.ID), 10)
}

// ParseTopic reads a topic's name, in which everything is numbered. The error is an *InvalidError.
//
// Whether there is anything on a topic of a constellation, region, space or group is a question of static data:
// Universe.ParseTopic asks for it, and knows names.
func ParseTopic(s string) (Topic, error) {
	t, rest, err := cutTopic(s)
	if err != nil || rest == "" {
		return t, err
	}
	if t.Kind == KindSpace {
		space, err := ParseSpace("topics", rest)
		t.ID = uint32(space)
		return t, err
	}
	id, ok := ParseID(rest)
	if !ok {
		return Topic{}, invalid("topics", s, strings.TrimSuffix(s, rest)+"<id>, the id being 1 to 2147483647 in decimal digits")
	}
	t.ID = id
	return t, nil
}

// cutTopic reads a topic's name but for its id, which is the rest; when there is none the topic is whole.
func cutTopic(s string) (t Topic, rest string, err error) {
	if s == "all" {
		return All(), "", nil
	}
	kind, rest, _ := strings.Cut(s, ":")
	var role TopicKind
	switch kind {
	case "kill":
		role = RoleKill
	case "loss":
		role = RoleLoss
	}
	if role != 0 {
		kind, rest, _ = strings.Cut(rest, ":")
	}
	t.Kind = kindOf(kind)
	switch {
	case t.Kind == 0, role != 0 && !t.Kind.party():
		return Topic{}, "", invalid("topics", s, topicForms)
	case t.Kind == KindLabel:
		if rest == "" || len(rest) > MaxLabel || !utf8.ValidString(rest) || strings.ContainsFunc(rest, unprintable) {
			return Topic{}, "", invalid("topics", s, "label:<label>, the label being 1 to 64 bytes of printable text")
		}
		return Label(rest), "", nil
	case rest == "":
		return Topic{}, "", invalid("topics", s, strings.TrimSuffix(s, ":")+":<id>, the id being 1 to 2147483647 in decimal digits")
	}
	t.Kind |= role
	return t, rest, nil
}

// IsTopic tells whether a name is that of a topic by its kind, whatever stands behind the colon: ParseTopic may refuse it.
func IsTopic(s string) bool {
	kind, rest, named := strings.Cut(s, ":")
	if kind == "all" {
		return !named
	}
	if kind == "kill" || kind == "loss" {
		kind, _, named = strings.Cut(rest, ":")
		return named && kindOf(kind).party()
	}
	return named && kindOf(kind) != 0
}

// ParseID reads an id of the game: decimal digits, 1 to 2^31-1, and nothing else.
func ParseID(s string) (uint32, bool) {
	n, ok := parseUint(s)
	return uint32(n), ok && n >= 1 && n <= MaxID
}
