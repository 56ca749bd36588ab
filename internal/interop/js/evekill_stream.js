// A listener of EVE-KILL's stream: node evekill_stream.js BASE TOPICS, with the EventSource of npm, which resumes by itself.
"use strict"

const {say} = require("./lines")
const {EventSource} = require("eventsource")

const [base, topics] = process.argv.slice(2)

const stream = new EventSource(`${base}/feed/stream?topics=${topics}`)
stream.onopen = () => say({on: "open"})
stream.onerror = () => say({on: "error"})
stream.addEventListener("killmail", ({data}) => {
  const mail = JSON.parse(data)
  say({on: "killmail", killmail: mail.killmail_id, hash: mail.killmail_hash, system: mail.solar_system_id, ship: mail.victim.ship_type_id})
})
