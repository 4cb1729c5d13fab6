#!/usr/bin/env bash
# swarm-bench convert on a small random checkpoint and on atlas: its rows, and ratios above 0.
. "$(dirname "$0")/lib.sh"
bench=$bin/swarm-bench
export TMPDIR=$tmp

for options in "--size 8M --type q80" "--source $src/models/atlas --type q40 --threads 1"; do
    read -ra words <<<"$options"
    "$bench" convert "${words[@]}" --rounds 1 --json >"$tmp/out" 2>"$tmp/err" ||
        die "swarm-bench convert $options: $(cat "$tmp/err")"
    type=q80
    [[ $options == *q40* ]] && type=q40
    for row in "packing and hashing in memory" "writing what becomes of it" "swarm-convert" memory; do
        grep -Eq "\"what\": \"$type: $row\".*\"achieved\": [0-9.]*[1-9]" "$tmp/out" ||
            die "$options: no row '$row': $(cat "$tmp/out")"
    done
    grep -Eq "\"what\": \"$type: swarm-convert\".*\"ratio\": [0-9.]*[1-9]" "$tmp/out" ||
        die "$options: no ratio: $(cat "$tmp/out")"
    [ -z "$(compgen -G "$tmp/swarm-bench.*")" ] || die "$options: something is left behind"
done

refused() {
    local status=0 sentence=$1
    shift
    "$bench" convert "$@" >/dev/null 2>"$tmp/err" || status=$?
    [ $status -ne 0 ] && grep -q "$sentence" "$tmp/err" || die "$*: $(cat "$tmp/err")"
}
refused "unknown type" --type q41
refused "no-such-folder" --source "$tmp/no-such-folder"
