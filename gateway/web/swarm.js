// swarm.js - what the page knows of the swarm: the map that the gateway gives now and again, and what
// the events of the current answer say.  Pure; map.js draws it.

const REMEMBER_MS = 30000; // a node that has gone is shown so long

export class Swarm {
  map = null; // of /swarm/map
  plan = null; // of the current or last answer
  times = null; // of it: as far as it is, or in the end
  tokens = 0;
  isAnswering = false;
  log = []; // {at, text}
  #seen = new Map(); // id -> {node, at}
  #lost = new Set(); // ids that the current answer lost
  #fresh = new Set(); // ids that took over

  setMap(map, now) {
    this.map = map;
    for (const node of map.swarm?.nodes ?? []) this.#seen.set(node.id, { node, at: now });
    for (const [id, seen] of this.#seen) if (now - seen.at > REMEMBER_MS) this.#seen.delete(id);
  }

  begin() {
    this.plan = this.times = null;
    this.tokens = 0;
    this.isAnswering = true;
    this.#lost.clear();
    this.#fresh.clear();
    this.log = [];
  }

  // One {kind: "swarm"} of api.js.
  hear(event, now) {
    if (event.note) this.#say(event.note, now);
    if (event.plan?.stages) this.#hearPlan(event.plan, now);
    if (event.plan?.now) this.#hearTimes(event.plan.now, event.plan.tokens);
    if (event.done) this.#hearTimes(event.done, event.tokens);
  }

  end() {
    this.isAnswering = false;
  }

  #say(text, now) {
    if (this.log.at(-1)?.text === text) return;
    this.log.push({ at: now, text });
    if (this.log.length > 50) this.log.shift();
  }

