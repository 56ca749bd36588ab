// The tables of the operator's view: what their columns are.
// @ts-check

import {now} from "./api.js"
import {element, setText} from "./dom.js"
import {number} from "./format.js"
import {lasting, moment, since} from "./measures.js"
import {Table} from "./table.js"

const mostLag = 10_000 // to which the server counts

/**
 * A cell of a state with lines about it below.
 * @template T
 * @param {(row: T) => {word: string, is: "good" | "wait" | "bad" | "none", lines: [string, "trouble" | ""][]}} look
 */
function stateCell(look) {
  return (/** @type {HTMLElement} */ cell) => {
    const badge = element("span", {class: "badge"})
    const lines = [0, 1, 2].map(() => element("span", {class: "more"}))
    cell.append(badge, ...lines)
    return (/** @type {T} */ row) => {
      const {word, is, lines: texts} = look(row)
      setText(badge, word)
      badge.dataset.is = is
      lines.forEach((line, i) => {
        const [text, kind] = texts[i] ?? ["", ""]
        setText(line, text)
        line.className = "more " + kind
      })
    }
  }
}

/**
 * An error and when it was, as a line.
 * @param {string | undefined} text
 * @param {string | undefined} at
 * @returns {[string, "trouble" | ""]}
 */
function errorLine(text, at) {
  return [text ? `Last error ${moment(at, now())}: ${text}` : "", ""]
}

/**
 * A column of whole numbers.
 * @param {string} head
 * @param {string} member
 * @returns {import("./table.js").Column<any>}
 */
function count(head, member) {
  return {head, kind: "number", text: row => number(row[member])}
}

/**
 * @param {HTMLElement} table
 * @param {object} o
 * @param {() => string} o.mayNot why nothing may be done; empty: it may
 * @param {(name: string) => void} o.pause
 * @param {(name: string) => void} o.resume
 */
export function sourcesTable(table, o) {
  const is = /** @type {Record<string, "good" | "wait" | "bad">} */ ({
    following: "good", "catching up": "wait", starting: "wait", waiting: "wait", paused: "wait", stopped: "bad",
  })
  return new Table(table, {
    key: s => s.name,
    none: "None: killmails come by POST, or of a demo.",
    columns: [
      {head: "Source", text: s => s.name},
      {head: "State", kind: "wide", make: stateCell((/** @type {any} */ s) => ({
        word: s.state + " since " + moment(s.since, now()), is: s.degraded ? "bad" : is[s.state] ?? "none", lines: [
          [s.degraded ? `Degraded since ${moment(s.degraded.since, now())}: ${s.degraded.reason}` : "", "trouble"],
          [s.detail ?? "", ""],
          errorLine(s.last_error, s.error_at),
        ],
      }))},
      {head: "Lag", kind: "number", text: s => lasting(s.lag_seconds)},
      count("Behind", "behind"), count("Inserted", "inserted"), count("Dupli\u00ADcates", "duplicates"), count("Updates", "updates"),
      count("Bad", "bad"), count("Repaired", "repaired"),
      {head: "Last killmail", kind: "number", text: s => since(s.last_killmail, now())},
      {head: "Action", kind: "actions", make(cell) {
        const button = element("button", {type: "button"})
        let paused = false
        let name = ""
        button.addEventListener("click", () => paused ? o.resume(name) : o.pause(name))
        cell.append(button)
        return s => {
          paused = s.state === "paused"
          name = s.name
          setText(button, paused ? "Resume" : "Pause…")
          button.setAttribute("aria-label", (paused ? "Resume " : "Pause ") + name)
          // A source that was never started cannot be stopped.
          const why = o.mayNot() || (s.state === "stopped" ? "It does not run." : "")
          button.disabled = why !== ""
          button.title = why
        }
      }},
    ],
  })
}

