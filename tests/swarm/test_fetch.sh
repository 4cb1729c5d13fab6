#!/usr/bin/env bash
# Nodes that begin with empty stores fetch what they are to hold from others, and then the swarm
# answers as one process does; also when they, or those who give, are killed, lie, or run out of disk.
#   SWARM_KILLS=N   how often a fetch is killed (default 10)
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/full" atlas:q80 --type q80
question="What is the capital of France?"

# fetcher NAME OPTIONS...: a node with a store of its own.
fetcher() {
    local name=$1
    shift
    start "$name" --store "$tmp/$name" --model atlas:q80 "$@"
}
counts() { sed -n 's/.*fetched \([0-9]*\) tiles .* from \([0-9]*\) nodes.*/\1 \2/p' "$tmp/$1.log" | tail -n 1; }
verified() {
    "$bin/swarm-store" verify --store "$tmp/$1" >"$tmp/verify.out" 2>&1 ||
        die "the store of $1: $(cat "$tmp/verify.out")"
}

# --- two fetch, the first holder leaves, and the answer is the same ---

start n0 --store "$tmp/full"
ask "$question"
oracle=$answer
fetcher b --layers 0-3 --ends --join "${link[n0]}"
fetcher c --layers 4-7 --join "${link[n0]}"
stop n0
link[n0]=${link[b]}
probe nodes 2
ask "$question"
[ "$answer" = "$oracle" ] || die "fetched layers answer '$answer', not '$oracle'"
verified b
verified c
echo "two that fetched answer like one that did not"

# --- what was fetched is there for others, and for the next start ---

fetcher d --layers 2-5 --join "${link[b]}"
[ "$(counts d | cut -d' ' -f2)" -eq 2 ] || die "d did not fetch from both: $(cat "$tmp/d.log")"
stop d
fetcher d --layers 2-5 --join "${link[b]}"
[ "$(grep -c fetched "$tmp/d.log")" -eq 1 ] || die "d fetched again what it had"
stop d

# --- a node changes what it holds while it serves ---

hold() { "$bin/swarm-node" hold "${pid[$1]}" "${@:2}" 2>"$tmp/hold.err" || die "hold: $(cat "$tmp/hold.err")"; }
"$bin/swarm-ask" "${link[n0]}" --max-tokens 2000 "Tell me about Japan, Kenya and Peru." \
    >"$tmp/long" 2>"$tmp/long.err" &
background=($!)
hold c --layers 0-7
for i in 1 2 3; do
    ask "$question"
    [ "$answer" = "$oracle" ] || die "while c moves: '$answer'"
done
wait "${background[0]}" || die "an answer ended when c moved: $(cat "$tmp/long.err")"
background=()
wait_until 20 grep -q 'holding layers 0-7' "$tmp/c.log" || die "c did not move: $(cat "$tmp/c.log")"
hold b --ends
wait_until 20 grep -q 'holding no layers' "$tmp/b.log" || die "b did not move: $(cat "$tmp/b.log")"
probe nodes 2
again() { "$bin/swarm-ask" "${link[n0]}" "$question" >"$tmp/again" 2>&1 && [ "$(cat "$tmp/again")" = "$oracle" ]; }
wait_until 20 again || die "after the moves: $(cat "$tmp/again")"
refused 'the model has layers 0-7' "$bin/swarm-node" hold "${pid[c]}" --layers 3-9
echo "two moved while they served"

# --- whose model? ---

HOME=$tmp/stranger SWARM_HOME=$tmp/stranger XDG_CONFIG_HOME=$tmp/stranger refused \
    'signed by swm1[a-z0-9]*, whom you do not trust yet; if you do: --trust-publisher swm1' \
    "$bin/swarm-node" --listen 127.0.0.1:0 --store "$tmp/new/folder/x" --model atlas:q80 --join "${link[b]}"
key=$(grep -o 'trust-publisher swm1[a-z0-9]*' "$tmp/refused.err" | tail -n 1 | cut -d' ' -f2)
mkdir -p "$tmp/stranger"
HOME=$tmp/stranger XDG_CONFIG_HOME=$tmp/stranger start x --store "$tmp/new/folder/x" --model atlas:q80 \
    --layers 7-7 --join "${link[b]}" --trust-publisher "$key"
stop_all

# --- killed again and again: what is in the store is not fetched again ---

