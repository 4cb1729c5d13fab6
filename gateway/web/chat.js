// chat.js - one conversation: its messages, and the answer as it comes.
import { $, el, announce, number, ms } from "./dom.js";
import { render, copy } from "./render.js";
import { ApiError } from "./api.js";
import { plural } from "./swarm.js";

export class ChatView {
  #chat = null;
  #abort = null; // of the answer under way
  #frame = 0;

  // host: {api, swarm, settings(), save(chat), onAnswer(), onSwarm(), onKeyWanted(why)}
  constructor(host) {
    this.host = host;
  }

  get isAnswering() {
    return this.#abort !== null;
  }

  get id() {
    return this.#chat?.id ?? null;
  }

  show(chat) {
    this.stop();
    this.#chat = chat;
    this.#drawAll();
    $("messages").scrollTop = $("messages").scrollHeight;
  }

  stop() {
    this.#abort?.abort();
  }

  // --- what it looks like ---

  #drawAll() {
    const { messages } = this.#chat;
    $("messages").replaceChildren(...messages.map((m, i) => this.#message(m, i)));
    if (!messages.length) $("messages").append(el("p", { class: "empty" }, "Ask anything. The answer is computed by the PCs on the map, a few layers on each."));
  }

  #message(m, i) {
    return m.role === "user" ? this.#question(m, i) : this.#answer(m, i);
  }

  #question(m, i) {
    return el("article", { class: "message user", "aria-label": "You" },
      el("div", { class: "text plain-text" }, m.content),
      el("div", { class: "tools" }, this.#button("Edit", () => this.#edit(i))));
  }

  #answer(m, i) {
    const reasoning = el("div", { class: "text" }), text = el("div", { class: "text" });
    const summary = el("summary", {}, "Thinking");
    const fold = el("details", { class: "thinking" }, summary, reasoning);
    const foot = el("p", { class: "foot" }), tools = el("div", { class: "tools" });
    const problem = el("p", { class: "problem", role: "alert" });
    const article = el("article", { class: "message assistant", "aria-label": "Answer" }, fold, text, problem, foot, tools);
    article.parts = { fold, summary, reasoning, text, foot, tools, problem };
    this.#fillAnswer(article, m, i);
    return article;
  }

