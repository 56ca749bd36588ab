// Opens a page in a browser and prints the text of each list item that the page adds: node page.js CHROMIUM FILE.
"use strict"

const {createRequire} = require("node:module")
const {pathToFileURL} = require("node:url")
const {chromium} = createRequire(process.cwd() + "/")("playwright-core") // packages are those of the examples

const [executablePath, file] = process.argv.slice(2)

const fail = error => {
  console.error(error)
  process.exit(1)
}

const run = async () => {
  const browser = await chromium.launch({
    executablePath,
    // Without these it asks its maker's hosts for many things at every start.
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  })
  const page = await browser.newPage()
  page.on("pageerror", fail)
  page.on("console", message => console.error(message.text()))
  await page.exposeFunction("added", text => console.log(text))
  await page.addInitScript(() => {
    new MutationObserver(changes => {
      for (const node of changes.flatMap(change => [...change.addedNodes])) {
        if (node.nodeName === "LI") window.added(node.textContent)
      }
    }).observe(document, {childList: true, subtree: true})
  })
  await page.goto(pathToFileURL(file).href)
}

run().catch(fail)
