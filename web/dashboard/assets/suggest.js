// An input that completes itself: a combobox as the ARIA practices describe it. The focus stays in the input; arrows choose,
// Enter takes, Escape closes.
// @ts-check

import {element} from "./dom.js"

/**
 * @typedef {object} Option
 * @property {string} label
 * @property {string} kind what it is, in a word
 * @property {() => void} take
 */

const patience = 120 // ms after a key before anybody is asked

/** A combobox. */
export class Suggest {
  /** @type {Option[]} */
  #options = []
  #active = -1
  /** @type {AbortController | undefined} */
  #asking
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer
  #enter = false // Enter was pressed before the options for the text were there

  /**
   * @param {HTMLInputElement} input
   * @param {HTMLElement} listbox
   * @param {(text: string, signal: AbortSignal) => Promise<{options: Option[], note?: string}>} find
   */
  constructor(input, listbox, find) {
    this.input = input
    this.listbox = listbox
    this.find = find
    input.addEventListener("input", () => this.#changed())
    input.addEventListener("keydown", event => this.#key(event))
    input.addEventListener("blur", () => this.close())
    input.addEventListener("focus", () => {
      if (input.value) this.#changed()
    })
    listbox.addEventListener("pointerdown", event => event.preventDefault()) // the focus stays where it is
    listbox.addEventListener("click", event => {
      const at = /** @type {Element} */ (event.target).closest("[role=option]")
      if (at) this.#take([...listbox.querySelectorAll("[role=option]")].indexOf(at))
    })
  }

  close() {
    clearTimeout(this.#timer)
    this.#asking?.abort()
    this.#enter = false
    this.#options = []
    this.#active = -1
    this.listbox.hidden = true
    this.listbox.replaceChildren()
    this.input.setAttribute("aria-expanded", "false")
    this.input.removeAttribute("aria-activedescendant")
  }

  #changed() {
    clearTimeout(this.#timer)
    this.#asking?.abort()
    this.#enter = false
    const text = this.input.value.trim()
    if (!text) return this.close()
    const asking = new AbortController()
    this.#asking = asking
    this.#timer = setTimeout(async () => {
      const found = await this.find(text, asking.signal)
      if (asking.signal.aborted) return
      this.#timer = undefined
      this.#show(found.options, found.note)
      if (this.#enter) this.#take(0)
    }, patience)
  }

  /**
   * @param {Option[]} options
   * @param {string | undefined} note
   */
  #show(options, note) {
    this.#options = options
    this.#active = options.length > 0 ? 0 : -1
    const items = options.map((o, i) => element("li", {role: "option", id: `${this.listbox.id}-${i}`, "aria-selected": i === 0},
      element("span", {class: "label"}, o.label), element("span", {class: "kind"}, o.kind)))
    this.listbox.replaceChildren(...items)
    if (note || items.length === 0) this.listbox.append(element("li", {role: "presentation", class: "hint"}, note ?? "nothing is called so"))
    this.listbox.hidden = false
    this.input.setAttribute("aria-expanded", "true")
    this.#mark()
  }

  #mark() {
    this.listbox.querySelectorAll("[role=option]").forEach((e, i) => {
      e.setAttribute("aria-selected", String(i === this.#active))
      if (i === this.#active) e.scrollIntoView({block: "nearest"})
    })
    if (this.#active < 0) this.input.removeAttribute("aria-activedescendant")
    else this.input.setAttribute("aria-activedescendant", `${this.listbox.id}-${this.#active}`)
  }

  /** @param {number} i */
  #take(i) {
    const option = this.#options[i]
    if (!option) return
    this.input.value = ""
    this.close()
    option.take()
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const n = this.#options.length
    switch (event.key) {
      case "ArrowDown":
      case "ArrowUp":
        if (n === 0) return
        this.#active = (this.#active + (event.key === "ArrowDown" ? 1 : n - 1)) % n
        this.#mark()
        break
      case "Enter":
        if (this.#timer) this.#enter = true
        else this.#take(this.#active)
        break
      case "Escape":
        if (this.input.value === "") {
          this.input.blur()
          return
        }
        this.input.value = ""
        this.close()
        break
      default:
        return
    }
    event.preventDefault()
    event.stopPropagation()
  }
}
