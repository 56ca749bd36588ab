/** @import { ClientOptions, Next, Page, Place, PollOptions, ReadOptions, StreamOptions, Topics } from "../killfeed.js" */
import { ConnectionError, gapOfHeader, KillfeedError, refusal } from "./errors.js"
import { Stream } from "./stream.js"

/** @typedef {Record<string, string | number | (string | number)[]>} Query */

/** What a URL is not longer than; a longer list goes into a body. Proxies take 8 KiB, killfeed itself 64. */
const longestUrl = 8000

const inBrowser = "document" in globalThis || "WorkerGlobalScope" in globalThis

export class Client {
  #base
  #options
  #fetch

  /**
   * @param {string | URL} server
   * @param {ClientOptions} [options]
   */
  constructor(server, options = {}) {
    const base = new URL(server)
    if (!/^https?:$/.test(base.protocol) || base.search || base.hash || base.username) {
      throw new TypeError(`server ${JSON.stringify(String(server))}: want scheme, host and path, as in http://127.0.0.1:4004`)
    }
    this.#base = base.href.replace(/\/+$/, "")
    this.#options = options
    this.#fetch = options.fetch ?? globalThis.fetch.bind(globalThis)
  }

  /**
   * @param {PollOptions} options
   * @returns {Promise<Page>}
   */
  async poll(options) {
    return await this.#read("/api/killfeed", options, (response) => response.json())
  }

  /**
   * @param {PollOptions & { clientId: string }} options
   * @returns {Promise<Next>}
   */
  async next(options) {
    return await this.#read("/api/killfeed/next", options, async (response) => {
      if (response.status === 204) {
        const gap = gapOfHeader(response.headers.get("Killfeed-Gap"))
        return { event: null, ...(gap && { gap }), more: response.headers.get("Killfeed-More") === "1" }
      }
      const { gap, ...event } = await response.json()
      return { event, ...(gap && { gap }), more: false }
    })
  }

  /**
   * @param {StreamOptions} options
   * @returns {Stream}
   */
  stream(options) {
    return new Stream(this, (path, init) => this.#send(path, init), options)
  }

  /**
   * @param {string} clientId
   * @param {number | string} eventId
   * @param {Topics} on
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Record<string, number>>}
   */
  async commit(clientId, eventId, on, options) {
    const body = { client_id: clientId, event_id: eventId, ...topicsOf(on) }
    const { offsets } = await this.#call("/api/killfeed/commit", body, options)
    return offsets
  }

  /**
   * @param {string} clientId
   * @param {NonNullable<ReadOptions["start"]>} to
   * @param {Topics} [on]
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Place>}
   */
  async seek(clientId, to, on = {}, options) {
    return await this.#call(`/api/clients/${segment(clientId)}/seek`, { to: position(to), ...topicsOf(on) }, options)
  }

  /**
   * @param {string} clientId
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Place>}
   */
  async place(clientId, options) {
    return await this.#call(`/api/clients/${segment(clientId)}`, undefined, options)
  }

  /**
   * Sends a poll.
   *
   * @template T
   * @param {string} path
   * @param {PollOptions} options
   * @param {(response: Response) => Promise<T>} use
   * @returns {Promise<T>}
   */
  async #read(path, options, use) {
    const query = queryOf(options)
    for (const name of /** @type {const} */ (["limit", "wait", "commit"])) {
      const value = options[name]
      if (value !== undefined) query[name] = value
    }
    const url = `${path}?${urlQuery(query)}`
    const wait = 1000 * (options.wait ?? 0)
    if (this.#base.length + url.length <= longestUrl) return await this.#timed(url, {}, options.signal, wait, use)
    return await this.#timed(path, json(query), options.signal, wait, use)
  }

  /**
   * @param {string} path
   * @param {object | undefined} body
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<any>}
   */
  async #call(path, body, options) {
    return await this.#timed(path, body ? json(body) : {}, options?.signal, 0, (response) => response.json())
  }

  /**
   * Sends a request that ends in time, its answer's body included.
   *
   * @template T
   * @param {string} path
   * @param {RequestInit} init
   * @param {AbortSignal | undefined} signal the caller's
   * @param {number} wait how long the server was told to wait
   * @param {(response: Response) => Promise<T>} use
   * @returns {Promise<T>}
   */
  async #timed(path, init, signal, wait, use) {
    const limit = wait + (this.#options.timeout ?? 60_000)
    const end = new AbortController()
    const abort = () => end.abort(signal?.reason)
    if (signal?.aborted) abort()
    signal?.addEventListener("abort", abort)
    const timer = setTimeout(() => end.abort(new ConnectionError(`no whole answer came within ${limit} ms`)), limit)
    try {
      const response = await this.#send(path, { ...init, signal: end.signal })
      try {
        return await use(response)
      } catch (error) {
        if (end.signal.aborted) throw end.signal.reason
        throw new ConnectionError("the answer broke off, or is no JSON", error)
      }
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener("abort", abort)
    }
  }

  /**
   * Sends a request and returns the answer when it is a success. It throws the reason of an abort as it is.
   *
   * @param {string} path
   * @param {RequestInit} init
   * @returns {Promise<Response>}
   */
  async #send(path, init) {
    const headers = new Headers(init.headers)
    if (this.#options.token) headers.set("Authorization", `Bearer ${this.#options.token}`)
    if (!inBrowser) headers.set("User-Agent", this.#options.userAgent ?? "killfeed-js/0.1")
    let response
    try {
      // A redirect would turn a POST into a GET. The server never redirects, a proxy before it may.
      const redirect = init.method === "POST" ? "error" : "follow"
      response = await this.#fetch(this.#base + path, { ...init, headers, redirect })
    } catch (error) {
      if (init.signal?.aborted) throw init.signal.reason
      // What happened is in the cause, at least in Node.js.
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
      throw new ConnectionError(`${this.#base} cannot be reached: ${cause instanceof Error ? cause.message : cause}`, error)
    }
    if (response.ok) return response
    const error = await refusal(response)
    throw init.signal?.aborted ? init.signal.reason : error
  }
}

