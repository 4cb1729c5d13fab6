#!/usr/bin/env bash
# What `cmake --install` leaves: programs that work from there, a manual page for each, completions
# that offer their options, settings that are understood and kept, units that name what is installed.
# BUILD SOURCE.
. "$(dirname "$0")/../swarm/lib.sh"

build=$(dirname "$bin")
root=$tmp/root
prefix=$root/opt/swarm
install_it() { DESTDIR=$root cmake --install "$build" --prefix /opt/swarm >"$tmp/install.out" 2>&1 || die "$(cat "$tmp/install.out")"; }
install_it

for program in "$prefix"/bin/*; do
    name=${program##*/}
    "$program" --help >"$tmp/help" || die "$name --help"
    [ "$(wc -l <"$tmp/help")" -gt 2 ] || die "$name --help says nothing"
    page=$prefix/share/man/man1/$name.1
    grep -q '^.SH SYNOPSIS' "$page" || die "$page is no manual page"
    [ "$name" != swarm-demo ] || continue
    [ "$("$program" --version)" = "$("$bin/$name" --version)" ] || die "$name --version"
    for command in $("$program" --table | awk -F '\t' '$1 == "command" { print $2 }'); do
        [ -s "$prefix/share/man/man1/$name-$command.1" ] || die "$name $command has no manual page"
    done
done
[ "$(ls "$prefix/bin" | grep -c '^swarm-')" -ge 8 ] || die "programs are missing: $(ls "$prefix/bin")"

# completed WORDS...: what bash offers for the last of them
completed() {
    bash -c '. "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
        compopt() { :; } # it works in a completion only
        f=$(complete -p "$1" | sed "s/.* -F \([^ ]*\) .*/\1/")
        "$f" "$1" "${@: -1}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf "%s\n" "${COMPREPLY[@]}"' - "$prefix/share/bash-completion/completions/$1" "$@"
}
for program in "$prefix"/bin/*; do
    name=${program##*/}
    [ "$name" != swarm-demo ] || continue
    for option in $("$program" --table | awk -F '\t' '$1 == "option" { print $2 }'); do
        completed "$name" "$option" | grep -x -- "$option" >/dev/null || die "bash does not complete $name $option"
        grep -q -- "^ *'\*$option\[" "$prefix/share/zsh/site-functions/_$name" || die "zsh: $name $option"
        grep -q -- " -l ${option#--} " "$prefix/share/fish/vendor_completions.d/$name.fish" || die "fish: $name $option"
    done
done
[ "$(completed swarm-node sta)" = status ] || die "bash completes 'swarm-node sta' to: $(completed swarm-node sta)"
[ "$(completed swarm-node status --on)" = --once ] || die "bash does not know the options of a command"
mkdir "$tmp/some-folder"
[ "$(cd "$tmp" && completed swarm-node --store some)" = some-folder ] || die "bash completes no folder"
for shell in zsh fish; do # their own opinion, where they are installed
    command -v $shell >/dev/null || continue
    for file in "$prefix"/share/zsh/site-functions/* "$prefix"/share/fish/vendor_completions.d/*; do
        [[ $file != *$shell* ]] || $shell -n "$file" || die "$shell does not read $file"
    done
done

# Settings and units.
"$prefix/bin/swarm-node" check-config "$prefix/etc/swarm/node.conf" >"$tmp/used" || die "the installed settings"
grep -q '^store = /var/lib/swarm ' "$tmp/used" || die "$(cat "$tmp/used")"
echo '# mine' >>"$prefix/etc/swarm/node.conf"
install_it
[ "$(tail -n 1 "$prefix/etc/swarm/node.conf")" = '# mine' ] || die "settings were overwritten"
units=$prefix/lib/systemd/system
grep -q '^ExecStart=/[^ ]*/bin/swarm-node --config /[^ ]*/swarm/node.conf$' "$units/swarm-node.service" || die "the node's unit"
grep -q '^ExecStart=/[^ ]*/bin/swarm-gateway ' "$units/swarm-gateway.service" || die "the gateway's unit"
for unit in "$units"/*.service; do
    [ -z "$(sed -n '/^SystemCallFilter=/!{/@/p}' "$unit")" ] || die "$unit has holes"
done

# The demo, from there and with nothing else.
mv "$prefix" "$tmp/moved"
(cd / && unset SWARM_DEMO_BIN SWARM_DEMO_MODEL &&
    timeout 100 "$tmp/moved/bin/swarm-demo" </dev/null >"$tmp/demo.out" 2>"$tmp/demo.log") || die "$(cat "$tmp/demo.log")"
grep -q 'The capital of France is Paris\.' "$tmp/demo.out" || die "the demo: $(cat "$tmp/demo.out")"
"$tmp/moved/bin/swarm-demo" --kep x 2>"$tmp/err" && die "swarm-demo takes any option"
grep -q 'unknown option --kep' "$tmp/err" || die "$(cat "$tmp/err")"
echo "what is installed works"