  #hearPlan(plan, now) {
    const before = this.plan;
    this.plan = plan;
    this.times = null;
    if (!before) {
      this.#say(`The answer goes through ${plural(plan.stages.length, "node")}.`, now);
      return;
    }
    const ids = new Set(plan.stages.map((s) => s.id)), had = new Set(before.stages.map((s) => s.id));
    for (const s of before.stages) if (!ids.has(s.id)) this.#lost.add(s.id);
    for (const s of plan.stages) {
      this.#lost.delete(s.id);
      if (had.has(s.id)) continue;
      this.#fresh.add(s.id);
      this.#say(`${s.id} took over ${layersText(s.lo, s.hi)}.`, now);
    }
  }

  #hearTimes(times, tokens) {
    if (!times) return;
    this.times = times;
    this.tokens = tokens ?? this.tokens;
  }

  layers() {
    return this.map?.swarm?.layers ?? Math.max(0, ...(this.route()?.stages ?? []).map((s) => s.hi));
  }

  // The pipeline to draw: of the answer, else the one that would be taken now.
  route() {
    return this.plan ?? (this.map?.plan?.stages?.length ? this.map.plan : null);
  }

  // Nodes as rows: {id, node, state, stage}; those of the pipeline first, in its order.
  rows() {
    const now = new Set((this.map?.swarm?.nodes ?? []).map((n) => n.id));
    const stages = this.route()?.stages ?? [];
    const rows = stages.map((s, i) => this.#row(s.id, now, i));
    const others = [...this.#seen.keys()].filter((id) => !stages.some((s) => s.id === id));
    const firstLayer = (id) => this.#seen.get(id).node.layers?.[0] ?? this.#seen.get(id).node.parts?.[0]?.[1] ?? 999;
    others.sort((a, b) => firstLayer(a) - firstLayer(b) || (a < b ? -1 : 1));
    return [...rows, ...others.map((id) => this.#row(id, now, -1))];
  }

  #row(id, now, stage) {
    const node = this.#seen.get(id)?.node ?? { id };
    let state = node.state ?? "active";
    if (!now.has(id) && this.#seen.has(id)) state = "gone";
    if (stage >= 0 && state === "gone") state = "active"; // the answer knows better
    if (this.#lost.has(id)) state = "lost";
    return { id, node, state, stage, isFresh: this.#fresh.has(id) };
  }

  // What each stage and way of the pipeline takes for one token, in ms: measured when there is
  // anything, else predicted.  [{lo, hi, id, way, work, wayPlanned, workPlanned, isMeasured}], and
  // the way home last, with id null.
  hops() {
    const route = this.route();
    if (!route) return [];
    const times = route === this.plan ? this.times : null;
    const out = route.stages.map((s, i) => {
      const t = times?.stages?.[i];
      const wayPlanned = s.hop_us / 1000, workPlanned = (s.layer_us * (s.hi - s.lo)) / 1000;
      const work = t?.steps ? (t.compute_ms + t.wait_ms) / t.steps : workPlanned;
      return { id: s.id, lo: s.lo, hi: s.hi, way: t?.hop_ms ?? wayPlanned, work, wayPlanned, workPlanned,
        isMeasured: Boolean(t?.steps), isWayMeasured: t?.hop_ms !== undefined, together: s.together ?? 1 };
    });
    const head = route.head_us / 1000;
    out.push({ id: null, lo: 0, hi: 0, way: times?.home_ms ?? route.home_us / 1000, wayPlanned: route.home_us / 1000,
      work: times?.pick_ms && this.tokens ? times.pick_ms / this.tokens : head, workPlanned: head,
      isMeasured: Boolean(times), isWayMeasured: times?.home_ms !== undefined, together: 1 });
    return out;
  }

  // {predicted, achieved} in tokens/s, {firstPredicted, firstAchieved} in ms; achieved ones null
  // while nothing was measured.
  speed() {
    const route = this.route();
    if (!route) return null;
    const t = route === this.plan ? this.times : null;
    return {
      predicted: route.tokens_per_s,
      achieved: t && t.tokens_per_s > 0 ? t.tokens_per_s : null,
      firstPredicted: t?.predicted_first_token_ms ?? route.first_token?.[0]?.ms ?? null,
      firstAchieved: t?.first_token_ms ?? null,
      drafted: t?.drafted ?? 0, // tokens guessed ahead, which the prediction does not count on
      accepted: t?.accepted ?? 0,
      heals: t?.heals ?? 0,
      healMs: t?.heal_ms ?? 0,
    };
  }

  // The whole in one or two sentences, for who cannot see the picture.
  words() {
    if (!this.map) return "Nothing is known yet.";
    if (!this.map.up) return `The swarm does not answer now: ${this.map.why || "no reason is known"}.`;
    const nodes = this.map.swarm?.nodes ?? [];
    const count = nodes.length + (this.map.swarm?.more ?? 0);
    const holds = `${this.map.model}: ${plural(this.layers(), "layer")} on ${plural(count, "node")}.`;
    const route = this.route();
    if (!route) return `${holds} No pipeline goes through all layers now.`;
    const who = route.stages.map((s) => `${layersText(s.lo, s.hi)} on ${s.id}`).join(", then ");
    return `${holds} ${this.plan ? "The answer goes" : "An answer would go"} through ${who}.`;
  }
}

export function plural(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

// [lo, hi)
export function layersText(lo, hi) {
  return hi - lo === 1 ? `layer ${lo}` : `layers ${lo}-${hi - 1}`;
}

const PARTS = { trunk: "trunk", heads: "head groups", experts: "experts", dense: "dense parts" };

// What a node holds, in words: "layers 0-2; experts 0-63 of layers 3-5; the ends".
export function holdsText(node) {
  const out = [];
  for (let i = 0; i + 1 < (node.layers?.length ?? 0); i += 2) out.push(layersText(node.layers[i], node.layers[i + 1]));
  for (const [kind, lo, hi, from, to] of node.parts ?? []) {
    const items = kind === "trunk" ? "trunk" : `${PARTS[kind] ?? "parts"} ${from}${to - from > 1 ? `-${to - 1}` : ""}`;
    out.push(`${items} of ${layersText(lo, hi)}`);
  }
  if (node.ends) out.push("the ends");
  if (node.coming?.length) out.push(`fetching ${layersText(node.coming[0], node.coming[1])}`);
  return out.join("; ") || "nothing yet";
}
