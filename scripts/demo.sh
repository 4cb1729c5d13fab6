#!/usr/bin/env bash
# demo.sh - install what is missing (Debian, Ubuntu), build, then scripts/swarm-demo, with its
# options: a swarm of three nodes on this machine, and a question to it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
-h | --help) ;;
*)
    install_packages "${packages[@]}"
    build "$root/build"
    ;;
esac
SWARM_DEMO_BIN=$root/build/bin SWARM_DEMO_MODEL=$root/models/atlas exec "$root/scripts/swarm-demo" "$@"
