// The page at /: history first, then the log live from where the history ended.
// @ts-check

import {ApiError, getJSON, now, withQuery} from "./api.js"
import {Chart, Hour, killsText, valueText} from "./charts.js"
import {Detail} from "./detail.js"
import {copy, element, find, setText} from "./dom.js"
import * as filters from "./filters.js"
import {counted, isk, parseIsk, shellWord, span} from "./format.js"
import {fields, killOf} from "./killmail.js"
import {List, windowSize} from "./list.js"
import {named, seen, want, whenNamed} from "./names.js"
import {zkillboard} from "./row.js"
import {choose, chosen, images, imagesAllowed, theme, toggleTheme} from "./settings.js"
import {Follower} from "./stream.js"
import {Suggest} from "./suggest.js"

/** @typedef {import("./killmail.js").Kill} Kill */

const page = 100 // killmails of one question
const furthest = 5 // questions in a row when a filter finds little
const spokenEvery = 10_000 // ms between two summaries for who hears the page
const restful = 30_000 // ms after which a pointer that does not move holds the list no longer
const chartPages = 4 // of 1,000 killmails: more than the busiest hour has

let filter = filters.parse(location.search)
/** @type {AbortController} ends what is being loaded for a filter that is no more */
let loading = new AbortController()
/** @type {Follower | undefined} */
let follower
/** @type {string | null} where the list goes on, as the server said; null: there is no more */
let older = null
let lastCame = 0 // when the last killmail came live
const hour = new Hour()
let hourDirty = true
/** @type {Kill[] | undefined} what came while the hour was being loaded */
let hourLate
let spokenCount = 0
let spokenValue = 0
let spokenNewest = ""

const root = find("#list")
const pill = find("#pill")
const olderButton = find("#older")
const end = find("#end")
const state = find("#state")

const list = new List(root, {
  now,
  loss: kill => filters.isLoss(filter, kill.victim),
  changed(waiting, held) {
    const text = held && waiting > 0 ? `+${waiting} new` : list.cut ? "To the newest" : ""
    if (pill.hidden !== (text === "")) pill.hidden = text === "" // written again it would be a frame, for every killmail
    setText(pill, text)
    const away = document.visibilityState === "hidden" || held
    const title = (away && waiting > 0 ? `(${waiting}) ` : "") + "killfeed"
    if (document.title !== title) document.title = title
  },
  shown(rows) {
    spokenCount += rows.length
    for (const r of rows) spokenValue += r.kill.value ?? 0
    if (rows.length > 0) spokenNewest = rows[0].summary()
  },
})

const detail = new Detail(/** @type {HTMLDialogElement} */ (find("#detail")), {
  closed() {
    // The way back is the way in, so that the back button does not open it again.
    if (history.state?.opened) history.back()
    else history.replaceState(null, "", location.pathname + location.search)
  },
  say: toast,
})

const charts = [
  new Chart(find("#kills-chart"), {what: "Killmails", text: killsText, sum: n => counted(n, "kill")}),
  new Chart(find("#value-chart"), {what: "Value lost", text: valueText, sum: valueText}),
]

// ---- Loading and following

/** What is asked for in every question about the list. */
function wanted() {
  return {filter: filters.rules(filter), names: 1, fields}
}

/** Shows what the filter says, from the beginning. */
async function load() {
  loading.abort()
  loading = new AbortController()
  const {signal} = loading
  follower?.stop()
  find("#refusal").hidden = true
  olderButton.hidden = true
  setText(end, "")
  root.setAttribute("aria-busy", "true")
  setState("connecting", "connecting")
  /** @type {Kill[]} */
  const kills = []
  let cursor = ""
  older = null
  for (let asked = 0; ; asked++) {
    let answer
    try {
      answer = await getJSON(withQuery("/api/killmails", {...wanted(), limit: page, before: older ?? undefined}), signal)
    } catch (error) {
      if (signal.aborted) return
      if (!(error instanceof ApiError)) throw error
      if (!error.passing) return refuse(error)
      setState("lost", "no answer, trying again")
      return void setTimeout(() => {
        if (!signal.aborted) void load()
      }, error.retryAfter ?? 2000 + Math.random() * 2000)
    }
    cursor ||= answer.cursor
    older = answer.next
    kills.push(...answer.events.map(killOf))
    if (answer.gap) tellGap(answer.gap)
    if (kills.length >= page || older === null || asked >= furthest) break
  }
  list.replace(kills)
  want(kills.flatMap(k => k.missing))
  root.setAttribute("aria-busy", "false")
  showEnd()
  void loadHour(signal)
  follower = new Follower(at => withQuery("/api/killfeed/stream", {topics: "all", ...wanted(), after: at}), {
    event: came,
    gap: tellGap,
    anew(reason) {
      notice(reason === "epoch" ? "The server began a new log. The list was begun anew." : "The server's log was set back. The list was begun anew.", true)
      void load()
    },
    refused: refuse,
    state(is, next) {
      if (is === "live") setState("live", "live")
      else if (is === "connecting") setState("connecting", "connecting")
      else setState("lost", "lost, trying again in " + span(next ?? 0))
    },
    back(away, caughtUp) {
      if (caughtUp > 0 || away >= 5000) notice(`Away ${span(away)}, caught up ${counted(caughtUp, "killmail")}.`)
    },
  })
  follower.start(cursor)
}

