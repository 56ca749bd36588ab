// The list: a window of rows on the log, newest first. However many killmails pass through, there are at most so many rows and
// so many that wait, so that the page's memory and work are the same after a week as after a minute.
// @ts-check

import {Row} from "./row.js"

/** @typedef {import("./killmail.js").Kill} Kill */

/** Rows in the document, and killmails that wait to be shown. */
export const windowSize = 300

const frameRows = 40 // rows that one frame makes at most
const beat = 500 // ms between two changes: what comes faster is shown together, for each costs the browser a whole screen
const freshFor = 2000 // ms in which a row is marked as new

/**
 * Why nothing new is shown: the pointer is on the list, the reader has scrolled down, or has chosen a row with the keyboard.
 * @typedef {"pointer" | "scroll" | "keyboard"} Reason
 */

/** The list. */
export class List {
  /** @type {Row[]} newest first, as in the document */
  rows = []
  /** @type {Kill[]} what came and is not shown yet, oldest first */
  #waiting = []
  #overflowed = 0 // how many of those fell out because there were too many
  /** @type {Set<Reason>} */
  #held = new Set()
  #frame = 0
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  #last = 0 // when rows were added last
  /** @type {{until: number, rows: Row[]}[]} rows that are marked as new, the oldest first */
  #fresh = []
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #fading
  /** The newest rows fell out of the window because older ones were loaded: what comes does not fit on top. */
  cut = false

  /**
   * @param {HTMLElement} root
   * @param {object} hooks
   * @param {(kill: Kill) => boolean | undefined} hooks.loss
   * @param {() => number} hooks.now
   * @param {(waiting: number, held: boolean) => void} hooks.changed something was added, or waits
   * @param {(newest: Row[]) => void} hooks.shown newly came and is now shown
   */
  constructor(root, hooks) {
    this.root = root
    this.hooks = hooks
  }

  /** How many killmails wait to be shown, with those that did and are gone. */
  get waiting() {
    return this.#waiting.length + this.#overflowed
  }

  get held() {
    return this.#held.size > 0 || this.cut
  }

  /** The id of the oldest event in the list; undefined: it is empty. */
  get oldest() {
    return this.rows.at(-1)?.kill.event
  }

  /**
   * Shows these alone, newest first.
   * @param {Kill[]} kills
   */
  replace(kills) {
    cancelAnimationFrame(this.#frame)
    clearTimeout(this.#timer)
    this.#frame = 0
    this.#timer = undefined
    this.#waiting = []
    this.#overflowed = 0
    this.cut = false
    this.rows = kills.slice(0, windowSize).map(k => this.#row(k))
    this.root.replaceChildren(...this.rows.map(r => r.element))
    this.hooks.changed(0, this.held)
  }

  /**
   * Adds what came live. It is shown soon, unless the list is held.
   * @param {Kill} kill
   */
  add(kill) {
    this.#waiting.push(kill)
    if (this.#waiting.length > windowSize) {
      this.#waiting.shift()
      this.#overflowed++
    }
    this.#schedule()
    this.hooks.changed(this.waiting, this.held)
  }

  /**
   * Adds older ones below. Where they do not fit the newest fall out; the page stays where it is before the reader's eyes.
   * @param {Kill[]} kills newest first
   */
  addOlder(kills) {
    const rows = kills.map(k => this.#row(k))
    this.rows.push(...rows)
    this.root.append(...rows.map(r => r.element))
    const excess = this.rows.length - windowSize
    if (excess > 0) {
      const anchor = this.rows[excess].element
      const before = anchor.getBoundingClientRect().top
      for (const r of this.rows.splice(0, excess)) r.element.remove()
      scrollBy({top: anchor.getBoundingClientRect().top - before, behavior: "instant"})
      this.cut = true
    }
    this.hooks.changed(this.waiting, this.held)
  }

  /**
   * Stops showing what comes, or goes on.
   * @param {Reason} reason
   * @param {boolean} on
   */
  hold(reason, on) {
    if (this.#held.has(reason) === on) return
    if (on) this.#held.add(reason)
    else this.#held.delete(reason)
    this.#schedule()
    this.hooks.changed(this.waiting, this.held)
  }

  /** Shows what waits now, whatever holds it. */
  release() {
    this.#held.clear()
    this.#schedule()
    this.hooks.changed(this.waiting, this.held)
  }

  /**
   * Fills in names.
   * @param {Set<number>} ids
   */
  named(ids) {
    const now = this.hooks.now()
    for (const r of this.rows) r.named(ids, now)
  }

  /** Brings "3 min ago" up to date. */
  tick() {
    const now = this.hooks.now()
    for (const r of this.rows) r.tick(now)
  }

  /** @param {Element | null} within */
  rowOf(within) {
    const element = within?.closest("li.row")
    return element ? this.rows.find(r => r.element === element) : undefined
  }

  /** @param {Kill} kill */
  #row(kill) {
    const row = new Row(kill, this.hooks.loss(kill))
    row.tick(this.hooks.now())
    return row
  }

  #schedule() {
    if (this.#frame || this.#timer || this.held || this.#waiting.length === 0) return
    const wait = this.#last + beat - performance.now()
    if (wait > 0) {
      this.#timer = setTimeout(() => {
        this.#timer = undefined
        this.#schedule()
      }, wait)
      return
    }
    this.#frame = requestAnimationFrame(() => { // not called while the page is hidden: then killmails wait, and fall out
      this.#frame = 0
      if (!this.held) this.#show()
      this.#schedule()
    })
  }

  /** Takes the mark from rows that have had it long enough; together with a change, or alone when nothing more comes. */
  #fade() {
    clearTimeout(this.#fading)
    const now = performance.now()
    while (this.#fresh[0]?.until <= now) for (const r of this.#fresh.shift()?.rows ?? []) r.element.classList.remove("new")
    if (this.#fresh.length > 0) this.#fading = setTimeout(() => this.#fade(), freshFor)
  }

  #show() {
    this.#last = performance.now()
    if (this.#overflowed > 0) { // between what waits and what is shown something is missing
      this.#overflowed = 0
      for (const r of this.rows) r.element.remove()
      this.rows = []
    }
    const kills = this.#waiting.splice(0, frameRows)
    const rows = kills.map(k => this.#row(k)).reverse()
    for (const r of rows) r.element.classList.add("new")
    this.#fresh.push({until: this.#last + freshFor, rows})
    this.#fade()
    const fragment = document.createDocumentFragment()
    fragment.append(...rows.map(r => r.element))
    this.root.prepend(fragment)
    this.rows.unshift(...rows)
    for (const r of this.rows.splice(windowSize)) r.element.remove()
    this.hooks.shown(rows)
    this.hooks.changed(this.waiting, this.held)
  }
}
