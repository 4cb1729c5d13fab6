#!/usr/bin/env bash
# test_package.sh: the packages, as somebody meets them who installs them.  Called by
# scripts/test.sh --package; needs root, for a bare system of its own (debootstrap).
#
# Builds packages and tarball; lintian and systemd's own checks of the units; in a bare Debian: the
# tarball's demo with no library installed, the packages' demo, node and gateway as their units
# start them, a question to both, an upgrade, removal, purge; and under a booted systemd.  Then all
# is built once more: the bytes must be the same.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2' ERR

[ "$(id -u)" -eq 0 ] || { say "SKIPPED: the packages' test, which makes a system of its own and needs root"; exit 77; }
install_packages lintian debootstrap man-db
work=$(mktemp -d "${TMPDIR:-/tmp}/swarm-package-test.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
once=$work/once
again=$work/again
root=$work/root

"$(dirname "$0")/../../scripts/package.sh" --out "$once" >&2
changes=$(ls "$once"/*.changes)
deb=$(ls "$once"/glm-swarm_*.deb)
tarball=$(ls "$once"/*.tar.xz)

say "lintian"
lintian --allow-root --fail-on error,warning "$changes"

say "a bare Debian"
mkdir "$root"
debootstrap --variant=minbase bookworm "$root" >"$work/debootstrap.log" 2>&1 ||
    { tail -n 5 "$work/debootstrap.log" >&2; fail "no bare system could be made"; }
mkdir "$root/new"
cp "$once"/glm-swarm_*.deb "$once"/glm-swarm-demo_*.deb "$tarball" "$(dirname "$0")/in_chroot.sh" "$root/new/"
cp /etc/resolv.conf "$root/etc/resolv.conf"
# its processes and mounts end with it, however it ends
unshare --mount --pid --fork --kill-child bash -c '
    mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" bash /new/in_chroot.sh' - "$root"

status=0
"$(dirname "$0")/boot.sh" "$root" || status=$?
[ $status -eq 0 ] || [ $status -eq 77 ] || exit 1

say "the units, by systemd's own checks"
dpkg-deb -x "$deb" "$work/tree"
for unit in swarm-node swarm-gateway; do
    file=$work/$unit.service
    sed "s#=/usr/bin/#=$work/tree/usr/bin/#; /^Documentation=/d" "$work/tree/lib/systemd/system/$unit.service" >"$file"
    SYSTEMD_LOG_LEVEL=warning systemd-analyze verify "$file" 2>&1 | grep -F "$unit" >"$work/verify" || true
    [ ! -s "$work/verify" ] || { cat "$work/verify" >&2; fail "$unit.service"; }
    systemd-analyze security --offline=yes --threshold=20 "$file" | tail -n 1
done

say "the same again"
"$(dirname "$0")/../../scripts/package.sh" --out "$again" >/dev/null
diff "$once/checksums.txt" "$again/checksums.txt" || fail "two builds of one commit differ"
say "the packages are as they should be"
