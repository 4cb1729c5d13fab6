// The page's other parts that need no browser: events, conversations, the swarm's state, words.
import test from "node:test";
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { EventReader } from "../../gateway/web/sse.js";
import { kindsOf, explain } from "../../gateway/web/api.js";
import { Store, newChat, titleOf, toMarkdown } from "../../gateway/web/store.js";
import { Swarm, holdsText, layersText } from "../../gateway/web/swarm.js";

globalThis.crypto ??= webcrypto; // Node.js 18

const STREAM = ": a comment\n\ndata: {\"a\": 1}\n\nevent: swarm\r\ndata: one\r\ndata: two\r\n\r\n: more\ndata:three\n\ndata: cut";

test("events, however they are cut", () => {
  const whole = [{ event: "message", data: "{\"a\": 1}" }, { event: "swarm", data: "one\ntwo" }, { event: "message", data: "three" }];
  assert.deepEqual(new EventReader().feed(STREAM), whole);
  for (let size = 1; size < 12; size++) {
    const reader = new EventReader(), got = [];
    for (let i = 0; i < STREAM.length; i += size) got.push(...reader.feed(STREAM.slice(i, i + size)));
    assert.deepEqual(got, whole, `pieces of ${size}`);
  }
});

test("what an event means", () => {
  const kinds = (data, event = "message") => [...kindsOf({ event, data: JSON.stringify(data) })];
  const delta = (d, finish = null) => ({ choices: [{ index: 0, delta: d, finish_reason: finish }] });
  assert.deepEqual(kinds(delta({ role: "assistant", content: "" })), []);
  assert.deepEqual(kinds(delta({ content: "x" })), [{ kind: "text", text: "x" }]);
  assert.deepEqual(kinds(delta({ reasoning_content: "y" })), [{ kind: "reasoning", text: "y" }]);
  assert.deepEqual(kinds(delta({}, "stop")), [{ kind: "finish", why: "stop" }]);
  assert.deepEqual(kinds({ note: "n" }, "swarm"), [{ kind: "swarm", note: "n" }]);
  assert.deepEqual(kinds({ choices: [], usage: { completion_tokens: 3 } }), [{ kind: "usage", usage: { completion_tokens: 3 } }]);
  assert.throws(() => kinds({ error: { message: "gone" } }), /Gone\. Try again/);
});

test("errors say what to do", () => {
  assert.match(explain(401, { message: "this gateway wants an API key" }, 0), /^This gateway wants an API key\. Enter a key in Settings\.$/);
  assert.match(explain(429, { message: "more than 10 requests an hour" }, 360), /Try again in 360 s/);
  assert.match(explain(503, null, 0), /Try again in a moment/);
  assert.match(explain(400, { message: "x", code: "context_length_exceeded" }, 0), /start a new chat/);
  assert.match(explain(418, null, 0), /418/);
});

