#!/usr/bin/env bash
# A node that is told to hold parts of layers fetches these tiles and no others, pins them, says so,
# keeps them over a restart, and says in one sentence what is wrong with impossible ones.
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/full" atlas:q80 --type q80
list() { "$bin/swarm-store" list --store "$tmp/$1" >"$tmp/list.out" 2>&1 || die "$(cat "$tmp/list.out")"; }
has() { grep -qF "$1" "$tmp/list.out" || die "swarm-store list does not say '$1': $(cat "$tmp/list.out")"; }
verified() {
    "$bin/swarm-store" verify --store "$tmp/$1" >"$tmp/verify.out" 2>&1 ||
        die "the store of $1: $(cat "$tmp/verify.out")"
}
member() {
    local name=$1
    shift
    start "$name" --store "$tmp/$name" --model atlas:q80 --no-ends "$@"
}

start n0 --store "$tmp/full"
ask "What is the capital of France?"
oracle=$answer

# --- only these tiles ---

member m --layers 2-5 --experts 0-3,6 --heads 1 --join "${link[n0]}"
grep -q 'holding head group 1, experts 0-3, expert 6 of layers 2-5 of atlas:q80' "$tmp/m.log" ||
    die "$(cat "$tmp/m.log")"
list m
has "head groups 1 of 2, experts 0-3, 6 of 16"
has "pinned           head group 1, experts 0-3, expert 6 of layers 2-5"
verified m
stop m
member m --join "${link[n0]}" # as it had decided
grep -c fetched "$tmp/m.log" | grep -qx 1 || die "m fetched again what it had: $(cat "$tmp/m.log")"
[ "$(grep -c 'holding head group 1, experts' "$tmp/m.log")" = 2 ] || die "$(cat "$tmp/m.log")"

# --- nobody takes them for whole layers ---

probe nodes 2
ask "What is the capital of France?"
[ "$answer" = "$oracle" ] || die "beside a node with parts: '$answer'"
stop n0
stop m

# --- from whole to parts and the trunk, from the disk alone ---

start l --store "$tmp/full" --layers 0-7 --trunk --heads 0-1 --experts 0-7 --dense 0-3
grep -q 'holding trunk, head groups 0-1, experts 0-7, dense parts 0-3 of layers 0-7' "$tmp/l.log" ||
    die "$(cat "$tmp/l.log")"
stop l

# --- sentences ---

refused() {
    local sentence=$1
    shift
    if "$bin/swarm-node" --listen 127.0.0.1:0 --identity "$tmp/r.key" --threads 1 --store "$tmp/full" \
        --no-lan "$@" >"$tmp/r.out" 2>"$tmp/r.err" </dev/null; then
        die "swarm-node $* started"
    fi
    grep -qF -- "$sentence" "$tmp/r.err" || die "swarm-node $* says: $(cat "$tmp/r.err")"
}
refused "give --layers A-B too" --experts 0-3
refused "experts 3-16 of layers 2-5: they are numbered 0-15" --layers 2-5 --experts 3-16
refused "is no list of numbers and ranges" --layers 2-5 --heads 3-1
refused "atlas:q80 has layers 0-7" --layers 2-8 --experts 0
refused "those layers have no dense parts" --layers 2-5 --dense 0
refused "lacks tiles" --store "$tmp/m" --layers 2-5 --experts 4
