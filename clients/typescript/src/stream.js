/** @import { Event, Gap, Stream as Told, StreamOptions } from "../killfeed.js" */
/** @import { Client } from "./client.js" */
import { queryOf, urlQuery } from "./client.js"
import { ConnectionError, KillfeedError, ProblemError, ReplacedError } from "./errors.js"
import { Parser } from "./sse.js"

// Milliseconds. The waits before another connection double from what the server's retry says, or the least, to the most.
const leastWait = 500
const mostWait = 30_000
const commitEvery = 1000
const commitAtEnd = 5000

/** Within this file: nothing but another connection is needed, at once. */
class OtherLog extends ConnectionError {}

/** @implements {Told} */
export class Stream {
  #client
  #send
  #options
  #closing = new AbortController()
  #ended // of closing and the caller's signal, whichever is first
  #begun = false

  #epoch = "" // of the connection before; empty before the first
  #given = "" // the cursor behind the event that the loop was given last
  #handled = "" // the cursor behind the last event that the loop has come back from
  #committed = "" // the cursor committed last, or where the stream began: nothing before it is this stream's to commit
  #dirtySince = 0 // when handled went past committed; 0 while it has not
  #byCursor = false // the next connection begins at a cursor although there is a client
  #retry = 0 // what the server said
  #failures = 0

  /**
   * @param {Client} client
   * @param {(path: string, init: RequestInit) => Promise<Response>} send
   * @param {StreamOptions} options
   */
  constructor(client, send, options) {
    if (options.commit !== undefined && options.clientId === undefined) throw new TypeError("commit needs a clientId")
    this.#client = client
    this.#send = send
    this.#options = options
    this.#ended = either(this.#closing.signal, options.signal)
  }

  get cursor() {
    return this.#handled
  }

  close() {
    this.#closing.abort()
  }

