#!/usr/bin/env bash
# swarm-ask against three nodes, as a person and as a program use it.
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
refused 'no node that answers questions runs on this machine' "$bin/swarm-ask" "hello"
start_split "--store $tmp/store" 0-2 3-5 6-7

# The right answer, by a link and without.
paris="The capital of France is Paris."
ask --greedy "What is the capital of France?"
[ "$answer" = "$paris" ] || die "the answer is: $answer"
answer=$("$bin/swarm-ask" --greedy "What is the capital of France?" 2>"$tmp/ask.err")
[ "$answer" = "$paris" ] || die "without a link the answer is: $answer"
ask --greedy --no-think --system "Answer briefly." "What is the capital of Peru?"
[ "$answer" = Lima ] || die "briefly: $answer"

# JSON, statistics, the plan.
ask --greedy --json "Which is larger, Brazil or Kenya?"
[[ $answer == '{"answer":"Brazil is larger.","reasoning":"Brazil covers'*'"finish":"stop"'* ]] ||
    die "JSON: $answer"
ask --greedy --json --max-tokens 3 "Tell me about Japan."
[[ $answer == *'"finish":"length"'*'"tokens":3,'* ]] || die "JSON of a cut answer: $answer"
ask --greedy --stats "What is the capital of France?"
[ "$(grep -c 'layers .* computed .* ms in' "$tmp/ask.err")" = 3 ] ||
    die "statistics: $(cat "$tmp/ask.err")"
LC_ALL=C COLUMNS=70 ask --plan
# (What is quick on a busy machine's lines has no mark of its own.)
[ "$(grep -c '^  layers .*|[.# ]*|.* ms$' <<<"$answer")" = 3 ] && grep -q '|.*[.#].*|' <<<"$answer" || die "no picture: $answer"
[ -z "$(grep '|$\|ms$' <<<"$answer" | grep -E '.{71}')" ] || die "a picture too wide: $answer"
for words in 'goes through 3 nodes' 'layers 0-2 ' 'layers 3-5 ' 'layers 6-7 ' 'Most time is spent' 'No spare for layers 3-5'; do
    [[ $answer == *"$words"* ]] || die "the plan does not say '$words': $answer"
done

# A conversation: the second question is understood through the first; /new forgets it.
printf '%s\n' 'What is the capital of France?' 'And its currency?' '' /nonsense /help /new \
    'What is the capital of Japan?' 'And its currency?' /quit 'never asked' |
    "$bin/swarm-ask" "${link[n0]}" --greedy >"$tmp/chat" 2>"$tmp/ask.err"
for words in "$paris" 'The currency of France is the Euro' 'no such command' 'forget this' \
    '(a new conversation)' 'The capital of Japan is Tokyo.' 'The currency of Japan is the Japanese Yen'; do
    grep -Fq "$words" "$tmp/chat" || die "the chat does not say '$words': $(cat "$tmp/chat")"
done

# Streams that are closed, or take nothing: a sentence and a status, never an abort.
full='standard output cannot be written'
refused "$full" bash -c '"$0" "$@" >/dev/full' "$bin/swarm-ask" "${link[n0]}" --greedy "Tell me about Japan."
refused "$full" bash -c '"$0" "$@" >&-' "$bin/swarm-ask" "${link[n0]}" --greedy "Tell me about Japan."
refused "$full" bash -c '"$0" "$@" >/dev/full' "$bin/swarm-ask" --help
refused "$full" bash -c 'echo Hello | "$0" "$@" >/dev/full' "$bin/swarm-ask" "${link[n0]}" --greedy
answer=$("$bin/swarm-ask" "${link[n0]}" --greedy "What is the capital of France?" <&- 2>&-)
[ "$answer" = "$paris" ] || die "without input and errors the answer is: $answer"
"$bin/swarm-ask" "${link[n0]}" <&- || die "a chat whose input is closed ends with $?"
refused 'handshake' bash -c 'echo Hello | "$0" "$@"' "$bin/swarm-ask" "${link[n0]}" --patience 0 \
    --swarm-key "$("$bin/swarm-node" new-key)"

