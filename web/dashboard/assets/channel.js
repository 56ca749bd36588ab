// A client of Phoenix Channels, version 2 of the serializer, for one channel on one WebSocket: as little as the protocol needs.
// @ts-check

import {subprotocols} from "./key.js"

const beat = 30_000 // ms between heartbeats; the server hangs up after 60 s without one

/**
 * @typedef {object} Handlers
 * @property {(response: any) => void} joined
 * @property {(response: any) => void} refused the socket is closed
 * @property {(event: string, payload: any, text: string) => void} event text: the message as it came
 * @property {(why: string) => void} closed not after close()
 */

/** One channel. */
export class Channel {
  #ref = 1 // of the last message sent; the join's is 1
  #over = false
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #beating

  /**
   * @param {string} url
   * @param {string} topic
   * @param {string} join the message that joins, with the refs 1 and 1
   * @param {Handlers} handlers
   */
  constructor(url, topic, join, handlers) {
    this.topic = topic
    this.handlers = handlers
    this.socket = new WebSocket(url, subprotocols())
    this.socket.addEventListener("open", () => {
      this.socket.send(join)
      this.#beating = setInterval(() => this.#send([null, String(++this.#ref), "phoenix", "heartbeat", {}]), beat)
    })
    this.socket.addEventListener("message", event => {
      if (!this.#over) this.#came(String(event.data))
    })
    this.socket.addEventListener("close", event => {
      const was = this.#over
      this.#end()
      if (!was) handlers.closed(`the connection was closed, code ${event.code}${event.reason ? ": " + event.reason : ""}`)
    })
  }

  /** Leaves, and hangs up. */
  close() {
    if (!this.#over && this.socket.readyState === WebSocket.OPEN) this.#send(["1", String(++this.#ref), this.topic, "phx_leave", {}])
    this.#end()
    this.socket.close(1000)
  }

  #end() {
    this.#over = true
    clearInterval(this.#beating)
  }

  /** @param {unknown[]} message */
  #send(message) {
    this.socket.send(JSON.stringify(message))
  }

  /** @param {string} text */
  #came(text) {
    const [, ref, topic, event, payload] = JSON.parse(text)
    if (topic !== this.topic) return // the answer to a heartbeat
    if (event === "phx_reply" && ref === "1") {
      if (payload.status === "ok") this.handlers.joined(payload.response)
      else {
        this.handlers.refused(payload.response)
        this.close()
      }
    } else if (event === "phx_close" || event === "phx_error") {
      this.handlers.closed("the server has closed the channel")
      this.close()
    } else this.handlers.event(event, payload, text)
  }
}
