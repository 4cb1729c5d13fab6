#!/usr/bin/env bash
# The gateway in front of three nodes, as clients use it: tests/swarm/gateway.py with Python's own
# HTTP, and with OpenAI's library where it is installed; a stage is killed in mid-answer.
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
start_behind n2 --store "$tmp/store" --layers 6-7 --no-ends # all others dial it, so its line can be slow
start n0 --store "$tmp/store" --layers 0-2 --join "${link[n2]}"
start n1 --store "$tmp/store" --layers 3-5 --no-ends --join "${link[n2]}"
probe nodes 3
start spare --store "$tmp/store" --layers 3-5 --no-ends --join "${link[n2]}"

# gateway NAME OPTIONS...: its address is in ${url[NAME]}.
declare -A url
gateway() {
    local name=$1
    shift
    : >"$tmp/$name.url"
    "$bin/swarm-gateway" "${link[n0]}" --listen 127.0.0.1:0 "$@" >"$tmp/$name.url" 2>>"$tmp/$name.log" </dev/null &
    pid[$name]=$!
    wait_until 20 test -s "$tmp/$name.url" || die "gateway $name does not listen: $(cat "$tmp/$name.log")"
    url[$name]=$(cat "$tmp/$name.url")
}

# What cannot be safe is refused in words.
refused 'others could ask from there; give --keys FILE, or --open' "$bin/swarm-gateway" "${link[n0]}" --listen 0.0.0.0:0
printf 'anna secret-key-of-anna-1\nben secret-key-of-ben-2\n' >"$tmp/keys"
chmod 644 "$tmp/keys"
refused 'others may read these keys; chmod 600 it' "$bin/swarm-gateway" "${link[n0]}" --keys "$tmp/keys"
chmod 600 "$tmp/keys"
printf 'anna short\n' >"$tmp/bad" && chmod 600 "$tmp/bad"
refused "$tmp/bad:1: a name has at most 31 bytes, a key 16 to 127" "$bin/swarm-gateway" "${link[n0]}" --keys "$tmp/bad"

