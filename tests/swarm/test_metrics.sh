#!/usr/bin/env bash
# What nodes and the gateway say to Prometheus: well formed, true, and the same whoever reads it how.
. "$(dirname "$0")/lib.sh"
python=${SWARM_PYTHON:-python3}

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
refused 'metrics nowhere:' "$bin/swarm-node" --store "$tmp/store" --metrics nowhere: --listen 127.0.0.1:0
refused 'metrics 99999' "$bin/swarm-node" --store "$tmp/store" --metrics 99999 --listen 127.0.0.1:0

evil='k"it\ch{en'
start n0 --store "$tmp/store" --layers 0-4 --metrics 0 --name "$evil" --draft ngram
start n1 --store "$tmp/store" --layers 3-7 --no-ends --metrics 127.0.0.1:0 --join "${link[n0]}"
start plain --store "$tmp/store" --layers 0-2 --no-ends --join "${link[n0]}" --log json --log-level debug
probe nodes 3
! grep -q metrics "$tmp/plain.log" || die "metrics without being asked for"
at() { sed -n 's|.* metrics at http://\([^/]*\)/metrics.*|\1|p' "$tmp/$1.log" | tail -n 1; }
[[ $(at n0) == 127.0.0.1:* ]] || die "not on loopback: $(cat "$tmp/n0.log")"

# read NAME: into $tmp/NAME.prom, checked; value NAME SAMPLE: one of them.
read_metrics() {
    curl -sf --max-time 10 --retry 5 --retry-all-errors -D "$tmp/$1.head" "http://$(at "$1")/metrics" >"$tmp/$1.prom" || die "$1 does not answer"
    grep -qi '^content-type: text/plain; version=0.0.4' "$tmp/$1.head" || die "$(cat "$tmp/$1.head")"
    "$python" "$src/tests/swarm/metrics.py" "$tmp/$1.prom" >"$tmp/$1.json" || die "see above"
}
value() { "$python" -c 'import json,sys; print(int(json.load(open(sys.argv[1]))[sys.argv[2]]))' "$tmp/$1.json" "$2"; }
# is NAME SAMPLE VALUE, soon: a page is at most 200 ms old.
is() { read_metrics "$1" && [ "$(value "$1" "$2")" = "$3" ]; }
soon() { wait_until 20 is "$@" || die "$1: $2 is $(value "$1" "$2"), not $3"; }
more() { read_metrics "$1" && [ "$(value "$1" "$2")" -gt "$3" ]; }

soon n0 swarm_node_answers_total 0
soon n0 'swarm_node_state{state="active"}' 1
soon n0 swarm_node_ends_held 1
soon n1 swarm_node_ends_held 0
soon n1 swarm_node_layers_held 5
soon n0 'swarm_node_peers{state="connected"}' 2
soon n0 swarm_node_layer_holders_min 1
[ "$(value n1 swarm_node_experts_held)" -gt 0 ] || die "no experts"
grep -Fq 'name="k\"it\\ch{en"' "$tmp/n0.prom" || die "the name is not escaped: $(grep info "$tmp/n0.prom")"

ask --greedy "What is the capital of France?"
first=$answer
soon n0 swarm_node_answers_total 1
tokens=$(value n0 swarm_node_tokens_total)
[ "$tokens" -gt 3 ] || die "$tokens tokens"
[ "$(value n0 swarm_node_first_token_seconds_count)" = 1 ] || die "the first token is not counted"
[ "$(value n0 swarm_node_token_seconds_count)" = $((tokens - 1)) ] || die "$tokens tokens are not counted"
soon n1 'swarm_node_rows_total{for="given"}' "$(value n0 'swarm_node_rows_total{for="taken"}')"
[ "$(value n1 'swarm_node_step_seconds_count{kind="prefill"}')" -ge 1 ] || die "no prefill on n1"
[ "$(value n1 'swarm_node_step_seconds_count{kind="decode"}')" -ge 3 ] || die "no decoding on n1"
[ "$(value n0 swarm_node_prompt_tokens_total)" -gt 5 ] || die "no prompt"
bytes=$(value n1 'swarm_node_network_bytes_total{direction="in"}')

# Who reads without end, byte by byte, nonsense, or with all connections there are, harms nobody.
cat >"$tmp/hostile.py" <<'EOF'
import socket, sys, time
host, port = sys.argv[1].rsplit(":", 1)
def connect(patience):
    s = socket.create_connection((host, int(port)), 20)
    s.settimeout(patience)
    return s
