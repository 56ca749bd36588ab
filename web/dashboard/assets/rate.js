// How fast the log grows, from its head as it was seen. The server is not asked for it: the page has looked all the time.
// @ts-check

import {setText} from "./dom.js"
import {eveTime, number} from "./format.js"

const bars = 60
const length = 15_000 // ms that a bar stands for
const most = (bars + 2) * length // ms that looks are kept
const window = 5 * 60_000 // ms that the rate is taken over, when as much was seen
const least = 8_000 // ms, below which there is no rate
const width = 180
const height = 40

/** What was seen of a log. */
export class Rate {
  /** @type {{at: number, head: number}[]} the oldest first */
  #looks = []
  #epoch = ""

  /**
   * @param {number} at ms of the Unix epoch, of this machine's clock
   * @param {number} head
   * @param {string} epoch another one is another log
   */
  add(at, head, epoch) {
    const last = this.#looks.at(-1)
    if (epoch !== this.#epoch || (last && (head < last.head || at < last.at))) this.#looks = []
    this.#epoch = epoch
    this.#looks.push({at, head})
    while (this.#looks.length > 2 && this.#looks[1].at < at - most) this.#looks.shift()
  }

  /** Events a minute over the last minutes, and over how many ms; undefined: too little was seen. */
  perMinute() {
    const last = this.#looks.at(-1)
    if (!last) return undefined
    const begin = Math.max(this.#looks[0].at, last.at - window)
    const over = last.at - begin
    return over < least ? undefined : {rate: (last.head - this.#headAt(begin)) / over * 60_000, over}
  }

  /**
   * The head at a time, in proportion between two looks: while the page was hidden there were none.
   * @param {number} at
   */
  #headAt(at) {
    const looks = this.#looks
    const i = looks.findIndex(l => l.at >= at)
    if (i === 0) return looks[0].head
    if (i < 0) return looks[looks.length - 1].head
    const [a, b] = [looks[i - 1], looks[i]]
    return a.head + (b.head - a.head) * (at - a.at) / (b.at - a.at)
  }

  /** Events a minute for each bar, the newest last, and when that one ends. */
  series() {
    const first = this.#looks[0]
    const last = this.#looks.at(-1)
    if (!first || !last) return {end: 0, rates: new Array(bars).fill(0)}
    const end = Math.ceil(last.at / length) * length
    const rates = Array.from({length: bars}, (_, i) => {
      const from = Math.max(first.at, end - (bars - i) * length)
      const to = Math.min(last.at, end - (bars - 1 - i) * length)
      return to - from < 1000 ? 0 : (this.#headAt(to) - this.#headAt(from)) / (to - from) * 60_000
    })
    return {end, rates}
  }
}

/** Draws a Rate into a figure with an svg path, a .sum for the rate and a .note for what it was taken over. */
export class RateChart {
  /** @param {HTMLElement} figure */
  constructor(figure) {
    this.path = /** @type {SVGPathElement} */ (figure.querySelector("path"))
    this.svg = /** @type {SVGElement} */ (figure.querySelector("svg"))
    this.sum = /** @type {HTMLElement} */ (figure.querySelector(".sum"))
    this.note = /** @type {HTMLElement} */ (figure.querySelector(".note"))
  }

  /** @param {Rate} rate */
  draw(rate) {
    const now = rate.perMinute()
    setText(this.sum, now ? number(now.rate < 10 ? Math.round(now.rate * 10) / 10 : Math.round(now.rate)) : "–")
    setText(this.note, now ? `events a minute, over ${Math.max(1, Math.round(now.over / 60_000))} min` : "events a minute")
    const {end, rates} = rate.series()
    const top = Math.max(1e-9, ...rates)
    const step = width / bars
    let d = ""
    rates.forEach((v, i) => {
      if (v <= 0) return
      const h = Math.max(1, v / top * (height - 1))
      d += `M${(i * step).toFixed(1)} ${height}v${(-h).toFixed(1)}h${(step - 1).toFixed(1)}v${h.toFixed(1)}z`
    })
    this.path.setAttribute("d", d)
    this.svg.setAttribute("aria-label", end === 0 ? "Events a minute: nothing seen yet"
      : `Events a minute in the quarter of an hour before ${eveTime(end).slice(0, 5)}, as far as this page has looked: at most ${number(Math.round(Math.max(...rates)))}`)
  }
}
