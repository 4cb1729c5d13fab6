#!/usr/bin/env bash
# swarm-store as a person meets it: exported, carried over a bad web, killed, filled up, repaired.
#   SWARM_KILLS=N   how often an import is killed (default 40)
. "$(dirname "$0")/lib.sh"
export XDG_CONFIG_HOME=$tmp/config no_proxy='*'
store=$bin/swarm-store

# run COMMAND...: it succeeds; its words in $tmp/out.
run() { "$store" "$@" >"$tmp/out" 2>&1 </dev/null || die "swarm-store $* said: $(cat "$tmp/out")"; }
says() { grep -Eq -- "$1" "$tmp/out" || die "'$(cat "$tmp/out")' does not say '$1'"; }
never() { ! grep -Eq -- "$1" "$tmp/out" || die "'$(cat "$tmp/out")' says '$1'"; }
# fails STATUS PATTERN COMMAND...: one line on stderr that matches, and this status.
fails() {
    local want=$1 pattern=$2 status=0
    shift 2
    "$store" "$@" >"$tmp/refused.out" 2>"$tmp/refused.err" </dev/null || status=$?
    [ "$status" -eq "$want" ] || die "swarm-store $* ended with $status: $(cat "$tmp/refused.err")"
    grep -Eq -- "$pattern" "$tmp/refused.err" ||
        die "swarm-store $* said '$(cat "$tmp/refused.err")', not '$pattern'"
    [ "$(tail -n 1 "$tmp/refused.err" | cut -c 1-12)" = "swarm-store " ] || die "$(cat "$tmp/refused.err")"
}
# web OPTIONS...: a web server of the exported models; $url is atlas.
web() {
    : >"$tmp/port"
    "$bin/web" "$tmp/models" "$@" >"$tmp/port" 2>"$tmp/requests" &
    server=$!
    background+=("$server")
    wait_until 20 test -s "$tmp/port" || die "no web server"
    url=http://127.0.0.1:$(cat "$tmp/port")/atlas/q80
}
web_end() {
    kill "$server"
    wait "$server" 2>/dev/null || true
    background=()
    : >"$tmp/port"
}

convert "$src/models/atlas" "$tmp/air" atlas:q80 --type q80
folder=$tmp/models/atlas/q80

# --- exported, listed, checked ---
run list --store "$tmp/air"
says '^atlas:q80$'
says 'layers 0-8 +all'
says 'held +9.8 MiB of 9.8 MiB'
run verify --store "$tmp/air"
says ' 0 bad, 0 missing'
run export atlas:q80 "$tmp/models" --store "$tmp/air"
says "^$folder\$"
(cd "$folder" && b2sum -l 256 --quiet -c checksums.txt)
grep -q "model id | .$(sed -n 's/^id //p' "$folder/name.txt")" "$folder/README.md"
grep -q "layer-001.tiles | $(stat -c %s "$folder/layer-001.tiles") |" "$folder/README.md"
cmp "$folder/tokenizer.json" "$src/models/atlas/tokenizer.json"

# The same model from the folder: it answers the same.
run import "$folder" --store "$tmp/copy"
says 'imported +9.9 MiB'
start n0 --store "$tmp/copy" --layers 0-7
probe nodes 1
ask --greedy "What is the capital of France?"
[ "$answer" = "The capital of France is Paris." ] || die "$answer"
run remove atlas:q80 --store "$tmp/copy" # beside a node that reads it
says 'removed 6[0-9][0-9] tiles'
says '1 other process reads'
ask --greedy "What is the capital of Japan?"
[ "$answer" = "The capital of Japan is Tokyo." ] || die "after a removal: $answer"
stop_all
run import "$folder" --store "$tmp/copy"
run verify --store "$tmp/copy"

