// A poller of EVE-KILL's feed, as bots have it: node evekill_poll.js BASE. The first call only tells where the feed is; then pages of
// what came later, at once while there is more and else once a second. It keeps the cursor itself.
"use strict"

const {say} = require("./lines")

const [base] = process.argv.slice(2)
const sleep = ms => new Promise(done => setTimeout(done, ms))

const page = async after => {
  const response = await fetch(`${base}/feed/poll?after=${after}&limit=100`, {
    headers: {"User-Agent": "example (pilot@example.com)"},
  })
  if (!response.ok) throw new Error(`HTTP ${response.status}`)
  return response.json()
}

const poll = async () => {
  let cursor = null
  for (;;) {
    try {
      if (cursor === null) {
        cursor = (await page(0)).latest
        say({on: "head"})
      }
      const {data, hasMore} = await page(cursor)
      for (const {seq, killmail_id: killmail, killmail_hash: hash, data: mail} of data) {
        if (seq <= cursor) throw new Error(`${seq} comes behind ${cursor}`)
        cursor = seq
        say({on: "killmail", killmail, hash, system: mail.solar_system_id, ship: mail.victim.ship_type_id})
      }
      if (hasMore) continue
    } catch (error) {
      say({on: "error", reason: String(error)})
    }
    await sleep(1000)
  }
}

poll()
