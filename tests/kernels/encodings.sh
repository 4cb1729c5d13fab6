#!/bin/sh
# Which instructions does each object of kernels/ have?  A table must not use what it does not ask
# the CPU for, and some of it cannot be seen by running it here.
#
#   encodings.sh LIBKERNELS.A
#
# EVEX is the prefix 62, VEX c4 or c5; in 64-bit code nothing else begins with them.
set -eu
command -v objdump >/dev/null || exit 77

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
objdump -d --no-addresses "$1" | awk -v dir="$dir" '
    /file format/ { sub(/\.c\.o:.*/, ""); out = dir "/" $1; next }
    /^\t/ { print >out }'

failed=0
# some WHAT OBJECT, none WHAT OBJECT: is there an instruction that matches?
some() {
    grep -Eq "$1" "$dir/$2" || { echo "$2 has no instruction with '$1'" && failed=1; }
}
none() {
    ! grep -Em 3 "$1" "$dir/$2" || { echo "$2 has instructions with '$1'" && failed=1; }
}
evex='^.62 '
avx512="$evex|%zmm|%k[0-7]"

for object in "$dir"/*; do
    case ${object##*/} in
    avx2) some 'vpmaddubsw.*%ymm' avx2 && none "$avx512|vpdp" avx2 ;;
    avxvnni) some '^.c4 .*vpdpbusd.*%ymm' avxvnni && none "$avx512" avxvnni ;;
    vnni256) some '^.62 .*vpdpbusd.*%ymm' vnni256 && none '^.c4 .*vpdpbusd|vpdp.*%zmm' vnni256 ;;
    avx512) some '^.62 .*vpdpbusd.*%zmm' avx512 && none '^.c4 .*vpdpbusd' avx512 ;;
    *) none "$avx512|%ymm" "${object##*/}" ;; # every x86-64 runs these
    esac
done
for object in avx2 avxvnni vnni256 avx512 ref pick; do
    [ -s "$dir/$object" ] || { echo "no object $object in $1" && failed=1; }
done
exit $failed
