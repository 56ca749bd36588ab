// Tables that are filled again and again. Cells are changed in place, so that nothing moves, the focus stays where it is, and a
// screen reader that is in the table can go on reading.
// @ts-check

import {element, setText} from "./dom.js"

/**
 * @template T
 * @typedef {object} Column
 * @property {string} head
 * @property {string} [kind] class of its cells: number, wide, actions
 * @property {(row: T) => string} [text] what is in a cell
 * @property {(cell: HTMLElement) => (row: T) => void} [make] makes a cell that has more than text, and returns what fills it
 * @property {(a: T, b: T) => number} [order] the reader may sort by it
 */

/** @template T */
export class Table {
  /** @type {Map<string, {element: HTMLTableRowElement, fill: ((row: T) => void)[]}>} */
  #rows = new Map()
  /** @type {T[]} */
  #list = []
  /** @type {Column<T> | undefined} */
  #by
  #down = true

  /**
   * @param {HTMLElement} table with a caption
   * @param {object} o
   * @param {Column<T>[]} o.columns the first is what a row is called
   * @param {(row: T) => string} o.key unique
   * @param {string} o.none what stands there when there are no rows
   * @param {number} [o.by] the column that it is sorted by at first, from the greatest down
   */
  constructor(table, o) {
    this.o = o
    this.#by = o.by === undefined ? undefined : o.columns[o.by]
    // Roles are said although they are a table's own: on narrow screens its parts are laid out as blocks, and would lose them.
    table.setAttribute("role", "table")
    this.heads = o.columns.map(c => this.#head(c))
    this.body = element("tbody", {role: "rowgroup"})
    this.empty = element("tr", {role: "row", class: "none"}, element("td", {role: "cell", colspan: o.columns.length}, o.none))
    table.append(element("thead", {role: "rowgroup"}, element("tr", {role: "row"}, ...this.heads)), this.body)
    this.#showOrder()
  }

  /** @param {Column<T>} c */
  #head(c) {
    const th = element("th", {scope: "col", role: "columnheader", class: c.kind})
    if (!c.order) {
      if (c.kind === "actions") th.append(element("span", {class: "hidden"}, c.head))
      else th.append(c.head)
      return th
    }
    const button = element("button", {type: "button", class: "sort"}, c.head)
    button.addEventListener("click", () => {
      this.#down = this.#by === c ? !this.#down : true
      this.#by = c
      this.#showOrder()
      this.fill(this.#list)
    })
    th.append(button)
    return th
  }

  #showOrder() {
    this.o.columns.forEach((c, i) => {
      if (c.order) this.heads[i].setAttribute("aria-sort", this.#by !== c ? "none" : this.#down ? "descending" : "ascending")
    })
  }

  /**
   * Shows these rows and no others.
   * @param {T[]} list
   */
  fill(list) {
    this.#list = list
    const order = this.#by?.order
    const sorted = order ? [...list].sort((a, b) => this.#down ? order(b, a) : order(a, b)) : list
    const focused = document.activeElement
    const keys = new Set(list.map(this.o.key))
    for (const [key, row] of this.#rows) {
      if (keys.has(key)) continue
      row.element.remove()
      this.#rows.delete(key)
    }
    if (list.length > 0) this.empty.remove()
    else if (!this.empty.isConnected) this.body.append(this.empty)
    sorted.forEach((one, i) => {
      const key = this.o.key(one)
      let row = this.#rows.get(key)
      if (!row) {
        row = this.#make()
        this.#rows.set(key, row)
      }
      for (const fill of row.fill) fill(one)
      if (this.body.children[i] !== row.element) this.body.insertBefore(row.element, this.body.children[i] ?? null)
    })
    // An element that is moved loses the focus.
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.body.contains(focused)) focused.focus({preventScroll: true})
  }

  #make() {
    const row = element("tr", {role: "row"})
    const fill = this.o.columns.map((c, i) => {
      const cell = i === 0 ? element("th", {scope: "row", role: "rowheader", class: c.kind})
        : element("td", {role: "cell", class: c.kind, "data-label": c.head})
      row.append(cell)
      if (c.make) return c.make(cell)
      return (/** @type {T} */ one) => setText(cell, c.text ? c.text(one) : "")
    })
    return {element: row, fill}
  }
}
