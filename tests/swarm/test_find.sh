#!/usr/bin/env bash
# Nodes that find each other, on machines of their own: network namespaces on a bridge.
if [ "${IN_NAMESPACE:-}" != yes ]; then
    if ! command -v ip >/dev/null || ! unshare --net true 2>/dev/null; then
        echo "skipped: network namespaces need root and iproute2"
        exit 77
    fi
    IN_NAMESPACE=yes exec unshare --net -- "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"

# --- machines and networks

declare -A machine
# add_machine NAME: a namespace without any network but its own loopback.
add_machine() {
    unshare --net sleep 600 &
    machine[$1]=$!
    background+=("$!")
    wait_until 20 other_namespace "$1" || die "no namespace for $1"
    in_machine "$1" ip link set lo up
}
other_namespace() { [ "$(readlink "/proc/${machine[$1]}/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
in_machine() {
    local name=$1
    shift
    nsenter --target "${machine[$name]}" --net -- "$@"
}
# plug NAME BRIDGE INTERFACE ADDRESS...: a cable from a machine to a bridge.
plug() {
    local name=$1 bridge=$2 interface=$3 address
    shift 3
    ip link add "$name-$interface" type veth peer name "$interface" netns "${machine[$name]}"
    ip link set "$name-$interface" master "$bridge" up
    in_machine "$name" ip link set "$interface" up
    for address; do
        case $address in
        *:*) in_machine "$name" ip addr add "$address" dev "$interface" nodad ;;
        *) in_machine "$name" ip addr add "$address" dev "$interface" ;;
        esac
    done
}
add_bridge() { ip link add "$1" type bridge mcast_snooping 0 && ip link set "$1" up; }

# --- nodes on them

