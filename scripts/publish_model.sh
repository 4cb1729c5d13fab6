#!/usr/bin/env bash
# publish_model.sh - a checkpoint becomes model folders that can be given away (docs/models.md).
set -euo pipefail

usage="usage: scripts/publish_model.sh CHECKPOINT NAME [--types q40,q80] [--out models] [--store DIR] [--publisher FILE]
  CHECKPOINT        a Hugging Face folder
  NAME              as in glm-4.5-air; the folders are OUT/NAME/TYPE
  --types LIST      q40, q80, f16, bf16 or f32, with commas between them (default: q40,q80)
  --out DIR         where the folders go (default: models)
  --store DIR       convert into this store and keep it (default: one beside OUT that is removed)
  --publisher FILE  the key that signs the names (default: yours)
Programs are looked for in \$BIN, else build/bin of this project."

fail() { printf 'publish_model.sh: %s\n' "$*" >&2; exit 1; }

types=q40,q80 out=models store='' publisher=() words=()
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage"; exit 0 ;;
    --types | --out | --store | --publisher)
        [ $# -ge 2 ] || fail "$1 needs a value"
        case $1 in
        --types) types=$2 ;;
        --out) out=$2 ;;
        --store) store=$2 ;;
        --publisher) publisher=(--publisher "$2") ;;
        esac
        shift
        ;;
    -*) fail "unknown option $1; --help lists them" ;;
    *) words+=("$1") ;;
    esac
    shift
done
[ ${#words[@]} -eq 2 ] || fail "CHECKPOINT and NAME are needed; --help says more"
source=${words[0]} name=${words[1]}
bin=${BIN:-$(cd "$(dirname "$0")/.." && pwd)/build/bin}
[ -x "$bin/swarm-convert" ] || fail "there are no programs in $bin; build them, or set BIN"

mkdir -p "$out"
if [ -z "$store" ]; then
    store=$(mktemp -d "$out/.store.XXXXXX")
    trap 'rm -rf "$store"' EXIT
    trap 'exit 130' INT TERM
fi
IFS=, read -ra list <<<"$types"
for type in "${list[@]}"; do
    "$bin/swarm-convert" "$source" --store "$store" --name "$name:$type" --type "$type" --quiet \
        ${publisher[@]+"${publisher[@]}"}
    "$bin/swarm-store" verify --store "$store" --quiet
    "$bin/swarm-store" export "$name:$type" "$out" --store "$store" --quiet
    (cd "$out/$name/$type" && b2sum -l 256 -c --quiet checksums.txt) || fail "$out/$name/$type is not whole"
    echo "$out/$name/$type"
done
