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
        start "n$i" "$@" --share on --share-rtt 500 "${dials[@]}"
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
for n in 2 5; do
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

# Many at once, at nodes that lead for each other: each as alone.
tokens=64
start one --store "$tmp/store" --model atlas:q80
for seed in 2 3; do
    "$bin/survive" "${link[one]}" $seed $tokens "Tell me about Japan." >"$tmp/oracle.$seed" 2>/dev/null
done
stop one
grep -q "^$tokens tokens" "$tmp/oracle.2" || die "the oracle is short: $(cat "$tmp/oracle.2")"
group 2 --store "$tmp/store" --model atlas:q80
asks=()
for i in {0..7}; do
    "$bin/survive" "${link[n$((i % 2))]}" $((2 + i / 4)) $tokens "Tell me about Japan." \
        >"$tmp/answer.$i" 2>"$tmp/answer.err.$i" &
    asks+=($!)
done
for i in {0..7}; do
    wait "${asks[i]}" || die "question $i: $(cat "$tmp/answer.err.$i")"
    cmp "$tmp/answer.$i" "$tmp/oracle.$((2 + i / 4))" || die "question $i has another answer"
done
echo "8 questions at once to two nodes that share for each other: each as alone"
stop_all
rm "$tmp"/n*.log

# --- a leader and three members that hold different parts, and nothing of some layers ---

declare -A parts=(
    [n0]="0-7 --trunk --heads 0 --experts 0-5 --dense 0-3"
    [n1]="0-7 --heads 1 --experts 6-15 --dense 4-7"
    [n2]="3-7 --experts 4-15" [n3]="0-2 --experts 4-11 --dense 2-5")
run_node() {
    local options
    read -ra options <<<"--layers ${parts[$1]}"
    start "$1" --store "$tmp/store" --model atlas:q80 --no-ends "${options[@]}" \
        --share-rtt 500 --join "${link[c]}" --join "$leader"
}
id() { sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[$1]}"; }
comes_in() { [ "$(grep -c "sharing layers with" "$tmp/n0.log")" -ge "$1" ]; }
serves() { [ "$(grep -c "serving layers 0-7" "$tmp/n0.log")" -ge "$1" ]; }

# A coordinator that computes nothing of the answer leads to n0.
convert "$src/models/atlas" "$tmp/ends" atlas:q80 --type q80 --layers 0-0
start c --store "$tmp/ends" --model atlas:q80 --layers 0-0 --patience 20
leader=${link[c]} # until there is one
run_node n0
leader=${link[n0]}
for name in n1 n2 n3; do run_node $name; done
wait_until 20 comes_in 3 || die "the parts do not come together: $(cat "$tmp/n0.log")"
link[n0]=${link[c]} # whom `same` asks
same atlas:q80 "$atlas" 22 "a leader and three members with different parts"

# survive NAME [AT:US:SIGNAL]: an answer during which NAME is hit.
survive() {
    local do=() at us signal
    IFS=: read -r at us signal <<<"${2:-}"
    [ -z "${2:-}" ] || do=(--node "$(sed 's,swarm://\(.*\)@.*,\1,' <<<"$leader")=${pid[$1]}"
        --do "$at:$us:1:$signal")
    "$bin/survive" "${link[c]}" 2 $tokens "Tell me about Japan." "${do[@]}" >"$tmp/answer" \
        2>"$tmp/answer.err" || die "$*: $(cat "$tmp/answer.err")"
    [ -z "${2:-}" ] || grep -q '^hit' "$tmp/answer.err" || die "$*: nobody was hit"
    cmp -s "$tmp/answer" "$tmp/oracle.2" || die "$*: another answer: $(cat "$tmp/answer")"
    pause=$(sed -n 's/^pause //p' "$tmp/answer.err")
}
# back NAME: it lives again, and takes part.
back() {
    local before=$(grep -c 'sharing layers with' "$tmp/n0.log")
    kill -KILL "${pid[$1]}" 2>/dev/null || true
    wait "${pid[$1]}" 2>/dev/null || true
    run_node "$1"
    wait_until 20 comes_in $((before + 1)) || die "$1 does not come back: $(cat "$tmp/n0.log")"
}
survive n0

# Experts and dense parts that others hold too: not even the session is lost.
moments=(0 7 25)
[ -z "$all" ] || moments=($(seq 0 2 $((tokens - 1))))
pauses=()
for at in "${moments[@]}"; do
    for name in n2 n3; do
        survive $name "$at:$((RANDOM % 3000)):9"
        pauses+=("$pause")
        grep -q '"heals":0,' "$tmp/answer.err" || die "$name cost a session: $(cat "$tmp/answer.err")"
        back $name
    done
done
echo "members with experts killed: pauses ${pauses[*]} ms, no session lost"
survive n2 20:0:19
echo "a member with experts stopped: a pause of $pause ms"
[ "$pause" -lt 15000 ] || die "a pause of $pause ms after SIGSTOP"
grep -q '"heals":0,' "$tmp/answer.err" || die "it cost a session: $(cat "$tmp/answer.err")"
back n2

