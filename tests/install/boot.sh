#!/usr/bin/env bash
# boot.sh ROOT: the services under a real systemd.  ROOT is a bare Debian with the packages in /new;
# they are installed there, and it is booted with systemd-nspawn (in_systemd.sh).
# Exit status 77: no system boots here.
set -Eeuo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib.sh"

root=${1:?}
[ -d "$root/new" ] || fail "$root is no root with packages in /new"
install_packages systemd-container
unshare --mount --pid --fork --kill-child bash -c '
    mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" &&
    exec chroot "$1" env DEBIAN_FRONTEND=noninteractive bash -c "
        apt-get update -q && apt-get install -y -q --no-install-recommends systemd systemd-sysv /new/*.deb"' - "$root" \
    >"$root/new/boot-install.log" 2>&1 || { tail -n 20 "$root/new/boot-install.log" >&2; fail "systemd could not be installed"; }
cp "$(dirname "$0")/in_systemd.sh" "$root/new/"
printf '%s\n' '[Unit]' 'After=multi-user.target' '[Service]' 'Type=oneshot' 'StandardOutput=file:/new/said' \
    'StandardError=file:/new/said' 'ExecStart=/bin/bash /new/in_systemd.sh' >"$root/etc/systemd/system/test.service"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../test.service "$root/etc/systemd/system/multi-user.target.wants/test.service"
rm -f "$root/new/said"
timeout 300 systemd-nspawn -q -D "$root" --register=no --keep-unit --boot >"$root/new/boot.log" 2>&1 </dev/null || true
[ -e "$root/new/said" ] || { say "SKIPPED: the services under systemd, which does not boot here"; exit 77; }
grep -qx whole "$root/new/said" || { cat "$root/new/said" >&2; fail "the services under systemd"; }
say "the services work under systemd, behind their walls"
