// map.js - the swarm as a picture: layers from left to right, a row for each node with a bar over
// what it holds, and the way of a token through them.  The table beneath says the same in words.
import { $, el, svg, ms, inMs, number } from "./dom.js";
import { holdsText, layersText } from "./swarm.js";

const DOOR = 18; // where the coordinator is
const ROW = 46, TOP = 40, SIDE = 10, BAR = 12, ROWS_MAX = 40;
const CYCLE_MIN_MS = 1600, CYCLE_MAX_MS = 5000; // one token's way on the screen
const SHARE_MIN = 0.05; // of it, for what takes next to nothing

export class MapView {
  #swarm;
  #points = []; // of the way: {x, y, ms, row, isWork}
  #dot = null;
  #rows = [];
  #cycle = null; // {began, parts: [{until, from, to, row}]}
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #said = 0;

  constructor(swarm) {
    this.#swarm = swarm;
    new ResizeObserver(() => this.draw()).observe($("map-picture"));
    this.#still.addEventListener("change", () => this.draw());
  }

  draw() {
    const swarm = this.#swarm;
    $("map-words").textContent = swarm.words();
    this.#drawPicture();
    this.#drawSpeed();
    this.#drawStages();
    this.#drawLog();
    if (this.#cycle === null) this.#animate();
  }

  // --- the picture ---

  #drawPicture() {
    const root = $("map-picture"), width = Math.max(260, root.clientWidth), layers = this.#swarm.layers();
    const rows = this.#swarm.rows().slice(0, ROWS_MAX), height = TOP + rows.length * ROW + 6;
    this.#dot = null;
    this.#rows = [];
    if (!layers || !rows.length) {
      root.replaceChildren();
      return;
    }
    const x = (layer) => SIDE + ((width - 2 * SIDE) * layer) / layers;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": this.#swarm.words() });
    picture.append(...this.#axis(x, layers, width, height));
    rows.forEach((row, i) => {
      const group = this.#row(row, TOP + i * ROW, x, layers);
      this.#rows.push({ id: row.id, group });
      picture.append(group);
    });
    this.#addWay(picture, rows, x, layers);
    root.replaceChildren(picture);
  }

  #axis(x, layers, width, height) {
    const out = [], step = Math.max(1, Math.ceil((layers * 46) / width));
    for (let l = 0; l < layers; l += step) {
      out.push(svg("line", { class: "grid", x1: x(l), x2: x(l), y1: 16, y2: height - 4 }));
      out.push(svg("text", { class: "tick", x: x(l) + 2, y: 11 }, l === 0 ? "layer 0" : l));
    }
    return out;
  }

