#!/usr/bin/env bash
# Less memory than weights: a model in a control group that holds a part of it gives the same logits
# and, as a node, the same answers, and stays within the limit.
. "$(dirname "$0")/lib.sh"
store=$tmp/store
group=

for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    if [ -e "$root/cgroup.procs" ] && mkdir "$root/swarm-test-$$" 2>/dev/null; then
        group=$root/swarm-test-$$
        break
    fi
done
limit=memory.max
[ -e "$group/memory.limit_in_bytes" ] && limit=memory.limit_in_bytes
if [ -z "$group" ] || [ ! -w "$group/$limit" ]; then
    [ -z "$group" ] || rmdir "$group"
    echo "control groups with a memory limit are not allowed here: skipped"
    exit 77
fi
cleanup_more() {
    local p
    while read -r p; do echo "$p" >"${group%/*}/cgroup.procs"; done <"$group/cgroup.procs"
    rmdir "$group"
}

# 120 MB of weights, nearly all of them experts; some are used far more than others
cat >"$tmp/config.json" <<'END'
{"architectures": ["Glm4MoeForCausalLM"], "num_hidden_layers": 4, "hidden_size": 512, "vocab_size": 512,
 "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 1024,
 "max_position_embeddings": 2048, "rms_norm_eps": 1e-05, "attention_bias": true,
 "tie_word_embeddings": false, "n_routed_experts": 64, "num_experts_per_tok": 4, "n_shared_experts": 1,
 "moe_intermediate_size": 704, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
 "routed_scaling_factor": 1.0, "norm_topk_prob": true, "use_qk_norm": false,
 "num_nextn_predict_layers": 0, "rope_theta": 10000, "partial_rotary_factor": 0.5, "eos_token_id": [1]}
END
"$bin/swarm-bench" make "$tmp/config.json" --store "$store" --name toy:q40 --skew 100 --quiet

# Four shares of memory, one result; what is in memory is within the limit, and what is used most.
"$bin/swarm-bench" memory "$store" --share 100,60,30 --before 20 --tokens 20 --other 64 --threads 1 \
    --json >"$tmp/rows" || die "swarm-bench memory"
number() { sed -n "s/.*\"$1\".*\"$2\": \([0-9.]*\).*/\1/p" "$tmp/rows"; }
for share in 60 30; do
    had=$(number "$share %: experts that it had" achieved)
    awk -v had="$had" -v share="$share" 'BEGIN { exit !(had * 100 > share && had <= 1) }' ||
        die "$share %: had $had of the experts"
    awk -v most="$(number "$share %: memory, at most" achieved)" \
        -v limit="$(number "$share %: memory, at most" bound)" 'BEGIN { exit !(most <= limit * 1.01) }' ||
        die "$share %: more memory than the limit"
done

# A node under a limit that its weights do not fit in answers as one without; it remembers what it
# used, and goes on after a restart, also with garbage instead of that.
ask_it() {
    start "$1" --store "$store"
    "$bin/swarm-ask" "${link[$1]}" --greedy --max-tokens 60 "What is the capital of France?" \
        >"$tmp/$1.answer" 2>"$tmp/ask.err" || die "node $1: $(cat "$tmp/ask.err" "$tmp/$1.log")"
    stop_all
}
learnt() { find "$store" -name 'experts-*'; }
own=$(sed -n -e 's/^[0-9]*:\([^:]*,\)*memory\(,[^:]*\)*:/v1 /p' -e 's/^0::/v2 /p' /proc/self/cgroup | sort | head -n 1)
own=${group%/*}${own#* }
ask_it free
[ -z "$(learnt)" ] || die "a node with room for all learns"
echo $((90 << 20)) >"$group/$limit"
echo $$ >"$group/cgroup.procs"
for life in first second garbage; do
    [ "$life" != garbage ] || echo garbage >"$(learnt)"
    ask_it "$life"
    cmp "$tmp/free.answer" "$tmp/$life.answer" || die "under a limit, $life: another answer"
    [ "$(grep -c '^[1-3] [0-9]* [0-9]*$' "$(learnt)")" -ge 20 ] || die "$life: nothing was learnt"
done
echo $$ >"$own/cgroup.procs"
