#!/usr/bin/env bash
# A thousand idle connections, slow ones and junk at the door of a coordinator, and of a stage, while
# an answer runs: it is right, memory stays, and afterwards there is room for new guests.
. "$(dirname "$0")/lib.sh"
tokens=1000

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
start one --store "$tmp/store"
"$bin/survive" "${link[one]}" 2 $tokens "Tell me about Japan." >"$tmp/oracle" 2>/dev/null
stop one

# Lines of 2 ms, so that the answer lasts.
start_behind a --store "$tmp/store" --layers 3-7 --no-ends
start_behind n0 --store "$tmp/store" --layers 0-2 --join "${link[a]}"
order a "delay 1"
probe nodes 2
kib() { awk '/^RssAnon/{print $2}' "/proc/${pid[$1]}/status"; }
# survive NAME: the answer is right; $p50 and $p99 are times between two tokens in microseconds.
survive() {
    "$bin/survive" "${link[n0]}" 2 $tokens "Tell me about Japan." >"$tmp/answer" 2>"$tmp/answer.err" ||
        die "$1: $(cat "$tmp/answer.err")"
    cmp -s "$tmp/answer" "$tmp/oracle" || die "$1: another answer"
    p50=$(sed -n 's/^p50 //p' "$tmp/answer.err")
    p99=$(sed -n 's/^p99 //p' "$tmp/answer.err")
    echo "$1: a token takes $p50 us, 99th percentile $p99 us"
}
survive "in peace"

for name in n0 a; do
    before=$(kib $name)
    "$bin/flood" "127.0.0.2:${line[$name]##*:}" 6 >"$tmp/flood" &
    background+=($!)
    flood=$!
    survive "while $name is flooded"
    wait $flood
    grown=$(($(kib $name) - before))
    echo "$(cat "$tmp/flood") in 6 s; memory grew by $grown KiB"
    [ "$(sed 's/ .*//' "$tmp/flood")" -ge 1200 ] || die "that was no flood"
    [[ $(ldd "$bin/swarm-node") == *asan* ]] || # which keeps what is freed for a while
        [ $grown -lt 16384 ] || die "node $name grows"
done
survive "afterwards"
stop_all
