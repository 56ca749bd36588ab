// What the scripts here have in common: a JSON command a line comes in, a JSON line goes out for everything that happens.
// Scripts decide nothing. What is right is written in the tests.
"use strict"

const readline = require("node:readline")

// say prints one line.
const say = line => process.stdout.write(JSON.stringify(line) + "\n")

// obey runs the command that each line names, as in {"do":"leave","channel":"one"}, and stop when no more can come.
const obey = (commands, stop) => {
  readline.createInterface({input: process.stdin})
    .on("line", text => {
      const {do: name, ...rest} = JSON.parse(text)
      commands[name](rest)
    })
    .on("close", stop)
}

module.exports = {say, obey}
