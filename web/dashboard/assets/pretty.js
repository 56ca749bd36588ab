// JSON laid out for people. It is not parsed and written anew: numbers and strings stay as the server spelled them, however large
// or precise.
// @ts-check

/**
 * Lays JSON out, until it has enough. What is no JSON comes out somehow, and is still text.
 * @param {string} text
 * @param {number} most characters of the result
 */
export function pretty(text, most) {
  const tokens = /"[^"\\]*(?:\\[^][^"\\]*)*"?|[{}[\],:]|[^\s"{}[\],:]+/g
  let out = ""
  let depth = 0
  let opened = false // the last token was an opening bracket
  const line = () => "\n" + "  ".repeat(Math.min(depth, 40))
  for (const [token] of text.matchAll(tokens)) {
    if (out.length >= most) break
    const closes = token === "}" || token === "]"
    if (closes) {
      depth = Math.max(0, depth - 1)
      if (!opened) out += line()
    } else if (opened) out += line()
    opened = token === "{" || token === "["
    if (opened) depth++
    out += token
    if (token === ",") out += line()
    else if (token === ":") out += " "
    else if (depth === 0 && closes) out += "\n"
  }
  return out.trimEnd().slice(0, most)
}