/**
 * The members of a query or body that say what to read and how.
 *
 * @param {ReadOptions} options
 * @returns {Query}
 */
export const queryOf = (options) => {
  /** @type {Query} */
  const query = topicsOf(options)
  if (options.clientId !== undefined) query.client_id = options.clientId
  if (options.after !== undefined) query.after = options.after
  if (options.start !== undefined) query.start = position(options.start)
  if (options.maxAge !== undefined) query.max_age = options.maxAge
  if (options.updates !== undefined) query.updates = options.updates ? 1 : 0
  if (options.backfill !== undefined) query.backfill = options.backfill ? 1 : 0
  if (options.filter !== undefined) query.filter = options.filter
  if (options.names !== undefined) query.names = options.names ? 1 : 0
  if (options.fields !== undefined) query.fields = options.fields.join(",")
  return query
}

/**
 * @param {Query} query
 * @returns {string}
 */
export const urlQuery = (query) => {
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) params.set(name, Array.isArray(value) ? value.join(",") : String(value))
  return params.toString()
}

/**
 * @param {Topics} on
 * @returns {Query}
 */
const topicsOf = ({ systems, topics }) => ({ ...(systems && { systems: [...systems] }), ...(topics && { topics: [...topics] }) })

/**
 * @param {NonNullable<ReadOptions["start"]>} to
 * @returns {string | number}
 */
const position = (to) => (to instanceof Date ? to.toISOString() : to)

/**
 * A client id as an element of a path. Fetch tidies away elements that are dots, in whatever spelling.
 *
 * @param {string} clientId
 * @returns {string}
 */
const segment = (clientId) => {
  if (clientId === "." || clientId === "..") throw new KillfeedError(`client ${JSON.stringify(clientId)} cannot stand in a URL`)
  return encodeURIComponent(clientId)
}

/**
 * @param {object} body
 * @returns {RequestInit}
 */
const json = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) })