# Four clients at once, each with its own dice, get what they get alone.
questions=("What is the capital of France?" "Tell me about Japan." "Which countries border Germany?"
    "Vienna is the capital of which country?")
ask_one() {
    "$bin/swarm-ask" "${link[n0]}" --temperature 1.5 --top-p 1 --seed "$1" --json "${questions[$1]}" |
        sed 's/,"plan":.*//'
}
for i in 0 1 2 3; do ask_one "$i" >"$tmp/alone$i"; done
for round in 1 2 3; do
    clients=()
    for i in 0 1 2 3; do
        ask_one "$i" >"$tmp/together$i" &
        clients+=($!)
    done
    for p in "${clients[@]}"; do wait "$p" || die "a client failed"; done
    for i in 0 1 2 3; do
        cmp "$tmp/alone$i" "$tmp/together$i" || die "round $round: client $i got another answer"
    done
done
probe sessions 0

# What cannot be answered is refused in one sentence, and costs nobody anything.
long=$(printf 'What is the capital of France? %.0s' {1..400})
refused 'this conversation needs [0-9]+ positions, the model has 2048' \
    "$bin/swarm-ask" "${link[n0]}" "$long"
refused 'this node holds atlas:q80, not other' "$bin/swarm-ask" "${link[n0]}" --model other hello
start small --store "$tmp/store" --layers 6-7 --ctx 40 --join "${link[n0]}"
stop n2
probe nodes 3
refused "this conversation needs [0-9]+ positions, node swm1.* grants 40" \
    "$bin/swarm-ask" "${link[n0]}" "${long:0:600}"
ask --greedy --no-think --system "Answer briefly." "What is the capital of Peru?"
[ "$answer" = Lima ] || die "through a small node: $answer"
start silent --store "$tmp/store" --no-ends --join "${link[n0]}"
refused 'started with --no-ends, so it does not coordinate' "$bin/swarm-ask" "${link[silent]}" hello
for usage in '--temperature -1' '--top-p 0' 'a b' '--max-tokens x' '--nonsense'; do
    status=0
    # shellcheck disable=SC2086
    "$bin/swarm-ask" "${link[n0]}" $usage hello 2>"$tmp/ask.err" || status=$?
    [ "$status" -eq 2 ] || die "'$usage' ended with $status"
    [ "$(wc -l <"$tmp/ask.err")" = 1 ] || die "'$usage': $(cat "$tmp/ask.err")"
done

# Strangers of other machines may not ask, unless they are on the list.
outside=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -m 1 -E '^[0-9.]+$' || true)
if [ -n "$outside" ]; then
    "$bin/swarm-node" --store "$tmp/store" --listen 127.0.0.1:0 --identity "$tmp/friend.key" \
        >"$tmp/friend.link" 2>"$tmp/friend.log" & # only to make an identity
    background+=($!)
    wait_until 20 test -s "$tmp/friend.link" || die "no identity was made"
    kill "${background[-1]}"
    friend=$(sed 's,swarm://\(.*\)@.*,\1,' "$tmp/friend.link")
    pid[open]= && unset 'pid[open]'
    "$bin/swarm-node" --store "$tmp/store" --listen 0.0.0.0:0 --identity "$tmp/open.key" \
        --allow "$friend" >"$tmp/open.link" 2>"$tmp/open.log" &
    pid[open]=$!
    wait_until 20 test -s "$tmp/open.link" || die "no node on every interface"
    link[open]=$(cat "$tmp/open.link")
    [[ ${link[open]} == *"@$outside:"* ]] || echo "(the link has another interface's address)"
    refused 'answers only its own machine' "$bin/swarm-ask" "${link[open]}" hello
    "$bin/swarm-ask" "${link[open]}" --identity "$tmp/friend.key" --greedy \
        "What is the capital of France?" >"$tmp/answer"
    [ "$(cat "$tmp/answer")" = "$paris" ] || die "a friend is told: $(cat "$tmp/answer")"
else
    echo "skipped: who may ask from outside (this machine has only loopback)"
fi
stop_all
echo "asked and answered"
