// The overlay at /overlay: the newest killmails of a filter on a transparent ground, for the picture of a stream. What it shows is
// in its address, as on the page at /, because whoever looks at it cannot click.
// @ts-check

import {ApiError, getJSON, now, withQuery} from "./api.js"
import {element, find, setText} from "./dom.js"
import * as filters from "./filters.js"
import {counted, isk} from "./format.js"
import {drawHull} from "./hull.js"
import {fields, killOf} from "./killmail.js"
import {named, want, whenNamed} from "./names.js"
import {nameOf, security, tier} from "./row.js"
import {Follower} from "./stream.js"

/** @typedef {import("./killmail.js").Kill} Kill */

const usual = 5 // killmails that are shown
const most = 20
const together = 150 // ms in which what comes is shown at once
const leaving = 500 // ms that overlay.css lets a row leave in
const quiet = 1_500 // ms between two sounds
const patience = 15_000 // ms without a connection, after which it is said

const asked = new URLSearchParams(location.search)
const filter = filters.parse(location.search)
const rules = filters.rules(filter)
const limit = Math.max(1, Math.min(most, Math.floor(Number(asked.get("limit"))) || usual))
const maxAge = asked.get("max_age")?.trim() || undefined
const pictures = asked.get("images") !== "0"
const sounds = asked.get("sound") !== "0"
const topics = topicsOf(asked)

const list = find("#kills")
/** @type {Plate[]} the newest first */
let plates = []
/** @type {Kill[]} what came and is not shown yet, the oldest first */
let came = []
/** @type {ReturnType<typeof setTimeout> | undefined} */
let showing
/** @type {ReturnType<typeof setTimeout> | undefined} */
let telling

/**
 * The topics of an address, in any of the ways in which the API takes them.
 * @param {URLSearchParams} q
 */
function topicsOf(q) {
  const names = ["topics", "topics[]"].flatMap(n => q.getAll(n))
  const systems = ["systems", "systems[]"].flatMap(n => q.getAll(n)).flatMap(v => v.split(",")).filter(v => v.trim())
  return [...names.filter(v => v.trim()), ...systems.map(v => "system:" + v.trim())].join(",") || "all"
}

/**
 * A length of time as the API takes it, in ms; undefined: it is none, or one that only the server knows.
 * @param {string | undefined} text
 */
function length(text) {
  const [, n, unit] = /^(\d+(?:\.\d+)?)(s|m|h|d)?$/.exec(text ?? "") ?? []
  if (n === undefined) return undefined
  return Number(n) * {s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000}[/** @type {"s"} */ (unit ?? "s")]
}

/** A killmail that is shown. */
class Plate {
  /**
   * @param {Kill} kill
   * @param {boolean} there it was there before the overlay was: it does not enter
   */
  constructor(kill, there) {
    this.kill = kill
    const loss = filters.isLoss(filter, kill.victim)
    this.element = element("li", {
      class: "plate" + (there ? " there" : "") + (loss === undefined ? "" : loss ? " loss" : " kill"), "data-event": kill.event, "data-tier": tier(kill.value),
    })
    this.draw()
  }

  draw() {
    const k = this.kill
    const box = element("div", {class: "hull"})
    drawHull(box, pictures ? k.victim.ship : undefined, named(k.victim.ship)?.group)
    const who = nameOf("character", k.victim.character) || nameOf("corporation", k.victim.corporation) || nameOf("faction", k.victim.faction)
    const ticker = named(k.victim.corporation)?.ticker
    const final = k.final && (nameOf("character", k.final.character) || nameOf("corporation", k.final.corporation) || nameOf("faction", k.final.faction) ||
      nameOf("type", k.final.ship))
    this.element.replaceChildren(box,
      element("div", {},
        element("div", {class: "line first"}, nameOf("type", k.victim.ship) || "unknown"),
        element("div", {class: "line second"}, who + (ticker ? ` [${ticker}]` : "") + (final ? ` ‹ ${final}` : ""))),
      element("div", {class: "end"},
        element("div", {class: "isk"}, isk(k.value)),
        element("div", {class: "second", title: counted(k.attackers, "attacker")}, security(k.place), " ", k.place.name ?? nameOf("system", k.place.id))))
  }

