// Sizes, lengths of time and moments, as the operator's view shows them.
// @ts-check

import {eveDay, eveTime, number, span} from "./format.js"

const sizes = ["bytes", "KiB", "MiB", "GiB", "TiB"]
const three = new Intl.NumberFormat(undefined, {maximumSignificantDigits: 3})

/**
 * A size: 812 bytes, 12.3 MiB.
 * @param {number | undefined} n
 */
export function bytes(n) {
  if (n === undefined || !Number.isFinite(n)) return "–"
  let unit = 0
  let v = n
  while (v >= 1023.5 && unit < sizes.length - 1) {
    v /= 1024
    unit++
  }
  return (unit === 0 ? number(v) : three.format(v)) + " " + sizes[unit]
}

/**
 * How long something lasts, in its two largest units: 24 h, 30 d, 3 d 4 h, 1 min 5 s.
 * @param {number} seconds
 */
export function lasting(seconds) {
  /** @type {[number, string][]} */
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]
  let left = Math.max(0, Math.round(seconds))
  if (left === 86400) return "24 h" // as settings are written
  const first = units.findIndex(([size]) => left >= size)
  if (first < 0) return "0 s"
  const parts = []
  for (const [size, name] of units.slice(first, first + 2)) {
    const n = Math.floor(left / size)
    left -= n * size
    if (n > 0) parts.push(n + " " + name)
  }
  return parts.join(" ")
}

/**
 * A moment in EVE time, with the day unless it is today: 18:32:10.
 * @param {string | undefined} at RFC 3339
 * @param {number} now milliseconds of the Unix epoch
 */
export function moment(at, now) {
  const t = Date.parse(at ?? "")
  if (!Number.isFinite(t)) return "–"
  return eveDay(t) === eveDay(now) ? eveTime(t) : eveDay(t) + " " + eveTime(t)
}

/**
 * How long ago a moment is, to the second at first: 4 s ago.
 * @param {string | undefined} at RFC 3339
 * @param {number} now milliseconds of the Unix epoch
 */
export function since(at, now) {
  const t = Date.parse(at ?? "")
  return Number.isFinite(t) ? span(now - t) + " ago" : "–"
}
