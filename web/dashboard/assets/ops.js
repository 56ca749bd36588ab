// The operator's view at /ops: what /api/status says, every two seconds while somebody looks, and what the admin token allows.
// @ts-check

import {Admin} from "./admin.js"
import {ApiError, getJSON, now, pause, request} from "./api.js"
import {find, setText} from "./dom.js"
import {counted, number, span} from "./format.js"
import {bytes, lasting, moment, since} from "./measures.js"
import {Actions} from "./ops_actions.js"
import {clientsTable, servicesTable, sourcesTable, transportsTable, warningsTable, webhooksTable} from "./ops_tables.js"
import {Rate, RateChart} from "./rate.js"
import {theme, toggleTheme} from "./settings.js"

const every = 2_000 // ms between two questions about the status
const slow = 10_000 // ms between two about what costs more: the metrics, clients, warnings
const patience = 8_000 // ms that an answer may take
const pageSize = 200 // clients of one question

const main = find("#main")
const health = find("#health-section")
const rate = new Rate()
const chart = new RateChart(find("#rate"))

/** @type {any} the last status */
let last
let answered = 0 // when it came, by this machine's clock
let lost = 0 // when the server did not answer first; 0: it does
/** @type {number | undefined} bytes that the store takes */
let disk
let diskAsked = -Infinity
let said = ""

// ---- What is shown

/** @type {Record<string, (s: any) => string>} what each place of the page shows */
const values = {
  version: s => s.version,
  uptime: s => lasting(s.uptime_seconds),
  started: s => moment(s.started, now()),
  "log.head": s => number(s.log.head),
  "log.first": s => number(s.log.first),
  "log.kept": s => number(Math.max(0, s.log.head - s.log.first + 1)),
  "log.bytes": s => bytes(s.log.bytes),
  "log.last_received": s => s.log.last_received ? since(s.log.last_received, now()) : "nothing yet",
  "log.epoch": s => s.log.epoch,
  "retention.retain": s => s.retention.retain_seconds > 0 ? lasting(s.retention.retain_seconds) : "at once",
  "retention.max": s => s.retention.retain_max_seconds > 0 ? lasting(s.retention.retain_max_seconds) : "no limit",
  "retention.max_bytes": s => s.retention.max_bytes > 0 ? bytes(s.retention.max_bytes) : "no limit",
  "retention.client_ttl": s => s.retention.client_ttl_seconds > 0 ? lasting(s.retention.client_ttl_seconds) : "no limit",
  disk: () => bytes(disk),
  clients: s => number(s.clients),
  waiting: s => number(s.waiting),
  connections: s => number(s.connections),
  subscriptions: s => number(s.subscriptions),
  "static.build": s => s.static_data ? "build " + s.static_data.build : "not installed",
  "static.counts": s => s.static_data ? `${number(s.static_data.systems)}, ${number(s.static_data.types)}` : "–",
  "names.state": s => s.names ? s.names.asks ? "asked for" : "not asked for" : "switched off",
  "names.known": s => s.names ? number(s.names.known) : "–",
  "names.pending": s => s.names ? `${number(s.names.pending)}, ${number(s.names.details)}` : "–",
  "names.requests": s => s.names ? `${number(s.names.requests)}, ${number(s.names.failures)}` : "–",
  "names.trouble": s => s.names?.file_error || (s.names?.last_error ? `${moment(s.names.failed_at, now())} ${s.names.last_error}` : ""),
}
const places = Object.entries(values).map(([name, value]) => ({place: find(`[data-value="${name}"]`), value}))

const admin = new Admin(drawAdmin)
const actions = new Actions(admin, {
  changed() {
    void refresh()
    void clients.load()
  },
})
const sources = sourcesTable(find("#sources"), {
  mayNot: () => admin.reason,
  pause: name => void actions.pauseSource(name),
  resume: name => void actions.resumeSource(name),
})
const services = servicesTable(find("#services"))
const webhooks = webhooksTable(find("#webhooks"))
const transports = transportsTable(find("#transports"))