  #fillAnswer(article, m, i) {
    const p = article.parts, isLast = i === this.#chat.messages.length - 1, isOpen = isLast && this.isAnswering;
    p.fold.hidden = !m.reasoning;
    if (m.reasoning) render(p.reasoning, m.reasoning);
    p.summary.textContent = isOpen && !m.content ? "Thinking ..." : "Thinking";
    render(p.text, m.content);
    article.classList.toggle("open", isOpen);
    article.setAttribute("aria-busy", String(isOpen));
    p.foot.textContent = footOf(m, isOpen);
    if (p.problem.textContent !== (m.problem ?? "")) p.problem.textContent = m.problem ?? "";
    p.problem.hidden = !m.problem;
    const wanted = isOpen ? "" : isLast ? "copy retry" : "copy";
    if (p.tools.dataset.has === wanted) return;
    p.tools.dataset.has = wanted;
    const copying = this.#button("Copy", () => copy(m.content, copying));
    p.tools.replaceChildren(...(isOpen ? [] : [copying]), ...(wanted.includes("retry") ? [this.#button("Retry", () => this.#retry(i))] : []));
  }

  #button(text, onclick) {
    return el("button", { type: "button", class: "plain", onclick }, text);
  }

  // Once a frame is often enough.
  #redraw() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const list = $("messages"), i = this.#chat.messages.length - 1, last = list.lastElementChild;
      const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
      if (last?.parts) this.#fillAnswer(last, this.#chat.messages[i], i);
      if (follows) list.scrollTop = list.scrollHeight;
    });
  }

  // --- asking ---

  ask(text) {
    this.#chat.messages.push({ role: "user", content: text });
    this.#run();
  }

  #retry(i) {
    if (this.isAnswering) return;
    this.#chat.messages.length = i; // that answer, and nothing comes after it
    this.#run();
  }

  #edit(i) {
    if (this.isAnswering) return;
    const article = $("messages").children[i], m = this.#chat.messages[i];
    const area = el("textarea", { "aria-label": "Edit your question", rows: Math.min(8, m.content.split("\n").length + 1) });
    area.value = m.content;
    const send = () => {
      const text = area.value.trim();
      if (!text) return;
      this.#chat.messages.length = i;
      this.ask(text);
    };
    area.addEventListener("keydown", (e) => {
      if (e.key === "Escape") this.#drawAll();
      if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
        e.preventDefault();
        send();
      }
    });
    const later = this.#chat.messages.length - i - 1;
    article.replaceChildren(area, el("div", { class: "tools" },
      later ? el("span", { class: "small" }, `Replaces ${plural(later, "later message")}.`) : "",
      this.#button("Cancel", () => this.#drawAll()), this.#button("Ask again", send)));
    area.focus();
  }

  #body() {
    const s = this.host.settings(), messages = [];
    if (s.system) messages.push({ role: "system", content: s.system });
    for (const m of this.#chat.messages) if (m.content) messages.push({ role: m.role, content: m.content });
    const body = { messages };
    if ($("model").value) body.model = $("model").value;
    if ($("think").value) body.enable_thinking = $("think").value === "on";
    if (s.temperature !== undefined && s.temperature !== "") body.temperature = Number(s.temperature);
    return body;
  }

  async #run() {
    const chat = this.#chat, body = this.#body();
    const m = { role: "assistant", content: "", reasoning: "", model: body.model ?? "" };
    const abort = (this.#abort = new AbortController());
    chat.messages.push(m);
    this.host.swarm.begin();
    this.#drawAll();
    $("messages").scrollTop = $("messages").scrollHeight;
    this.host.onAnswer(chat);
    this.host.save(chat);
    announce("Asking.");
    const began = performance.now();
    try {
      for await (const e of this.host.api.ask(body, abort.signal)) this.#hear(m, e, began);
      announce(`The answer is complete, ${plural(m.tokens ?? 0, "token")}.`);
    } catch (e) {
      this.#fail(m, e);
    }
    m.updated = Date.now();
    if (!m.content && !m.reasoning && !m.problem && !m.isStopped) m.problem = "The answer is empty. Retry asks again.";
    this.#abort = null;
    this.host.swarm.end();
    this.host.save(chat);
    if (chat === this.#chat) this.#redraw();
    this.host.onAnswer(chat);
  }

  #fail(m, e) {
    if (e.name === "AbortError") {
      m.isStopped = true;
      announce("Stopped.");
    } else {
      m.problem = e instanceof ApiError ? e.message : `This page failed: ${e.message}. Please reload it.`;
      if (!(e instanceof ApiError)) console.error(e);
      if (e.status === 401) this.host.onKeyWanted(m.problem);
    }
  }

  #hear(m, e, began) {
    const isFirst = !m.content && !m.reasoning;
    if (e.kind === "text") m.content += e.text;
    if (e.kind === "reasoning") m.reasoning += e.text;
    if (isFirst && (m.content || m.reasoning)) m.firstMs = performance.now() - began;
    if (e.kind === "finish") m.finish = e.why;
    if (e.kind === "usage") m.tokens = e.usage.completion_tokens;
    if (e.kind === "swarm") this.#hearSwarm(m, e);
    if (m.content || m.reasoning) delete m.waits;
    this.#redraw();
  }

  #hearSwarm(m, e) {
    if (e.note) m.waits = e.note;
    if (e.note) announce(e.note);
    this.host.swarm.hear(e, Date.now());
    const speed = this.host.swarm.speed();
    if (this.host.swarm.tokens) m.tokens = this.host.swarm.tokens;
    if (speed?.achieved) m.rate = speed.achieved;
    if (speed?.predicted) m.predicted = speed.predicted;
    if (speed?.heals) m.heals = speed.heals;
    this.host.onSwarm();
  }
}

// "67 tokens, 31.2 tokens/s (predicted 29.9), first after 120 ms"
function footOf(m, isOpen) {
  const parts = [];
  if (isOpen && m.waits) parts.push(m.waits);
  else if (isOpen && !m.content && !m.reasoning) parts.push("asking ...");
  if (m.tokens) parts.push(plural(m.tokens, "token"));
  if (m.rate) parts.push(`${number(m.rate)} tokens/s${m.predicted ? ` (predicted ${number(m.predicted)})` : ""}`);
  if (m.firstMs) parts.push(`first word after ${ms(m.firstMs)}`);
  if (m.heals) parts.push(`healed ${plural(m.heals, "time")}`);
  if (m.finish === "length") parts.push("cut off: as long as it may be");
  if (m.isStopped) parts.push("stopped");
  return parts.join(", ");
}
