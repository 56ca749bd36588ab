// A listener of channels of zKillboard's websocket, as its wiki has it: node littlekill.js URL CHANNEL... One message subscribes to
// one channel; a killmail that is on several of them comes on each.
"use strict"

const {say} = require("./lines")

const WebSocket = globalThis.WebSocket ?? require("ws")
const [url, ...channels] = process.argv.slice(2)

let connection = 0
const listen = () => {
  const socket = new WebSocket(url)
  socket.onopen = () => {
    connection++
    for (const channel of channels) socket.send(JSON.stringify({action: "sub", channel}))
  }
  socket.onmessage = ({data}) => {
    const message = JSON.parse(data)
    say({
      on: message.action, connection, channel: message.channel, killmail: message.killID, hash: message.hash,
      ship: message.ship_type_id, url: message.url,
    })
  }
  socket.onerror = () => {}
  socket.onclose = () => setTimeout(listen, 1000)
}

listen()