gateway open
gateway keyed --keys "$tmp/keys" --per-minute 3
gateway demo --demo --cors https://example.org --usage "$tmp/usage" --trusted-proxy 127.0.0.1
at=${url[open]#http://}
refused 'Address already in use' "$bin/swarm-gateway" "${link[n0]}" --listen "${at%/v1}"
refused 'a trusted proxy is an address' "$bin/swarm-gateway" "${link[n0]}" --trusted-proxy example.org

"${SWARM_PYTHON:-python3}" "$src/tests/swarm/gateway.py" "${url[open]}" "${url[keyed]}" "${url[demo]}" ||
    die "see above"

python3 "$src/tests/swarm/logprobs.py" "${url[open]}" "$bin" "$tmp/store" "$src/models/atlas/tokenizer.json" "$tmp" ||
    die "see above"

# The same through OpenAI's library for JavaScript, where it is (scripts/test.sh --clients installs both).
if [ -n "${SWARM_OPENAI_JS:-}" ] && command -v node >/dev/null; then
    node "$src/tests/swarm/gateway.mjs" "$SWARM_OPENAI_JS" "${url[open]}" "${url[keyed]}" || die "see above"
else
    echo "SKIPPED: OpenAI's library for JavaScript is not installed"
fi

# A client that goes away frees the whole pipeline, soon.
order n2 "delay 20" # so that an answer takes a while
busy_now() { ! free_again; }
serves() { # its own number comes before its peers'
    local all
    all=$("$bin/swarm-node" status "${pid[$1]}" --json) || return 1
    [[ $(grep -o '"sessions":[0-9]*' <<<"$all" | head -n 1) != '"sessions":0' ]]
}
free_again() { ! serves n0 && ! serves n1 && ! serves spare && ! serves n2; }
slow='"temperature":0,"messages":[{"role":"user","content":"Tell me about Japan."}]}'
for how in '{"stream":true,' '{"stream":false,'; do
    curl -sN "${url[open]}/chat/completions" -d "$how$slow" >"$tmp/cut" &
    client=$!
    background+=($client)
    wait_until 20 busy_now || die "it does not begin: $(cat "$tmp/cut" "$tmp/open.log" | tail -5)"
    kill -KILL "$client"
    wait "$client" || true
    wait_until 20 free_again || die "sessions stay: $("$bin/swarm-node" status "${pid[n1]}" --json)"
    ! grep -q 'DONE\|finish_reason":"stop' "$tmp/cut" || die "it was too fast to be cut: $(tail -2 "$tmp/cut")"
done

# A stage is killed while an answer streams: a pause, the same text.
question='{"stream":true,"temperature":1.5,"top_p":1,"seed":7,"max_tokens":3000,"messages":[{"role":"user","content":"Tell me about Japan."}]}'
curl -sN "${url[open]}/chat/completions" -d "$question" >"$tmp/whole"
text_of() { # however it was cut into pieces
    python3 -c 'import json, sys
for line in open(sys.argv[1]):
    if line.startswith("data: {"):
        d = json.loads(line[6:])["choices"][0]
        print((d["delta"].get("reasoning_content") or "") + (d["delta"].get("content") or "") + (d["finish_reason"] or ""), end="")' "$1"
}
curl -sN "${url[open]}/chat/completions" -d "$question" >"$tmp/healed" &
background+=($!)
client=$!
wait_until 20 grep -q '"reasoning_content"\|"content":"[^"]' "$tmp/healed" || die "no answer began"
victim=n1
serves n1 || victim=spare
kill -KILL "${pid[$victim]}"
wait "$client" || die "curl failed"
[ -n "$(text_of "$tmp/whole")" ] || die "no answer: $(cat "$tmp/whole")"
cmp <(text_of "$tmp/whole") <(text_of "$tmp/healed") || die "the healed answer differs: $(text_of "$tmp/healed")"
grep -q '^data: \[DONE\]' "$tmp/healed" || die "no end"

# No coordinator: said at once where people look, and in OpenAI's form; it comes back by itself.
gateway brief --patience 1
gateway public --patience 1 --demo --no-usage
kill -KILL "${pid[n0]}"
wait_until 20 curl -s -o /dev/null -w '%{http_code}' "${url[brief]%/v1}/health" || die "no health"
sick() { [ "$(curl -s -o "$tmp/health" -w '%{http_code}' "${url[brief]%/v1}/health")" = 503 ]; }
wait_until 20 sick || die "it is said to be well: $(cat "$tmp/health")"
fails() {
    code=$(curl -s -o "$tmp/error" -w '%{http_code}' "${url[$1]}/chat/completions" -d '{"messages":[{"role":"user","content":"hi"}]}')
    [ "$code" = 503 ] || die "$code: $(cat "$tmp/error")"
}
fails brief
grep -q '"message":"127.0.0.1:.* cannot be asked' "$tmp/error" || die "$(cat "$tmp/error")"
fails public # strangers learn no address
curl -s "${url[public]%/v1}/health" >>"$tmp/error"
grep -q '"message":"(address) cannot be asked' "$tmp/error" && ! grep -q '127\.0' "$tmp/error" || die "$(cat "$tmp/error")"

for name in open keyed demo brief public; do kill -TERM "${pid[$name]}"; done
for name in open keyed demo brief public; do
    wait_until 20 gone "${pid[$name]}" || die "gateway $name does not stop"
    status=0
    wait "${pid[$name]}" || status=$?
    [ "$status" = 0 ] || die "gateway $name ended with $status: $(cat "$tmp/$name.log")"
    unset "pid[$name]"
done
# The demonstration counted, in a file that its owner alone reads, and nothing but numbers.
pages=$(find "$tmp/usage" -type f -name "usage-20*-*.json") # two of them at midnight
for page in $pages; do
    [ "$(stat -c %a "$page")" = 600 ] || die "$page: mode $(stat -c %a "$page")"
    grep -Eq '^\{"day":"[0-9-]*"(,"[a-z_]*":[0-9]*)+\}$' "$page" || die "more than numbers: $(cat "$page")"
done
# shellcheck disable=SC2086
python3 -c 'import json, sys
u = [json.load(open(p)) for p in sys.argv[1:]]
of = lambda k: sum(d[k] for d in u)
assert of("requests") == 22 and of("refused_limit") == 4 and of("busiest_minute") >= 5 and of("tokens") > 20, u' $pages || die "see above"
[ -z "$(find "$tmp/home" -path "*swarm-gateway*")" ] || die "usage where nobody asked for it"
echo "the gateway serves as promised"
