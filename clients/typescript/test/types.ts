// What killfeed.d.ts tells is what the code has: this has to compile. Nothing runs it.
import type * as told from "../killfeed.js"
import * as code from "../src/killfeed.js"

// Everything that is told is there, and nothing else.
const all: typeof told = code
const none: Exclude<keyof typeof code, keyof typeof told> extends never ? true : false = true

// As users write it.
export const use = async (feed: told.Client): Promise<number> => {
  const stream = feed.stream({ clientId: "bot", topics: ["all"], start: new Date(), onGap: (gap) => gap.reason === "epoch" })
  for await (const event of stream) {
    const ship: number | undefined = event.killmail.victim?.ship_type_id
    if (ship === 670) await stream.commit()
  }
  const { event } = await feed.next({ clientId: "bot", systems: [30000142, "Amarr"], wait: 60 })
  // @ts-expect-error: there may be none
  event.event_id
  // @ts-expect-error: a stream has no limit
  feed.stream({ topics: ["all"], limit: 3 })
  // @ts-expect-error: a next is a client's
  await feed.next({ topics: ["all"] })
  const page = await feed.poll({ topics: ["all"], after: "0", limit: 10 })
  return page.events.length + (all && none ? 1 : 0)
}