/** @param {any} event of the stream */
function came(event) {
  const kill = killOf(event)
  lastCame = Date.now()
  want(kill.missing)
  list.add(kill)
  if (hourLate) {
    if (hourLate.length < 2000) hourLate.push(kill)
  } else countInHour(kill)
}

/** @param {Kill} kill */
function countInHour(kill) {
  if (kill.event <= hour.head) return
  hour.add(kill.at, kill.value, now())
  hourDirty = true
}

/** Counts what the last hour had. @param {AbortSignal} signal */
async function loadHour(signal) {
  hourLate = []
  hour.clear()
  try {
    /** @type {string | undefined} */
    let before
    let head = 0
    for (let asked = 0; asked < chartPages; asked++) {
      const answer = await getJSON(withQuery("/api/killmails", {
        filter: filters.rules(filter), since: "60m", limit: 1000, before, fields: "killmail_time,zkb.totalValue",
      }), signal)
      head ||= answer.head
      for (const e of answer.events) hour.add(Date.parse(e.killmail.killmail_time ?? e.received_at), e.killmail.zkb?.totalValue, now())
      if (!answer.next) break
      before = answer.next
    }
    hour.head = head
  } catch (error) {
    if (signal.aborted) return // the next one has begun
    if (!(error instanceof ApiError)) throw error // the charts then begin now
  }
  const late = hourLate
  hourLate = undefined
  for (const kill of late) countInHour(kill)
  hourDirty = true
  drawCharts()
}

function drawCharts() {
  const {kills, value, newest} = hour.series(now())
  charts[0].draw(kills, newest)
  charts[1].draw(value, newest)
  hourDirty = false
}

/** Loads older killmails below those that are shown. */
async function loadOlder() {
  // Rows that fell out of the window at the bottom are older ones now, and then the oldest row says where to go on.
  const before = list.rows.length >= windowSize || older === null ? list.oldest : older
  if (before === undefined) return
  olderButton.setAttribute("disabled", "")
  const {signal} = loading
  try {
    const answer = await getJSON(withQuery("/api/killmails", {...wanted(), limit: page, before}), signal)
    older = answer.next
    const kills = answer.events.map(killOf)
    list.addOlder(kills)
    want(kills.flatMap((/** @type {Kill} */ k) => k.missing))
    showEnd()
  } catch (error) {
    if (signal.aborted) return
    if (!(error instanceof ApiError)) throw error
    toast(error.message)
  } finally {
    olderButton.removeAttribute("disabled")
  }
}

function showEnd() {
  const more = older !== null || list.rows.length >= windowSize
  olderButton.hidden = !more
  const none = filters.isNone(filter) ? "There are no killmails yet. New ones appear here as they come." : "No killmail that is kept matches. New ones that do appear here as they come."
  setText(end, list.rows.length === 0 ? (more ? "Nothing that matches lately." : none)
    : more ? "" : filters.isNone(filter) ? "This is the first killmail that the server keeps." : "The server keeps nothing older that matches.")
}

/** @param {ApiError} error */
function refuse(error) {
  const refusal = find("#refusal")
  refusal.hidden = false
  setText(refusal, "The server does not accept this filter: " + error.message)
  root.setAttribute("aria-busy", "false")
  list.replace([])
  hour.clear()
  drawCharts()
  older = null
  olderButton.hidden = true
  setText(end, "")
  setState("refused", "stopped")
}

// ---- Telling

