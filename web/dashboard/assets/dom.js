// Making and filling elements. Text only ever becomes a text node: names and killmails are written by strangers.
// @ts-check

/**
 * Makes an element. Attributes that are undefined or false are left out, those that are true have no value.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | undefined>} [attributes]
 * @param {...(Node | string | undefined)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function element(tag, attributes = {}, ...children) {
  const e = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) e.setAttribute(name, value === true ? "" : String(value))
  }
  for (const c of children) if (c !== undefined && c !== "") e.append(c)
  return e
}

/**
 * Sets an element's text unless it is that already: writing it would lay the page out again for nothing.
 * @param {Node} e
 * @param {string} text
 */
export function setText(e, text) {
  if (e.textContent !== text) e.textContent = text
}

/**
 * Finds what has to be there.
 * @template {Element} [T=HTMLElement]
 * @param {string} selector
 * @param {ParentNode} [within]
 * @returns {T}
 */
export function find(selector, within = document) {
  const e = within.querySelector(selector)
  if (!e) throw new Error("the page has no " + selector)
  return /** @type {T} */ (/** @type {unknown} */ (e))
}

/**
 * A link to somewhere else: in a tab of its own, which learns nothing of this one.
 * @param {string} href
 * @param {...(Node | string)} children
 */
export function outward(href, ...children) {
  return element("a", {href, target: "_blank", rel: "noopener noreferrer"}, ...children)
}

/**
 * Copies text. On a page that came over plain HTTP from another machine browsers have no clipboard, but the old way still works.
 * @param {string} text
 * @returns {Promise<boolean>} whether it was copied
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    const field = element("textarea", {class: "hidden", "aria-hidden": "true"})
    field.value = text
    const host = document.querySelector("dialog[open]") ?? document.body // nothing else can be selected beside a dialog
    const focused = document.activeElement
    host.append(field)
    field.select()
    const copied = document.execCommand("copy")
    field.remove()
    if (focused instanceof HTMLElement) focused.focus()
    return copied
  }
}
