#!/usr/bin/env bash
# Three nodes in network namespaces, on lines of 20 and 50 Mbit/s with a delay: an answer and a long
# prompt, what was predicted and what came.  Needs root and namespaces; else it is skipped (77).
. "$(dirname "$0")/lib.sh"
export SWARM_NODE_DRAFT=off # predictions are of tokens that come one at a time

ns=swarm$$
in_ns() { ip netns exec "$ns-$1" "${@:2}"; }
cleanup_more() {
    local i
    for i in hub 0 1 2; do ip netns del "$ns-$i" 2>/dev/null || true; done
}
if ! { ip netns add "$ns-hub" && ip -n "$ns-hub" link add name hub type bridge; } 2>"$tmp/ns.err"; then
    echo "SKIPPED: network namespaces are not allowed here: $(head -n 1 "$tmp/ns.err")"
    exit 77
fi
ip -n "$ns-hub" link set hub up

# line NUMBER RATE: a PC with this line to the others, up and down.
line() {
    local i=$1 end tbf=(root tbf rate "$2" burst 32k latency 200ms)
    ip netns add "$ns-$i"
    ip -n "$ns-hub" link add name "v$i" type veth peer name eth netns "$ns-$i"
    ip -n "$ns-hub" link set "v$i" master hub up
    ip -n "$ns-$i" address add "10.99.0.1$i/24" dev eth
    for end in eth lo; do ip -n "$ns-$i" link set $end up; done
    tc -n "$ns-$i" qdisc add dev eth "${tbf[@]}" && tc -n "$ns-hub" qdisc add dev "v$i" "${tbf[@]}"
}
for i in 0 1 2; do
    if ! line $i "$([ $i -eq 1 ] && echo 50mbit || echo 20mbit)" 2>"$tmp/ns.err"; then
        echo "SKIPPED: no lines of limited rate here: $(head -n 1 "$tmp/ns.err")"
        exit 77
    fi
done

# run_node NUMBER OPTIONS...: (not by in_ns: the process is to be the node) behind a proxy that delays by 10 ms each way.
run_node() {
    local i=$1
    ip netns exec "$ns-$i" "$bin/swarm-proxy" --listen "10.99.0.1$i:7001" --target "10.99.0.1$i:7000" --delay 10 \
        </dev/null >"$tmp/proxy$i" 2>&1 &
    background+=($!)
    ip netns exec "$ns-$i" "$bin/swarm-node" --listen 0.0.0.0:7000 --advertise "10.99.0.1$i:7001" --threads 1 \
        --store "$tmp/store" --identity "$tmp/n$i.key" "${@:2}" >"$tmp/n$i.link" 2>"$tmp/n$i.log" </dev/null &
    pid[n$i]=$!
    wait_until 30 test -s "$tmp/n$i.link" || die "node $i is not ready: $(cat "$tmp/n$i.log")"
    link[n$i]=$(cat "$tmp/n$i.link")
}
convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
long=$(printf 'Tell me about Japan, and about its neighbours, and theirs. %.0s' {1..60})
start one --store "$tmp/store"
"$bin/survive" "${link[one]}" 2 40 "Tell me about Japan." >"$tmp/short" 2>/dev/null
"$bin/survive" "${link[one]}" 3 10 "$long" >"$tmp/long" 2>/dev/null
stop one
run_node 1 --layers 3-5 --no-ends
run_node 2 --layers 6-7 --no-ends --join "${link[n1]}"
run_node 0 --layers 0-2 --join "${link[n1]}" --join "${link[n2]}"
home=${link[n0]%@*}@127.0.0.1:7000 # of this PC, so it may ask
in_ns 0 "$bin/probe" "$home" nodes 3 2>"$tmp/probe.out" || die "$(cat "$tmp/probe.out")"

# measure WHAT SEED TOKENS QUESTION: the answer is right.
measure() {
    local begun=${EPOCHREALTIME/./}
    in_ns 0 "$bin/survive" "$home" "$2" "$3" "$4" >"$tmp/answer" 2>"$tmp/answer.err" ||
        die "$1: $(cat "$tmp/answer.err")"
    cmp -s "$tmp/answer" "$tmp/$1" || die "$1: another answer"
    echo "$1: $3 tokens in $(((${EPOCHREALTIME/./} - begun) / 1000)) ms, a piece of text each $(
        sed -n 's/^p50 //p' "$tmp/answer.err") us (median)"
}
measure short 2 40 "Tell me about Japan."
in_ns 0 "$bin/swarm-ask" "$home" --plan "Tell me about Japan." 2>&1
measure long 3 10 "$long"
in_ns 0 "$bin/swarm-ask" "$home" --stats --greedy "Tell me about Japan." 2>&1 >/dev/null
stop_all
