// dom.js - elements without HTML from strings: text is text, whoever wrote it.

export const $ = (id) => document.getElementById(id);

// el("p", {class: "x", onclick: f, "aria-label": "y"}, "text", child, ...)
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// Said to who listens rather than looks.
export function announce(text) {
  $("status").textContent = text;
}

export function number(x, digits = 1) {
  return x.toLocaleString("en", { maximumFractionDigits: digits });
}

// Milliseconds, as exactly as anybody wants to know.
export function ms(x) {
  if (x >= 10000) return `${number(x / 1000)} s`;
  return `${inMs(x)} ms`;
}

export function inMs(x) {
  return number(x, x < 10 ? 2 : x < 100 ? 1 : 0);
}
