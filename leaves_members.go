package killfeed

// member is the name of a member of killmails: names that are common have numbers.
type member uint8

const (
	memberOther member = iota // any other name
	memberKillmailID
	memberKillID
	memberKillmailTime
	memberMoonID
	memberWarID
	memberVictim
	memberZKB
	memberDamageTaken
	memberDamageDone
	memberSecurityStatus
	memberFinalBlow
	memberWeapon
	memberItem
	memberFlag
	memberSingleton
	memberDestroyed
	memberDropped
	memberX
	memberY
	memberZ
	memberLocation
	memberHash
	memberHref
	memberFittedValue
	memberDroppedValue
	memberDestroyedValue
	memberTotalValue
	memberPoints
	memberNPC
	memberSolo
	memberAwox
	memberAttackerCount
	memberCount

	// The members from here on are looked for at one place only.
	memberCharacter // with the four behind it in the order of the kinds of topics
	memberCorporation
	memberAlliance
	memberFaction
	memberShip
	memberSystem
	memberAttackers
	memberLabels
	memberNone // of values that nobody can ask for
)

// memberOf returns the number of a name.
func memberOf(name []byte) member {
	switch string(name) {
	case "killmail_id":
		return memberKillmailID
	case "killID":
		return memberKillID
	case "killmail_time":
		return memberKillmailTime
	case "moon_id":
		return memberMoonID
	case "war_id":
		return memberWarID
	case "victim":
		return memberVictim
	case "zkb":
		return memberZKB
	case "damage_taken":
		return memberDamageTaken
	case "damage_done":
		return memberDamageDone
	case "security_status":
		return memberSecurityStatus
	case "final_blow":
		return memberFinalBlow
	case "weapon_type_id":
		return memberWeapon
	case "item_type_id":
		return memberItem
	case "flag":
		return memberFlag
	case "singleton":
		return memberSingleton
	case "quantity_destroyed":
		return memberDestroyed
	case "quantity_dropped":
		return memberDropped
	case "x":
		return memberX
	case "y":
		return memberY
	case "z":
		return memberZ
	case "locationID":
		return memberLocation
	case "hash":
		return memberHash
	case "href":
		return memberHref
	case "fittedValue":
		return memberFittedValue
	case "droppedValue":
		return memberDroppedValue
	case "destroyedValue":
		return memberDestroyedValue
	case "totalValue":
		return memberTotalValue
	case "points":
		return memberPoints
	case "npc":
		return memberNPC
	case "solo":
		return memberSolo
	case "awox":
		return memberAwox
	case "attackerCount":
		return memberAttackerCount
	case "character_id":
		return memberCharacter
	case "corporation_id":
		return memberCorporation
	case "alliance_id":
		return memberAlliance
	case "faction_id":
		return memberFaction
	case "ship_type_id":
		return memberShip
	case "solar_system_id":
		return memberSystem
	case "attackers":
		return memberAttackers
	case "labels":
		return memberLabels
	}
	return memberOther
}
