// The page in headless Chromium, in front of real nodes (tests/swarm/test_web.sh starts them).
//
// Everything waits for what it waits for, at most 60 s, and nothing for a time.
import { createRequire } from "node:module";
import { readFileSync, readSync, writeSync } from "node:fs";
import assert from "node:assert/strict";

const env = process.env;
const require = createRequire(`${env.MODULES}/`);
const puppeteer = require("puppeteer-core").default ?? require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const WAIT = { timeout: 60000, polling: 50 };

// (A read that waits would keep this program from ending.)
function order(text) {
  writeSync(3, `${text}\n`);
  readSync(4, Buffer.alloc(16));
}

const browser = await puppeteer.launch({ executablePath: env.CHROMIUM, userDataDir: env.PROFILE,
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"] });

const problems = []; // console errors, requests elsewhere, refusals by the policy

async function open(url, viewport = { width: 1400, height: 900 }) {
  const page = await browser.newPage();
  await page.setViewport(viewport);
  page.on("console", (m) => ["error", "warn"].includes(m.type()) && problems.push(`console: ${m.text()}`));
  page.on("pageerror", (e) => problems.push(`error: ${e.message}`));
  page.on("request", (r) => {
    const to = new URL(r.url());
    if (!["data:", "blob:"].includes(to.protocol) && to.origin !== new URL(url).origin) problems.push(`request: ${r.url()}`);
  });
  await page.goto(url);
  return page;
}

const text = (page, selector) => page.$eval(selector, (e) => e.textContent);
const until = (page, f, ...args) => page.waitForFunction(f, WAIT, ...args);

async function ask(page, question) {
  await page.click("#question");
  await page.keyboard.type(question);
  await page.keyboard.press("Enter");
}

const answered = (page, n) => until(page, (count) => {
  const all = document.querySelectorAll(".message.assistant");
  return all.length === count && !document.querySelector(".message.open");
}, n);

const lastAnswer = (page) => page.$$eval(".message.assistant", (all) => all.at(-1).parts.text.textContent);

async function checkAccess(page, what) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run());
  const said = found.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`);
  assert.deepEqual(said, [], `accessibility of ${what}`);
}

const picture = (page, name) => page.screenshot({ path: `${env.PICTURES}/${name}.png` });

const button = async (page, name, root = "body") => {
  const handle = await page.evaluateHandle((n, r) => [...document.querySelectorAll(`${r} button`)].filter((b) => b.textContent === n && b.checkVisibility()).at(-1), name, root);
  assert.ok(handle.asElement(), `a button ${name}`);
  await handle.asElement().click();
};

const steps = [];
const step = (name, run) => steps.push([name, run]);
let page;

step("the swarm is seen", async () => {
  page = await open(env.OPEN);
  await until(page, () => document.getElementById("health").textContent === "3 nodes, atlas:q80");
  assert.equal(await page.$eval("#model", (s) => s.value), "atlas:q80");
  await until(page, () => document.querySelectorAll("#map-picture g.node").length === 3 && document.querySelector("#map-picture .way"));
  await checkAccess(page, "an empty page");
});

step("a question is answered", async () => {
  await ask(page, "What is the capital of France?");
  await answered(page, 1);
  assert.match(await lastAnswer(page), /Paris/);
  const foot = await text(page, ".message.assistant .foot");
  assert.match(foot, /\d+ tokens, [\d.,]+ tokens\/s \(predicted [\d.,]+\), first word after/);
  assert.equal(await page.$eval(".chat-name[aria-current]", (e) => e.textContent), "What is the capital of France?");
});

step("thinking is folded, opens, and can be switched off", async () => {
  const fold = ".message.assistant details.thinking";
  assert.equal(await page.$eval(fold, (e) => e.open || e.hidden), false);
  await page.click(`${fold} summary`);
  assert.equal(await page.$eval(fold, (e) => e.open), true);
  assert.ok((await text(page, `${fold} .text`)).length > 3);
  await page.select("#think", "off");
  await ask(page, "What is the capital of Japan?");
  await answered(page, 2);
  assert.match(await lastAnswer(page), /Tokyo/);
  assert.equal(await page.$$eval(fold, (all) => all.at(-1).hidden), true);
  await page.select("#think", "");
});

step("the way of the answer is on the map, measured", async () => {
  const map = await text(page, "#map-stages");
  assert.match(map, /0-2swm1.*3-5swm1.*6-7swm1.*head/s);
  assert.match(map, /[\d.,]+ \([\d.,]+\)/);
  assert.match(await text(page, "#map-speed"), /Predicted[\d.,]+ tokens\/sAchieved[\d.,]+ tokens\/sFirst token.*predicted, .*achieved/);
  assert.match(await text(page, "#map-log"), /goes through 3 nodes/);
  assert.equal(await page.$$eval("#map-picture .computes", (all) => all.length), 3);
  assert.ok(!/127\.0\.0\.1/.test(await text(page, "body")), "an address is shown");
  await checkAccess(page, "a page with answers");
});

step("an answer is stopped, and retried", async () => {
  order("delay 300");
  await ask(page, "Tell me about Germany.");
  await until(page, () => document.querySelector(".message.open .text")?.parentElement && (document.querySelector(".message.open").parts.text.textContent || document.querySelector(".message.open").parts.reasoning.textContent).length > 5);
  await until(page, () => document.querySelector("#map-picture .dot.moves") && document.querySelector("#map-picture g.lit"));
  await picture(page, "answering");
  await button(page, "Stop");
  await answered(page, 3);
  assert.match(await page.$$eval(".message.assistant .foot", (all) => all.at(-1).textContent), /stopped/);
  order("delay 5");
  await button(page, "Retry");
  await answered(page, 3);
  assert.match(await lastAnswer(page), /Berlin/);
  assert.ok(!/stopped/.test(await page.$$eval(".message.assistant .foot", (all) => all.at(-1).textContent)));
});

step("a question is edited", async () => {
  await page.click("#new-chat");
  await ask(page, "What is the capital of Germany?");
  await answered(page, 1);
  await page.$$eval(".message.user", (all) => all.at(-1).querySelector("button").click());
  const area = ".message.user textarea";
  await until(page, (a) => document.activeElement === document.querySelector(a), area);
  await page.$eval(area, (e) => (e.value = "What is the capital of Spain?"));
  await page.keyboard.press("Enter");
  await answered(page, 1);
  assert.match(await lastAnswer(page), /Madrid/);
  assert.ok(!/Germany/.test(await text(page, "#messages")));
});

step("conversations survive a reload, and are several", async () => {
  await page.click("#new-chat");
  await until(page, () => document.querySelectorAll(".message").length === 0);
  await ask(page, "What is the capital of Italy?");
  await answered(page, 1);
  await page.reload();
  await until(page, () => document.querySelectorAll("#chats li").length === 3);
  assert.match(await lastAnswer(page), /Rome/);
  await page.$$eval(".chat-name", (all) => all.find((b) => /France/.test(b.textContent)).click());
  await until(page, () => document.querySelectorAll(".message.assistant").length === 3);
  assert.match(await lastAnswer(page), /Berlin/);
});

step("a node dies in mid-answer: the same text, and the healing is seen", async () => {
  order("spare n1");
  await until(page, () => document.getElementById("health").textContent === "4 nodes, atlas:q80");
  await page.click("#new-chat");
  await page.select("#think", "off");
  await page.click("#open-settings");
  await page.$eval("#temperature", (e) => (e.value = "0"));
  await button(page, "Save", "#settings");
  await ask(page, "Tell me about Japan.");
  await answered(page, 1);
  const whole = await lastAnswer(page);
  order("delay 300");
  await button(page, "Retry");
  await until(page, () => document.querySelector(".message.open")?.parts.text.textContent.length > 5);
  const [used] = await page.$$eval("#map-stages table:first-of-type tbody tr", (rows) => rows.filter((r) => /3-5/.test(r.textContent)).map((r) => r.children[1].textContent));
  order("kill n1");
  await until(page, () => /took over layers 3-5/.test(document.getElementById("map-log").textContent) || !document.querySelector(".message.open"));
  if (!/took over/.test(await text(page, "#map-log"))) {
    // the answer went through the spare, which is alive: so the other is gone, and that is seen
    assert.notEqual(used, undefined);
  } else {
    await until(page, () => document.querySelector("#map-picture g.lost .note") && document.querySelector("#map-picture g.fresh .note"));
    await picture(page, "healing");
  }
  await answered(page, 1);
  assert.equal(await lastAnswer(page), whole, "the healed answer is another");
  order("delay 5");
});

step("a narrow screen, dark", async () => {
  await page.setViewport({ width: 390, height: 844, isMobile: true, hasTouch: true, deviceScaleFactor: 2 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }, { name: "prefers-reduced-motion", value: "reduce" }]);
  await page.reload();
  await until(page, () => /nodes/.test(document.getElementById("health").textContent));
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth <= innerWidth);
  assert.ok(await fits(), "the page is wider than the screen");
  await checkAccess(page, "the chat on a phone");
  await picture(page, "phone-chat");
  await page.click("#view-map");
  await until(page, () => document.querySelectorAll("#map-picture g.node").length >= 3);
  assert.ok(await fits(), "the map is wider than the screen");
  await checkAccess(page, "the map on a phone");
  await picture(page, "phone-map");
  await page.click("#open-side");
  await until(page, () => document.body.classList.contains("side-open"));
  await checkAccess(page, "the conversations on a phone");
  await picture(page, "phone-chats");
  await page.keyboard.press("Escape");
  await until(page, () => !document.body.classList.contains("side-open"));
  await page.setViewport({ width: 1400, height: 900 });
  await page.click("#view-chat").catch(() => {});
  await picture(page, "dark");
  await checkAccess(page, "the dark page");
});

step("no motion where none is wanted", async () => {
  order("delay 300");
  await page.click("#new-chat");
  await ask(page, "Tell me about Kenya.");
  await until(page, () => document.querySelector(".message.open")?.parts.text.textContent.length > 5);
  assert.equal(await page.$$eval("#map-picture .dot.moves", (all) => all.length), 0);
  await page.keyboard.press("Escape");
  await answered(page, 1);
  order("delay 5");
  await page.emulateMediaFeatures([]);
});

step("Markdown becomes elements, and HTML stays text", async () => {
  const id = await page.evaluate(() => {
    const key = Object.keys(localStorage).find((k) => k.startsWith("swarm.chat."));
    const chat = JSON.parse(localStorage.getItem(key));
    const content = "# Head\n\nA **b** `c` [d](https://example.org) [e](javascript:alert(1)) <img src=x onerror=\"document.title='broken'\">\n\n| x | y |\n|---|--:|\n| 1 | 2 |\n\n- one\n  - two\n\n> said\n\n```c\nint main(void) { return 0; }\n```\n";
    chat.messages = [{ role: "user", content: "<b>x</b>" }, { role: "assistant", content, reasoning: "<i>y</i>" }];
    chat.title = "<u>title</u>";
    chat.updated = Date.now() + 1000;
    localStorage.setItem(key, JSON.stringify(chat));
    return chat.id;
  });
  assert.ok(id);
  await page.reload();
  await until(page, () => document.querySelector(".message.assistant table"));
  const seen = await page.$eval(".message.assistant", (m) => ({
    head: m.querySelector("h3")?.textContent, strong: m.querySelector("strong")?.textContent,
    links: [...m.querySelectorAll("a")].map((a) => [a.href, a.rel, a.target]), images: document.images.length,
    cells: m.querySelectorAll("td, th").length, nested: m.querySelector("li li")?.textContent, quote: m.querySelector("blockquote")?.textContent,
    code: m.querySelector("pre code")?.textContent, lang: m.querySelector("figcaption span")?.textContent }));
  assert.deepEqual(seen, { head: "Head", strong: "b", links: [["https://example.org/", "noopener noreferrer nofollow", "_blank"]], images: 0,
    cells: 4, nested: "two", quote: "said", code: "int main(void) { return 0; }", lang: "c" });
  assert.equal(await page.title(), "swarm");
  assert.equal(await page.$$eval(".message b, .message i, .chats u", (all) => all.length), 0);
  await browser.defaultBrowserContext().overridePermissions(new URL(env.OPEN).origin, ["clipboard-read", "clipboard-write"]);
  await page.click(".code .copy");
  await until(page, () => document.querySelector(".code .copy").textContent === "Copied");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "int main(void) { return 0; }");
  await picture(page, "markdown");
  await checkAccess(page, "a page with Markdown");
});

step("all of it by keyboard", async () => {
  await page.evaluate(() => document.activeElement.blur());
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  const reached = new Set();
  for (let i = 0; i < 60; i++) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName));
  }
  for (const want of ["open-settings", "new-chat", "chat-name", "messages", "question", "model", "think", "send", "map", "SUMMARY"])
    assert.ok(reached.has(want), `${want} is not reached by Tab: ${[...reached]}`);
  assert.equal(problems.length, 0, problems.join("\n"));
});

step("deleting asks first", async () => {
  const count = () => page.$$eval("#chats li", (all) => all.length);
  const before = await count();
  await page.click("#chats li [aria-label^=Delete]");
  await button(page, "Cancel", "#confirm");
  assert.equal(await count(), before);
  await page.click("#chats li [aria-label^=Delete]");
  await button(page, "Delete", "#confirm");
  await until(page, (n) => document.querySelectorAll("#chats li:not(:has([aria-current]))").length <= n - 1, before);
  await page.click("#delete-all");
  await button(page, "Delete", "#confirm");
  await until(page, () => Object.keys(localStorage).every((k) => !k.startsWith("swarm.chat.")));
  await page.close();
});

step("a key is asked for, and works", async () => {
  page = await open(env.KEYED);
  await until(page, () => document.getElementById("settings").open);
  assert.match(await text(page, "#key-why"), /wants an API key/);
  await checkAccess(page, "the settings");
  await picture(page, "settings");
  await page.type("#key", "secret-key-of-anna-1");
  await button(page, "Save", "#settings");
  await until(page, () => /atlas:q80/.test(document.getElementById("health").textContent));
  await ask(page, "What is the capital of France?");
  await answered(page, 1);
  assert.match(await lastAnswer(page), /Paris/);
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes("secret")), false);
  await page.close();
  // a browser says 401 on its console by itself
  problems.splice(0, problems.length, ...problems.filter((p) => !/401/.test(p)));
});

step("a limit says when to come back", async () => {
  page = await open(env.SCARCE);
  await until(page, () => /atlas:q80/.test(document.getElementById("health").textContent));
  await ask(page, "What is the capital of France?");
  await answered(page, 1);
  await ask(page, "What is the capital of Spain?");
  await answered(page, 2);
  assert.match(await page.$$eval(".problem", (all) => all.at(-1).textContent), /More than 1 requests an hour\. Try again in \d+ s\./);
  await page.close();
  problems.splice(0, problems.length, ...problems.filter((p) => !/429/.test(p)));
});

let status = 0;
for (const [name, run] of steps) {
  if (!name.includes(env.ONLY ?? "")) continue;
  try {
    await run();
    assert.deepEqual(problems, []);
    console.log(`ok: ${name}`);
  } catch (e) {
    console.error(`FAILED: ${name}: ${e.stack}`);
    if (page && !page.isClosed()) {
      await picture(page, "failed").catch(() => {});
      console.error(await page.evaluate(() => `${document.getElementById("health").textContent} | ${document.getElementById("messages").innerText.slice(-500)} | ${document.activeElement.outerHTML.slice(0, 80)} ${document.getElementById("question").value} ${document.getElementById("settings").open} | ${document.getElementById("map-log").innerText}`).catch(() => ""));
    }
    status = 1;
    break;
  }
}
await browser.close();
process.exit(status);
