// Asking the server. Errors of the API are problem documents (RFC 9457): what they say is for people and is shown as it is.
// @ts-check

import {fetchWithToken} from "./key.js"

/** An answer that was no success, or none at all (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} detail for people
   * @param {{parameter?: string, value?: string, retryAfter?: number}} [more] retryAfter in milliseconds
   */
  constructor(status, detail, more = {}) {
    super(detail)
    this.status = status
    this.parameter = more.parameter
    this.value = more.value
    this.retryAfter = more.retryAfter
  }

  /** Whether asking again later may go better. */
  get passing() {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500
  }
}

/** How far this machine's clock is behind the server's, in milliseconds. Below two seconds it is taken as right. */
let behind = 0

/** The time by the server's clock, in milliseconds of the Unix epoch: what killmails are compared with. */
export function now() {
  return Date.now() + behind
}

/** @param {Response} response */
function setClock(response) {
  const told = Date.parse(response.headers.get("Date") ?? "")
  if (!Number.isFinite(told)) return
  const difference = told - Date.now()
  behind = Math.abs(difference) < 2000 ? 0 : difference
}

/**
 * Asks for something, and returns the answer when it is a success.
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
export async function request(path, init) {
  let response
  try {
    response = await fetchWithToken(path, {credentials: "same-origin", ...init})
  } catch (error) {
    if (init?.signal?.aborted) throw error
    throw new ApiError(0, "the server cannot be reached")
  }
  if (response.ok) {
    setClock(response)
    return response
  }
  const retryAfter = Number(response.headers.get("Retry-After"))
  let detail = `the server answered ${response.status} ${response.statusText}`.trim()
  /** @type {{parameter?: string, value?: string, retryAfter?: number}} */
  const more = {retryAfter: retryAfter > 0 ? retryAfter * 1000 : undefined}
  try {
    const problem = await response.json()
    if (typeof problem.detail === "string") detail = problem.detail
    if (typeof problem.parameter === "string") more.parameter = problem.parameter
    if (typeof problem.value === "string") more.value = problem.value
  } catch {
    // Whatever it was that answered, it was not this server's API.
  }
  throw new ApiError(response.status, detail, more)
}

/**
 * Asks for JSON.
 * @param {string} path
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function getJSON(path, signal) {
  const response = await request(path, {signal})
  try {
    return await response.json()
  } catch (error) {
    if (signal?.aborted) throw error
    throw new ApiError(0, "the answer of the server was cut off")
  }
}

/**
 * A path with a query. Parameters that are undefined or empty are left out.
 * @param {string} path
 * @param {Record<string, string | number | undefined>} parameters
 */
export function withQuery(path, parameters) {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== "") query.set(name, String(value))
  }
  const text = query.toString()
  return text ? path + "?" + text : path
}

/**
 * Waits, or until the signal is aborted.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise(resolve => {
    const timer = setTimeout(done, ms)
    function done() {
      clearTimeout(timer)
      signal?.removeEventListener("abort", done)
      resolve()
    }
    signal?.addEventListener("abort", done)
    if (signal?.aborted) done()
  })
}
