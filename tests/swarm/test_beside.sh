#!/usr/bin/env bash
# swarm-node --gateway: it serves, status says where, it is started again when it dies, and it ends with the
# node, however that ends.
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
"$bin/swarm-node" new-key >"$tmp/swarm.key" && chmod 600 "$tmp/swarm.key"

status() { "$bin/swarm-node" status "${pid[n0]}" --swarm-key "$tmp/swarm.key" --json; }
url() { status | grep -o '"gateway":"[^"]*"' | cut -d'"' -f4; }
is_up() { [[ $(url) == http://127.0.0.1:*/v1 ]]; }
answers() { curl -s -m 20 "$(url)/chat/completions" -d '{"temperature":0,"messages":[{"role":"user","content":"What is the capital of France?"}]}' | grep -q 'is Paris'; }
# Perhaps nobody reaps it.
ended() { gone "$1" || grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
gateways() { # the number of its child
    local at
    at=$(grep -lE "^PPid:\s+${pid[n0]}\$" /proc/[0-9]*/status 2>/dev/null | head -n 1) || true
    at=${at#/proc/}
    echo "${at%/status}"
}

# The key is not in the command line, where everybody can read it.
start n0 --store "$tmp/store" --swarm-key "$(cat "$tmp/swarm.key")" --gateway 127.0.0.1:0 --gateway-options "--per-hour 1000"
wait_until 20 is_up || die "no gateway: $(tail -5 "$tmp/n0.log")"
wait_until 20 answers || die "it does not answer: $(status)"
child=$(gateways)
! tr '\0' ' ' <"/proc/$child/cmdline" | grep -q swk1 || die "the key is in its command line"
"$bin/swarm-node" status "${pid[n0]}" --swarm-key "$tmp/swarm.key" --once | grep -q '^gateway at http://127.0.0.1:' || die "status does not say where"

kill -KILL "$child"
again() { [ "$(gateways)" != "$child" ] && is_up && answers; }
wait_until 30 again || die "it was not started again: $(tail -5 "$tmp/n0.log")"

# It ends with the node.
child=$(gateways)
background+=("$child")
stop n0
wait_until 20 ended "$child" || die "the gateway outlives its node"
start n0 --store "$tmp/store" --swarm-key "$tmp/swarm.key" --gateway 127.0.0.1:0
wait_until 20 is_up || die "no gateway: $(tail -5 "$tmp/n0.log")"
child=$(gateways)
background+=("$child")
kill -KILL "${pid[n0]}"
wait "${pid[n0]}" || true
wait_until 20 ended "$child" || die "the gateway outlives its killed node"

# Options that it cannot use are said once, and the node goes on.
start n0 --store "$tmp/store" --swarm-key "$tmp/swarm.key" --gateway 0.0.0.0:0
wait_until 20 grep -q 'others could ask from there; give --keys' "$tmp/n0.log" || die "it does not say why"
wait_until 20 grep -q 'cannot use its options' "$tmp/n0.log" || die "it tries again"
[[ $(status) == *'"gateway":""'* ]] || die "$(status)"
refused 'gateway' "$bin/swarm-node" --store "$tmp/store" --gateway nonsense
stop_all
echo "a node runs its gateway"
