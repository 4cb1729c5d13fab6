#!/usr/bin/env bash
# swarm-bench on a toy: every command runs, its JSON is JSON and has the rows it should, a store that
# it made can be asked, and a ratio that fell fails the comparison.
. "$(dirname "$0")/lib.sh"
bench=$bin/swarm-bench
store=$tmp/store

"$bench" make "$src/models/atlas/config.json" --store "$store" --name toy:q40 >"$tmp/made"
grep -q '^name  *toy:q40$' "$tmp/made" || die "make does not say what it made"
id=$(awk '$1 == "model" { print $2 }' "$tmp/made")
"$bench" make "$src/models/atlas/config.json" --store "$tmp/again" --name other:q40 --threads 1 >"$tmp/made"
[ "$id" = "$(awk '$1 == "model" { print $2 }' "$tmp/made")" ] || die "another id for the same input"
status=0
"$bench" make "$src/models/atlas/config.json" --store "$store" --name toy:q40 --seed 2 2>"$tmp/err" || status=$?
[ $status -eq 1 ] && grep -q 'belongs to another model' "$tmp/err" || die "a name moved by itself"

# the tokenizer that it gets is enough for a conversation
start n0 --store "$store"
[[ $("$bin/swarm-ask" "${link[n0]}" --json --max-tokens 5 "Hello") == *'"tokens":5,'* ]] ||
    die "a random model does not answer"
stop_all

# rows COMMAND... : its JSON's rows, checked
rows() {
    "$bench" "$@" --json >"$tmp/$1.json"
    grep -c '"what"' "$tmp/$1.json"
}
[ "$(rows model "$store" --rounds 3 --context 20)" -ge 5 ] || die "model has too few rows"
[ "$(rows model "$store" --rounds 3 --context 20 --batch 3 --threads 1)" -ge 5 ] || die "no batch"
[ "$(rows kv "$store" --rounds 3 --context 5,100)" -ge 10 ] || die "kv has too few rows"
[ "$(rows prefill "$store" --rounds 1 --tokens 70 --chunk 32)" -ge 5 ] || die "prefill has too few rows"
grep -q '"context 100, batch 1, .*: decode", "unit": "tokens/s", "bound": [1-9]' "$tmp/kv.json" ||
    die "kv does not decode"

# compared with itself; with what claims to have been ten times better; with something else
"$bench" model "$store" --rounds 3 --context 20 --json >"$tmp/base.json"
sed -E '/"ratio": 0.0000/!s/"ratio": [0-9.]+/"ratio": 0.0001/' "$tmp/base.json" >"$tmp/worse.json"
sed -E '/"ratio": 0.0000/!s/"ratio": [0-9.]+/"ratio": 1000/' "$tmp/base.json" >"$tmp/better.json"
"$bench" model "$store" --rounds 3 --context 20 --baseline "$tmp/worse.json" >/dev/null ||
    die "a better ratio fails"
status=0
"$bench" model "$store" --rounds 3 --context 20 --baseline "$tmp/better.json" >/dev/null 2>"$tmp/err" || status=$?
[ $status -eq 1 ] || die "a ratio that fell passes"
grep -q 'decode: the ratio fell from 1000.00 to' "$tmp/err" || die "a fall is not told"
status=0
"$bench" model "$store" --rounds 3 --context 30 --baseline "$tmp/better.json" >/dev/null 2>"$tmp/err" || status=$?
[ $status -eq 1 ] && grep -q 'has no row of this run' "$tmp/err" || die "comparing nothing passes"

# what cannot be
refused() {
    local status=0 sentence=$1
    shift
    "$bench" "$@" >/dev/null 2>"$tmp/err" || status=$?
    [ $status -ne 0 ] && grep -q "$sentence" "$tmp/err" || die "$*: $(cat "$tmp/err")"
}
refused "neither glm-4.5-air" make no-such-shape --store "$store"
refused "are asked for" make glm-4-9b --layers 41 --store "$store"
refused "unknown type" make glm-4-9b --type q41 --store "$store"
refused "positions" model "$store" --context 100000000
refused "numbers with commas" kv "$store" --context 5,x
refused "batch is" model "$store" --batch 0
refused "no instruction set" kernels --isa mmx
refused "a command is needed"
refused "unknown command" nonsense
