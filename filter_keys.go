package killfeed

import "strings"

// subjectOf makes a rule, without an operator and values, of a key.
func subjectOf(key string) (*rule, error) {
	prefix, name, dotted := strings.Cut(key, ".")
	if !dotted {
		return ownSubject(key), nil
	}
	var role filterRole
	switch prefix {
	case "victim", "loss":
		role = roleVictim
	case "attacker", "attackers", "kill":
		role = roleAttacker
	case "final":
		role = roleFinal
	default:
		return nil, badFilter(key, "a member's name alone, which is found wherever it is; a point stands only behind victim, attacker and final")
	}
	r := ownSubject(name)
	if r.subject != subjectParty && r.subject != subjectGroup {
		return nil, badFilter(key, "character, corporation, alliance, faction, ship or group behind "+prefix+".")
	}
	r.role = role
	return r, nil
}

// ownSubject makes a rule of a key without a role: one of the language's own, or a member's name.
func ownSubject(key string) *rule {
	r := &rule{key: key}
	switch key {
	case "character", "character_id":
		r.key, r.subject, r.party = "character", subjectParty, KindCharacter
	case "corporation", "corporation_id":
		r.key, r.subject, r.party = "corporation", subjectParty, KindCorporation
	case "alliance", "alliance_id":
		r.key, r.subject, r.party = "alliance", subjectParty, KindAlliance
	case "faction", "faction_id":
		r.key, r.subject, r.party = "faction", subjectParty, KindFaction
	case "ship", "ship_type_id":
		r.key, r.subject, r.party = "ship", subjectParty, KindShip
	case "group", "group_id":
		r.key, r.subject = "group", subjectGroup
	case "system", "system_id", "solar_system_id":
		r.key, r.subject = "system", subjectSystem
	case "constellation", "constellation_id":
		r.key, r.subject = "constellation", subjectConstellation
	case "region", "region_id":
		r.key, r.subject = "region", subjectRegion
	case "space":
		r.subject = subjectSpace
	case "label", "labels":
		r.key, r.subject = "label", subjectLabel
	case "attackers":
		r.subject, r.takes = subjectAttackers, takesNumber
	case "isk", "value", "totalValue":
		r.key, r.member, r.takes = "isk", memberTotalValue, takesISK
	case "fittedValue", "droppedValue", "destroyedValue":
		r.member, r.takes = memberOf([]byte(key)), takesISK
	case "npc", "solo", "awox", "final_blow":
		r.member, r.takes = memberOf([]byte(key)), takesBool
	case "weapon", "weapon_type_id":
		r.key, r.member, r.takes = "weapon", memberWeapon, takesType
	case "item", "item_type_id":
		r.key, r.member, r.takes = "item", memberItem, takesType
	default:
		if r.member = memberOf([]byte(key)); r.member == memberOther {
			r.name = key
		}
	}
	return r
}

// hasIDs tells whether what the rule looks at has ids, or numbers as good as ids.
func (r *rule) hasIDs() bool {
	return r.subject != subjectMember && r.subject != subjectLabel && r.subject != subjectAttackers
}

// ordered tells whether the rule may have "<" and the like.
func (r *rule) ordered() bool {
	switch r.subject {
	case subjectGroup, subjectConstellation, subjectRegion, subjectSpace, subjectLabel:
		return false
	}
	return r.takes != takesBool
}

// needsUniverse tells whether nothing is known of the rule's subject without static data.
func (r *rule) needsUniverse() bool {
	switch r.subject {
	case subjectGroup, subjectConstellation, subjectRegion, subjectSpace:
		return true
	}
	return false
}

// kind is the kind of topics that the rule's ids are of, without a role; 0 when they are of none.
func (r *rule) kind() TopicKind {
	switch r.subject {
	case subjectParty:
		return r.party
	case subjectGroup:
		return KindGroup
	case subjectSystem:
		return KindSystem
	case subjectConstellation:
		return KindConstellation
	case subjectRegion:
		return KindRegion
	case subjectSpace:
		return KindSpace
	case subjectLabel:
		return KindLabel
	}
	return 0
}
