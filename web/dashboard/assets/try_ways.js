// The ways to read, and the request that each of them makes of what the form says. Nothing is asked here: what is shown as curl,
// as JavaScript, and what is run are made of the same request.
// @ts-check

import {withQuery} from "./api.js"
import {shellWord} from "./format.js"

/**
 * @typedef {Record<string, string>} Values what the form says, by the fields' names
 *
 * @typedef {object} Request
 * @property {"GET" | "POST"} method
 * @property {string} path with its query
 * @property {Record<string, string>} headers
 * @property {string} [body]
 * @property {Record<string, unknown>} [join] of a channel: the params of its join
 *
 * @typedef {object} Way
 * @property {string} name in the address
 * @property {string} label
 * @property {"once" | "sse" | "lines" | "channel"} kind of its answer
 * @property {string} path
 * @property {string[]} takes the fields that it has
 * @property {Record<string, string>} [called] what it calls those that have another name there
 * @property {string} says
 *
 * @typedef {object} Field
 * @property {string} name
 * @property {string} label
 * @property {string} usual what it says until somebody changes it
 * @property {string} [hint]
 * @property {boolean} [wide]
 */

/** @type {Field[]} */
export const fields = [
  {name: "topics", label: "Topics, separated by commas", usual: "all", hint: "all, region:The Forge, alliance:99000001", wide: true},
  {name: "systems", label: "Systems", usual: "", hint: "30000142, Jita"},
  {name: "filter", label: "Filter", usual: "", hint: "isk>1b;space=null"},
  {name: "fields", label: "Fields of the killmail", usual: "", hint: "killmail_id,victim.ship_type_id"},
  {name: "limit", label: "Limit", usual: "5", hint: "1 to 1000"},
  {name: "wait", label: "Wait, seconds", usual: "10", hint: "0 to 60"},
  {name: "start", label: "Start", usual: "", hint: "earliest, latest, an event id, a time"},
  {name: "after", label: "After", usual: "", hint: "a cursor or an event id"},
  {name: "since", label: "Since", usual: "", hint: "24h, 7d, a time"},
  {name: "before", label: "Before", usual: "", hint: "next of the answer before"},
  {name: "number", label: "Number of the file", usual: "sequence", hint: "sequence, 1, 2, 3 …"},
  {name: "client_id", label: "Client", usual: ""},
  {name: "names", label: "Names: what the ids are called", usual: ""},
]

const what = ["topics", "systems", "filter", "fields", "names"]

/** @type {Way[]} */
export const ways = [
  {name: "poll", label: "Poll", kind: "once", path: "/api/killfeed", takes: [...what, "client_id", "limit", "start", "after"],
    says: "All that the client has not had, the oldest first. Without a client, give start or after, and go on with next."},
  {name: "next", label: "Next", kind: "once", path: "/api/killfeed/next", takes: [...what, "client_id", "start", "after"],
    says: "The one killmail with the smallest event id that the client has not had, or 204."},
  {name: "wait", label: "Long poll", kind: "once", path: "/api/killfeed", takes: [...what, "client_id", "limit", "wait", "start", "after"],
    says: "A poll that waits for a killmail when there is none, as long as it is told to."},
  {name: "sse", label: "Stream (SSE)", kind: "sse", path: "/api/killfeed/stream", takes: [...what, "start", "after"],
    says: "Server-Sent Events: what comes from now on, or behind a cursor. For browsers."},
  {name: "ndjson", label: "Stream (NDJSON)", kind: "lines", path: "/api/killfeed/stream", takes: [...what, "start", "after"],
    says: "The same stream as lines of JSON. For programs."},
  {name: "channels", label: "Phoenix Channels", kind: "channel", path: "/socket/websocket?vsn=2.0.0", takes: [...what, "start", "after"],
    says: "A WebSocket that speaks Phoenix Channels, version 2. The topic killfeed has all that the join asks for."},
  {name: "redisq", label: "RedisQ", kind: "once", path: "/listen.php", takes: ["filter", "limit", "wait", "client_id"],
    called: {client_id: "queueID", wait: "ttw"},
    says: "As zKillboard's RedisQ did: the next killmail of a queue, or a null package. A queue begins with its first request."},
  {name: "r2z2", label: "R2Z2 file", kind: "once", path: "/ephemeral/", takes: ["number"],
    says: "As zKillboard's R2Z2: sequence is the newest number, and each number is a file."},
  {name: "lookback", label: "Look back", kind: "once", path: "/api/killmails", takes: [...what, "limit", "since", "before"],
    says: "What is kept, the newest first. Nothing is stored. Go on with next, or live from cursor."},
  {name: "counts", label: "Counts", kind: "once", path: "/api/systems/counts", takes: ["topics", "systems", "filter", "names", "since"],
    says: "How many killmails each system had, the most first: of the last 24 hours unless since says otherwise."},
]

