// What a reader has chosen, kept in the browser and nowhere else.
// @ts-check

const prefix = "killfeed."

/**
 * Returns what was chosen, or the fallback. Where storage is forbidden nothing ever was.
 * @param {string} name
 * @param {string} fallback
 */
export function chosen(name, fallback) {
  try {
    return localStorage.getItem(prefix + name) ?? fallback
  } catch {
    return fallback
  }
}

/**
 * Remembers a choice, if it can be.
 * @param {string} name
 * @param {string} value
 */
export function choose(name, value) {
  try {
    localStorage.setItem(prefix + name, value)
  } catch {
    // It holds until the page is closed.
  }
}

/** The theme that is shown: the one chosen, or else the system's. */
export function theme() {
  const set = document.documentElement.dataset.theme
  if (set) return set
  return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"
}

/** Changes to the other theme and returns it. */
export function toggleTheme() {
  const next = theme() === "light" ? "dark" : "light"
  document.documentElement.dataset.theme = next
  choose("theme", next)
  return next
}

/** Whether the server lets the page ask CCP's image server. */
export const imagesAllowed = document.documentElement.dataset.images === "on"

/** Whether pictures are shown: both the server and the reader have to want them. */
export function images() {
  return imagesAllowed && chosen("images", "on") === "on"
}