# --- some layers, pins, names ---
run import "$folder" --store "$tmp/part" --layers 2-4 --no-ends
run list --store "$tmp/part"
says 'layers 2-4 +all'
says 'layers 5-8 +nothing'
says 'the ends +nothing'
run verify --store "$tmp/part"
fails 1 'layer 0 is not wholly in the store' export atlas:q80 "$tmp/m2" --store "$tmp/part"
run export atlas:q80 "$tmp/m2" --store "$tmp/part" --layers 2-3 --no-ends
grep -q 'A part of it:.. layers 2-3, without the ends' "$tmp/m2/atlas/q80/README.md"
run import "$tmp/m2/atlas/q80" --store "$tmp/part2" --layers 3-3 --no-ends
fails 1 'layer-004.tiles: No such file' import "$tmp/m2/atlas/q80" --store "$tmp/part2" --layers 4-4 --no-ends
fails 2 'the model has layers 0-8' import "$folder" --store "$tmp/part" --layers 8-9
run pin atlas:q80 --store "$tmp/part" --layers 1-3 --no-ends
run pin atlas:q80 --store "$tmp/part" --layers 6-6
says 'pinned: layers 1-3, 6 and the ends'
run list --store "$tmp/part"
says 'pinned +layers 1-3, 6 and the ends'
fails 1 'atlas:q80 is pinned; unpin it first' remove atlas:q80 --store "$tmp/part"
run unpin atlas:q80 --store "$tmp/part" --layers 2-2
says 'pinned: layers 1, 3, 6 and the ends'
run unpin atlas:q80 --store "$tmp/part" --ends
says 'pinned: layers 1, 3, 6$'
run unpin atlas:q80 --store "$tmp/part"
says 'pinned: nothing'
run remove atlas:q80 --store "$tmp/part"
fails 1 'holds no model' remove '' --store "$tmp/part"
fails 2 '--store is missing' list
fails 1 'there is no store in' verify --store "$tmp/none"
fails 2 'MODEL is missing' remove --store "$tmp/part"

# A second name of one model; then names that belong to others, and names that are paths.
convert "$src/models/atlas" "$tmp/copy" also:q80 --type q80
run remove also:q80 --store "$tmp/copy"
says 'removed the name also:q80'
convert "$src/models/atlas" "$tmp/other" atlas:q80 --type q40
fails 1 'belongs to another model of this store; --replace' import "$folder" --store "$tmp/other"
run import "$folder" --store "$tmp/other" --replace
run list --store "$tmp/other"
says '^\(no name\)$'
run remove "$(sed -n 's/^  id  *//p' "$tmp/out" | grep -v "$(sed -n 's/^id //p' "$folder/name.txt")")" --store "$tmp/other"
run list --store "$tmp/other"
never 'no name'
run verify --store "$tmp/other"
convert "$src/models/atlas" "$tmp/copy" 'a/../../../x:q80' --type q80
fails 2 "cannot be a folder's" export 'a/../../../x:q80' "$tmp/models" --store "$tmp/copy"

# --- whom to trust ---
export XDG_CONFIG_HOME=$tmp/stranger
fails 1 'whom you do not trust yet; if you do: --trust-publisher swm1' import "$folder" --store "$tmp/s"
key=$(grep -o 'swm1[a-z0-9]*' "$tmp/refused.err" | head -n 1)
run list --store "$tmp/air"
says '^\(atlas:q80\)$'
says 'not trusted'
fails 2 '--trust-publisher swm1x: ' import "$folder" --store "$tmp/s" --trust-publisher swm1x
run import "$folder" --store "$tmp/s" --trust-publisher "$key"
run import "$folder" --store "$tmp/s2" # remembered
grep -q "^$key" "$tmp/stranger/swarm/trusted-publishers"
convert "$src/models/atlas" "$tmp/demo" mine:q40 --type q40 # the shipped names, for what one has made
rm -rf "$tmp/stranger/swarm/publisher.key"
run import "$src/models/atlas/published/q40" --store "$tmp/demo"
says '0 B in'
run list --store "$tmp/demo"
says '^atlas:q40$'
convert "$src/models/atlas" "$tmp/demo" mine:q80 --type q80
run import "$src/models/atlas/published/q80" --store "$tmp/demo"
cp -r "$folder" "$tmp/forged"
sed -i 's/^name .*/name atlas:q40/' "$tmp/forged/name.txt"
fails 1 'the signature under atlas:q40 is not that of swm1' import "$tmp/forged" --store "$tmp/s3"
echo 'nonsense' >>"$tmp/stranger/swarm/trusted-publishers"
fails 1 'trusted-publishers, line [0-9]+: ' import "$folder" --store "$tmp/s3"
export XDG_CONFIG_HOME=$tmp/config

# --- garbled and cut folders ---
cp -r "$folder" "$tmp/bad"
printf 'x' | dd of="$tmp/bad/layer-003.tiles" bs=1 seek=500000 conv=notrunc status=none
fails 1 'layer-003.tiles: layer 3, .* has other bytes than the model' import "$tmp/bad" --store "$tmp/b"
truncate -s -1 "$tmp/bad/ends.tiles"
fails 1 'ends.tiles is cut short: [0-9]+ bytes, at least' import "$tmp/bad" --store "$tmp/b" --layers 0-1
truncate -s 100 "$tmp/bad/manifest"
fails 1 'manifest: the bytes do not parse' import "$tmp/bad" --store "$tmp/b"
fails 1 'nowhere/manifest: No such file' import "$tmp/nowhere" --store "$tmp/b"

