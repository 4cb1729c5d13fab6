# completions.awk -v name=PROGRAM -v shell=bash|zsh|fish: the table of tools/completions.sh, rows of
# COMMAND, "command" or "option", word, placeholder, help, as a completion of that shell.

# What a value is, by its placeholder: a file, a folder, or something that only the user knows.
function kind(what) {
    if (what ~ /^(FILE|SRC|MODEL-DIR)/) return "file"
    if (what ~ /^(DIR|STORE)/) return "folder"
    return what == "" ? "" : "other"
}

function quoted(text) {
    gsub(/'/, "'\\''", text)
    return "'" text "'"
}

# Inside _arguments, brackets end the help and colons the value's name.
function zsh_text(text) {
    gsub(/\\/, "\\\\", text)
    gsub(/\[/, "\\[", text)
    gsub(/\]/, "\\]", text)
    gsub(/:/, "\\:", text)
    return text
}

{
    if (!($1 in words)) order[++n] = $1
    words[$1] = words[$1] " " $3
    count[$1]++
    type[$1, count[$1]] = $2
    word[$1, count[$1]] = $3
    value[$1, count[$1]] = $4
    help[$1, count[$1]] = $5
}

function bash_values(of, which,    i, list) {
    for (i = 1; i <= count[of]; i++)
        if (kind(value[of, i]) == which) list = list (list ? " " : "") word[of, i]
    return list
}

function bash(    c, list, function_name) {
    function_name = "_" name
    gsub(/-/, "_", function_name)
    print function_name "()\n{"
    print "    local cur=$2 prev=$3 words= folders= others="
    print "    COMPREPLY=()"
    print "    case ${COMP_WORDS[1]} in"
    for (c = n; c >= 1; c--) { # the program itself, "-", came first and is whatever is left
        print "    " (order[c] == "-" ? "*" : order[c]) ")"
        print "        words=" quoted(substr(words[order[c]], 2))
        print "        folders=" quoted(" " bash_values(order[c], "folder") " ")
        print "        others=" quoted(" " bash_values(order[c], "other") " ")
        print "        ;;"
    }
    print "    esac"
    print "    if [[ $prev == --* && $folders == *\" $prev \"* ]]; then"
    print "        mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")"
    print "    elif [[ $prev == --* && $others == *\" $prev \"* ]]; then"
    print "        compopt +o default # nothing to offer: only its user knows the value"
    print "    elif [[ $cur == -* || $COMP_CWORD -eq 1 ]]; then"
    print "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")"
    print "    fi"
    print "}"
    print "complete -o default -F " function_name " " name
}

function zsh_options(of, indent,    i, spec, k) {
    for (i = 1; i <= count[of]; i++) {
        if (type[of, i] != "option") continue
        k = kind(value[of, i])
        spec = word[of, i] "[" zsh_text(help[of, i]) "]"
        if (k != "") spec = spec ":" zsh_text(value[of, i]) ":"
        if (k == "file") spec = spec "_files"
        if (k == "folder") spec = spec "_files -/"
        print indent quoted("*" spec) " \\"
    }
}

function zsh(    c, i) {
    print "local -a commands"
    print "case ${words[2]} in"
    for (c = 2; c <= n; c++) {
        print order[c] ")\n    _arguments \\"
        zsh_options(order[c], "        ")
        print "        '*:file:_files'\n    ;;"
    }
    print "*)"
    if (n > 1) {
        print "    commands=("
        for (i = 1; i <= count["-"]; i++)
            if (type["-", i] == "command")
                print "        " quoted(word["-", i] ":" zsh_text(help["-", i]))
        print "    )"
        print "    [[ $CURRENT -eq 2 ]] && _describe command commands"
    }
    print "    _arguments \\"
    zsh_options("-", "        ")
    print "        '*:file:_files'\n    ;;\nesac"
}

function fish(    c, i, of, when, k, all) {
    for (c = 2; c <= n; c++) all = all " " order[c]
    for (c = 1; c <= n; c++) {
        of = order[c]
        when = of != "-" ? "__fish_seen_subcommand_from " of : all != "" ? "not __fish_seen_subcommand_from" all : ""
        for (i = 1; i <= count[of]; i++) {
            k = kind(value[of, i])
            printf "complete -c %s", name
            if (when != "") printf " -n %s", quoted(when)
            if (type[of, i] == "command") printf " -f -a %s", word[of, i]
            else printf " -l %s", substr(word[of, i], 3)
            if (k == "file") printf " -r -F"
            if (k == "folder") printf " -x -a '(__fish_complete_directories)'"
            if (k == "other") printf " -x"
            text = help[of, i]
            gsub(/\\/, "\\\\", text)
            gsub(/'/, "\\'", text)
            printf " -d '%s'\n", text
        }
    }
}

END {
    if (shell == "zsh") print "#compdef " name
    print "# Made from what " name " --table prints."
    if (shell == "bash") bash()
    if (shell == "zsh") zsh()
    if (shell == "fish") fish()
}
