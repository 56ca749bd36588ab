import assert from "node:assert/strict"
import { beforeEach, mock, test } from "node:test"
import { Client, ConnectionError, KillfeedError, ProblemError, ReplacedError } from "../src/killfeed.js"

const epoch = "0123abcd"

const begin = (log, after, more = {}) =>
  `retry: 2000\nid: ${after}-${log}-nonce\nevent: open\n` +
  `data: ${JSON.stringify({ head: 9, epoch: log, start: after + 1, cursor: `${after}-${log}`, ...more })}\n\n`
const kill = (id, log = epoch) =>
  `id: ${id}-${log}-nonce\nevent: new_killmail\n` +
  `data: ${JSON.stringify({ event_id: id, system_id: 30000142, received_at: "", killmail: {}, cursor: `${id}-${log}` })}\n\n`
const json = (status, body, headers) =>
  new Response(status === 204 ? null : JSON.stringify(body), { status, headers: { "Content-Type": "application/json", ...headers } })

/** A stream that breaks off at its end, or with open stays. */
const stream = (text, { open = false } = {}) => (signal) =>
  new Response(
    new ReadableStream({
      start(controller) {
        controller.enqueue(new TextEncoder().encode(text))
        if (!open) return controller.close()
        signal?.addEventListener("abort", () => controller.error(signal.reason))
      },
    }),
    { headers: { "Content-Type": "text/event-stream; charset=utf-8" } },
  )
const open = (text) => stream(text, { open: true })

/** A server that answers from a script and notes what it was asked. */
const serve = (...answers) => {
  const requests = []
  const fetch = async (url, { body, signal, headers, method = "GET" }) => {
    const { pathname, searchParams } = new URL(url)
    searchParams.delete("topics")
    requests.push({ path: pathname, query: searchParams.toString(), body, headers, method })
    const answer = answers.shift() ?? (() => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))))
    if (answer instanceof Error) throw answer
    return typeof answer === "function" ? await answer(signal) : answer
  }
  return {
    requests,
    feed: new Client("http://killfeed.test/", { fetch, userAgent: "tester/1" }),
    streams: () => requests.filter((r) => r.path === "/api/killfeed/stream").map((r) => r.query),
    commits: () => requests.filter((r) => r.path === "/api/killfeed/commit").map((r) => JSON.parse(r.body).event_id),
  }
}

// Time passes when a wait begins.
beforeEach(() => {
  mock.reset()
  mock.timers.reset()
  mock.timers.enable({ apis: ["setTimeout"] })
})
const waits = []
const passing = {
  onRetry: (_, wait) => {
    waits.push(wait)
    queueMicrotask(() => mock.timers.tick(wait))
  },
}

const collect = async (events, last) => {
  const ids = []
  for await (const event of events) {
    ids.push(event.event_id)
    if (event.event_id === last) break
  }
  return ids
}

test("without a client it resumes behind the last event, after the pauses that are asked for", async () => {
  waits.length = 0
  const server = serve(
    new TypeError("fetch failed"),
    stream(begin(epoch, 0) + kill(1) + kill(2) + kill(3).slice(0, 40)),
    json(503, { detail: "opening" }, { "Retry-After": "7" }),
    stream(begin(epoch, 2)),
    stream(begin(epoch, 2) + kill(3) + `: heartbeat\nid: 8-${epoch}\n\n`),
    open(begin(epoch, 8) + kill(9)),
  )
  const events = server.feed.stream({ topics: ["all"], start: "earliest", ...passing })
  assert.deepEqual(await collect(events, 9), [1, 2, 3, 9])
  const after = (id) => `after=${id}-${epoch}`
  assert.deepEqual(server.streams(), ["start=earliest", "start=earliest", after(2), after(2), after(2), after(8)])
  for (const [i, least] of [500, 2000, 7000, 8000, 2000].entries()) {
    assert.ok(waits[i] >= least && waits[i] <= least * 1.2 + 1, `wait ${i} is ${waits[i]}, want ${least} and up to a fifth more`)
  }
  assert.equal(server.requests[0].headers.get("User-Agent"), "tester/1")
  assert.equal(events.cursor, `8-${epoch}`)
})

