#!/usr/bin/env bash
# A fetch, and rows of a prompt, over a line whose queue holds more than half a second: they use the
# line, and leave the queue short for those who talk; with --upload they leave the line itself.
if [ "${IN_NAMESPACE:-}" != yes ]; then
    if ! command -v tc >/dev/null || ! command -v python3 >/dev/null || ! unshare --net true 2>/dev/null; then
        echo "skipped: network namespaces need root and iproute2, and echoes python3"
        exit 77
    fi
    IN_NAMESPACE=yes exec unshare --net -- "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/full" atlas:q80 --type q80
unshare --net sleep 600 &
there=$!
background+=("$there")
other_namespace() { [ "$(readlink "/proc/$there/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }
wait_until 20 other_namespace || die "no namespace"
there() { nsenter --target "$there" --net -- "$@"; }
ip link set lo up
ip link add near type veth peer name far netns "$there"
ip addr add 10.79.0.1/24 dev near
ip link set near up
there ip addr add 10.79.0.2/24 dev far
there ip link set far up
if ! there tc qdisc add dev far root tbf rate 16mbit burst 16k latency 600ms 2>/dev/null; then
    echo "skipped: no tbf in this kernel"
    exit 77
fi

cat >"$tmp/echo.py" <<'END'
import select, socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if sys.argv[1] == "serve":
    s.bind(("0.0.0.0", 9999))
    while True:
        s.sendto(*s.recvfrom(64))
sent, back = [], {}
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    t = time.monotonic()
    s.sendto(b"%d" % len(sent), ("10.79.0.2", 9999))
    sent.append(t)
    while time.monotonic() < t + 0.05:
        if select.select([s], [], [], max(0, t + 0.05 - time.monotonic()))[0]:
            back[int(s.recv(64))] = time.monotonic()
ms = sorted((back[k] - t) * 1000 if k in back else 9999 for k, t in enumerate(sent))
print("%.0f" % ms[len(ms) * int(sys.argv[3]) // 100])
END
nsenter --target "$there" --net -- python3 "$tmp/echo.py" serve &
background+=("$!")
nsenter --target "$there" --net -- "$bin/swarm-node" --no-lan --no-portmap --listen 10.79.0.2:0 \
    --identity "$tmp/g.key" --threads 1 --store "$tmp/full" >"$tmp/g.link" 2>"$tmp/g.log" </dev/null &
pid[g]=$!
wait_until 20 test -s "$tmp/g.link" || die "no giver: $(cat "$tmp/g.log")"
alone=$(python3 "$tmp/echo.py" measure 0.5 50)
begin=$(date +%s%N)
"$bin/swarm-node" --no-lan --no-portmap --listen 10.79.0.1:0 --identity "$tmp/v.key" --threads 1 \
    --store "$tmp/v" --model atlas:q80 --join "$(cat "$tmp/g.link")" >"$tmp/v.link" 2>"$tmp/v.log" \
    </dev/null &
pid[v]=$!
during=$(python3 "$tmp/echo.py" measure 3 95)
! test -s "$tmp/v.link" || die "the fetch was over before it could fill the line"
wait_until 40 test -s "$tmp/v.link" || die "the fetch does not end: $(cat "$tmp/v.log")"
ms=$((($(date +%s%N) - begin) / 1000000))
bytes=$(stat -c %s "$tmp/v/data.mdb")
echo "an echo took $alone ms, and $during ms (95th percentile) while a fetch had $((bytes * 8 / ms / 1000)) of 16 Mbit/s"
[ "$during" -lt 125 ] || die "the fetch fills the line's queue"
[ "$ms" -lt 25000 ] || die "the fetch does not use the line"
stop_all

# Rows: two chunks of a prompt of a large model under way at any time, by TCP as most PCs have it.
there ip route change 10.79.0.0/24 dev far congctl cubic || true # what this kernel has, then
"$bin/pour" take 10.79.0.1:7001 >"$tmp/taker" &
background+=("$!")
wait_until 20 test -s "$tmp/taker" || die "no taker"
pour() { nsenter --target "$there" --net -- "$bin/pour" give "$(cat "$tmp/taker")" "$@"; }
pour 4 2097152 >"$tmp/poured" &
client=$!
background+=("$client")
during=$(python3 "$tmp/echo.py" measure 3.5 95)
wait "$client" || die "rows are lost"
echo "an echo took $during ms (95th percentile) while rows had $(cat "$tmp/poured") of 16000 kbit/s"
[ "$during" -lt 125 ] || die "rows fill the line's queue"
[ "$(cat "$tmp/poured")" -gt 8000 ] || die "rows do not use the line"
pour 3 65536 250000 >"$tmp/poured"
echo "with 2000 kbit/s allowed rows had $(cat "$tmp/poured")"
[ "$(cat "$tmp/poured")" -gt 1000 ] && [ "$(cat "$tmp/poured")" -lt 2200 ] || die "not what was allowed"
