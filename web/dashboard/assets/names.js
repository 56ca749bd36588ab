// What ids are called. A killmail never waits for a name: those that the server did not know yet when it sent one are asked for
// a moment later, many at once, and filled in.
// @ts-check

import {getJSON, pause} from "./api.js"

/** @typedef {{name: string, ticker?: string, group?: string, kind: string}} Known */

const most = 6000 // names that are kept, and ids that may be wanted at once
const batch = 400 // ids of one question; the server takes 1,000
const rest = 1500 // ms between two questions
const tries = 8 // how often an id is asked for before it stays a number

/** @type {Map<number, Known>} the oldest first */
const known = new Map()
/** @type {Map<number, number>} ids that are wanted, with how often they were asked for */
const wanted = new Map()
/** @type {Set<(ids: Set<number>) => void>} */
const listeners = new Set()
let asking = false

/**
 * Notes a name.
 * @param {number} id
 * @param {Known} is
 */
export function note(id, is) {
  known.delete(id)
  known.set(id, is)
  wanted.delete(id)
  if (known.size > most) known.delete(/** @type {number} */ (known.keys().next().value))
}

/** @param {number | undefined} id */
export function named(id) {
  return id === undefined ? undefined : known.get(id)
}

const lists = /** @type {const} */ ([
  ["types", "ship"], ["characters", "character"], ["corporations", "corporation"], ["alliances", "alliance"], ["factions", "faction"],
])

/**
 * Takes the names of some ids from an event's names.
 * @param {any} names
 * @param {Iterable<number>} ids
 * @returns {number[]} those that are being looked up by the server
 */
export function learn(names, ids) {
  if (!names) return []
  const later = []
  const missing = names.missing ? new Set(names.missing) : undefined
  for (const id of ids) {
    if (missing?.has(id) && !known.has(id)) later.push(id)
    for (const [list, kind] of lists) {
      const is = names[list]?.[id]
      if (is) note(id, {name: is.name, ticker: is.ticker, group: is.group?.name, kind})
    }
  }
  return later
}

/**
 * Has names looked up. Whoever listens is told.
 * @param {Iterable<number>} ids
 */
export function want(ids) {
  for (const id of ids) {
    if (wanted.size >= most) break
    if (!known.has(id) && !wanted.has(id)) wanted.set(id, 0)
  }
  if (!asking && wanted.size > 0) void ask()
}

/**
 * Calls back with the ids whose names have come.
 * @param {(ids: Set<number>) => void} listener
 */
export function whenNamed(listener) {
  listeners.add(listener)
}

/** @param {string} kind */
export function tickered(kind) {
  return kind === "corporation" || kind === "alliance"
}

async function ask() {
  asking = true
  try {
    while (wanted.size > 0) {
      await pause(rest)
      const ids = [...wanted.keys()].slice(0, batch)
      const came = new Set()
      try {
        const answer = await getJSON("/api/names?wait=3&ids=" + ids.join(","))
        for (const [text, is] of Object.entries(answer.names)) {
          const id = Number(text)
          const was = known.get(id)
          const asked = wanted.get(id) ?? 0
          note(id, {name: is.name, ticker: is.ticker, group: is.group?.name, kind: is.category === "type" ? "ship" : is.category})
          if (was?.name !== is.name || was?.ticker !== is.ticker) came.add(id)
          if (!is.ticker && tickered(is.category)) wanted.set(id, asked) // tickers come after names
        }
        for (const id of answer.unknown) wanted.delete(id)
      } catch {
        await pause(10 * rest)
      }
      for (const id of ids) {
        const asked = wanted.get(id)
        if (asked === undefined) continue
        wanted.delete(id) // to the end: others have their turn first
        if (asked + 1 < tries) wanted.set(id, asked + 1)
      }
      if (came.size > 0) for (const listener of listeners) listener(came)
      if (came.size === 0) await pause(2 * rest)
    }
  } finally {
    asking = false
  }
}

/**
 * Finds names among those that the page has seen: pilots, corporations and alliances, which the server cannot search for.
 * @param {string} text
 * @param {number} limit
 * @returns {(Known & {id: number})[]}
 */
export function seen(text, limit) {
  const q = text.trim().toLowerCase()
  const found = []
  for (const [id, is] of known) {
    if (is.kind === "ship" || is.kind === "system") continue // these the server can
    const name = is.name.toLowerCase()
    const rank = is.ticker?.toLowerCase() === q || name === q ? 0 : name.startsWith(q) ? 1 : name.includes(" " + q) ? 2 : -1
    if (rank >= 0) found.push({id, rank, ...is})
  }
  return found.sort((a, b) => a.rank - b.rank || a.name.length - b.name.length).slice(0, limit)
}