tiles_in() {
    "$bin/swarm-store" verify --store "$tmp/$1" >"$tmp/verify.out" 2>/dev/null || true
    grep -q ' 0 bad, ' "$tmp/verify.out" || die "after a kill: $(cat "$tmp/verify.out")"
    sed -n 's/^\([0-9]*\) tiles, .*/\1/p' "$tmp/verify.out"
}
kills=${SWARM_KILLS:-10}
start g --store "$tmp/full" --upload $((6000000 / (1 + kills / 10)))
link[n0]=${link[g]}
tiles=0
RANDOM=${FETCH_SEED:-1}
run_k() {
    "$bin/swarm-node" --listen 127.0.0.1:0 --identity "$tmp/k.key" --threads 1 --store "$tmp/k" \
        --model atlas:q80 --layers 0-7 --ends --join "${link[g]}" >"$tmp/k.link" 2>>"$tmp/k.log" &
    pid[k]=$!
}
for ((i = 0; i < kills; i++)); do
    run_k
    sleep "0.$(printf %03d $((60 + RANDOM % 340)))"
    kill -KILL "${pid[k]}"
    wait "${pid[k]}" 2>/dev/null || true
    [ -e "$tmp/k/data.mdb" ] || continue
    now=$(tiles_in k)
    [ "$now" -ge "$tiles" ] || die "$tiles tiles before a kill, $now after it"
    tiles=$now
done
: >"$tmp/k.link"
run_k
wait_until 20 test -s "$tmp/k.link" || die "k does not get ready: $(tail -n 5 "$tmp/k.log")"
all=$(tiles_in k)
stop g
gave=$(sed -n 's/.* gave \([0-9]*\) tiles .*/\1/p' "$tmp/g.log")
[ "$gave" -le $((all + 48 * kills)) ] || die "$gave tiles were given for $all, with $kills kills"
link[n0]=$(cat "$tmp/k.link")
ask "$question"
[ "$answer" = "$oracle" ] || die "after $kills kills: '$answer'"
echo "killed $kills times: nothing lost, $gave tiles given for $all"
stop_all

# --- of three who give, one lies and one is killed ---

start g --store "$tmp/full" --upload 3000000
start h --store "$tmp/full" --upload 3000000 --join "${link[g]}"
"$bin/liar" "$tmp/full" atlas:q80 "${link[g]}" >"$tmp/liar.id" 2>"$tmp/liar.log" &
background=($!)
wait_until 20 test -s "$tmp/liar.id" || die "no liar: $(cat "$tmp/liar.log")"
link[n0]=${link[g]}
probe nodes 3
"$bin/swarm-node" --listen 127.0.0.1:0 --identity "$tmp/v.key" --threads 1 --store "$tmp/v" \
    --model atlas:q80 --join "${link[g]}" >"$tmp/v.link" 2>"$tmp/v.log" &
pid[v]=$!
wait_until 20 grep -q "node $(cat "$tmp/liar.id") sent .* with other bytes" "$tmp/v.log" ||
    die "nobody notices the liar: $(cat "$tmp/v.log")"
grep -q "^$(cat "$tmp/liar.id") [0-9]* it sent" "$tmp/v/banned.txt" || sleep 1
grep -q "^$(cat "$tmp/liar.id") [0-9]* it sent" "$tmp/v/banned.txt" || die "no ban is kept"
kill -KILL "${pid[h]}"
wait "${pid[h]}" 2>/dev/null || true
unset 'pid[h]'
wait_until 20 test -s "$tmp/v.link" || die "v does not get ready: $(tail -n 5 "$tmp/v.log")"
verified v
kill "${background[0]}" 2>/dev/null || true # it may have ended with its connections
wait "${background[0]}" 2>/dev/null || true
background=()
echo "a liar was named and banned, a giver killed"
stop v

# --- small disks ---

