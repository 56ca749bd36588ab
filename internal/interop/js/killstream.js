// A listener of zKillboard's websocket, as its wiki has it: node killstream.js URL. Each message of the killstream is a killmail of
// ESI with zkb in it. It comes back by itself.
"use strict"

const {say} = require("./lines")

const WebSocket = globalThis.WebSocket ?? require("ws") // Node.js has its own from version 22 on
const [url] = process.argv.slice(2)

let connection = 0
const listen = () => {
  const socket = new WebSocket(url)
  socket.onopen = () => {
    connection++
    socket.send(JSON.stringify({action: "sub", channel: "killstream"}))
  }
  socket.onmessage = ({data}) => {
    const {killmail_id: killmail, solar_system_id: system, victim, zkb} = JSON.parse(data)
    say({on: "killmail", connection, killmail, hash: zkb.hash, system, ship: victim.ship_type_id, url: zkb.url})
  }
  socket.onerror = () => {} // it is closed as well
  socket.onclose = () => setTimeout(listen, 1000)
}

listen()
