#!/usr/bin/env bash
# bench.sh - how cost grows: sweeps of swarm-bench over context, batch, layers, experts, threads and
# prompt, as JSON and as plots; and comparing this machine with an earlier run of it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage="usage: scripts/bench.sh [--moe STORE] [--dense STORE] [--out DIR] [--plots DIR] [--baseline DIR]
  --moe STORE      a store with a MoE model (default: one is made under build/bench, 6 GB)
  --dense STORE    a store with a dense model (default: one is made under build/bench, 5 GB)
  --out DIR        where the JSON goes (default: build/bench/DATE)
  --plots DIR      draw plots of it there, as SVG
  --baseline DIR   fail if a ratio is more than 15 % below the file of the same name there
Use a quiet machine: swarm-bench says when other programs were at work."

moe= dense= out= plots= baseline=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage"; exit 0 ;;
    --moe | --dense | --out | --plots | --baseline)
        [ $# -ge 2 ] || fail "$1 needs a folder"
        printf -v "${1#--}" %s "$2"
        shift ;;
    *) fail "unknown option $1 ($usage)" ;;
    esac
    shift
done

install_packages "${packages[@]}"
build "$root/build"
bench=$root/build/bin/swarm-bench
out=${out:-$root/build/bench/$(date +%Y-%m-%d-%H%M)}
mkdir -p "$out"

# made SHAPE LAYERS: a store of random weights, made once
made() {
    local store=$root/build/bench/$1-$2
    [ -e "$store/made" ] || { "$bench" make "$1" --layers "$2" --store "$store" >&2; touch "$store/made"; }
    echo "$store"
}
moe=${moe:-$(made glm-4.5-air 5)}
dense=${dense:-$(made glm-4-9b 40)}

status=0
# measure NAME COMMAND...: its JSON as NAME.json, compared with the baseline's
measure() {
    local name=$1 compare=()
    shift
    [ -z "$baseline" ] || [ ! -e "$baseline/$name.json" ] || compare=(--baseline "$baseline/$name.json")
    say "$name"
    "$bench" "$@" --json "${compare[@]}" >"$out/$name.json" || status=1
}

measure kernels kernels
for kind in moe dense; do
    store=${!kind}
    measure "$kind-model" model "$store"
    measure "$kind-prefill" prefill "$store"
    measure "$kind-kv" kv "$store" --context 128,512,2048,8192,30000 --rounds 11
    for n in 1 2 4 8 16; do measure "$kind-batch-$n" model "$store" --batch "$n" --rounds 11; done
    for n in 32 64 128 256 512; do measure "$kind-tokens-$n" prefill "$store" --tokens "$n"; done
    for ((n = 1; n <= $(nproc); n = n < $(nproc) && 2 * n > $(nproc) ? $(nproc) : 2 * n)); do
        measure "$kind-threads-$n" model "$store" --threads "$n" --rounds 11
    done
    for n in 1 2 3 4 5; do measure "$kind-layers-$n" model "$store" --layers "$n" --rounds 11; done
done
for n in 1 2 4 8 16; do measure "moe-experts-$n" model "$moe" --experts "$n" --rounds 11; done

[ -z "$plots" ] || python3 "$root/scripts/plot_bench.py" "$out" "$plots"
say "the numbers are in $out"
exit "$status"
