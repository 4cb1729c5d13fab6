#!/usr/bin/env bash
# The tables of docs/hold-106b.md, computed by the planner.
#   scripts/hold_table.sh BIN            prints the page with fresh tables
#   scripts/hold_table.sh BIN --write    writes it
# The page holds "<!-- table NAME -->" where a table goes; it ends at the next empty line.
set -euo pipefail
bin=$1
page=$(dirname "$0")/../docs/hold-106b.md

# plan SPEC...: the planner's JSON.
plan() {
    local spec options=()
    for spec in "$@"; do options+=(--pc "$spec"); done
    "$bin/swarm-node" plan "${options[@]}" --json | sed 's/,"left":.*//' # what follows is not the plan
}
field() { sed "s/.*\"$1\":\([0-9.]*\).*/\1/" <<<"$2"; }
stages() { sed 's/,"home_us".*//' <<<"$1" | grep -o '"hop_us"' | wc -l; }

# Equal PCs, as many as it takes: how many, and tokens/s at each distance.
table_equal() {
    local ram gbs ms json row n
    echo "| memory of each | read at | PCs | at 0.5 ms (one home) | 20 ms | 40 ms | 80 ms |"
    echo "|---|---|---|---|---|---|---|"
    for ram in 8 16 24 32 48 64; do
        for gbs in 40 60 80; do
            row="" n=""
            for ms in 0.5 20 40 80; do
                json=$(plan "${ram}G,${gbs}GB/s,${ms}ms x?")
                n=$(stages "$json")
                row+=" $(printf %.1f "$(field tokens_per_s "$json")") |"
            done
            echo "| $ram GiB | $gbs GB/s | $n |$row"
        done
    done
}

# One large PC that asks, and others far away that help out.
table_mixed() {
    local first others spec json
    echo "| who asks | others, at 40 ms | tokens/s | where the time of a token goes |"
    echo "|---|---|---|---|"
    for first in "32G,60GB/s" "32G,80GB/s" "48G,80GB/s"; do
        for others in "16G,40GB/s,40ms x?" "16G,60GB/s,40ms x?" "32G,60GB/s,40ms x?"; do
            json=$(plan "$first" "$others")
            spec=${others%%,40ms*}
            echo "| ${first/G,/ GiB, } | $(($(stages "$json") - 1)) of ${spec/G,/ GiB, } |" \
                "$(printf %.1f "$(field tokens_per_s "$json")") | $(shares "$json") |"
        done
    done
}

# Milliseconds of a token: computing and on the way.
shares() {
    awk -v all="$(field token_us "$1")" -v home="$(field home_us "$1")" -v hops="$(
        grep -o '"hop_us":[0-9]*' <<<"$1" | awk -F: '{ sum += $2 } END { print sum }')" 'BEGIN {
        printf "%.0f ms computing, %.0f ms on the way", (all - home - hops) / 1000, (home + hops) / 1000 }'
}

# The same five PCs behind slow lines.
table_uplink() {
    local mbit json row
    echo "| uplink of each | 20 ms | 40 ms | 80 ms |"
    echo "|---|---|---|---|"
    for mbit in 5 10 20 50 1000; do
        row=""
        for ms in 20 40 80; do
            json=$(plan "16G,60GB/s,${ms}ms,${mbit}Mbit x?")
            row+=" $(printf %.1f "$(field tokens_per_s "$json")") |"
        done
        echo "| $mbit Mbit/s |$row"
    done
}

fresh() {
    local line skip=""
    while IFS= read -r line; do
        if [ -n "$skip" ] && [ -n "$line" ]; then continue; fi
        skip=""
        printf '%s\n' "$line"
        case $line in
        "<!-- table "*)
            line=${line#<!-- table }
            "table_${line% -->}"
            skip=1
            ;;
        esac
    done <"$page"
}

fresh >"${TMPDIR:-/tmp}/hold-106b.$$"
trap 'rm -f "${TMPDIR:-/tmp}/hold-106b.$$"' EXIT
if [ "${2:-}" = --write ]; then
    cp "${TMPDIR:-/tmp}/hold-106b.$$" "$page"
else
    cat "${TMPDIR:-/tmp}/hold-106b.$$"
fi
