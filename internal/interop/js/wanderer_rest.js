// A client of wanderer-kills' REST API, as its integration guide has it: node wanderer_rest.js BASE SYSTEM KILLMAIL. BASE is such as
// http://localhost:4004/api/v1.
"use strict"

const {say} = require("./lines")

const [base, system, killmail] = process.argv.slice(2)

// call returns what is in the envelope.
const call = async (path, body) => {
  const options = body && {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)}
  const response = await fetch(base + path, options)
  const {data, error, code, timestamp} = await response.json()
  if (Number.isNaN(Date.parse(timestamp))) throw new Error(`timestamp ${timestamp}`)
  if (!response.ok) say({on: "error", status: response.status, reason: error, code})
  return data
}

const show = (on, {killmail_id, system_id, kill_time, victim, zkb}) =>
  say({on, killmail: killmail_id, hash: zkb.hash, system: system_id, ship: victim.ship_type_id, time: kill_time})

const run = async () => {
  for (const kill of (await call(`/kills/system/${system}?since_hours=24&limit=50`)).kills) show("system", kill)
  const bulk = await call("/kills/systems", {system_ids: [Number(system), 30000145], since_hours: 24, limit: 50})
  for (const kill of bulk.systems_kills[system]) show("systems", kill)
  if (bulk.systems_kills["30000145"].length > 0) throw new Error("killmails where there are none")
  for (const kill of (await call(`/kills/cached/${system}`)).kills) show("cached", kill)
  say({on: "count", count: (await call(`/kills/count/${system}`)).count})
  show("one", await call(`/killmail/${killmail}`))
  await call("/killmail/1")
  await call("/kills/system/Jita?since_hours=24")
}

run().catch(error => {
  console.error(error)
  process.exit(1)
})
