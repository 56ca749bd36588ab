import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"
import { Parser } from "../src/sse.js"

const cases = JSON.parse(readFileSync(new URL("../../testdata/sse.json", import.meta.url), "utf8"))

const parse = (pieces) => {
  const parser = new Parser()
  const messages = pieces.flatMap((piece) => parser.push(piece))
  return { retry: parser.retry, messages }
}

for (const { name, text, retry, messages } of cases) {
  test(name, () => {
    const bytes = new TextEncoder().encode(text)
    const want = { retry, messages }
    assert.deepEqual(parse([bytes]), want)
    assert.deepEqual(parse([...bytes].map((byte) => Uint8Array.of(byte))), want, "byte by byte")
    for (let i = 0; i <= bytes.length; i++) {
      assert.deepEqual(parse([bytes.subarray(0, i), bytes.subarray(i)]), want, `broken at ${i}`)
    }
  })
}

test("what never ends is given up", () => {
  for (const piece of ["x", "data: x\n"]) {
    const bytes = new TextEncoder().encode(piece.repeat((1 << 20) / piece.length))
    const parser = new Parser()
    assert.throws(() => {
      for (let i = 0; i < 200; i++) parser.push(bytes)
    }, RangeError)
  }
})
