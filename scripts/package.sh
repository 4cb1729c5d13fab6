#!/usr/bin/env bash
# package.sh - what people install: Debian packages, and a tarball for other distributions.
#
# Both are built from the files that git knows, in a folder of their own, with the time of the last
# commit, so that the same commit gives the same bytes.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage="usage: scripts/package.sh [--out DIR] [deb] [tarball]
  --out DIR   put them there, with checksums.txt (default: build-package)
  deb         glm-swarm and glm-swarm-demo for this machine's Debian or Ubuntu
  tarball     programs that need little more than glibc, and the rest of an installation
  Without a word: both."

out=$root/build-package what=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage"; exit 0 ;;
    --out) [ $# -ge 2 ] || fail "--out needs a folder"; out=$2; shift ;;
    deb | tarball) what="$what $1" ;;
    *) fail "unknown word $1 ($usage)" ;;
    esac
    shift
done
what=${what:-deb tarball}

install_packages "${packages[@]}" git
git -C "$root" rev-parse --git-dir >/dev/null 2>&1 || fail "packages are built from a git checkout"
version=$(sed -n 's/^project(swarm VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")
grep -q "^glm-swarm ($version)" "$root/packaging/debian/changelog" ||
    fail "packaging/debian/changelog does not begin with version $version"
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC
umask 022
mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/swarm-package.XXXXXX")
trap 'rm -rf "$work"' EXIT

# stage DIR: the tree, without its tests.
stage() {
    mkdir -p "$1"
    git -C "$root" ls-files -z | grep -zv '^tests/' | tar -C "$root" --null -T - -cf - | tar -C "$1" -xf -
}

# quietly LOG COMMAND...: its output only if it fails.
quietly() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "$1 failed (full output above it in $log)"; }
}

make_deb() {
    local tree=$work/deb/glm-swarm-$version
    install_packages debhelper dpkg-dev
    say "building the Debian packages"
    stage "$tree"
    cp -r "$root/packaging/debian" "$tree/debian"
    (cd "$tree" && quietly "$out/deb.log" dpkg-buildpackage -b -us -uc)
    mv "$work"/deb/*.deb "$work"/deb/*.changes "$work"/deb/*.buildinfo "$out"
}

# What the programs need of the machine: libraries, and the newest glibc that a symbol is of.
needs() {
    local program programs=()
    for program in "$1"/bin/swarm-*; do
        objdump -f "$program" >/dev/null 2>&1 || continue # a script
        programs+=("$program")
        objdump -p "$program" | awk -v name="${program##*/}" '
            $1 == "NEEDED" && $2 !~ /^(libc|libm|ld-linux.*)\.so/ { libraries = libraries " " $2 }
            END { print name ": glibc" libraries }'
    done
    printf 'glibc: %s or newer\n' "$(objdump -T "${programs[@]}" |
        grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)"
}

make_tarball() {
    local name tree=$work/source
    name=swarm-$version-linux-$(uname -m)
    say "building the tarball"
    stage "$tree"
    local flags="-ffile-prefix-map=$work=. -fstack-protector-strong -D_FORTIFY_SOURCE=2"
    quietly "$out/tarball.log" cmake -S "$tree" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DBUILD_TESTING=OFF -DSTATIC_LIBRARIES=ON -DCMAKE_INSTALL_PREFIX=/usr/local \
        "-DCMAKE_C_FLAGS=$flags" "-DCMAKE_EXE_LINKER_FLAGS=-Wl,-z,relro,-z,now"
    quietly "$out/tarball.log" cmake --build "$work/build"
    quietly "$out/tarball.log" cmake --install "$work/build" --strip --prefix "$work/$name"
    needs "$work/$name" >"$work/$name/NEEDS"
    tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        -cf - "$name" | xz -T1 -6 >"$out/$name.tar.xz"
    sed 's/^/  /' "$work/$name/NEEDS" >&2
}

for each in $what; do "make_$each"; done
(cd "$out" && sha256sum -- *.deb *.tar.xz 2>/dev/null >checksums.txt) || true
say "in $out:"
cat "$out/checksums.txt"
