# bash completion for hearth: the words come from the program's own tables.
_hearth() {
    local word=${COMP_WORDS[COMP_CWORD]} typed=() i candidates
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --json) ;;
        --) return ;;
        -*) break ;;
        *) typed+=("${COMP_WORDS[i]}") ;;
        esac
    done
    # The longest of the typed words that name a command.
    local commands command="" count
    commands=$(hearth --list-commands 2>/dev/null | cut -f 1)
    for ((count = ${#typed[@]}; count > 0; count--)); do
        if grep -qxF -- "${typed[*]:0:count}" <<<"$commands"; then
            command="${typed[*]:0:count}"
            break
        fi
    done
    # The next word of every command that begins with what is typed.
    local next
    next=$(awk -v typed="${typed[*]}" '
        typed == "" || index($0, typed " ") == 1 {
            rest = typed == "" ? $0 : substr($0, length(typed) + 2)
            split(rest, words, " "); print words[1]
        }' <<<"$commands" | sort -u)
    if [[ $word == -* ]]; then
        [[ -n $command ]] || return
        candidates=$(hearth $command --list-options 2>/dev/null | cut -f 1)
    elif [[ -n $command && ($command == run || $command == "workspace create" || $command == "vm create" || $command == env*) ]]; then
        candidates=$(hearth env list 2>/dev/null | awk 'NR > 1 { print $1 }')
    elif [[ -n $command && $command == workspace* && ${#typed[@]} -eq $count ]]; then
        candidates=$(hearth workspace list --limit 1000 2>/dev/null | awk '$1 ~ /^ws_/ { print $1 }')
        candidates+=$'\n'$next
    else
        candidates=$next
    fi
    mapfile -t COMPREPLY < <(compgen -W "$candidates" -- "$word")
    # A colon splits bash's words: what stands before it is typed already.
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$word"
}
complete -o default -F _hearth hearth
