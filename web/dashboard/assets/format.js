// Numbers and times as people read them, and text as a shell does.
// @ts-check

const exact = new Intl.NumberFormat(undefined, {maximumFractionDigits: 2})
const whole = new Intl.NumberFormat(undefined, {maximumFractionDigits: 0})
const three = new Intl.NumberFormat(undefined, {maximumSignificantDigits: 3, minimumSignificantDigits: 3})
const units = ["", "k", "m", "b", "t", "q"]

/**
 * ISK in the form that the game's players write: 1.23b. Digits are the reader's own: 1,23b where that is the custom.
 * @param {number | undefined | null} value
 */
export function isk(value) {
  if (value === undefined || value === null || !Number.isFinite(value)) return "–"
  let unit = 0
  let v = value
  while (Math.abs(v) >= 999.5 && unit < units.length - 1) {
    v /= 1000
    unit++
  }
  return (unit === 0 ? whole : three).format(v) + units[unit]
}

/**
 * A number in full.
 * @param {number} value
 */
export function number(value) {
  return exact.format(value)
}

/**
 * How many there are of something: 1 killmail, 2 killmails.
 * @param {number} n
 * @param {string} one
 * @param {string} [many]
 */
export function counted(n, one, many = one + "s") {
  return whole.format(n) + " " + (n === 1 ? one : many)
}

/**
 * EVE time, which is UTC: 18:32:10.
 * @param {number} at milliseconds of the Unix epoch
 */
export function eveTime(at) {
  return Number.isFinite(at) ? new Date(at).toISOString().slice(11, 19) : "–"
}

/**
 * The day in EVE time: 2026-11-25.
 * @param {number} at
 */
export function eveDay(at) {
  return Number.isFinite(at) ? new Date(at).toISOString().slice(0, 10) : "–"
}

/**
 * How long something took or is ago, roughly: 12 s, 3 min, 5 h, 2 d, 4 y.
 * @param {number} ms
 */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000))
  if (s < 60) return s + " s"
  if (s < 3600) return Math.floor(s / 60) + " min"
  if (s < 48 * 3600) return Math.floor(s / 3600) + " h"
  if (s < 730 * 86400) return Math.floor(s / 86400) + " d"
  return Math.floor(s / (365.25 * 86400)) + " y"
}

/**
 * How long ago, in steps that do not flicker: now, 20 s ago, 3 min ago.
 * @param {number} at
 * @param {number} now
 */
export function ago(at, now) {
  const ms = now - at
  if (!Number.isFinite(ms)) return ""
  if (ms < 10_000) return "now"
  if (ms < 60_000) return Math.floor(ms / 10_000) * 10 + " s ago"
  return span(ms) + " ago"
}

/**
 * A number of ISK as people type it, as the filter language takes it: 1b, 2.5 bil, 100 million. undefined: it is none.
 * @param {string} text
 */
export function parseIsk(text) {
  const m = /^\s*(\d+(?:[.,]\d+)?)\s*(k|m|mil|million|b|bil|billion|t)?\s*(isk)?\s*\+?\s*$/i.exec(text)
  if (!m || (!m[2] && !m[3])) return undefined
  return m[1].replace(",", ".") + (m[2] ?? "").slice(0, 1).toLowerCase()
}

/**
 * Text as one word of a shell, whatever is in it.
 * @param {string} text
 */
export function shellWord(text) {
  return "'" + text.replaceAll("'", "'\\''") + "'"
}
