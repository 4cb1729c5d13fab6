// render.js - the tree of markdown.js as elements.
import { el, announce } from "./dom.js";
import { parse } from "./markdown.js";

// Show `text` in `root`.  Blocks that are as they were stay, so that a selection in them does.
export function render(root, text) {
  const fresh = parse(text);
  const had = root.blocks ?? [];
  const keys = fresh.map((b) => JSON.stringify(b));
  let same = 0;
  while (same < keys.length && keys[same] === had[same]) same++;
  while (root.childNodes.length > same) root.lastChild.remove();
  for (const b of fresh.slice(same)) root.append(block(b));
  root.blocks = keys;
}

function block(b) {
  switch (b.type) {
  case "heading": return el(`h${Math.min(b.level + 2, 6)}`, {}, spans(b.spans));
  case "code": return codeBlock(b);
  case "list": return el(b.ordered ? "ol" : "ul", { start: b.ordered && b.start !== 1 ? b.start : null }, b.items.map(item));
  case "quote": return el("blockquote", {}, b.blocks.map(block));
  case "rule": return el("hr");
  case "table": return table(b);
  default: return el("p", {}, spans(b.spans));
  }
}

// An item of one paragraph is its text.
function item(blocks) {
  const [first, ...rest] = blocks;
  if (first?.type === "paragraph") return el("li", {}, spans(first.spans), rest.map(block));
  return el("li", {}, blocks.map(block));
}

function table(b) {
  const row = (cells, name) => el("tr", {}, cells.map((c, i) =>
    el(name, { class: `to-${b.align[i]}`, scope: name === "th" ? "col" : null }, spans(c))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table" },
    el("table", {}, el("thead", {}, row(b.head, "th")), el("tbody", {}, b.rows.map((r) => row(r, "td")))));
}

function codeBlock(b) {
  const button = el("button", { type: "button", class: "plain copy", onclick: () => copy(b.text, button) }, "Copy");
  return el("figure", { class: "code" },
    el("figcaption", {}, el("span", {}, b.lang || "code"), button),
    el("pre", { tabindex: "0", role: "region", "aria-label": `${b.lang || "Code"}` }, el("code", {}, b.text)));
}

export async function copy(text, button) {
  let said = "Copied";
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    said = copyOldWay(text) ? "Copied" : "Select and copy it by hand";
  }
  const before = button.textContent;
  button.textContent = said;
  announce(said);
  setTimeout(() => (button.textContent = before), 1500);
}

// Where a page may not write to the clipboard (http, not on this machine).
function copyOldWay(text) {
  const area = el("textarea", { class: "hidden", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

function spans(list) {
  return list.map((s) => {
    if (typeof s === "string") return s;
    switch (s.type) {
    case "code": return el("code", {}, s.text);
    case "break": return el("br");
    case "link": return el("a", { href: s.href, target: "_blank", rel: "noopener noreferrer nofollow" }, spans(s.spans));
    default: return el(s.type, {}, spans(s.spans));
    }
  });
}