# --- over a web that behaves well, and badly ---
web
run import "$url" --store "$tmp/w1" --layers 0-0
run import "$url/" --store "$tmp/w1"
says '1\.[0-9] MiB of it already in the store'
run verify --store "$tmp/w1"
cmp <("$store" list --store "$tmp/w1" | grep -v ^store) <("$store" list --store "$tmp/air" | grep -v ^store)
[ "$(grep -c layer-000 "$tmp/requests")" -eq 2 ] || die "layer 0 was fetched again: $(cat "$tmp/requests")"
fails 1 "nothing/manifest: the server has no such file \(404\)" import "${url%/q80}/nothing" --store "$tmp/w2"
fails 2 "has no '\?'" import "$url?x=1" --store "$tmp/w2"
fails 1 'https://.*manifest: ' import "${url/http:/https:}" --store "$tmp/w2" --retries 0
elsewhere=${url%/atlas/q80}
first=$server
web redirect="$elsewhere"
run import "$url" --store "$tmp/w3" --layers 1-1
web_end
web redirect=file://"$tmp/models"
fails 1 'manifest: ' import "$url" --store "$tmp/w4" --retries 0
web_end
kill "$first"

web no-ranges
run import "$url" --store "$tmp/w5" --layers 3-4
run import "$url" --store "$tmp/w5" --layers 2-5
run verify --store "$tmp/w5"
web_end
web cut=700000 busy=1
run import "$url" --store "$tmp/w6" --layers 2-3 # broken on the way, and asked again
[ "$(grep -c layer-002 "$tmp/requests")" -ge 3 ] || die "nothing broke: $(cat "$tmp/requests")"
run verify --store "$tmp/w6"
web_end
web flip=600000
fails 1 'layer-001.tiles: layer 1, .* has other bytes than the model' import "$url" --store "$tmp/w7"
if "$store" verify --store "$tmp/w7" >"$tmp/out"; then die "nothing is missing?"; fi
says ' 0 bad, [1-9]'
web_end
web short=10
fails 1 'layer-000.tiles: its tile table|is cut short|other bytes' import "$url" --store "$tmp/w8" --retries 0
web_end
web endless
fails 1 'manifest is longer than anything by that name' import "$url" --store "$tmp/w9" --retries 0
web_end
fails 1 'manifest: ' import "$url" --store "$tmp/w9" --retries 0 # nobody listens
fails 1 'warn .*manifest: .*; asking again for a while' import "$url" --store "$tmp/w9" --retries 1
echo "folders, trust and a bad web: as they should be"

# --- two at once, and killed again and again ---
web rate=6000000
"$store" import "$url" --store "$tmp/k" --quiet &
background+=($!)
first=$!
wait_until 20 test -s "$tmp/k/data.mdb" || die "no import"
fails 1 'is being written by another process \(pid [0-9]+\)' import "$url" --store "$tmp/k"
fails 1 'is being written by another process' remove atlas:q80 --store "$tmp/k"
run list --store "$tmp/k" # reading is fine
kill -KILL "$first"
wait "$first" 2>/dev/null || true
tiles=0
RANDOM=1
for _ in $(seq "${SWARM_KILLS:-40}"); do
    "$store" import "$url" --store "$tmp/k" --quiet &
    first=$!
    sleep "0.$(printf %03d $((5 + RANDOM % 60)))"
    kill -KILL "$first" 2>/dev/null || true
    wait "$first" 2>/dev/null || true
    "$store" verify --store "$tmp/k" >"$tmp/out" 2>/dev/null || true
    says ' 0 bad, '
    now=$(sed -n 's/^\([0-9]*\) tiles, .*/\1/p' "$tmp/out")
    [ "$now" -ge "$tiles" ] || die "$tiles tiles before a kill, $now after it"
    tiles=$now
done
run import "$url" --store "$tmp/k"
run verify --store "$tmp/k"
web_end
echo "killed ${SWARM_KILLS:-40} times: nothing lost, nothing wrong"

# --- removal, killed: whole, or without a name, and then its id removes the rest ---
id=$(sed -n 's/^id //p' "$folder/name.txt")
for pause in 0.002 0.004 0.006 0.008 0.012; do
    "$store" remove atlas:q80 --store "$tmp/k" --quiet &
    first=$!
    sleep "$pause"
    kill -KILL "$first" 2>/dev/null || true
    wait "$first" 2>/dev/null || true
    run list --store "$tmp/k"
    ! grep -q "$id" "$tmp/out" || run remove "$id" --store "$tmp/k"
    run remove --spare --store "$tmp/k"
    says 'removed 0 tiles'
    run import "$folder" --store "$tmp/k"