# Head groups that nobody else holds: the layers are withdrawn, and the answer goes on when the
# member is back.
pauses=()
[ -n "$all" ] || moments=(10)
for at in "${moments[@]}"; do
    before=$(grep -c 'sharing layers with' "$tmp/n0.log")
    survive n1 "$at:$((RANDOM % 3000)):9" &
    asking=$!
    wait "${pid[n1]}" 2>/dev/null || true
    wait_until 20 grep -q 'head group 1 of layer 1 is held by nobody who shares it' "$tmp/n0.log" ||
        die "the layers are still served: $(cat "$tmp/n0.log")"
    run_node n1
    wait $asking || die "the answer did not go on"
    pauses+=("$(sed -n 's/^pause //p' "$tmp/answer.err")")
    wait_until 20 comes_in $((before + 1))
done
echo "the member with half of the heads killed and started again: pauses ${pauses[*]} ms"

# The leader: its members free what they held for it, and it leads again when it is back.
before=$(grep -c 'no longer sharing' "$tmp/n1.log" || true)
survive n0 20:0:9 &
asking=$!
wait "${pid[n0]}" 2>/dev/null || true
freed() { [ "$(grep -c 'no longer sharing' "$tmp/n1.log")" -gt "$before" ]; }
wait_until 20 freed || die "the members still hold what a dead leader had"
: >"$tmp/n0.log"
run_node n0
link[n0]=${link[c]}
wait $asking || die "the answer did not go on"
echo "the leader killed and started again: a pause of $(sed -n 's/^pause //p' "$tmp/answer.err") ms"
stop_all

# --- far away: eight layers, a round trip each for the head group that the leader lacks ---

proxy far 127.0.0.1 127.0.0.2 --delay 1
start n1 --listen "127.0.0.2:${line[far]##*:}" --advertise "${line[far]}" --no-lan --no-ends \
    --store "$tmp/store" --model atlas:q80 --layers 0-7 --heads 1
: >"$tmp/n0.log"
start n0 --no-lan --ends --store "$tmp/store" --model atlas:q80 --layers 0-7 --trunk --heads 0 \
    --experts 0-15 --dense 0-7 --share-rtt 500 --join "${link[n1]}"
wait_until 20 serves 1 || die "nobody shares over a slow line: $(cat "$tmp/n0.log")"
"$bin/survive" "${link[n0]}" 2 $tokens "Tell me about Japan." >"$tmp/answer" 2>"$tmp/answer.err"
cmp "$tmp/answer" "$tmp/oracle.2" || die "another answer over a slow line"
us=$(sed -n 's/.*"steps":'$tokens',"compute_ms":\([0-9]*\).*/\1/p' "$tmp/answer.err")
us=$((us * 1000 / tokens))
rtt=$("$bin/swarm-node" status --json | grep -o '"rtt_us":[0-9]*' | head -n 1 | cut -d: -f2)
echo "8 rounds of $rtt us: a token took $us us"
[ $us -ge $((8 * rtt / 5)) ] && [ $us -le $((8 * rtt * 5)) ] || die "that is not what 8 rounds take"
stop_all

# --- whether: by prediction, and not over a line that is too slow ---

proxy slow 127.0.0.1 127.0.0.2 --delay 5
start s1 --listen "127.0.0.2:${line[slow]##*:}" --advertise "${line[slow]}" --no-lan \
    --store "$tmp/store" --model atlas:q80
start s0 --no-lan --store "$tmp/store" --model atlas:q80 --share auto --share-rtt 500 \
    --join "${link[s1]}"
# why PATTERN: the log of s0 says so, and its status
why() { "$bin/swarm-node" status "${pid[s0]}" --once | tr -s ' \n' ' ' | grep -Eq "$1"; }
alone='layers are not shared: with 1 other a layer takes [0-9.]+ ms alone, .* 10 % must be gained'
wait_until 20 grep -Eq "$alone" "$tmp/s0.log" || die "shared all the same: $(cat "$tmp/s0.log")"
wait_until 20 why 'layers are not shared: with 1 other' || die "the status does not say why"
"$bin/survive" "${link[s0]}" 2 $tokens "Tell me about Japan." >"$tmp/answer" 2>"$tmp/answer.err"
cmp "$tmp/answer" "$tmp/oracle.2" || die "another answer alone"
shared s0 1 && die "shared though it does not pay: $(cat "$tmp/s0.log")"
stop s0
start s0 --no-lan --store "$tmp/store" --model atlas:q80 --share on --join "${link[s1]}"
far='layers are not shared with .*: it is [0-9.]+ ms away, and over 2 ms each layer waits longer'
wait_until 20 grep -Eq "$far" "$tmp/s0.log" || die "shared from afar: $(cat "$tmp/s0.log")"
wait_until 20 why 'layers are not shared with .* ms away, and over 2 ms' ||
    die "the status does not say with whom not"
stop_all
echo "not shared where it does not pay, or from afar, and said so"
