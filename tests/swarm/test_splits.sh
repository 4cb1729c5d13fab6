#!/usr/bin/env bash
# However the layers lie on nodes, swarm-eval writes the same bytes as in one process.
. "$(dirname "$0")/lib.sh"

# same NAME IDS GREEDY: through the swarm of n0 as in one process.
same() {
    local name=$1 ids=$2 greedy=$3
    [ -e "$tmp/$name.local" ] || "$bin/swarm-eval" logits --store "$tmp/store" --model "$name" \
        --ids "$ids" --out "$tmp/$name.local" --greedy "$greedy" --threads 2
    "$bin/swarm-eval" logits --store "$tmp/store" --model "$name" --ids "$ids" \
        --out "$tmp/out" --greedy "$greedy" --connect "${link[n0]}" --threads 1
    cmp "$tmp/$name.local" "$tmp/out" || die "$name differs"
}

# over NAME IDS GREEDY SPLIT...
over() {
    local name=$1 ids=$2 greedy=$3
    shift 3
    start_split "--store $tmp/store --model $name" "$@"
    same "$name" "$ids" "$greedy"
    stop_all
    echo "$name over $*: the same bytes"
}
atlas=$src/tests/fixtures/atlas-expected.safetensors
convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
over atlas:q80 "$atlas" 22 0-2 3-5 6-7
over atlas:q80 "$atlas" 22 0-0 1-6 7-7
over atlas:q80 "$atlas" 22 0-7
over atlas:q80 "$atlas" 22 0-4 2-7 5-7

convert "$src/models/atlas" "$tmp/store" atlas:f32 --type f32 --exchange f32 --kv f32
over atlas:f32 "$atlas" 22 0-3 4-4 5-7

for kind in glm4-dense glm4-moe-air glm4-moe-qknorm; do
    convert "$src/tests/fixtures/$kind" "$tmp/store" "$kind:f32" --type f32 --exchange f32 --kv f32
    over "$kind:f32" "$src/tests/fixtures/$kind/expected.safetensors" 24 0-0 1-2 3-$(
        [ "$kind" = glm4-moe-qknorm ] && echo 4 || echo 3)
done

# Stores that hold only their node's layers are parts of the same model.
for i in 0 1 2; do
    parts=(0-2 3-5 6-7)
    ends=()
    [ "$i" -eq 0 ] || ends=(--no-ends)
    convert "$src/models/atlas" "$tmp/part$i" atlas:q80 --type q80 --layers "${parts[i]}" \
        "${ends[@]}"
done
start n0 --store "$tmp/part0"
start n1 --store "$tmp/part1" --join "${link[n0]}"
start n2 --store "$tmp/part2" --join "${link[n1]}"
same atlas:q80 "$atlas" 22
refused 'layer 3 of model atlas:q80 is not' "$bin/swarm-node" --store "$tmp/part0" \
    --listen 127.0.0.1:0 --layers 2-3
stop_all
echo "atlas:q80 from three partial stores: the same bytes"
