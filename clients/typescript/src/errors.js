/** @import { Problem, Gap } from "../killfeed.js" */

/** Every error of this package is one of these. */
export class KillfeedError extends Error {
  /** Whether the same may go better later. */
  temporary = false
  /** How many milliseconds the server wants to be left alone; 0 when it did not say. */
  retryAfter = 0

  /**
   * @param {string} message
   * @param {{ cause?: unknown, temporary?: boolean, retryAfter?: number }} [more]
   */
  constructor(message, { cause, temporary = false, retryAfter = 0 } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = new.target.name
    this.temporary = temporary
    this.retryAfter = retryAfter
  }
}

/** There was no answer, or it broke off. */
export class ConnectionError extends KillfeedError {
  /**
   * @param {string} message
   * @param {unknown} [cause]
   */
  constructor(message, cause) {
    super(message, { cause, temporary: true })
  }
}

/** The server refused: a problem document (RFC 9457), or what could be made of another answer. */
export class ProblemError extends KillfeedError {
  /**
   * @param {Problem} problem
   * @param {number} retryAfter
   */
  constructor(problem, retryAfter) {
    super(`the server refused: ${problem.detail || problem.title} (${problem.status})`, {
      retryAfter,
      temporary: problem.status >= 500 || problem.status === 429 || problem.status === 408,
    })
    this.problem = problem
    this.status = problem.status
  }
}

/** A newer connection has taken the client id. Coming back would take it from that one again. */
export class ReplacedError extends KillfeedError {
  /** @param {string} clientId */
  constructor(clientId) {
    super(`client ${JSON.stringify(clientId)}: a newer connection has taken the name: give each reader its own`)
  }
}

/**
 * Makes an error from an answer that is no success.
 *
 * @param {Response} response
 * @returns {Promise<ProblemError>}
 */
export const refusal = async (response) => {
  /** @type {Partial<Problem>} */
  let told = {}
  try {
    const parsed = JSON.parse(await response.text())
    if (parsed !== null && typeof parsed === "object" && !Array.isArray(parsed)) told = parsed
  } catch {
    // A proxy's page says nothing that its status does not.
  }
  const problem = { type: "about:blank", title: response.statusText, detail: "", ...told, status: response.status }
  return new ProblemError(problem, retryAfter(response.headers))
}

/**
 * Reads the seconds of Retry-After, at most an hour. It may be a date too, but neither a killfeed nor the proxies before one
 * write that.
 *
 * @param {Headers} headers
 * @returns {number} milliseconds
 */
const retryAfter = (headers) => {
  const text = headers.get("Retry-After") ?? ""
  return /^\d+$/.test(text) ? Math.min(Number(text), 3600) * 1000 : 0
}

/**
 * Reads the header Killfeed-Gap, which is all that an answer without a body tells. It has no reason where it has bounds.
 *
 * @param {string | null} text
 * @returns {Gap | undefined}
 */
export const gapOfHeader = (text) => {
  if (!text) return undefined
  const bounds = /^(\d+)-(\d+)$/.exec(text)
  if (bounds) return { reason: "unknown", from: Number(bounds[1]), to: Number(bounds[2]) }
  return { reason: /** @type {Gap["reason"]} */ (text) }
}
