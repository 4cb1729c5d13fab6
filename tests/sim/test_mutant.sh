#!/usr/bin/env bash
# test_mutant.sh MUTANT SEEDS FILE MADE - a simulated swarm with a mistake in it has to fail.
set -u
mutant=$1 seeds=$2 file=$3 made=$4
cmp -s "$file" "$made" && { echo "the mistake no longer applies to $file: tests/sim/tests.cmake"; exit 1; }
out=$("$mutant" --seeds "1-$seeds" 2>&1)
caught=$(grep -m1 -E 'BROKEN|signal' <<<"$out") || {
    echo "not caught within $seeds seeds: $out"
    exit 1
}
echo "caught: $caught"
grep -m1 replay <<<"$out"