  #row(row, y, x, layers) {
    const { node, id, state } = row;
    const classes = ["node", state, row.stage >= 0 ? "used" : "", row.isFresh ? "fresh" : ""].join(" ");
    const group = svg("g", { class: classes }, svg("title", {}, `${id}: ${holdsText(node)}`));
    const notes = [node.here ? "the coordinator" : "", state === "active" ? "" : state, row.isFresh ? "took over" : "",
      row.stage < 0 && state === "active" ? "not in use" : ""].filter(Boolean);
    group.append(svg("text", { class: "name", x: SIDE, y: y + 13 }, id,
      svg("tspan", { class: "note", dx: 6 }, notes.join(", "))));
    const bar = (lo, hi, kind) => svg("rect", { class: kind, x: x(lo) + 1, y: y + 20, width: Math.max(3, x(hi) - x(lo) - 2), height: BAR, rx: 3 });
    for (let i = 0; i + 1 < (node.layers?.length ?? 0); i += 2)
      group.append(bar(node.layers[i], Math.min(layers, node.layers[i + 1]), "holds"));
    for (const [, lo, hi] of node.parts ?? []) group.append(bar(lo, Math.min(layers, hi), "parts"));
    if (node.coming?.length) group.append(bar(node.coming[0], Math.min(layers, node.coming[1]), "coming"));
    const stage = this.#swarm.route()?.stages[row.stage];
    if (stage) group.append(bar(stage.lo, stage.hi, "computes"));
    return group;
  }

  // From the coordinator's head through the stages and back.
  #addWay(picture, rows, x, layers) {
    const hops = this.#swarm.hops();
    this.#points = [];
    if (!hops.length) return;
    const at = (id) => rows.findIndex((r) => r.id === id);
    const points = [{ x: x(0), y: DOOR, way: 0 }];
    for (const h of hops.slice(0, -1)) {
      const i = at(h.id), y = TOP + i * ROW + 20 + BAR / 2;
      if (i < 0) return; // more rows than are drawn
      points.push({ x: x(h.lo), y, ms: h.way, row: -1, id: h.id });
      points.push({ x: x(h.hi), y, ms: h.work, row: i, id: h.id });
    }
    const home = hops.at(-1);
    points.push({ x: x(layers), y: DOOR, ms: home.way, row: -1, id: null });
    this.#points = points;
    const d = points.map((p, i) => `${i ? "L" : "M"}${p.x.toFixed(1)} ${p.y}`).join("");
    picture.append(svg("path", { class: "way", d }));
    hops.forEach((h, i) => {
      const from = points[2 * i], to = points[2 * i + 1];
      if (!from || !to || h.way <= 0.0005 || Math.abs(to.y - from.y) < 4) return;
      // between two rows, where no name is: below the bar that it leaves, above the last on the way home
      const isLeft = to.x > x(layers) * 0.75;
      picture.append(svg("text", { class: "hop", x: to.x + (isLeft ? -5 : 5), y: h.id === null ? from.y - 12 : from.y + (i ? 18 : 13),
        "text-anchor": isLeft ? "end" : "start" }, ms(h.way)));
    });
    this.#dot = svg("circle", { class: "dot", r: 5, cx: points[0].x, cy: points[0].y });
    picture.append(this.#dot);
  }

  // --- a token on its way ---

  #animate() {
    const wants = this.#swarm.isAnswering && !this.#still.matches && this.#points.length > 1 && !document.hidden;
    this.#dot?.classList.toggle("moves", wants);
    if (!wants) {
      this.#cycle = null;
      this.#light(null);
      return;
    }
    const now = performance.now();
    if (!this.#cycle || now >= this.#cycle.ends) this.#cycle = this.#newCycle(now);
    this.#moveDot((now - this.#cycle.began) / (this.#cycle.ends - this.#cycle.began));
    requestAnimationFrame(() => this.#animate());
  }

  #newCycle(now) {
    const total = this.#points.reduce((sum, p) => sum + (p.ms ?? 0), 0);
    const shown = Math.min(CYCLE_MAX_MS, Math.max(CYCLE_MIN_MS, total));
    return { began: now, ends: now + shown, slower: total > 0 ? shown / total : 0 };
  }

  // part: of the way in time, 0 .. 1; every piece of it has at least SHARE_MIN.
  #moveDot(part) {
    const points = this.#points, total = points.reduce((sum, p) => sum + (p.ms ?? 0), 0) || 1;
    const shares = points.slice(1).map((p) => Math.max(SHARE_MIN, (p.ms ?? 0) / total));
    let left = part * shares.reduce((a, b) => a + b, 0), i = 0;
    while (i < shares.length - 1 && left > shares[i]) left -= shares[i++];
    const from = points[i], to = points[i + 1], f = Math.min(1, left / shares[i]);
    this.#dot?.setAttribute("cx", from.x + (to.x - from.x) * f);
    this.#dot?.setAttribute("cy", from.y + (to.y - from.y) * f);
    this.#light(to.row >= 0 ? to.id : null);
  }

  #light(id) {
    for (const r of this.#rows) r.group.classList.toggle("lit", id !== null && r.id === id);
  }

  // --- the words ---

  #drawSpeed() {
    const s = this.#swarm.speed(), root = $("map-speed");
    if (!s) {
      root.replaceChildren();
      return;
    }
    const most = Math.max(s.predicted, s.achieved ?? 0, 0.001);
    const line = (what, rate, kind) => el("div", { class: "rate" }, el("dt", {}, what),
      el("dd", {}, rate === null ? "not measured yet" : `${number(rate)} tokens/s`,
        svg("svg", { class: "gauge", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
          svg("rect", { class: kind, width: (100 * (rate ?? 0)) / most, height: 6 }))));
    const first = [s.firstPredicted === null ? "" : `${ms(s.firstPredicted)} predicted`, s.firstAchieved === null ? "not measured yet" : `${ms(s.firstAchieved)} achieved`];
    const parts = [line("Predicted", s.predicted, "predicted"), line("Achieved", s.achieved, "achieved"),
      el("div", {}, el("dt", {}, "First token"), el("dd", {}, first.filter(Boolean).join(", ")))];
    if (s.drafted) parts.push(el("div", {}, el("dt", {}, "Guessed"), el("dd", {}, `${s.accepted} of ${s.drafted} tokens rightly, which the prediction does not count on`)));
    if (s.heals) parts.push(el("div", {}, el("dt", {}, "Healed"), el("dd", {}, `${s.heals} time${s.heals > 1 ? "s" : ""}, waiting ${ms(s.healMs)}`)));
    root.replaceChildren(el("dl", {}, parts));
  }

  #drawStages() {
    const hops = this.#swarm.hops(), root = $("map-stages");
    const rows = this.#swarm.rows();
    const cell = (value, planned, isMeasured) => el("td", {}, isMeasured ? inMs(value) : "-", " ", el("span", {}, `(${inMs(planned)})`));
    const stages = hops.map((h) => el("tr", {},
      el("th", { scope: "row" }, h.id ? layersText(h.lo, h.hi).replace(/^\S+ /, "") : "head"),
      el("td", {}, h.id ?? "coordinator", h.together > 1 ? ` with ${h.together - 1} more` : ""),
      cell(h.way, h.wayPlanned, h.isWayMeasured),
      cell(h.work, h.workPlanned, h.isMeasured)));
    const nodes = rows.map((r) => el("tr", {}, el("th", { scope: "row" }, r.id), el("td", { class: "wraps" }, holdsText(r.node)),
      el("td", { class: "wraps" }, r.state + (r.node.here ? ", coordinator" : "")), el("td", {}, r.node.rtt_us === undefined ? "-" : ms(r.node.rtt_us / 1000))));
    const more = this.#swarm.map?.swarm?.more ?? 0;
    root.replaceChildren(
      hops.length ? tableOf("The way of one token, and (as predicted)", ["Layers", "Node", "Way, ms", "Computing, ms"], stages) : "",
      nodes.length ? tableOf("Nodes", ["Node", "Holds", "State", "Round trip"], nodes) : "",
      more ? el("p", { class: "small" }, `And ${more} more.`) : "");
  }

  #drawLog() {
    const root = $("map-log"), log = this.#swarm.log;
    if (log.length < this.#said || log.length === 0) {
      root.replaceChildren();
      this.#said = 0;
    }
    for (; this.#said < log.length; this.#said++) {
      const { at, text } = log[this.#said];
      root.append(el("p", {}, el("time", {}, new Date(at).toLocaleTimeString("en-GB")), " ", text));
    }
  }
}

function tableOf(caption, head, rows) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, head.map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, rows)));
}
