#!/usr/bin/env bash
# An answer that a client reads through a gateway while nodes die: a stage, then the coordinator itself,
# which comes back.  The client sees a pause, and the text, log probabilities and end of one process that
# guesses nothing.  Then two gateways behind a load balancer, of which either may die.
. "$(dirname "$0")/lib.sh"
client() { python3 "$src/tests/swarm/gateway_deaths.py" "$@"; }

declare -A url
gateway() { # NAME LINK OPTIONS...: its address is in ${url[NAME]}
    local name=$1
    : >"$tmp/$name.url"
    "$bin/swarm-gateway" "$2" --listen 127.0.0.1:0 "${@:3}" >"$tmp/$name.url" 2>>"$tmp/$name.log" </dev/null &
    pid[$name]=$!
    wait_until 20 test -s "$tmp/$name.url" || die "gateway $name does not listen: $(cat "$tmp/$name.log")"
    url[$name]=$(cat "$tmp/$name.url")
}

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
convert "$src/models/atlas" "$tmp/ends" atlas:q80 --type q80 --layers 0-0

start one --store "$tmp/store" --draft off
gateway alone "${link[one]}"
client json "${url[alone]}" 5 >"$tmp/one.json" || die "$(cat "$tmp/one.json")"
for seed in 5 6; do client whole "${url[alone]}" $seed >"$tmp/one.$seed"; done
stop one
[ "$(wc -c <"$tmp/one.5")" -gt 1000 ] || die "the oracle is short: $(cat "$tmp/one.5")"

start_behind a --store "$tmp/store" --layers 4-7 --no-ends
start b --store "$tmp/store" --layers 1-3 --no-ends --join "${link[a]}"
start spare --store "$tmp/store" --layers 1-3 --no-ends --join "${link[a]}"
run_n0() { start n0 --store "$tmp/ends" --layers 0-0 --join "${link[a]}"; } # found again wherever it listens
run_n0
probe nodes 4
gateway g "${link[n0]}" --patience 60
client json "${url[g]}" 5 >"$tmp/three.json" || die "$(cat "$tmp/three.json")"
cmp "$tmp/one.json" "$tmp/three.json" || die "three nodes with drafts give another answer than one without"

order a "delay 10" # so that there is time to die in
far() { [ "$(stat -c %s "$tmp/progress" 2>/dev/null || echo 0)" -ge "$1" ]; }
begin() { # SEED: a stream that has said five pieces
    rm -f "$tmp/progress"
    client stream "${url[g]}" "$1" "$tmp/progress" >"$tmp/healed" 2>"$tmp/healed.err" &
    reader=$!
    background+=("$reader")
    wait_until 40 far 5 || die "no answer began: $(cat "$tmp/healed.err")"
}
finish() { # SEED WHAT
    wait "$reader" || die "$2: $(cat "$tmp/healed.err")"
    cmp "$tmp/healed" "$tmp/one.$1" || die "$2: another answer"
}
serves() { # its own number comes before its peers'
    [[ $("$bin/swarm-node" status "${pid[$1]}" --json | grep -o '"sessions":[0-9]*' | head -n 1) != '"sessions":0' ]]
}

begin 5
victim=b
serves b || victim=spare
kill -KILL "${pid[$victim]}"
wait "${pid[$victim]}" 2>/dev/null || true
unset "pid[$victim]"
finish 5 "a dead stage"

begin 6
kill -KILL "${pid[n0]}"
wait "${pid[n0]}" 2>/dev/null || true
run_n0
finish 6 "a dead coordinator"
order a "delay 0"

# Two gateways, no state that they share: the same seed gives the same answer through either, and when one
# has died the other answers.
gateway h "${link[n0]}"
door_of() { local at=${1##*:}; echo "${at%/v1}"; }
balance() { # GATEWAY OTHER: ${both} is the address of a load balancer in front of them
    : >"$tmp/door"
    python3 "$src/tests/swarm/balancer.py" "$(door_of "${url[$1]}")" "$(door_of "${url[$2]}")" >"$tmp/door" &
    background+=($!)
    wait_until 20 test -s "$tmp/door" || die "no load balancer"
    both=http://127.0.0.1:$(cat "$tmp/door")/v1
}
same() { # WHEN
    client json "$both" 5 >"$tmp/both.json" || die "$1: no answer"
    cmp "$tmp/both.json" "$tmp/one.json" || die "$1: another answer"
}
die_of() {
    kill -KILL "${pid[$1]}"
    wait "${pid[$1]}" 2>/dev/null || true
    unset "pid[$1]"
    for _ in 1 2; do same "gateway $1 is dead"; done
}
requests_of() { curl -s -m 20 "${url[$1]%/v1}/metrics" | sed -n 's/^swarm_gateway_requests_total //p'; }
balance g h
before=$(requests_of g)
for _ in 1 2 3 4; do same "two gateways"; done
[ "$(requests_of h)" = 2 ] && [ "$(requests_of g)" = $((before + 2)) ] || die "not shared evenly"
die_of g
gateway k "${link[n0]}"
balance h k
die_of h
kill -TERM "${pid[alone]}" "${pid[k]}"
for name in alone k; do
    wait_until 20 gone "${pid[$name]}" || die "gateway $name does not stop"
    wait "${pid[$name]}" || die "gateway $name ended badly: $(cat "$tmp/$name.log")"
    unset "pid[$name]"
done
stop_all
echo "clients see a pause"
