# lib.sh - what the demo and the test script share: packages, build, plain messages.
# Sourced by bash scripts that have set -eu; it defines functions and runs nothing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# One Debian or Ubuntu package a line: what the project is built with and on.
packages=(build-essential cmake ninja-build pkg-config
    libsodium-dev libuv1-dev libmsgpack-dev liblmdb-dev
    libpcre2-dev libutf8proc-dev libyajl-dev libmicrohttpd-dev libcurl4-openssl-dev libnatpmp-dev libminiupnpc-dev libcmocka-dev procps iproute2)

install_packages() {
    local missing=() p sudo=()
    command -v dpkg-query >/dev/null ||
        fail "this script installs Debian packages; elsewhere install the equivalents of: ${packages[*]}"
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "please install as root: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    say "installing ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { "${sudo[@]}" apt-get update -q && DEBIAN_FRONTEND=noninteractive \
        "${sudo[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "apt-get could not install ${missing[*]} (full output in $log)"
    fi
    rm -f "$log"
}

# build DIR [cmake options]: configure and build, quiet unless something is wrong.
build() {
    local dir=$1 log
    shift
    say "building in ${dir#"$root"/}"
    log=$(mktemp)
    if ! { cmake -S "$root" -B "$dir" -G Ninja "$@" && cmake --build "$dir"; } >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        fail "the build failed (full output in $log)"
    fi
    rm -f "$log"
}
