#!/usr/bin/env bash
# The settings of a real node: from a file, the environment and flags; every flag has a key; what
# check-config prints is a file that says the same; a node with a mistake does not start.
. "$(dirname "$0")/lib.sh"

node=$bin/swarm-node
conf=$tmp/home/.config/swarm/node.conf
mkdir -p "${conf%/*}"
export XDG_CONFIG_HOME= XDG_DATA_HOME=

# Every flag of --help is a row of check-config.
flags=$("$node" --help | sed -nE 's/^  --(\[no-\])?([a-z-]+).*/\2/p' | grep -vx help)
[ "$(wc -l <<<"$flags")" -ge 16 ] || die "--help has only: $flags"
"$node" check-config >"$tmp/all"
for flag in $flags; do
    grep -Eq "^(# )?$flag " "$tmp/all" || die "check-config does not print $flag"
done

# Where each value comes from, and that the printed file says the same.
cat >"$conf" <<END
store = $tmp/store   # a comment
name = "a # name"
threads = 1
layers = 0-3
END
SWARM_NODE_THREADS=2 "$node" check-config --layers 2-5 >"$tmp/used"
grep -Eq "^store = $tmp/store +# $conf:1$" "$tmp/used" || die "$(cat "$tmp/used")"
grep -Eq '^threads = 2 +# environment, SWARM_NODE_THREADS$' "$tmp/used" || die "$(cat "$tmp/used")"
grep -Eq '^layers = 2-5 +# --layers$' "$tmp/used" || die "$(cat "$tmp/used")"
grep -Eq '^patience = 30 +# default$' "$tmp/used" || die "$(cat "$tmp/used")"
"$node" check-config "$tmp/used" >"$tmp/used2"
values() { grep -v '^#' "$1" | sed 's/  *#.*//'; }
[ "$(values "$tmp/used")" = "$(values "$tmp/used2")" ] || die "$(diff "$tmp/used" "$tmp/used2")"

# Mistakes: each a sentence with its line, status 1; a node says the same and does not start.
printf 'stor = x\npatience = 5000\njoin = nonsense\n' >"$tmp/bad.conf"
status=0
"$node" check-config "$tmp/bad.conf" >"$tmp/out" 2>"$tmp/err" || status=$?
[ "$status" -eq 1 ] && [ ! -s "$tmp/out" ] || die "status $status: $(cat "$tmp/out")"
grep -Fq "bad.conf:1: unknown key stor; did you mean store?" "$tmp/err" || die "$(cat "$tmp/err")"
grep -Fq "bad.conf:2: patience = 5000: at most 3600" "$tmp/err" || die "$(cat "$tmp/err")"
grep -Fq "bad.conf:3: join = nonsense: 'nonsense' is no link" "$tmp/err" || die "$(cat "$tmp/err")"
refused 'bad.conf:3: join' "$node" --config "$tmp/bad.conf"
refused 'not text in UTF-8' "$node" --name $'\xff' # a record that others would refuse
refused 'no such config file' "$node" --config "$tmp/none.conf"

# A node that is told everything by its file, but for what flags say.
convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
start n0 --no-ends
[ "$(grep -c 'holding layers 0-3 of atlas:q80' "$tmp/n0.log")" = 1 ] || die "$(cat "$tmp/n0.log")"
refused 'another node with this identity runs' "$node" --identity "$tmp/n0.key" --listen 127.0.0.1:0
stop_all
echo "settings are read"
