// The admin token, and what is done with it. It is in this tab's session storage and in the Authorization header of the requests
// below, and nowhere else: never in an address, which ends up in histories and logs.
// @ts-check

import {ApiError, request} from "./api.js"

const key = "killfeed.admin-token"

export class Admin {
  #token = ""
  /** Why nothing can be done; empty: it can. */
  reason = ""

  /** @param {(admin: Admin) => void} changed is called when what may be done has changed */
  constructor(changed) {
    this.changed = changed
    try {
      this.#token = sessionStorage.getItem(key) ?? ""
    } catch {
      // Storage may be forbidden. Then the token is forgotten with the page.
    }
    this.reason = this.#token ? "The token is being checked." : "This needs the admin token."
  }

  get has() {
    return this.#token !== ""
  }

  /** Whether the server has accepted the token. */
  get able() {
    return this.reason === ""
  }

  /**
   * Tries a token, and keeps it when the server accepts it. The error is about what the server said.
   * @param {string} token
   */
  async use(token) {
    if (token === "") throw new ApiError(0, "No token was typed in. It is in the file admin.token of the server's data directory.")
    if (!/^[\x21-\x7e]+$/.test(token)) throw new ApiError(0, "That is no token: it is printable ASCII without spaces.")
    await request("/api/warnings", {headers: {Authorization: "Bearer " + token}, cache: "no-store"})
    this.#token = token
    try {
      sessionStorage.setItem(key, token)
    } catch {
      // It holds until the page is left.
    }
    this.#may("")
  }

  /** Tries the token that a reload of the page has left. */
  async resume() {
    if (this.#token) await this.use(this.#token).catch(error => this.#refused(error))
  }

  forget(reason = "This needs the admin token.") {
    this.#token = ""
    try {
      sessionStorage.removeItem(key)
    } catch {
      // There never was one.
    }
    this.#may(reason)
  }

  /** @param {string} reason */
  #may(reason) {
    this.reason = reason
    this.changed(this)
  }

  /** @param {unknown} error */
  #refused(error) {
    // A token that was changed on the server is of no use any more, and typing in the new one is the only way on.
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) this.forget("The server refused the token: " + error.message)
  }

  /**
   * Does something.
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {AbortSignal} [signal]
   * @returns {Promise<any>} the answer; undefined when it has no content
   */
  async ask(method, path, body, signal) {
    const headers = /** @type {Record<string, string>} */ ({})
    if (this.#token) headers.Authorization = "Bearer " + this.#token
    if (body !== undefined) headers["Content-Type"] = "application/json"
    try {
      const response = await request(path, {method, headers, signal, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body)})
      return response.status === 204 ? undefined : await response.json()
    } catch (error) {
      this.#refused(error)
      throw error
    }
  }
}
