#!/usr/bin/env bash
# The arrows of docs/architecture.md, held: who may include whom, and one door per library.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0

# folder: the folders it may include from (itself always)
allow() {
    local folder=$1 ok="^($1"
    shift
    for f in "$@"; do ok+="|$f"; done
    ok+=')/'
    local found
    found=$(grep -nE '^#include "' "$folder"/*.[ch] "$folder"/*.inc 2>/dev/null |
        sed -E 's/^([^:]+:[0-9]+):#include "([^"]+)".*/\1 \2/' |
        awk -v ok="$ok" '$2 !~ ok')
    [ -z "$found" ] || { echo "$folder/ may not include:"; echo "$found"; bad=1; }
}
allow base
allow kernels base
allow arch base kernels
allow model base kernels arch
allow proto base
allow store base kernels arch
allow home base proto store
allow net base proto store home
allow peers base proto store home net
allow weights base kernels arch model proto store home net peers
allow stage base kernels arch model proto store home net peers weights
allow ask base kernels arch model proto store home net peers weights stage
allow node base kernels arch model proto store home net peers weights stage ask
allow gateway base proto store home net ask node
allow tools base kernels arch model proto store home net peers weights stage ask node gateway

# header pattern: the only places that may include it
door() {
    local header=$1 places=$2 found
    found=$(grep -lE "^#include <$header" */*.[ch] | grep -vE "^($places)")
    [ -z "$found" ] || { echo "<$header> is included outside its door: $found"; bad=1; }
}
door 'uv\.h' '(net|peers|weights|stage|ask|node)/|tests/proxy\.c'
door 'lmdb\.h' 'store/'
door 'sodium' 'proto/|store/manifest\.c|store/hash\.c'
door 'msgpack' 'proto/|store/manifest\.c'
door 'pcre2' 'model/tokenizer'
door 'utf8proc' 'model/unicode_nfc\.c'
door '(natpmp|miniupnpc)' 'peers/portmap\.c'
door 'curl/' 'tools/fetch\.c'
door 'microhttpd' 'net/http\.c'
door 'yajl' 'base/json\.c'

[ "$bad" -eq 0 ] && echo "includes point one way"
exit "$bad"