/**
 * @param {string} is
 * @param {string} words
 */
function setState(is, words) {
  state.dataset.state = is
  setText(find(".words", state), words)
}

/** @param {import("./stream.js").Gap} gap */
function tellGap(gap) {
  const which = gap.from === gap.to ? `Event ${gap.from} is` : `Events ${gap.from} to ${gap.to} are`
  notice(gap.reason === "damaged" ? `${which} damaged on the server's disk and cannot be shown.`
    : `${which} no longer kept by the server: what was in them for this list is missing here.`, true)
}

/**
 * Says something above the list.
 * @param {string} text
 * @param {boolean} [lasting] it stays until it is closed
 */
function notice(text, lasting = false) {
  const notices = find("#notices")
  const close = element("button", {type: "button", class: "plain", "aria-label": "Close this notice"}, "✕")
  const e = element("p", {class: lasting ? "notice-line lasting" : "notice-line"}, element("span", {}, text), close)
  close.addEventListener("click", () => e.remove())
  notices.append(e)
  while (notices.children.length > 3) notices.firstElementChild?.remove()
  if (!lasting) setTimeout(() => e.remove(), 20_000)
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let toastTimer
/** @param {string} text */
function toast(text) {
  const e = find("#toast")
  ;(document.querySelector("dialog[open]") ?? document.body).append(e) // what is beside an open dialog is neither seen nor heard
  setText(e, text)
  clearTimeout(toastTimer)
  toastTimer = setTimeout(() => setText(e, ""), 3000)
}

/** One sentence now and then, for who hears the page: a name for every killmail would never end. */
function speak() {
  if (spokenCount === 0 || document.visibilityState === "hidden") return
  const worth = spokenValue > 0 ? `, ${isk(spokenValue)} ISK` : ""
  setText(find("#spoken"), `${counted(spokenCount, "new killmail")}${worth}. ${spokenNewest}.`)
  spokenCount = spokenValue = 0
}

// ---- The filter

/** Shows the filter's parts, and what follows from them. */
function drawFilter() {
  const floor = /** @type {HTMLSelectElement} */ (find("#floor"))
  floor.querySelector("[data-own]")?.remove()
  if (![...floor.options].some(o => o.value === filter.isk)) floor.append(element("option", {value: filter.isk, "data-own": true}, filter.isk + "+"))
  floor.value = filter.isk
  for (const b of document.querySelectorAll("#spaces button")) {
    b.setAttribute("aria-pressed", String(filter.chips.some(c => c.key === "space" && c.value === b.getAttribute("data-space"))))
  }
  for (const b of document.querySelectorAll("#marks button")) {
    b.setAttribute("aria-pressed", String(filter.marks.includes(b.getAttribute("data-mark") ?? "")))
  }
  const chips = find("#chips")
  const groups = []
  for (const [sort] of filters.sorts) {
    const of = filter.chips.filter(c => filters.sortOf(c.key) === sort && c.key !== "space")
    if (of.length > 0) groups.push(element("div", {class: "chip-group", role: "group", "aria-label": sort}, element("span", {class: "sort"}, sort), ...of.map(drawChip)))
  }
  if (filter.text) groups.push(element("div", {class: "chip-group"}, element("span", {class: "sort"}, "filter"), drawText()))
  if (!filters.isNone(filter)) {
    const clear = element("button", {type: "button", class: "plain", id: "clear"}, "Clear all")
    clear.addEventListener("click", () => change(f => Object.assign(f, filters.none())))
    groups.push(clear)
  }
  chips.replaceChildren(...groups)
  chips.hidden = groups.length === 0
}

const sideWords = {"": "any", victim: "victim", attacker: "attacker"}

/** @param {filters.Chip} chip */
function drawChip(chip) {
  const id = /^\d+$/.test(chip.value) ? Number(chip.value) : undefined
  const is = named(id)
  if (id !== undefined && !is && chip.key !== "group") want([id])
  const label = (is?.name ?? (id === undefined ? chip.value : `${chip.key} ${id}`)) + (is?.ticker ? ` [${is.ticker}]` : "")
  const e = element("span", {class: "chip"}, element("span", {class: "label", title: chip.key}, label))
  if (filters.sortOf(chip.key) !== "where") {
    const next = /** @type {Record<string, filters.Side>} */ ({"": "victim", victim: "attacker", attacker: ""})[chip.side]
    const side = element("button", {type: "button", class: "side", title: "whose it is: anybody's, the victim's, an attacker's",
      "aria-label": `${label}: ${sideWords[chip.side]}; change to ${sideWords[next]}`}, sideWords[chip.side])
    side.addEventListener("click", () => change(f => {
      const own = f.chips.find(c => c.key === chip.key && c.value === chip.value)
      if (own) own.side = next
    }))
    e.append(side)
  }
  e.append(remover(label, f => {
    f.chips = f.chips.filter(c => c.key !== chip.key || c.value !== chip.value)
  }))
  return e
}

function drawText() {
  const text = filter.text
  const edit = element("button", {type: "button", class: "label code", title: "change it"}, text)
  edit.addEventListener("click", () => {
    change(f => {
      f.text = ""
    })
    const input = /** @type {HTMLInputElement} */ (find("#search"))
    input.value = text
    input.focus()
  })
  return element("span", {class: "chip"}, edit, remover("the filter's text", f => {
    f.text = ""
  }))
}

/**
 * @param {string} what
 * @param {(f: filters.Filter) => void} how
 */
function remover(what, how) {
  const b = element("button", {type: "button", class: "remove", "aria-label": "Remove " + what}, "✕")
  b.addEventListener("click", () => change(how))
  return b
}

/**
 * Changes the filter, as a step that the back button takes back.
 * @param {(f: filters.Filter) => void} how
 */
function change(how) {
  const before = filters.query(filter)
  how(filter)
  const after = filters.query(filter)
  if (after === before) return
  history.pushState(null, "", location.pathname + (after ? "?" + after : ""))
  filterChanged()
}

function filterChanged() {
  detail.close()
  list.release()
  scrollTo({top: 0, behavior: "instant"})
  drawFilter()
  void load()
}

/**
 * What could be meant by a text.
 * @param {string} text
 * @param {AbortSignal} signal
 */
async function suggestions(text, signal) {
  /** @type {import("./suggest.js").Option[]} */
  const options = []
  /** @param {string} key @param {string} value @param {string} label @param {string} kind */
  const chip = (key, value, label, kind) => options.push({label, kind, take: () => change(f => filters.add(f, {key, value, side: ""}))})
  if (/[=<>]/.test(text)) {
    options.push({label: text, kind: "filter", take: () => change(f => {
      f.text = text
    })})
    return {options}
  }
  const floor = parseIsk(text)
  if (floor) {
    options.push({label: `worth ${floor} and more`, kind: "value", take: () => change(f => {
      f.isk = floor
    })})
  }
  if (/^\d{1,10}$/.test(text)) {
    for (const key of ["character", "corporation", "alliance", "ship", "system"]) chip(key, String(Number(text)), `${key} ${Number(text)}`, key)
    return {options}
  }
  for (const [value, label] of filters.spaces) {
    if (label.toLowerCase().startsWith(text.toLowerCase()) || value.startsWith(text.toLowerCase())) chip("space", value, label, "space")
  }
  let note
  try {
    const answer = await getJSON(withQuery("/api/search", {q: text, limit: 10}), signal)
    for (const m of answer.matches) {
      if (m.kind === "faction" || m.kind === "corporation") chip(m.kind, String(m.id), m.name, m.kind === "corporation" ? "NPC corporation" : m.kind)
      else chip(m.kind, m.name, m.name, m.kind === "ship" ? "type" : m.kind)
    }
  } catch (error) {
    if (!(error instanceof ApiError)) return {options}
    note = error.status === 400 ? "This server has no static data: places and ships are found by id only." : error.message
  }
  const known = seen(text, 6)
  for (const is of known) {
    if (!options.some(o => o.label === is.name)) chip(is.kind, String(is.id), is.name + (is.ticker ? ` [${is.ticker}]` : ""), is.kind)
  }
  return {options, note}
}

function asCurl() {
  const rules = filters.rules(filter)
  return `curl -sNG -H 'Accept: application/x-ndjson' ${shellWord(location.origin + "/api/killfeed/stream")} -d topics=all` +
    (rules ? ` --data-urlencode ${shellWord("filter=" + rules)}` : "")
}

function asRedisQ() {
  const name = "page-" + Math.random().toString(36).slice(2, 10) // a queue of one's own: two readers of one share the killmails out
  return location.origin + withQuery("/listen.php", {queueID: name, filter: filters.rules(filter)})
}

// ---- Keys, pointer, address

/** The row that the keyboard is at. */
function focusedRow() {
  if (detail.id) return list.rows.find(r => r.kill.id === detail.id)
  return list.rowOf(document.activeElement)
}

/** @param {number} by */
function step(by) {
  const at = focusedRow()
  const i = at ? list.rows.indexOf(at) + by : 0
  const row = list.rows[Math.max(0, Math.min(list.rows.length - 1, i))]
  if (!row) return
  if (!detail.id) return row.focus()
  row.element.scrollIntoView({block: "nearest"})
  if (Number.isFinite(row.kill.id)) {
    history.replaceState(history.state, "", "#km=" + row.kill.id)
    void detail.show(row.kill.id)
  }
}

/** @param {KeyboardEvent} event */
function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return
  const at = /** @type {HTMLElement} */ (event.target)
  if (at.closest("input, textarea, select, [contenteditable]")) return
  const help = /** @type {HTMLDialogElement} */ (find("#help"))
  if (event.key === "Escape" && !detail.id && !help.open) {
    const row = focusedRow()
    if (row) /** @type {HTMLElement} */ (document.activeElement).blur()
    find("#share").removeAttribute("open")
    return
  }
  if (chosen("keys", "on") !== "on" || help.open) return
  const row = focusedRow()
  switch (event.key) {
    case "/":
      if (detail.id) return
      find("#search").focus()
      break
    case "?":
      if (!detail.id) help.showModal()
      break
    case "j":
      step(1)
      break
    case "k":
      step(-1)
      break
    case "o": {
      const url = row ? zkillboard(row.kill) : undefined
      if (url) open(url, "_blank", "noopener,noreferrer")
      else if (row) toast("A demo's killmail is not on zKillboard.")
      break
    }
    case "c":
      if (row && Number.isFinite(row.kill.id)) void copied(`${location.origin}${location.pathname}#km=${row.kill.id}`, "The link to the killmail is copied.")
      else void copied(location.href, "The link is copied.")
      break
    default:
      return
  }
  event.preventDefault()
}

