#!/usr/bin/env bash
# The web page as the gateway serves it: its files and their headers, the map of the swarm, the
# events of an answer that only a page asks for.  What a browser makes of it: scripts/test.sh --web.
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
start_split "--store $tmp/store" 0-2 3-5 6-7
start spare --store "$tmp/store" --layers 3-5 --join "${link[n0]}"
probe nodes 4

gateway() {
    : >"$tmp/$1.url"
    "$bin/swarm-gateway" "${link[n0]}" --listen 127.0.0.1:0 "${@:2}" >"$tmp/$1.url" 2>>"$tmp/$1.log" </dev/null &
    pid[$1]=$!
    wait_until 20 test -s "$tmp/$1.url" || die "gateway $1 does not listen: $(cat "$tmp/$1.log")"
}
gateway g
gateway bare --no-page
printf 'anna secret-key-of-anna-1\n' >"$tmp/keys" && chmod 600 "$tmp/keys"
gateway keyed --keys "$tmp/keys"
at=$(sed 's,/v1$,,' "$tmp/g.url")

# get PATH OPTIONS...: $status, $tmp/head, $tmp/body.
get() {
    : >"$tmp/body"
    status=$(curl -s -o "$tmp/body" -D "$tmp/head" -w '%{http_code}' "${@:2}" "$at$1") || die "no answer at $1"
}
header() { tr -d '\r' <"$tmp/head" | sed -n "s/^$1: //Ip"; }

# Every file, as it is, with its type and what it may do; again only when it is another.
for file in "$src"/gateway/web/*.{html,css,js,svg}; do
    name=${file##*/}
    path=/web/$name
    [ "$name" != index.html ] || path=/
    get "$path"
    [ "$status" = 200 ] || die "$path: $status"
    cmp "$tmp/body" "$file" || die "$path is not what was built in"
    case $name in
    *.html) type=text/html ;;
    *.css) type=text/css ;;
    *.js) type=text/javascript ;;
    *.svg) type=image/svg+xml ;;
    esac
    [[ $(header Content-Type) == "$type"* ]] || die "$path is $(header Content-Type)"
    policy=$(header Content-Security-Policy)
    [[ $policy == "default-src 'none'; script-src 'self'; style-src 'self'; "*"frame-ancestors 'none'" ]] ||
        die "$path: policy $policy"
    [[ $policy != *unsafe* && $policy != *http* ]] || die "$path: policy $policy"
    [ "$(header X-Content-Type-Options)" = nosniff ] || die "$path: no nosniff"
    [ "$(header Referrer-Policy)" = no-referrer ] || die "$path: a referrer"
    etag=$(header ETag)
    [ "$etag" = "\"$(sha256sum "$file" | cut -c 1-24)\"" ] || die "$path: ETag $etag"
    get "$path" -H "If-None-Match: $etag"
    [ "$status" = 304 ] && [ ! -s "$tmp/body" ] || die "$path is sent again: $status"
    get "$path" -H 'If-None-Match: "0123"'
    [ "$status" = 200 ] || die "$path: $status"
done
get / -I
[ "$status" = 200 ] || die "HEAD: $status"
get / -d x
[ "$status" = 405 ] || die "POST to the page: $status"
for path in /web /web/ /web/nothing.js /index.html /web/index.html /web/../README.md /web/%2e%2e/README.md /favicon.ico; do
    get "$path" --path-as-is
    [ "$status" = 404 ] || die "$path: $status"
