// The filter of the page: chips, the value floor, marks, and a text of one's own. In the URL each is a parameter that is called
// as the key of the filter language (docs/filters.md), so that what is shared can be read, and written by hand.
//
// Chips are sorted into who, what and where. Those of one sort are alternatives, the sorts must all be true: "Rifter or Slasher,
// in Amamake, by these two alliances". So no combination is empty only because of how it was put together.
// @ts-check

/**
 * @typedef {"" | "victim" | "attacker"} Side whose it is: anybody's, the victim's, an attacker's
 *
 * @typedef {object} Chip
 * @property {string} key
 * @property {string} value an id, or a name
 * @property {Side} side
 *
 * @typedef {object} Filter
 * @property {Chip[]} chips
 * @property {string} isk the least total value, as in 100m; empty: any
 * @property {string[]} marks of markKeys
 * @property {string} text a filter of one's own; empty: none
 */

/** Keys of chips by sort. */
export const sorts = /** @type {const} */ ([
  ["who", ["character", "corporation", "alliance", "faction"]],
  ["what", ["ship", "group"]],
  ["where", ["system", "constellation", "region", "space"]],
])

/** Kinds of space, as the filter language calls them and as people do. */
export const spaces = /** @type {const} */ ([
  ["high", "High"], ["low", "Low"], ["null", "Null"], ["wormhole", "W-space"], ["pochven", "Pochven"], ["abyssal", "Abyss"],
])

/** Marks: parameter, rule, what it is called. */
export const marks = /** @type {const} */ ([
  ["solo", "solo=1", "Solo", "only solo kills"],
  ["npc", "npc!=1", "No NPCs", "leave out losses to NPCs alone"],
  ["awox", "awox=1", "Awox", "only kills among corporation mates"],
  ["ganked", "label=ganked", "Ganked", "only ganks in high security"],
])

const mostChips = 60
const keys = new Set(sorts.flatMap(([, list]) => list.map(String)))

/** @param {string} key */
export function sortOf(key) {
  return sorts.find(([, list]) => /** @type {readonly string[]} */ (list).includes(key))?.[0] ?? "who"
}

/** @returns {Filter} */
export function none() {
  return {chips: [], isk: "", marks: [], text: ""}
}

/** @param {Filter} f */
export function isNone(f) {
  return f.chips.length === 0 && f.isk === "" && f.marks.length === 0 && f.text === ""
}

/**
 * Reads a filter from a URL's query. What it does not know it passes over.
 * @param {string} query
 * @returns {Filter}
 */
export function parse(query) {
  const f = none()
  for (const [name, raw] of new URLSearchParams(query)) {
    const value = raw.trim()
    if (!value) continue
    if (name === "isk") f.isk = value
    else if (name === "filter") f.text = value
    else if (marks.some(([mark]) => mark === name)) {
      if (value !== "0" || name === "npc") f.marks.push(name)
    } else {
      const [, side, key] = /^(?:(victim|attacker|loss|kill)\.)?(\w+)$/.exec(name) ?? []
      if (keys.has(key)) {
        add(f, {key, value, side: side === "loss" ? "victim" : side === "kill" ? "attacker" : /** @type {Side} */ (side ?? "")})
      }
    }
  }
  f.marks = [...new Set(f.marks)]
  return f
}

/**
 * Adds a chip that is not there yet.
 * @param {Filter} f
 * @param {Chip} chip
 */
export function add(f, chip) {
  const there = f.chips.find(c => c.key === chip.key && c.value.toLowerCase() === chip.value.toLowerCase())
  if (there) there.side = chip.side
  else if (f.chips.length < mostChips) f.chips.push(chip)
}

/**
 * The filter as the query of a URL, without the question mark.
 * @param {Filter} f
 */
export function query(f) {
  const q = new URLSearchParams()
  for (const c of f.chips) q.append((c.side ? c.side + "." : "") + c.key, c.value)
  if (f.isk) q.set("isk", f.isk)
  for (const mark of f.marks) q.set(mark, mark === "npc" ? "0" : "1")
  if (f.text) q.set("filter", f.text)
  return q.toString()
}

/** @param {string} value */
function quoted(value) {
  return /[=!<>()"|;,\\]/.test(value) ? '"' + value.replace(/[\\"]/g, "\\$&") + '"' : value
}

/**
 * The filter in the filter language; empty: everything.
 * @param {Filter} f
 */
export function rules(f) {
  /** @type {string[]} */
  const all = []
  for (const [sort] of sorts) {
    /** @type {Map<string, string[]>} */
    const alternatives = new Map()
    for (const c of f.chips) {
      if (sortOf(c.key) !== sort) continue
      const key = (c.side ? c.side + "." : "") + c.key
      alternatives.set(key, [...(alternatives.get(key) ?? []), quoted(c.value)])
    }
    const rules = [...alternatives].map(([key, values]) => key + "=" + values.join("|"))
    if (rules.length > 0) all.push(rules.length > 1 ? "(" + rules.join(",") + ")" : rules[0])
  }
  if (f.isk) all.push("isk>=" + f.isk)
  for (const [mark, rule] of marks) if (f.marks.includes(mark)) all.push(rule)
  if (f.text) all.push(all.length > 0 ? "(" + f.text + ")" : f.text)
  return all.join(";")
}

/**
 * Whether the killmail is a loss of those that are asked for, or a kill of theirs; undefined: nobody is asked for by id.
 * @param {Filter} f
 * @param {{character?: number, corporation?: number, alliance?: number, faction?: number}} victim
 */
export function isLoss(f, victim) {
  const who = f.chips.filter(c => sortOf(c.key) === "who")
  if (who.length === 0) return undefined
  return who.some(c => String(victim[/** @type {"character"} */ (c.key)]) === c.value)
}
