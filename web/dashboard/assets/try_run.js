// Running a request: the answer whole or, of what goes on, message by message until it is stopped. What is kept is bounded by who
// shows it, what is shown here by most.
// @ts-check

import {Channel} from "./channel.js"
import {fetchWithToken} from "./key.js"
import {pretty} from "./pretty.js"
import {joinMessage, socketURL} from "./try_ways.js"

/** @typedef {import("./try_ways.js").Request} Request */
/** @typedef {import("./try_ways.js").Way["kind"]} Kind */

export const most = 200 * 1024 // characters of a body that are shown
const mostOfOne = 4 * 1024 // of a message; fifty of them are as much

const telling = ["Killfeed-Head", "Killfeed-Gap", "Killfeed-More", "Retry-After", "Cache-Control", "Content-Type"]

/**
 * @typedef {object} Output
 * @property {(text: string, ms: number) => void} status how it was answered, and how long that took
 * @property {(list: [string, string][]) => void} headers
 * @property {(text: string, cut: string) => void} body
 * @property {(title: string, text: string) => void} message
 * @property {(parameter: string, text: string) => void} refused
 * @property {(why: string) => void} ended a stream, by the other side
 */

/**
 * Runs a request until it is answered, or the signal is aborted.
 * @param {Request} r
 * @param {Kind} kind
 * @param {Output} out
 * @param {AbortSignal} signal
 */
export async function run(r, kind, out, signal) {
  try {
    if (r.join) await follow(r, out, signal)
    else await ask(r, kind, out, signal)
  } catch (error) {
    if (signal.aborted) return
    out.ended(error instanceof TypeError ? "the server cannot be reached, or has hung up" : String(error))
  }
}

/** @param {Request} r @param {Kind} kind @param {Output} out @param {AbortSignal} signal */
async function ask(r, kind, out, signal) {
  const begun = performance.now()
  /** @type {RequestInit} */
  const init = {method: r.method, headers: r.headers, body: r.body, signal, credentials: "same-origin", cache: "no-store"}
  const response = await fetchWithToken(r.path, init)
  const status = `${response.status} ${response.statusText}`.trim()
  out.headers(telling.flatMap(name => {
    const value = response.headers.get(name)
    return value === null ? [] : [/** @type {[string, string]} */ ([name, value])]
  }))
  if (kind !== "once" && response.ok && response.body) {
    out.status(status, performance.now() - begun)
    await (kind === "sse" ? events : lines)(response.body, out)
    return out.ended("the server has ended the stream")
  }
  const text = await response.text()
  out.status(status, performance.now() - begun)
  const json = /json/.test(response.headers.get("Content-Type") ?? "")
  if (!response.ok) refusal(text, json, out)
  const shown = json ? pretty(text, most) : text.slice(0, most)
  const cut = text.length > most || shown.length >= most ? `The first ${most / 1024} KB are shown; the answer has ${Math.ceil(text.length / 1024)} KB.` : ""
  out.body(shown, cut)
}

/** What a problem document, or RedisQ's error, says. @param {string} text @param {boolean} json @param {Output} out */
function refusal(text, json, out) {
  let problem
  try {
    problem = json ? JSON.parse(text) : undefined
  } catch {
    // Then the body shows what it was.
  }
  const said = problem?.detail ?? problem?.error
  if (typeof said === "string") out.refused(typeof problem.parameter === "string" ? problem.parameter : "", said)
}

/**
 * Hands on what stands between separators.
 * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
 * @param {string} separator
 * @param {(part: string) => void} take
 */
async function parts(body, separator, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ""
  for (;;) {
    const {value, done} = await reader.read()
    if (done) return
    const all = (rest + value).split(separator)
    rest = all.pop() ?? ""
    for (const part of all) take(part)
  }
}

/** @param {ReadableStream<Uint8Array<ArrayBuffer>>} body @param {Output} out */
function lines(body, out) {
  return parts(body, "\n", line => {
    if (line.trim() !== "") out.message(/^\{"type":"(\w+)"/.exec(line)?.[1] ?? "", pretty(line, mostOfOne))
  })
}

/** @param {ReadableStream<Uint8Array<ArrayBuffer>>} body @param {Output} out */
function events(body, out) {
  return parts(body, "\n\n", block => {
    const head = []
    let name = ""
    let data = ""
    for (const line of block.split("\n")) {
      if (line.startsWith("data:")) data += line.slice(5)
      else if (line !== "") head.push(line)
      if (line.startsWith("event:")) name = line.slice(6).trim()
      else if (line.startsWith(":")) name = "comment"
    }
    out.message(name, head.join("\n") + (data ? "\ndata: " + pretty(data, mostOfOne) : ""))
  })
}

/** Follows a channel. @param {Request} r @param {Output} out @param {AbortSignal} signal @returns {Promise<void>} */
function follow(r, out, signal) {
  const begun = performance.now()
  return new Promise(resolve => {
    const channel = new Channel(socketURL(r.path), "killfeed", joinMessage(r), {
      joined(response) {
        out.status("joined", performance.now() - begun)
        out.message("phx_reply", pretty(JSON.stringify(response), mostOfOne))
      },
      refused(response) {
        out.status("the join was refused", performance.now() - begun)
        out.refused(typeof response?.parameter === "string" ? response.parameter : "", String(response?.reason ?? "no reason was given"))
        out.body(pretty(JSON.stringify(response), most), "")
        resolve()
      },
      event: (name, _, text) => out.message(name, pretty(text, mostOfOne)),
      closed(why) {
        out.ended(why)
        resolve()
      },
    })
    signal.addEventListener("abort", () => {
      channel.close()
      resolve()
    })
  })
}
