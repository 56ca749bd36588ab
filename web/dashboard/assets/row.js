// One killmail in the list.
// @ts-check

import {now} from "./api.js"
import {element, outward, setText} from "./dom.js"
import {ago, counted, eveDay, eveTime, isk, number} from "./format.js"
import {drawHull} from "./hull.js"
import {named, tickered} from "./names.js"

/** @typedef {import("./killmail.js").Kill} Kill */
/** @typedef {import("./killmail.js").Party} Party */
/** @typedef {import("./killmail.js").Place} Place */

/**
 * A name, or what stands for it until it is known.
 * @param {string} kind
 * @param {number | undefined} id
 */
export function nameOf(kind, id) {
  if (id === undefined) return ""
  return named(id)?.name ?? (kind === "corporation" ? "corp" : kind) + " " + id
}

/**
 * A link that asks for this alone: it can be opened in another tab, and a click in this one adds it to the filter.
 * @param {string} key
 * @param {string | number} value
 * @param {string} text
 * @param {string} [title]
 */
export function filterLink(key, value, text, title) {
  const link = element("a", {href: "?" + new URLSearchParams({[key]: String(value)}), "data-key": key, "data-value": value, tabindex: -1, title: title ?? text}, text)
  return link
}

/**
 * Who it was, in two lines: the pilot, then corporation and alliance. Both may be missing: structures have no pilot.
 * @param {Party | undefined} p
 * @returns {[HTMLElement, HTMLElement]}
 */
function who(p) {
  const first = element("div", {class: "line"})
  const second = element("div", {class: "line faint of"})
  if (!p) {
    first.append("–")
    return [first, second]
  }
  const corporation = p.corporation === undefined ? undefined : filterLink("corporation", p.corporation, nameOf("corporation", p.corporation))
  const ticker = named(p.corporation)?.ticker
  if (p.character !== undefined) first.append(filterLink("character", p.character, nameOf("character", p.character)))
  else if (corporation) first.append(corporation)
  else if (p.faction !== undefined) first.append(filterLink("faction", p.faction, nameOf("faction", p.faction)))
  else first.append(nameOf("type", p.ship) || "–")
  if (p.character !== undefined && corporation) second.append(corporation)
  if (ticker) {
    second.append(element("span", {}, `[${ticker}]`))
    second.classList.add("ticked")
  }
  const above = p.alliance !== undefined ? /** @type {const} */ (["alliance", p.alliance]) : p.faction !== undefined && p.character !== undefined
    ? /** @type {const} */ (["faction", p.faction]) : undefined
  if (above) {
    if (second.hasChildNodes()) second.append(element("span", {}, "·"))
    second.append(filterLink(above[0], above[1], nameOf(above[0], above[1])))
  }
  return [first, second]
}

/**
 * The security of a system as the game shows it, or the kind of space where that says more.
 * @param {Place} place
 */
export function security(place) {
  const letters = /** @type {Record<string, [string, string]>} */ ({
    wormhole: ["W", "wormhole space"], pochven: ["P", "Pochven"], abyssal: ["A", "abyssal space"],
  })
  const letter = place.space ? letters[place.space] : undefined
  if (letter) return element("span", {class: "security space-" + place.space, title: letter[1]}, letter[0])
  if (place.security === undefined) return undefined
  const step = Math.max(0, Math.round(place.security * 10))
  return element("span", {class: "security security-" + step, title: "security status"}, place.security.toFixed(1))
}

/** How much a value stands out. @param {number | undefined} value */
export function tier(value) {
  if (value === undefined || value < 10e6) return "low"
  if (value < 1e9) return "middle"
  return value < 10e9 ? "high" : "top"
}

const markTitles = /** @type {Record<string, string>} */ ({
  npc: "killed by NPCs alone", solo: "one attacker alone", awox: "killed by a corporation mate", ganked: "ganked in high security",
})

/** @param {string[]} list */
export function markBadges(list) {
  return list.map(mark => element("span", {class: "mark mark-" + mark, title: markTitles[mark]}, mark))
}

/** zKillboard's page of a killmail; undefined: it has none. @param {Kill} k */
export function zkillboard(k) {
  return k.demo || !Number.isFinite(k.id) ? undefined : `https://zkillboard.com/kill/${k.id}/`
}

