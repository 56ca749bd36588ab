// The token for reading, where the server wants one. It is in this tab's session storage and in the headers of requests, and nowhere
// else: never in an address, which ends up in histories and logs.
// @ts-check

import {element} from "./dom.js"

const key = "killfeed.read-token"

let token = stored()
/** @type {Promise<boolean> | undefined} the dialog that is open */
let asking
let declined = false

function stored() {
  try {
    return sessionStorage.getItem(key) ?? ""
  } catch {
    return "" // storage may be forbidden; then the token is forgotten with the page
  }
}

/**
 * Fetches with the token, and asks for one when the server wants one, or does not accept the one that there is. A request with an
 * Authorization of its own is sent as it is.
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function fetchWithToken(path, init) {
  const headers = new Headers(init?.headers)
  if (headers.has("Authorization")) return fetch(path, init)
  for (;;) {
    const sent = token
    if (sent) headers.set("Authorization", "Bearer " + sent)
    const response = await fetch(path, {...init, headers})
    const wanted = response.status === 401 || (response.status === 403 && sent !== "")
    if (!wanted || !(await another(sent, response.clone()))) return response
  }
}

/** The subprotocols with which a socket brings the token, as clients of Phoenix do. */
export function subprotocols() {
  if (!token) return []
  return ["phoenix", "base64url.bearer.phx." + btoa(token).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "")]
}

/**
 * Whether there is another token than the one that was sent; it is asked for once, however many requests want it.
 * @param {string} sent
 * @param {Response} refusal
 */
async function another(sent, refusal) {
  const {detail, parameter} = await refusal.json().catch(() => ({}))
  if (parameter) return false // the token is good, and not for that
  if (token !== sent) return true
  if (declined) return false
  asking ??= ask(typeof detail === "string" ? detail : "").finally(() => (asking = undefined))
  return asking
}

/**
 * Shows the dialog. True: a token was typed in.
 * @param {string} why
 * @returns {Promise<boolean>}
 */
function ask(why) {
  const input = element("input", {type: "password", id: "read-token-text", autocomplete: "off", required: true, maxlength: 512})
  const cancel = element("button", {type: "button", id: "read-token-cancel"}, "Cancel")
  const form = element("form", {class: "body", method: "dialog"},
    element("p", {}, why),
    element("p", {}, element("label", {for: "read-token-text"}, "Token "), input),
    element("p", {class: "answers"}, cancel, " ", element("button", {type: "submit"}, "Use it")))
  const dialog = element("dialog", {id: "read-token", "aria-labelledby": "read-token-heading"},
    element("div", {class: "head"}, element("h2", {id: "read-token-heading"}, "This server wants a token for reading")), form)
  document.body.append(dialog)
  return new Promise(resolve => {
    let typed = ""
    form.addEventListener("submit", () => (typed = input.value.trim()))
    cancel.addEventListener("click", () => dialog.close())
    dialog.addEventListener("close", () => {
      dialog.remove()
      if (/^[\x21-\x7e]+$/.test(typed)) keep(typed)
      else declined = true // until the page is loaded again, or it would be asked for every two seconds
      resolve(!declined)
    })
    dialog.showModal()
    input.focus()
  })
}

/** @param {string} text */
function keep(text) {
  token = text
  try {
    sessionStorage.setItem(key, text)
  } catch {
    // It holds until the page is left.
  }
}