test("with a client what was handled is committed before it comes back, and at the end", async () => {
  const ok = () => json(200, { offsets: {} })
  const server = serve(
    stream(begin(epoch, 0) + kill(1) + kill(2)),
    json(503, {}),
    ok,
    open(begin(epoch, 2) + kill(3) + kill(4)),
    ok,
  )
  const events = server.feed.stream({ clientId: "bot", topics: ["all"], ...passing })
  assert.deepEqual(await collect(events, 4), [1, 2, 3, 4])
  // The loop is left at 4, which does not count.
  assert.deepEqual(server.commits(), [`2-${epoch}`, `2-${epoch}`, `3-${epoch}`])
  const same = "client_id=bot&commit=manual"
  assert.deepEqual(server.streams(), [same, same])
})

test("what was handled is committed while it waits", async () => {
  mock.timers.reset() // real time: it takes a second
  const server = serve(open(begin(epoch, 0) + kill(1)))
  const committed = new Promise((resolve) => {
    server.feed.commit = async (...args) => resolve(args)
  })
  const events = server.feed.stream({ clientId: "bot", topics: ["all"] })
  const ids = collect(events)
  assert.deepEqual((await committed).slice(0, 3), ["bot", `1-${epoch}`, { topics: ["all"] }])
  events.close()
  assert.deepEqual(await ids, [1])
})

test("with manual commit nothing else commits", async () => {
  const server = serve(
    stream(begin(epoch, 0) + kill(1) + kill(2)),
    () => json(200, { offsets: {} }),
    open(begin(epoch, 1) + kill(2) + kill(3)),
  )
  const events = server.feed.stream({ clientId: "bot", commit: "manual", topics: ["all"], after: 0, ...passing })
  const ids = []
  for await (const event of events) {
    ids.push(event.event_id)
    if (event.event_id === 1) await events.commit()
    if (event.event_id === 3) break
  }
  assert.deepEqual(ids, [1, 2, 2, 3])
  assert.deepEqual(server.commits(), [`1-${epoch}`])
  assert.deepEqual(server.streams(), ["client_id=bot&after=0&commit=manual", "client_id=bot&commit=manual"])
})

for (const commit of ["handled", "manual"]) {
  test(`a log that was replaced is told, and read from its beginning: ${commit}`, async () => {
    const other = "ffffffff"
    const server = serve(
      stream(begin(epoch, 4)),
      stream(begin(other, 9)),
      open(begin(other, 0, { gap: { reason: "epoch" } }) + kill(1, other)),
    )
    const gaps = []
    const events = server.feed.stream({ clientId: "bot", commit, topics: ["all"], onGap: (gap) => gaps.push(gap), ...passing })
    assert.deepEqual(await collect(events, 1), [1])
    const same = "client_id=bot&commit=manual"
    assert.deepEqual(server.streams(), [same, same, `${same}&after=4-${epoch}`])
    assert.deepEqual(gaps, [{ reason: "epoch" }])
  })
}

test("gaps are told, and what is damaged does not move the place", async () => {
  const lost = (reason, to) => `id: ${to}-${epoch}\nevent: gap\ndata: ${JSON.stringify({ reason, from: 2, to })}\n\n`
  const server = serve(
    stream(begin(epoch, 1, { gap: { reason: "retention", from: 1, to: 1 } }) + lost("retention", 3)),
    stream(begin(epoch, 3) + lost("damaged", 7)),
    open(begin(epoch, 3) + kill(4)),
  )
  const gaps = []
  await collect(server.feed.stream({ topics: ["all"], onGap: (gap) => gaps.push(gap), ...passing }), 4)
  assert.deepEqual(gaps.map(({ reason, to }) => [reason, to]), [["retention", 1], ["retention", 3], ["damaged", 7]])
  assert.deepEqual(server.streams(), ["", `after=3-${epoch}`, `after=3-${epoch}`])
})

