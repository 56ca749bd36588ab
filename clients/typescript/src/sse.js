/**
 * One message of an event stream.
 *
 * @typedef {object} Message
 * @property {string} type empty when none was told
 * @property {string | null} data null: there was none, as in a heartbeat
 * @property {string | null} id null: none was told
 */

/** What no message is longer than: a killmail of 8 MiB, and what is around it. In UTF-16 units, as strings are measured here. */
const longest = 16 << 20

/**
 * Takes an event stream (text/event-stream of the HTML standard) apart, in pieces of any size. Unlike a browser it tells of
 * messages without data too, because heartbeats move the place to resume from.
 */
export class Parser {
  /** How long the server wants to be left alone before a reconnection, in milliseconds; 0: it did not say. */
  retry = 0

  #decoder = new TextDecoder() // drops a byte order mark
  #rest = "" // of a line whose end has not come
  #afterCr = false // a line feed that comes next belongs to the line that has ended
  #size = 0

  /** @type {string[]} */
  #data = []
  #type = ""
  /** @type {string | null} */
  #id = null

  /**
   * Takes bytes, and returns the messages that they complete.
   *
   * @param {Uint8Array} bytes
   * @returns {Message[]}
   */
  push(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true })
    /** @type {Message[]} */
    const messages = []
    let from = 0
    if (this.#afterCr && text !== "") {
      if (text[0] === "\n") from = 1
      this.#afterCr = false
    }
    const ends = /\r\n?|\n/g
    ends.lastIndex = from
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      this.#line(this.#rest + text.slice(from, end.index), messages)
      this.#rest = ""
      from = ends.lastIndex
      this.#afterCr = end[0] === "\r" && from === text.length
    }
    this.#rest += text.slice(from)
    if (this.#size + this.#rest.length > longest) throw new RangeError(`a message is longer than ${longest}`)
    return messages
  }

  /**
   * @param {string} line
   * @param {Message[]} messages
   */
  #line(line, messages) {
    if (line === "") {
      if (this.#data.length > 0 || this.#id !== null) {
        messages.push({ type: this.#type, data: this.#data.length > 0 ? this.#data.join("\n") : null, id: this.#id })
      }
      this.#data = []
      this.#type = ""
      this.#id = null
      this.#size = 0
      return
    }
    const colon = line.indexOf(":")
    const name = colon < 0 ? line : line.slice(0, colon)
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1)
    switch (name) {
      case "data":
        this.#data.push(value)
        this.#size += line.length
        break
      case "event":
        this.#type = value
        break
      case "id":
        if (!value.includes("\0")) this.#id = value
        break
      case "retry":
        if (/^\d+$/.test(value)) this.retry = Math.min(Number(value), 3_600_000)
        break
    }
  }
}