done
# It asks nobody else for anything.
! grep -nE "(src|href)=\"(https?:)?//|@import|url\(|\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function" \
    "$src"/gateway/web/*.{html,css,js} || die "the page loads something, or writes HTML"

# The map: every node, what it holds, no address and no whole id.
all_known() {
    get /swarm/map
    python3 - "$tmp/body" "${link[n0]}" <<'PY'
import json, sys
m = json.load(open(sys.argv[1]))
nodes = (m["swarm"] or {}).get("nodes", [])
sys.exit(0 if m["up"] and len(nodes) == 4 and m["plan"] and len(m["plan"]["stages"]) == 3 else 1)
PY
}
wait_until 30 all_known || die "the map: $(cat "$tmp/body")"
[ "$(header Cache-Control)" = no-store ] || die "the map may be kept"
python3 - "$tmp/body" "${link[n0]}" <<'PY' || die "the map: $(cat "$tmp/body")"
import json, re, sys
text = open(sys.argv[1]).read()
m = json.loads(text)
me = sys.argv[2].split("//")[1].split("@")[0]
assert m["model"] == "atlas:q80" and m["why"] == "" and m["in_flight"] == 0, m
s = m["swarm"]
assert s["layers"] == 8 and s["more"] == 0
held = sorted(tuple(n["layers"]) for n in s["nodes"])
assert held == [(0, 3), (3, 6), (3, 6), (6, 8)], held
here = [n for n in s["nodes"] if n.get("here")]
assert len(here) == 1 and here[0]["id"] == me[:9] + "..." + me[-4:], here
assert all(n["state"] == "active" and re.fullmatch(r"swm1\w{5}\.\.\.\w{4}", n["id"]) for n in s["nodes"])
assert [(t["lo"], t["hi"]) for t in m["plan"]["stages"]] == [(0, 3), (3, 6), (6, 8)]
assert m["plan"]["tokens_per_s"] > 0
for word in ("127.0.0.1", "addr", "name", me):
    assert word not in text, word
PY

# An answer with what happens to it, and without.
question='"stream":true,"temperature":0,"messages":[{"role":"user","content":"What is the capital of France?"}]'
curl -sN "$at/v1/chat/completions" -d "{$question}" >"$tmp/plain"
curl -sN "$at/v1/chat/completions" -d "{\"swarm\":true,$question}" >"$tmp/watched"
! grep -q '^event:' "$tmp/plain" || die "who did not ask gets events"
python3 - "$tmp/plain" "$tmp/watched" <<'PY' || die "events: $(cat "$tmp/watched")"
import json, sys
def read(path):
    text, events = "", []
    for block in open(path).read().split("\n\n"):
        lines = [l for l in block.split("\n") if l and not l.startswith(":")]
        data = "\n".join(l[6:] for l in lines if l.startswith("data: "))
        if not data or data == "[DONE]":
            continue
        if "event: swarm" in lines:
            events.append(json.loads(data))
        else:
            d = json.loads(data)["choices"][0]["delta"]
            text += d.get("reasoning_content", "") + d.get("content", "")
    return text, events
plain, none = read(sys.argv[1])
watched, events = read(sys.argv[2])
assert plain and plain == watched and none == []
plan = events[0]["plan"]
assert [(s["lo"], s["hi"]) for s in plan["stages"]] == [(0, 3), (3, 6), (6, 8)], plan
done = events[-1]
assert done["tokens"] > 5 and done["prompt_tokens"] > 5, done
stats = done["done"]
assert stats["tokens_per_s"] > 0 and stats["predicted_tokens_per_s"] > 0 and stats["heals"] == 0
assert len(stats["stages"]) == 3 and all(s["steps"] > 0 for s in stats["stages"])
assert all(s.get("hop_ms", -1) >= 0 for s in stats["stages"]), stats
assert "127.0.0.1" not in open(sys.argv[2]).read()
PY
code=$(curl -s -o "$tmp/error" -w '%{http_code}' "$at/v1/chat/completions" -d '{"swarm":true,"messages":[{"role":"user","content":"hi"}]}')
[ "$code" = 400 ] && grep -q '"param":"swarm"' "$tmp/error" || die "swarm without stream: $code $(cat "$tmp/error")"

# A node that is killed is said to be silent, or is forgotten.
kill -KILL "${pid[n2]}"
short() {
    get /swarm/map
    [ "$(grep -o '"state":"active"' "$tmp/body" | wc -l)" = 3 ]
}
wait_until 40 short || die "the map after a death: $(cat "$tmp/body")"
! grep -q '127\.0\.0\.1' "$tmp/body" || die "an address: $(cat "$tmp/body")"

# Where keys are, the page can be read and the map cannot.
at=$(sed 's,/v1$,,' "$tmp/keyed.url")
get /
[ "$status" = 200 ] || die "the page where keys are: $status"
get /swarm/map
[ "$status" = 401 ] || die "the map without a key: $status"
get /swarm/map -H 'Authorization: Bearer secret-key-of-anna-1'
[ "$status" = 200 ] || die "the map with a key: $status"
at=$(sed 's,/v1$,,' "$tmp/bare.url")
get /
[ "$status" = 404 ] || die "--no-page: $status"
get /web/app.js
[ "$status" = 404 ] || die "--no-page: $status"

for name in g keyed bare; do
    kill -TERM "${pid[$name]}"
    wait_until 20 gone "${pid[$name]}" || die "gateway $name does not stop"
    status=0
    wait "${pid[$name]}" || status=$?
    [ "$status" = 0 ] || die "gateway $name ended with $status: $(cat "$tmp/$name.log")"
    unset "pid[$name]"
done
echo "the page is served as promised"
