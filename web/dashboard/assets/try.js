// The playground at /try: a form, the request that it makes, and what the server answers. It asks for nothing until it is told to:
// a link that somebody shares must not move anybody's client by being opened.
// @ts-check

import {ApiError, getJSON, withQuery} from "./api.js"
import {copy, element, find, setText} from "./dom.js"
import * as filters from "./filters.js"
import {theme, toggleTheme} from "./settings.js"
import {Suggest} from "./suggest.js"
import {run} from "./try_run.js"
import {asCurl, asScript, fields, listed, requestOf, seekOf, ways} from "./try_ways.js"

/** @typedef {import("./try_ways.js").Request} Request */
/** @typedef {import("./try_ways.js").Way} Way */

const kept = 50 // messages of a stream that are shown

/** @type {import("./try_ways.js").Values} */
const usual = Object.fromEntries(fields.map(f => [f.name, f.usual]))
usual.client_id = ownClient()
const values = {...usual}
let way = ways[0]
/** @type {AbortController | undefined} what runs */
let running
/** @type {{n: number, title: string, text: string}[]} messages that wait for the next frame, the oldest first */
let waiting = []
let counted = 0 // messages of what runs
let drawing = false

/** A client's name for this tab, the same after a reload: one that is asked for once leaves an offset behind. */
function ownClient() {
  const made = "try-" + Math.random().toString(36).slice(2, 10)
  try {
    const had = sessionStorage.getItem("killfeed.try")
    if (had) return had
    sessionStorage.setItem("killfeed.try", made)
  } catch {
    // Storage may be forbidden. Then it is another one each time.
  }
  return made
}

// ---- The address

function readAddress() {
  const q = new URLSearchParams(location.search)
  way = ways.find(w => w.name === q.get("way")) ?? ways[0]
  for (const f of fields) values[f.name] = q.get(f.name) ?? usual[f.name]
}

/** Notes what differs from a fresh page. The client that was made up is left out: who follows the link has one of his own. */
function writeAddress() {
  const q = new URLSearchParams()
  if (way !== ways[0]) q.set("way", way.name)
  for (const f of fields) if (values[f.name] !== usual[f.name]) q.set(f.name, values[f.name])
  const text = q.toString()
  history.replaceState(null, "", location.pathname + (text ? "?" + text : ""))
}

// ---- The form

/** @param {string} name */
function inputOf(name) {
  return /** @type {HTMLInputElement} */ (find(`#field-${name}`))
}

function makeForm() {
  for (const w of ways) {
    const radio = element("input", {type: "radio", name: "way", value: w.name})
    radio.addEventListener("change", () => {
      stop()
      way = w
      changed()
    })
    find("#ways").append(element("label", {}, radio, w.label))
  }
  for (const f of fields) {
    const tick = f.name === "names"
    const input = element("input", {
      id: "field-" + f.name, type: tick ? "checkbox" : "text", placeholder: f.hint, autocapitalize: "off", spellcheck: "false", maxlength: tick ? undefined : 16384,
      "aria-describedby": f.name === "client_id" ? "client-note" : undefined,
    })
    input.addEventListener("input", () => {
      values[f.name] = tick ? (input.checked ? "1" : "") : input.value
      input.removeAttribute("aria-invalid")
      changed()
    })
    const class_ = (tick ? "tick " : "") + (f.wide ? "wide" : "")
    find("#fields").append(element("label", {class: class_.trim(), "data-for": f.name}, ...tick ? [input, f.label] : [f.label, input]))
  }
}

/** Shows what the form says, and the request of it. */
function changed() {
  writeAddress()
  drawForm()
  const r = requestOf(way, values)
  setText(find("#curl-heading"), r.join ? "On the wire" : "curl")
  setText(find("#copy-curl"), r.join ? "Copy message" : "Copy curl")
  setText(find("#curl"), asCurl(way, r))
  setText(find("#script"), asScript(way, r))
}

function drawForm() {
  for (const radio of document.querySelectorAll("input[name=way]")) {
    if (radio instanceof HTMLInputElement) radio.checked = radio.value === way.name
  }
  setText(find("#says"), way.says)
  for (const e of document.querySelectorAll("[data-for]")) {
    if (e instanceof HTMLElement) e.hidden = !way.takes.includes(e.dataset.for ?? "")
  }
  for (const f of fields) {
    const input = inputOf(f.name)
    if (f.name === "names") input.checked = values.names === "1"
    else if (input.value !== values[f.name]) input.value = values[f.name]
  }
  find("#client").hidden = !way.takes.includes("client_id")
}

/**
 * Topics that could be meant by a text.
 * @param {string} text
 * @param {AbortSignal} signal
 */
async function suggestions(text, signal) {
  /** @type {import("./suggest.js").Option[]} */
  const options = []
  /** @param {string} topic @param {string} label @param {string} kind */
  const add = (topic, label, kind) => options.push({label, kind, take: () => addTopic(topic)})
  if (/^\d{1,10}$/.test(text)) {
    for (const kind of ["character", "corporation", "alliance", "ship", "system"]) add(`${kind}:${Number(text)}`, `${kind} ${Number(text)}`, kind)
    return {options}
  }
  for (const [value, label] of filters.spaces) {
    if (label.toLowerCase().startsWith(text.toLowerCase()) || value.startsWith(text.toLowerCase())) add("space:" + value, label, "space")
  }
  try {
    const answer = await getJSON(withQuery("/api/search", {q: text, limit: 10}), signal)
    for (const m of answer.matches) {
      const named = m.kind !== "faction" && m.kind !== "corporation" && !m.name.includes(",")
      add(`${m.kind}:${named ? m.name : m.id}`, m.name, m.kind === "ship" ? "type" : m.kind)
    }
  } catch (error) {
    if (!(error instanceof ApiError)) return {options}
    return {options, note: error.status === 400 ? "This server has no static data: places and ships are found by id only." : error.message}
  }
  return {options}
}

