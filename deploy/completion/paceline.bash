# Completion for bash: source this file from ~/.bashrc, or put it, named "paceline", into
# /usr/share/bash-completion/completions. Verbs, options and choices are read from the programs' own
# --help, so they are those of the installed version.

_paceline_help() { # of a program, or of a verb of it
    "$@" --help 2>/dev/null
}

# Long options, each once.
_paceline_options() {
    _paceline_help "$@" | sed -n 's/^ *\(-[a-zA-Z], \)\{0,1\}\(--[a-z0-9-]*\).*/\2/p'
}

# What an option may be, where its help says a|b|c.
_paceline_choices() {
    local option=$1
    shift
    _paceline_help "$@" | sed -n "s/^.*$option \([a-z0-9_.-]*|[a-z0-9_.|-]*\).*/\1/p" | head -n 1 | tr '|' '\n'
}

# Both shells split what $(…) gives at line ends here.
_paceline_complete() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb='' words='' IFS=$'\n'
    COMPREPLY=()
    if [[ ${COMP_WORDS[0]##*/} == paceline ]]; then
        if [ "$COMP_CWORD" = 1 ]; then
            words=$(_paceline_help "${COMP_WORDS[0]}" | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p')
            COMPREPLY=($(compgen -W "$words"$'\n--help\n--version' -- "$word"))
            return
        fi
        verb=${COMP_WORDS[1]}
    fi
    if [[ $before == --?* ]]; then
        words=$(_paceline_choices "$before" "${COMP_WORDS[0]}" $verb)
        if [ -n "$words" ]; then
            COMPREPLY=($(compgen -W "$words" -- "$word"))
            return
        fi
    fi
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$(_paceline_options "${COMP_WORDS[0]}" $verb)" -- "$word"))
        return
    fi
    case "$verb" in
    up | fetch | bench | plan | logits | perplexity)
        words=$("${COMP_WORDS[0]}" fetch --list 2>/dev/null | sed -n 's/^\([a-z0-9][a-z0-9.-]*\).*/\1/p') ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"; compgen -f -- "$word"))
}

complete -o filenames -F _paceline_complete paceline paceline-coordinator paceline-worker
