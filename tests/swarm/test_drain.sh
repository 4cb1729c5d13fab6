#!/usr/bin/env bash
# Nodes that are told to stop in the middle of answers: their layers are handed over without a pause,
# a coordinator finishes what it was asked, and nobody waits for ever.
. "$(dirname "$0")/lib.sh"
tokens=200
question="Tell me about Japan."

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
convert "$src/models/atlas" "$tmp/ends" atlas:q80 --type q80 --layers 0-0
declare -A layers=([a]=0-3 [A]=0-3 [b]=4-7 [B]=4-7)

start one --store "$tmp/store"
"$bin/survive" "${link[one]}" 2 $tokens "$question" >"$tmp/oracle" 2>/dev/null
stop one
grep -q "^$tokens tokens" "$tmp/oracle" || die "the oracle is short: $(cat "$tmp/oracle")"

# The lines are slow, so that an answer takes a second.
id() { sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[$1]}"; }
run_node() {
    start_behind "$1" --store "$tmp/store" --layers "${layers[$1]}" --no-ends \
        ${link[a]:+--join "${link[a]}"} --drain-limit "${2:-10}"
    order "$1" "delay 2"
}
for name in a A b B; do run_node "$name"; done
run_n0() { start n0 --store "$tmp/ends" --layers 0-0 --join "${link[a]}"; }
run_n0
probe nodes 5

# begin AT:LAYER:SIGNAL...: an answer in the background, and what happens to it.
begin() {
    local name deed options=()
    : >"$tmp/answer.err"
    for name in a A b B; do
        [ -z "${pid[$name]:-}" ] || options+=(--node "$(id "$name")=${pid[$name]}")
    done
    for deed in "$@"; do options+=(--do "${deed%%:*}:0:${deed#*:}"); done
    "$bin/survive" "${link[n0]}" 2 $tokens "$question" "${options[@]}" >"$tmp/answer" 2>"$tmp/answer.err" &
    client=$!
    background+=("$client")
}
finish() {
    wait "$client" || die "$1: $(cat "$tmp/answer.err")"
    cmp -s "$tmp/answer" "$tmp/oracle" || die "$1: another answer: $(cat "$tmp/answer")"
}
# ended WHO: those who were told to stop have ended, with status 0.
ended() {
    local name
    for name in "$@"; do
        wait_until 20 gone "${pid[$name]}" || die "$name does not stop"
        wait "${pid[$name]}" || die "$name ended with $?"
        unset "pid[$name]"
    done
}
hit() {
    for name in a A b B; do
        if grep -q "^hit $(id "$name")" "$tmp/answer.err"; then echo "$name"; fi
    done
}

# A stage leaves: the first, the last, both at once.
for deeds in 20:1:15 20:5:15 "20:1:15 20:5:15"; do
    read -ra list <<<"$deeds"
    begin "${list[@]}"
    finish "$deeds"
    mapfile -t who < <(hit)
    [ ${#who[@]} -eq ${#list[@]} ] || die "$deeds: hit ${who[*]}"
    ended "${who[@]}"
    grep -q "^note node .* hands layers .* over to" "$tmp/answer.err" && ! grep -q "left;" "$tmp/answer.err" ||
        die "$deeds: no handing over: $(cat "$tmp/answer.err")"
    pause=$(sed -n 's/^pause //p' "$tmp/answer.err")
    usual=$(sed -n 's/^p50 //p' "$tmp/answer.err")
    echo "stage(s) ${who[*]} left; the longest time between two tokens: $pause ms, the usual one $usual us"
    [ "$pause" -lt 500 ] || die "$deeds: a pause of $pause ms"
    for name in "${who[@]}"; do run_node "$name"; done
    probe nodes 5
done

# Nobody else holds the layers: the node stays until the answer is there.
stop B
begin 20:5:15
finish "the only one leaves"
ended b
! grep -q "^note" "$tmp/answer.err" || die "the only one left in the middle: $(cat "$tmp/answer.err")"

# It does not stay longer than it may, nor when it is told twice.
tokens=300
run_node b 1
probe nodes 4
begin 20:5:15
ended b
wait_until 20 grep -q "^note waiting for layers 4-7" "$tmp/answer.err" || die "it left without a word"
run_node b
wait "$client" || die "after one that left in time: $(cat "$tmp/answer.err")"
begin 20:5:15 25:5:15
ended b
run_node b
wait "$client" || die "after one that was told twice: $(cat "$tmp/answer.err")"

# One is killed where lines are long: who waits is told how long.
tokens=5
begin
wait "$client" || die "a short answer: $(cat "$tmp/answer.err")"
cp "$tmp/answer" "$tmp/oracle.short"
run_node B
stop n0 # the next one measures its round trips anew
order "a A b B" "delay 350"
run_n0
probe nodes 5
begin 3:5:9
wait "$client" || die "over long lines: $(cat "$tmp/answer.err")"
cmp "$tmp/answer" "$tmp/oracle.short" || die "over long lines: another answer"
grep -Eq "^note computing 1[0-9] positions again, about [0-9.]+ s" "$tmp/answer.err" ||
    die "a long refill without a word: $(cat "$tmp/answer.err") $(grep again "$tmp/n0.log")"
order "a A b B" "delay 2"
mapfile -t who < <(hit)
wait "${pid[${who[0]}]}" 2>/dev/null || true
unset "pid[${who[0]}]"

# A coordinator finishes its answers, takes no new ones, and is gone.
tokens=200
begin
wait_until 20 grep -q "^stage" "$tmp/answer.err" || die "no answer"
kill -TERM "${pid[n0]}"
status=0
"$bin/swarm-ask" "${link[n0]}" --patience 0 "$question" >/dev/null 2>"$tmp/ask.err" || status=$?
[ "$status" -eq 1 ] && grep -q "shutting down" "$tmp/ask.err" || die "asked in vain: $(cat "$tmp/ask.err")"
finish "the coordinator leaves"
ended n0
[ -z "$(find "$tmp/ends" -path "*/requests/*")" ] || die "a journal stays"
stop_all
echo "drained"
