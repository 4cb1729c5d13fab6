#!/usr/bin/env bash
# Beginnings of conversations that stages know: the answers are those of a swarm that keeps nothing,
# only sooner.
. "$(dirname "$0")/lib.sh"

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
sys=$(printf 'Answer briefly, as in case %d. ' $(seq 1 140)) # about 1,800 positions of 2,048
other=$(printf 'Answer in case %d as briefly as you can. ' $(seq 1 80))

how=(--greedy --max-tokens 30)
ramble() { # NODE FILE: long answers of dice
    local how=(--temperature 100 --top-p 1 --top-k 0 --seed 2 --max-tokens 200)
    talk "Answer at length." "$@"
}

# Two turns with the system prompt $1 at node $2, as JSON lines in $tmp/$3.
talk() {
    printf '%s\n' "What is the capital of France?" "And its currency?" /quit |
        timeout 60 "$bin/swarm-ask" "${link[$2]}" --json --system "$1" "${how[@]}" \
            >"$tmp/$3" 2>"$tmp/ask.err" || die "$3: $(cat "$tmp/ask.err")"
    [ "$(wc -l <"$tmp/$3")" -eq 2 ] || die "$3: $(cat "$tmp/$3")"
}
field() { # FILE TURN EXPRESSION of d, and of s, its statistics
    python3 -c "import json,sys
d = json.loads(open('$tmp/$1').read().splitlines()[$2 - 1]); s = d['stats']; print($3)"
}
is() { [ "$(field "$1" "$2" "$3")" = True ] || die "$1, turn $2: not $3: $(field "$1" "$2" "s, d['prompt_tokens']")"; }
same() { # FILE...: the answers are the oracle's
    local f turn
    for f in "$@"; do
        for turn in 1 2; do
            [ "$(field "$f" $turn "d['answer'], d['reasoning'], d['tokens']")" = \
                "$(field "${oracle:-oracle}" $turn "d['answer'], d['reasoning'], d['tokens']")" ] ||
                die "$f: another answer in turn $turn: $(cat "$tmp/$f")"
        done
    done
}
kept() { # NODE KEY
    "$bin/swarm-node" status "${pid[$1]}" --json |
        python3 -c "import json,sys; print(json.load(sys.stdin)['prefixes']['$2'])"
}

# The oracle: one process that keeps nothing.
start one --store "$tmp/store" --no-prefix
talk "$sys" one oracle
talk "$other" one oracle2
ramble one oracle3
is oracle 2 "s['known'] == 0 and d['prompt_tokens'] > 1700"
stop one

# A second turn knows the first, wherever the layers are, and begins sooner.
start_split "--store $tmp/store" 0-2 3-5 6-7
talk "$sys" n0 first
same first
is first 1 "s['known'] == 0"
is first 2 "s['known'] % 32 == 0 and s['known'] > d['prompt_tokens'] - 120"
sooner=$(field first 1 "s['first_token_ms']")/$(field first 2 "s['first_token_ms']")
python3 -c "exit(not $sooner >= 2)" || die "the second turn began after $sooner of the first's time"

# Long answers, with tokens that are guessed ahead: wrong guesses leave nothing behind.
for i in 1 2; do
    ramble n0 long$i
    oracle=oracle3 same long$i
done
is long2 2 "s['known'] >= 96"

# The same once more, and another conversation with the same system prompt: both know it.
talk "$sys" n0 again
same again
is again 1 "s['known'] > d['prompt_tokens'] - 64"
[ "$(kept n1 hits)" -ge 3 ] || die "n1 counts $(kept n1 hits) hits"
"$bin/swarm-node" status "${pid[n1]}" | grep -q "positions of earlier conversations" || die "status"

# Another coordinator is told nothing of it, though two of three stages keep it.
talk "$sys" n1 stranger
same stranger
is stranger 1 "s['known'] == 0"
is stranger 2 "s['known'] > 1700"

# Two at once that share their beginning.
talk "$sys" n0 left &
talk "$sys" n0 right
wait $!
same left right
is left 1 "s['known'] > 1700"
is right 1 "s['known'] > 1700"