/** A text's parts between commas. @param {string} text */
export function listed(text) {
  return text.split(",").map(t => t.trim()).filter(t => t !== "")
}

/**
 * The request of a way.
 * @param {Way} way
 * @param {Values} values
 * @returns {Request}
 */
export function requestOf(way, values) {
  if (way.name === "r2z2") return {method: "GET", path: `${way.path}${encodeURIComponent(values.number.trim())}.json`, headers: {}}
  /** @type {Record<string, string>} */
  const said = {}
  for (const name of way.takes) said[way.called?.[name] ?? name] = values[name].trim()
  if (way.kind !== "channel") {
    return {method: "GET", path: withQuery(way.path, said), headers: way.kind === "lines" ? {Accept: "application/x-ndjson"} : {}}
  }
  /** @type {Record<string, unknown>} */
  const join = {}
  for (const [name, text] of Object.entries(said)) {
    if (text !== "") join[name] = name === "topics" || name === "systems" ? listed(text) : text
  }
  return {method: "GET", path: way.path, headers: {}, join}
}

/**
 * The request that moves the client of a way.
 * @param {Way} way
 * @param {Values} values
 * @param {string} to
 * @returns {Request}
 */
export function seekOf(way, values, to) {
  const queue = way.name === "redisq"
  const id = (queue ? "redisq:" : "") + values.client_id.trim()
  /** @type {Record<string, string[]>} */
  const on = {}
  for (const name of ["topics", "systems"]) {
    const list = queue ? [] : listed(values[name])
    if (list.length > 0) on[name] = list // an empty one is refused
  }
  if (queue) on.topics = ["all"]
  return {method: "POST", path: `/api/clients/${encodeURIComponent(id)}/seek`, headers: {}, body: JSON.stringify({to, ...on})}
}

/** A channel's URL. @param {string} path */
export function socketURL(path) {
  return location.origin.replace(/^http/, "ws") + path
}

/** The message that joins. @param {Request} r */
export function joinMessage(r) {
  return JSON.stringify(["1", "1", "killfeed", "phx_join", r.join])
}

/**
 * The request as a command; a channel, which curl does not speak, as what goes over the wire.
 * @param {Way} way
 * @param {Request} r
 */
export function asCurl(way, r) {
  if (r.join) return socketURL(r.path) + "\n" + joinMessage(r)
  const headers = Object.entries(r.headers).map(([name, value]) => ` -H ${shellWord(name + ": " + value)}`).join("")
  return `curl -s${way.kind === "once" ? "" : "N"}${headers} ${shellWord(location.origin + r.path)}`
}

/**
 * The request as JavaScript.
 * @param {Way} way
 * @param {Request} r
 */
export function asScript(way, r) {
  const url = JSON.stringify(location.origin + r.path)
  switch (way.kind) {
    case "sse":
      return `const stream = new EventSource(${url})
stream.addEventListener("open", event => {
  if (event.data) console.log("from", JSON.parse(event.data).cursor)
})
stream.addEventListener("new_killmail", event => {
  const {event_id, killmail} = JSON.parse(event.data)
  console.log(event_id, killmail)
})
stream.addEventListener("gap", event => console.warn("lost", JSON.parse(event.data)))`
    case "lines":
      return `const response = await fetch(${url}, {headers: {Accept: "application/x-ndjson"}})
if (!response.ok) throw new Error((await response.json()).detail)
let rest = ""
for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\\n")
  rest = lines.pop()
  for (const line of lines) console.log(JSON.parse(line)) // its cursor is where to go on: after=…
}`
    case "channel":
      return `import {Socket} from "phoenix"

const socket = new Socket(${JSON.stringify(socketURL("/socket"))})
socket.connect()
const channel = socket.channel("killfeed", ${JSON.stringify(r.join)})
channel.on("new_killmail", ({event_id, killmail}) => console.log(event_id, killmail))
channel.on("gap", gap => console.warn("lost", gap))
channel.join()
  .receive("ok", ({cursor}) => console.log("from", cursor))
  .receive("error", ({reason}) => console.error(reason))`
  }
  return `const response = await fetch(${url})
if (!response.ok) throw new Error(await response.text())
const answer = ${way.name === "next" ? "response.status === 204 ? null : " : ""}await response.json()
console.log(answer)`
}
