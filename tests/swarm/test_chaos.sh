#!/usr/bin/env bash
# Bad lines: five nodes, each behind a proxy that delays, stalls, cuts, swallows, splits and garbles.
# Every answer is the one of a single process, or, where nobody can replace what was cut off, ends
# within patience with one sentence.  With "all" as third argument: every profile ten times, and a
# flipped bit at every token.
. "$(dirname "$0")/lib.sh"
all=${3:-}
RANDOM=${CHAOS_SEED:-1}
patience=3

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
long=$(printf 'Tell me about Japan, and about its neighbours, and theirs. %.0s' {1..40})

# The oracle: one process.
start one --store "$tmp/store"
for n in 8 12 24 64 96; do
    "$bin/survive" "${link[one]}" 2 $n "Tell me about Japan." >"$tmp/short.$n" 2>/dev/null
    grep -q "^$n tokens" "$tmp/short.$n" || die "the oracle is short: $(cat "$tmp/short.$n")"
done
"$bin/survive" "${link[one]}" 3 12 "$long" >"$tmp/long.12" 2>/dev/null
stop one

# Two nodes for every stage but the coordinator's.  The coordinator comes last, so that every line
# it uses passes the other's proxy.
declare -A layers=([a]=3-5 [A]=3-5 [d]=6-7 [D]=6-7)
stages="a A d D"
id() { sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[$1]}"; }
join=()
for name in $stages; do
    start_behind "$name" --store "$tmp/store" --layers "${layers[$name]}" --no-ends
    join+=(--join "${link[$name]}")
done
start_behind n0 --store "$tmp/store" --layers 0-2 --patience $patience "${join[@]}"
lines="n0 $stages"
order "$lines" "seed $RANDOM"
probe nodes 5

# survive ORACLE TOKENS [AT:US:LAYER:WHAT...]: the answer, whatever happens, is the oracle's.
survive() {
    local kind=$1 n=$2 name deed options=() question="Tell me about Japan." with=2
    shift 2
    for name in "${!pid[@]}"; do
        options+=(--node "$(id "$name")=${pid[$name]}=$tmp/${everywhere:-$name}.orders")
    done
    for deed in "$@"; do options+=(--do "$deed"); done
    [ "$kind" = short ] || { question=$long with=3; }
    "$bin/survive" "${link[n0]}" $with "$n" "$question" "${options[@]}" \
        >"$tmp/answer" 2>"$tmp/answer.err" || die "$did: $(cat "$tmp/answer.err")"
    cmp -s "$tmp/answer" "$tmp/$kind.$n" || die "$did: another answer: $(cat "$tmp/answer")"
}

# What is written here all stages' proxies obey: who of two nodes dialled the other, and so through
# whose proxy they talk, changes when connections are lost.
mkfifo "$tmp/stages.orders"
while read -r line; do
    for name in $stages; do echo "$line" >"$tmp/$name.orders"; done
done <>"$tmp/stages.orders" &
background+=($!)

calm=("delay 0" "jitter 0" "rate 0" "split 0" "loss 0" "cut 0" "flip 0" "blackhole 0" "only both"
    "garble 0")
