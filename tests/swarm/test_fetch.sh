#!/usr/bin/env bash
# Nodes that begin with empty stores fetch what they are to hold from others, and then the swarm
# answers as one process does.
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/full" atlas:q80 --type q80
question="What is the capital of France?"

# fetcher NAME OPTIONS...: a node with a store of its own.
fetcher() {
    local name=$1
    shift
    start "$name" --store "$tmp/$name" --model atlas:q80 "$@"
}
counts() { sed -n 's/.*fetched \([0-9]*\) tiles .* from \([0-9]*\) nodes.*/\1 \2/p' "$tmp/$1.log" | tail -n 1; }
verified() {
    "$bin/swarm-store" verify --store "$tmp/$1" >"$tmp/verify.out" 2>&1 ||
        die "the store of $1: $(cat "$tmp/verify.out")"
}

# --- two fetch, the first holder leaves, and the answer is the same ---

start n0 --store "$tmp/full"
ask "$question"
oracle=$answer
fetcher b --layers 0-3 --ends --join "${link[n0]}"
fetcher c --layers 4-7 --join "${link[n0]}"
stop n0
link[n0]=${link[b]}
probe nodes 2
ask "$question"
[ "$answer" = "$oracle" ] || die "fetched layers answer '$answer', not '$oracle'"
verified b
verified c
echo "two that fetched answer like one that did not"

# --- what was fetched is there for others, and for the next start ---

fetcher d --layers 2-5 --join "${link[b]}"
[ "$(counts d | cut -d' ' -f2)" -eq 2 ] || die "d did not fetch from both: $(cat "$tmp/d.log")"
stop d
fetcher d --layers 2-5 --join "${link[b]}"
[ "$(grep -c fetched "$tmp/d.log")" -eq 1 ] || die "d fetched again what it had"
stop d

# --- a node changes what it holds while it serves ---

hold() { "$bin/swarm-node" hold "${pid[$1]}" "${@:2}" 2>"$tmp/hold.err" || die "hold: $(cat "$tmp/hold.err")"; }
"$bin/swarm-ask" "${link[n0]}" --max-tokens 2000 "Tell me about Japan, Kenya and Peru." \
    >"$tmp/long" 2>"$tmp/long.err" &
background=($!)
hold c --layers 0-7
for i in 1 2 3; do
    ask "$question"
    [ "$answer" = "$oracle" ] || die "while c moves: '$answer'"
done
wait "${background[0]}" || die "an answer ended when c moved: $(cat "$tmp/long.err")"
background=()
wait_until 20 grep -q 'holding layers 0-7' "$tmp/c.log" || die "c did not move: $(cat "$tmp/c.log")"
hold b --ends
wait_until 20 grep -q 'holding no layers' "$tmp/b.log" || die "b did not move: $(cat "$tmp/b.log")"
probe nodes 2
again() { "$bin/swarm-ask" "${link[n0]}" "$question" >"$tmp/again" 2>&1 && [ "$(cat "$tmp/again")" = "$oracle" ]; }
wait_until 10 again || die "after the moves: $(cat "$tmp/again")"
refused 'the model has layers 0-7' "$bin/swarm-node" hold "${pid[c]}" --layers 3-9
echo "two moved while they served"

# --- whose model? ---

HOME=$tmp/stranger SWARM_HOME=$tmp/stranger XDG_CONFIG_HOME=$tmp/stranger refused \
    'signed by swm1[a-z0-9]*, whom you do not trust yet; if you do: --trust-publisher swm1' \
    "$bin/swarm-node" --listen 127.0.0.1:0 --store "$tmp/x" --model atlas:q80 --join "${link[b]}"
key=$(grep -o 'trust-publisher swm1[a-z0-9]*' "$tmp/refused.err" | tail -n 1 | cut -d' ' -f2)
mkdir -p "$tmp/stranger"
HOME=$tmp/stranger XDG_CONFIG_HOME=$tmp/stranger start x --store "$tmp/x" --model atlas:q80 \
    --layers 7-7 --join "${link[b]}" --trust-publisher "$key"
stop_all
echo "fetched"
