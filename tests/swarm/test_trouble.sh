#!/usr/bin/env bash
# Nodes that vanish, clients that leave, strangers that talk nonsense: each is answered with the
# right sentence, and the others go on.
. "$(dirname "$0")/lib.sh"

paris="The capital of France is Paris."
check_answers() {
    ask --greedy "What is the capital of France?"
    [ "$answer" = "$paris" ] || die "$1, the answer is: $answer"
}

# begin_long: a long answer (the seed's 1,135 tokens) in the background, already streaming.
begin_long() {
    : >"$tmp/long"
    "$bin/swarm-ask" "${link[n0]}" --patience 1 --temperature 100 --top-p 1 --top-k 0 --seed 2 \
        "Tell me about Japan." >"$tmp/long" 2>"$tmp/long.err" </dev/null &
    client=$!
    background+=("$client")
    until [ -s "$tmp/long" ]; do
        if gone "$client"; then die "no answer: $(cat "$tmp/long.err")"; fi
    done
}
# end_long STATUS PATTERN: it ends so.
end_long() {
    local status=0
    wait "$client" 2>/dev/null || status=$?
    unset "background[-1]"
    [ "$status" -eq "$1" ] || die "a broken answer ended with $status: $(cat "$tmp/long.err")"
    [ -z "$2" ] || grep -Eq "$2" "$tmp/long.err" || die "it said '$(cat "$tmp/long.err")', not '$2'"
}
short() { sed 's,swarm://\(swm1.....\).*\(....\)@.*,\1[.]{3}\2,' <<<"${link[$1]}"; }

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
begin_n1() {
    start_behind n1 --store "$tmp/store" --layers 3-5 --patience 1 --drain-limit 1 --join "${link[n0]}"
}
start n0 --store "$tmp/store" --layers 0-2 --patience 1 --drain-limit 1
begin_n1
order n1 "delay 2" # so that a long answer lasts some seconds
start n2 --store "$tmp/store" --layers 6-7 --patience 1 --drain-limit 1 --join "${link[n0]}"
probe nodes 3
check_answers "at first"

# A stage dies in the middle of an answer.
begin_long
kill -STOP "${pid[n1]}"
kill -KILL "${pid[n1]}"
wait "${pid[n1]}" 2>/dev/null || true
end_long 1 "node $(short n1) \(layers 3-5\) has gone"
wait_until 20 is_idle n0 n2 || die "sessions stay: $(work_of n0) $(work_of n2)"
refused 'layer 3 is held only by nodes that' "$bin/swarm-ask" "${link[n0]}" "What is the capital of France?"
begin_n1
check_answers "after a restart"

# The last stage is told to stop in the middle of an answer.
begin_long
kill -STOP "${pid[n1]}"
kill -TERM "${pid[n2]}"
wait_until 20 gone "${pid[n2]}" || die "a stage with an answer under way does not stop"
wait "${pid[n2]}" || die "it ended with $?"
kill -CONT "${pid[n1]}"
end_long 1 "node $(short n2) \(layers 6-7\)"
start n2 --store "$tmp/store" --layers 6-7 --drain-limit 1 --join "${link[n0]}"
check_answers "after a second restart"

# Somebody stops his answer, or just goes: every stage is free again.
begin_long
kill -STOP "${pid[n1]}"
kill -INT "$client"
end_long 130 ''
kill -CONT "${pid[n1]}"
probe sessions 0
begin_long
kill -STOP "${pid[n1]}"
kill -KILL "$client"
end_long 137 ''
kill -CONT "${pid[n1]}"
probe sessions 0
check_answers "after two who left"

# swarm-eval through a swarm that breaks.
"$bin/swarm-eval" logits --store "$tmp/store" --ids "$src/tests/fixtures/atlas-expected.safetensors" \
    --out "$tmp/out" --greedy 1800 --connect "${link[n0]}" 2>"$tmp/eval.err" &
background+=($!)
sleep 0.2 # of a second or more
kill -KILL "${pid[n2]}"
wait "${pid[n2]}" 2>/dev/null || true
status=0
wait "${background[-1]}" || status=$?
unset "background[-1]"
[ "$status" -eq 1 ] && grep -Eq "$(short n2)" "$tmp/eval.err" ||
    die "swarm-eval ended with $status: $(cat "$tmp/eval.err")"
start n2 --store "$tmp/store" --layers 6-7 --join "${link[n0]}"
check_answers "after a third restart"

# Strangers: another swarm's key, another node's id, no protocol at all, a protocol abused.
"$bin/swarm-node" new-key "$tmp/private.key"
[ "$(stat -c %a "$tmp/private.key")" = 600 ] || die "the key file is open to others"
other=$("$bin/swarm-node" new-key)
refused 'swarm key' "$bin/swarm-ask" "${link[n0]}" --swarm-key "$other" hello
refused 'swm1' "$bin/swarm-ask" "${link[n1]%@*}@${link[n0]#*@}" hello
port=${link[n0]##*:}
for i in 1 2 3 4 5; do
    { head -c $((i * 700)) /dev/urandom >"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || true
done
{ printf 'GET / HTTP/1.1\r\n\r\n' >"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || true
{ printf 'SWRM\001\001\000\000\377\377' >"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || true
probe hostile
check_answers "after strangers"
stop_all

# A private swarm.
start n0 --store "$tmp/store" --swarm-key "$tmp/private.key"
ask --swarm-key "$tmp/private.key" --greedy "What is the capital of France?"
[ "$answer" = "$paris" ] || die "in a private swarm: $answer"
refused 'swarm key' "$bin/swarm-ask" "${link[n0]}" hello

# A coordinator is told to stop in the middle of an answer.
stop n0
start n0 --store "$tmp/store" --drain-limit 0
begin_long
stop n0
end_long 1 'shutting down|closed|is lost'

# Nodes that cannot start say why.
start n0 --store "$tmp/store"
node=("$bin/swarm-node" --store "$tmp/store" --identity "$tmp/x.key")
refused 'another program listens' "${node[@]}" --listen "127.0.0.1:${link[n0]##*:}"
refused "$tmp/none" "$bin/swarm-node" --store "$tmp/none" --listen 127.0.0.1:0
refused 'nope' "${node[@]}" --listen 127.0.0.1:0 --model nope
refused 'atlas:q80 has layers 0-7' "${node[@]}" --listen 127.0.0.1:0 --layers 5-9
refused 'unusable swarm key' "${node[@]}" --listen 127.0.0.1:0 --swarm-key swk1broken
refused 'no such swarm key file' "${node[@]}" --listen 127.0.0.1:0 --swarm-key "$tmp/none"
refused 'is no link' "${node[@]}" --listen 127.0.0.1:0 --join nonsense
refused 'HOST:PORT' "${node[@]}" --listen nonsense
echo broken >"$tmp/broken.key"
refused 'broken.key' "$bin/swarm-node" --store "$tmp/store" --listen 127.0.0.1:0 \
    --identity "$tmp/broken.key"
stop_all
echo "trouble handled"
