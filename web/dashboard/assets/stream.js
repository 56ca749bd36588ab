// Following the log live. The stream is read with fetch and not with EventSource, because that one keeps two things to itself:
// heartbeats, without which silence cannot be told from a lost connection, and what the server says when it refuses a filter.
//
// Every message has a cursor, and each new connection begins behind the last one. So nothing is missed and nothing comes twice,
// whatever happened in between: a lost network, a server that was restarted, a machine that slept.
// @ts-check

import {ApiError, pause, request} from "./api.js"

/**
 * @typedef {object} Gap
 * @property {string} reason
 * @property {number} [from]
 * @property {number} [to]
 *
 * @typedef {object} Handlers
 * @property {(event: any) => void} event an event of the log, in order, each once
 * @property {(gap: Gap) => void} gap events are lost
 * @property {(reason: string) => void} anew the log is another one, or is behind the cursor: the follower has stopped
 * @property {(error: ApiError) => void} refused the server does not accept the request: the follower has stopped
 * @property {(state: "connecting" | "live" | "lost", next?: number) => void} state next: when it is tried again, in ms from now
 * @property {(away: number, caughtUp: number) => void} back ms without a connection, and how many killmails came of that time
 */

const silence = 50_000 // ms after which a connection counts as lost: the server says something every 20 s
const tick = 5_000 // ms between two looks at the clock
const slept = 20_000 // ms: a tick that comes so late has slept
const settle = 400 // ms without another killmail, after which all that was missed has come

/** Follows a stream until it is stopped. */
export class Follower {
  /** @type {AbortController | undefined} ends everything */
  #all
  /** @type {AbortController | undefined} ends the connection, or the wait for the next */
  #one
  #cursor = ""
  #heard = 0 // when something was heard last
  #failures = 0 // since something was

  /**
   * @param {(cursor: string) => string} path
   * @param {Handlers} handlers
   */
  constructor(path, handlers) {
    this.path = path
    this.handlers = handlers
  }

  /**
   * Begins behind a cursor.
   * @param {string} cursor
   */
  start(cursor) {
    this.stop()
    this.#cursor = cursor
    this.#heard = Date.now()
    this.#failures = 0
    this.#all = new AbortController()
    void this.#run(this.#all.signal)
    this.#watch(this.#all.signal)
  }

  /** Stops for good. Nothing is called back any more. */
  stop() {
    this.#all?.abort()
  }

  /** @param {AbortSignal} all */
  async #run(all) {
    let lost = false
    while (!all.aborted) {
      this.#one = new AbortController()
      const one = AbortSignal.any([all, this.#one.signal])
      if (!lost) this.handlers.state("connecting")
      let wait = 0
      try {
        await this.#follow(one, all, lost)
      } catch (error) {
        if (all.aborted) return
        if (error instanceof ApiError && !error.passing) {
          this.stop()
          this.handlers.refused(error)
          return
        }
        if (error instanceof ApiError) wait = error.retryAfter ?? 0
      }
      if (all.aborted) return
      lost = true
      // Not the same for all, so that a server that comes back is not met by all its readers at once.
      wait = Math.max(wait, Math.min(30_000, 500 * 2 ** this.#failures) * (0.5 + Math.random() / 2))
      this.#failures++
      this.handlers.state("lost", wait)
      this.#one = new AbortController()
      await pause(wait, AbortSignal.any([all, this.#one.signal]))
    }
  }

  /**
   * Follows one connection to its end.
   * @param {AbortSignal} one
   * @param {AbortSignal} all
   * @param {boolean} again it is not the first
   */
  async #follow(one, all, again) {
    const since = this.#heard
    const response = await request(this.path(this.#cursor), {signal: one, cache: "no-store", headers: {Accept: "application/x-ndjson"}})
    if (!response.body) throw new ApiError(0, "the server answered without a stream")
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    const missed = new Missed(again ? since : 0, this.handlers)
    let rest = ""
    let turn = performance.now()
    try {
      for (;;) {
        const asked = performance.now()
        const {done, value} = await reader.read()
        if (performance.now() - asked > 4) turn = performance.now() // nothing was there to read, and the browser had its turn
        if (done || one.aborted) return
        this.#heard = Date.now()
        const lines = (rest + value).split("\n")
        rest = /** @type {string} */ (lines.pop())
        for (const line of lines) {
          if (line) this.#take(JSON.parse(line), missed)
          if (all.aborted) return
        }
        if (performance.now() - turn > 12) { // what was missed may be much: the page goes on meanwhile
          await breath()
          turn = performance.now()
        }
      }
    } finally {
      missed.end()
      reader.cancel().catch(() => {})
    }
  }

  /**
   * @param {any} message
   * @param {Missed} missed
   */
  #take(message, missed) {
    const gap = message.type === "gap" ? message : message.gap
    if (gap?.reason === "epoch" || gap?.reason === "future") {
      this.stop()
      this.handlers.anew(gap.reason)
      return
    }
    if (message.cursor) this.#cursor = message.cursor
    if (message.type === "open") {
      this.#failures = 0
      this.handlers.state("live")
      missed.begin(message.head)
    }
    if (gap) this.handlers.gap(gap)
    if (message.type === "new_killmail") {
      this.handlers.event(message)
      missed.count(message.event_id)
    }
  }

  /** Ends a connection that says nothing, and one from before a sleep. @param {AbortSignal} all */
  #watch(all) {
    let last = Date.now()
    const timer = setInterval(() => {
      const at = Date.now()
      const woke = at - last > slept && document.visibilityState === "visible" // hidden pages' clocks tick when they please
      last = at
      if (woke || at - this.#heard > silence) this.#one?.abort()
    }, tick)
    const now = () => {
      if (this.#failures > 0) {
        this.#failures = 0
        this.#one?.abort() // the wait, or a connection that has not been answered
      }
    }
    const seen = () => {
      if (document.visibilityState === "visible") now()
    }
    addEventListener("online", now)
    document.addEventListener("visibilitychange", seen)
    all.addEventListener("abort", () => {
      clearInterval(timer)
      removeEventListener("online", now)
      document.removeEventListener("visibilitychange", seen)
    })
  }
}

/** Counts what was missed while there was no connection, and tells it once all of it has come. */
class Missed {
  #head = 0
  #away = 0
  #came = 0
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer

  /**
   * @param {number} since when the last connection was heard last; 0: there was none
   * @param {Handlers} handlers
   */
  constructor(since, handlers) {
    this.since = since
    this.handlers = handlers
  }

  /** @param {number} head what is up to it was missed */
  begin(head) {
    if (!this.since) return
    this.#head = head
    this.#away = Date.now() - this.since
    this.#soon()
  }

  /** @param {number} id */
  count(id) {
    if (!this.#timer || id > this.#head) return
    this.#came++
    this.#soon()
  }

  #soon() {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.end(), settle)
  }

  end() {
    if (!this.#timer) return
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.handlers.back(this.#away, this.#came)
  }
}

/** Lets the browser do something else. Unlike a timer it is not put off in a hidden page. */
function breath() {
  return new Promise(resolve => {
    const {port1, port2} = new MessageChannel()
    port1.onmessage = () => {
      port1.close()
      resolve(undefined)
    }
    port2.postMessage(undefined)
  })
}
