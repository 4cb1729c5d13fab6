// app.js - the page: which conversation is shown, what the buttons do, when the map is asked for.
import { $, el, announce } from "./dom.js";
import { Api, ApiError } from "./api.js";
import { ChatView } from "./chat.js";
import { MapView } from "./map.js";
import { Store, newChat, titleOf, toMarkdown } from "./store.js";
import { Swarm, plural } from "./swarm.js";

const MAP_MS = 2000, MAP_HIDDEN_MS = 10000;

const store = new Store(localStorage, sessionStorage);
const swarm = new Swarm();
const api = new Api(() => store.key());
const map = new MapView(swarm);
let settings = store.settings();
let current = null;
let isKeyWanted = false;

const view = new ChatView({
  api,
  swarm,
  settings: () => settings,
  save: saveChat,
  onAnswer: () => {
    $("stop").hidden = !view.isAnswering;
    $("send").hidden = view.isAnswering;
    map.draw();
  },
  onSwarm: () => map.draw(),
  onKeyWanted: (why) => openSettings(why),
});

// --- conversations ---

function saveChat(chat) {
  if (chat.title === "New chat") chat.title = titleOf(chat);
  chat.updated = Date.now();
  if (!store.save(chat)) announce("This browser keeps no more: export and delete some conversations.");
  drawChats();
}

function drawChats() {
  const chats = store.list();
  if (current && !chats.some((c) => c.id === current.id)) chats.unshift(current);
  $("chats").replaceChildren(...chats.map((c) => el("li", {},
    el("button", { type: "button", class: "chat-name", "aria-current": c.id === current?.id ? "true" : null, onclick: () => openChat(c.id) }, c.title),
    ...(c.id === current?.id ? toolsOf(c) : []))));
}

function toolsOf(c) {
  const tool = (what, onclick) => el("button", { type: "button", class: "plain", "aria-label": `${what} ${c.title}`, onclick }, what);
  return [tool("Export", () => exportOne(c.id)), tool("Delete", () => deleteOne(c))];
}

function openChat(id) {
  current = store.load(id) ?? newChat(Date.now());
  view.show(current);
  drawChats();
  showSide(false);
  show("chat");
  $("question").focus({ preventScroll: true });
}

function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function exportOne(id) {
  const chat = store.load(id) ?? current;
  const name = chat.title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "chat";
  download(`${name}.md`, "text/markdown", toMarkdown(chat));
}

async function sure(question) {
  $("confirm-text").textContent = question;
  $("confirm").returnValue = "no";
  $("confirm").showModal();
  await new Promise((done) => $("confirm").addEventListener("close", done, { once: true }));
  return $("confirm").returnValue === "yes";
}

async function deleteOne(c) {
  if (!(await sure(`Delete "${c.title}"? It is nowhere else.`))) return;
  if (c.id === view.id) view.stop();
  store.remove(c.id);
  announce("Deleted.");
  if (c.id === current?.id) openChat("");
  else drawChats();
}

async function deleteAll() {
  const chats = store.list();
  if (!chats.length || !(await sure(`Delete all ${plural(chats.length, "conversation")}? They are nowhere else.`))) return;
  view.stop();
  for (const c of chats) store.remove(c.id);
  announce("Deleted.");
  openChat("");
}

// --- views ---

function show(name) {
  document.body.dataset.view = name;
  $("view-chat").setAttribute("aria-pressed", String(name === "chat"));
  $("view-map").setAttribute("aria-pressed", String(name === "map"));
  map.draw();
}

function showSide(isOpen) {
  document.body.classList.toggle("side-open", isOpen);
  $("open-side").setAttribute("aria-expanded", String(isOpen));
}

// --- settings ---

function openSettings(why = "") {
  $("key-why").textContent = why;
  $("key-why").hidden = !why;
  $("key").value = store.key();
  $("keep-key").checked = store.keepsKey();
  $("system").value = settings.system ?? "";
  $("temperature").value = settings.temperature ?? "";
  $("theme").value = settings.theme ?? "";
  $("settings").returnValue = "";
  if (!$("settings").open) $("settings").showModal();
  if (why) $("key").focus();
}

