// All of one killmail, in a dialog beside the list. Its address is #km=<id>, so that it can be linked to, and the back button
// closes it.
// @ts-check

import {ApiError, getJSON, now} from "./api.js"
import {copy, element, find, outward} from "./dom.js"
import {ago, counted, eveDay, eveTime, isk, number} from "./format.js"
import {drawHull} from "./hull.js"
import {idsOf, marksOf, party, placeOf} from "./killmail.js"
import {learn, named, want, whenNamed} from "./names.js"
import {filterLink, markBadges, nameOf, security} from "./row.js"

const firstAttackers = 50 // shown at once; battles have a thousand

/** Where in the ship an item was, by its flag: the game's own numbers. */
const slots = /** @type {[string, number, number][]} */ ([
  ["High slots", 27, 34], ["Medium slots", 19, 26], ["Low slots", 11, 18], ["Rigs", 92, 99], ["Subsystems", 125, 132],
  ["Services", 164, 171], ["Fighter tubes", 159, 163], ["Fighter bay", 158, 158], ["Drone bay", 87, 87], ["Cargo", 5, 5],
  ["Fleet hangar", 155, 155], ["Ship hangar", 90, 90], ["Implants", 89, 89], ["Mining hold", 134, 134], ["Fuel bay", 133, 133],
])

/** @param {number} flag */
function slotOf(flag) {
  return slots.find(([, from, to]) => flag >= from && flag <= to)?.[0] ?? "Elsewhere"
}

/** The dialog. */
export class Detail {
  /** @type {AbortController | undefined} */
  #asking
  /** @type {any} the event that is shown */
  #event
  #all = false // all attackers are shown
  /** The killmail that is shown; 0: none. */
  id = 0