cat >"$tmp/disk.sh" <<'END'
set -eu
bin=$1 dir=$2 join=$3
try() { # SIZE: a node with so small a disk ends with a sentence, and its store is whole
    mkdir -p "$dir"
    mount -t tmpfs -o size="$1" tmpfs "$dir"
    status=0
    timeout 20 "$bin/swarm-node" --listen 127.0.0.1:0 --threads 1 --store "$dir/s" --model atlas:q80 \
        --layers 0-7 --ends --join "$join" >"$dir.out" 2>"$dir.err" </dev/null || status=$?
    [ $status -eq 1 ] || exit 3
    tail -n 1 "$dir.err" | grep -Eq 'disk is full|MiB more are needed|not one layer|No space' || exit 4
    if [ -e "$dir/s/data.mdb" ]; then
        "$bin/swarm-store" verify --store "$dir/s" >"$dir.out" 2>&1 || true
        grep -Eq ' 0 bad, |holds no|no store' "$dir.out" || exit 5
    fi
}
for size in 64k 300k 1m 8m 20m; do
    try $size
    umount "$dir"
done
# room at first, and then somebody else takes it
mount -t tmpfs -o size=60m tmpfs "$dir"
"$bin/swarm-node" --listen 127.0.0.1:0 --threads 1 --store "$dir/s" --model atlas:q80 --layers 0-7 \
    --ends --join "$join" >"$dir.link" 2>"$dir.err" </dev/null & node=$!
for _ in $(seq 500); do
    [ -e "$dir/s/data.mdb" ] && [ "$(stat -c %s "$dir/s/data.mdb")" -gt 1500000 ] && break
    sleep 0.01
done
dd if=/dev/zero of="$dir/filler" bs=64k status=none 2>/dev/null || true
if wait $node; then exit 6; fi
tail -n 1 "$dir.err" | grep -Eq 'disk is full|MiB more are needed' || exit 7
"$bin/swarm-store" verify --store "$dir/s" >"$dir.out" 2>&1 || true
grep -q ' 0 bad, ' "$dir.out" || exit 8
rm "$dir/filler"
: >"$dir.link"
"$bin/swarm-node" --listen 127.0.0.1:0 --threads 1 --store "$dir/s" --model atlas:q80 --layers 0-7 \
    --ends --join "$join" >"$dir.link" 2>"$dir.err" </dev/null & node=$!
for _ in $(seq 400); do
    [ -s "$dir.link" ] && break
    sleep 0.05
done
kill $node
wait $node || exit 9
"$bin/swarm-store" verify --store "$dir/s" --quiet || exit 10
END
namespace=(unshare -m)
[ "$(id -u)" -eq 0 ] || namespace=(unshare -Urm)
if "${namespace[@]}" mount -t tmpfs tmpfs "$tmp/run" 2>/dev/null; then
    "${namespace[@]}" bash "$tmp/disk.sh" "$bin" "$tmp/disk" "${link[g]}" ||
        die "on a small disk, step $?: $(tail -n 3 "$tmp/disk.err")"
    echo "full disks: sentences, and nothing lost"
else
    echo "skipped: mounting a small tmpfs is not allowed here"
fi
stop_all

# --- running answers are not disturbed ---

start n0 --store "$tmp/full" --layers 0-3 --upload 4000000
start s --store "$tmp/full" --layers 4-7 --no-ends --upload 4000000 --join "${link[n0]}"
probe nodes 2
gap() { # the middle time between two tokens, in microseconds
    "$bin/survive" "${link[n0]}" 2 64 "Tell me about Japan." >"$tmp/gap" 2>"$tmp/gap.err" ||
        die "an answer: $(cat "$tmp/gap.err")"
    sed -n 's/^p50 //p' "$tmp/gap.err"
}
middle() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
alone=$(middle "$(gap)" "$(gap)" "$(gap)" "$(gap)" "$(gap)")
"$bin/swarm-node" --listen 127.0.0.1:0 --identity "$tmp/w.key" --threads 1 --store "$tmp/w" \
    --model atlas:q80 --join "${link[n0]}" >"$tmp/w.link" 2>"$tmp/w.log" &
pid[w]=$!
wait_until 20 test -s "$tmp/w/data.mdb" || die "w does not fetch: $(cat "$tmp/w.log")"
during=$(middle "$(gap)" "$(gap)" "$(gap)" "$(gap)" "$(gap)")
! test -s "$tmp/w.link" || die "the fetch was over before it could disturb anybody"
[ "$during" -lt $((5 * alone + 2000)) ] ||
    die "a token took $alone us, and $during us while somebody fetched"
wait_until 20 test -s "$tmp/w.link" || die "w does not get ready: $(cat "$tmp/w.log")"
echo "a token took $alone us, and $during us while somebody fetched"
stop_all
echo "fetched"
