#!/usr/bin/env bash
# swarm-bench users on a small model: its rows, and cancelled answers that leave within five times
# what they may take.  A sanitizer's build is slower than that, so times are looked at in others only.
. "$(dirname "$0")/lib.sh"
bench=$bin/swarm-bench

cat >"$tmp/config.json" <<'JSON'
{"architectures": ["Glm4ForCausalLM"], "num_hidden_layers": 4, "hidden_size": 256, "vocab_size": 512,
 "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512,
 "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "attention_bias": true,
 "tie_word_embeddings": false, "rope_theta": 10000, "partial_rotary_factor": 0.5}
JSON
"$bench" make "$tmp/config.json" --store "$tmp/store" --type q80 --name users:q80 --quiet
TMPDIR=$tmp "$bench" users "$tmp/store" --nodes 2 --clients 4 --many 8 --tokens 400 --prompt 1000 \
    --rounds 1 --json >"$tmp/out" 2>"$tmp/err" || die "swarm-bench users: $(cat "$tmp/err")"

# field WHAT FIELD: of the row that begins so
field() {
    local line
    line=$(grep -F "\"what\": \"$1" "$tmp/out") || die "no row '$1': $(cat "$tmp/out")"
    line=${line#*\""$2"\": }
    echo "${line%%[,\}]*}"
}
for row in "one process, batches of 4" "4 clients, 2 stages" "8 clients\"" "8 clients: fastest to slowest" \
    "8 clients: most to least" "8 clients: private memory" "a token of a running answer" "a token beside a prompt" \
    "the longest beside it" "until that prompt" "until 8 cancelled answers"; do
    v=$(field "$row" achieved)
    awk -v v="$v" 'BEGIN { exit !(v > 0) }' || die "'$row' is $v"
done
if ! grep -q __asan_init "$bin/swarm-node"; then
    awk -v ms="$(field "until 8 cancelled answers" achieved)" 'BEGIN { exit !(ms < 5000) }' ||
        die "cancelled answers stay for long"
fi

# Nothing is left behind.
[ -z "$(ls -d "$tmp"/swarm-bench.* 2>/dev/null)" ] || die "left behind: $(ls -d "$tmp"/swarm-bench.*)"

# what cannot be
refused() {
    local status=0 sentence=$1
    shift
    TMPDIR=$tmp "$bench" users "$@" >/dev/null 2>"$tmp/err" || status=$?
    [ $status -ne 0 ] && grep -q -- "$sentence" "$tmp/err" || die "$*: $(cat "$tmp/err")"
}
refused "STORE is missing"
refused "--many: 1 to 64" "$tmp/store" --many 65
refused "too few for 5 nodes" "$tmp/store" --nodes 5