done
run verify --store "$tmp/k"
never 'no model'

# --- a bad tile, found and fetched again ---
offset=$(LC_ALL=C grep -obUaP -m 1 "$(tail -c 400 "$folder/layer-004.tiles" | head -c 40 | od -An -v -tx1 | sed 's/ /\\x/g' | tr -d '\n')" "$tmp/k/data.mdb" | head -n 1 | cut -d: -f1)
printf '\xff' | dd of="$tmp/k/data.mdb" bs=1 seek="$offset" conv=notrunc status=none
status=0
"$store" verify --store "$tmp/k" >"$tmp/out" 2>&1 || status=$?
[ "$status" -eq 1 ] || die "a bad tile: status $status"
says '^atlas:q80: layer 4, [a-z ]+[0-9]*, tile [0-9]+: damaged$'
says 'repair takes bad tiles out'
fails 1 'layer 4, .* is damaged; swarm-store verify --repair' export atlas:q80 "$tmp/m3" --store "$tmp/k"
[ ! -e "$tmp/m3/atlas/q80/checksums.txt" ] || die "half an export has checksums"
"$store" verify --store "$tmp/k" --repair >"$tmp/out" 2>&1 || true
says '1 bad tiles were taken out'
run import "$folder" --store "$tmp/k"
run verify --store "$tmp/k"

# --- small and read-only disks, in a mount namespace of our own ---
cat >"$tmp/disk.sh" <<'END'
set -eu
store=$1 folder=$2 url=$3 dir=$4
mkdir -p "$dir"
mount -t tmpfs -o size=12m tmpfs "$dir"
if "$store" import "$folder" --store "$dir/s" --quiet 2>"$dir.err"; then exit 3; fi
grep -q 'the store needs [0-9]* MiB more, the disk has [0-9]* MiB free' "$dir.err" || exit 4
# room at first, and then somebody else takes it
mount -o remount,size=40m "$dir"
"$store" import "$url" --store "$dir/s" --quiet 2>"$dir.err" & import=$!
for _ in $(seq 500); do
    [ "$(stat -c %s "$dir/s/data.mdb")" -lt 1500000 ] || break
    sleep 0.02
done
dd if=/dev/zero of="$dir/filler" bs=64k status=none 2>/dev/null || true
if wait $import; then exit 5; fi
grep -q 'the disk is full' "$dir.err" || exit 6
"$store" verify --store "$dir/s" >"$dir.out" 2>&1 || true
grep -q ' 0 bad, ' "$dir.out" || exit 7
if "$store" remove "$(sed -n 's/^id //p' "$folder/name.txt")" --store "$dir/s" --quiet 2>"$dir.err"; then
    :
else # a removal needs pages too; none are to be had, and it says so
    grep -q 'the disk is full' "$dir.err" || exit 8
fi
rm "$dir/filler"
"$store" import "$folder" --store "$dir/s" --quiet || exit 9
"$store" verify --store "$dir/s" --quiet || exit 10
mount -o remount,ro "$dir"
"$store" list --store "$dir/s" | grep -q '^atlas:q80' || exit 11
"$store" verify --store "$dir/s" --quiet || exit 12
for command in "import $folder" "remove atlas:q80" "pin atlas:q80" "verify --repair"; do
    if "$store" $command --store "$dir/s" 2>"$dir.err"; then exit 13; fi
    grep -q 'Read-only file system' "$dir.err" || exit 14
done
if "$store" export atlas:q80 "$dir/m" --store "$dir/s" 2>"$dir.err"; then exit 15; fi
grep -q 'Read-only file system' "$dir.err" || exit 16
END
namespace=(unshare -m)
[ "$(id -u)" -eq 0 ] || namespace=(unshare -Urm)
if "${namespace[@]}" mount -t tmpfs tmpfs "$tmp/run" 2>/dev/null; then
    web rate=3000000
    "${namespace[@]}" bash "$tmp/disk.sh" "$store" "$folder" "$url" "$tmp/disk" ||
        die "on a small disk, step $?: $(cat "$tmp/disk.err")"
    web_end
    echo "full and read-only disks: sentences, and nothing lost"
else
    echo "skipped: mounting a small tmpfs is not allowed here"
fi

for command in list verify export import remove pin unpin; do
    "$store" $command --help | grep -q -- '--store DIR' || die "$command --help"
    "$store" $command --man | grep -q "^.TH \"swarm-store-$command\"" || die "$command --man"
done
echo "swarm-store does what it says"
