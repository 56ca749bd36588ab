// One page in a real browser: node browser.js CHROMIUM URL. What the page reports is printed.
"use strict"

const {say, obey} = require("./lines")
const {chromium} = require("playwright-core")

const [executablePath, url] = process.argv.slice(2)

const run = async () => {
  const browser = await chromium.launch({
    executablePath,
    headless: true,
    // Without these it asks its maker's hosts for many things at every start.
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  })
  obey({}, () => browser.close())
  const page = await browser.newPage()
  page.on("pageerror", error => say({on: "page error", reason: String(error)}))
  await page.exposeFunction("report", say)
  await page.goto(url)
}

run().catch(error => {
  console.error(error)
  process.exit(1)
})
