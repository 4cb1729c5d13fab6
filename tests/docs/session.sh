# session.sh - what a page's commands run in: sourced by the script that run.py makes of a page.
#
# The programs are on the PATH.  Those that serve until they are stopped are started in the background, and the page
# goes on when they say that they are ready, as a reader would in a second terminal.
set -eE -o pipefail
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
served=0
link=      # of the node that was started last
publisher= # of the model that was made last

# pc NAME: from here on, another PC: its own folder, home and identities.  The first one is called first.
pc() {
    mkdir -p "$scratch/$1/home" "$scratch/$1/work"
    mkdir -p -m 700 "$scratch/$1/run"
    cd "$scratch/$1/work"
    export HOME=$scratch/$1/home XDG_RUNTIME_DIR=$scratch/$1/run
    unset XDG_CONFIG_HOME XDG_DATA_HOME
    mkdir -p models
    [ -e models/atlas ] || ln -s "$src/models/atlas" models/atlas
    [ -e GLM-4.5-Air ] || ln -s "$checkpoint" GLM-4.5-Air
}

# air, atlas: what guides take for granted: a store of that model.
air() {
    mkdir -p "$(dirname "${1:-air}")"
    swarm-convert GLM-4.5-Air --store "${1:-air}" --name glm-4.5-air:q40 --type q40 --quiet
}
atlas() { swarm-convert models/atlas --store "${1:-atlas}" --name atlas:q80 --type q80 --quiet; }

swarm-convert() {
    command swarm-convert "$@"
    local store="$* "
    store=${store#*--store }
    publisher=$(command swarm-store list --store "${store%% *}" | grep -o 'swm1[a-z0-9]\{50,\}' | head -n 1)
}

serve() {
    local n=$((served += 1)) tries=1200 pid
    local out=$scratch/out.$n err=$scratch/err.$n
    : >"$out"
    SWARM_NODE_LISTEN=0.0.0.0:$((7776 + n)) SWARM_NODE_IDENTITY=$scratch/identity.$n SWARM_NODE_BOOTSTRAP=$link command "$@" \
        >"$out" 2>"$err" </dev/null &
    pid=$!
    until [ -s "$out" ]; do
        if ! kill -0 "$pid" 2>/dev/null || [ $((tries -= 1)) -eq 0 ]; then
            echo "'$*' is not ready: $(tail -n 5 "$err")" >&2
            return 1
        fi
        sleep 0.05
    done
    cat "$err" >&2
    cat "$out"
    [ "$1" != swarm-node ] || link=$(cat "$out")
}

swarm-node() {
    case ${1:---} in
    --help | --version | --man) command swarm-node "$@" ;;
    -*) serve swarm-node "$@" ;;
    *) command swarm-node "$@" ;;
    esac
}

swarm-gateway() {
    case " $* " in
    *" --help "* | *" --version "* | *" --man "*) command swarm-gateway "$@" ;;
    *) serve swarm-gateway "$@" ;;
    esac
}

# fails COMMAND...: it does, and what it says is shown.
fails() {
    local status=0
    "$@" 2>&1 || status=$?
    [ "$status" -ne 0 ] || { echo "'$*' was to fail" >&2; return 1; }
}
