#!/usr/bin/env bash
# swarm-node plan: for PCs that are described, and for the node that runs here; docs/hold-106b.md is
# what the planner says today.
. "$(dirname "$0")/lib.sh"

what_if() { answer=$("$bin/swarm-node" plan "$@" 2>"$tmp/err") || die "plan $*: $(cat "$tmp/err")"; }
says() { [[ $answer == *"$1"* ]] || die "the plan does not say '$1': $answer"; }
unusable() {
    local status=0
    "$bin/swarm-node" plan "${@:2}" >/dev/null 2>"$tmp/err" || status=$?
    [ "$status" -eq 2 ] && grep -q "$1" "$tmp/err" || die "plan ${*:2}: $status, $(cat "$tmp/err")"
}

# A page of arithmetic: 60 GB, 7.29 GB a token, five PCs of 16 GiB.
what_if --pc "16G,40GB/s,20ms x?"
for words in '46 layers, 60.2 GB in all' 'a token reads 7.29 GB' 'goes through 5 nodes, about 4.3 tokens' \
    'layers 0-9 ' 'PC 5 ' 'No spare for layers 10-20: if PC 2 leaves'; do
    grep -q -- "$words" <<<"$answer" || die "the plan does not say '$words': $answer"
done
what_if --pc 64G,80GB/s
says 'goes through 1 node, about 11.0 tokens'
what_if --pc "32G,60GB/s" --pc "16G,40GB/s,20ms x6"
says 'If PC 2 leaves, layers 23-33 go'
says 'is slower: with it'

# From a file, and not enough PCs: what is missing, and exit status 1.
printf '# mine\n32G,60GB/s\n\n16G 40GB/s 20ms  # a friend\n' >"$tmp/pcs"
status=0
answer=$("$bin/swarm-node" plan --what-if "$tmp/pcs") || status=$?
[ "$status" -eq 1 ] || die "not enough PCs, but the status is $status"
says 'glm-4.5-air cannot be answered here.'
says 'Held by no usable node: layers 34-45.'
says 'One more PC like the others (2.51 ms a layer, 20.0 ms away, room for 11 layers) would not be enough.'
echo '16G,40GB/s,20ms x2' >>"$tmp/pcs"
what_if --what-if "$tmp/pcs" --json
[[ $answer == '{"model":"glm-4.5-air","stages":[{"id":"swm1'*'"more":{'*'}}' ]] || die "JSON: $answer"

unusable "'16Gx' in" --pc 16Gx,40GB/s
unusable "memory and its speed are needed" --pc 16G
unusable "memory and its speed are needed" --pc 40GB/s,20ms
unusable "'x0' in" --pc "16G,40GB/s x0"
unusable "'-5ms' in" --pc "16G,40GB/s,-5ms"
unusable "more than 200 PCs" --pc "16G,40GB/s x201"
unusable "must be the last" --pc "16G,40GB/s x?" --pc 16G,40GB/s
unusable "holds not even one layer" --pc "16G,40GB/s" --pc "3G,40GB/s x?"
unusable "no PC is described" --what-if /dev/null
echo what >"$tmp/nonsense"
unusable "nonsense:1: 'what'" --what-if "$tmp/nonsense"
unusable "glm-5 is neither" --model glm-5 --pc 16G,40GB/s
unusable "no such type" --type q41 --pc 16G,40GB/s

# The page.
"$src/scripts/hold_table.sh" "$bin" | diff -u "$src/docs/hold-106b.md" - ||
    die "docs/hold-106b.md is not what the planner says: scripts/hold_table.sh BIN --write"

# The node that runs here, by itself and by its link.
refused 'no node that answers questions runs on this machine' "$bin/swarm-node" plan
convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
start n0 --store "$tmp/store"
what_if
says 'atlas:q80 goes through 1 node'
what_if "${link[n0]}" --json
[[ $answer == '{"model": '*'"token_us"'* || $answer == '{"model":"atlas:q80"'* ]] || die "JSON: $answer"
stop_all