  /** @returns {Promise<void>} */
  async commit() {
    if (this.#options.clientId === undefined) throw new TypeError("without a clientId there is nothing to commit: keep cursor")
    if (this.#given === "") return
    this.#handled = this.#given
    await this.#commit(this.#given, this.#options.signal)
  }

  /** @returns {AsyncGenerator<Event, void, undefined>} */
  [Symbol.asyncIterator]() {
    if (this.#begun) throw new TypeError("a stream is iterated once: make another one, after its cursor")
    this.#begun = true
    return this.#follow()
  }

  /** @returns {AsyncGenerator<Event, void, undefined>} */
  async *#follow() {
    let mine = true
    let closed = false
    try {
      while (!this.#ended.aborted) {
        try {
          yield* this.#connection()
        } catch (error) {
          if (this.#ended.aborted) break
          if (error instanceof OtherLog) continue
          if (!(error instanceof KillfeedError) || !error.temporary) {
            mine = !(error instanceof ReplacedError)
            throw error
          }
          const wait = this.#pause(error.retryAfter)
          if (this.#options.onRetry) this.#options.onRetry(error, wait)
          else console.warn(`killfeed: ${error.message}; trying again in ${wait} ms`)
          await sleep(wait, this.#ended)
        }
      }
    } finally {
      // What fails here comes again, as everything does that is not committed.
      if (mine && this.#dirtySince) await this.#commit(this.#handled, AbortSignal.timeout(commitAtEnd)).catch(() => {})
      closed = this.#closing.signal.aborted
      this.#closing.abort() // lets go of the caller's signal
    }
    if (!closed) this.#options.signal?.throwIfAborted()
  }

  /**
   * How long to wait after a failure. All who lost a server at the same time do not come back at the same time.
   *
   * @param {number} asked
   */
  #pause(asked) {
    const grown = Math.min((this.#retry || leastWait) * 2 ** Math.min(this.#failures++, 10), mostWait)
    const wait = Math.max(asked, grown)
    return Math.round(wait + Math.random() * (wait / 5))
  }

  /**
   * One connection, to its end, which is always an error or that the stream has ended.
   *
   * @returns {AsyncGenerator<Event, void, undefined>}
   */
  async *#connection() {
    const { query, cursor } = await this.#resume()
    const silence = this.#options.silence ?? 60_000
    const end = new AbortController()
    const quiet = () => end.abort(new ConnectionError(`nothing came for ${silence} ms`))
    const signal = either(end.signal, this.#ended)
    let timer = setTimeout(quiet, silence)
    try {
      const response = await this.#send(`/api/killfeed/stream?${urlQuery(query)}`, { headers: { Accept: "text/event-stream" }, signal })
      clearTimeout(timer)
      const type = response.headers.get("Content-Type") ?? ""
      if (!response.body || !/^text\/event-stream\b/i.test(type)) {
        throw new KillfeedError(`the server answers with ${JSON.stringify(type)} instead of a stream: is it a killfeed?`)
      }
      const reader = response.body.getReader()
      const parser = new Parser()
      for (;;) {
        const reading = reader.read()
        timer = setTimeout(quiet, silence) // of the reading alone: a slow handler is no silence
        const { done, value } = await this.#committing(reading).catch((error) => {
          if (signal.aborted) throw signal.reason
          throw error instanceof KillfeedError ? error : new ConnectionError("the stream broke off", error)
        })
        clearTimeout(timer)
        if (done) throw new ConnectionError("the server ended the stream")
        let messages
        try {
          messages = parser.push(value)
        } catch (error) {
          throw new KillfeedError("the server sends what is no stream of killmails", { cause: error })
        }
        this.#retry = parser.retry
        for (const { type, data, id } of messages) {
          if (type === "open") {
            this.#open(parse(data), cursor)
            continue
          }
          if (type === "replaced") throw new ReplacedError(this.#options.clientId ?? "")
          this.#failures = 0 // and not by a stream that only begins and breaks
          if (type === "new_killmail") {
            /** @type {Event & { cursor: string }} */
            const event = parse(data)
            this.#given = event.cursor
            yield event
            this.#handle(event.cursor)
            await this.#commitDue()
            if (this.#ended.aborted) return
          } else if (type === "gap") {
            /** @type {Gap} */
            const gap = parse(data)
            this.#tell(gap)
            // What is damaged may be told before events that precede it.
            if (id !== null && gap.reason !== "damaged") this.#pass(id)
          } else if (data === null && id !== null) {
            this.#pass(id) // a heartbeat
          }
        }
      }
    } finally {
      clearTimeout(timer)
      end.abort() // ends the request, whatever it is at
    }
  }

  /** What the next connection asks for, and the cursor in it. */
  async #resume() {
    const query = queryOf(this.#options)
    const durable = this.#options.clientId !== undefined
    if (durable) query.commit = "manual" // the server's automatic commit counts what is only on its way
    if (this.#epoch === "") return { query, cursor: this.#options.after }
    delete query.after
    // A cursor wins over the client's offsets on all topics: those on which it was ahead would go back. So the place is
    // committed, which never goes back. Only when the log is not the same any more, the server is asked what became of it.
    if (durable && !this.#byCursor) {
      if (!this.#dirtySince || (await this.#tryCommit())) return { query, cursor: undefined }
    }
    this.#byCursor = false
    this.#dirtySince = 0 // what was handled is told by the cursor
    delete query.start
    query.after = this.#options.commit === "manual" ? this.#committed : this.#handled
    return { query, cursor: query.after }
  }

  /**
   * @param {{ epoch: string, cursor: string, gap?: Gap }} open
   * @param {string | number | undefined} cursor what the connection began with
   */
  #open(open, cursor) {
    if (this.#epoch !== "" && this.#epoch !== open.epoch && cursor === undefined) {
      // The log was replaced, and the client is new in it. Begun at the old place, the server tells so and leaves nothing out.
      this.#byCursor = true
      throw new OtherLog("the log is another one")
    }
    const same = this.#epoch === open.epoch
    this.#epoch = open.epoch
    if (open.gap) this.#tell(open.gap)
    if (same && this.#options.commit === "manual") return // what is not committed comes again, and its commit is the caller's
    this.#given = this.#handled = this.#committed = open.cursor
    this.#dirtySince = 0
  }

  /** @param {Gap} gap */
  #tell(gap) {
    if (this.#options.onGap) this.#options.onGap(gap)
    else console.warn("killfeed: events are lost:", gap)
  }

  /**
   * Notes that everything up to a place needs no handling. The id of a durable stream's message has a third part.
   *
   * @param {string} id
   */
  #pass(id) {
    const cursor = id.split("-", 2).join("-")
    this.#given = cursor
    this.#handle(cursor)
  }

  /** @param {string} cursor */
  #handle(cursor) {
    this.#handled = cursor
    if (this.#options.clientId === undefined || this.#options.commit === "manual") return
    if (cursor !== this.#committed) this.#dirtySince ||= performance.now()
  }

  /**
   * Waits for a read, and meanwhile commits what is due.
   *
   * @template T
   * @param {Promise<T>} reading
   * @returns {Promise<T>}
   */
  async #committing(reading) {
    if (this.#dirtySince) {
      const end = new AbortController()
      const due = sleep(this.#dirtySince + commitEvery - performance.now(), end.signal)
      const came = reading.then(() => true, () => true) // a failure is seen below
      const busy = await Promise.race([came, due.then(() => false)])
      end.abort()
      if (!busy) await this.#commitNow() // whatever the clock says: timers may be early
    }
    return await reading
  }

  async #commitDue() {
    if (this.#dirtySince && performance.now() - this.#dirtySince >= commitEvery) await this.#commitNow()
  }

  async #commitNow() {
    try {
      if (!(await this.#tryCommit())) throw new ConnectionError("the log is another one")
    } catch (error) {
      if (!(error instanceof ProblemError) || !error.temporary) throw error
      this.#dirtySince = performance.now() // the next one does it
    }
  }

  /** Commits what was handled. False: there is no such place in the server's log. */
  async #tryCommit() {
    try {
      await this.#commit(this.#handled, this.#ended)
      return true
    } catch (error) {
      if (error instanceof ProblemError && error.status === 400) return false
      throw error
    }
  }

  /**
   * @param {string} cursor
   * @param {AbortSignal} [signal]
   */
  async #commit(cursor, signal) {
    const { clientId = "", systems, topics } = this.#options
    const on = { ...(systems && { systems }), ...(topics && { topics }) }
    await this.#client.commit(clientId, cursor, on, signal ? { signal } : {})
    this.#committed = cursor
    if (this.#handled === cursor) this.#dirtySince = 0
  }
}

/**
 * @param {string | null} data
 * @returns {any}
 */
const parse = (data) => {
  try {
    return JSON.parse(data ?? "")
  } catch (error) {
    throw new KillfeedError("the server sends what is no stream of killmails", { cause: error })
  }
}

/**
 * A signal that is aborted with the first of two. (AbortSignal.any is not in all browsers of the last years.)
 *
 * @param {AbortSignal} one
 * @param {AbortSignal} [other]
 * @returns {AbortSignal}
 */
const either = (one, other) => {
  if (!other) return one
  const both = new AbortController()
  for (const signal of [one, other]) {
    if (signal.aborted) both.abort(signal.reason)
    signal.addEventListener("abort", () => both.abort(signal.reason), { once: true, signal: both.signal })
  }
  return both.signal
}

/**
 * Waits, or until it is aborted.
 *
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @returns {Promise<void>}
 */
const sleep = (milliseconds, signal) =>
  new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener("abort", done)
      resolve()
    }
    const timer = setTimeout(done, milliseconds)
    signal.addEventListener("abort", done)
    if (signal.aborted) done()
  })
