#!/usr/bin/env bash
# publish.sh - sign the names of this model with a key that is made for it and not kept.
#
#     models/atlas/publish.sh build/bin
#
# Writes published/TYPE/{manifest,name.txt} and prints the key, which goes into home/publishers.c
# as the demonstration's publisher: every program believes these names, and nobody can sign others.
# To be run again only when the weights or the manifest's form change.
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for type in q40 q80; do
    "$bin/swarm-convert" . --store "$dir/store" --name "atlas:$type" --type "$type" \
        --publisher "$dir/key" --quiet
    "$bin/swarm-store" export "atlas:$type" "$dir/models" --store "$dir/store" --quiet
    mkdir -p "published/$type"
    cp "$dir/models/atlas/$type/"{manifest,name.txt} "published/$type/"
done
"$bin/swarm-store" list --store "$dir/store" | sed -n 's/.*publisher *\(swm1[a-z0-9]*\).*/\1/p' | sort -u
