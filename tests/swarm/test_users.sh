#!/usr/bin/env bash
# Many askers: each gets the tokens that he gets alone, waits for his turn and hears his place; a long
# prompt holds nobody up, nor does who asks much; who cancels leaves nothing behind.
. "$(dirname "$0")/lib.sh"

cat >"$tmp/config.json" <<'JSON'
{"architectures": ["Glm4ForCausalLM"], "num_hidden_layers": 8, "hidden_size": 512, "vocab_size": 512,
 "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 1536,
 "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "attention_bias": true,
 "tie_word_embeddings": false, "rope_theta": 10000, "partial_rotary_factor": 0.5,
 "eos_token_id": [511]}
JSON
"$bin/swarm-bench" make "$tmp/config.json" --store "$tmp/store" --type q80 --name crowd:q80 --quiet

# crowd NODE NAME LIMIT_S <askers: what they got in $tmp/NAME
crowd() {
    "$bin/crowd" "${link[$1]}" "$tmp/$2" "$3" >"$tmp/$2" 2>"$tmp/$2.err" || die "crowd $2: $(cat "$tmp/$2.err")"
}
# all_done NAME: every one was answered
all_done() {
    ! grep -v "^[0-9]* done " "$tmp/$1" >"$tmp/not" || die "$1: $(cat "$tmp/not" "$tmp/$1".*.failed 2>/dev/null)"
}
askers() { # N TOKENS BEGIN_MS: each another client with dice of his own
    local i
    for ((i = 0; i < $1; i++)); do
        echo "$i $2 $((i + 5)) 1.5 $3 0 0 question number $i"
    done
}
same() { # NAME N
    local i
    for ((i = 0; i < $2; i++)); do
        cmp -s "$tmp/alone.$i" "$tmp/$1.$i" || die "$1: asker $i got another answer than alone"
    done
}
# One process that answers one at a time: the others wait, and their places only fall.
start one --store "$tmp/store" --answers 1
askers 16 60 0 | crowd one alone 150
all_done alone
awk '$9 != 0 { exit 1 }' "$tmp/alone" || die "somebody fell back in the queue: $(cat "$tmp/alone")"
awk '$7 > 12 { n++ } END { exit !(n >= 2) }' "$tmp/alone" || die "nobody waited: $(cat "$tmp/alone")"
stop one

# Four stages, 16 at once; some hold the same layers, so that one may be lost.
start n0 --store "$tmp/store" --layers 0-1
for i in 1 2 3; do start "n$i" --store "$tmp/store" --layers $((2 * i))-$((2 * i + 1)) --no-ends --join "${link[n0]}"; done
probe nodes 4
askers 16 60 0 | crowd n0 together 150
all_done together
same together 16

# 64: while two are heard, they get the same number of tokens, whichever two; what the worst two got.
# (Who has how many when the first is done would tell who came first: 64 come one after another.)
askers 64 60 0 | crowd n0 many 150
all_done many
same many 16
awk '
    FNR == 1 { n_who++; before = 0 }
    { at[n_who, ++n[n_who]] = $1; got[n_who, n[n_who]] = $2 - before; before = $2 }
    function tokens(who, from, to,    k, sum) {
        for (k = 1; k <= n[who]; k++) if (at[who, k] > from && at[who, k] <= to) sum += got[who, k]
        return sum + 0
    }
    END {
        for (a = 1; a <= n_who; a++)
            for (b = 1; b < a; b++) {
                from = at[a, 1] > at[b, 1] ? at[a, 1] : at[b, 1]
                to = at[a, n[a]] < at[b, n[b]] ? at[a, n[a]] : at[b, n[b]]
                x = tokens(a, from, to); y = tokens(b, from, to)
                more = x > y ? x : y; fewer = x > y ? y : x
                if (more < 20) continue
                n_pairs++
                if (!most || more * least > most * fewer) { most = more; least = fewer }
            }
        print n_pairs + 0, most + 0, least + 0
    }' "$tmp"/many.*.marks >"$tmp/shares"
read -r pairs most least <"$tmp/shares"
[ "$pairs" -ge 500 ] || die "only $pairs pairs of 64 are answered together"
[ "$most" -le $((2 * least)) ] || die "of two that are heard together, one gets $most tokens, the other $least" # goal: 1.5

