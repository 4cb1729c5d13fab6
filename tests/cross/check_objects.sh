#!/usr/bin/env bash
# check_objects.sh OBJDUMP OBJECT...: only the objects of neondot and neoni8mm hold the instructions
# that their CPUs have, and they do hold them.
set -u
objdump=$1
shift
bad=0
for object in "$@"; do
    code=$("$objdump" -d "$object") || exit 1
    for pair in 'neondot|neoni8mm:[su]dot' 'neoni8mm:smmla'; do
        has=no wants=no
        grep -qE "	${pair#*:}	" <<<"$code" && has=yes
        grep -qE "/(${pair%%:*})\.c\." <<<"$object" && wants=yes
        [ $has = $wants ] && continue
        echo "$(basename "$object") has ${pair#*:}: $has, must: $wants"
        bad=1
    done
    # half-precision arithmetic, dot products of floats and bf16: in no table
    ! grep -E "	(bf[a-z]+|fmmla|fmlal2?|usdot|sudot|ummla|usmmla)	" <<<"$code" || bad=1
done
exit $bad