function closeSettings() {
  if ($("settings").returnValue !== "save") return;
  store.setKey($("key").value.trim(), $("keep-key").checked);
  settings = { ...settings, system: $("system").value.trim(), temperature: $("temperature").value, theme: $("theme").value };
  store.saveSettings(settings);
  useTheme();
  isKeyWanted = false;
  lookAtSwarm();
}

function useTheme() {
  if (settings.theme) document.documentElement.dataset.theme = settings.theme;
  else delete document.documentElement.dataset.theme;
}

// --- the swarm ---

function sayHealth(state, text) {
  $("health").dataset.state = state;
  $("health").textContent = text;
}

function setModels(names) {
  const had = $("model").value || settings.model, select = $("model");
  if (names.join() === Array.from(select.options, (o) => o.value).join()) return;
  select.replaceChildren(...names.map((n) => el("option", { value: n }, n)));
  if (names.includes(had)) select.value = had;
}

async function lookAtSwarm() {
  try {
    swarm.setMap(await api.map(), Date.now());
    setModels(swarm.map.model ? await api.models() : []);
    const nodes = swarm.map.swarm?.nodes.length ?? 0;
    if (swarm.map.up) sayHealth("up", `${plural(nodes, "node")}, ${swarm.map.model}`);
    else sayHealth("down", "the swarm does not answer");
  } catch (e) {
    if (!(e instanceof ApiError)) throw e;
    sayHealth("down", e.status === 401 ? "a key is wanted" : "the gateway does not answer");
    if (e.status === 401 && !isKeyWanted) openSettings(e.message);
    isKeyWanted = e.status === 401;
  }
  map.draw();
}

async function watchSwarm() {
  if (!isKeyWanted) await lookAtSwarm();
  setTimeout(watchSwarm, document.hidden ? MAP_HIDDEN_MS : MAP_MS);
}

// --- the question ---

function grow() {
  const area = $("question");
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, innerHeight * 0.4)}px`;
}

function send(event) {
  event?.preventDefault();
  const text = $("question").value.trim();
  if (!text || view.isAnswering) return;
  $("question").value = "";
  grow();
  view.ask(text);
}

function listen() {
  const isTouch = matchMedia("(pointer: coarse)");
  $("composer").addEventListener("submit", send);
  $("question").addEventListener("input", grow);
  $("question").addEventListener("keydown", (e) => {
    if (e.key === "Enter" && !e.shiftKey && !e.isComposing && !isTouch.matches) send(e);
  });
  document.addEventListener("keydown", (e) => {
    if (e.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (document.body.classList.contains("side-open")) showSide(false);
    else view.stop();
  });
  $("stop").addEventListener("click", () => view.stop());
  $("new-chat").addEventListener("click", () => openChat(""));
  $("export-all").addEventListener("click", () =>
    download("swarm-conversations.json", "application/json", JSON.stringify(store.list().map((c) => store.load(c.id)), null, 1)));
  $("delete-all").addEventListener("click", deleteAll);
  $("open-side").addEventListener("click", () => showSide(!document.body.classList.contains("side-open")));
  $("view-chat").addEventListener("click", () => show("chat"));
  $("view-map").addEventListener("click", () => show("map"));
  $("open-settings").addEventListener("click", () => openSettings());
  $("settings").addEventListener("close", closeSettings);
  $("model").addEventListener("change", () => store.saveSettings((settings = { ...settings, model: $("model").value })));
  $("think").addEventListener("change", () => store.saveSettings((settings = { ...settings, think: $("think").value })));
  addEventListener("storage", (e) => Store.isChatKey(e.key) && drawChats());
}

useTheme();
listen();
$("think").value = settings.think ?? "";
openChat(store.list()[0]?.id ?? "");
watchSwarm();
