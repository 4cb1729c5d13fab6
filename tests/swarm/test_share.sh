#!/usr/bin/env bash
# Layers shared by several nodes: swarm-eval writes the same bytes as in one process, and answers
# are those of one process whoever of a group is killed or stopped.  With "all" as third argument:
# members are hit at every second token.
. "$(dirname "$0")/lib.sh"
all=${3:-}
RANDOM=${SHARE_SEED:-1}

# Does node NAME have N members by now?
shared() { [ "$(grep -c 'sharing layers with' "$tmp/$1.log")" -ge "$2" ]; }

# group N OPTIONS...: nodes that hold all layers and share them, whoever of them leads.
group() {
    local i n=$1 dials=()
    shift
    for ((i = 0; i < n; i++)); do
        start "n$i" "$@" --share "${dials[@]}"
        dials+=(--join "${link[n$i]}")
    done
    for ((i = 0; i < n; i++)); do
        wait_until 20 shared "n$i" $((n - 1)) || die "layers are not shared: $(cat "$tmp/n$i.log")"
    done
}

# same NAME IDS GREEDY WHAT
same() {
    local name=$1 ids=$2 greedy=$3
    [ -e "$tmp/$name.local" ] || "$bin/swarm-eval" logits --store "$tmp/store" --model "$name" \
        --ids "$ids" --out "$tmp/$name.local" --greedy "$greedy" --threads 2
    "$bin/swarm-eval" logits --store "$tmp/store" --model "$name" --ids "$ids" \
        --out "$tmp/out" --greedy "$greedy" --connect "${link[n0]}" --threads 1
    cmp "$tmp/$name.local" "$tmp/out" || die "$name differs"
    echo "$name shared by $4: the same bytes"
}

atlas=$src/tests/fixtures/atlas-expected.safetensors
convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
for n in 2 3 5; do
    group $n --store "$tmp/store" --model atlas:q80
    same atlas:q80 "$atlas" 22 "$n nodes"
    stop_all
    rm "$tmp"/n*.log
done
for kind in glm4-dense glm4-moe-air glm4-moe-qknorm; do
    convert "$src/tests/fixtures/$kind" "$tmp/store" "$kind:f32" --type f32 --exchange f32 --kv f32
    group 3 --store "$tmp/store" --model "$kind:f32"
    same "$kind:f32" "$src/tests/fixtures/$kind/expected.safetensors" 24 "3 nodes"
    stop_all
    rm "$tmp"/n*.log
done

# --- members that are killed and stopped ---

tokens=64
id() { sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[$1]}"; }
start one --store "$tmp/store" --model atlas:q80
"$bin/survive" "${link[one]}" 2 $tokens "Tell me about Japan." >"$tmp/oracle"
stop one
grep -q "^$tokens tokens" "$tmp/oracle" || die "the oracle is short: $(cat "$tmp/oracle")"
group 3 --store "$tmp/store" --model atlas:q80

# survive [AT:US:SIGNAL]: an answer during which a member is hit.
survive() {
    local do=() at us signal name victim
    IFS=: read -r at us signal <<<"${1:-}"
    for name in n0 n1 n2; do # whoever leads, another is hit
        victim=$([ $name = n1 ] && echo n2 || echo n1)
        do+=(--node "$(id $name)=${pid[$victim]}")
    done
    [ -z "${1:-}" ] || do+=(--do "$at:$us:1:$signal")
    "$bin/survive" "${link[n0]}" 2 $tokens "Tell me about Japan." "${do[@]}" >"$tmp/answer" \
        2>"$tmp/answer.err" || die "$*: $(cat "$tmp/answer.err")"
    cmp -s "$tmp/answer" "$tmp/oracle" || die "$*: another answer: $(cat "$tmp/answer")"
}
back() {
    local name before=$(grep -c 'sharing layers with' "$tmp/n0.log")
    name=$([ -n "$(grep "^hit $(id n1)" "$tmp/answer.err")" ] && echo n2 || echo n1)
    kill -KILL "${pid[$name]}" 2>/dev/null || true
    wait "${pid[$name]}" 2>/dev/null || true
    start $name --store "$tmp/store" --model atlas:q80 --share --join "${link[n0]}" --join "${link[n1]}"
    wait_until 20 shared n0 $((before + 1)) || die "$name does not come back"
}
survive
pauses=()
moments=(0 10 40)
[ -z "$all" ] || moments=($(seq 0 2 $((tokens - 1))))
for at in "${moments[@]}"; do
    survive "$at:$((RANDOM % 3000)):9"
    pauses+=("$(sed -n 's/^pause //p' "$tmp/answer.err")")
    back
done
echo "members killed: pauses ${pauses[*]} ms"
survive 20:0:19
p=$(sed -n 's/^pause //p' "$tmp/answer.err")
echo "a member stopped: a pause of $p ms"
back
