// From an event of the API to the little that a row needs. The event itself is not kept: ten thousand of them would be 100 MB.
// @ts-check

import {learn, note} from "./names.js"

/** What the list asks of each killmail. Items and what each attacker did come when somebody looks at one. */
export const fields = [
  "killmail_id", "killmail_time", ...["character_id", "corporation_id", "alliance_id", "faction_id", "ship_type_id"].flatMap(
    id => ["victim." + id, "attackers." + id]),
  "attackers.final_blow", "zkb.totalValue", "zkb.npc", "zkb.solo", "zkb.awox", "zkb.labels", "zkb.attackerCount", "zkb.demo",
].join(",")

/**
 * @typedef {object} Party
 * @property {number} [character]
 * @property {number} [corporation]
 * @property {number} [alliance]
 * @property {number} [faction]
 * @property {number} [ship]
 *
 * @typedef {object} Place
 * @property {number} id
 * @property {string} [name]
 * @property {number} [security]
 * @property {string} [space]
 * @property {string} [region]
 *
 * @typedef {object} Kill
 * @property {number} event
 * @property {number} id NaN: the killmail has none
 * @property {number} at of the loss, ms of the Unix epoch
 * @property {Place} place
 * @property {Party} victim
 * @property {Party | undefined} final
 * @property {number} attackers
 * @property {number | undefined} value
 * @property {string[]} marks
 * @property {boolean} demo
 * @property {number[]} missing ids whose names come later
 */

/**
 * @param {any} who
 * @returns {Party}
 */
export function party(who) {
  return {
    character: who?.character_id, corporation: who?.corporation_id, alliance: who?.alliance_id, faction: who?.faction_id,
    ship: who?.ship_type_id,
  }
}

/** @param {Party | undefined} p */
export function idsOf(p) {
  return p ? [p.character, p.corporation, p.alliance, p.faction, p.ship].filter(id => id !== undefined) : []
}

/**
 * @param {any} zkb
 * @returns {string[]}
 */
export function marksOf(zkb) {
  const labels = Array.isArray(zkb?.labels) ? zkb.labels : []
  return ["npc", "solo", "awox", "ganked"].filter(mark => zkb?.[mark] === true || labels.includes(mark))
}

/**
 * @param {any} event
 * @returns {Place}
 */
export function placeOf(event) {
  const system = event.names?.system
  if (system) note(system.id, {name: system.name, kind: "system"})
  return {id: event.system_id, name: system?.name, security: system?.security, space: system?.space, region: system?.region?.name}
}

/**
 * @param {any} event
 * @returns {Kill}
 */
export function killOf(event) {
  const k = event.killmail
  const attackers = Array.isArray(k.attackers) ? k.attackers : []
  const last = attackers.find((/** @type {any} */ a) => a.final_blow === true)
  const victim = party(k.victim)
  const final = last && party(last)
  const at = Date.parse(k.killmail_time ?? event.received_at)
  return {
    event: event.event_id, id: Number(k.killmail_id), at, place: placeOf(event), victim, final,
    attackers: attackers.length || (k.zkb?.attackerCount ?? 0),
    value: typeof k.zkb?.totalValue === "number" ? k.zkb.totalValue : undefined,
    marks: marksOf(k.zkb), demo: k.zkb?.demo === true,
    missing: learn(event.names, [...idsOf(victim), ...idsOf(final), event.system_id]),
  }
}
