#!/usr/bin/env bash
# The web page in a browser, in front of real nodes: scripts/test.sh --web, or
#   tests/swarm/test_web.sh BIN SOURCE MODULES [PICTURES]
# MODULES: a node_modules folder with what tests/web/package.json names.  PICTURES: where screenshots
# go (else they are not kept).
modules=${3:?a folder of Node modules}
pictures=${4:-}
[ ! -d "$modules" ] || modules=$(cd "$modules" && pwd)
. "$(dirname "$0")/lib.sh"
skip() { echo "SKIPPED: $*"; exit 77; }
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || skip "no Chromium here"
command -v node >/dev/null || skip "no Node.js here"
[ -d "$modules/puppeteer-core" ] && [ -d "$modules/axe-core" ] || skip "no puppeteer-core and axe-core in $modules"
pictures=${pictures:-$tmp/pictures}
mkdir -p "$pictures"

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
start_behind n2 --store "$tmp/store" --layers 6-7 --no-ends # all others dial it, so its line can be slow
start n0 --store "$tmp/store" --layers 0-2 --join "${link[n2]}"
start n1 --store "$tmp/store" --layers 3-5 --no-ends --join "${link[n2]}"
probe nodes 3

gateway() {
    : >"$tmp/$1.url"
    "$bin/swarm-gateway" "${link[n0]}" --listen 127.0.0.1:0 "${@:2}" >"$tmp/$1.url" 2>>"$tmp/$1.log" </dev/null &
    pid[$1]=$!
    wait_until 20 test -s "$tmp/$1.url" || die "gateway $1 does not listen: $(cat "$tmp/$1.log")"
}
printf 'anna secret-key-of-anna-1\n' >"$tmp/keys" && chmod 600 "$tmp/keys"
gateway open
gateway keyed --keys "$tmp/keys"
gateway scarce --per-hour 1
order n2 "delay 10" # so that an answer takes a while

# The browser asks for what only we can do by a line, and waits until it is done.
mkfifo "$tmp/orders" "$tmp/done"
MODULES=$modules PICTURES=$pictures CHROMIUM=$chromium PROFILE=$tmp/profile \
    OPEN=$(sed 's,/v1$,/,' "$tmp/open.url") KEYED=$(sed 's,/v1$,/,' "$tmp/keyed.url") SCARCE=$(sed 's,/v1$,/,' "$tmp/scarce.url") \
    node "$src/tests/web/browser.mjs" 3>"$tmp/orders" 4<"$tmp/done" &
browser=$!
background+=($browser)
exec 5<"$tmp/orders" 6>"$tmp/done"
# (Children of the browser may keep the line open after it.)
wish=
while ! gone "$browser"; do
    # The second may be over in the middle of a line: its beginning is kept.
    IFS= read -r -t 1 more <&5 && is_whole=1 || is_whole=
    wish+=$more
    [ -n "$is_whole" ] || continue
    read -r word name <<<"$wish"
    wish=
    case $word in
    kill) kill -KILL "${pid[$name]}" ;;
    spare) start spare --store "$tmp/store" --layers 3-5 --no-ends --join "${link[n2]}" ;;
    delay) order n2 "delay $name" ;;
    *) die "the browser wants $word" ;;
    esac
    echo done >&6
done
wait "$browser" || die "see above"
[ -n "${4:-}" ] && echo "pictures are in $pictures"
echo "the page works in a browser"
