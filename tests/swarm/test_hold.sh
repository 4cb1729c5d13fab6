#!/usr/bin/env bash
# Nodes that are told only how much memory they may use: they pick the layers that help most, also
# when they start in the same moment, and together they answer as one process does.
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/full" atlas:q80 --type q80
question="What is the capital of France?"

# giver NAME RAM: a node with an empty store of its own, which begins in the background.
giver() {
    : >"$tmp/$1.link"
    "$bin/swarm-node" --listen 127.0.0.1:0 --identity "$tmp/$1.key" --threads 1 --store "$tmp/$1" \
        --model atlas:q80 --ram "$2" --kv-ram 2M --disk 1G --join "${link[n0]}" \
        >"$tmp/$1.link" 2>>"$tmp/$1.log" </dev/null &
    pid[$1]=$!
}
is_ready() { [ -s "$tmp/$1.link" ]; }
ready() {
    wait_until 60 is_ready "$1" || die "$1 is not ready: $(cat "$tmp/$1.log")"
    link[$1]=$(cat "$tmp/$1.link")
}
held() { sed -nE 's/.*holding layers ([0-9]+)-([0-9]+) of.*/\1 \2/p' "$tmp/$1.log" | tail -n 1; }

start n0 --store "$tmp/full"
ask "$question"
oracle=$answer

# One has room for half of the model, and takes so much, with the ends.
giver a 8M
ready a
read -r lo hi <<<"$(held a)"
[ "$((hi - lo))" -ge 2 ] && [ "$((hi - lo))" -le 5 ] || die "a holds $lo-$hi: $(cat "$tmp/a.log")"

count() {
    "$bin/swarm-node" status "${pid[$1]}" --json |
        python3 -c "import json,sys; print(json.load(sys.stdin)['counters']['$2']['now'])"
}
[ "$(count a weights_taken)" -gt 1000000 ] || die "what a fetched is not counted"
[ "$(count n0 weights_given)" -ge "$(count a weights_taken)" ] || die "what n0 gave is not counted"

# Three more at once: when the first holder leaves, nothing is missing.
giver b 8M
giver c 8M
giver d 8M
for name in b c d; do ready "$name"; done
for name in a b c d; do
    read -r lo hi <<<"$(held "$name")"
    for ((l = lo; l <= hi; l++)); do seen[l]=1; done
    echo "$name holds $lo-$hi"
done
[ "${#seen[@]}" -eq 8 ] || die "together they hold only ${!seen[*]}"
stop n0
for name in a b c d; do
    grep -q 'and the ends' "$tmp/$name.log" || continue
    link[n0]=${link[$name]}
done
probe nodes 4
ask "$question"
[ "$answer" = "$oracle" ] || die "they answer '$answer', not '$oracle'"

# A node that is too small says so.
refused 'hold no layer of the model' timeout 60 "$bin/swarm-node" --listen 127.0.0.1:0 --threads 1 \
    --store "$tmp/e" --model atlas:q80 --ram 2M --kv-ram 1900K --join "${link[n0]}"
stop_all
echo "nodes pick what to hold"
