#!/usr/bin/env bash
# A node whose owner needs his PC: in the middle of an answer it hands its layers over, does nothing
# for others, and comes back.  The PCs are folders of files (docs/neighbour.md).
. "$(dirname "$0")/lib.sh"
unset SWARM_NODE_PAUSE_ON
export SWARM_SENSORS=$tmp/pc # where nothing is known
tokens=120
question="Tell me about Japan."

convert "$src/models/atlas" "$tmp/store" atlas:q80 --type q80
convert "$src/models/atlas" "$tmp/ends" atlas:q80 --type q80 --layers 0-0
declare -A layers=([a]=0-3 [A]=0-3 [b]=4-7 [B]=4-7)

# pc NAME FILE TEXT: the file of this PC says so.
pc() {
    mkdir -p "$(dirname "$tmp/pc.$1/$2")"
    echo "$3" >"$tmp/pc.$1/$2"
}
battery() { # NAME Charging|Discharging
    pc "$1" sys/class/power_supply/BAT0/type Battery
    pc "$1" sys/class/power_supply/BAT0/status "$2"
}
on_pc() { SWARM_SENSORS="$tmp/pc.$1" "${@:2}"; }
log_has() { [ "$(grep -c "$2" "$tmp/$1.log")" -ge "${3:-1}" ]; }
status_of() { "$bin/swarm-node" status "${pid[$1]}" --once; }
status_has() { status_of "$1" | grep -q "$2"; }
id() { sed 's,swarm://\(.*\)@.*,\1,' <<<"${link[$1]}"; }

start one --store "$tmp/store"
"$bin/survive" "${link[one]}" 2 $tokens "$question" >"$tmp/oracle" 2>/dev/null

# The owner pauses it: it works for itself only, and says since when.
"$bin/swarm-node" pause "${pid[one]}" 2>"$tmp/said" || die "no pause: $(cat "$tmp/said")"
grep -Eq "^paused: by hand since [0-9]{2}:[0-9]{2}$" "$tmp/said" || die "pause says $(cat "$tmp/said")"
status_has one "^paused: by hand since" || die "the status: $(status_of one)"
status_of one | head -n 1 | grep -q "  paused, up" || die "the state: $(status_of one)"
"$bin/survive" "${link[one]}" 2 $tokens "$question" >"$tmp/answer" 2>"$tmp/answer.err" ||
    die "its own user is not answered: $(cat "$tmp/answer.err")"
cmp -s "$tmp/answer" "$tmp/oracle" || die "another answer in a pause"
"$bin/swarm-node" resume "${pid[one]}" 2>"$tmp/said"
grep -q "^working for others$" "$tmp/said" || die "resume says $(cat "$tmp/said")"
stop one

for name in a A b B; do
    battery $name Charging
    on_pc $name start_behind $name --store "$tmp/store" --layers "${layers[$name]}" --no-ends \
        ${link[a]:+--join "${link[a]}"} --resume-after 0 --drain-limit 1
    order $name "delay 10"
done
start n0 --store "$tmp/ends" --layers 0-0 --join "${link[a]}" --patience 60
probe nodes 5

begin() {
    : >"$tmp/answer.err"
    "$bin/survive" "${link[n0]}" 2 $tokens "$question" >"$tmp/answer" 2>"$tmp/answer.err" &
    client=$!
    background+=("$client")
    wait_until 20 grep -q "^stage" "$tmp/answer.err" || die "no answer: $(cat "$tmp/answer.err")"
}
finish() {
    wait "$client" || die "$1: $(cat "$tmp/answer.err")"
    cmp -s "$tmp/answer" "$tmp/oracle" || die "$1: another answer: $(cat "$tmp/answer")"
}
stage_to() { # LAYER: who computes up to it
    local name
    for name in a A b B; do
        if grep -q "^stage $(id $name) [0-9] $1$" "$tmp/answer.err"; then echo $name; fi
    done
}

# On battery, in the middle of an answer: handed over, nobody waits, nothing fails.
begin
who=$(stage_to 4)
battery "$who" Discharging
finish "on battery"
grep -q "^note node .* hands layers [01]-3 over to" "$tmp/answer.err" && ! grep -q "left;" "$tmp/answer.err" ||
    die "no handing over: $(cat "$tmp/answer.err")"
status_has "$who" "^paused: on battery since" || die "the status: $(status_of "$who")"
! grep -q "a session ended" "$tmp/$who.log" || die "a session was ended: $(cat "$tmp/$who.log")"
"$bin/swarm-ask" "${link[n0]}" --plan "$question" >"$tmp/plan" 2>&1
grep -Eq "pauses" "$tmp/plan" || die "the plan does not say who pauses: $(cat "$tmp/plan")"

# The other one by hand, so nobody holds its layers: the answer waits, and goes on when the plug is in.
declare -A other=([a]=A [A]=a)
begin
"$bin/swarm-node" pause "${pid[${other[$who]}]}" 2>/dev/null
wait_until 20 grep -q "^note waiting for layers [01]-3" "$tmp/answer.err" ||
    die "it went on for longer than it may: $(cat "$tmp/answer.err")"
log_has "${other[$who]}" "that nobody took over end here" || die "the session's end: $(cat "$tmp/${other[$who]}.log")"
battery "$who" Charging
finish "nobody else"
log_has "$who" "working for others again" || die "$who does not come back: $(cat "$tmp/$who.log")"
"$bin/swarm-node" resume "${pid[${other[$who]}]}" 2>/dev/null

# Hours, by this PC's clock: one that starts outside of them begins paused.
stop B
pc B clock 12:00
on_pc B start_behind B --store "$tmp/store" --layers 4-7 --no-ends --join "${link[a]}" --hours 22:00-07:00
status_has B "^paused: until its hours begin since" || die "the hours: $(status_of B)"
pc B clock 22:30
wait_until 20 log_has B "working for others again" || die "its hours do not begin: $(cat "$tmp/B.log")"
stop b # so B it is
begin
[ "$(stage_to 8)" = B ] || die "the plan: $(cat "$tmp/answer.err")"
finish "in its hours"
stop_all
echo "a good neighbour"
