// markdown.js - a text becomes a tree of blocks and spans.  Pure; render.js makes elements of it.
//
// The part of Markdown that models write: headings, paragraphs, lists, tables, quotes, code, rules;
// code, strong, emphasis, strike, links inside.  HTML is text.  An image is a link, for a page that
// asks nobody but its gateway loads none.  Whatever is not understood stays as it was written, and
// an unfinished text (it is shown while it comes) is read as far as it goes.
//
// block: {type: "heading", level, spans} | {type: "paragraph", spans} | {type: "code", lang, text}
//      | {type: "list", ordered, start, items: [[block]]} | {type: "quote", blocks} | {type: "rule"}
//      | {type: "table", align: [], head: [spans], rows: [[spans]]}
// span:  string | {type: "code", text} | {type: "strong" | "em" | "del", spans} | {type: "break"}
//      | {type: "link", href, spans}

const DEPTH_MAX = 8; // of lists and quotes in each other, and of spans
const LOOK_MAX = 1500; // characters to look ahead for the end of a span: no text takes square time

const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^`\s]*)[^`]*$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;
const DELIMITER = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

export function parse(text) {
  return blocks(text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n"), 0);
}

// --- blocks ---

function blocks(lines, depth) {
  const out = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) {
      at++;
      continue;
    }
    const read = depth < DEPTH_MAX ? readerOf(lines, at) : paragraph;
    const [block, next] = read(lines, at, depth);
    out.push(block);
    at = next;
  }
  return out;
}

function readerOf(lines, at) {
  const line = lines[at];
  if (FENCE.test(line)) return code;
  if (HEADING.test(line)) return heading;
  if (RULE.test(line)) return rule;
  if (QUOTE.test(line)) return quote;
  if (ITEM.test(line)) return list;
  if (isTable(lines, at)) return table;
  return paragraph;
}

function code(lines, at) {
  const [, indent, fence, lang] = FENCE.exec(lines[at]);
  const text = [];
  let i = at + 1;
  for (; i < lines.length; i++) {
    const close = lines[i].trim();
    if (close.length >= fence.length && close === fence[0].repeat(close.length)) break;
    text.push(lines[i].startsWith(indent) ? lines[i].slice(indent.length) : lines[i].trimStart());
  }
  return [{ type: "code", lang, text: text.join("\n") }, i + 1];
}

function heading(lines, at) {
  const [, marks, text] = HEADING.exec(lines[at]);
  return [{ type: "heading", level: marks.length, spans: inline(text ?? "") }, at + 1];
}

function rule(lines, at) {
  return [{ type: "rule" }, at + 1];
}

function quote(lines, at, depth) {
  const inner = [];
  let i = at;
  for (; i < lines.length && QUOTE.test(lines[i]); i++) inner.push(lines[i].replace(QUOTE, ""));
  return [{ type: "quote", blocks: blocks(inner, depth + 1) }, i];
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}