# A prompt of 2,000 tokens beside a stream.
long=$(printf 'All work and no play makes a dull day. %.0s' {1..55})
{
    echo "0 1800 5 1.5 0 0 0 question number 0"
    echo "1 4 6 1.5 400 0 0 ${long:0:1990}"
} | crowd n0 beside 200
all_done beside
from=$(awk '$1 == 1 { print $5 }' "$tmp/beside")
to=$(awk 'NR == 1 { print $1 }' "$tmp/beside.1.marks")
awk -v from="$from" -v to="$to" '
    NR > 1 && $1 < from { usual += $1 - before; n += $2 - index_before }
    NR > 1 && $1 >= from && before < to { gap = $1 - before; beside += gap; k += $2 - index_before
        if (gap > longest) longest = gap }
    { before = $1; index_before = $2 }
    END { if (n < 4 || k < 2) { printf "%d tokens before it, %d beside it", n, k; exit 1 }
        usual /= n; beside /= k
        printf "a token takes %.0f us, beside a prompt %.0f us, at most %.0f us", usual, beside, longest
        exit !(beside < 30 * usual) }' "$tmp/beside.0.marks" >"$tmp/gap" ||
    die "a prompt holds a stream up: $(cat "$tmp/gap")" # three times is the goal, on PCs of their own

# Who cancels, waiting or heard, leaves nothing behind; five times.
stop n0
start n0 --store "$tmp/store" --layers 0-1 --answers 2 --queue 40 --per-client 20 --join "${link[n1]}"
probe nodes 4
{
    for i in {0..7}; do echo "$i 2000 $i 1.5 0 $((150 + 20 * (i % 2))) 0 cancelled $i"; done
} | crowd n0 cancelled 100
[ "$(grep -c " cancelled " "$tmp/cancelled")" = 8 ] || die "cancelled: $(cat "$tmp/cancelled")"
wait_until 20 is_idle n0 n1 n2 n3 || die "cancelled requests stay: $(work_of n0) $(work_of n3)"

# One who asks 16 things does not keep off one who asks one.
{
    for i in {0..15}; do echo "0 60 $((i + 5)) 1.5 0 0 0 question number $i"; done
    echo "1 60 21 1.5 60 0 0 question number 16"
} | crowd n0 greedy 150
all_done greedy
same greedy 16
awk '$1 == 16 { begin = $5; end = $6 } { ends[NR] = $6 } END { for (i in ends) n += ends[i] > begin && ends[i] < end; exit !(n <= 8) }' \
    "$tmp/greedy" || die "the modest one waited for the greedy one: $(cat "$tmp/greedy")"

# More than may wait, and more than one may ask: a sentence.
for i in {0..59}; do echo "$((i % 30)) 200 $i 1.5 0 0 0 crowd $i"; done | crowd n0 crowded 150
grep -q " failed " "$tmp/crowded" || die "nobody was refused"
cat "$tmp"/crowded.*.failed | grep -qv 'requests wait here already, more than that cannot; try again in [0-9]* s' &&
    die "another sentence: $(cat "$tmp"/crowded.*.failed)"
for i in {0..21}; do echo "0 20 $i 1.5 0 0 0 mine $i"; done | crowd n0 mine 150
[ "$(grep -c " done " "$tmp/mine")" -ge 20 ] || die "per client: $(cat "$tmp/mine")"
! grep -q " failed " "$tmp/mine" || grep -q 'too many questions of yours' "$tmp"/mine.*.failed || die "no sentence"

# A stage with room for two conversations: the others wait for room, and their answers are whole.
stop n3
start n3 --store "$tmp/store" --layers 6-7 --no-ends --join "${link[n1]}" --kv-ram 400K
stop n0
start n0 --store "$tmp/store" --layers 0-1 --join "${link[n1]}"
probe nodes 4
askers 8 60 0 | crowd n0 full 150
all_done full
same full 8

# A stage is killed while eight listen.
start n4 --store "$tmp/store" --layers 4-5 --no-ends --join "${link[n1]}"
stop n3
start n3 --store "$tmp/store" --layers 6-7 --no-ends --join "${link[n1]}"
probe nodes 5
askers 8 60 0 >"$tmp/eight"
for k in {0..7}; do echo "$((k + 8)) 600 $k 1.5 0 0 0 longer $k"; done >>"$tmp/eight"
crowd n0 killed 150 <"$tmp/eight" &
crowd_pid=$!
sleep 0.12
kill -KILL "${pid[n2]}"
wait "$crowd_pid" || die "the crowd fails"
unset 'pid[n2]'
all_done killed
same killed 8
for k in {0..7}; do echo "$((k + 8)) 600 $k 1.5 0 0 0 longer $k"; done | crowd n0 whole 150
all_done whole
for k in {0..7}; do cmp -s "$tmp/whole.$k" "$tmp/killed.$((k + 8))" || die "killed: another answer $k"; done
wait_until 20 is_idle n0 n1 n3 n4 || die "requests stay: $(work_of n0) $(work_of n1) $(work_of n4)"
stop_all
echo "of 64 askers, two that are heard together get $least and $most tokens at worst; $(cat "$tmp/gap")"
