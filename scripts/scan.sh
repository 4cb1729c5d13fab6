#!/usr/bin/env bash
# scan.sh - static analysis of the product's C files, and updates of the libraries they use.
#
# Every finding has been judged: mended, or listed with the reason in tests/scan/accepted.txt.  One
# that is neither fails.  docs/security-scan.md says which rules run, and why the others do not.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage="usage: scripts/scan.sh [cppcheck] [tidy] [flawfinder] [libraries]
  cppcheck    warnings, performance and portability
  tidy        clang's analyzer, and clang-tidy's rules for bugs and security; minutes
  flawfinder  calls that are easily misused
  libraries   is there an update of a library that we link?
  Without a word: all of them."

what=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage"; exit 0 ;;
    cppcheck | tidy | flawfinder | libraries) what="$what $1" ;;
    *) fail "unknown word $1 ($usage)" ;;
    esac
    shift
done
what=${what:-cppcheck tidy flawfinder libraries}
accepted=$root/tests/scan/accepted.txt
folders=(base kernels arch model proto store home net peers weights stage ask node gateway tools)
jobs=$(nproc)

install_packages "${packages[@]}" python3 cppcheck clang-tidy-14 flawfinder
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$root"
build "$root/build"

# Each scan prints "RULE FILE:LINE MESSAGE" lines.
scan_cppcheck() {
    cppcheck -j "$jobs" -q --std=c11 --enable=warning,performance,portability -I. -D_GNU_SOURCE \
        -DSWARM_VERSION='"0"' -D__x86_64__ -D__linux__ \
        --suppress=missingIncludeSystem --suppress=uninitvar --suppress=ctuuninitvar \
        --template='cppcheck/{id} {file}:{line} {message}' "${folders[@]}" 2>&1
}

tidy_rules='-*,clang-analyzer-*,bugprone-*,cert-*,performance-*,portability-*,misc-redundant-expression'
for rule in bugprone-easily-swappable-parameters bugprone-narrowing-conversions bugprone-branch-clone \
    bugprone-implicit-widening-of-multiplication-result bugprone-reserved-identifier \
    bugprone-assignment-in-if-condition bugprone-suspicious-include bugprone-integer-division \
    bugprone-sizeof-expression bugprone-misplaced-widening-cast bugprone-macro-parentheses \
    cert-dcl37-c cert-dcl51-cpp cert-err33-c cert-err34-c cert-flp30-c cert-exp42-c cert-flp37-c \
    performance-no-int-to-ptr clang-analyzer-optin.performance.Padding \
    clang-analyzer-security.FloatLoopCounter clang-analyzer-valist.Uninitialized \
    clang-analyzer-security.insecureAPI.strcpy \
    clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling; do
    tidy_rules+=,-$rule
done

scan_tidy() {
    python3 -c 'import json, sys
for f in sorted({e["file"] for e in json.load(open("build/compile_commands.json"))}):
    if any(f.startswith(f"{sys.argv[1]}/{d}/") for d in sys.argv[2:]): print(f)' "$root" "${folders[@]}" |
        grep -v '/base/err.c$' |
        xargs -P "$jobs" -n 1 clang-tidy-14 -p build --quiet --checks="$tidy_rules" \
            --extra-arg=-include --extra-arg="$root/tests/scan/known.h" 2>/dev/null |
        sed -nE "s#^$root/([^:]+):([0-9]+):[0-9]+: (warning|error): (.*) \[([^],]+).*\]\$#tidy/\5 \1:\2 \4#p" | sort -u
}

# Rules of its that only find a word: ours named random, the environment, formats (which the
# compiler checks, and Debian's flags do with -Werror=format-security).
scan_flawfinder() {
    flawfinder -m 3 -Q -D -S --columns --dataonly "${folders[@]}" |
        sed -nE 's#^([^:]+):([0-9]+):[0-9]+: +\[[0-9]\] \(([a-z]+)\) ([A-Za-z_0-9]+):(.*)#flawfinder/\4 \1:\2 \3:\5#p' |
        grep -vE '^flawfinder/(random|getenv|v?s?n?f?printf) '
}

scan_libraries() {
    local apt=(apt-get)
    [ "$(id -u)" -eq 0 ] || apt=(sudo apt-get)
    "${apt[@]}" update -q >"$work/apt.log" 2>&1 || { tail -n 5 "$work/apt.log" >&2; fail "apt-get update"; }
    local p
    for p in $(apt list --upgradable 2>/dev/null | sed -n 's#/.*##p'); do
        case " $(ldd build/bin/swarm-* | sed -nE 's#.*=> (/[^ ]+).*#\1#p' | sort -u |
            xargs -r -n 1 readlink -f | xargs -r dpkg-query -S 2>/dev/null | cut -d: -f1 | sort -u | tr '\n' ' ') " in
        *" $p "*) echo "an update waits: apt-get install $p" ;;
        esac
    done
}

# judge NAME: compare its findings, counted by rule and file, with the accepted ones.
judge() {
    awk -v name="$1" -v accepted="$accepted" '
        BEGIN {
            while ((getline line < accepted) > 0) {
                if (line ~ /^(#|$)/) continue
                split(line, word, " ")
                if (index(word[1], name "/") == 1) may[word[1] " " word[2]] = word[3]
            }
        }
        { file = $2; sub(/:.*/, "", file); key = $1 " " file; n[key]++; all[key] = all[key] "  " $0 "\n" }
        END {
            for (key in n) {
                total += n[key]
                if (n[key] <= may[key] + 0) continue
                printf "%s: %d, accepted %d:\n%s", key, n[key], may[key], all[key]
                bad = 1
            }
            for (key in may) if (n[key] < may[key]) printf "%s: %d, but %d are accepted: lower that\n", key, n[key], may[key]
            printf "%s: %d findings, %s\n", name, total, bad ? "some not judged" : "all judged"
            exit bad
        }' "$2"
}

bad=0
for each in $what; do
    say "$each"
    "scan_$each" >"$work/$each"
    if [ "$each" = libraries ]; then # this machine's, no fault of ours
        cat "$work/$each"
        say "$(wc -l <"$work/$each") of the libraries that we link wait for an update here"
        continue
    fi
    judge "$each" "$work/$each" || bad=1
done
[ "$bad" -eq 0 ] || fail "mend what is above, or say in tests/scan/accepted.txt why it may stay"