/** @param {any} s */
function draw(s) {
  for (const {place, value} of places) setText(place, value(s))
  sources.fill(s.sources ?? [])
  services.fill(s.services ?? [])
  transports.fill(Object.entries(s.connections_by_transport ?? {}).sort(([a], [b]) => a < b ? -1 : 1).map(([name, open]) => ({name, open})))
  find("#webhooks-section").hidden = !s.webhooks?.length
  webhooks.fill(s.webhooks ?? [])
  chart.draw(rate)
}

/**
 * @param {string} word
 * @param {string} reason
 * @param {string} [aloud] what is told to who hears the page, when it is another than before
 */
function drawHealth(word, reason, aloud = word + ". " + reason) {
  health.dataset.health = word
  setText(find("#health"), word)
  setText(find("#reason"), reason)
  if (aloud !== said) setText(find("#spoken"), "Health: " + aloud)
  said = aloud
}

const reasons = /** @type {Record<string, string>} */ ({ready: "Killmails are taken and served."})

/** @param {string} is @param {string} words */
function drawState(is, words) {
  const state = find("#state")
  state.dataset.state = is
  setText(find(".words", state), words)
}

// ---- Asking

/** Asks how the server is doing, and shows it. */
async function refresh() {
  let s
  try {
    s = await getJSON("/api/status", AbortSignal.timeout(patience))
  } catch (error) {
    return away(error)
  }
  const at = Date.now()
  if (last && lost) {
    const restarted = s.started !== last.started
    actions.say(`The server is back, after ${span(at - lost)}.` + (restarted ? ` It was started anew at ${moment(s.started, now())}.` : "") +
      (s.version !== last.version ? " It is another version: load this page again." : ""))
  }
  lost = 0
  last = s
  answered = at
  main.dataset.fresh = "yes"
  rate.add(at, s.log.head, s.log.epoch)
  drawState("live", "live")
  drawHealth(s.health.status, s.health.reason ?? reasons[s.health.status] ?? "")
  draw(s)
  if (admin.has && !admin.able) void admin.resume()
}

/** @param {unknown} error */
function away(error) {
  const at = Date.now()
  lost ||= at
  main.dataset.fresh = "no"
  const text = error instanceof ApiError ? error.message : "it did not answer within " + span(patience)
  const word = error instanceof ApiError && error.status === 503 ? "starting" : "away"
  const when = moment(new Date(answered || lost).toISOString(), at)
  drawState("lost", "no answer")
  drawHealth(word, (answered ? `Last answer at ${when}, ${span(at - answered)} ago` : `No answer since ${when}`) + `: ${text}. ` +
    (last ? "What is below is from then." : "It is asked again every 2 s."), `${word} since ${when}`)
}

/** Reads one number of the metrics. @param {string} text @param {string} name */
function metric(text, name) {
  const line = text.split("\n").find(l => l.startsWith(name + " "))
  return line === undefined ? undefined : Number(line.slice(name.length + 1))
}

async function askDisk() {
  diskAsked = performance.now()
  try {
    const response = await request("/metrics", {headers: {Accept: "text/plain"}, signal: AbortSignal.timeout(patience)})
    disk = metric(await response.text(), "killfeed_store_disk_bytes")
  } catch {
    // The status says already that the server is away.
  }
}

/** Resolves when the page is seen. */
function seen() {
  return new Promise(resolve => {
    if (document.visibilityState === "visible") return resolve(undefined)
    document.addEventListener("visibilitychange", function look() {
      if (document.visibilityState !== "visible") return
      document.removeEventListener("visibilitychange", look)
      resolve(undefined)
    })
  })
}

async function watch() {
  for (;;) {
    await seen()
    if (performance.now() - diskAsked >= slow) await askDisk()
    try {
      await refresh()
    } catch (error) {
      // The server is of another version than the page, which has not been loaded again since.
      main.dataset.fresh = "no"
      drawState("lost", "not understood")
      drawHealth("unknown", "This page does not understand what the server says: load it again.")
      reportError(error)
    }
    await pause(every)
  }
}

// ---- What needs the token

/** A list that only the admin token may see, loaded again every so often. */
class Guarded {
  /** @type {AbortController | undefined} */
  #loading
  #loaded = -Infinity

  /**
   * @param {HTMLElement} box
   * @param {(signal: AbortSignal) => Promise<void>} fill
   * @param {() => number} rest ms between two loads
   */
  constructor(box, fill, rest) {
    this.box = box
    this.fill = fill
    this.rest = rest
  }

