#!/usr/bin/env bash
# Stages that are killed, stopped and restarted in the middle of an answer: the answer is the one of
# a single process.  With "all" as third argument: at every token and in every phase (for the tokens
# from the fourth argument up to the fifth); with "pauses": how long 1,000 tokens of context take to
# be there again, over so many kills and stops as the next two say.
. "$(dirname "$0")/lib.sh"
all=${3:-}
seed=${HEALING_SEED:-1}
RANDOM=$seed
tokens=64

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
convert "$src/models/atlas" "$tmp/ends" atlas:q80 --type q80 --layers 0-0
declare -A layers=([a]=0-2 [A]=0-2 [b]=3-5 [B]=3-5 [d]=6-7 [D]=6-7)
long=$(printf 'Tell me about Japan, and about its neighbours, and theirs. %.0s' {1..40})

# The oracle: one process.
start one --store "$tmp/store"
"$bin/survive" "${link[one]}" 2 $tokens "Tell me about Japan." >"$tmp/short.oracle"
"$bin/survive" "${link[one]}" 3 $tokens "$long" >"$tmp/long.oracle"
stop one
grep -q "^$tokens tokens" "$tmp/short.oracle" || die "the oracle is short: $(cat "$tmp/short.oracle")"

# A coordinator whose layer nobody needs, and two nodes for every stage.
id() { sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[$1]}"; }
short_id() { sed 's/^\(swm1.....\).*\(....\)$/\1[.]{3}\2/' <<<"$(id "$1")"; }
run_node() { start "$1" --store "$tmp/store" --layers "${layers[$1]}" --no-ends --join "${link[n0]}"; }
start n0 --store "$tmp/ends" --layers 0-0 --patience 3
for name in "${!layers[@]}"; do run_node "$name"; done
probe nodes 7

# survive ORACLE [AT:US:LAYER:SIGNAL...]: the answer, whatever happens, is the oracle's.
survive() {
    local oracle=$1 name deed options=() question="Tell me about Japan." with=2
    shift
    for name in "${!pid[@]}"; do options+=(--node "$(id "$name")=${pid[$name]}"); done
    for deed in "$@"; do options+=(--do "$deed"); done
    [ "$oracle" = short ] || { question=$long with=3; }
    did="$oracle $*"
    "$bin/survive" "${link[n0]}" $with $tokens "$question" "${options[@]}" \
        >"$tmp/answer" 2>"$tmp/answer.err" || die "$did: $(cat "$tmp/answer.err")"
    cmp -s "$tmp/answer" "$tmp/$oracle.oracle" || die "$did: another answer: $(cat "$tmp/answer")"
}

# heal_back: those who were hit live again.
heal_back() {
    local name
    for name in "${!layers[@]}"; do
        grep -q "hit $(id "$name")" "$tmp/answer.err" || continue
        kill -KILL "${pid[$name]}" 2>/dev/null || true
        wait "${pid[$name]}" 2>/dev/null || true
        run_node "$name"
    done
    probe nodes 7
}

survive short
survive long

if [ "$all" = pauses ]; then
    long=$(printf 'Tell me about Japan, and about its neighbours, and theirs. %.0s' {1..62})
    start one --store "$tmp/store"
    "$bin/survive" "${link[one]}" 3 $tokens "$long" >"$tmp/long.oracle" 2>/dev/null
    stop one
    report() { # WHAT, then pauses in ms on stdin
        sort -n | awk -v what="$1" '{ p[NR] = $1 } END {
            printf "%s: %d answers, median pause %d ms, 95th percentile %d ms, longest %d ms\n", what, NR,
                p[int((NR + 1) / 2)], p[int(NR * 0.95 + 0.999)], p[NR] }'
    }
    for number in 9 19; do
        [ $number -eq 9 ] && n=${4:-48} || n=${5:-12}
        for ((i = 0; i < n; i++)); do
            survive long $((RANDOM % tokens)):$((RANDOM % 800)):$((1 + 3 * (i % 3))):$number
            sed -n 's/^pause //p' "$tmp/answer.err" >>"$tmp/pauses.$number"
            sed -n 's/^note .*refilled/refilled/p' "$tmp/answer.err" >>"$tmp/notes"
            heal_back
        done
        [ "$n" -eq 0 ] || report "signal $number" <"$tmp/pauses.$number"
    done
    sort "$tmp/notes" | uniq -c | sort -rn | head -n 3
    stop_all
    exit 0
fi