/** @param {HTMLElement} table */
export function servicesTable(table) {
  const is = /** @type {Record<string, "good" | "bad">} */ ({running: "good", pausing: "bad"})
  return new Table(table, {
    key: s => s.name,
    none: "None.",
    columns: [
      {head: "Service", text: s => s.name},
      {head: "State", make: stateCell((/** @type {any} */ s) => ({
        word: s.state, is: is[s.state] ?? "none", lines: [[s.next_start ? "starts again at " + moment(s.next_start, now()) : "", ""]],
      }))},
      {head: "Since", text: s => moment(s.since, now())},
      count("Restarts", "restarts"),
      {head: "Last error", text: s => s.last_error ? `${moment(s.failed_at, now())} ${s.last_error}` : ""},
    ],
  })
}

/** @param {HTMLElement} table */
export function webhooksTable(table) {
  const is = /** @type {Record<string, "good" | "wait" | "bad">} */ ({running: "good", retrying: "wait", paused: "bad"})
  return new Table(table, {
    key: w => w.name,
    none: "None.",
    columns: [
      {head: "Webhook", text: w => w.name},
      {head: "State", kind: "wide", make: stateCell((/** @type {any} */ w) => ({
        word: w.state + " since " + moment(w.since, now()), is: is[w.state] ?? "none", lines: [
          [w.reason ?? "", w.state === "paused" ? "trouble" : ""],
          [`${w.format} to ${w.host}` + (w.next_attempt ? `, next attempt at ${moment(w.next_attempt, now())}` : ""), ""],
          [w.last_error ? "Last error: " + w.last_error : "", ""],
        ],
      }))},
      {head: "Lag", kind: "number", text: w => lasting(w.lag_seconds)},
      count("Delivered", "delivered"), count("Failed", "failed"), count("Expired", "expired"), count("Dead", "dead"),
      {head: "Last delivery", kind: "number", text: w => since(w.last_delivered, now())},
    ],
  })
}

/** @param {HTMLElement} table */
export function transportsTable(table) {
  return new Table(table, {
    key: t => t.name,
    none: "None yet.",
    columns: [{head: "Transport", text: t => t.name}, count("Open", "open")],
  })
}

/**
 * @param {HTMLElement} table
 * @param {object} o
 * @param {(name: string) => void} o.seek
 * @param {(name: string) => void} o.remove
 */
export function clientsTable(table, o) {
  return new Table(table, {
    key: c => c.client_id,
    none: "There are no clients.",
    by: 1,
    columns: [
      {head: "Client", text: c => c.client_id, order: (a, b) => a.client_id < b.client_id ? -1 : a.client_id > b.client_id ? 1 : 0},
      {head: "Lag", kind: "number", order: (a, b) => a.lag - b.lag, text: c => number(c.lag) + (c.lag >= mostLag ? "+" : "")},
      {head: "Topics", kind: "number", text: c => number(Object.keys(c.offsets).length)},
      {head: "Last seen", kind: "number", order: (a, b) => Date.parse(a.last_seen) - Date.parse(b.last_seen), text: c => since(c.last_seen, now())},
      {head: "Actions", kind: "actions", make(cell) {
        let name = ""
        const seek = element("button", {type: "button"}, "Seek…")
        const remove = element("button", {type: "button"}, "Delete…")
        seek.addEventListener("click", () => o.seek(name))
        remove.addEventListener("click", () => o.remove(name))
        cell.append(seek, remove)
        return c => {
          name = c.client_id
          seek.setAttribute("aria-label", "Seek " + name)
          remove.setAttribute("aria-label", "Delete " + name)
        }
      }},
    ],
  })
}

/** @param {HTMLElement} table */
export function warningsTable(table) {
  return new Table(table, {
    key: w => w.key,
    none: "None since the server was started.",
    columns: [
      {head: "Time", text: w => moment(w.time, now())},
      {head: "Level", make: stateCell((/** @type {any} */ w) => ({word: w.level, is: w.level === "WARN" ? "wait" : "bad", lines: []}))},
      {head: "What", kind: "wide", make(cell) {
        const message = element("span", {})
        const attributes = element("span", {class: "more code"})
        cell.append(message, attributes)
        return w => {
          setText(message, w.message)
          setText(attributes, Object.entries(w.attributes ?? {}).map(([name, value]) => `${name}=${value}`).join("  "))
        }
      }},
    ],
  })
}
