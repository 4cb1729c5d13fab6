# in_chroot.sh - run as root in a bare Debian with the packages and the tarball in /new
# (test_package.sh).
# shellcheck shell=bash
set -Eeuo pipefail
trap 'echo "FAILED: line $LINENO: $BASH_COMMAND" >&2; tail -n 20 /tmp/*.log 2>/dev/null' ERR
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset XDG_RUNTIME_DIR TMPDIR
die() { echo "FAILED: $*" >&2; exit 1; }
paris='The capital of France is Paris\.'

# wait_until SECONDS COMMAND...
wait_until() {
    local tries=$(($1 * 10))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

echo "-- the tarball, where no library is installed"
useradd --create-home person
mkdir /opt/swarm
apt-get update -q >/tmp/apt.log 2>&1
apt-get install -y -q --no-install-recommends xz-utils >>/tmp/apt.log 2>&1
tar -xf /new/*.tar.xz -C /opt/swarm --strip-components=1
su person -c '/opt/swarm/bin/swarm-demo' </dev/null >/tmp/demo.out 2>/tmp/demo.log
grep -q "$paris" /tmp/demo.out
[ ! -e "$(echo /usr/lib/*/libuv.so.1)" ] || die "this system was not bare"
rm -r /opt/swarm

echo "-- the packages"
apt-get install -y -q --no-install-recommends /new/*.deb >/tmp/install.log 2>&1
id swarm >/dev/null
dpkg --verify glm-swarm glm-swarm-demo
su person -c swarm-demo </dev/null >/tmp/demo.out 2>/tmp/demo.log
grep -q "$paris" /tmp/demo.out

echo "-- node and gateway, as their units start them"
# unit NAME: its command line in its user's name and environment; systemd's folders made as it would
unit() {
    local file=/lib/systemd/system/$1.service command environment
    command=$(sed -n 's/^ExecStart=//p' "$file")
    environment=$(sed -n 's/^Environment=//p' "$file")
    [ "$(sed -n 's/^User=//p' "$file")" = swarm ] || die "$file: the user"
    for each in $(sed -n 's/^EnvironmentFile=//p' "$file"); do . "$each"; done
    install -d -o swarm -g swarm -m "$(sed -n 's/^StateDirectoryMode=//p' "$file")" /var/lib/swarm
    install -d -o swarm -g swarm -m "$(sed -n 's/^RuntimeDirectoryMode=//p' "$file")" /run/swarm
    # unquoted as systemd splits them
    eval "exec env -i PATH=$PATH $environment setpriv --reuid=swarm --regid=swarm --init-groups \
        --no-new-privs --bounding-set=-all $command" </dev/null
}
as_swarm() { setpriv --reuid=swarm --regid=swarm --init-groups env HOME=/var/lib/swarm "$@"; }
install -d -o swarm -g swarm -m 0750 /var/lib/swarm
as_swarm swarm-convert /usr/share/glm-swarm/models/atlas --store /var/lib/swarm --name atlas:q80 \
    --type q80 --quiet >/tmp/convert.log 2>&1
sed -i 's/^listen = .*/listen = 127.0.0.1:0/' /etc/swarm/node.conf
printf 'no-lan = yes\nno-portmap = yes\npause-on = never\n' >>/etc/swarm/node.conf
swarm-node check-config /etc/swarm/node.conf >/tmp/used
sed -i 's/127.0.0.1:8080/127.0.0.1:0/' /etc/swarm/gateway.env
unit swarm-node >/tmp/link 2>/tmp/node.log &
node=$!
wait_until 60 test -s /tmp/link
swarm-node status --once >/tmp/status 2>&1 # root finds the service's node
grep -q atlas /tmp/status || die "status says: $(cat /tmp/status)"
swarm-ask 'What is the capital of France?' </dev/null >/tmp/answer 2>/tmp/ask.log
grep -q "$paris" /tmp/answer
unit swarm-gateway >/tmp/gateway.out 2>/tmp/gateway.log &
gateway=$!
wait_until 60 grep -qE ':[0-9]+' /tmp/gateway.out
port=$(grep -oE ':[0-9]+' /tmp/gateway.out | head -n 1)
body='{"model":"atlas:q80","messages":[{"role":"user","content":"What is the capital of France?"}]}'
exec 3<>"/dev/tcp/127.0.0.1/${port#:}"
printf 'POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' "${#body}" "$body" >&3
timeout 60 cat <&3 >/tmp/reply
grep -q "$paris" /tmp/reply || die "the gateway says: $(cat /tmp/reply)"
kill "$gateway" "$node"
wait "$gateway" || die "the gateway ended with $?"
wait "$node" || die "the node ended with $?"
[ "$(stat -c %U:%a /var/lib/swarm/identity.key)" = swarm:600 ] || die "the identity: $(stat -c %U:%a /var/lib/swarm/identity.key)"

echo "-- installed again, removed, purged"
apt-get install -y -q --reinstall -o Dpkg::Options::=--force-confold /new/*.deb >/tmp/install.log 2>&1
grep -q '^no-lan = yes' /etc/swarm/node.conf || die "settings were overwritten"
apt-get remove -y -q glm-swarm glm-swarm-demo >/tmp/install.log 2>&1
for gone in /usr/bin/swarm-node /lib/systemd/system/swarm-node.service /usr/share/glm-swarm /usr/share/doc/glm-swarm; do
    [ ! -e "$gone" ] || die "$gone is left after removal"
done
[ -e /etc/swarm/node.conf ] && [ -e /var/lib/swarm/identity.key ] || die "removal took settings or state"
apt-get purge -y -q glm-swarm glm-swarm-demo >/tmp/install.log 2>&1
for gone in /etc/swarm /var/lib/swarm /run/swarm; do
    [ ! -e "$gone" ] || die "$gone is left after purge: $(ls "$gone")"
done
left=$(find / -xdev \( -name '*glm-swarm*' -o -name 'swarm-*' \) -not -path '/new/*' -not -path '/proc/*' -not -path '/var/cache/*' -not -path '/tmp/*')
[ -z "$left" ] || die "left after purge: $left"
echo "-- nothing is left"
