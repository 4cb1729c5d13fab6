#!/bin/bash
# in_systemd.sh - run as a service of a booted bare Debian with the packages installed (boot.sh): node
# and gateway under systemd.  "whole" is the last word of a run in which nothing failed.
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND"; journalctl -u swarm-node -u swarm-gateway --no-pager -n 40; systemctl poweroff' ERR
set -Eeu
wait_until() {
    local tries=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.2
    done
}
answers() { grep -q 'The capital of France is Paris\.' "$1"; }
ask() {
    local body='{"model":"atlas:q80","messages":[{"role":"user","content":"What is the capital of France?"}]}'
    exec 3<>/dev/tcp/127.0.0.1/8080 || return 1
    printf 'POST /v1/chat/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' "${#body}" "$body" >&3
    cat <&3 >/tmp/reply
    answers /tmp/reply
}

install -d -o swarm -g swarm -m 750 /var/lib/swarm
setpriv --reuid=swarm --regid=swarm --init-groups env HOME=/var/lib/swarm swarm-convert \
    /usr/share/glm-swarm/models/atlas --store /var/lib/swarm --name atlas:q80 --type q80 --quiet
printf 'no-lan = yes\nno-portmap = yes\npause-on = never\n' >>/etc/swarm/node.conf
[ "$(systemctl is-enabled swarm-node || true)" = disabled ] # nobody has asked for it
systemctl start swarm-node
wait_until 60 swarm-node status --once # root sees it
swarm-ask 'What is the capital of France?' </dev/null >/tmp/answer
answers /tmp/answer
systemctl start swarm-gateway
wait_until 60 ask
for unit in swarm-node swarm-gateway; do # the walls are up
    status=/proc/$(systemctl show -p MainPID --value $unit)/status
    grep -qE '^Seccomp:\s+2$' "$status"
    grep -qE '^NoNewPrivs:\s+1$' "$status"
    grep -qE '^CapBnd:\s+0+$' "$status"
done
systemctl stop swarm-gateway swarm-node
for unit in swarm-node swarm-gateway; do
    [ "$(systemctl show -p Result --value $unit)" = success ]
    [ "$(systemctl is-active $unit || true)" = inactive ]
done
echo whole
systemctl poweroff