/** @param {string} topic */
function addTopic(topic) {
  const topics = listed(values.topics).filter(t => t !== "all" && t !== topic)
  values.topics = [...topics, topic].join(", ")
  changed()
}

// ---- The answer

function stop() {
  running?.abort()
}

/**
 * Runs a request, and shows the answer.
 * @param {Request} r
 * @param {Way["kind"]} kind
 */
async function start(r, kind) {
  stop()
  const mine = new AbortController()
  running = mine
  const answer = find("#answer")
  answer.dataset.is = "running"
  const button = find("#run")
  setText(button, "Stop")
  for (const id of ["#refusal", "#headers", "#messages", "#body", "#cut"]) find(id).hidden = true
  for (const f of fields) inputOf(f.name).removeAttribute("aria-invalid")
  setText(find("#asked"), `${r.method} ${r.path}` + (r.body ? " " + r.body : ""))
  setText(find("#status"), "asked …")
  waiting = []
  counted = 0
  find("#messages").replaceChildren()
  let status = ""
  /** @param {() => void} show what is drawn, unless something else is asked by now */
  const now = show => {
    if (running === mine) show()
  }
  await run(r, kind, {
    status: (text, ms) => now(() => {
      status = `${text} · ${ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`
      setText(find("#status"), status)
    }),
    headers: list => now(() => {
      const dl = find("#headers")
      dl.replaceChildren(...list.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {class: "code"}, value)]))
      dl.hidden = list.length === 0
    }),
    body: (text, cut) => now(() => {
      setText(find("#body"), text || "no body")
      find("#body").hidden = false
      setText(find("#cut"), cut)
      find("#cut").hidden = cut === ""
    }),
    message: (title, text) => now(() => {
      waiting.push({n: ++counted, title, text})
      if (waiting.length > kept) waiting.shift()
      drawMessages()
    }),
    refused: (parameter, text) => now(() => refuse(parameter, text)),
    ended: why => now(() => {
      setText(find("#status"), (status ? status + " · " : "") + why)
    }),
  }, mine.signal)
  if (running !== mine) return
  running = undefined
  if (mine.signal.aborted) setText(find("#status"), (status ? status + " · " : "") + "stopped")
  answer.dataset.is = "done"
  setText(button, "Run")
}

/** Draws once for all messages that come until the next frame. Those that stay are left alone: somebody may be reading one. */
function drawMessages() {
  if (drawing) return
  drawing = true
  requestAnimationFrame(() => {
    drawing = false
    const list = find("#messages")
    list.prepend(...waiting.reverse().map(({n, title, text}) => element("li", {},
      element("span", {class: "code"}, `${n} ${title}`), element("pre", {tabindex: "0", role: "region", "aria-label": "Message " + n}, text))))
    waiting = []
    while (list.childElementCount > kept) list.lastElementChild?.remove()
    list.hidden = list.childElementCount === 0
  })
}

/** @param {string} parameter @param {string} text */
function refuse(parameter, text) {
  const e = find("#refusal")
  e.replaceChildren(...parameter ? [element("strong", {}, parameter), ": " + text] : [text])
  e.hidden = false
  const name = Object.entries(way.called ?? {}).find(([, called]) => called === parameter)?.[0] ?? parameter
  if (way.takes.includes(name)) inputOf(name).setAttribute("aria-invalid", "true")
}

// ---- Beginning

/** @type {ReturnType<typeof setTimeout> | undefined} */
let toastTimer

/** @param {string} text @param {string} done */
async function copied(text, done) {
  setText(find("#toast"), await copy(text) ? done : "The browser does not let this page copy.")
  clearTimeout(toastTimer)
  toastTimer = setTimeout(() => setText(find("#toast"), ""), 3000)
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

  makeForm()
  readAddress()
  new Suggest(/** @type {HTMLInputElement} */ (find("#search")), find("#suggestions"), suggestions)
  find("#form").addEventListener("submit", event => {
    event.preventDefault()
    if (running) stop()
    else void start(requestOf(way, values), way.kind)
  })
  for (const b of document.querySelectorAll("button[data-seek]")) {
    b.addEventListener("click", () => void start(seekOf(way, values, /** @type {HTMLElement} */ (b).dataset.seek ?? ""), "once"))
  }
  find("#copy-curl").addEventListener("click", () => void copied(find("#curl").textContent ?? "", "The request is copied."))
  find("#copy-script").addEventListener("click", () => void copied(find("#script").textContent ?? "", "The JavaScript is copied."))
  find("#copy-link").addEventListener("click", () => void copied(location.href, "The link is copied."))
  addEventListener("popstate", () => {
    readAddress()
    changed()
  })
  changed()
}

begin()