  /**
   * @param {HTMLDialogElement} dialog
   * @param {object} hooks
   * @param {() => void} hooks.closed the reader has closed it
   * @param {(text: string) => void} hooks.say something short, which passes
   */
  constructor(dialog, hooks) {
    this.dialog = dialog
    this.hooks = hooks
    this.body = find(".body", dialog)
    this.heading = find("h2", dialog)
    dialog.addEventListener("close", () => {
      if (this.id) {
        this.id = 0
        hooks.closed()
      }
    })
    dialog.addEventListener("click", event => {
      if (event.target === dialog) dialog.close() // beside it
    })
    find("button.close", dialog).addEventListener("click", () => dialog.close())
    whenNamed(ids => {
      if (this.#event && this.id && this.#ids().some(id => ids.has(id))) this.#draw()
    })
  }

  /** Closes it because the address says so: nobody is told. */
  close() {
    this.id = 0
    this.#asking?.abort()
    if (this.dialog.open) this.dialog.close()
  }

  /**
   * Shows a killmail.
   * @param {number} id
   */
  async show(id) {
    if (id === this.id) return
    this.#asking?.abort()
    this.#asking = new AbortController()
    const {signal} = this.#asking
    this.id = id
    this.#event = undefined
    this.#all = false
    this.heading.textContent = "Killmail " + id
    this.body.replaceChildren(element("p", {class: "faint"}, "Loading …"))
    if (!this.dialog.open) this.dialog.showModal()
    try {
      const event = await getJSON(`/api/killmails/${id}?names=1`, signal)
      if (signal.aborted) return
      this.#event = event
      want(learn(event.names, this.#ids()))
      this.#draw()
      this.body.scrollTop = 0
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof ApiError)) throw error
      this.body.replaceChildren(element("p", {class: "refusal", role: "alert"}, error.message),
        element("p", {}, outward(`https://zkillboard.com/kill/${id}/`, "Look for it on zKillboard")))
    }
  }

  #ids() {
    const k = this.#event.killmail
    const attackers = Array.isArray(k.attackers) ? k.attackers : []
    const ids = [this.#event.system_id, ...idsOf(party(k.victim))]
    for (const a of this.#all ? attackers : attackers.slice(0, firstAttackers)) ids.push(...idsOf(party(a)), ...(a.weapon_type_id ? [a.weapon_type_id] : []))
    for (const i of k.victim?.items ?? []) for (const item of [i, ...(i.items ?? [])]) ids.push(item.item_type_id)
    return ids
  }

  #draw() {
    const event = this.#event
    const k = event.killmail
    const zkb = k.zkb ?? {}
    const victim = party(k.victim)
    const group = named(victim.ship)?.group
    this.heading.textContent = nameOf("type", victim.ship) || "Killmail " + this.id
    const hull = element("div", {class: "hull large"})
    drawHull(hull, victim.ship, group)
    const place = placeOf(event)
    const at = Date.parse(k.killmail_time)
    const top = element("div", {class: "victim-card"}, hull, element("div", {},
      element("p", {class: "strong"}, this.#who(victim)),
      element("p", {class: "faint"}, this.#whose(victim)),
      element("p", {}, security(place), " ", filterLink("system", place.name ?? place.id, place.name ?? nameOf("system", place.id)),
        place.region ? " · " : "", place.region ? filterLink("region", place.region, place.region) : ""),
      element("p", {class: "faint"}, `${eveDay(at)} ${eveTime(at)} EVE time · ${ago(at, now())}`)))
    for (const a of top.querySelectorAll("a")) a.removeAttribute("tabindex")
    this.body.replaceChildren(top, this.#links(place, zkb), this.#values(k, zkb), this.#attackers(k), this.#items(k))
  }

  /** @param {import("./killmail.js").Party} p */
  #who(p) {
    if (p.character !== undefined) return filterLink("character", p.character, nameOf("character", p.character))
    if (p.corporation !== undefined) return filterLink("corporation", p.corporation, nameOf("corporation", p.corporation))
    if (p.faction !== undefined) return filterLink("faction", p.faction, nameOf("faction", p.faction))
    return nameOf("type", p.ship) || "unknown"
  }

  /** @param {import("./killmail.js").Party} p */
  #whose(p) {
    const all = element("span")
    for (const kind of /** @type {const} */ (["corporation", "alliance", "faction"])) {
      const id = p[kind]
      if (id === undefined || (kind === "corporation" && p.character === undefined)) continue
      const ticker = named(id)?.ticker
      if (all.hasChildNodes()) all.append(" · ")
      all.append(filterLink(kind, id, nameOf(kind, id)), ticker ? ` [${ticker}]` : "")
    }
    return all
  }

  /**
   * @param {import("./killmail.js").Place} place
   * @param {any} zkb
   */
  #links(place, zkb) {
    const links = element("p", {class: "links"})
    if (!zkb.demo) {
      links.append(outward(`https://zkillboard.com/kill/${this.id}/`, "zKillboard"))
      if (zkb.hash) links.append(outward(`https://esi.evetech.net/killmails/${this.id}/${zkb.hash}/`, "ESI"))
    }
    if (place.name) links.append(outward("https://evemaps.dotlan.net/system/" + encodeURIComponent(place.name.replaceAll(" ", "_")), "Dotlan"))
    links.append(element("a", {href: "/api/killmails/" + this.id, target: "_blank"}, "JSON"))
    const link = element("button", {type: "button", class: "plain"}, "Copy link")
    link.addEventListener("click", () => this.copyLink())
    links.append(link)
    return links
  }

  /** Copies where it can be found again. */
  async copyLink() {
    const done = await copy(`${location.origin}${location.pathname}#km=${this.id}`)
    this.hooks.say(done ? "The link is copied." : "The browser does not let this page copy.")
  }

  /**
   * @param {any} k
   * @param {any} zkb
   */
  #values(k, zkb) {
    const list = element("dl", {class: "values"})
    /** @param {string} term @param {Node | string | undefined} value */
    const add = (term, value) => {
      if (value !== undefined) list.append(element("div", {}, element("dt", {}, term), element("dd", {}, value)))
    }
    /** @param {unknown} v */
    const money = v => typeof v === "number" ? element("span", {title: number(v) + " ISK"}, isk(v)) : undefined
    add("Total", money(zkb.totalValue))
    add("Destroyed", money(zkb.destroyedValue))
    add("Dropped", money(zkb.droppedValue))
    add("Fitted", money(zkb.fittedValue))
    if (typeof k.victim?.damage_taken === "number") add("Damage taken", number(k.victim.damage_taken))
    if (typeof zkb.points === "number") add("Points", number(zkb.points))
    const badges = element("p", {class: "labels"}, ...markBadges(marksOf(zkb)))
    for (const label of Array.isArray(zkb.labels) ? zkb.labels : []) {
      if (!["npc", "solo", "awox", "ganked"].includes(label)) badges.append(element("span", {class: "mark"}, String(label)))
    }
    if (k.war_id) badges.append(element("span", {class: "mark"}, "war " + k.war_id))
    return element("section", {}, list, badges.hasChildNodes() ? badges : "")
  }

