// A reader of RedisQ, as its README and bots of the time have it: node redisq.js URL QUEUE. The URL is the whole address, such as
// https://zkillredisq.stream/listen.php. One request after the other, forever; a package or null.
"use strict"

const {say} = require("./lines")

const [url, queue] = process.argv.slice(2)
const sleep = ms => new Promise(done => setTimeout(done, ms))

const listen = async () => {
  for (;;) {
    try {
      const response = await fetch(`${url}?queueID=${encodeURIComponent(queue)}&ttw=1`, {
        headers: {"User-Agent": "example (pilot@example.com)"},
        signal: AbortSignal.timeout(15000),
      })
      if (!response.ok) throw new Error(`HTTP ${response.status}`)
      const {package: kill} = await response.json()
      if (kill === null) {
        say({on: "nothing"})
        continue
      }
      const {killmail, zkb} = kill
      say({
        on: "killmail", killmail: kill.killID, hash: zkb.hash, system: killmail.solar_system_id,
        ship: killmail.victim.ship_type_id, value: zkb.totalValue.toLocaleString(),
      })
    } catch (error) {
      say({on: "error", reason: String(error)})
      await sleep(1000)
    }
  }
}

listen()
