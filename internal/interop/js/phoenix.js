// One socket of an npm phoenix: node phoenix.js PACKAGE URL OPTIONS. The options are those of Socket, as JSON; with
// "longpoll":true the transport is long polling and no WebSocket is tried.
"use strict"

const {say, obey} = require("./lines")

const [client, url, options] = process.argv.slice(2)
const {Socket, LongPoll} = require(client)
const {longpoll, ...others} = JSON.parse(options)

const socket = new Socket(url, {transport: longpoll ? LongPoll : require("ws"), ...others})
socket.onOpen(() => say({on: "open", transport: socket.transport === LongPoll ? "longpoll" : "websocket"}))
socket.onClose(event => say({on: "close", code: event.code}))
socket.onMessage(({topic, payload}) => {
  if (topic === "phoenix") say({channel: topic, on: `heartbeat ${payload.status}`})
})
socket.connect()

const channels = {}

obey({
  // join tells with every join, also those that the client makes by itself, the cursor of the last event that came. With
  // "resume":false the params are always the same.
  join({channel: name, topic, params = {}, resume = true}) {
    let cursor
    const channel = socket.channel(topic, () => resume && cursor ? {...params, after: cursor} : params)
    channels[name] = channel
    for (const event of ["new_killmail", "gap", "replaced"]) {
      channel.on(event, payload => {
        cursor = payload.cursor ?? cursor
        say({channel: name, on: event, payload})
      })
    }
    channel.onError(() => say({channel: name, on: "error"}))
    channel.onClose(() => say({channel: name, on: "close"}))
    channel.join()
      .receive("ok", response => {
        cursor = response.cursor
        say({channel: name, on: "joined", response})
      })
      .receive("error", response => say({channel: name, on: "refused", response}))
      .receive("timeout", () => say({channel: name, on: "timeout"}))
  },

  push({channel: name, event, payload}) {
    answered(name, event, channels[name].push(event, payload))
  },

  leave({channel: name}) {
    answered(name, "leave", channels[name].leave())
  },
}, () => process.exit(0))

// answered tells how the server answers a push.
function answered(name, event, push) {
  for (const status of ["ok", "error", "timeout"]) {
    push.receive(status, response => say({channel: name, on: `${event} ${status}`, response}))
  }
}