// Items of one kind at one indentation; what is indented below an item's mark is the item's.
function list(lines, at, depth) {
  const [, base, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const items = [];
  let i = at;
  while (i < lines.length) {
    const found = ITEM.exec(lines[i]);
    if (!found || found[1].length < base.length || found[1].length > base.length + 1 ||
        /\d/.test(found[2]) !== ordered || RULE.test(lines[i]))
      break;
    const item = [lines[i].slice(found[0].length)];
    const least = base.length + 2; // two are enough for a child, whatever the mark's width
    let wasEmpty = false;
    for (i++; i < lines.length; i++) {
      const isEmpty = !lines[i].trim();
      if (!isEmpty && indentOf(lines[i]) < least &&
          (wasEmpty || ITEM.test(lines[i]) || readerOf(lines, i) !== paragraph))
        break;
      item.push(lines[i].slice(Math.min(indentOf(lines[i]), found[0].length)));
      wasEmpty = isEmpty;
    }
    items.push(blocks(item, depth + 1));
  }
  return [{ type: "list", ordered, start: ordered ? parseInt(mark, 10) : 1, items }, i];
}

function cells(line) {
  const text = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return text.split(/(?<!\\)\|/).map((c) => c.trim().replace(/\\\|/g, "|"));
}

function isTable(lines, at) {
  return lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") &&
    DELIMITER.test(lines[at + 1]) && cells(lines[at]).length === cells(lines[at + 1]).length;
}

function table(lines, at) {
  const align = cells(lines[at + 1]).map((c) =>
    c.startsWith(":") && c.endsWith(":") ? "center" : c.endsWith(":") ? "right" : "left");
  const row = (line) => {
    const found = cells(line).slice(0, align.length);
    while (found.length < align.length) found.push("");
    return found.map(inline);
  };
  const rows = [];
  let i = at + 2;
  for (; i < lines.length && lines[i].includes("|"); i++) rows.push(row(lines[i]));
  return [{ type: "table", align, head: row(lines[at]), rows }, i];
}

function paragraph(lines, at) {
  const text = [lines[at].trimStart()];
  let i = at + 1;
  for (; i < lines.length && lines[i].trim(); i++) {
    const reader = readerOf(lines, i);
    if (reader !== paragraph) break;
    text.push(lines[i].trimStart());
  }
  return [{ type: "paragraph", spans: inline(text.join("\n").trimEnd()) }, i];
}

// --- spans ---

export function inline(text, depth = 0) {
  const out = [];
  let plain = "";
  const add = (span) => {
    if (plain) out.push(plain);
    plain = "";
    out.push(span);
  };
  for (let i = 0; i < text.length;) {
    const found = depth < DEPTH_MAX ? spanAt(text, i, depth) : null;
    if (found?.span) add(found.span);
    else plain += found ? found.text : text[i];
    i += found ? found.length : 1;
  }
  if (plain) out.push(plain);
  return out;
}

// What begins at i: {span, length}, or {text, length}: plain, but other than it was written.
function spanAt(text, i, depth) {
  switch (text[i]) {
  case "\\": return escape(text, i);
  case "\n": return { span: { type: "break" }, length: 1 };
  case " ": return /^ +\n/.test(text.slice(i, i + 8)) ? { text: "", length: 1 } : null;
  case "`": return codeSpan(text, i);
  case "*": case "_": case "~": return emphasis(text, i, depth);
  case "!": return text[i + 1] === "[" ? link(text, i + 1, depth, 1) : null;
  case "[": return link(text, i, depth, 0);
  case "<": return bracketed(text, i);
  case "h": return bare(text, i);
  default: return null;
  }
}

function escape(text, i) {
  const next = text[i + 1];
  if (next === "\n") return { span: { type: "break" }, length: 2 };
  return next && /[!-/:-@[-`{-~]/.test(next) ? { text: next, length: 2 } : null;
}

function codeSpan(text, i) {
  const marks = /^`+/.exec(text.slice(i, i + 16))[0];
  for (let at = i + marks.length; at < text.length && at < i + LOOK_MAX;) {
    const close = text.indexOf(marks, at);
    if (close < 0) break;
    let end = close + marks.length;
    if (text[end] !== "`") {
      const inner = text.slice(i + marks.length, close).replace(/\n/g, " ");
      const bare = /^ .*[^ ].* $/.test(inner) ? inner.slice(1, -1) : inner;
      return { span: { type: "code", text: bare }, length: end - i };
    }
    while (text[end] === "`") end++;
    at = end;
  }
  return { text: marks, length: marks.length };
}

function emphasis(text, i, depth) {
  const c = text[i];
  let n = 1;
  while (text[i + n] === c && n < 3) n++;
  if (c === "~" && n !== 2) return null;
  const before = text[i - 1] ?? " ", after = text[i + n] ?? " ";
  if (/\s/.test(after) || (c === "_" && /\w/.test(before))) return { text: c.repeat(n), length: n };
  const mark = c.repeat(n);
  const limit = Math.min(text.length, i + LOOK_MAX);
  for (let at = text.indexOf(mark, i + n); at >= 0 && at < limit; at = text.indexOf(mark, at + 1)) {
    const isWhole = text[at + n] !== c && text[at - 1] !== c;
    const ends = !/\s/.test(text[at - 1]) && !(c === "_" && /\w/.test(text[at + n] ?? " "));
    if (!isWhole || !ends || text[at - 1] === "\\") continue;
    const spans = inline(text.slice(i + n, at), depth + 1);
    const span = c === "~" ? { type: "del", spans }
      : n === 1 ? { type: "em", spans }
      : n === 2 ? { type: "strong", spans }
      : { type: "strong", spans: [{ type: "em", spans }] };
    return { span, length: at + n - i };
  }
  return { text: mark, length: n };
}

// Where a reader may be sent; null: nowhere.
export function safeHref(href) {
  const text = href.trim();
  return /^(https?:\/\/[^\s<>"]+|mailto:[^\s<>"]+)$/i.test(text) ? text : null;
}

function link(text, i, depth, skipped) {
  const limit = Math.min(text.length, i + LOOK_MAX);
  let open = 0, close = -1;
  for (let at = i; at < limit && close < 0; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "[") open++;
    else if (text[at] === "]" && --open === 0) close = at;
  }
  if (close < 0 || text[close + 1] !== "(") return null;
  let end = close + 2, round = 1;
  for (; end < limit && round > 0; end++) round += text[end] === "(" ? 1 : text[end] === ")" ? -1 : 0;
  if (round > 0) return null;
  const target = text.slice(close + 2, end - 1).trim().replace(/\s+["'(].*$/s, "");
  const href = safeHref(target.replace(/^<(.*)>$/, "$1"));
  const label = text.slice(i + 1, close);
  const length = end - i + skipped;
  if (!href) return { text: label, length };
  return { span: { type: "link", href, spans: inline(label || href, DEPTH_MAX - 2) }, length };
}

function bracketed(text, i) {
  const found = /^<((?:https?:\/\/|mailto:)[^\s<>"]{1,1000})>/i.exec(text.slice(i, i + 1010));
  return found && { span: { type: "link", href: found[1], spans: [found[1]] }, length: found[0].length };
}

function bare(text, i) {
  if (/\w/.test(text[i - 1] ?? " ")) return null;
  const found = /^https?:\/\/[^\s<>"'`|]{1,1000}/.exec(text.slice(i, i + 1010));
  if (!found) return null;
  const href = found[0].replace(/[.,;:!?*_~)\]]+$/, "");
  return /^https?:\/\/./.test(href) ? { span: { type: "link", href, spans: [href] }, length: href.length } : null;
}