# profile NAME "ORDER;..." ORACLE TOKENS [DEED...]: an answer over such lines, which are calm after.
profile() {
    local orders begun=$EPOCHREALTIME
    did=$1
    IFS=';' read -ra orders <<<"$2"
    [ ${#orders[@]} -eq 0 ] || order "$lines" "${orders[@]}"
    survive "${@:3}"
    order "$lines" "${calm[@]}"
    awk -v name="$did" -v a="$begun" -v b="$EPOCHREALTIME" \
        '/^pause /{p = ", longest pause " $2 " ms"} /^p50/{m = ", median " $2 / 1000 " ms a piece"}
         END {printf "%-34s %.1f s%s%s\n", name, b - a, m, p}' "$tmp/answer.err"
    answers=$((answers + 1))
}
answers=0
at() { echo $((RANDOM % 20 + 1)):$((RANDOM % 800)); }
stage() { [ $((RANDOM % 2)) -eq 0 ] && echo 4 || echo 7; }

# Time enough for connections that were cut to be made again before the next profile.
whole() { probe nodes 5; }

delays() {
    profile "RTT 0" "" short 64
    profile "RTT 20 ms, jitter 30 %" "delay 10;jitter 3" short 24
    profile "RTT 40 ms, jitter 30 %" "delay 20;jitter 6" short 24
    profile "RTT 80 ms, jitter 30 %" "delay 40;jitter 12" short 12
    profile "RTT 200 ms, jitter 30 %" "delay 100;jitter 30" short 8
}
others() {
    local s ms
    profile "every byte for itself" "split 1" short 64
    profile "5 Mbit/s, a long prompt" "rate 625000;delay 5" long 12
    profile "20 Mbit/s, a long prompt" "rate 2500000;delay 10" long 12
    profile "lost segments" "loss 20;delay 5" short 24
    s=$(stage)
    ms=$((RANDOM % 2801 + 200))
    profile "a line stalls for $ms ms" "" short 24 "$(at):$s:stall $ms"
    profile "a line is reset" "" short 64 "$(at):$s:drop"
    whole
    profile "two lines are reset" "" short 64 "$(at):4:drop" "$(at):7:drop"
    whole
    profile "reset during the prompt" "" long 12 "0:$((RANDOM % 30000)):$s:drop"
    whole
    if [ -n "$all" ] || [ $((RANDOM % 2)) -eq 0 ]; then
        profile "half-open, nothing gets in" "only up" short 64 "$(at):$s:blackhole 1"
        whole
    fi
    if [ -n "$all" ] || [ "$did" = "reset during the prompt" ]; then
        profile "half-open, nothing gets out" "only down" short 64 "$(at):$s:blackhole 1"
        whole
    fi
    profile "cut off, both ways" "" short 64 "$(at):$(stage):blackhole 1"
    whole
}
# garbled AT LAYER [ORACLE TOKENS]: a bit is flipped, and somebody noticed.  On a busy machine the
# order may come after the answer: then once more.
flips() { cat "$tmp"/*.line.err | wc -l; }
garbled() {
    local before try everywhere=stages
    for try in 1 2 3; do
        before=$(flips)
        profile "a bit flips at token ${1%%:*}" "delay 2" "${3:-short}" "${4:-64}" "$1:$2:garble 1"
        whole
        [ "$(flips)" -eq "$before" ] || break
    done
    [ "$(flips)" -gt "$before" ] || die "$did: no bit was flipped"
    grep -q '^note .*refilled' "$tmp/answer.err" || die "$did: nobody noticed"
}

# Nobody can replace who falls silent: the answer ends within patience with one sentence.
# hopeless DEED...: so does one to whose stage for layers 3-5 this is done.
hopeless() {
    local begun=$SECONDS status=0
    "$bin/survive" "${link[n0]}" 2 64 "Tell me about Japan." --node "$(id a)=${pid[a]}=$tmp/a.orders" \
        "$@" >"$tmp/answer" 2>"$tmp/answer.err" || status=$?
    [ $status -eq 1 ] || die "without layers 3-5 an answer ended with $status"
    [ "$(grep -c '^failed: ' "$tmp/answer.err")" -eq 1 ] || die "it said $(cat "$tmp/answer.err")"
    [ $((SECONDS - begun)) -le $((5 * (patience + 3))) ] || die "it took $((SECONDS - begun)) s"
    sed -n 's/^failed: //p' "$tmp/answer.err"
    kill -CONT "${pid[a]}"
    probe nodes 4
    did="after that"
    survive short 64
}

# Lines that are reset while an answer is being prepared, some before they are open.
begin_badly() {
    local ms
    for ms in ${all:+10 20 40 50 70 80} 30 60; do
        (sleep 0.0$ms && for name in $stages; do echo drop >"$tmp/$name.orders"; done) &
        profile "all lines are reset after $ms ms" "delay 10" short 8
        wait $!
    done
}

if [ -z "$all" ]; then
    delays
    others
    garbled "$(at)" "$(stage)"
    garbled 0:$((RANDOM % 20000)) 7 long 12
    begin_badly
else
    for _ in {1..10}; do
        delays
        others
    done
    for ((t = 0; t < 64; t++)); do garbled $t:$((RANDOM % 800)) "$(stage)" short 96; done
    for _ in {1..10}; do begin_badly; done
fi
stop A
hopeless --do "$(at):4:19"
if [ -n "$all" ]; then
    kill -STOP "${pid[a]}"
    hopeless
fi
probe sessions 0
stop_all
echo "$answers answers over bad lines, each the one of a single process"
