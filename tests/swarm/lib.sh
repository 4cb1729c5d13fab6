# lib.sh - swarms of real processes for the tests; sourced by bash scripts that are given BIN (the
# programs) and SOURCE (of the project).
#
# Everything is in one temporary folder and on free ports of loopback; however a test ends, its
# processes are stopped and the folder is removed.
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR
bin=$1
src=$2
tmp=$(mktemp -d "${TMPDIR:-/tmp}/swarm-test.XXXXXX")
export XDG_RUNTIME_DIR=$tmp/run HOME=$tmp/home SWARM_HOME=$tmp/home
export SWARM_NODE_PAUSE_ON=never # whatever this machine does besides
mkdir -m 700 "$tmp/run" "$tmp/home"
declare -A pid link line
background=()

cleanup() {
    local status=$? p
    trap - EXIT INT TERM ERR
    trap '' PIPE # whoever reads us may have gone
    set +e
    for p in "${pid[@]}" "${background[@]}" $(jobs -p); do
        kill -CONT "$p" 2>/dev/null || true
        kill -KILL "$p" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if declare -F cleanup_more >/dev/null; then cleanup_more; fi # what a test made besides
    if [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; then
        echo "--- the nodes' last words"
        tail -n 15 "$tmp"/*.log 2>/dev/null || true
    fi
    rm -rf "$tmp"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

die() {
    echo "FAILED: $*" >&2
    exit 1
}

# wait_until SECONDS COMMAND...: true as soon as the command is.
wait_until() {
    local tries=$(($1 * 20))
    shift
    while [ "$tries" -gt 0 ]; do
        "$@" && return 0
        sleep 0.05
        tries=$((tries - 1))
    done
    return 1
}

# convert FOLDER STORE NAME OPTIONS...
convert() {
    local from=$1 store=$2 name=$3
    shift 3
    "$bin/swarm-convert" "$from" --store "$store" --name "$name" --quiet "$@" \
        >"$tmp/convert.out" 2>&1 || die "$(cat "$tmp/convert.out")"
}

# start NAME OPTIONS...: a node; its link is in ${link[NAME]} when it is ready.  Nodes may share a
# store, but not an identity.
start() {
    local name=$1
    shift
    : >"$tmp/$name.link"
    "$bin/swarm-node" --listen 127.0.0.1:0 --identity "$tmp/$name.key" --threads 1 "$@" \
        >"$tmp/$name.link" 2>>"$tmp/$name.log" </dev/null &
    pid[$name]=$!
    wait_until 20 test -s "$tmp/$name.link" || die "node $name is not ready: $(cat "$tmp/$name.log")"
    link[$name]=$(cat "$tmp/$name.link")
    [[ ${link[$name]} == swarm://swm1*@127.0.0.1:* ]] || die "node $name printed ${link[$name]}"
}

# start_behind NAME OPTIONS...: the same behind a proxy: whoever dials this node passes ${line[NAME]},
# which obeys orders, and is there before and after the node.
start_behind() {
    local name=$1
    shift
    [ -n "${line[$name]:-}" ] || proxy "$name" 127.0.0.1 127.0.0.2
    start "$name" --listen "127.0.0.2:${line[$name]##*:}" --advertise "${line[$name]}" "$@"
}

# proxy NAME AT TO OPTIONS...: from a free port of address AT to the same port of TO.
proxy() {
    local name=$1 orders=$tmp/$1.orders
    mkfifo "$orders"
    "$bin/swarm-proxy" --listen "$2:0" --target "$3:0" "${@:4}" <>"$orders" >"$tmp/$name.line" \
        2>"$tmp/$name.line.err" &
    background+=($!)
    wait_until 20 test -s "$tmp/$name.line" || die "no proxy: $(cat "$tmp/$name.line.err")"
    line[$name]=$(cat "$tmp/$name.line")
}

obeyed() { [ "$(wc -l <"$tmp/$1.line")" -gt "$2" ]; }

# order "NAME ..." ORDER...: these proxies obey.
order() {
    local name text before
    for name in $1; do
        for text in "${@:2}"; do
            before=$(wc -l <"$tmp/$name.line")
            echo "$text" >"$tmp/$name.orders"
            wait_until 20 obeyed "$name" "$before" || die "proxy $name does not obey"
        done
    done
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# stop NAME...: SIGTERM; each must end well within three seconds (a sanitizer's build: ten).
stop() {
    local name p status
    for name in "$@"; do kill -TERM "${pid[$name]}"; done
    for name in "$@"; do
        p=${pid[$name]}
        wait_until 20 gone "$p" || die "node $name does not stop"
        status=0
        wait "$p" || status=$?
        unset "pid[$name]"
        [ "$status" -eq 0 ] || die "node $name ended with $status: $(tail -n 30 "$tmp/$name.log")"
    done
}

stop_all() {
    [ ${#pid[@]} -eq 0 ] || stop "${!pid[@]}"
}

# start_split "OPTIONS" SPLIT...: nodes n0, n1, ... for these layers, which know each other.
start_split() {
    local options layers i=0 join=()
    read -ra options <<<"$1"
    shift
    for layers in "$@"; do
        start "n$i" "${options[@]}" --layers "$layers" "${join[@]}"
        [ "$i" -ne 0 ] || join=(--join "${link[n0]}")
        i=$((i + 1))
    done
    probe nodes "$i"
}

probe() {
    "$bin/probe" "${link[n0]}" "$@" 2>"$tmp/probe.out" || die "$(cat "$tmp/probe.out")"
}

# work_of NAME: its sessions, and requests, by its own word; what its peers announce may be of nodes
# that are no more.
work_of() {
    "$bin/swarm-node" status "${pid[$1]}" --json | sed -E 's/.*,"sessions":([0-9]+),"requests":([0-9]+),.*/\1 \2/'
}
# is_idle NAME...: none has any.
is_idle() {
    local n
    for n in "$@"; do [ "$(work_of "$n")" = "0 0" ] || return 1; done
}

# ask OPTIONS...: an answer of n0 in $answer.
ask() {
    answer=$("$bin/swarm-ask" "${link[n0]}" "$@" 2>"$tmp/ask.err") ||
        die "swarm-ask $*: $(cat "$tmp/ask.err")"
}

# refused PATTERN COMMAND...: it fails with one sentence that matches.
refused() {
    local pattern=$1 status=0
    shift
    "$@" >"$tmp/refused.out" 2>"$tmp/refused.err" </dev/null || status=$?
    [ "$status" -eq 1 ] || [ "$status" -eq 2 ] || die "'$*' ended with $status: $(cat "$tmp/refused.err")"
    tail -n 1 "$tmp/refused.err" | grep -Eq "$pattern" ||
        die "'$*' said '$(cat "$tmp/refused.err")', not '$pattern'"
}
