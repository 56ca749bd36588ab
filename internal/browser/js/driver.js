// A browser that obeys: node driver.js CHROMIUM. A JSON command a line comes in, and for each one JSON line goes out, in any
// order, with the command's id and its result or error. It decides nothing: what is right is written in the tests.
"use strict"

const fs = require("node:fs")
const readline = require("node:readline")
const {chromium} = require("playwright-core")

const [executablePath] = process.argv.slice(2)
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8")
const pixel = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==", "base64")

const launched = chromium.launch({
  executablePath,
  headless: true,
  // Without these it asks its maker's hosts for many things at every start.
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--js-flags=--expose-gc"],
})
const pages = new Map()

const commands = {
  // open makes a page that has nothing from any other. Requests to other hosts are noted and never leave this machine: CCP's
  // image server is answered with a pixel.
  async open({page: name, width = 1440, height = 900, scheme = "dark", motion = "no-preference", bypass = false, storage = {}}) {
    const browser = await launched
    const context = await browser.newContext({
      viewport: {width, height}, colorScheme: scheme, reducedMotion: motion, locale: "en-GB", bypassCSP: bypass, timezoneId: "UTC",
      permissions: ["clipboard-read", "clipboard-write"],
    })
    const page = await context.newPage()
    const seen = {console: [], foreign: [], pictures: 0, paths: [], asked: []}
    const asked = text => {
      seen.asked.push(text)
      if (seen.asked.length > 1_000) seen.asked.shift()
    }
    await context.route(url => url.hostname !== "127.0.0.1", route => {
      seen.foreign.push(route.request().url())
      if (new URL(route.request().url()).hostname !== "images.evetech.net") return route.abort()
      seen.pictures++
      return route.fulfill({body: pixel, contentType: "image/png"})
    })
    page.on("console", m => ["error", "warning"].includes(m.type()) && seen.console.push(m.text()))
    page.on("pageerror", e => seen.console.push(String(e.stack ?? e)))
    page.on("request", r => {
      seen.paths.push(new URL(r.url()).pathname)
      if (seen.paths.length > 10_000) seen.paths.shift()
      asked(`${r.method()} ${r.url()} ${r.headers().accept ?? "*/*"}${r.postData() ? " " + r.postData() : ""}`)
    })
    page.on("websocket", socket => {
      asked("GET " + socket.url())
      socket.on("framesent", ({payload}) => asked(String(payload)))
    })
    await page.addInitScript(items => {
      for (const [key, value] of Object.entries(items)) if (localStorage.getItem(key) === null) localStorage.setItem(key, value)
    }, storage)
    pages.set(name, {page, context, seen, cdp: await context.newCDPSession(page)})
  },
  close: async ({page}) => {
    await pages.get(page).context.close()
    pages.delete(page)
  },
  goto: ({page, url}) => pages.get(page).page.goto(url).then(() => null),
  reload: ({page}) => pages.get(page).page.reload().then(() => null),
  back: ({page}) => pages.get(page).page.goBack({waitUntil: "commit"}).then(() => null),
  press: ({page, key}) => pages.get(page).page.keyboard.press(key),
  type: ({page, text}) => pages.get(page).page.keyboard.type(text),
  click: ({page, on}) => pages.get(page).page.click(on),
  move: ({page, x, y}) => pages.get(page).page.mouse.move(x, y),
  hover: ({page, on}) => pages.get(page).page.hover(on, {force: true}),
  select: ({page, on, value}) => pages.get(page).page.selectOption(on, value).then(() => null),
  emulate: ({page, scheme}) => pages.get(page).page.emulateMedia({colorScheme: scheme}),
  eval: ({page, code}) => pages.get(page).page.evaluate(code),
  // wait looks again and again, until a value is true. It looks from outside: the page's policy lets nobody evaluate text inside.
  async wait({page: name, code, patience}) {
    const {page} = pages.get(name)
    const end = Date.now() + patience
    for (;;) {
      let error
      try {
        if (await page.evaluate(code)) return
      } catch (e) {
        error = e // on its way from one document to the next
      }
      if (Date.now() > end) throw new Error(`${error ?? "it never is"}; the page says: ${await page.evaluate("document.body.innerText.slice(0, 1500)")}`)
      await new Promise(resolve => setTimeout(resolve, 10))
    }
  },
  seen: async ({page}) => pages.get(page).seen,
  shot: ({page, path}) => pages.get(page).page.screenshot({path}).then(() => null),
  // judge returns what axe-core finds, in short.
  async judge({page: name}) {
    const {page} = pages.get(name)
    await page.evaluate(axe)
    const {violations} = await page.evaluate(() => globalThis.axe.run(document, {resultTypes: ["violations"]}))
    return violations.map(v => ({id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.slice(0, 5).map(n => n.html + " " + n.failureSummary)}))
  },
  // metrics are those of the page's process: counts, bytes, and seconds of its main thread since it was first asked. tidy: what
  // is garbage is collected first, which takes some of those seconds.
  async metrics({page: name, tidy}) {
    const {cdp} = pages.get(name)
    if (tidy) await cdp.send("HeapProfiler.collectGarbage")
    await cdp.send("Performance.enable", {timeDomain: "threadTicks"}) // what others on this machine take is not the page's
    const {metrics} = await cdp.send("Performance.getMetrics")
    return Object.fromEntries(metrics.map(m => [m.name, m.value]))
  },
}

readline.createInterface({input: process.stdin})
  .on("line", async text => {
    const {id, do: name, ...rest} = JSON.parse(text)
    const answer = {id}
    try {
      answer.result = await commands[name](rest) ?? null
    } catch (error) {
      answer.error = String(error)
    }
    process.stdout.write(JSON.stringify(answer) + "\n")
  })
  .on("close", async () => {
    try {
      await (await launched).close()
    } finally {
      process.exit(0)
    }
  })