/**
 * @param {string} text
 * @param {string} done
 */
async function copied(text, done) {
  toast(await copy(text) ? done : "The browser does not let this page copy.")
}

/** Opens or closes a killmail as the address says. */
function route() {
  const id = Number(/^#km=(\d+)$/.exec(location.hash)?.[1])
  if (id > 0) void detail.show(id)
  else detail.close()
}

/** @param {number} id */
function openDetail(id) {
  history.pushState({opened: true}, "", "#km=" + id)
  route()
}

/** A click on a name adds it to the filter, one elsewhere in a row opens it. @param {MouseEvent} event */
function click(event) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button !== 0) return
  const at = /** @type {Element} */ (event.target)
  const link = at.closest("a")
  if (link?.dataset.key) {
    event.preventDefault()
    const {key, value} = link.dataset
    change(f => filters.add(f, {key, value: value ?? "", side: ""}))
    return
  }
  const row = list.rowOf(at)
  if (!row || !Number.isFinite(row.kill.id) || (link && !link.classList.contains("open"))) return
  if (!link && String(getSelection()) !== "") return // the reader is marking text
  event.preventDefault()
  openDetail(row.kill.id)
}

function begin() {
  const asked = new URLSearchParams(location.search).get("km")
  if (asked && /^\d+$/.test(asked)) { // the other spelling
    const rest = filters.query(filter)
    history.replaceState(null, "", location.pathname + (rest ? "?" + rest : "") + "#km=" + asked)
  }

  for (const [value, label] of filters.spaces) {
    const b = element("button", {type: "button", class: "toggle", "aria-pressed": "false", "data-space": value}, label)
    b.addEventListener("click", () => change(f => {
      const there = f.chips.some(c => c.key === "space" && c.value === value)
      if (there) f.chips = f.chips.filter(c => c.key !== "space" || c.value !== value)
      else filters.add(f, {key: "space", value, side: ""})
    }))
    find("#spaces").append(b)
  }
  for (const [mark, , label, title] of filters.marks) {
    const b = element("button", {type: "button", class: "toggle", "aria-pressed": "false", "data-mark": mark, title}, label)
    b.addEventListener("click", () => change(f => {
      f.marks = f.marks.includes(mark) ? f.marks.filter(m => m !== mark) : [...f.marks, mark]
    }))
    find("#marks").append(b)
  }
  find("#floor").addEventListener("change", event => {
    const {value} = /** @type {HTMLSelectElement} */ (event.target)
    change(f => {
      f.isk = value
    })
  })
  new Suggest(/** @type {HTMLInputElement} */ (find("#search")), find("#suggestions"), suggestions)
  for (const [id, text, done] of /** @type {[string, () => string, string][]} */ ([
    ["#copy-link", () => location.href, "The link is copied."],
    ["#copy-curl", asCurl, "The command is copied."],
    ["#copy-redisq", asRedisQ, "The URL is copied."],
  ])) {
    find(id).addEventListener("click", () => {
      find("#share").removeAttribute("open")
      void copied(text(), done)
    })
  }

  const themeButton = find("#theme")
  const drawTheme = () => setText(themeButton, theme() === "light" ? "Dark" : "Light")
  themeButton.addEventListener("click", () => {
    toggleTheme()
    drawTheme()
  })
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", drawTheme)
  drawTheme()

  const imagesButton = find("#images")
  imagesButton.hidden = !imagesAllowed
  const drawImages = () => imagesButton.setAttribute("aria-pressed", String(images()))
  imagesButton.addEventListener("click", () => {
    choose("images", images() ? "off" : "on")
    drawImages()
    for (const r of list.rows) r.redraw()
  })
  drawImages()

  const help = /** @type {HTMLDialogElement} */ (find("#help"))
  find("#help-button").addEventListener("click", () => help.showModal())
  find("button.close", help).addEventListener("click", () => help.close())
  help.addEventListener("click", event => {
    if (event.target === help) help.close()
  })
  const keys = /** @type {HTMLInputElement} */ (find("#keys"))
  keys.checked = chosen("keys", "on") === "on"
  keys.addEventListener("change", () => choose("keys", keys.checked ? "on" : "off"))

  document.addEventListener("keydown", key)
  document.addEventListener("click", click)
  document.addEventListener("click", event => {
    const share = find("#share")
    if (!share.contains(/** @type {Node} */ (event.target))) share.removeAttribute("open")
  })
  find("#home").addEventListener("click", event => {
    event.preventDefault()
    change(f => Object.assign(f, filters.none()))
    scrollTo({top: 0})
  })
  addEventListener("popstate", () => {
    const now = filters.parse(location.search)
    if (filters.query(now) !== filters.query(filter)) {
      filter = now
      filterChanged()
    }
    route()
  })

  // The pointer holds the list while it is used, not while it lies there all night.
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let resting
  root.addEventListener("pointermove", event => {
    if (event.pointerType === "touch") return
    list.hold("pointer", true)
    clearTimeout(resting)
    resting = setTimeout(() => list.hold("pointer", false), restful)
  }, {passive: true})
  root.addEventListener("pointerleave", () => {
    clearTimeout(resting)
    list.hold("pointer", false)
  })
  addEventListener("scroll", () => list.hold("scroll", scrollY > 40), {passive: true})
  root.addEventListener("focusin", event => {
    if (/** @type {Element} */ (event.target).matches("a:focus-visible")) list.hold("keyboard", true)
  })
  root.addEventListener("focusout", event => {
    if (!root.contains(/** @type {Node | null} */ (event.relatedTarget))) list.hold("keyboard", false)
  })
  pill.addEventListener("click", () => {
    scrollTo({top: 0, behavior: "instant"})
    if (list.cut) void load()
    else list.release()
    root.focus({preventScroll: true}) // what had it goes away with the click
  })
  olderButton.addEventListener("click", () => void loadOlder())

  whenNamed(ids => {
    list.named(ids)
    if (filter.chips.some(c => ids.has(Number(c.value)))) drawFilter()
  })
  setInterval(speak, spokenEvery)
  setInterval(() => {
    if (document.visibilityState === "hidden") return
    list.tick()
    drawCharts()
    if (state.dataset.state === "live") setText(find(".words", state), lastCame ? "live · last " + span(Date.now() - lastCame) + " ago" : "live")
  }, 10_000)
  setInterval(() => {
    if (hourDirty && document.visibilityState === "visible") drawCharts()
  }, 2_000)

  drawFilter()
  void load()
  route()
  getJSON("/api/status").then(status => {
    const data = status.static_data ? "" : " · no static data"
    setText(find("#version"), `killfeed ${status.version}${data}`)
  }, () => {}) // the list says already that the server cannot be reached
}

begin()
