// A client of wanderer-kills' channel, as its example in JavaScript has it: node wanderer.js BASE PARAMS SYSTEM... BASE is such as
// ws://localhost:4004; PARAMS are those of the join, as JSON; the systems are subscribed to once it has joined.
"use strict"

const {say} = require("./lines")
const {Socket} = require("phoenix")

const [base, params, ...systems] = process.argv.slice(2)

const socket = new Socket(`${base}/socket`, {
  timeout: 10000, transport: globalThis.WebSocket ?? require("ws"), params: {client_identifier: "js_example_client"},
})
socket.connect()

const channel = socket.channel("killmails:lobby", JSON.parse(params))
channel.on("killmail_update", ({system_id: system, killmails, preload}) => {
  for (const {killmail_id: killmail, kill_time, victim, attackers, zkb} of killmails) {
    say({
      on: "killmail", killmail, hash: zkb.hash, system, ship: victim.ship_type_id, preload, time: kill_time,
      blow: attackers.find(one => one.final_blow).ship_type_id,
    })
  }
})
channel.on("kill_count_update", ({system_id: system, count}) => say({channel: "counts", on: "count", system, count}))
channel.on("preload_complete", ({total_kills: count}) => say({channel: "preloads", on: "preloaded", count}))
channel.join()
  .receive("ok", ({subscription_id: subscription, status}) => say({on: status, subscription}))
  .receive("error", ({reason}) => say({on: "refused", reason}))

if (systems.length > 0) {
  channel.push("subscribe_systems", {systems: systems.map(Number)})
    .receive("ok", ({subscribed_systems: all}) => say({channel: "replies", on: "subscribed", count: all.length}))
    .receive("error", ({reason}) => say({channel: "replies", on: "refused", reason}))
  channel.push("get_status", {})
    .receive("ok", ({subscribed_systems: all}) => say({channel: "replies", on: "status", count: all.length}))
}