class Memory {
  #map = new Map();
  constructor(room = Infinity) { this.room = room; }
  get length() { return this.#map.size; }
  key(i) { return [...this.#map.keys()][i]; }
  getItem(k) { return this.#map.get(k) ?? null; }
  removeItem(k) { this.#map.delete(k); }
  setItem(k, v) {
    if (v.length > this.room) throw new Error("QuotaExceededError");
    this.#map.set(k, v);
  }
}

test("conversations are kept, listed and forgotten", () => {
  const store = new Store(new Memory(), new Memory());
  const a = newChat(1), b = newChat(2);
  assert.notEqual(a.id, b.id);
  a.messages.push({ role: "user", content: "What is\nthis?" }, { role: "assistant", content: "That." });
  a.title = titleOf(a);
  assert.ok(store.save(a) && store.save(b));
  assert.deepEqual(store.list().map((c) => c.id), [b.id, a.id]);
  assert.equal(store.load(a.id).title, "What is this?");
  assert.equal(toMarkdown(a), "# What is this?\n\n## You\n\nWhat is\nthis?\n\n## Answer\n\nThat.\n");
  store.remove(a.id);
  assert.equal(store.load(a.id), null);
  store.local.setItem("swarm.chat.bad", "{not json");
  store.local.setItem("swarm.chat.odd", "{\"id\": \"odd\"}");
  assert.deepEqual(store.list().map((c) => c.id), [b.id]);
  assert.equal(new Store(new Memory(10), new Memory()).save(b), false);
});

test("a key is kept for the session unless it is to stay", () => {
  const store = new Store(new Memory(), new Memory());
  store.setKey("k", false);
  assert.deepEqual([store.key(), store.keepsKey(), store.local.length], ["k", false, 0]);
  store.setKey("k2", true);
  assert.deepEqual([store.key(), store.keepsKey(), store.session.length], ["k2", true, 0]);
  store.setKey("", true);
  assert.equal(store.key(), "");
});

const stage = (id, lo, hi) => ({ id, lo, hi, layer_us: 1000, hop_us: 20000, hop_known: true });
const plan = (...stages) => ({ stages, home_us: 20000, head_us: 500, token_us: 70000, tokens_per_s: 14.3 });
const node = (id, ...layers) => ({ id, state: "active", layers, layer_us: 1000, sessions: 0 });
const mapOf = (...nodes) => ({ up: true, why: "", model: "m", in_flight: 0, swarm: { layers: 8, nodes, more: 0 }, plan: plan(stage("a", 0, 4), stage("b", 4, 8)) });

test("the swarm's state through an answer that heals", () => {
  const s = new Swarm();
  assert.equal(s.words(), "Nothing is known yet.");
  s.setMap(mapOf(node("a", 0, 4), node("b", 4, 8), node("c", 4, 8)), 0);
  assert.match(s.words(), /An answer would go through layers 0-3 on a, then layers 4-7 on b/);
  assert.deepEqual(s.rows().map((r) => r.id), ["a", "b", "c"]);
  s.begin();
  s.hear({ plan: plan(stage("a", 0, 4), stage("b", 4, 8)) }, 1);
  s.hear({ plan: { tokens: 10, now: { tokens_per_s: 13, home_ms: 21, pick_ms: 5,
    stages: [{ lo: 0, hi: 4, steps: 10, compute_ms: 40, wait_ms: 0, hop_ms: 19 }, { lo: 4, hi: 8, steps: 10, compute_ms: 45, wait_ms: 5 }] } } }, 2);
  const hops = s.hops();
  assert.deepEqual([hops[0].way, hops[0].work, hops[1].way, hops[1].work, hops[2].way, hops[2].work], [19, 4, 20, 5, 21, 0.5]);
  assert.deepEqual([hops[0].isWayMeasured, hops[1].isWayMeasured], [true, false]);
  assert.equal(s.speed().achieved, 13);
  s.hear({ note: "b is lost" }, 3);
  s.hear({ plan: plan(stage("a", 0, 4), stage("c", 4, 8)) }, 4);
  const rows = Object.fromEntries(s.rows().map((r) => [r.id, r]));
  assert.deepEqual([rows.b.state, rows.c.isFresh, rows.c.stage], ["lost", true, 1]);
  assert.deepEqual(s.log.map((l) => l.text), ["The answer goes through 2 nodes.", "b is lost", "c took over layers 4-7."]);
  s.setMap(mapOf(node("a", 0, 4), node("c", 4, 8)), 1000);
  s.begin();
  s.setMap(mapOf(node("a", 0, 4), node("c", 4, 8)), 2000);
  assert.equal(s.rows().find((r) => r.id === "b").state, "active", "the plan of the map still has it");
  s.setMap({ up: false, why: "no reason", model: "m", swarm: null, plan: null }, 100000);
  assert.match(s.words(), /does not answer now: no reason/);
  assert.deepEqual(s.rows(), []);
});

test("what a node holds, in words", () => {
  assert.equal(holdsText({ layers: [0, 3, 5, 6], ends: true }), "layers 0-2; layer 5; the ends");
  assert.equal(holdsText({ parts: [["experts", 3, 6, 0, 64], ["trunk", 1, 2, 0, 1]] }), "experts 0-63 of layers 3-5; trunk of layer 1");
  assert.equal(holdsText({}), "nothing yet");
  assert.equal(layersText(3, 4), "layer 3");
});
