#!/usr/bin/env bash
# Churn: two clients ask all the time while, every few seconds, a node is killed, stopped, told to
# leave, cut off, comes back, or a new one joins.  Every answer is the one of a single process, no
# node ends but those that were made to, and nothing grows.  Third argument: for how many seconds.
. "$(dirname "$0")/lib.sh"
seconds=${3:-120}
RANDOM=${SOAK_SEED:-1}
questions=6

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
long=$(printf 'Tell me about Japan, and about its neighbours, and theirs. %.0s' {1..40})
tokens=(64 600 200 64 1000 20)
text=("Tell me about Japan." "Tell me about Peru." "$long" "$long$long" "Where is Kenya?" "Who are you?")

# The oracle: one process.
start one --store "$tmp/store"
for ((q = 0; q < questions; q++)); do
    "$bin/survive" "${link[one]}" $q "${tokens[q]}" "${text[q]}" >"$tmp/oracle.$q" 2>/dev/null
done
stop one

# A coordinator, and three nodes for every other layer, on lines of 4 ms.
declare -A layers
stages=()
for name in a b c; do layers[$name]=3-5; done
for name in d e f; do layers[$name]=6-7; done
run_node() {
    local join=()
    [ -z "${link[n0]:-}" ] || join=(--join "${link[n0]}")
    start_behind "$1" --store "$tmp/store" --layers "${layers[$1]}" --no-ends "${join[@]}"
}
join=()
for name in a b c d e f; do
    run_node $name
    stages+=("$name")
    join+=(--join "${link[$name]}")
done
start_behind n0 --store "$tmp/store" --layers 0-2 "${join[@]}"
order "${stages[*]}" "delay 2"
probe nodes 7

# --- clients ---

# client NUMBER: asks until the file "end" is there; "failed" says what went wrong.
client() {
    local n=$1 q=$1 status
    while [ ! -e "$tmp/end" ]; do
        status=0
        "$bin/survive" "${link[n0]}" $q "${tokens[q]}" "${text[q]}" >"$tmp/client.$n" \
            2>"$tmp/client.$n.err" </dev/null || status=$?
        cat "$tmp/client.$n.err" >>"$tmp/client.$n.said"
        if [ $status -ne 0 ]; then
            echo "question $q ended with $status: $(tail -n 3 "$tmp/client.$n.err")" >>"$tmp/failed"
        elif ! cmp -s "$tmp/client.$n" "$tmp/oracle.$q"; then
            echo "question $q: another answer" >>"$tmp/failed"
            cp "$tmp/client.$n" "$tmp/wrong.log"
        fi
        echo "$q" >>"$tmp/client.$n.done"
        q=$(((q + 1) % questions))
    done
}

# --- who is alive ---

now() { echo $((${EPOCHREALTIME/./} / 1000)); }
declare -A back what # when a struck node is well again, and how it was struck
struck=0 joined=0

# well LO-HI: the nodes with these layers that were not struck.
well() {
    local name
    for name in "${stages[@]}"; do
        [ "${layers[$name]}" != "$1" ] || [ -n "${back[$name]:-}" ] || echo "$name"
    done
}

strike() {
    local name=$1 how=$2 ms=$3
    what[$name]=$how
    back[$name]=$(($(now) + ms))
    struck=$((struck + 1))
    case $how in
    kill | stop) kill "-${how^^}" "${pid[$name]}" ;;
    leave) kill -TERM "${pid[$name]}" ;;
    *) order "$name" "$how" ;;
    esac
}

heal() {
    local name=$1 status=0
    case ${what[$name]} in
    kill | leave)
        wait "${pid[$name]}" 2>/dev/null || status=$?
        [ "${what[$name]} $status" != "leave 0" ] && [ "${what[$name]} $status" != "kill 137" ] &&
            die "node $name, made to ${what[$name]}, ended with $status"
        run_node "$name"
        ;;
    stop) kill -CONT "${pid[$name]}" ;;
    "blackhole 1") order "$name" "blackhole 0" drop ;;
    esac
    unset "back[$name]" "what[$name]"
}