# A stage that is killed between two turns knows nothing; the others forget nothing.
kill -KILL "${pid[n1]}"
wait "${pid[n1]}" || true
start n1 --store "$tmp/store" --layers 3-5 --join "${link[n0]}"
probe nodes 3
talk "$sys" n0 killed
same killed
is killed 1 "s['known'] == 0"
is killed 2 "s['known'] > 1700"
stop_all

# All layers at home, where tokens are made several at a time: an answer is known too.
start one --store "$tmp/store"
talk "$sys" one alone
same alone
is alone 2 "s['known'] > 1700"
for i in 1 2; do
    ramble one long$i
    oracle=oracle3 same long$i
done
stop one

# With disk allowed it survives kill -9 of all nodes; bytes that were changed are not used.
on_disk() { [ "$(kept n0 disk_bytes)" -gt "$1" ] && [ "$(kept n1 disk_bytes)" -gt "$1" ]; }
start_two() { # OPTIONS...
    start n0 --store "$tmp/store" --layers 0-3 "$@"
    start n1 --store "$tmp/store" --layers 4-7 "$@" --join "${link[n0]}"
    probe nodes 2
}
kill_two() {
    kill -KILL "${pid[n0]}" "${pid[n1]}"
    wait "${pid[n0]}" "${pid[n1]}" 2>/dev/null || true
}
start_two --prefix-disk 32M
talk "$sys" n0 disk
wait_until 20 on_disk 1900000 || die "only $(kept n0 disk_bytes) bytes came to the disk"
kill_two
shelves=("$tmp"/store/prefixes-*)
[ ${#shelves[@]} -eq 2 ] || die "not two shelves: ${shelves[*]}"
[ "$(stat -c %a "${shelves[0]}" "${shelves[0]}/data.mdb" | tr '\n' ' ')" = "700 600 " ] || die "others may read"
start_two --prefix-disk 32M
talk "$sys" n0 restart
same restart
is restart 1 "s['known'] > d['prompt_tokens'] - 64"
[ "$(kept n1 hits)" -eq 2 ] || die "n1 hit $(kept n1 hits) times"
kill_two
python3 - "${shelves[@]}" <<'END' || die "no blocks to spoil"
import random, sys
random.seed(1)
for shelf in sys.argv[1:]:  # values of a page and more lie by themselves: one bit of each
    with open(shelf + '/data.mdb', 'r+b') as f:
        data = bytearray(f.read())
        spoilt = 0
        for page in range(2, len(data) // 4096):
            at = page * 4096
            flags = int.from_bytes(data[at + 10:at + 12], 'little')
            if flags & 4 and int.from_bytes(data[at + 12:at + 16], 'little') > 1:
                data[at + 16 + random.randrange(4000)] ^= 1 << random.randrange(8)
                spoilt += 1
        f.seek(0)
        f.write(data)
    assert spoilt > 20, spoilt
END
start_two --prefix-disk 32M
talk "$sys" n0 spoilt
same spoilt
is spoilt 1 "s['known'] == 0"
is spoilt 2 "s['known'] > 1700"
kill_two
head -c 300000 /dev/urandom | dd of="${shelves[0]}/data.mdb" bs=4096 seek=1 conv=notrunc status=none
start_two --prefix-disk 32M
talk "$sys" n0 garbage
same garbage
stop_all
start_two
[ ! -e "${shelves[0]}" ] && [ ! -e "${shelves[1]}" ] || die "what is not allowed any more is still on disk"
stop_all

# A small budget holds, and costs nothing but time.
start n0 --store "$tmp/store" --layers 0-3 --prefix-ram 1M
start n1 --store "$tmp/store" --layers 4-7 --prefix-ram 100K --join "${link[n0]}"
probe nodes 2

for i in 1 2; do
    talk "$sys" n0 small
    same small
    talk "$other" n0 small2
    oracle=oracle2 same small2
    for node in n0 n1; do
        [ "$(kept $node bytes)" -le "$(kept $node limit)" ] || die "$node keeps too much"
        [ "$(kept $node bytes)" -gt 0 ] || die "$node keeps nothing"
    done
done
stop_all
echo "the second turn of $(field first 2 "d['prompt_tokens']") positions began $(python3 -c "print(round($sooner, 1))") times sooner"
