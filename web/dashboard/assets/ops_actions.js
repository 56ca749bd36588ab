// What an operator can do on /ops. Each action that loses something says what, and asks; each says what came of it, in the words of
// the server where it refused.
// @ts-check

import {ApiError, now} from "./api.js"
import {element, find, setText} from "./dom.js"
import {counted, eveTime, number} from "./format.js"

const shown = 8_000 // ms that a result stands over the page; it stays in the list
const most = 20 // results that the list keeps

/** @typedef {import("./admin.js").Admin} Admin */

/** @param {string} name */
function pathOf(name) {
  return "/api/clients/" + encodeURIComponent(name)
}

/** @param {any} client */
function unread(client) {
  return client.lag >= 10_000 ? "at least 10,000 events" : counted(client.lag, "event")
}

export class Actions {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  /** @type {AbortController | undefined} of the dialog that is open */
  #open

  /**
   * @param {Admin} admin
   * @param {{changed: () => void}} o changed: something was done, and what is shown is old
   */
  constructor(admin, o) {
    this.admin = admin
    this.o = o
  }

  /**
   * Says what came of something, for a while over the page, and in its list.
   * @param {string} text
   * @param {boolean} [bad]
   */
  say(text, bad = false) {
    const toast = find("#toast")
    setText(toast, text)
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => setText(toast, ""), shown)
    const list = find("#done")
    list.prepend(element("li", {class: bad ? "bad" : ""}, element("time", {}, eveTime(now())), text))
    while (list.children.length > most) list.lastElementChild?.remove()
    find("#done-none").hidden = true
  }

  /**
   * Does something, and says what came of it.
   * @param {string} what as in: pausing r2z2
   * @param {() => Promise<string>} work returns what was done
   */
  async #do(what, work) {
    try {
      const text = await work()
      if (text) this.say(text)
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      this.say(`Not done: ${what}. ` + (error.status ? `The server refused (${error.status}): ` : "") + error.message, true)
    }
    this.o.changed()
  }

  /**
   * Asks whether something is meant. Everything but the button that says so is no.
   * @param {string} heading
   * @param {string} text what it does, and what is lost
   * @param {string} yes
   * @returns {Promise<boolean>}
   */
  #sure(heading, text, yes) {
    const dialog = /** @type {HTMLDialogElement} */ (find("#confirm"))
    setText(find("#confirm-heading"), heading)
    setText(find("#confirm-text"), text)
    setText(find("#confirm-yes"), yes)
    return new Promise(resolve => {
      const {signal} = this.#opened()
      let sure = false
      find("#confirm-yes").addEventListener("click", () => {
        sure = true
        dialog.close()
      }, {signal})
      find("#confirm-no").addEventListener("click", () => dialog.close(), {signal})
      dialog.addEventListener("close", () => resolve(sure), {signal, once: true})
      dialog.showModal()
    })
  }

  /** Lets go of the listeners of the dialog before. */
  #opened() {
    this.#open?.abort()
    this.#open = new AbortController()
    return this.#open
  }

  async collect() {
    if (!await this.#sure("Collect now", "What the retention lets go is removed now, for good. The server does the same every minute by itself.", "Collect")) return
    await this.#do("collecting", async () => {
      const c = await this.admin.ask("POST", "/api/collect")
      return `Collected: ${counted(c.removed, "event")} removed; kept are ${number(c.first)} to ${number(c.head)}.`
    })
  }

  /** @param {string} name */
  async pauseSource(name) {
    if (!await this.#sure("Pause " + name, `The source ${name} brings nothing until it is resumed or the server is started again. It keeps its place; ` +
      "what its upstream no longer has by then is missed.", "Pause")) return
    await this.#do("pausing " + name, async () => {
      const s = await this.admin.ask("POST", `/api/sources/${encodeURIComponent(name)}/pause`)
      return `Source ${s.name} pauses.` // it may be about to take something; the table says when it has
    })
  }

  /** @param {string} name */
  async resumeSource(name) {
    await this.#do("resuming " + name, async () => {
      const s = await this.admin.ask("POST", `/api/sources/${encodeURIComponent(name)}/resume`)
      return `Source ${s.name} goes on.`
    })
  }

  /**
   * Finds the client that something is to be done with, as it is now.
   * @param {string} what
   * @param {string} name
   * @returns {Promise<any>} undefined: there is none, which was said
   */
  async #client(what, name) {
    let client
    if (name === "") {
      this.say(`Not done: ${what}. No client's name was typed in.`, true)
      return undefined
    }
    await this.#do(`${what} ${name}`, async () => {
      client = await this.admin.ask("GET", pathOf(name))
      return ""
    })
    return client
  }

  /** @param {string} name */
  async remove(name) {
    const client = await this.#client("deleting", name)
    if (!client) return
    const topics = counted(Object.keys(client.offsets).length, "topic")
    if (!await this.#sure("Delete " + name, `The offsets of ${name} on ${topics} are forgotten, for good. It has ${unread(client)} unread. If it calls again, it begins as new.`, "Delete")) return
    await this.#do("deleting " + name, async () => {
      await this.admin.ask("DELETE", pathOf(name))
      return `Client ${name} is deleted.`
    })
    if (document.activeElement === document.body) find("#clients-heading").focus() // its button has gone with its row
  }

  /** @param {string} name */
  async seek(name) {
    const client = await this.#client("seeking", name)
    if (!client) return
    const dialog = /** @type {HTMLDialogElement} */ (find("#seek"))
    const form = /** @type {HTMLFormElement} */ (find("#seek-form"))
    const topic = /** @type {HTMLSelectElement} */ (find("#seek-topic"))
    const id = /** @type {HTMLInputElement} */ (find("#seek-id"))
    const time = /** @type {HTMLInputElement} */ (find("#seek-time"))
    const refusal = find("#seek-refusal")
    const topics = Object.keys(client.offsets).sort()
    form.reset()
    refusal.hidden = true
    setText(find("#seek-heading"), "Seek " + name)
    topic.replaceChildren(element("option", {value: ""}, topics.length === 1 ? "its one topic" : `all of its ${topics.length} topics`),
      ...topics.map(t => element("option", {value: t}, `${t}, at ${number(client.offsets[t])}`)))
    const chosen = () => String(new FormData(form).get("to"))
    const tell = () => {
      const on = topic.value ? `on ${topic.value}` : ""
      setText(find("#seek-text"), chosen() === "latest" ? topic.value ? `It will not get what it has not read ${on}.` : `It will not get the ${unread(client)} that it has not read.`
        : chosen() === "earliest" ? `It gets all that is kept ${on}`.trimEnd() + ", also what it has had."
          : "What is before that is skipped. From there on it gets everything, also what it has had.")
    }
    tell()
    const {signal} = this.#opened()
    form.addEventListener("change", tell, {signal})
    for (const [field, value] of /** @type {[HTMLInputElement, string][]} */ ([[id, "id"], [time, "time"]])) {
      field.addEventListener("input", () => {
        /** @type {HTMLInputElement} */ (find(`input[value="${value}"]`, form)).checked = true
        tell()
      }, {signal})
    }
    find("#seek-no").addEventListener("click", () => dialog.close(), {signal})
    form.addEventListener("submit", event => {
      event.preventDefault()
      const to = chosen() === "id" ? id.value.trim() : chosen() === "time" ? utc(time.value) : chosen()
      void this.admin.ask("POST", pathOf(name) + "/seek", {to, ...(topic.value ? {topics: [topic.value]} : {})}).then(now => {
        dialog.close()
        this.say(`Client ${name} was moved: it has ${unread(now)} unread.`)
        this.o.changed()
      }, error => {
        if (!(error instanceof ApiError)) throw error
        setText(refusal, (error.status ? `The server refused (${error.status}): ` : "") + error.message)
        refusal.hidden = false
      })
    }, {signal})
    dialog.showModal()
  }
}

/** The value of a field of date and time, as RFC 3339; seconds are missing when they are 0. @param {string} value */
function utc(value) {
  return value && (value.length === 16 ? value + ":00" : value) + "Z"
}
