#!/usr/bin/env bash
# test_demo.sh - the README's first command: it answers, and however it ends nothing is left.
# Called by scripts/test.sh (it builds, so it is not run beside other tests).
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

nodes_of() { pgrep -f -- "--store $1/" || true; }

scripts/demo.sh --keep "$dir/whole" </dev/null >"$dir/out" 2>"$dir/err" || { cat "$dir/err"; exit 1; }
grep -q 'The capital of France is Paris\.' "$dir/out" || { cat "$dir/out"; echo "wrong answer"; exit 1; }
grep -q 'tokens/s' "$dir/out" "$dir/err" || { echo "the demo does not say how fast it was"; exit 1; }
[ -z "$(nodes_of "$dir/whole")" ] || { echo "the demo left nodes running"; exit 1; }

# Interrupted while the nodes start.
setsid scripts/demo.sh --keep "$dir/cut" </dev/null >/dev/null 2>&1 &
demo=$!
for _ in $(seq 600); do
    [ -n "$(nodes_of "$dir/cut")" ] && break
    sleep 0.05
done
kill -TERM "$demo"
wait "$demo" && status=0 || status=$?
[ "$status" -eq 130 ] || { echo "an interrupted demo ended with $status"; exit 1; }
[ -z "$(nodes_of "$dir/cut")" ] || { echo "an interrupted demo left nodes running"; exit 1; }
echo "the demo answers, and leaves nothing behind"
