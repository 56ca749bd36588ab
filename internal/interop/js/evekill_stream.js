// A listener of EVE-KILL's stream: node evekill_stream.js BASE TOPICS, with the EventSource of npm, which resumes by itself.
"use strict"

const {say} = require("./lines")
const {EventSource} = require("eventsource")

const [base, topics] = process.argv.slice(2)

const stream = new EventSource(`${base}/feed/stream?topics=${topics}`)
stream.onopen = () => say({on: "open"})
stream.onerror = () => say({on: "error"})
stream.addEventListener("killmail", ({data}) => {
  const {killmail_id: killmail, killmail_hash: hash, solar_system_id: system, victim} = JSON.parse(data)
  say({on: "killmail", killmail, hash, system, ship: victim.ship_type_id})
})
