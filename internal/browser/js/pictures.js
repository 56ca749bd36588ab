// Takes the pictures of the documents: node pictures.js CHROMIUM URL DIRECTORY. The server behind the URL is one with --demo: what
// the documents show is invented. See scripts/pictures.
"use strict"

const path = require("node:path")
const {chromium} = require("playwright-core")

const [executablePath, base, out] = process.argv.slice(2)
const pages = [
  {name: "page", at: "/", ready: "document.querySelectorAll('#list > li').length > 8"},
  {name: "killmail", at: "/", ready: "document.querySelectorAll('#list > li').length > 8", keys: ["j", "j", "Enter"], then: "document.querySelector('#detail[open] h2')?.textContent"},
  {name: "ops", at: "/ops", ready: "document.body.innerText.includes('collector')"},
  {name: "overlay", at: "/overlay?limit=5", ready: "document.body.innerText.length > 20", back: "#345"},
]
const sizes = [{width: 1440, height: 900}, {width: 390, height: 844}]

async function main() {
  const browser = await chromium.launch({executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"]})
  for (const {name, at, ready, keys = [], then, back} of pages) {
    for (const viewport of sizes) {
      for (const colorScheme of ["dark", "light"]) {
        if (back && colorScheme === "light") continue // an overlay has no theme
        const context = await browser.newContext({viewport, colorScheme, locale: "en-GB", timezoneId: "UTC", bypassCSP: true})
        const page = await context.newPage()
        await page.route(url => url.hostname !== "127.0.0.1", route => route.abort())
        await page.goto(base + at)
        await page.waitForFunction(ready)
        for (const key of keys) await page.keyboard.press(key)
        if (then) await page.waitForFunction(then)
        if (back) await page.addStyleTag({content: `html { background: ${back} !important }`})
        await page.waitForTimeout(1500)
        const file = path.join(out, `${name}-${viewport.width}${back ? "" : "-" + colorScheme}.png`)
        await page.screenshot({path: file})
        console.log(file)
        await context.close()
      }
    }
  }
  await browser.close()
}

main().catch(err => {
  console.error(err)
  process.exit(1)
})
