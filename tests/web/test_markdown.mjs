// The tree that markdown.js makes of what models write, and of what a hostile one could.
import test from "node:test";
import assert from "node:assert/strict";
import { parse, inline, safeHref } from "../../gateway/web/markdown.js";

const types = (text) => parse(text).map((b) => b.type);

test("blocks", () => {
  assert.deepEqual(types("# a\n\nb\nc\n\n- d\n- e\n\n> f\n\n---\n\n```c\ng\n```\n"),
    ["heading", "paragraph", "list", "quote", "rule", "code"]);
  assert.deepEqual(parse("## Two ##")[0], { type: "heading", level: 2, spans: ["Two"] });
  assert.deepEqual(types("#hashtag"), ["paragraph"]);
});

test("code is kept as it is, also while it comes", () => {
  assert.deepEqual(parse("```python\nif a < b:\n    print(\"*x*\")\n```\nafter")[0],
    { type: "code", lang: "python", text: "if a < b:\n    print(\"*x*\")" });
  assert.deepEqual(parse("```\nunfinished <b>"), [{ type: "code", lang: "", text: "unfinished <b>" }]);
  assert.deepEqual(parse("````\n```\ninner\n```\n````")[0].text, "```\ninner\n```");
  assert.deepEqual(parse("~~~\na\n~~~")[0].text, "a");
});

test("lists, nested and with more than text", () => {
  const [list] = parse("1. one\n   - a\n   - b\n2. two\n\n   ```\n   code\n   ```\n3. three");
  assert.equal(list.ordered, true);
  assert.equal(list.items.length, 3);
  assert.equal(list.items[0][1].type, "list");
  assert.equal(list.items[0][1].items.length, 2);
  assert.equal(list.items[1][1].type, "code");
  assert.equal(list.items[1][1].text, "code");
  assert.equal(parse("3. three\n4. four")[0].start, 3);
  assert.deepEqual(types("- a\n- b\n\ntext"), ["list", "paragraph"]);
  assert.deepEqual(types("text\n- a"), ["paragraph", "list"]);
});

test("tables", () => {
  const [t] = parse("| a | b | c |\n|:--|:-:|--:|\n| 1 | 2 \\| 3 |\n| 4 | 5 | 6 | 7 |\n\nafter");
  assert.deepEqual(t.align, ["left", "center", "right"]);
  assert.deepEqual(t.head, [["a"], ["b"], ["c"]]);
  assert.deepEqual(t.rows, [[["1"], ["2 | 3"], []], [["4"], ["5"], ["6"]]]);
  assert.deepEqual(types("a | b\nno delimiter"), ["paragraph"]);
});

test("spans", () => {
  assert.deepEqual(inline("a **b *c* d** e"),
    ["a ", { type: "strong", spans: ["b ", { type: "em", spans: ["c"] }, " d"] }, " e"]);
  assert.deepEqual(inline("`a*b*` ~~c~~"), [{ type: "code", text: "a*b*" }, " ", { type: "del", spans: ["c"] }]);
  assert.deepEqual(inline("``a ` b``"), [{ type: "code", text: "a ` b" }]);
  assert.deepEqual(inline("snake_case_name and 2 * 3 * 4"), ["snake_case_name and 2 * 3 * 4"]);
  assert.deepEqual(inline("\\*no\\* **open"), ["*no* **open"]);
  assert.deepEqual(inline("a\nb"), ["a", { type: "break" }, "b"]);
  assert.deepEqual(inline("***x***"), [{ type: "strong", spans: [{ type: "em", spans: ["x"] }] }]);
});

test("links go to the web or to mail, or nowhere", () => {
  assert.deepEqual(inline("[x](https://example.org/a_(b))"),
    [{ type: "link", href: "https://example.org/a_(b)", spans: ["x"] }]);
  assert.deepEqual(inline("see https://example.org/a."),
    ["see ", { type: "link", href: "https://example.org/a", spans: ["https://example.org/a"] }, "."]);
  assert.deepEqual(inline("<https://example.org>")[0].href, "https://example.org");
  assert.deepEqual(inline("![alt](https://example.org/x.png)"),
    [{ type: "link", href: "https://example.org/x.png", spans: ["alt"] }]);
  for (const href of ["javascript:alert(1)", " JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x",
    "java\nscript:alert(1)", "//example.org", "/local", "#x", "https://a b", "file:///etc/passwd"]) {
    assert.equal(safeHref(href), null, href);
    const spans = inline(`[x](${href})`);
    assert.ok(!JSON.stringify(spans).includes("\"link\""), JSON.stringify(spans));
  }
});

test("HTML is text", () => {
  const text = "<script>alert(1)</script> <img src=x onerror=alert(1)>";
  assert.deepEqual(parse(text), [{ type: "paragraph", spans: [text] }]);
});

test("every beginning of a text can be shown", () => {
  const text = "# H\n\n- **a** [b](https://c.de)\n  1. `x`\n\n| a | b |\n|--|--|\n| ~~1~~ | *2* |\n\n> q\n\n```js\ny\n```\n";
  for (let n = 0; n <= text.length; n++) parse(text.slice(0, n));
});

test("no text takes long", () => {
  const hard = ["*a ", "**a", "[", "[a](", "`", "``a`", "_a*", "> ", "- ", "|", "| a ", "\\", "<http://", "# ", "1. ", "~~", "![", "***a** ",
    "a | b\n|--|--|\n", "- a\n  ", "```\n", "https://"];
  for (const piece of hard) {
    const text = piece.repeat(Math.floor(60000 / piece.length));
    const began = performance.now();
    parse(text);
    parse(`- ${text}`);
    const took = performance.now() - began;
    assert.ok(took < 10000, `${JSON.stringify(piece)} took ${took} ms`); // square time takes minutes
  }
});

test("any text is kept or read, none is lost", () => {
  // every letter of a text without marks of markup comes out again
  let seed = 7;
  const random = (n) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
  const pieces = ["a", "b ", "\n", "\n\n", "  ", "*", "**", "_", "`", "```\n", "[", "](", ")", "- ", "1. ", "> ", "|", "# ", "~~", "\\", "<", "&"];
  const letters = (x) => (typeof x === "string" ? x : Array.isArray(x) ? x.map(letters).join("")
    : x && typeof x === "object" ? Object.entries(x).filter(([k]) => !["type", "align", "lang"].includes(k)).map(([, v]) => letters(v)).join("") : "");
  for (let round = 0; round < 2000; round++) {
    let text = "";
    for (let i = random(40); i >= 0; i--) text += pieces[random(pieces.length)];
    const out = letters(parse(text)).replace(/[^ab]/g, "");
    const lang = parse(text).some((b) => JSON.stringify(b).includes("\"code\"") || JSON.stringify(b).includes("\"table\""));
    if (!lang) assert.ok(out.length >= text.replace(/[^ab]/g, "").length, JSON.stringify(text));
  }
});
