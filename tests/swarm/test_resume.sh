#!/usr/bin/env bash
# A coordinator that is killed in the middle of an answer and started again, and clients whose
# connection breaks: the answer is the one of a single process, no piece lost, doubled or changed.
# With "all" as third argument: a kill at every token (from the fourth up to the fifth).
. "$(dirname "$0")/lib.sh"
all=${3:-}
seed=${RESUME_SEED:-1}
RANDOM=$seed
tokens=64
question="Tell me about Japan."

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
convert "$src/models/atlas" "$tmp/ends" atlas:q80 --type q80 --layers 0-0
files() { find "$tmp/ends/requests" -type f 2>/dev/null; }
none_left() { [ -z "$(files)" ]; }
some_left() { [ -n "$(files)" ]; }

# The oracle: one process.
start one --store "$tmp/store"
"$bin/survive" "${link[one]}" 2 $tokens "$question" >"$tmp/oracle"
stop one
grep -q "^$tokens tokens" "$tmp/oracle" || die "the oracle is short: $(cat "$tmp/oracle")"

start_behind a --store "$tmp/store" --layers 0-3 --no-ends
order a "delay 2" # so that a token is a token
start b --store "$tmp/store" --layers 4-7 --no-ends --join "${link[a]}"
port=0
run_n0() { # always at the same place
    start n0 --store "$tmp/ends" --layers 0-0 --join "${link[a]}" --drain-limit 0 --listen "127.0.0.1:$port" "$@"
    port=${link[n0]##*:}
    echo "${pid[n0]}" >"$tmp/n0.pid"
}
run_n0
probe nodes 3

# survive AT:US ...: the coordinator is killed at these moments and started again each time.
survive() {
    local moment options=(--coordinator "$tmp/n0.pid")
    for moment in "$@"; do options+=(--do "$moment:-1:9"); done
    "$bin/survive" "${link[n0]}" 2 $tokens "$question" "${options[@]}" \
        >"$tmp/answer" 2>"$tmp/answer.err" &
    client=$!
    background+=("$client")
    for moment in "$@"; do
        wait -n "${pid[n0]}" "$client" 2>/dev/null || true
        gone "${pid[n0]}" || die "$*: the coordinator lives: $(cat "$tmp/answer.err")"
        run_n0
    done
    wait "$client" || die "$*: $(cat "$tmp/answer.err")"
        cmp -s "$tmp/answer" "$tmp/oracle" || die "$*: another answer: $(cat "$tmp/answer")"
    wait_until 20 none_left || die "$*: a journal stays: $(files)"
}

survive
if [ -n "$all" ]; then
    for ((at = ${4:-0}; at < ${5:-tokens}; at++)); do survive $at:$((RANDOM % 800)); done
    echo "the coordinator was killed $((${5:-tokens} - ${4:-0})) times: the same answers"
    stop_all
    exit 0
else
    for i in {1..6}; do survive $((RANDOM % tokens)):$((RANDOM % 800)); done
fi
survive 0:0
survive 0:$((RANDOM % 4000))

# Three times in one answer, when so many of its tokens are in the journal.
order a "delay 0"
size() { stat -c %s "$(files)" 2>/dev/null || echo 0; }
"$bin/survive" "${link[n0]}" 2 1000 "$question" >"$tmp/long.oracle" 2>/dev/null
"$bin/survive" "${link[n0]}" 2 1000 "$question" --coordinator "$tmp/n0.pid" >"$tmp/answer" 2>"$tmp/answer.err" &
client=$!
background+=("$client")
for n in 100 400 700; do
    until [ "$(size)" -ge $((n * 8)) ]; do
        if gone "$client"; then die "no kill at $n: $(cat "$tmp/answer.err")"; fi
    done
    kill -KILL "${pid[n0]}"
    wait "${pid[n0]}" 2>/dev/null || true
    run_n0
done
wait "$client" || die "three kills: $(cat "$tmp/answer.err")"
cmp "$tmp/answer" "$tmp/long.oracle" || die "three kills: another answer"
echo "the coordinator was killed and came back: the same answers"

order a "delay 2"

# What lies on disk meanwhile: readable by nobody else, garbled or torn without harm.
begin() { # an answer that is cut off by its coordinator's death at token 40
    "$bin/survive" "${link[n0]}" 2 $tokens "$question" --coordinator "$tmp/n0.pid" \
        --do "40:0:-1:9" >"$tmp/answer" 2>"$tmp/answer.err" &
    client=$!
    background+=("$client")
    wait "${pid[n0]}" 2>/dev/null || true
    some_left || die "no journal"
    file=$(files)
    [ "$(stat -c %a "$file")" = 600 ] || die "$file: mode $(stat -c %a "$file")"
    [ "$(stat -c %a "$tmp/ends/requests")" = 700 ] || die "the folder is open to others"
}
finish() {
    run_n0
    wait "$client" || die "$1: $(cat "$tmp/answer.err")"
        cmp -s "$tmp/answer" "$tmp/oracle" || die "$1: another answer: $(cat "$tmp/answer")"
    wait_until 20 none_left || die "$1: a journal stays: $(files)"
}
begin
head -c 20 /dev/urandom >>"$file"
finish "garbage at the end"
begin
size=$(stat -c %s "$file")
truncate -s $((size - 8 * 10 - 3)) "$file"
finish "ten tokens lost and one torn"
begin
printf 'x' | dd of="$file" bs=1 seek=$((size - 8 * 5)) conv=notrunc status=none
finish "a garbled token"
begin
printf 'x' | dd of="$file" bs=1 seek=150 conv=notrunc status=none
run_n0
status=0
wait "$client" || status=$?
[ "$status" -eq 1 ] && grep -q "failed: this node does not know the request any more" "$tmp/answer.err" ||
    die "a garbled head: $status, $(cat "$tmp/answer.err")"
none_left || die "a garbled journal stays"

order a "delay 0"

# A client whose line breaks, or garbles a byte, again and again; n0 lives.
mkdir -m 700 "$tmp/elsewhere" # where no node is found by itself
through() { # FAULT
    local fault=$1 n
    rm -f "$tmp/$fault" && mkfifo "$tmp/$fault"
    "$bin/swarm-proxy" --target "127.0.0.1:$port" --only down "--$fault" $((RANDOM % 1000 + 2500)) \
        <"$tmp/$fault" >"$tmp/$fault.proxy" &
    background+=($!)
    exec 3>"$tmp/$fault"
    wait_until 20 grep -q : "$tmp/$fault.proxy" || die "no proxy"
    XDG_RUNTIME_DIR=$tmp/elsewhere "$bin/survive" "${link[n0]%:*}:$(sed 's/.*://;1q' "$tmp/$fault.proxy")" \
        2 1000 "$question" --coordinator "$tmp/n0.pid" >"$tmp/answer" 2>"$tmp/answer.err" || die "$fault: $(cat "$tmp/answer.err")"
    cmp "$tmp/answer" "$tmp/long.oracle" || die "$fault: another answer"
    n=$(grep -c "^note it is back, and the answer goes on" "$tmp/answer.err" || true)
    [ "$n" -ge 1 ] || die "$fault: the line never broke: $(cat "$tmp/answer.err")"
    echo "the client's line broke $n times ($fault): the same answer"
}
# Where it breaks once more under the client's last word, nobody tells n0 that the answer was heard,
# and the journal is kept for its ten minutes; so not every time.
for fault in cut flip; do
    for try in 1 2 3; do
        through $fault
        heard=yes
        wait_until 20 none_left || heard=no
        exec 3>&- # the proxy ends, and not before it has passed on that the answer was heard
        [ $heard = no ] || break
        rm -f "$tmp"/ends/requests/*
    done
    [ $heard = yes ] || die "$fault: journals stay"
done

order a "delay 2"

# A client that has gone for good: its answer is made, kept, and then forgotten.
begin
kill -KILL "$client"
wait "$client" 2>/dev/null || true
run_n0
probe sessions 0
some_left || die "the journal of an answer that was not told has gone"
kill -KILL "${pid[n0]}"
wait "${pid[n0]}" 2>/dev/null || true
touch -d '11 minutes ago' "$file"
run_n0
none_left || die "an old journal stays"

# The coordinator stops properly and comes back; a swarm-ask that does not want to wait says so.
"$bin/swarm-ask" "${link[n0]}" --temperature 100 --top-p 1 --top-k 0 --min-p 0 --seed 2 \
    --max-tokens 200 "$question" >"$tmp/whole" 2>"$tmp/whole.err"
"$bin/swarm-ask" "${link[n0]}" --temperature 100 --top-p 1 --top-k 0 --min-p 0 --seed 2 \
    --max-tokens 200 "$question" >"$tmp/again" 2>"$tmp/again.err" &
client=$!
background+=("$client")
wait_until 20 some_left || die "no journal of swarm-ask's question"
wait_until 20 test -s "$tmp/again" || die "no answer"
stop n0
run_n0
wait "$client" || die "swarm-ask after a stop: $(cat "$tmp/again.err")"
cmp "$tmp/whole" "$tmp/again" || die "swarm-ask gave another answer after a stop"
grep -q "shutting down; waiting for it, at most 30 s" "$tmp/again.err" &&
    grep -q "it is back, and the answer goes on" "$tmp/again.err" ||
    die "a restart without a word: $(cat "$tmp/again.err")"
"$bin/swarm-ask" "${link[n0]}" --temperature 100 --top-p 1 --top-k 0 --min-p 0 --seed 2 \
    --patience 1 "$question" >"$tmp/impatient" 2>"$tmp/again.err" &
client=$!
background+=("$client")
wait_until 20 test -s "$tmp/impatient" || die "no answer"
stop n0
status=0
wait "$client" || status=$?
[ "$status" -eq 1 ] && grep -q "it has not come back within 1 s" "$tmp/again.err" ||
    die "an impatient swarm-ask: $status, $(cat "$tmp/again.err")"
stop_all
echo "resumed"
