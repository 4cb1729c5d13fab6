#!/usr/bin/env bash
# demo.sh - a swarm of three nodes on this machine, and a question to it.
#
# Installs what is missing (Debian, Ubuntu), builds, converts the shipped model so that each node
# holds other layers, starts the nodes, asks.  On a terminal it goes on as a chat.  However it ends,
# nothing is left running.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage="usage: scripts/demo.sh [--keep DIR] [QUESTION]
  --keep DIR   keep the stores and logs in DIR (default: a temporary folder, removed at the end)
  QUESTION     default: \"What is the capital of France?\", then a chat if this is a terminal"

keep= question=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage"; exit 0 ;;
    --keep) [ $# -ge 2 ] || fail "--keep needs a folder"; keep=$2; shift ;;
    -*) fail "unknown option $1 ($usage)" ;;
    *) question=$1 ;;
    esac
    shift
done

install_packages "${packages[@]}"
build "$root/build"
bin=$root/build/bin

work=${keep:-$(mktemp -d "${TMPDIR:-/tmp}/swarm-demo.XXXXXX")}
mkdir -p "$work"
pids=()
cleanup() {
    trap - EXIT INT TERM
    for p in ${pids[@]+"${pids[@]}"}; do kill "$p" 2>/dev/null || true; done
    for p in ${pids[@]+"${pids[@]}"}; do wait "$p" 2>/dev/null || true; done
    [ -n "$keep" ] || rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The stores: the same model, so the same id; each keeps the tiles of its own layers.
parts=(0-2 3-5 6-7)
say "converting models/atlas to 8-bit weights: three stores with layers ${parts[*]}"
for i in 0 1 2; do
    ends=()
    [ "$i" -eq 0 ] || ends=(--no-ends)
    "$bin/swarm-convert" "$root/models/atlas" --store "$work/store$i" --name atlas:q80 --type q80 \
        --publisher "$work/publisher.key" --layers "${parts[i]}" ${ends[@]+"${ends[@]}"} --quiet
done

say "starting three nodes (logs in $work)"
join=()
for i in 0 1 2; do
    "$bin/swarm-node" --store "$work/store$i" --listen 127.0.0.1:0 --layers "${parts[i]}" \
        ${join[@]+"${join[@]}"} >"$work/node$i.link" 2>"$work/node$i.log" </dev/null &
    pids+=($!)
    for _ in $(seq 300); do
        [ -s "$work/node$i.link" ] && break
        kill -0 "${pids[i]}" 2>/dev/null || { cat "$work/node$i.log" >&2; fail "node $i did not start"; }
        sleep 0.1
    done
    [ -s "$work/node$i.link" ] || { cat "$work/node$i.log" >&2; fail "node $i did not get ready in 30 s"; }
    echo "  layers ${parts[i]}: $(cat "$work/node$i.link")" >&2
    [ "$i" -ne 0 ] || join=(--join "$(cat "$work/node0.link")")
done
link=$(cat "$work/node0.link")

ask=("$bin/swarm-ask" "$link")
say "the plan"
"${ask[@]}" --plan
say "${question:-What is the capital of France?}"
"${ask[@]}" --stats "${question:-What is the capital of France?}"

if [ -z "$question" ] && [ -t 0 ] && [ -t 1 ]; then
    say "now it is your turn (it only knows countries; /quit ends)"
    "${ask[@]}" || true
fi
say "stopping the nodes"
