// Two small charts of the last hour by the minute: killmails and what they were worth. Both count by the time of the loss, so that
// a killmail that comes late stands where it happened.
// @ts-check

import {setText} from "./dom.js"
import {counted, eveTime, isk} from "./format.js"

const minutes = 60
const width = 180
const height = 28

/** The sums of the last hour. */
export class Hour {
  #kills = new Array(minutes).fill(0)
  #value = new Array(minutes).fill(0)
  #newest = 0 // the minute, since the Unix epoch, that the last place stands for
  /** Up to this event everything is counted. */
  head = 0

  /** @param {number} now */
  #advance(now) {
    const minute = Math.floor(now / 60_000)
    const by = Math.min(minutes, minute - this.#newest)
    if (by <= 0) return
    for (const list of [this.#kills, this.#value]) {
      list.splice(0, by)
      while (list.length < minutes) list.push(0)
    }
    this.#newest = minute
  }

  clear() {
    this.#kills.fill(0)
    this.#value.fill(0)
    this.head = 0
  }

  /**
   * @param {number} at
   * @param {number | undefined} value
   * @param {number} now
   */
  add(at, value, now) {
    this.#advance(now)
    const place = minutes - 1 - (this.#newest - Math.floor(at / 60_000))
    if (!(place >= 0)) return
    const i = Math.min(place, minutes - 1) // a clock that is ahead
    this.#kills[i]++
    this.#value[i] += value ?? 0
  }

  /** @param {number} now */
  series(now) {
    this.#advance(now)
    return {kills: [...this.#kills], value: [...this.#value], newest: this.#newest}
  }
}

/** A chart, drawn into a figure with an svg path, an output for the sum and one for what is pointed at. */
export class Chart {
  /** @type {number[]} */
  #data = []
  #newest = 0

  /**
   * @param {HTMLElement} figure
   * @param {object} o
   * @param {string} o.what
   * @param {(v: number) => string} o.text a value in words
   * @param {(v: number) => string} o.sum the sum of the hour
   */
  constructor(figure, o) {
    this.o = o
    this.path = /** @type {SVGPathElement} */ (figure.querySelector("path"))
    this.svg = /** @type {SVGElement} */ (figure.querySelector("svg"))
    this.sum = /** @type {HTMLElement} */ (figure.querySelector(".sum"))
    this.note = /** @type {HTMLElement} */ (figure.querySelector(".note"))
    this.rest = this.note.textContent ?? ""
    figure.addEventListener("pointermove", event => this.#point(event))
    figure.addEventListener("pointerleave", () => setText(this.note, this.rest))
  }

  /**
   * @param {number[]} data
   * @param {number} newest
   */
  draw(data, newest) {
    this.#data = data
    this.#newest = newest
    const most = Math.max(1e-9, ...data)
    const step = width / minutes
    let d = ""
    data.forEach((v, i) => {
      if (v <= 0) return
      const h = Math.max(1, (v / most) * (height - 1))
      d += `M${(i * step).toFixed(1)} ${height}v${(-h).toFixed(1)}h${(step - 1).toFixed(1)}v${h.toFixed(1)}z`
    })
    this.path.setAttribute("d", d)
    const sum = this.o.sum(data.reduce((a, b) => a + b, 0))
    setText(this.sum, sum)
    this.svg.setAttribute("aria-label", `${this.o.what} in the last hour: ${sum}, at most ${this.o.text(Math.max(0, ...data))} in a minute`)
  }

  /** @param {PointerEvent} event */
  #point(event) {
    const box = this.svg.getBoundingClientRect()
    const i = Math.floor(((event.clientX - box.left) / box.width) * minutes)
    if (i < 0 || i >= minutes || this.#data.length === 0) return setText(this.note, this.rest)
    const at = (this.#newest - (minutes - 1 - i)) * 60_000
    setText(this.note, `${eveTime(at).slice(0, 5)}  ${this.o.text(this.#data[i])}`)
  }
}

/** @param {number} n */
export function killsText(n) {
  return counted(n, "kill")
}

/** @param {number} v */
export function valueText(v) {
  return isk(v)
}
