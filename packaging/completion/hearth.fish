# fish completion for hearth: the words come from the program's own tables.
function __hearth_typed
    set -l typed
    for word in (commandline -opc)[2..-1]
        string match -q -- '--json' $word; and continue
        string match -q -- '-*' $word; and break
        set -a typed $word
    end
    string join ' ' -- $typed
end

function __hearth_command
    set -l typed (__hearth_typed)
    set -l best
    for line in (hearth --list-commands 2>/dev/null)
        set -l name (string split -f 1 \t -- $line)
        if string match -q -- "$name *" "$typed "
            test (string length -- "$name") -gt (string length -- "$best"); and set best $name
        end
    end
    echo $best
end

function __hearth_next
    set -l typed (__hearth_typed)
    set -l command (__hearth_command)
    if contains -- "$command" run 'workspace create' 'vm create'; or string match -q 'env*' -- $command
        hearth env list 2>/dev/null | tail -n +2 | string match -r '^\S+'
        return
    end
    if string match -q 'workspace*' -- $command; and test "$typed" = "$command"
        hearth workspace list --limit 1000 2>/dev/null | string match -r '^ws_\S+\s+\S+' | string replace -r '\s+' \t
    end
    for line in (hearth --list-commands 2>/dev/null)
        set -l parts (string split \t -- $line)
        set -l rest $parts[1]
        if test -n "$typed"
            string match -q -- "$typed *" $rest; or continue
            set rest (string sub -s (math (string length -- "$typed") + 2) -- $rest)
        end
        echo (string split -f 1 ' ' -- $rest)\t$parts[2]
    end | sort -u
end

function __hearth_options
    set -l command (string split ' ' -- (__hearth_command))
    test -n "$command"; and hearth $command --list-options 2>/dev/null
end

complete -c hearth -f -n 'not string match -q -- "-*" (commandline -ct)' -a '(__hearth_next)'
complete -c hearth -f -n 'string match -q -- "-*" (commandline -ct)' -a '(__hearth_options)'
