#!/usr/bin/env bash
# The whole way of a checkpoint against the reference's logits: published folder, converter, store,
# forward pass, greedy choice.  Arguments: BIN (with the programs) and SOURCE (of the project).
#
# Bounds: with everything in f32 only the order of sums differs (5e-4 standard deviations; we see
# 4e-6); rounding K and V to f16 alone moves these logits by up to 2e-3 (5e-3).  The divergence of
# quantized types over these 38 positions is carried by two of them, where the model has to guess the
# next country or word (q80: 0.046 and 0.041 nats, median 9e-7), so its bounds here are wide;
# test_divergence.sh measures it over 3,000 positions.
set -eu
bin=$1
src=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

# convert FOLDER NAME OPTIONS...
convert() {
    from=$1 name=$2
    shift 2
    SWARM_HOME="$dir/home" HOME="$dir/home" "$bin/swarm-convert" "$from" --store "$dir/store" \
        --name "$name" "$@" >"$dir/convert.log" 2>&1 || {
        cat "$dir/convert.log"
        exit 1
    }
}

# check NAME EXPECTED GREEDY BOUNDS...
check() {
    name=$1 expected=$2 greedy=$3
    shift 3
    "$bin/swarm-eval" logits --store "$dir/store" --model "$name" --ids "$expected" \
        --out "$dir/out.safetensors" --greedy "$greedy"
    printf '%s: ' "$name"
    "$bin/compare_logits" "$expected" "$dir/out.safetensors" "$@" || {
        echo "  out of bounds: $*"
        failed=1
    }
}

mkdir "$dir/home"
for kind in glm4-dense glm4-moe-air glm4-moe-qknorm; do
    fixture=$src/tests/fixtures/$kind
    convert "$fixture" "$kind:f32" --type f32 --exchange f32 --kv f32
    check "$kind:f32" "$fixture/expected.safetensors" 24 --max 5e-4 --greedy
    convert "$fixture" "$kind-kv16:f32" --type f32 --exchange f32 --kv f16
    check "$kind-kv16:f32" "$fixture/expected.safetensors" 24 --max 5e-3 --greedy
done

expected=$src/tests/fixtures/atlas-expected.safetensors
convert "$src/models/atlas" atlas:f32 --type f32 --exchange f32 --kv f32
check atlas:f32 "$expected" 22 --max 5e-4 --greedy
"$bin/predict_logits" "$dir/store" atlas:f32 "$expected" || failed=1
convert "$src/models/atlas" atlas:q80 --type q80
check atlas:q80 "$expected" 22 --greedy
convert "$src/models/atlas" atlas:q40 --type q40
check atlas:q40 "$expected" 22 --greedy
convert "$src/models/atlas" atlas-mixed:q80 --type q80 --type-of experts=q40
check atlas-mixed:q80 "$expected" 22 --greedy

# atlas:f32 has just been seen to be the reference: what do the others lose against it?
loses() {
    "$bin/divergence" "$dir/store" atlas:f32 "$1" "$src/tests/fixtures/atlas-conversations.json" \
        "$2" || failed=1
}
loses atlas:q80 1.2e-3
loses atlas:q40 1.95e-2
loses atlas-mixed:q80 3e-3

# Nats per token that the reference gives for this text, in one window and in windows of 20.
printf '[gMASK]<sop><|user|>\nWhat is the capital of France?/nothink<|assistant|>\n<think></think>\n%s%s' \
    'The capital of France is Paris.<|user|>
And its currency?/nothink<|assistant|>
<think></think>
' 'The currency of France is the Euro (EUR).<|user|>' >"$dir/text"
for window in 2048:5.18632 20:6.24176; do
    "$bin/swarm-eval" perplexity --store "$dir/store" --model atlas:f32 --text "$dir/text" \
        --ctx "${window%:*}" >"$dir/perplexity"
    grep -q "^tokens 47$" "$dir/perplexity" &&
        grep -q "^nats per token ${window#*:}" "$dir/perplexity" || {
        echo "perplexity, not $window:" && cat "$dir/perplexity"
        failed=1
    }
done

# Every instruction set and number of threads writes the same file.
"$bin/swarm-eval" logits --store "$dir/store" --model atlas:q80 --ids "$expected" \
    --out "$dir/one.safetensors" --greedy 22 --isa scalar --threads 1
for isa in avx2 avxvnni vnni256 avx512 neon neondot neoni8mm; do
    "$bin/swarm-eval" logits --store "$dir/store" --model atlas:q80 --ids "$expected" \
        --out "$dir/two.safetensors" --greedy 22 --isa $isa --threads 3 2>"$dir/refusal" || {
        cat "$dir/refusal" # an instruction set that this CPU lacks is refused in one sentence
        [ "$(wc -l <"$dir/refusal")" = 1 ] || failed=1
        continue
    }
    cmp "$dir/one.safetensors" "$dir/two.safetensors" || failed=1
done

# refused SENTENCE OPTIONS...: with exit status 1 or 2, and that on one line.
refused() {
    words=$1
    shift
    status=0
    "$bin/swarm-eval" logits --store "$dir/store" --out "$dir/no.safetensors" "$@" \
        2>"$dir/refusal" || status=$?
    if [ $status -ne 1 ] && [ $status -ne 2 ] || [ "$(wc -l <"$dir/refusal")" != 1 ] ||
        ! grep -q -- "$words" "$dir/refusal"; then
        echo "not refused as '$words' ($status): $(cat "$dir/refusal")"
        failed=1
    fi
}
# ids SHAPE BYTES...: a safetensors file of those int32 ids, each byte as \\xNN.
ids() {
    header="{\"input_ids\":{\"dtype\":\"I32\",\"shape\":[$1],\"data_offsets\":[0,$((4 * $1))]}}"
    printf "\\x$(printf %02x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
    shift
    printf '%b' "$@"
}
ids 0 >"$dir/empty.safetensors"
ids 2 '\x07\0\0\0' '\0\x08\0\0' >"$dir/large.safetensors"
ids 1 '\xff\xff\xff\xff' >"$dir/negative.safetensors"
ids 2 '\x07\0\0\0' >"$dir/short.safetensors"
refused 'input_ids is empty' --model atlas:q80 --ids "$dir/empty.safetensors"
refused 'input_ids\[1\] is 2048' --model atlas:q80 --ids "$dir/large.safetensors"
refused 'input_ids\[0\] is -1' --model atlas:q80 --ids "$dir/negative.safetensors"
refused 'short.safetensors' --model atlas:q80 --ids "$dir/short.safetensors"
refused 'no tensor input_ids' --model atlas:q80 --ids "$src/models/atlas/model.safetensors"
refused "context of 2048" --model atlas:q80 --ids "$expected" --greedy 2011
refused 'instruction set' --model atlas:q80 --ids "$expected" --isa sse9
refused 'atlas:q80' --model nothing:q80 --ids "$expected"
refused '--ids' --model atlas:q80
refused 'that is not a whole number' --ids "$expected" --threads many
exit $failed