def say(data, patience=20):
    s = connect(patience)
    try:
        s.sendall(data)
        got = b""
        while True:
            more = s.recv(65536)
            if not more: break
            got += more
    except OSError:
        got = b"reset"
    s.close()
    return got
say(b"\0\xff" * 5000, 0.5)
say(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"a" * 100000 + b"\r\n\r\n", 0.5)
say(b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 0.5)
say(b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n" + b"a" * 100000, 0.5)
assert b" 405 " in say(b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
assert b" 404 " in say(b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
assert b" 200 " in say(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
many = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 400   # asked for, never read
stuck = []
for i in range(40):
    try:
        s = connect(0.2)
        s.sendall(many if i % 2 else b"GET /met")
        stuck.append(s)
    except OSError:
        pass
assert stuck
print("stuck", flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end: time.sleep(0.1)
EOF
: >"$tmp/hostile"
"$python" "$tmp/hostile.py" "$(at n0)" 300 >"$tmp/hostile" 2>"$tmp/hostile.err" &
background+=($!)
hostile=$!
wait_until 60 grep -q stuck "$tmp/hostile" || die "$(cat "$tmp/hostile.err")"
ask --greedy "What is the capital of France?"
[ "$answer" = "$first" ] || die "an answer changed: $answer"
kill -KILL "$hostile"
wait "$hostile" 2>/dev/null || true
soon n0 swarm_node_answers_total 2
[ "$(ls "/proc/${pid[n0]}/fd" | wc -l)" -lt 100 ] || die "connections stay"
more n1 'swarm_node_network_bytes_total{direction="in"}' "$bytes" || die "no bytes came"

# A stage that is killed shows as healing; the dashboard names only what there is.
start spare --store "$tmp/store" --layers 3-7 --no-ends --join "${link[n0]}"
probe nodes 4
refused 'there is no such folder' "$bin/swarm-gateway" "${link[n0]}" --traces "$tmp/traces"
mkdir "$tmp/traces"
"$bin/swarm-gateway" "${link[n0]}" --listen 127.0.0.1:0 --log json --traces "$tmp/traces" >"$tmp/gateway.url" 2>>"$tmp/gateway.log" </dev/null &
pid[gateway]=$!
wait_until 20 test -s "$tmp/gateway.url" || die "$(cat "$tmp/gateway.log")"
curl -sf "$(sed 's|/v1$||' "$tmp/gateway.url")/metrics" >"$tmp/gateway.prom"
read_metrics n0
"$python" "$src/tests/swarm/metrics.py" --named "$src/packaging/grafana/swarm.json" \
    "$src/docs/monitoring.md" "$tmp/n0.prom" "$tmp/gateway.prom" >/dev/null || die "see above"

for i in {0..9}; do
    curl -sf "$(cat "$tmp/gateway.url")/chat/completions" -d '{"temperature":0,"messages":[{"role":"user","content":"What is the capital of France?"}]}' >"$tmp/answer.json"
    wait_until 20 test -s "$tmp/traces/trace-0$i.json" || die "the gateway keeps no trace: $(cat "$tmp/gateway.log")"
    "$python" "$src/tests/swarm/trace.py" "$tmp/traces/trace-0$i.json" 0 1 || die "see above"
done
[ "$(stat -c %a "$tmp/traces/trace-00.json")" = 600 ] || die "others may read a trace"
stop_all

# --log json: each line is an object with its time, and nothing of what was asked or answered.
SWARM_NODE_LOG=json "$bin/swarm-node" --store "$tmp/nowhere" --listen 127.0.0.1:0 2>>"$tmp/plain.log" && die "no store, no error"
"$python" - "$tmp/plain.log" "$tmp/gateway.log" <<'EOF'
import datetime, json, sys
for path in sys.argv[1:]:
    lines = [json.loads(line) for line in open(path, encoding="utf-8")]
    for l in lines:
        assert set(l) - {"node"} == {"time", "level", "program", "message"}, l
        assert l["level"] in ("error", "warn", "info", "debug") and l["message"], l
        when = datetime.datetime.strptime(l["time"], "%Y-%m-%dT%H:%M:%S.%fZ")
        assert abs((datetime.datetime.utcnow() - when).total_seconds()) < 600, l
    if "plain" in path:
        assert any(l["message"].startswith("ready") and l["node"].startswith("swm1") for l in lines)
        assert lines[-1]["level"] == "error", lines[-1]
for path in sys.argv[1:]:
    text = open(path).read()
    assert "France" not in text and "Paris" not in text, path
EOF
! grep -q 'France\|Paris' "$tmp"/*.log || die "a question or an answer is logged"
echo "what is told is true"