  /** Loads it now. */
  async load() {
    this.#loading?.abort()
    this.box.hidden = !admin.able
    if (!admin.able) return
    this.#loaded = performance.now()
    this.#loading = new AbortController()
    try {
      await this.fill(AbortSignal.any([this.#loading.signal, AbortSignal.timeout(4 * patience)]))
    } catch {
      // It stays as it was: the status says when the server is away, and a refused token is told with the token.
    }
  }

  /** Loads it again when that is due. */
  tick() {
    if (admin.able && performance.now() - this.#loaded >= this.rest()) void this.load()
  }
}

const clientTable = clientsTable(find("#clients"), {
  seek: name => void actions.seek(name),
  remove: name => void actions.remove(name),
})
let pages = 1 // of clients
const clients = new Guarded(find("#clients-list"), async signal => {
  /** @type {any[]} */
  const list = []
  let more = true
  for (let i = 0; i < pages && more; i++) {
    const after = list.length > 0 ? "&after=" + encodeURIComponent(list[list.length - 1].client_id) : ""
    const answer = await admin.ask("GET", `/api/clients?limit=${pageSize}${after}`, undefined, signal)
    list.push(...answer.clients)
    more = answer.more
  }
  clientTable.fill(list)
  find("#clients-more").hidden = !more
  setText(find("#clients-caption"), more ? `The first ${number(list.length)} by name of ${number(last?.clients ?? list.length)}` : counted(list.length, "client"))
}, () => slow * pages)

const warningTable = warningsTable(find("#warnings"))
const warnings = new Guarded(find("#warnings-list"), async signal => {
  const answer = await admin.ask("GET", "/api/warnings", undefined, signal)
  /** @type {Map<string, number>} lines may be the same to the last letter */
  const times = new Map()
  warningTable.fill(answer.warnings.map((/** @type {any} */ w) => {
    const text = JSON.stringify(w)
    const n = times.get(text) ?? 0
    times.set(text, n + 1)
    return {...w, key: text + n}
  }))
}, () => slow)

function drawAdmin() {
  for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("[data-admin]"))) {
    button.disabled = !admin.able
    button.title = admin.reason
  }
  for (const why of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".why"))) {
    setText(why, admin.reason + " Give it under Administration.")
    why.hidden = admin.able
  }
  /** @type {HTMLButtonElement} */ (find("#forget")).disabled = !admin.has
  setText(find("#token-state"), admin.able ? "The token is accepted." : "")
  if (last) sources.fill(last.sources ?? [])
  void clients.load()
  void warnings.load()
}

/** @param {SubmitEvent} event */
async function useToken(event) {
  event.preventDefault()
  const field = /** @type {HTMLInputElement} */ (find("#token"))
  const refusal = find("#token-refusal")
  refusal.hidden = true
  try {
    await admin.use(field.value.trim())
    field.value = ""
  } catch (error) {
    if (!(error instanceof ApiError)) throw error
    setText(refusal, (error.status ? `Refused (${error.status}): ` : "") + error.message)
    refusal.hidden = false
  }
}

function begin() {
  const themeButton = find("#theme")
  const drawTheme = () => setText(themeButton, theme() === "light" ? "Dark" : "Light")
  themeButton.addEventListener("click", () => {
    toggleTheme()
    drawTheme()
  })
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", drawTheme)
  drawTheme()

  find("#token-form").addEventListener("submit", event => void useToken(/** @type {SubmitEvent} */ (event)))
  find("#forget").addEventListener("click", () => {
    admin.forget()
    find("#token").focus()
  })
  find("#collect").addEventListener("click", () => void actions.collect())
  const client = /** @type {HTMLInputElement} */ (find("#client"))
  find("#client-form").addEventListener("submit", event => event.preventDefault())
  find("#client-seek").addEventListener("click", () => void actions.seek(client.value))
  find("#client-delete").addEventListener("click", () => void actions.remove(client.value))
  find("#clients-more").addEventListener("click", () => {
    pages++
    void clients.load()
  })
  setInterval(() => {
    if (document.visibilityState === "hidden") return
    clients.tick()
    warnings.tick()
  }, 1_000)
  drawAdmin()
  void watch()
}

begin()
