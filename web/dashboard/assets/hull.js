// Pictures of ships: from CCP's image server where that is wanted, else, and until then, the outline of the class of hull.
// @ts-check

import {images} from "./settings.js"

const svg = "http://www.w3.org/2000/svg"

// Outlines in a square of 40. They grow with the class, as brackets in space do.
const outlines = {
  pod: "M20 12c5 0 8 5 8 9s-3 8-8 8-8-4-8-8 3-9 8-9z",
  small: "M20 9l7 20-7-4-7 4z",
  destroyer: "M20 9l4 9 4 10-8-3-8 3 4-10z",
  cruiser: "M20 8l5 8 1 6 5 9-11-4-11 4 5-9 1-6z",
  battlecruiser: "M20 6l5 9 2 6 6 11-9-2-4 3-4-3-9 2 6-11 2-6z",
  battleship: "M20 5l6 7 1 8 7 5v8l-9-2-5 4-5-4-9 2v-8l7-5 1-8z",
  capital: "M20 3l7 8v7l9 7v9l-8-2-3 5h-10l-3-5-8 2v-9l9-7v-7z",
  hauler: "M15 7h10l3 6v18l-4 3h-8l-4-3V13z",
  structure: "M20 5l13 7.5v15L20 35 7 27.5v-15z",
  other: "M20 9l11 11-11 11L9 20z",
}

/** @type {[RegExp, keyof typeof outlines][]} the first that matches the name of the group */
const classes = [
  [/capsule/i, "pod"],
  [/titan|carrier|dreadnought|force auxiliary|capital/i, "capital"],
  [/battlecruiser|command ship/i, "battlecruiser"],
  [/battleship|marauder|black ops/i, "battleship"],
  [/destroyer|interdictor(?! )/i, "destroyer"],
  [/industrial|freighter|transport|hauler|blockade|barge|exhumer/i, "hauler"],
  [/frigate|interceptor|bomber|covert ops|corvette|rookie|shuttle|electronic attack|logistics frigate/i, "small"],
  [/cruiser|logistics|recon|heavy assault|strategic|prototype/i, "cruiser"],
  [/citadel|engineering|refinery|structure|control tower|starbase|gate|cyno|jammer|skyhook|silo|metenox|office/i, "structure"],
]

/** @param {string | undefined} group */
function classOf(group) {
  if (!group) return "other"
  return classes.find(([pattern]) => pattern.test(group))?.[1] ?? "other"
}

/** Ids that the image server has no picture of, so that it is asked once. A few hundred at most: there are no more ships. */
const without = new Set()
let failures = 0 // pictures that did not come, before the first that did
const hopeless = 10 // so many, and there is no image server here: a page without the internet stops asking

/**
 * Draws a ship into a box whose size the style sheet gives, so that nothing moves when the picture comes.
 * @param {HTMLElement} box
 * @param {number | undefined} id
 * @param {string | undefined} group
 */
export function drawHull(box, id, group) {
  const outline = document.createElementNS(svg, "svg")
  outline.setAttribute("viewBox", "0 0 40 40")
  outline.setAttribute("aria-hidden", "true")
  const path = document.createElementNS(svg, "path")
  path.setAttribute("d", outlines[classOf(group)])
  outline.append(path)
  box.replaceChildren(outline)
  if (id === undefined || !images() || without.has(id) || failures >= hopeless) return
  const picture = document.createElement("img")
  picture.alt = "" // the ship's name stands beside it
  picture.width = picture.height = 40
  picture.loading = "lazy"
  picture.decoding = "async"
  picture.referrerPolicy = "no-referrer"
  const kinds = ["render", "icon"]
  picture.addEventListener("load", () => {
    failures = -Infinity
    outline.remove()
  }, {once: true})
  picture.addEventListener("error", () => {
    const next = kinds[kinds.indexOf(picture.dataset.kind ?? "") + 1]
    if (next) return ask(next)
    failures++
    without.add(id)
    picture.remove()
  })
  /** @param {string} kind */
  function ask(kind) {
    picture.dataset.kind = kind
    picture.src = `https://images.evetech.net/types/${id}/${kind}?size=64`
  }
  ask(kinds[0])
  box.append(picture)
}
