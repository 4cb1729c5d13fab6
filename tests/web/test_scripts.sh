#!/bin/sh
# The page's scripts that need no browser, in Node.js 18 or newer.
cd "$(dirname "$0")" || exit 1
major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) || { echo "SKIPPED: no Node.js here"; exit 77; }
[ "$major" -ge 18 ] || { echo "SKIPPED: Node.js $major is too old"; exit 77; }
for file in *.mjs ../../gateway/web/*.js; do node --check "$file" || exit 1; done
exec node --test test_markdown.mjs test_parts.mjs
