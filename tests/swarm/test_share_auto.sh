#!/usr/bin/env bash
# --share auto: two nodes begin to share layers by themselves where prediction says that it pays, and
# compute them alone where it does not, saying why; with the same answers.
. "$(dirname "$0")/lib.sh"
prompt="Tell me about Japan."

# A layer that takes any machine many milliseconds, so that two rounds on loopback, even
# of a busy machine, are little beside half of it.
cat >"$tmp/config.json" <<'JSON'
{"architectures": ["Glm4ForCausalLM"], "num_hidden_layers": 1, "hidden_size": 4096, "vocab_size": 512,
 "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 32768,
 "max_position_embeddings": 512, "rms_norm_eps": 1e-05, "attention_bias": true,
 "tie_word_embeddings": false, "rope_theta": 10000, "partial_rotary_factor": 0.5}
JSON
"$bin/swarm-bench" make "$tmp/config.json" --store "$tmp/store" --type q40 --name large:q40 --quiet
convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80

said() { grep -qF "$2" "$tmp/$1.log"; }
asked() { # NODE TOKENS FILE
    "$bin/survive" "${link[$1]}" 2 "$2" "$prompt" >"$3" 2>"$tmp/err" || die "asking $1: $(cat "$tmp/err")"
}

# Nobody is there to share with: it answers alone.
start n0 --store "$tmp/store" --model large:q40 --share auto --share-rtt 500
asked n0 4 "$tmp/alone"
! said n0 "sharing layers with" || die "it shares with nobody"
# Somebody comes: it pays, by prediction, and nobody has to say so.
start n1 --store "$tmp/store" --model large:q40 --share auto --share-rtt 500 --join "${link[n0]}"
# Both may lead; the one that found itself slower when it started gains more.  A round trip that was
# measured in a busy moment is measured again.
either_shares() { said n0 "sharing layers with" || said n1 "sharing layers with"; }
wait_until 90 either_shares || die "layers that take long are not shared: $(cat "$tmp"/n?.log)"
for n in n0 n1; do
    asked $n 4 "$tmp/shared"
    cmp "$tmp/alone" "$tmp/shared" || die "a shared layer has another answer at $n"
done
large=$(grep -ho "with 1 other .*" "$tmp"/n?.log | tail -n 1)
stop_all
rm "$tmp"/n?.log

# Small layers, 20 ms away: each would wait longer than sharing saves.
start_behind n0 --store "$tmp/store" --model atlas:q80 --share auto --share-rtt 500
asked n0 16 "$tmp/alone"
order n0 "delay 10"
start n1 --store "$tmp/store" --model atlas:q80 --share auto --share-rtt 500 --join "${link[n0]}"
for n in n0 n1; do
    wait_until 40 said $n "layers are not shared: with 1 other" || die "$n does not say why not: $(cat "$tmp/$n.log")"
done
asked n1 16 "$tmp/shared"
cmp "$tmp/alone" "$tmp/shared" || die "another answer beside somebody far away"
! said n0 "sharing layers with" || die "what does not pay is done: $(cat "$tmp/n0.log")"
! said n1 "sharing layers with" || die "what does not pay is done: $(cat "$tmp/n1.log")"
small=$(grep -o "with 1 other .*" "$tmp/n1.log" | tail -n 1)
stop_all
echo "shared by itself: ${large:-?}"
echo "not shared: $small"