  /** @param {any} k */
  #attackers(k) {
    const all = Array.isArray(k.attackers) ? [...k.attackers] : []
    all.sort((a, b) => (b.damage_done ?? 0) - (a.damage_done ?? 0) || Number(b.final_blow === true) - Number(a.final_blow === true))
    const total = all.reduce((sum, a) => sum + (a.damage_done ?? 0), 0)
    let shown = this.#all ? all : all.slice(0, firstAttackers)
    const last = all.find(a => a.final_blow === true)
    if (last && !shown.includes(last)) shown = [...shown, last]
    const list = element("ol", {class: "attackers"})
    for (const a of shown) {
      const p = party(a)
      const hull = element("div", {class: "hull"})
      drawHull(hull, p.ship, named(p.ship)?.group)
      const weapon = a.weapon_type_id && a.weapon_type_id !== p.ship ? " · " + nameOf("type", a.weapon_type_id) : ""
      const share = total > 0 ? Math.round((100 * (a.damage_done ?? 0)) / total) + " %" : ""
      list.append(element("li", {}, hull,
        element("div", {class: "cell"},
          element("div", {class: "line strong"}, this.#who(p), a.final_blow === true ? element("span", {class: "mark mark-final"}, "final blow") : ""),
          element("div", {class: "line faint"}, (nameOf("type", p.ship) || "no ship") + weapon),
          element("div", {class: "line faint"}, this.#whose(p))),
        element("div", {class: "cell value"}, element("div", {class: "line"}, number(a.damage_done ?? 0)), element("div", {class: "line faint"}, share))))
    }
    for (const a of list.querySelectorAll("a")) a.removeAttribute("tabindex")
    const section = element("section", {}, element("h3", {}, counted(all.length, "attacker")), list)
    if (shown.length < all.length) {
      const more = element("button", {type: "button", class: "plain"}, `Show all ${all.length}`)
      more.addEventListener("click", () => {
        this.#all = true
        want(learn(this.#event.names, this.#ids()))
        this.#draw()
        find("h3", this.body).scrollIntoView()
      })
      section.append(more)
    }
    return section
  }

  /** @param {any} k */
  #items(k) {
    /** @type {Map<string, Map<string, {type: number, dropped: boolean, inside: boolean, copy: boolean, n: number}>>} */
    const places = new Map()
    /** @param {any} item @param {string} slot @param {boolean} inside */
    const note = (item, slot, inside) => {
      for (const dropped of [false, true]) {
        const n = item[dropped ? "quantity_dropped" : "quantity_destroyed"] ?? 0
        if (n <= 0) continue
        const copy = item.singleton === 2
        const place = places.get(slot) ?? new Map()
        places.set(slot, place)
        const key = `${item.item_type_id} ${dropped} ${inside} ${copy}`
        const there = place.get(key)
        if (there) there.n += n
        else place.set(key, {type: item.item_type_id, dropped, inside, copy, n})
      }
    }
    for (const item of k.victim?.items ?? []) {
      const slot = slotOf(item.flag)
      note(item, slot, false)
      for (const inner of item.items ?? []) note(inner, slot, true)
    }
    if (places.size === 0) return element("section", {}, element("h3", {}, "Items"), element("p", {class: "faint"}, "It had none."))
    const section = element("section", {}, element("h3", {}, "Items"),
      element("p", {class: "legend faint"}, element("span", {class: "dropped"}, "dropped"), " · ", element("span", {class: "destroyed"}, "destroyed")))
    const order = [...slots.map(([name]) => name), "Elsewhere"]
    for (const [name, items] of [...places].sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]))) {
      const list = element("ul", {class: "items"})
      for (const i of items.values()) {
        list.append(element("li", {class: (i.dropped ? "dropped" : "destroyed") + (i.inside ? " inside" : "")},
          element("span", {}, nameOf("type", i.type) + (i.copy ? " (copy)" : "")),
          element("span", {class: "state"}, i.dropped ? "dropped" : "destroyed"),
          element("span", {class: "n"}, number(i.n))))
      }
      section.append(element("h4", {}, name), list)
    }
    return section
  }
}