# start_on MACHINE NAME OPTIONS...: as start, but it listens on every address of that machine.
start_on() {
    local at=$1 name=$2
    shift 2
    : >"$tmp/$name.link"
    nsenter --target "${machine[$at]}" --net -- "$bin/swarm-node" --store "$tmp/store" --listen 0.0.0.0:7777 \
        --identity "$tmp/$name.key" --threads 1 "$@" \
        >"$tmp/$name.link" 2>>"$tmp/$name.log" </dev/null &
    pid[$name]=$!
    wait_until 20 test -s "$tmp/$name.link" || die "node $name is not ready: $(cat "$tmp/$name.log")"
    link[$name]=$(cat "$tmp/$name.link")
}
id() { sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[$1]}"; }
short() { sed 's,swarm://\(swm1.....\).*\(....\)@.*,\1...\2,' <<<"${link[$1]}"; }
said() { grep -Eq "$2" "$tmp/$1.log"; }
met() { grep -qF "connected to $(short "$2")" "$tmp/$1.log"; }
# meets A B: within 10 s.
meets() { wait_until 20 met "$1" "$2" || die "$1 has not met $2: $(tail -n 5 "$tmp/$1.log")"; }
apart() { if met "$1" "$2"; then die "$1 has met $2"; fi; }
forget() { rm -f "$tmp"/*.log "$tmp"/*.key "$tmp"/*.peers; }
paris() {
    local at=$1 name=$2
    shift 2
    answer=$(in_machine "$at" "$bin/swarm-ask" "swarm://$(id "$name")@127.0.0.1:7777" "$@" --greedy \
        "What is the capital of France?" 2>"$tmp/ask.err") || die "no answer: $(cat "$tmp/ask.err")"
    [ "$answer" = "The capital of France is Paris." ] || die "the answer is: $answer"
}

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
"$bin/swarm-node" new-key "$tmp/home.key.swarm"
"$bin/swarm-node" new-key "$tmp/other.key.swarm"
home=(--swarm-key "$tmp/home.key.swarm")
ip link set lo up
add_bridge lan
for i in 1 2 3; do
    add_machine "pc$i"
    plug "pc$i" lan eth0 "192.168.77.$i/24" "fd00:77::$i/64"
done

# --- one private key and nothing else

start_on pc1 a "${home[@]}" --layers 0-2
start_on pc3 stranger --swarm-key "$tmp/other.key.swarm" --layers 3-7 --no-ends
start_on pc2 b "${home[@]}" --layers 3-5 --no-ends
start_on pc2 c "${home[@]}" --listen 0.0.0.0:7778 --layers 6-7 --no-ends # two on one machine
meets a b
meets a c
meets b c
paris pc1 a "${home[@]}"
apart stranger a
apart a stranger
stop_all
forget

# Over IPv6 alone, by addresses of the link.
for i in 1 2; do
    in_machine "pc$i" ip addr flush dev eth0 scope global
done
start_on pc1 a "${home[@]}" --listen '[::]:7777' --layers 0-3
start_on pc2 b "${home[@]}" --listen '[::]:7777' --layers 4-7 --no-ends
meets a b
stop_all
forget
for i in 1 2; do in_machine "pc$i" ip addr add "192.168.77.$i/24" dev eth0; done

# A PC whose cable comes later, and that then gets another address.
in_machine pc1 ip link set eth0 down
start_on pc1 a "${home[@]}" --layers 0-3 --no-portmap
start_on pc2 b "${home[@]}" --layers 4-7 --no-ends
sleep 0.5
in_machine pc1 ip link set eth0 up
meets a b
wait_until 20 said a "reachable on this network at 192.168.77.1:7777" || die "a says $(cat "$tmp/a.log")"
in_machine pc1 ip addr del 192.168.77.1/24 dev eth0
in_machine pc1 ip addr add 192.168.77.101/24 dev eth0
wait_until 20 said a "reachable on this network at 192.168.77.101:7777" || die "a says $(cat "$tmp/a.log")"
stop_all
forget
in_machine pc1 ip addr flush dev eth0 scope global
in_machine pc1 ip addr add 192.168.77.1/24 dev eth0

# Why one cannot join, in words.
start_on pc1 a "${home[@]}" --no-lan --layers 0-3
start_on pc2 b --swarm-key "$tmp/other.key.swarm" --layers 4-7 --no-ends
start_on pc3 c "${home[@]}" --no-lan --layers 4-7 --no-ends --join "swarm://$(id b)@192.168.77.1:7777" \
    --join "swarm://$(id b)@192.168.77.1:9" --join "swarm://$(id b)@no-such-host.invalid:7777" \
    --join "${link[b]}"
for words in "$(id b | cut -c 1-9)[.]*[a-z0-9]* was dialled but $(id a | cut -c 1-9)[.]*[a-z0-9]* answered" \
    'nothing listens there \(connection refused\)' 'the name cannot be resolved' \
    'it probably uses another swarm key'; do
    wait_until 20 said c "cannot join swarm://.*$words" || die "c does not say '$words': $(cat "$tmp/c.log")"
done
stop_all
forget

# --- the public key: a hint, and a yes

start_on pc1 a --layers 0-3
start_on pc2 b --layers 4-7 --no-ends
wait_until 20 said a "node $(id b) was heard on this network; to join it: swarm-node --join swarm://$(id b)@192.168.77.2:7777" ||
    die "nobody was told of b"
start_on pc3 c --layers 4-7 --no-ends --lan-join
meets c a
meets c b
apart a b
stop_all
forget

# --- a restart with nothing but the peers file; it is its owner's alone

start_on pc1 a --layers 0-3 --no-lan
start_on pc2 b --layers 4-7 --no-ends --no-lan --join "${link[a]}"
meets a b
stop b
[ "$(stat -c %a "$tmp/b.peers")" = 600 ] || die "the peers file is open to others"
grep -q "^$(id a) 192.168.77.1:7777 [0-9]* 1 0$" "$tmp/b.peers" || die "a is not in $(cat "$tmp/b.peers")"
rm "$tmp/b.log"
start_on pc2 b --layers 4-7 --no-ends --no-lan
meets b a
paris pc1 a
# A node that is killed and back at once is not confused with what it was.
kill -KILL "${pid[b]}"
wait "${pid[b]}" 2>/dev/null || true
: >"$tmp/a.log"
start_on pc2 b --layers 4-7 --no-ends --no-lan
meets a b
paris pc1 a
# In the public swarm who was met before is joined by its beacon, too.
stop a b
rm "$tmp/a.log"
start_on pc2 b --listen 0.0.0.0:7778 --layers 4-7 --no-ends
start_on pc1 a --listen 0.0.0.0:7779 --layers 0-3
meets a b
stop_all
forget

# --- routers: a home behind one, and the internet (addresses for documentation)

add_bridge home
add_bridge internet
add_machine router
add_machine far
plug router home inside 192.168.88.1/24
plug router internet outside 198.51.100.1/24
add_machine inner
plug inner home eth0 192.168.88.2/24
in_machine inner ip route add default via 192.168.88.1
plug far internet eth0 198.51.100.2/24
# router OPTIONS...: begins to answer.
router() {
    : >"$tmp/router.out"
    nsenter --target "${machine[router]}" --net -- python3 "$src/tests/igd.py" --inside 192.168.88.1 \
        --outside 198.51.100.1 "$@" >"$tmp/router.out" 2>"$tmp/router.log" &
    pid[router]=$!
    wait_until 20 grep -q ready "$tmp/router.out" || die "the router does not start"
}
router_stops() {
    kill "${pid[router]}"
    wait "${pid[router]}" || true
    unset "pid[router]"
}
routed() { grep -qF "$1" "$tmp/router.out"; }

for speak in upnp natpmp; do
    name=UPnP taken=(--taken 7777) outside=7778
    [ "$speak" = upnp ] || { name=NAT-PMP taken=() outside=7777; }
    router --speak "$speak" "${taken[@]}"
    start_on inner a --layers 0-3 --no-lan
    wait_until 15 said a "the router lets others in at 198.51.100.1:$outside \($name\)" ||
        die "no mapping by $name: $(cat "$tmp/a.log" "$tmp/router.log")"
    routed "$speak add $outside 192.168.88.2:7777 3600" || die "the router did $(cat "$tmp/router.out")"
    start_on far b --layers 4-7 --no-ends --no-portmap --join "swarm://$(id a)@198.51.100.1:$outside"
    meets b a
    paris inner a
    wait_until 20 said a "reachable at 198.51.100.1:$outside \(mapped by $name, .*1 peer connected" ||
        die "a says $(cat "$tmp/a.log")"
    stop a b
    wait_until 20 routed "$speak del $outside" || wait_until 1 routed "$speak del 7777" ||
        die "the mapping is left behind: $(cat "$tmp/router.out")"
    router_stops
    forget
done

# A router that grants eternal leases only, and has a private address itself.
router --speak upnp --eternal --say 100.64.3.4
start_on inner a --layers 0-3 --no-lan
wait_until 15 said a "not reachable from the internet: the provider shares one address" ||
    die "a says $(cat "$tmp/a.log")"
routed "upnp add 7777 192.168.88.2:7777 0" || die "the router did $(cat "$tmp/router.out")"
stop a
wait_until 20 routed "upnp del 7777" || die "the mapping is left behind"
router_stops
forget

# --- others try whether one is reached: directly, at a wrong address, and behind a real NAT

add_machine near
plug near internet eth0 198.51.100.3/24
nat=
if command -v nft >/dev/null; then
    in_machine router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward && nft add table ip nat &&
        nft "add chain ip nat out { type nat hook postrouting priority 100; }" &&
        nft add rule ip nat out oifname outside masquerade' && nat=yes
fi
start_on far b --layers 4-7 --no-ends --no-lan
start_on near a --layers 0-3 --no-lan --join "${link[b]}"
start_on near c --listen 0.0.0.0:7778 --layers 0-3 --no-lan --join "${link[b]}" --advertise 198.51.100.3:9
if [ -n "$nat" ]; then start_on inner d --layers 0-3 --no-lan --join "${link[b]}"; fi
wait_until 20 said a "reachable at 198.51.100.3:7777 \(directly; [0-9]* peers? connected" ||
    die "a says $(cat "$tmp/a.log")"
closed="let TCP port [0-9]* through to this PC"
wait_until 20 said c "not reachable from the internet: 198.51.100.3:9: nothing listens there .*$closed" ||
    die "c says $(cat "$tmp/c.log")"
if [ -n "$nat" ]; then
    wait_until 20 said d "not reachable from the internet: 198.51.100.1:7777: nothing listens there .*$closed" ||
        die "d says $(cat "$tmp/d.log")"
    stop d c
    router --speak natpmp
    start_on inner d --layers 0-3 --no-lan
    wait_until 20 said d "reachable at 198.51.100.1:7777 \(mapped by NAT-PMP; [0-9]* peers? connected" ||
        die "d says $(cat "$tmp/d.log")"
    paris inner d
    router_stops
else
    echo "not tested for want of nft: a real NAT"
fi
stop_all
forget

# --- off

start_on pc1 a "${home[@]}" --no-lan --layers 0-3
start_on pc2 b "${home[@]}" --layers 4-7 --no-ends
sleep 1
apart a b
stop_all
forget
echo "found each other"
