#!/usr/bin/env bash
# count.sh - instructions of fixed work on the AVX2 path, compared with the committed counts.
#
# A clock says nothing on a machine that others share; a count is the same on every run.  It depends
# on the compiler, so counts are compared only where its version is the one they were made with.
# callgrind knows AVX2 but not AVX-512: for that path there are the ratios of swarm-bench --baseline.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage="usage: scripts/count.sh [--update]
  (no option)  fail if a count is more than 15 % above tests/count/counts.txt
  --update     write the counts of this machine's compiler there instead"
counts=$root/tests/count/counts.txt
update=
case ${1:-} in
'') ;;
-h | --help) echo "$usage"; exit 0 ;;
--update) update=1 ;;
*) fail "unknown option $1 ($usage)" ;;
esac

[ "$(uname -m)" = x86_64 ] || { say "SKIPPED: counting instructions, which is for x86-64"; exit 0; }
install_packages "${packages[@]}" valgrind
build "$root/build"
compiler=$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' "$root/build/CMakeCache.txt")
version="gcc $("$compiler" -dumpfullversion 2>/dev/null)" || version="$("$compiler" --version | head -n 1)"
if [ -z "$update" ] && ! grep -qxF "# $version" "$counts"; then
    say "SKIPPED: counting instructions; the counts are of $(sed -n '1s/^# //p' "$counts"), this is $version"
    exit 0
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
work=$root/build/bin/count_work

# count NAME: instructions of one piece of work
count() {
    if ! valgrind --tool=callgrind --toggle-collect=counted --callgrind-out-file="$tmp/out" \
        "$work" "$1" "$root/models/atlas/config.json" "$tmp/store" >"$tmp/log" 2>&1; then
        cat "$tmp/log" >&2
        fail "counting $1"
    fi
    local n # of this process; a child that opening a store starts counts nothing
    n=$(sed -n 's/^.*Collected : \([0-9]*\).*$/\1/p' "$tmp/log" | sort -n | tail -n 1)
    [ "${n:-0}" -gt 1000 ] || fail "callgrind counted nothing of $1: $(tail -n 3 "$tmp/log")"
    echo "$n"
}

say "counting instructions of the AVX2 path"
works=$("$work")
echo "# $version" >"$tmp/counts"
for name in $works; do
    n=$(count "$name") || exit 1
    printf '%-24s %12d\n' "$name" "$n" >>"$tmp/counts"
done
if [ -n "$update" ]; then
    cp "$tmp/counts" "$counts"
    say "written to ${counts#"$root"/}"
    exit 0
fi

bad=0
while read -r name now; do
    before=$(awk -v name="$name" '$1 == name { print $2 }' "$counts")
    [ -n "$before" ] || { say "$name is not in ${counts#"$root"/}: scripts/count.sh --update"; bad=1; continue; }
    printf '%-24s %12d, was %12d: %+.1f %%\n' "$name" "$now" "$before" \
        "$(awk -v a="$now" -v b="$before" 'BEGIN { print (a / b - 1) * 100 }')"
    [ $((now * 100)) -le $((before * 115)) ] || { say "$name takes more than 15 % more instructions"; bad=1; }
done < <(tail -n +2 "$tmp/counts")
[ "$bad" -eq 0 ] || fail "the AVX2 path became slower; if that is meant, scripts/count.sh --update"
