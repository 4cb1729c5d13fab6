#!/usr/bin/env bash
# swarm-bench race against a llama.cpp of our own making: what it is asked, what is made of its
# answers, and how it is told that the other side fails.  (The real one: scripts/test.sh --llama.)
# Arguments: BIN (with the programs) and SOURCE (of the project).
set -eu
bin=$1
src=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

mkdir "$dir/home"
SWARM_HOME=$dir/home HOME=$dir/home "$bin/swarm-convert" "$src/models/atlas" --store "$dir/atlas" \
    --name atlas:q40 --type q40 --quiet

# A peer that takes 1 s for everything, 2 s without flash attention; it writes down what it is asked.
cat >"$dir/peer" <<'END'
echo "$@" >"$LOG"
[ -z "${FAIL_OPEN:-}" ] || { echo '{"error": "no such model"}'; exit 1; }
echo '{"ready": "0.0", "load_s": 3.5}'
while read -r line; do
    echo "$line" >>"$LOG"
    case $line in
    *"${DIE_AT:-nothing}"*) exit 1 ;;
    *"${REFUSE:-nothing}"*) echo '{"error": "it will not"}' ;;
    *'"flash": true'*) echo '{"s": 1.0}' ;;
    *) echo '{"s": 2.0}' ;;
    esac
done
END
export LOG=$dir/log

race() { "$bin/swarm-bench" race "$dir/atlas" --python sh --script "$dir/peer" "$@"; }

failed=0
wrong() { echo "wrong: $*"; failed=1; }

race --threads 2 --context 0,700 --prefill 64 --rounds 3 --json >"$dir/out"
[ -s "$dir/atlas.gguf" ] || wrong "no GGUF was written"
grep -q -- "^$dir/atlas.gguf --threads 2 --context 956$" "$dir/log" || wrong "how it was started"
# 64 tokens in its better second; n tokens of a decode in its better second: 4, so that it is short.
grep -q '"prefill of 64 tokens, flash attention on", .*"llama.cpp": 64, "ours":' "$dir/out" ||
    wrong "prefill"
for n in 0 700; do
    grep -q "\"decode behind $n tokens, flash attention on\", .*\"llama.cpp\": 4, \"ours\":" \
        "$dir/out" || wrong "decode behind $n"
    # four trials, three rounds
    [ "$(grep -c "\"decode\".*\"context\": $n, \"tokens\": 4}" "$dir/log")" = 7 ] ||
        wrong "timings behind $n"
done
grep -q '"open the model, file in memory", "unit": "s", "llama.cpp": 3.5' "$dir/out" || wrong "open"

# refused SENTENCE OPTIONS...
refused() {
    words=$1
    shift
    status=0
    race "$@" >"$dir/out" 2>"$dir/why" || status=$?
    if [ $status -eq 0 ] || [ -s "$dir/out" ] || [ "$(wc -l <"$dir/why")" != 1 ] ||
        ! grep -q -- "$words" "$dir/why"; then
        wrong "not refused as '$words' ($status): $(cat "$dir/why")"
    fi
}
FAIL_OPEN=1 refused 'llama.cpp: no such model' --context 0
DIE_AT=decode refused 'llama.cpp ended' --rounds 1 --context 0
REFUSE=prefill refused 'llama.cpp: it will not' --rounds 1 --context 0
refused '--context: up to' --context 1,x
refused 'the model has 2048 positions' --context 2000
refused '--rounds is 1 to' --rounds 0 --context 0
refused '--script says where' --script "$dir/none" --context 0
exit $failed