# Kills at any moment: first, middle and last stage; while the prompt goes through; two at once.
pauses=()
strike() {
    survive "$@"
    pauses+=("$(sed -n 's/^pause //p' "$tmp/answer.err")")
    heal_back
}
# only_the_lost LAYERS: the last loss was healed, and of all positions only these many layers were
# computed again at most; of a token under way, all of them.
only_the_lost() {
    local stats=$(sed -n 's/^stats //p' "$tmp/answer.err") rows work
    [[ $stats == *'"heals":1,'* ]] || return 0 # it came too late, or too early
    rows=$(sed 's/.*"heal_rows":\([0-9]*\).*/\1/' <<<"$stats")
    work=$(sed 's/.*"heal_layer_rows":\([0-9]*\).*/\1/' <<<"$stats")
    [ "$work" -lt $((rows * 8)) ] || return 0 # planned anew
    [ "$work" -ge "$rows" ] && [ "$work" -le $((rows * $1 + 2 * 8)) ] ||
        die "$did: $rows positions and $1 layers, but $work rows of a layer were computed again"
    spliced=$((spliced + 1))
}
spliced=0
if [ -n "$all" ]; then
    for ((at = ${4:-0}; at < ${5:-tokens}; at++)); do
        for layer in 1 4 7; do strike short $at:$((RANDOM % 800)):$layer:9; done
        [ $((at % 2)) -eq 0 ] || continue # and while the prompt goes through
        for layer in 1 4 7; do strike long 0:$((at * 1000)):$layer:9; done
    done
else
    for i in {1..15}; do
        strike short $((RANDOM % tokens)):$((RANDOM % 800)):$((1 + 3 * (i % 3))):9
        only_the_lost $((i % 3 == 2 ? 2 : 3))
    done
    [ $spliced -ge 3 ] || die "only $spliced of 15 losses were healed at one stage"
    for layer in 1 4 7; do strike long 0:$((RANDOM % 40000)):$layer:9; done
    strike short 20:0:1:9 20:0:4:9
    strike short $((RANDOM % tokens)):0:4:9 $((RANDOM % tokens)):0:7:9
    strike long 0:$((RANDOM % 40000)):1:9 0:100:7:9
    strike short 5:0:1:9 40:100:4:9 50:0:7:9
fi
mapfile -t pauses < <(printf '%s\n' "${pauses[@]}" | sort -n)
echo "${#pauses[@]} answers survived kills; median pause ${pauses[${#pauses[@]} / 2]} ms, longest ${pauses[-1]} ms"
# The goal is 2 s, 3 s for one in 20; this machine may have other work.
[ "${pauses[${#pauses[@]} / 2]}" -lt 2000 ] && [ "${pauses[-1]}" -lt 10000 ] || die "pauses after kills: ${pauses[*]} ms"
if [ -n "$all" ]; then
    stop_all
    exit 0
fi

# Stopped, not killed: noticed by silence.
for layer in 1 4 7; do
    survive short 30:0:$layer:19
    p=$(sed -n 's/^pause //p' "$tmp/answer.err")
    echo "the stage of layer $layer stopped: a pause of $p ms"
    [ "$p" -lt 20000 ] || die "a pause of $p ms after SIGSTOP" # goal: 4 s
    heal_back
done

# What the person sees.
for name in A B D; do stop "$name"; done
probe nodes 4
status=0
"$bin/survive" "${link[n0]}" 2 $tokens "Tell me about Japan." --node "$(id b)=${pid[b]}" \
    --do 20:0:4:9 >"$tmp/answer" 2>"$tmp/answer.err" || status=$?
[ "$status" -eq 1 ] || die "without a spare it ended with $status: $(cat "$tmp/answer.err")"
grep -Eq "^note waiting for layers 3-5; .*$(short_id b)" "$tmp/answer.err" ||
    die "waiting without a word: $(cat "$tmp/answer.err")"
grep -Eq "^failed: node $(short_id b) \(layers 3-5\) has gone.*nobody replaced it within 3 s" \
    "$tmp/answer.err" || die "a bad end: $(cat "$tmp/answer.err")"
wait "${pid[b]}" 2>/dev/null || true
run_node b
probe nodes 4

# No spare, but the node is back before patience ends; then one who was only stopped goes on.
"$bin/survive" "${link[n0]}" 2 $tokens "Tell me about Japan." --node "$(id b)=${pid[b]}" \
    --do 20:0:4:9 >"$tmp/answer" 2>"$tmp/answer.err" &
background=($!)
wait "${pid[b]}" 2>/dev/null || true
run_node b
wait "${background[0]}" || die "a restarted stage: $(cat "$tmp/answer.err")"
background=()
cmp "$tmp/answer" "$tmp/short.oracle" || die "a restarted stage gave another answer"
grep -Eq "^note node $(short_id b) left; layers 3-5 are now computed by $(short_id b); refilled" \
    "$tmp/answer.err" || die "a restart without a word: $(cat "$tmp/answer.err")"
: >"$tmp/answer.err" # of the one before
"$bin/survive" "${link[n0]}" 2 $tokens "Tell me about Japan." --node "$(id b)=${pid[b]}" \
    --do 20:0:4:19 >"$tmp/answer" 2>"$tmp/answer.err" &
background=($!)
wait_until 20 grep -q "^note waiting for layers 3-5; " "$tmp/answer.err" || # whoever noticed it first
    die "a silent stage without a word: $(cat "$tmp/answer.err")"
kill -CONT "${pid[b]}"
wait "${background[0]}" || die "a stage that went on: $(cat "$tmp/answer.err")"
background=()
cmp "$tmp/answer" "$tmp/short.oracle" || die "a stage that went on gave another answer"

# All sessions are closed, and everyone is well.
probe sessions 0
stop_all
echo "healed"