# Something happens to one of a group that leaves another; a node told to leave has time to do so.
nemesis() {
    local group=("$(well 3-5)" "$(well 6-7)") names how ms
    mapfile -t names <<<"${group[RANDOM % 2]}"
    [ ${#names[@]} -ge 2 ] || return 0
    name=${names[RANDOM % ${#names[@]}]}
    how=(kill kill stop leave drop "garble 1" "stall $((RANDOM % 2800 + 200))" "blackhole 1")
    how=${how[RANDOM % ${#how[@]}]}
    ms=$((RANDOM % 4000 + 500))
    [ "$how" != leave ] || ms=$((ms + 4000))
    # c and f live through it all, so that one sees whether they grow
    [[ $name != [cf] || $how != @(kill|leave) ]] || how=stop
    strike "$name" "$how" $ms
}

all_alive() {
    local name
    for name in "${!pid[@]}"; do
        [[ ${what[$name]:-} == @(kill|leave) ]] || kill -0 "${pid[$name]}" 2>/dev/null ||
            die "node $name ended by itself"
    done
    [ ! -e "$tmp/failed" ] || die "$(cat "$tmp/failed")"
}

# kib NAME, open_files NAME: what it holds.
kib() { awk '/^RssAnon/{print $2}' "/proc/${pid[$1]}/status"; }
open_files() { ls "/proc/${pid[$1]}/fd" | wc -l; }
answers() { cat "$tmp"/client.*.done 2>/dev/null | wc -l; }
answered() { [ "$(answers)" -ge "$1" ]; }

# --- the soak ---

clients=()
for n in 0 1; do
    client $n &
    clients+=($!)
done
background+=("${clients[@]}")
wait_until 60 answered 12 || die "no answers"

# One joins under load, and is used: with it a pipeline has a stage less.
layers[x]=3-7
begun=$(now)
run_node x
order x "delay 2"
id=$(sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[x]}")
used() { grep -q "^stage $id" "$tmp"/client.?.said; }
wait_until 60 used || die "a node that joined is not used: $("$bin/swarm-ask" "${link[n0]}" --plan hello 2>&1)"
echo "a node joined under load and was used after $((($(now) - begun) / 1000)) s"
layers[x]=x # never struck again: it leaves
kill -TERM "${pid[x]}"
wait "${pid[x]}" || die "a node that left ended with $?"
unset "pid[x]"

declare -A kib_before files_before
for name in n0 c f; do
    kib_before[$name]=$(kib $name)
    files_before[$name]=$(open_files $name)
done
end=$(($(now) + seconds * 1000))
next=0
while [ "$(now)" -lt $end ]; do
    for name in "${!back[@]}"; do
        [ "$(now)" -lt "${back[$name]}" ] || heal "$name"
    done
    if [ "$(now)" -ge $next ]; then
        nemesis
        [ $((RANDOM % 4)) -ne 0 ] || nemesis # two at once
        next=$(($(now) + 500 + RANDOM % 2500))
    fi
    all_alive
    sleep 0.1
done
for name in "${!back[@]}"; do heal "$name"; done
probe nodes 7

# They may end what they asked.
: >"$tmp/end"
wait "${clients[@]}"
all_alive
probe sessions 0
paused=$(cat "$tmp"/client.?.said | grep -c "^note .*refilled" || true)
echo "$seconds s of churn: $struck blows to nodes and lines, $(answers) answers, $paused refills"
[ "$struck" -ge $((seconds / 6)) ] || die "only $struck blows"
[ "$paused" -ge $((seconds / 30)) ] || die "only $paused refills"
for name in n0 c f; do
    echo "node $name: $(kib $name) KiB, $(($(kib $name) - kib_before[$name])) more; open files $(open_files $name), before ${files_before[$name]}"
    [ "$(open_files $name)" -le $((files_before[$name] + 8)) ] || die "node $name keeps files open"
    [[ $(ldd "$bin/swarm-node") == *asan* ]] || # which keeps what is freed for a while
        [ $(($(kib $name) - kib_before[$name])) -lt 16384 ] || die "node $name grows"
done
stop_all
