// What this project's own client for JavaScript says: node killfeed.mjs BASE calls, or node killfeed.mjs BASE stream OPTIONS.
//
// With calls each command is one, and its answer a line. A stream tells its events; where its options have step it waits behind
// each for a command: go, commit, or leave.
import readline from "node:readline"
import { Client, ProblemError, ReplacedError } from "../../../clients/typescript/src/killfeed.js"

const [base, mode, given] = process.argv.slice(2)
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n")
const feed = new Client(base, { userAgent: "interop/1 (tests)" })

const optionsOf = ({ client_id: clientId, systems, topics, start, after, limit, wait, commit, filter, fields }) => {
  const options = { clientId, systems, topics, start, after, limit, wait, commit, filter, fields }
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))
}

const fail = (error) => {
  if (error instanceof ReplacedError) say({ on: "replaced" })
  else if (error instanceof ProblemError) {
    const { status, detail, parameter, value, accepted } = error.problem
    say({ on: "problem", status, detail, parameter, value, accepted })
  } else say({ on: "error", reason: String(error) })
}

const calls = {
  poll: async (options) => {
    const { events, head, epoch, more, gap, next } = await feed.poll(optionsOf(options))
    return { ids: events.map((event) => event.event_id), first: events[0]?.killmail, head, epoch, more, gap, next }
  },
  next: async (options) => {
    const { event, gap, more } = await feed.next(optionsOf(options))
    return { ids: event ? [event.event_id] : [], gap, more }
  },
  commit: async ({ client_id: clientId, event_id: eventId, ...on }) => ({ offsets: await feed.commit(clientId, eventId, on) }),
  seek: async ({ client_id: clientId, to, ...on }) => await feed.seek(clientId, to, on),
  place: async ({ client_id: clientId }) => await feed.place(clientId),
}

const commands = readline.createInterface({ input: process.stdin })

if (mode === "calls") {
  for await (const text of commands) {
    const { do: name, ...rest } = JSON.parse(text)
    try {
      say({ on: name, ...(await calls[name](rest)) })
    } catch (error) {
      fail(error)
    }
  }
} else {
  const { step, ...options } = JSON.parse(given)
  const stream = feed.stream({
    ...optionsOf(options),
    onGap: (gap) => say({ on: "gap", ...gap }),
    onRetry: (error) => say({ on: "retry", reason: error.message }),
  })
  let come
  commands.on("line", (text) => {
    const { do: name } = JSON.parse(text)
    if (name === "close") stream.close()
    else come(name)
  })
  try {
    for await (const { event_id, cursor } of stream) {
      const command = step && new Promise((resolve) => (come = resolve))
      say({ on: "event", event_id, cursor })
      const name = await command
      if (name === "leave") break
      if (name === "commit") {
        await stream.commit()
        say({ on: "committed" })
      }
    }
    say({ on: "end" })
  } catch (error) {
    fail(error)
  }
  commands.close()
  process.stdin.destroy()
}
