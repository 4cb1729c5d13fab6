#!/usr/bin/env bash
# `swarm-node status` and `drain`: what they show of a real swarm, to whom, and that numbers live on.
. "$(dirname "$0")/lib.sh"

node=$bin/swarm-node
convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
refused 'no node of yours runs' "$node" status

evil=$'\033[2J\033]0;owned\007evil'
start n0 --store "$tmp/store" --layers 0-4 --name kitchen
start n1 --store "$tmp/store" --layers 3-7 --no-ends --name "$evil" --join "${link[n0]}"
probe nodes 2
ask --greedy "What is the capital of France?"

# By process number; as text, and as JSON.
"$node" status "${pid[n0]}" >"$tmp/view"
for part in '"kitchen"  active' 'layers 0-4 of 0-7 and the ends' '0-2: 1 node' '3-4: 2 nodes' \
    'connected to 1' '?[2J?]0;'; do
    grep -Fq -- "$part" "$tmp/view" || die "no '$part' in: $(cat "$tmp/view")"
done
! grep -Pq '[\x00-\x08\x0b-\x1f\x7f]' "$tmp/view" || die "control characters: $(cat -v "$tmp/view")"
value() { # NODE EXPRESSION
    "$node" status "${pid[$1]}" --json | python3 -c "import json,sys; s=json.load(sys.stdin); print($2)"
}
[ "$(value n0 's["counters"]["answers"]["now"]')" = 1 ] || die "answers are not counted"
[ "$(value n0 's["counters"]["tokens"]["now"] > 3')" = True ] || die "tokens are not counted"
[ "$(value n0 's["counters"]["rows_taken"]["now"] > 0')" = True ] || die "nothing was taken"
[ "$(value n1 's["counters"]["rows_given"]["now"]')" = "$(value n0 's["counters"]["rows_taken"]["now"]')" ] ||
    die "what n1 gave is not what n0 took"
[ "$(value n0 's["peers"][0]["bytes_in"] > 1000 and s["peers"][0]["connected"]')" = True ] ||
    die "bytes of the peer are not counted"
[ "$(value n0 's["model"]["holders"]')" = "[1, 1, 1, 2, 2, 1, 1, 1]" ] || die "holders are wrong"

# On a terminal it is live, keeps to the width, and leaves the terminal as it was.
if command -v script >/dev/null; then
    TERM=xterm timeout 20 script -qec "stty cols 60 rows 20; exec timeout -s INT 2 '$node' status ${pid[n0]}" \
        "$tmp/typescript" </dev/null >/dev/null || true
    [ "$(grep -aoF $'\033[H' "$tmp/typescript" | wc -l)" -ge 2 ] || die "it is not drawn again"
    grep -aqF $'\033[?1049l' "$tmp/typescript" || die "the screen is not given back"
    ! grep -aqF $'\033]0;' "$tmp/typescript" || die "a peer's name reached the terminal"
fi

# Who may not read the file with the token may not look, nor stop it; three tries end it.
mkdir -m 700 "$tmp/other" "$tmp/other/swarm"
for f in "$tmp/run/swarm/${pid[n0]}.link"; do
    [ "$(stat -c %a "$f")" = 600 ] || die "$f is open to others"
    (umask 077 && sed -E 's/^token .*/token 00000000000000000000000000000000000000000000000000000000000000aa/' \
        "$f" >"$tmp/other/swarm/${f##*/}")
done
for command in status drain status drain; do
    XDG_RUNTIME_DIR=$tmp/other refused 'only the user who runs' "$node" "$command" "${pid[n0]}"
done
! gone "${pid[n0]}" || die "a stranger stopped the node"

# Drained by its user; what it counted is kept.
refused 'say which one' "$node" drain
"$node" drain "${pid[n0]}" 2>"$tmp/drain.out" || die "$(cat "$tmp/drain.out")"
wait_until 20 gone "${pid[n0]}" || die "the node is drained, but did not end"
wait "${pid[n0]}" || die "it ended with an error: $(cat "$tmp/n0.log")"
unset 'pid[n0]'
stop n1 # n0 would find it again
start n0 --store "$tmp/store" --layers 0-4
[ "$(value n0 's["counters"]["answers"]["total"]')" = 1 ] || die "the answer of its last life is lost"
[ "$(value n0 's["counters"]["answers"]["now"]')" = 0 ] || die "the answer is counted twice"
[ "$(value n0 '"layers 5-7 are held by nobody" in s["warnings"][0]')" = True ] || die "no warning"
stop_all
echo "status and drain work"