/** A row, which shows a killmail for as long as it is in the list. */
export class Row {
  /**
   * @param {Kill} kill
   * @param {boolean | undefined} loss of those that are asked for
   */
  constructor(kill, loss) {
    this.kill = kill
    this.missing = new Set(kill.missing)
    this.element = element("li", {class: "row", "data-event": kill.event})
    if (loss !== undefined) this.element.classList.add(loss ? "loss" : "kill")
    this.element.dataset.tier = tier(kill.value)
    this.box = element("div", {class: "hull"})
    this.relative = element("span", {class: "line faint relative"})
    this.#fill()
  }

  #fill() {
    const k = this.kill
    const day = eveDay(k.at)
    const group = named(k.victim.ship)?.group
    drawHull(this.box, k.victim.ship, group)
    const ship = nameOf("type", k.victim.ship) || "unknown"
    const open = element("a", Number.isFinite(k.id) ? {class: "open", href: "#km=" + k.id} : {class: "open", tabindex: 0}, ship)
    const [victim, victimOf] = who(k.victim)
    const [final, finalOf] = who(k.final)
    const name = k.place.name ?? nameOf("system", k.place.id)
    const external = zkillboard(k)
    const zkb = external && outward(external, "zkb")
    if (zkb) {
      zkb.tabIndex = -1
      zkb.title = "on zKillboard"
      zkb.className = "zkb"
    }
    this.element.replaceChildren(
      this.box,
      element("div", {class: "cell ship"},
        element("div", {class: "line strong"}, open, ...markBadges(k.marks)),
        element("div", {class: "line faint"}, group ? filterLink("group", group, group) : "")),
      element("div", {class: "cell victim"}, victim, victimOf),
      element("div", {class: "cell final"}, final, finalOf),
      element("div", {class: "cell place"},
        element("div", {class: "line"}, security(k.place), " ", filterLink("system", k.place.name ?? k.place.id, name)),
        element("div", {class: "line faint"}, k.place.region ? filterLink("region", k.place.region, k.place.region) : "")),
      element("div", {class: "cell value"},
        element("div", {class: "line isk", title: k.value === undefined ? undefined : number(k.value) + " ISK"}, isk(k.value)),
        element("div", {class: "line faint", title: counted(k.attackers, "attacker")}, element("span", {class: "count"}, String(k.attackers)),
          element("span", {class: "word"}, k.attackers === 1 ? " attacker" : " attackers"))),
      element("div", {class: "cell when"},
        element("time", {class: "line", datetime: Number.isFinite(k.at) ? new Date(k.at).toISOString() : undefined, title: `${day} ${eveTime(k.at)} EVE time`},
          now() - k.at < 20 * 3600_000 ? eveTime(k.at) : day),
        element("div", {class: "line faint"}, this.relative, " ", zkb)))
  }

  /**
   * Shows how long ago it was.
   * @param {number} at the time now
   */
  tick(at) {
    setText(this.relative, ago(this.kill.at, at))
  }

  /**
   * Fills in names that have come.
   * @param {Set<number>} ids
   * @param {number} at the time now
   */
  named(ids, at) {
    let mine = false
    for (const id of this.missing) {
      if (!ids.has(id)) continue
      mine = true
      const is = named(id)
      if (!is || is.ticker || !tickered(is.kind)) this.missing.delete(id) // else its ticker is still to come
    }
    if (!mine) return
    const focused = this.element.contains(document.activeElement)
    this.#fill()
    this.tick(at)
    if (focused) this.focus()
  }

  /** Draws the ship again, with or without its picture. */
  redraw() {
    drawHull(this.box, this.kill.victim.ship, named(this.kill.victim.ship)?.group)
  }

  /** Moves the keyboard's focus here. */
  focus() {
    const open = /** @type {HTMLElement | null} */ (this.element.querySelector("a.open"))
    open?.focus({preventScroll: true})
    this.element.scrollIntoView({block: "nearest"})
  }

  /** In a sentence, for who hears the page. */
  summary() {
    const k = this.kill
    const whose = nameOf("character", k.victim.character) || nameOf("corporation", k.victim.corporation)
    return `${nameOf("type", k.victim.ship)}${whose ? " of " + whose : ""} in ${k.place.name ?? nameOf("system", k.place.id)}` +
      (k.value === undefined ? "" : `, ${isk(k.value)} ISK`)
  }
}
