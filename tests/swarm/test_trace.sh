#!/usr/bin/env bash
# swarm-ask --trace: who computed what when, of an answer of three nodes, with guesses, with a stage
# killed in the middle, and of one node alone; the answer is the same as without.
. "$(dirname "$0")/lib.sh"
python=${SWARM_PYTHON:-python3}
question="Tell me about Japan."
check() { "$python" "$src/tests/swarm/trace.py" "$@" || die "see above"; }

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
start_behind n2 --store "$tmp/store" --layers 6-7 --no-ends
start n0 --store "$tmp/store" --layers 0-2 --join "${link[n2]}"
start n1 --store "$tmp/store" --layers 3-5 --no-ends --join "${link[n2]}"
probe nodes 3

refused '[-]-trace is of one question' "$bin/swarm-ask" "${link[n0]}" --trace "$tmp/x.json"
refused '/nowhere/x' "$bin/swarm-ask" "${link[n0]}" --max-tokens 2 --trace "$tmp/nowhere/x" "$question"

ask --greedy --draft off --max-tokens 120 "$question"
plain=$answer
ask --greedy --draft off --max-tokens 120 --trace "$tmp/plain.json" "$question"
[ "$answer" = "$plain" ] || die "a traced answer differs"
check "$tmp/plain.json" 3 1 whole
ask --greedy --draft ngram --max-tokens 120 --trace "$tmp/drafts.json" "$question"
[ "$answer" = "$plain" ] || die "a traced answer with guesses differs"
check "$tmp/drafts.json" 3 1

# A stage is killed in the middle.
start spare --store "$tmp/store" --layers 3-5 --no-ends --join "${link[n2]}"
probe nodes 4
order n2 "delay 60" # so that there is a middle
: >"$tmp/healed"
"$bin/swarm-ask" "${link[n0]}" --greedy --draft off --max-tokens 120 --trace "$tmp/healed.json" \
    "$question" >"$tmp/healed" 2>"$tmp/ask.err" &
background+=($!)
asker=$!
sessions() { # its own number comes before its peers'
    "$bin/swarm-node" status "${pid[$1]}" --json | grep -o '"sessions":[0-9]*' | head -n 1
}
begun() { [ -s "$tmp/healed" ]; }
wait_until 30 begun || die "no answer begins: $(cat "$tmp/ask.err")"
victim=n1
[ "$(sessions n1)" != '"sessions":0' ] || victim=spare
kill -KILL "${pid[$victim]}"
order n2 "delay 0"
wait "$asker" || die "swarm-ask failed: $(cat "$tmp/ask.err")"
[ "$(cat "$tmp/healed")" = "$plain" ] || die "the healed answer differs: $(cat "$tmp/healed")"
check "$tmp/healed.json" 3 2
wait "${pid[$victim]}" 2>/dev/null || true
unset "pid[$victim]"

# One node, which makes several tokens at a time.
start alone --store "$tmp/store"
answer=$("$bin/swarm-ask" "${link[alone]}" --greedy --max-tokens 120 --trace "$tmp/alone.json" "$question")
[ "$answer" = "$plain" ] || die "the answer of one node differs"
check "$tmp/alone.json" 1 1

stop_all
echo "traces are true"
