package killfeed

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Topic is something an event can be about and a reader can ask for: "system:30000142", "character:…", "label:solo", "all".
// It is comparable.
type Topic struct {
	Kind TopicKind
	// ID is the number of a topic with a numbered kind: 1 to 2^31-1.
	ID uint32
	// Label is the zKillboard label of a label topic, and empty otherwise.
	Label string
}

// TopicKind is the part of a topic before the colon. The numbers are stored: they never change meaning.
type TopicKind uint8

const (
	// KindAll is the topic of every event.
	KindAll TopicKind = 1
	// KindSystem is the solar system of the loss.
	KindSystem TopicKind = 2
	// KindCharacter to KindShip match the victim or any attacker. Ships are type ids.
	KindCharacter   TopicKind = 3
	KindCorporation TopicKind = 4
	KindAlliance    TopicKind = 5
	KindFaction     TopicKind = 6
	KindShip        TopicKind = 7
	// KindLabel is a label given by zKillboard, such as "solo" or "loc:highsec".
	KindLabel TopicKind = 8
)

// MaxID is the greatest id of a system, type, character and so on.
const MaxID = 1<<31 - 1

// MaxLabel is the greatest length of a label, in bytes. Longer labels of a killmail are not topics.
const MaxLabel = 64

var kindNames = [...]string{
	KindAll: "all", KindSystem: "system", KindCharacter: "character", KindCorporation: "corporation",
	KindAlliance: "alliance", KindFaction: "faction", KindShip: "ship", KindLabel: "label",
}

const topicForms = "all, system:<id>, character:<id>, corporation:<id>, alliance:<id>, faction:<id>, ship:<type id> or label:<label>"

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
	dst = append(dst, kindNames[t.Kind]...)
	switch t.Kind {
	case KindAll:
		return dst
	case KindLabel:
		return append(append(dst, ':'), t.Label...)
	}
	return strconv.AppendUint(append(dst, ':'), uint64(t.ID), 10)
}

// ParseTopic reads a topic's name. The error is an *InvalidError.
func ParseTopic(s string) (Topic, error) {
	if s == "all" {
		return All(), nil
	}
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "label":
		if rest == "" || len(rest) > MaxLabel || !utf8.ValidString(rest) || strings.ContainsFunc(rest, unprintable) {
			return Topic{}, invalid("topics", s, "label:<label>, the label being 1 to 64 bytes of printable text")
		}
		return Label(rest), nil
	case "constellation", "region", "group":
		return Topic{}, invalid("topics", s, "another kind of topic: "+kind+
			" topics need static data, which this server does not have; accepted are "+topicForms)
	}
	for k := KindSystem; k < KindLabel; k++ {
		if kindNames[k] != kind {
			continue
		}
		id, ok := ParseID(rest)
		if !ok {
			return Topic{}, invalid("topics", s, kind+":<id>, the id being 1 to 2147483647 in decimal digits")
		}
		return Topic{Kind: k, ID: id}, nil
	}
	return Topic{}, invalid("topics", s, topicForms)
}

// IsTopic tells whether a name is that of a topic by its kind, whatever stands behind the colon: ParseTopic may refuse it.
func IsTopic(s string) bool {
	kind, _, named := strings.Cut(s, ":")
	switch kind {
	case "all":
		return !named
	case "constellation", "region", "group":
		return named
	}
	return named && slices.Contains(kindNames[KindSystem:], kind)
}

// ParseID reads an id of the game: decimal digits, 1 to 2^31-1, and nothing else.
func ParseID(s string) (uint32, bool) {
	n, ok := parseUint(s)
	return uint32(n), ok && n >= 1 && n <= MaxID
}
