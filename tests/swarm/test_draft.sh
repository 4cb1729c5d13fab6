#!/usr/bin/env bash
# Tokens that are guessed ahead change no answer: greedy and with dice, over three nodes and at home,
# with stages that are killed while guesses are under way.
. "$(dirname "$0")/lib.sh"
RANDOM=${DRAFT_SEED:-1}
convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
tokens=64
copying="Say this again, word for word: the cat and the dog and the cat and the dog and the cat and the dog."
questions=("Tell me about Japan." "What is the capital of France?" "$copying")
ways=(--greedy "--temperature 1 --seed 3" "--temperature 1 --seed 4" "--temperature 100 --top-k 3 --seed 5")

# each COMMAND...: for all questions and ways; number $k is this one's.
each() {
    local q way
    k=0
    for q in "${questions[@]}"; do
        for way in "${ways[@]}"; do
            read -ra options <<<"$way"
            "$@" "$q" --max-tokens $tokens "${options[@]}"
            k=$((k + 1))
        done
    done
}
keep() {
    ask "$@" --draft off --json
    [[ $answer == *'"drafted": 0,'* ]] || die "guesses though there are to be none: $answer"
    oracle[k]=${answer%%,\"finish\"*}
}
number() { sed "s/.*\"$1\": \([0-9]*\).*/\1/" <<<"$answer"; }
guessed=0 right=0
# same OPTIONS...: each way of guessing gives the same answer.
same() {
    local how
    for how in ngram mtp auto; do
        ask "$@" --draft $how --json
        [ "${answer%%,\"finish\"*}" = "${oracle[k]}" ] || die "$how: another answer to $*: $answer"
        guessed=$((guessed + $(number drafted))) right=$((right + $(number accepted)))
    done
}
# guesses WHERE: some were made, some of them right, some wrong.
guesses() {
    echo "$1: $guessed tokens guessed, $right were right; the same answers"
    [ $right -gt 0 ] && [ $guessed -gt $right ] || die "that is no test of guesses"
    guessed=0 right=0
}

start one --store "$tmp/store" --draft off
link[n0]=${link[one]}
each keep
"$bin/survive" "${link[one]}" 2 $tokens "Tell me about Japan." --temperature 1 >"$tmp/long.oracle" 2>/dev/null
stop one

start n0 --store "$tmp/store"
each same
guesses "at home"
stop n0

# Two nodes for every stage but the coordinator's own.
declare -A layers=([a]=3-5 [A]=3-5 [b]=6-7 [B]=6-7)
id() { sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[$1]}"; }
run_node() { start "$1" --store "$tmp/store" --layers "${layers[$1]}" --no-ends --join "${link[n0]}"; }
start n0 --store "$tmp/store" --layers 0-2 --patience 5
for name in "${!layers[@]}"; do run_node "$name"; done
probe nodes 5
each same
guesses "over three nodes"

# survive AT:US:LAYER:SIGNAL...
heals=0
survive() {
    local name deed options=()
    for name in "${!layers[@]}"; do options+=(--node "$(id "$name")=${pid[$name]}"); done
    for deed in "$@"; do options+=(--do "$deed"); done
    "$bin/survive" "${link[n0]}" 2 $tokens "Tell me about Japan." --temperature 1 "${options[@]}" \
        >"$tmp/answer" 2>"$tmp/answer.err" || die "$*: $(cat "$tmp/answer.err")"
    cmp -s "$tmp/answer" "$tmp/long.oracle" || die "$*: another answer: $(cat "$tmp/answer")"
    if grep -q '"heals":[1-9].*"accepted":[1-9]' "$tmp/answer.err"; then heals=$((heals + 1)); fi
    for name in "${!layers[@]}"; do
        grep -q "hit $(id "$name")" "$tmp/answer.err" || continue
        wait "${pid[$name]}" 2>/dev/null || true
        run_node "$name"
    done
    probe nodes 5
}
for i in {1..8}; do survive $((RANDOM % (tokens - 16))):$((RANDOM % 500)):$((4 + 3 * (i % 2))):9; done
survive 8:0:4:9 30:0:7:9
[ $heals -ge 2 ] || die "only $heals of 9 answers were hit and guessed on"
echo "$heals answers survived kills with guesses under way"
probe sessions 0
stop_all
