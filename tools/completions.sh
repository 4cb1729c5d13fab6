#!/bin/sh
# completions.sh PROGRAM FOLDER: what bash, zsh and fish complete on its command lines, from the
# table that the program and each of its commands print with --table.
#
# Writes FOLDER/{bash,zsh,fish}/ with the names those shells look for.
set -eu
program=$1
out=$2
name=$(basename "$program")
table=$(mktemp)
trap 'rm -f "$table"' EXIT
mkdir -p "$out/bash" "$out/zsh" "$out/fish"

# Every row with the command that it belongs to in front, "-" for the program itself.
"$program" --table | sed 's/^/-	/' >"$table"
for command in $(awk -F '\t' '$2 == "command" { print $3 }' "$table"); do
    "$program" "$command" --table | sed "s/^/$command	/" >>"$table"
done
for shell in bash zsh fish; do
    case $shell in
    bash) file=$out/bash/$name ;;
    zsh) file=$out/zsh/_$name ;;
    fish) file=$out/fish/$name.fish ;;
    esac
    awk -F '\t' -v name="$name" -v shell="$shell" -f "$(dirname "$0")/completions.awk" "$table" >"$file"
done
