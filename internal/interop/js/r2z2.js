// A poller of R2Z2, as its published examples have it: node r2z2.js BASE [history]. It begins at the pointer and asks for one number
// after the other: a tenth of a second after a file, 6 s after a 404. With "history" it reads all days instead.
"use strict"

const {say} = require("./lines")

const [base, what] = process.argv.slice(2)
const sleep = ms => new Promise(done => setTimeout(done, ms))

// get returns a file, or null when it is not there.
const get = async path => {
  for (;;) {
    let response
    try {
      response = await fetch(base + path, {headers: {Accept: "application/json", "User-Agent": "example (pilot@example.com)"}})
    } catch (error) {
      say({on: "error", reason: String(error)})
      await sleep(2000)
      continue
    }
    if (response.status === 404) return null
    if (response.status === 429 || response.status === 503) {
      await sleep(2000)
      continue
    }
    if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`)
    return response.json()
  }
}

const poll = async () => {
  let {sequence_id: sequence} = await get("/ephemeral/sequence.json")
  say({on: "pointer", sequence})
  for (;;) {
    const file = await get(`/ephemeral/${sequence}.json`)
    if (file === null) {
      await sleep(6000)
      continue
    }
    if (file.sequence_id !== sequence) throw new Error(`${file.sequence_id} in the file of ${sequence}`)
    say({
      on: "killmail", killmail: file.killmail_id, hash: file.zkb.hash, system: file.esi.solar_system_id,
      ship: file.esi.victim.ship_type_id,
    })
    sequence++
    await sleep(100)
  }
}

// history prints each killmail that the days have, when its body is there too.
const history = async () => {
  for (const [day, count] of Object.entries(await get("/history/totals.json"))) {
    const hashes = Object.entries(await get(`/history/${day}.json`))
    if (hashes.length !== count) throw new Error(`${hashes.length} killmails on ${day}, want ${count}`)
    const bodies = await get(`/history/raw/${day}.json`)
    for (const [id, hash] of hashes) {
      const {killmail_id: killmail, solar_system_id: system, victim} = bodies[id]
      if (String(killmail) !== id) throw new Error(`killmail ${killmail} as ${id}`)
      say({on: "killmail", killmail, hash, system, ship: victim.ship_type_id})
    }
  }
  say({on: "end"})
}

const run = what === "history" ? history : poll
run().catch(error => {
  console.error(error)
  process.exit(1)
})