  leave() {
    this.element.classList.add("leaving")
    setTimeout(() => this.element.remove(), leaving)
  }
}

/** Shows what came. However much that is, no more is drawn than stays. */
function show() {
  showing = undefined
  const kills = came
  came = []
  if (kills.length === 0) return
  for (const kill of kills) {
    if (plates.some(p => p.kill.event === kill.event)) continue
    const plate = new Plate(kill, false)
    plates.unshift(plate)
    list.prepend(plate.element)
  }
  cut()
  if (sounds) ring()
}

/** Lets go of what is too much. The last rows make room at once: leaving slowly they would push others out of the picture. */
function cut() {
  for (const plate of plates.splice(limit)) plate.element.remove()
}

const longest = length(maxAge)

/** Lets go of what has become too old. */
function age() {
  if (longest === undefined) return
  const limit = now() - longest
  for (const plate of plates.filter(p => p.kill.at < limit)) plate.leave()
  plates = plates.filter(p => p.kill.at >= limit)
}

/** @type {AudioContext | undefined} */
let audio
let rang = -Infinity

/** A soft sound. Outside of OBS a browser stays silent until somebody has clicked on the page. */
function ring() {
  if (performance.now() - rang < quiet) return
  rang = performance.now()
  audio ??= new AudioContext()
  if (audio.state === "suspended") void audio.resume().catch(() => {})
  if (audio.state === "suspended") return
  const at = audio.currentTime
  for (const [frequency, delay] of [[523, 0], [784, 0.09]]) {
    const tone = new OscillatorNode(audio, {frequency, type: "sine"})
    const volume = new GainNode(audio, {gain: 0})
    volume.gain.setValueAtTime(0, at + delay)
    volume.gain.linearRampToValueAtTime(0.08, at + delay + 0.015)
    volume.gain.exponentialRampToValueAtTime(0.0001, at + delay + 0.5)
    tone.connect(volume).connect(audio.destination)
    tone.start(at + delay)
    tone.stop(at + delay + 0.55)
  }
}

/** Says what is wrong; empty: nothing is. @param {string} text */
function trouble(text) {
  clearTimeout(telling)
  telling = undefined
  const place = find("#trouble")
  setText(place, text)
  place.hidden = text === ""
}

/** Says that there is no connection, unless it comes back soon: viewers need not know of each restart. */
function lost() {
  telling ??= setTimeout(() => trouble("No connection to the server. Trying again."), patience)
}

/** @param {ApiError} error */
function refused(error) {
  trouble("The server refused what the address asks for: " + error.message)
}

async function begin() {
  const what = {topics, filter: rules, names: 1, fields}
  let answer
  try {
    answer = await getJSON(withQuery("/api/killmails", {...what, limit, since: maxAge}))
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    if (!error.passing) return refused(error)
    lost()
    return void setTimeout(() => void begin(), error.retryAfter ?? 2_000 + Math.random() * 2_000)
  }
  trouble("")
  came = []
  plates = answer.events.map((/** @type {any} */ e) => new Plate(killOf(e), true))
  list.replaceChildren(...plates.map(p => p.element))
  want(plates.flatMap(p => p.kill.missing))
  const follower = new Follower(at => withQuery("/api/killfeed/stream", {...what, max_age: maxAge, after: at}), {
    event(event) {
      const kill = killOf(event)
      want(kill.missing)
      came.push(kill)
      if (came.length > limit) came.shift()
      showing ??= setTimeout(show, together)
    },
    gap() {}, // what is lost is older than what is shown
    anew: () => void begin(),
    refused,
    state(is) {
      if (is === "live") trouble("")
      else if (is === "lost") lost()
    },
    back() {},
  })
  follower.start(answer.cursor)
}

whenNamed(ids => {
  for (const plate of plates) {
    if (plate.kill.missing.some(id => ids.has(id))) plate.draw()
  }
})
setInterval(age, 1_000)
void begin()