test("silence is a loss", async () => {
  const server = serve(open(begin(epoch, 0) + kill(1)))
  const events = server.feed.stream({ topics: ["all"], silence: 5000, onRetry: (error) => {
    assert.ok(error instanceof ConnectionError)
    events.close()
  } })
  const reading = events[Symbol.asyncIterator]()
  assert.equal((await reading.next()).value.event_id, 1)
  const next = reading.next()
  for (let i = 0; i < 10; i++) await Promise.resolve() // until it reads
  mock.timers.tick(5000)
  assert.equal((await next).done, true)
})

test("it ends", async (t) => {
  const ends = (answer, check) => async () => {
    const server = serve(answer)
    await assert.rejects(collect(server.feed.stream({ clientId: "bot", topics: ["all"] })), check)
    assert.equal(server.requests.length, 1, "the name is another one's, or nothing was handled")
  }
  await t.test("replaced", ends(open(begin(epoch, 0) + kill(1) + "event: replaced\ndata: {}\n\n"), ReplacedError))
  const problem = { title: "Bad Request", status: 400, detail: "no", parameter: "topics", value: "x", accepted: "y" }
  await t.test("refused", ends(json(400, problem), (error) => {
    assert.ok(error instanceof ProblemError && error.status === 400 && !error.temporary)
    assert.deepEqual(error.problem, { type: "about:blank", ...problem })
    return true
  }))
  await t.test("no stream", ends(json(200, {}), /is it a killfeed/))
  await t.test("no JSON", ends(open("event: open\ndata: {\n\n"), KillfeedError))
  await t.test("aborted", async () => {
    const end = new AbortController()
    const server = serve(open(begin(epoch, 0) + kill(1)))
    const loop = (async () => {
      for await (const _ of server.feed.stream({ topics: ["all"], signal: end.signal })) end.abort(new Error("enough"))
    })()
    await assert.rejects(loop, { message: "enough" })
  })
  await t.test("aborted before", async () => {
    const server = serve()
    await assert.rejects(collect(server.feed.stream({ topics: ["all"], signal: AbortSignal.abort(new Error("enough")) })), { message: "enough" })
  })
})

test("one loop only, and no commit without a client", async () => {
  const { feed } = serve(open(begin(epoch, 0) + kill(1)))
  assert.throws(() => feed.stream({ topics: ["all"], commit: "manual" }), TypeError)
  const events = feed.stream({ topics: ["all"] })
  await assert.rejects(events.commit(), TypeError)
  await collect(events, 1)
  assert.throws(() => events[Symbol.asyncIterator](), TypeError)
})

test("long lists go into a body", async () => {
  const { feed, requests } = serve(json(200, { events: [] }))
  await feed.poll({ systems: Array.from({ length: 1000 }, (_, i) => 30000001 + i), wait: 1.5, maxAge: "15m", fields: ["a", "b.c"] })
  assert.equal(requests[0].method, "POST")
  const { systems, ...rest } = JSON.parse(requests[0].body)
  assert.equal(systems.length, 1000)
  assert.deepEqual(rest, { wait: 1.5, max_age: "15m", fields: "a,b.c" })
})

test("an empty next tells its gap", async () => {
  for (const [text, gap] of [["3-7", { reason: "unknown", from: 3, to: 7 }], ["epoch", { reason: "epoch" }]]) {
    const { feed } = serve(json(204, null, { "Killfeed-Gap": text, "Killfeed-More": "1" }))
    assert.deepEqual(await feed.next({ clientId: "bot", topics: ["all"] }), { event: null, gap, more: true })
  }
})

test("a request ends in time", async () => {
  const { feed } = serve()
  const poll = assert.rejects(feed.poll({ topics: ["all"], after: 0, wait: 5 }), ConnectionError)
  mock.timers.tick(65_000)
  await poll
})

test("a server is a URL", () => {
  for (const server of ["127.0.0.1:4004", "ftp://a", "http://a/?b", "http://a/#b", "http://u:p@a/"]) {
    assert.throws(() => new Client(server), TypeError, server)
  }
})
